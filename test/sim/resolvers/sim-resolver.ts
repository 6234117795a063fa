/**
 * One simulated resolver: a host on which processes run one after the other. A process has the rooms and the machine of the product, `ResolverRooms`, on
 * clocks and a network of the simulator.
 */

import { fromBinary } from "@bufbuild/protobuf";
import { EntrySchema } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import type { EntryIndex } from "../../../src/catalog/query/entry-index.ts";
import type { InstanceName } from "../../../src/catalog/query/instances.ts";
import { NamespacePrefixes } from "../../../src/catalog/query/prefixes.ts";
import { type CatalogRecord, type KeyText, KIND, keyText } from "../../../src/catalog/record/record.ts";
import { CAUSE } from "../../../src/catalog/watch/change-cause.ts";
import type { PortableCursor } from "../../../src/catalog/watch/cursor.ts";
import { SNAPSHOT } from "../../../src/catalog/watch/reader.ts";
import { healthRank } from "../../../src/discovery/candidates.ts";
import { WaymarkError } from "../../../src/lib/errors.ts";
import type { Time } from "../../../src/lib/machine.ts";
import { Metrics } from "../../../src/lib/metrics/metrics.ts";
import type { Rng } from "../../../src/lib/rng.ts";
import { openResolverRooms, type ResolverRooms } from "../../../src/node/resolver/resolver-rooms.ts";
import type { Caller } from "../../../src/policy/identity/caller.ts";
import { readFetchedPage, readPolicyMessage, readWatchMessage, type WatchDelta } from "../../../src/resolver/codec.ts";
import type { RestoredCopy } from "../../../src/resolver/disk/restore.ts";
import type { AnswerQuality, ResolverInput, ResolverOptions, ResolverOrder } from "../../../src/resolver/io-types.ts";
import type { CacheOperation } from "../../../src/resolver/maintenance/cache-operations.ts";
import type { UpstreamFacts } from "../../../src/resolver/upstreams.ts";
import type { AnswerAge } from "../../../src/services/discovery/answer-age.ts";
import { NameCalls, type NamesOutcome } from "../../../src/services/resolving/name-calls.ts";
import { ageOf } from "../../../src/services/resolving/ports.ts";
import { checkVia } from "../../../src/services/resolving/reads.ts";
import { coreProcess } from "../../fakes/core-process.ts";
import { lineOf } from "../../fakes/model.ts";
import { WALL_START_MS } from "../sim-node.ts";
import type { Trace } from "../trace.ts";
import { SLICED_NAMES } from "../waking.ts";
import type { World } from "../world.ts";
import type { History, Shown, ShownEntry } from "./history.ts";
import { withoutDelta } from "./losses.ts";
import { type CopyUse, CopyWriter, type FoundCopy, ResolverDisk } from "./resolver-disk.ts";
import type { Sent, Server, Serving } from "./server.ts";
import { type Trip, Trips } from "./trips.ts";
import type { Host, Line, Wires } from "./wires.ts";

/** Is told of what a process does. */
export interface Seen {
  /** It took in a message of its upstream about what is below these prefixes. */
  heard(process: ResolverProcess, sent: Sent, prefixes: NamespacePrefixes): void;
  /** It goes on with an upstream that just said that its data comes through this very resolver. */
  looped(process: ResolverProcess, upstream: string): void;
  /** It says that an upstream sent what no server of ours can have sent. */
  garbled(process: ResolverProcess, fault: string): void;
  /** It took an input, after which it may judge by another policy. */
  judges(process: ResolverProcess): void;
  /** A digest that differs made it fetch something whole again. */
  repairs(process: ResolverProcess): void;
  /** It began with what its disk had, or not. */
  restored(process: ResolverProcess, found: FoundCopy<Known>, restored: RestoredCopy): void;
}

/** When a message came, in true time. */
export interface Heard {
  readonly heardMs: number;
}

/** The last that an upstream stated of the age of its data. */
export interface Stated {
  /** Up to when nothing is missing, by its word, in true time. */
  readonly throughMs: number;
}

