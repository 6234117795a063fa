/**
 * How long does one turn of our own code hold the loop with a million entries? The longest call of: the giver of a snapshot, the newcomer, a
 * change of policy, a neighbour's death, a mark, an origin that is forgotten, a transfer that lists nothing any more, a new generation, and of a
 * watch meanwhile. Collections of garbage within a call are taken off and told apart.
 * About two minutes. `npm run bench -- standstills [--entries 1000000] [--namespaces 1000] [--watches 1000]`
 */

import { PerformanceObserver, performance } from "node:perf_hooks";
import { setTimeout as after, setImmediate as turn } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { EntryKeySchema, EntrySchema } from "../gen/waymark/catalog/v1/entry_pb.js";
import { EntryStamper, finishEntry } from "../src/catalog/entry/codec.ts";
import type { Relation } from "../src/catalog/entry/scope.ts";
import { ANY } from "../src/catalog/query/filter.ts";
import { Lookup } from "../src/catalog/query/lookup.ts";
import { Slab } from "../src/catalog/record/slab.ts";
import { TraitsPool } from "../src/catalog/record/traits.ts";
import { buildFrame, FrameReceiver } from "../src/catalog/replica/frames.ts";
import { applyMarks } from "../src/catalog/replica/lost-marks.ts";
import { startNewGeneration } from "../src/catalog/replica/new-generation.ts";
import { Replica } from "../src/catalog/replica/replica.ts";
import { Feed } from "../src/catalog/watch/feed.ts";
import { DnsNames } from "../src/discovery/dns-names.ts";
import { Fanout } from "../src/discovery/fanout.ts";
import { isAdmitted, PolicySwitch } from "../src/discovery/policy-switch.ts";
import { Reads } from "../src/discovery/reads.ts";
import { FunctionIds } from "../src/discovery/registrar/function-ids.ts";
import { OriginLifecycle } from "../src/fabric/origin-lifecycle.ts";
import type { MemberUpdate } from "../src/fabric/wire/messages.ts";
import type { Time } from "../src/lib/machine.ts";
import { anonymousCaller } from "../src/policy/identity/caller.ts";
import { NO_POLICY, Policy } from "../src/policy/set/verdict.ts";
import { BOUNDS, lifecycleParts, ORIGIN_LIFECYCLE_OPTIONS } from "../test/fakes/options.ts";
import { argsOf, asksForAll } from "./_args.ts";
import { report, round } from "./_results.ts";

const DEFAULTS = { entries: 1_000_000, namespaces: 1000, watches: 1000 };
const values = argsOf(DEFAULTS);
const ENTRIES = values.entries;
const NAMESPACES = values.namespaces;
const WATCHES = values.watches;
/** To its own cluster's records the rules of owners do not apply. */
const ELSEWHERE = "c2";
const FRAME_BYTES = 32 * 1024;
const MESSAGE_BYTES = 16 * 1024 - 512;
/** As `PolicySwitcher` gives it. */
const STEP_COUNT = 128;
/** Calls between two turns of the loop. */
const BATCH = 100;
/** Calls above this are looked at. */
const LONG_MS = 2;
/** Until then every collection is told of. */
const HEARD_MS = 200;
const GOAL_MS = 20;
const TOMBSTONES = { tombstoneTtlMs: 3_600_000, minTombstones: 1000 };
const GC_KINDS: Readonly<Record<number, string>> = { 1: "scavenge", 4: "mark-compact", 8: "incremental", 16: "weak callbacks" };

// What V8 marks in steps within our calls it tells nobody: up to 50 ms each. In one go it is a pause that can be told apart.
setFlagsFromString("--no-incremental-marking");

interface Pause {
  readonly startMs: number;
  readonly endMs: number;
  readonly kind: string;
}

const pauses: Pause[] = [];
const observer = new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) {
    const detail: unknown = "detail" in entry ? entry.detail : undefined;
    const kind = typeof detail === "object" && detail !== null && "kind" in detail ? Number(detail.kind) : 0;
    pauses.push({ startMs: entry.startTime, endMs: entry.startTime + entry.duration, kind: GC_KINDS[kind] ?? String(kind) });
  }
});
observer.observe({ entryTypes: ["gc"] });