/** What the world knows of a process, and a later one that begins with its copy knows as well. */
export interface Known {
  readonly heard: ResolverProcess["heard"];
  readonly judgedNumber: number;
  readonly shown: Shown | undefined;
  readonly told: readonly (readonly string[])[];
  readonly stated: Stated | undefined;
  readonly unregistered: ReadonlySet<KeyText>;
}

export interface ResolverPlan {
  readonly name: string;
  /** Names of nodes and resolvers, in the order of preference. */
  readonly upstreams: readonly string[];
  readonly namespaces: readonly string[];
  readonly guardHoldMs: number;
  readonly maxWatches: number;
  /** The time in which the digest of each followed prefix is compared once. */
  readonly resyncMs: number;
  /** Time between two looks whether a copy is to be written, about. */
  readonly copyMs: number;
}

export interface SimResolverParts {
  readonly world: World;
  readonly wires: Wires;
  readonly trace: Trace;
  readonly rng: Rng;
  readonly history: History;
  readonly seen: Seen;
  readonly server: (name: string) => Server;
}

interface OpenWatch {
  readonly stream: number;
  readonly upstream: string;
  readonly prefixes: readonly string[];
}

export const TTLS = { zoneMs: 8000, regionMs: 12_000, globalMs: 16_000, negativeMs: 10_000 } as const;
const SAMPLING = { form: "spread", at: 0, rank: healthRank, ideal: 0, fit: 0, wanted: 1 } as const;
/** The most time between two slices of a change of policy. */
const SLICE_APART_MS = 100;

/** What a caller was answered. */
export interface Told extends AnswerQuality {
  readonly records: readonly CatalogRecord[];
}

export class SimResolver implements Host {
  readonly plan: ResolverPlan;
  readonly parts: SimResolverParts;
  readonly isFrozen = false;
  isSilent = false;
  skewMs = 0;
  /** Changes that its upstreams are still to tell, and that get lost. */
  lossCount = 0;
  /** When its connection to its upstream breaks. */
  readonly trips = new Trips();
  life = 0;
  readonly disk = new ResolverDisk<Known>();
  process: ResolverProcess | undefined;

  constructor(plan: ResolverPlan, parts: SimResolverParts) {
    this.plan = plan;
    this.parts = parts;
  }

  get name(): string {
    return this.plan.name;
  }

  get isUp(): boolean {
    return this.process !== undefined;
  }

  /** `other`: a resolver whose copy it may find. */
  start(use: CopyUse = "newest", other?: SimResolver): void {
    if (this.process !== undefined) return;
    this.life += 1;
    this.isSilent = false;
    this.parts.trace.say(() => `${this.name} starts, copy: ${use}`);
    const found = this.disk.find(use, this.parts.rng.fork(`copy ${this.life}`), other === this ? undefined : other?.disk.newest);
    this.process = new ResolverProcess(this);
    if (found !== undefined) this.process.restore(found);
    this.process.begin();
  }

  /** `isClean`: it writes what it holds to its disk before. */
  crash(isSilent: boolean, isClean = false): void {
    this.parts.trace.say(() => `${this.name} ${isClean ? "stops" : "crashes"}`);
    this.isSilent = isSilent;
    this.process?.stop(isClean);
    this.process = undefined;
  }

  serving(): Serving {
    if (this.process === undefined) throw new WaymarkError("not_ready", "it is down");
    return this.process.serving();
  }

  /** What it says of itself to who would follow it. Cut off, it says that it serves nobody: others may reach a node. */
  facts(): UpstreamFacts {
    const { upstreams, via } = this.process?.rooms.machine ?? {};
    if (via === undefined || upstreams === undefined || upstreams.isCutOff) throw new WaymarkError("not_ready", "it is cut off");
    return { clusterId: "c1", region: "r1", via };
  }
}