/** What a call took of this thread, in milliseconds of CPU: others on the machine do not count. */
interface Call {
  readonly startMs: number;
  readonly endMs: number;
  readonly cpuMs: number;
}

function called(step: () => boolean): Call & { readonly isDone: boolean } {
  const startMs = performance.now();
  const before = process.threadCpuUsage();
  const isDone = step();
  const { user, system } = process.threadCpuUsage(before);
  return { startMs, endMs: performance.now(), cpuMs: (user + system) / 1000, isDone };
}

/** Calls `step` until it says that all is done; the longest call, without and with what was collected in it. `prepare` is not measured. */
async function longest(name: string, step: () => boolean, prepare: () => void = () => undefined) {
  const startMs = performance.now();
  const long: Call[] = [];
  let [calls, isDone] = [0, false];
  while (!isDone) {
    for (let i = 0; i < BATCH && !isDone; i++) {
      prepare();
      const call = called(step);
      calls += 1;
      if (call.cpuMs > LONG_MS || long.length === 0) long.push(call);
      isDone = call.isDone;
    }
    await turn();
  }
  // What was collected is heard of later.
  await after(HEARD_MS);
  const gcMs = (call: Call) => {
    const within = pauses.filter((pause) => pause.startMs < call.endMs && pause.endMs > call.startMs);
    return within.reduce((sum, pause) => sum + pause.endMs - pause.startMs, 0);
  };
  const whole = Math.max(...long.map(({ cpuMs }) => cpuMs));
  const own = Math.max(...long.map((call) => call.cpuMs - gcMs(call)));
  const row = { turn: name, calls, "longest ms": round(own), "longest with gc ms": round(whole), "gc pauses": pausesSince(startMs) };
  console.error(JSON.stringify(row));
  return row;
}

/** The longest of each kind of pause. */
function pausesSince(startMs: number): string {
  const kinds = Map.groupBy(
    pauses.filter((pause) => pause.startMs >= startMs),
    ({ kind }) => kind,
  );
  const text = [...kinds].map(([kind, list]) => `${kind} ${round(Math.max(...list.map((pause) => pause.endMs - pause.startMs)))} ms`);
  return text.length === 0 ? "none" : text.join(", ");
}

function now(): Time {
  return { monoMs: performance.now(), wallMs: Date.now() };
}

function replicaOf(nodeId: string): Replica {
  const place = { clusterId: "c1", region: "r1" };
  return new Replica(new Lookup(), new Slab(), { nodeId, generation: 1, lastSeq: 0, floor: 0, place, ...TOMBSTONES });
}

const stamper = new EntryStamper({ bounds: BOUNDS, traits: new TraitsPool(1024) });

/** One in five is a function with an id, and one has an alias. */
function indexed(i: number): MessageInitShape<typeof EntrySchema> {
  if (i % 5 === 0) return { detail: { case: "function", value: { functionId: `f${i}` } } };
  return i % 5 === 1 ? { aliases: [`n${i}.example`] } : {};
}

/** What a node brings up to date after each change. */
class Indexes {
  readonly #replica: Replica;
  readonly #names: DnsNames;
  readonly #ids: FunctionIds;
  readonly #fanout = new Fanout();

  constructor(replica: Replica) {
    this.#replica = replica;
    this.#names = new DnsNames(replica, []);
    this.#ids = new FunctionIds(replica);
    this.refresh();
  }

  refresh(): void {
    this.#names.refresh();
    this.#ids.refresh();
    this.#fanout.changed(this.#replica.takeTouched());
  }
}

async function fill(replica: Replica): Promise<void> {
  const stamp = { nodeId: replica.self.nodeId, clusterId: "c1", region: "r1", zone: "z1", tenantId: "", receivedWallMs: 1 };
  for (let i = 0; i < ENTRIES; i++) {
    const key = create(EntryKeySchema, { namespace: `org${i % NAMESPACES}.app`, name: `n${i % 7919}`, instanceId: `i${i}` });
    const { content, ...stamped } = stamper.entryOf(create(EntrySchema, { key, tags: [`t${i % 5}`], ...indexed(i) }), 0, stamp);
    const bytes = finishEntry(content, { registeredWallMs: 1, updatedWallMs: 1, load: undefined });
    const hlc = (1_700_000_000_000 + i) * 2048;
    replica.stagePut({ ...stamped, hlc, bytes, principal: "", contentBytes: content.length, isFilterChange: true });
    if (i % 1000 === 999) {
      replica.commit(replica.lastSeq, now());
      replica.takeTouched();
      await turn();
    }
  }
  replica.commit(replica.lastSeq, now());
}

interface Newcomer {
  readonly replica: Replica;
  readonly receiver: FrameReceiver;
}

/** A whole transfer; `newcomer` takes what is given. */
async function give(giver: Replica, relation: Relation, clusterId: string, newcomer?: Newcomer) {
  let from = { after: 0, isComplete: true };
  let frame = buildFrame(giver, giver.self, from, { relation, clusterId }, FRAME_BYTES);
  const build = () => {
    frame = buildFrame(giver, giver.self, from, { relation, clusterId }, FRAME_BYTES);
    from = { after: frame.through, isComplete: true };
    return frame.isLast;
  };
  const giving = await longest(`giver: a frame for a peer of ${relation === "cluster" ? "its cluster" : "another cluster"}`, build);
  if (newcomer === undefined) return [giving];
  from = { after: 0, isComplete: true };
  const { receiver, replica } = newcomer;
  const indexes = new Indexes(replica);
  const take = () => {
    receiver.apply(frame, now(), { place: { clusterId: "c1", region: "r1" } });
    indexes.refresh();
    return frame.isLast;
  };
  const taking = await longest("newcomer: a frame of a whole transfer, from the first to the last", take, build);
  return [giving, taking];
}

function newcomerOf(): Newcomer {
  const replica = replicaOf("b");
  return { replica, receiver: new FrameReceiver(replica, stamper, BOUNDS) };
}

/** As a node opens them; all of one prefix, for some of which a policy changes much. */
function watchesOf(reads: Reads, fanout: Fanout): void {
  for (let i = 0; i < WATCHES; i++) {
    const request = { filter: { ...ANY, prefix: i === 0 ? "" : `org${i % NAMESPACES}` }, isNamesOnly: false, withDigest: false };
    const reader = reads.reader(anonymousCaller("c1", "127.0.0.1", []), request);
    const feed = new Feed(reader, { from: undefined, bookmarkIntervalMs: 1e9 }, now());
    fanout.add({ feed, isReady: false, wake: () => undefined, stop: () => undefined });
  }
}

async function policySwitch(replica: Replica) {
  const policies: { policy: Policy } = { policy: NO_POLICY };
  replica.setAdmission((stored) => isAdmitted(policies.policy, stored, ELSEWHERE));
  const facts = { nodeId: "b", clusterId: "c1", region: "r1", boot: "b" };
  const reads = new Reads(replica, facts, { policies, onDenied: () => undefined });
  const request = { filter: { ...ANY, namespace: "org0.app" }, isNamesOnly: false, withDigest: false };
  const reader = reads.reader(anonymousCaller("c1", "127.0.0.1", []), request);
  const feed = new Feed(reader, { from: undefined, bookmarkIntervalMs: 1e9 }, now());
  const pull = () => feed.next(now(), MESSAGE_BYTES, true) === undefined && !feed.isUnfinished;
  while (!pull());
  const quota = { entries: 0, watches: 0, bytes: 0 };
  const lists = { visibility: [], visibilityTenants: [], exportScopes: [], cutoverWindows: [] };
  // Owners decide on half of the records.
  const rules = Array.from({ length: NAMESPACES / 2 }, (_, i) => ({
    ...lists,
    pattern: `org${2 * i + 1}.app`,
    owners: ["elsewhere"],
    allowSummaries: false,
    policyVersion: "",
    priority: 0,
    quota,
  }));
  policies.policy = new Policy({ version: "v1", defaultAllow: true, rules }, 1);
  const change = { before: NO_POLICY, after: policies.policy };
  const fanout = new Fanout();
  watchesOf(reads, fanout);
  const parts = { replica, reads, fanout, clusterId: ELSEWHERE };
  let running: PolicySwitch | undefined;
  const switching = await longest("policy switch: its beginning, and a step", () => {
    if (running !== undefined) return running.step(STEP_COUNT);
    running = new PolicySwitch(parts, change);
    return false;
  });
  const watching = await longest("a watch that a policy switch does not concern", pull);
  return [switching, watching];
}