export class ResolverProcess {
  readonly host: SimResolver;
  readonly rooms: ResolverRooms;
  readonly bootMs: number;
  isStopped = false;
  /** The newest version of the policy under which anything was made that this process heard. */
  heard: { readonly number: number; readonly epoch: string } | undefined;
  /** What its upstream showed at the bookmark that this process is at, as far as it knows. */
  shown: Shown | undefined;
  /** Prefixes whose snapshot was told to this process, whole. */
  told: (readonly string[])[] = [];
  /** What its upstream last stated of the age of all that is followed. */
  stated: Stated | undefined;
  /** When a watch last told it of an entry, by name. */
  readonly putMs = new Map<string, number>();
  /** Keys of which it was told that somebody unregistered them, and nothing since. */
  unregistered = new Set<KeyText>();
  /** The number of the last policy by which it judged. */
  judgedNumber = 0;
  /** Whether what it holds comes from a copy on disk, and no upstream has sent a bookmark. Undefined: one has, and what was told before may be in doubt. */
  isFromDisk: boolean | undefined = false;
  /** When it last was at a bookmark of its upstream and held something else, and whether it did at the last one. */
  differedMs = Number.NEGATIVE_INFINITY;
  differs = false;
  lastHeardMs = Number.NEGATIVE_INFINITY;
  /** The last answer to a fetch, by name. */
  readonly fetched = new Map<string, Heard>();
  fetchCount = 0;
  readonly #lines = new Map<string, Line>();
  readonly #writer: CopyWriter<Known>;
  readonly #lossRng: Rng;
  #repairCount = 0;
  #timerMs = Number.POSITIVE_INFINITY;