const FACTS = { address: "", region: "r1", zone: "", version: "", protocolVersions: [1], transports: [], roles: [], labels: {} };
const MEMBER = { ...FACTS, nodeId: "a", generation: 1, clusterId: "c1", healthScore: 0, incarnation: 1, accuser: "" };

/** Ticks of what the death, a mark and the end of a neighbour make. */
async function lifecycle(replica: Replica) {
  const indexes = new Indexes(replica);
  let member: MemberUpdate = { ...MEMBER, status: "alive" };
  let time = now();
  const origins = new OriginLifecycle(
    ORIGIN_LIFECYCLE_OPTIONS,
    lifecycleParts(replica, () => member),
  );
  origins.look(time, []);
  const tick = () => {
    origins.look(time, []);
    indexes.refresh();
    return origins.nextDeadlineMs() !== 0;
  };
  const { orphanGraceMs, originForgetMs } = ORIGIN_LIFECYCLE_OPTIONS;
  member = { ...member, status: "dead" };
  origins.memberChanged(member);
  const death = await longest("a neighbour's death: a tick", tick);
  const half = Math.floor(ENTRIES / 2);
  replica.lost.note({ nodeId: "a", generation: 1, through: ENTRIES, mark: half });
  let isMarked = false;
  const marked = await longest("a mark on half of it: told, and a tick", () => {
    if (isMarked) return tick();
    applyMarks(replica);
    indexes.refresh();
    isMarked = true;
    return false;
  });
  time = { ...time, monoMs: time.monoMs + orphanGraceMs };
  const hidden = await longest("a neighbour's entries are hidden: a tick", tick);
  time = { ...time, monoMs: time.monoMs + originForgetMs };
  const forgotten = await longest("a neighbour is forgotten: a tick", tick);
  return [death, marked, hidden, forgotten];
}

/** A whole transfer that lists nothing of what is held. */
async function withdrawal({ replica, receiver }: Newcomer) {
  const through = ENTRIES + 1;
  const head = { nodeId: "a", generation: 1, after: 0, through, floor: through, records: [], isComplete: true, isLast: true };
  receiver.repair("a/1", ENTRIES);
  const indexes = new Indexes(replica);
  let isTaken = false;
  return longest("newcomer: the last frame of a transfer that lists nothing any more, and what follows", () => {
    if (!isTaken) receiver.apply(head, now(), { place: { clusterId: "c1", region: "r1" } });
    else replica.sweep(ORIGIN_LIFECYCLE_OPTIONS.maxTouches, now());
    isTaken = true;
    indexes.refresh();
    return replica.origins.get("a/1")?.through === through && !replica.sweeps.isOwed;
  });
}

function renewal(replica: Replica) {
  const indexes = new Indexes(replica);
  let isRenewed = false;
  return longest("a new generation of what this node has itself, and what follows", () => {
    if (!isRenewed) startNewGeneration(replica, 2);
    else replica.sweep(ORIGIN_LIFECYCLE_OPTIONS.maxTouches, now());
    isRenewed = true;
    indexes.refresh();
    return !replica.sweeps.isOwed;
  });
}

const giver = replicaOf("a");
await fill(giver);
const newcomer = newcomerOf();
const rows = [
  ...(await give(giver, "region", "c2")),
  ...(await give(giver, "cluster", "c1", newcomer)),
  ...(await policySwitch(newcomer.replica)),
  ...(await lifecycle(newcomer.replica)),
];
const other = newcomerOf();
await give(giver, "cluster", "c1", other);
rows.push(await withdrawal(other), await renewal(giver));
report({
  name: "standstills",
  isKept: asksForAll(values, DEFAULTS),
  tables: { [`turns with ${ENTRIES} entries`]: rows },
  goals: rows.map((row) => ({ name: row.turn, value: row["longest ms"], unit: "ms", atMost: GOAL_MS })),
  notes: [
    "One process, the rooms' own code without sockets: the CPU time of the main thread that one call of it takes. Pauses of the collector that lie within a call are taken off; they stand in a column of their own. It marks in one go here: in a node it does so in steps within our calls.",
  ],
});