  constructor(host: SimResolver) {
    this.host = host;
    const { world, rng } = host.parts;
    const { name, upstreams, namespaces, guardHoldMs, maxWatches, resyncMs, copyMs } = host.plan;
    this.bootMs = world.nowMs;
    const chance = rng.fork(`life ${host.life}`);
    const resolver: ResolverOptions = {
      name,
      clusterId: "c1",
      region: "r1",
      upstreams,
      namespaces,
      maxWatches,
      maxEntries: 10_000,
      maxBytes: 100_000_000,
      ttls: TTLS,
      maxStaleMs: 3_600_000,
      guardHoldMs,
      pruneIntervalMs: 5000,
      seedOnStart: rng.int(2) === 0,
      resyncIntervalMs: resyncMs,
      random: () => chance.next(),
    };
    const boot = `${name}-${host.life}`;
    const catalog = { tombstoneTtlMs: 20_000, minTombstones: 4, pastTouches: rng.int(2) === 0 ? 8 : 100_000 };
    const process = { ...coreProcess({ now: () => this.time(), catalog, boot }), nameBounds: SLICED_NAMES };
    const history = { maxVersions: 10, maxBytes: 1 << 20 };
    this.rooms = openResolverRooms({ ...process, nodeId: name, generation: host.life, resolver, history }, this.time());
    this.#lossRng = rng.fork(`losses ${host.life}`);
    this.#writer = new CopyWriter({
      disk: host.disk,
      machine: this.rooms.machine,
      rng: rng.fork(`copies ${host.life}`),
      everyMs: copyMs,
      now: () => this.time(),
      known: () => this.#known(),
      later: (ms, run) => this.#later(ms, run),
    });
  }

  /** Takes what its disk has. To be called before `begin`. */
  restore(found: FoundCopy<Known>): void {
    const { host, rooms } = this;
    const restoring = rooms.machine.restore(found.bytes, this.time());
    let step = restoring.next();
    while (step.done !== true) step = restoring.next();
    host.parts.trace.say(() => `${host.name} finds a copy: ${JSON.stringify(step.value)}`);
    host.parts.seen.restored(this, found, step.value);
    const { known } = found;
    if (known === undefined) return;
    this.isFromDisk = true;
    this.heard = known.heard;
    this.judgedNumber = known.judgedNumber;
    this.shown = known.shown;
    this.told = [...known.told];
    this.stated = known.stated;
    this.unregistered = new Set(known.unregistered);
  }

  begin(): void {
    this.input({ kind: "tick" });
    this.#writer.begin();
  }

  #known(): Known {
    const { heard, judgedNumber, shown, told, stated, unregistered } = this;
    // What it showed at a bookmark it does not show any more when something was told since.
    const isAtPlace = this.rooms.machine.bookmarks.isAtBookmark;
    return { heard, judgedNumber, shown: isAtPlace ? shown : undefined, told: [...told], stated, unregistered: new Set(unregistered) };
  }

  time(): Time {
    const { world } = this.host.parts;
    return { monoMs: 1000 + world.nowMs - this.bootMs, wallMs: Math.floor(WALL_START_MS + world.nowMs + this.host.skewMs) };
  }

  stop(isClean: boolean): void {
    if (isClean) this.#writer.stop();
    this.isStopped = true;
    for (const line of this.#lines.values()) line.close();
  }

  get epoch(): string {
    return this.rooms.policies.policy.epoch;
  }

  /** Whether it is at a bookmark, and its readers have heard of the policy in force. */
  get isAtPlace(): boolean {
    return this.rooms.machine.bookmarks.isAtBookmark && this.rooms.reads.isSettled;
  }

  // ---- callers ----

  /** A caller asks for a name, by the gate of the services. `told` is called once: with what it is answered, or with what it is refused with. */
  ask(caller: Caller, name: InstanceName, told: (answer: Told | WaymarkError) => void): void {
    const { machine, reads } = this.rooms;
    const out: ResolverOrder[] = [];
    const calls = new NameCalls({
      machine,
      ask: (of, asked, then) => machine.ask(of, (outcome) => then("error" in outcome ? outcome.error : undefined), this.time(), out, asked),
      isSeen: (by, namespace) => reads.verdict(by, namespace).allowed,
      now: () => this.time(),
    });
    const tell = (outcome: NamesOutcome): void => {
      switch (outcome.kind) {
        case "here":
          return told({ ...outcome.answer, records: reads.find(caller, name, { sampling: SAMPLING, read: (record) => record }).found });
        case "again":
          return told(new WaymarkError("not_ready", "a service would wait for the policy, and ask again"));
        case "refused":
          return told(outcome.error);
      }
    };
    const outcome = calls.ask({ caller, names: [name], maxAgeMs: undefined }, { isAgain: false, time: this.time() }, tell);
    if (outcome !== undefined) tell(outcome);
    this.#carryOut(out);
    this.input({ kind: "tick" });
  }

  /** An operator acts on its cache. */
  act(act: CacheOperation, namespaces: readonly string[]): void {
    this.input({ kind: "act", act, namespaces, onOutcome: () => {} });
  }

  // ---- turns ----

  input(input: ResolverInput): void {
    if (this.isStopped) return;
    const out: ResolverOrder[] = [];
    if (this.rooms.inputs.handle(input, this.time(), out)) this.#switch();
    this.host.parts.seen.judges(this);
    this.#carryOut(out);
    this.#arm();
  }

  #switch(): void {
    this.host.parts.trace.say(() => `${this.host.name} has policy ${this.epoch}`);
    const { switches } = this.rooms;
    const { isRunning } = switches;
    switches.look();
    if (!isRunning && switches.isRunning) this.#switchSome();
  }

  #switchSome(): void {
    const { rng } = this.host.parts;
    const { switches } = this.rooms;
    for (let n = rng.int(4); n >= 0 && switches.isRunning; n--) if (switches.step(1 + rng.int(4), this.time())) this.rooms.show();
    if (switches.isRunning) this.#later(1 + rng.int(SLICE_APART_MS), () => this.#switchSome());
  }

  #later(ms: number, run: () => void): void {
    this.host.parts.world.after(ms, () => {
      if (!this.isStopped) run();
    });
  }

  #arm(): void {
    const { world } = this.host.parts;
    const next = this.rooms.machine.nextDeadlineMs();
    const atMs = Math.max(world.nowMs + 0.01, next - this.time().monoMs + world.nowMs);
    if (atMs >= this.#timerMs || !Number.isFinite(atMs)) return;
    this.#timerMs = atMs;
    world.at(atMs, () => {
      if (this.isStopped || this.#timerMs !== atMs) return;
      this.#timerMs = Number.POSITIVE_INFINITY;
      this.input({ kind: "tick" });
    });
  }

  #carryOut(out: readonly ResolverOrder[]): void {
    for (const order of out) this.#do(order);
  }

  #do(order: ResolverOrder): void {
    const { trace, seen } = this.host.parts;
    trace.say(() => `${this.host.name} ${JSON.stringify(order)}`);
    switch (order.kind) {
      case "probe":
        return this.#probe(order.upstream);
      case "open":
        return this.#open(order);
      case "close":
        this.#close(`digest ${order.stream}`);
        return this.#close(`watch ${order.stream}`);
      case "open policy":
        return this.#openPolicy(order);
      case "close policy":
        return this.#close(`policy ${order.stream}`);
      case "fetch":
        return this.#fetch(order);
      case "garbled":
        return seen.garbled(this, `${order.upstream} ${order.fault}`);
      case "open summaries":
      case "close summaries":
        // These resolvers follow none.
        return;
      case "refused":
      case "resynced":
        // For the log and the audit. Here it is in the trace.
        return;
    }
  }

  #close(name: string): void {
    this.#lines.get(name)?.close();
    this.#lines.delete(name);
  }

  #probe(upstream: string): void {
    const { wires, server } = this.host.parts;
    const to = server(upstream);
    wires.call(
      this.host,
      to.host,
      () => to.facts(),
      (answer, latencyMs) => {
        if (answer === undefined || answer instanceof WaymarkError) this.input({ kind: "probe failed", upstream });
        else this.input({ kind: "probed", upstream, latencyMs, facts: answer.is });
      },
    );
  }

  #open({ stream, upstream, prefixes, cursor, withDigest }: ResolverOrder & { kind: "open" }): void {
    const { wires, server } = this.host.parts;
    const to = server(upstream);
    const line = `${withDigest ? "digest" : "watch"} ${stream}`;
    const open = () => to.watch({ prefixes, cursor, via: [this.host.name], withDigest });
    const heard = {
      said: (sent: Sent) => (withDigest ? this.#heardDigest(stream, sent) : this.#heard({ stream, upstream, prefixes }, sent)),
      ended: (retryMs: number | undefined) => {
        this.#lines.delete(line);
        this.input({ kind: "watch ended", stream, ...(retryMs !== undefined && { retryMs }) });
      },
    };
    this.#lines.set(line, wires.stream(this.host, to.host, open, heard));
  }

  #heardDigest(stream: number, { bytes, sentMs, epoch }: Sent): void {
    const { trace, seen, world } = this.host.parts;
    this.#noteEpoch(epoch);
    trace.say(() => `${this.host.name} hears a digest on ${stream}`);
    this.input({ kind: "watch said", stream, bytes, delayMs: world.nowMs - sentMs });
    const { digest } = this.rooms.machine.statistics(this.time()).resyncs;
    if (digest === this.#repairCount) return;
    this.#repairCount = digest;
    seen.repairs(this);
  }

  /** The message as it arrives. */
  #received(bytes: Uint8Array): Uint8Array {
    const { host } = this;
    if (host.lossCount === 0) return bytes;
    const { deltas } = readWatchMessage(bytes);
    // Digests are of records. That an origin is away or back changes no record, so nothing would repair its loss.
    const records = deltas.flatMap((delta, i) => (this.#isOfSameRecord(delta) ? [] : [i]));
    const less = withoutDelta(bytes, () => (records.length === 0 ? undefined : records[this.#lossRng.int(records.length)]));
    if (less === undefined) return bytes;
    host.lossCount -= 1;
    host.parts.trace.say(() => `${host.name} loses a delta`);
    return less;
  }

  #isOfSameRecord({ nodeId, generation, seq, change }: WatchDelta): boolean {
    const held = "entry" in change ? this.rooms.replica.view(keyOfEntry(change.entry)) : undefined;
    return held?.origin.id === `${nodeId}/${generation}` && held.seq === seq;
  }

  #heard({ stream, upstream, prefixes }: OpenWatch, sent: Sent): void {
    const { world, trace, seen } = this.host.parts;
    this.#noteEpoch(sent.epoch);
    const bytes = this.#received(sent.bytes);
    const { snapshot, place, deltas, via, ageMs } = readWatchMessage(bytes);
    trace.say(
      () => `${this.host.name} hears on ${stream}: snapshot ${snapshot}, ${deltas.length} deltas${place === undefined ? "" : ", a place"}`,
    );
    // While two watches are open neither speaks of all that is followed.
    const isWhole = [...this.#lines.keys()].filter((line) => line.startsWith("watch")).length === 1;
    this.lastHeardMs = world.nowMs;
    this.shown = undefined;
    const isStatement = ageMs !== undefined && (snapshot === SNAPSHOT.NONE || snapshot === SNAPSHOT.END);
    if (isStatement && this.isFromDisk === true) this.isFromDisk = undefined;
    this.input({ kind: "watch said", stream, bytes, delayMs: world.nowMs - sent.sentMs });
    if (this.isStopped) return;
    if (isStatement && isWhole) {
      const throughMs = sent.sentMs - ageMs;
      // Of a stream that is given up at once it may have been taken, or not, for example from an upstream without the policy that was heard of.
      const beforeMs = this.#lines.has(`watch ${stream}`) ? throughMs : (this.stated?.throughMs ?? throughMs);
      this.stated = { throughMs: Math.max(throughMs, beforeMs) };
    }
    if (via.includes(this.host.name) && this.rooms.machine.upstreams.current === upstream) seen.looped(this, upstream);
    for (const { change } of deltas)
      if ("entry" in change) this.#noteToldPut(change.entry);
      else if (change.cause === CAUSE.UNREGISTERED) this.unregistered.add(change.text);
    for (const key of this.unregistered) if (this.rooms.replica.view(key) !== undefined) this.unregistered.delete(key);
    if (snapshot === SNAPSHOT.END) this.told.push(prefixes);
    if (place !== undefined && this.rooms.machine.bookmarks.isAtBookmark) {
      this.isFromDisk = false;
      this.shown = sent.shown;
      this.differs = sent.held !== undefined && below(this.held(), prefixes).join() !== below(sent.held, prefixes).join();
      if (this.differs) this.differedMs = world.nowMs;
    }
    seen.heard(this, sent, new NamespacePrefixes(prefixes));
    if (snapshot === SNAPSHOT.NONE) return;
    const keys = deltas.map(({ change }) => ("entry" in change ? keyOfEntry(change.entry) : change.text));
    this.#trip(upstream, this.host.trips.snapshot(stream, keys, snapshot === SNAPSHOT.END));
  }

  #trip(upstream: string, trip: Trip | undefined): void {
    if (trip === undefined) return;
    const { host } = this;
    host.parts.trace.say(() => `${host.name} loses ${upstream}: ${JSON.stringify(trip)}`);
    if (trip.evicted !== undefined) this.act("evict", trip.evicted);
    host.parts.wires.break(host.name, upstream);
  }

  #noteToldPut(entry: Uint8Array): void {
    const { key } = fromBinary(EntrySchema, entry);
    if (key !== undefined) this.putMs.set(nameText(key), this.host.parts.world.nowMs);
  }

  #openPolicy({ stream, upstream, known }: ResolverOrder & { kind: "open policy" }): void {
    const { wires, server } = this.host.parts;
    const to = server(upstream);
    const heard = {
      said: (sent: Sent) => {
        this.#noteEpoch(sent.epoch);
        this.input({ kind: "policy said", stream, bytes: sent.bytes });
        const { part, state } = readPolicyMessage(sent.bytes);
        if (part !== undefined && state === undefined) this.#trip(upstream, this.host.trips.version());
      },
      ended: (retryMs: number | undefined) => this.input({ kind: "policy ended", stream, ...(retryMs !== undefined && { retryMs }) }),
    };
    this.#lines.set(
      `policy ${stream}`,
      wires.stream(this.host, to.host, () => to.policy(known), heard),
    );
  }

  #fetch({ call, upstream, name, pageToken }: ResolverOrder & { kind: "fetch" }): void {
    const { wires, server } = this.host.parts;
    const to = server(upstream);
    this.fetchCount += 1;
    wires.call(
      this.host,
      to.host,
      () => to.fetch(name, pageToken, [this.host.name]),
      (answer) => {
        if (answer === undefined || answer instanceof WaymarkError) {
          return this.input({ kind: "fetch failed", call, error: answer ?? new WaymarkError("not_ready", "no answer") });
        }
        const { bytes, epoch } = answer.is;
        this.#noteEpoch(epoch);
        // Until the last page is here, the answer before is given.
        if (readFetchedPage(bytes).nextPageToken === "") this.fetched.set(nameText(name), { heardMs: this.host.parts.world.nowMs });
        this.input({ kind: "fetched", call, bytes });
      },
    );
  }

  #noteEpoch(epoch: string): void {
    const number = Number(/^(\d+)-/.exec(epoch)?.[1] ?? 0);
    if (number > (this.heard?.number ?? 0)) this.heard = { number, epoch };
  }

  // ---- readers ----

  serving(): Serving {
    const { rooms, host } = this;
    const { machine } = rooms;
    const { history } = host.parts;
    const isStopped = () => this.isStopped;
    const identity = { version: "0.0.0", nodeId: host.name, clusterId: "c1", region: "r1", zone: "z1", roles: [], listeners: {} };
    return {
      parts: {
        reads: rooms.reads,
        fanout: rooms.fanout,
        dnsNames: rooms.dnsNames,
        bytes: rooms.bytes,
        loads: rooms.loads,
        identity: { ...identity, generation: host.life, boot: rooms.reads.node.boot, startedMonoMs: 0 },
        endedStaticCount: () => 0,
        mesh: { ageMs: (time) => this.#ageOf(time).ageMs, unreachable: (time) => this.#ageOf(time).unreachable, hasPeers: () => true },
        isReady: () => machine.isReady,
        isPaused: () => !machine.policy.isReady,
        checkCaughtUp: () => {},
        checkStart: () => {
          if (!machine.policy.isReady) throw new WaymarkError("not_ready", "it lacks the policy");
        },
        caughtUp: undefined,
        now: () => this.time(),
        random: () => 0.5,
        allowsViewerOverride: false,
        metrics: new Metrics(),
        isTls: true,
        followedAge: (time) => this.#ageOf(time),
        via: () => machine.via,
        checkVia: (via) => checkVia(machine.via, via),
        resumes: machine.bookmarks,
        onRead: () => {},
      },
      policies: rooms.policies,
      get isOver() {
        return isStopped();
      },
      time: () => this.time(),
      encodedAt: (place) => history.version(place),
      shownAt: (_cursor: PortableCursor) => this.shown,
      held: () => this.held(),
      ageOf: (namespace) => {
        if (!machine.policy.isReady || !machine.isComplete(namespace)) throw new WaymarkError("not_ready", "it does not follow it");
        return this.#ageOf(this.time(), namespace);
      },
      watched: (prefixes) => {
        for (const prefix of prefixes) machine.following.watch(prefix);
        this.#later(0, () => this.input({ kind: "tick" }));
        return () => {
          for (const prefix of prefixes) machine.following.unwatch(prefix);
        };
      },
      isWhole: (prefixes) => machine.policy.isReady && prefixes.every((prefix) => machine.isComplete(prefix)),
    };
  }

  #ageOf(time: Time, namespace?: string): AnswerAge {
    const isAsked = (held: EntryIndex) => namespace === undefined || namespace === "" || held.namespaceCount(namespace) > 0;
    return ageOf(this.rooms.machine.followedAnswer(time, isAsked), time);
  }

  /** All that is followed and shown to readers of everything, without what the guard holds. */
  held(): Shown {
    const { origins, lookup } = this.rooms.replica;
    const held = new Map<KeyText, ShownEntry>();
    for (const { log } of origins.values())
      for (const record of log.list())
        if (lookup.find(record.key) === record) held.set(record.key, { namespace: record.namespace, line: lineOf(record.key, record) });
    return held;
  }
}

/** What is below these prefixes, in order. */
function below(shown: Shown, prefixes: readonly string[]): readonly string[] {
  const covered = new NamespacePrefixes(prefixes);
  return [...shown.values()]
    .filter(({ namespace }) => covered.covers(namespace))
    .map(({ line }) => line)
    .toSorted();
}

/** In these worlds there are only services. */
function keyOfEntry(bytes: Uint8Array): KeyText {
  const { namespace = "", name = "", instanceId = "", clusterId = "" } = fromBinary(EntrySchema, bytes).key ?? {};
  return keyText({ kind: KIND.SERVICE, namespace, name, instanceId, clusterId });
}

export function nameText({ namespace, name }: Pick<InstanceName, "name" | "namespace">): string {
  return `${namespace} ${name}`;
}
