/**
 * How many bytes does a region tell another one of its endpoints that join and leave? One in ten of 100,000 endpoints in 1,000 services joins or leaves a minute: bytes on a border
 * link, beside those of the same changes as record frames inside the region, and beside peered datacenters of Consul that export the same. `npm run bench -- regions
 * [--endpoints 100000] [--services 1000] [--consul-endpoints 10000] [--consul-services 100] [--seconds 120] [--idle-seconds 90] [--settle-seconds 45] [--only waymark,consul]`;
 * it takes about ten minutes.
 */
import { argsOf, asksForAll } from "./_args.ts";
import { HttpWire } from "./_http.ts";
import { type Joined, joinAndLeave } from "./_joins.ts";
import { countOn, sleep, until } from "./_mesh.ts";
import type { Running } from "./_processes.ts";
import { type Relay, startRelay } from "./_relay.ts";
import { cellText, type Goal, ratioGoal, report, round } from "./_results.ts";
import { joiningBytes, leavingBytes, recordBytesOf, serviceName, startRegions, summariesAt } from "./_two-regions.ts";
import { Wire } from "./_wire.ts";
import { fail, PATH } from "./_work.ts";
import { type ConsulPeers, consulMember, consulNodes, startConsulPeers } from "./adapters/consul.ts";

const DEFAULTS = {
  endpoints: 100_000,
  services: 1000,
  "consul-endpoints": 10_000,
  "consul-services": 100,
  seconds: 120,
  "idle-seconds": 90,
  "settle-seconds": 45,
  only: ["waymark", "consul"],
};
const values = argsOf(DEFAULTS);
const { endpoints: ENDPOINTS, services: SERVICES, seconds: SECONDS, only: PARTS } = values;
/** Of all endpoints, those that join or leave in a minute. */
const SHARE = 0.1;
const BATCH = 1000;
const WRITERS = 16;

interface Side {
  readonly who: string;
  readonly endpoints: number;
  readonly services: number;
  readonly changes: Joined;
  /** While nothing changed. */
  readonly idleBytes: number;
  /** While endpoints joined and left, and until all was told. */
  readonly bytes: number;
  /** From the first change until the end of what was counted. */
  readonly countedSeconds: number;
  /** Of record frames in the same time. */
  readonly recordBytes?: number;
  readonly note: string;
}

/** Bytes in so many seconds in which nothing changes. */
async function idleBytes(relay: Relay): Promise<number> {
  const before = relay.bytes();
  await sleep(values["idle-seconds"] * 1000);
  return relay.bytes() - before;
}

function ratePerSecond(endpoints: number): number {
  return (endpoints * SHARE) / 60;
}

// ---- ours ----
async function waymark(): Promise<Side> {
  const regions = await startRegions();
  const { exporting, beside, importing, relay } = regions;
  const wires = await Promise.all(Array.from({ length: 4 }, () => Wire.open(exporting.grpc)));
  const call = (k: number, path: string, message: Uint8Array) => (wires[k % wires.length] ?? fail()).unary(path, message);
  for (let from = 0; from < ENDPOINTS; from += BATCH) {
    const numbers = Array.from({ length: Math.min(BATCH, ENDPOINTS - from) }, (_, i) => from + i);
    await call(from / BATCH, PATH.register, joiningBytes(numbers, SERVICES));
  }
  await until(async () => (await countOn(beside)) === ENDPOINTS, "the other node of the region has all endpoints");
  // A count is told again when it has grown by more than a quarter since it was told first.
  const isTold = async () => {
    const told = await summariesAt(importing);
    return told.count === SERVICES && told.endpoints >= 0.75 * ENDPOINTS;
  };
  await until(isTold, "the other region has all summaries");
  console.error(`${ENDPOINTS} endpoints in ${SERVICES} services are told in ${relay.bytes()} bytes`);
  await sleep(values["settle-seconds"] * 1000);
  const idle = await idleBytes(relay);
  const [before, recordsBefore, startMs] = [relay.bytes(), await recordBytesOf(exporting), performance.now()];
  const changes = await joinAndLeave(
    {
      join: (k) => call(k, PATH.register, joiningBytes([k], SERVICES)),
      leave: (k) => call(k, PATH.unregister, leavingBytes(k, SERVICES)),
    },
    { endpoints: ENDPOINTS, perSecond: ratePerSecond(ENDPOINTS), seconds: SECONDS },
  );
  await until(async () => (await countOn(beside)) === changes.present.size, "the other node of the region has all changes");
  // What is told late counts too.
  await sleep(values["settle-seconds"] * 1000);
  const counted = { bytes: relay.bytes() - before, recordBytes: (await recordBytesOf(exporting)) - recordsBefore };
  const countedSeconds = (performance.now() - startMs) / 1000;
  const { count, endpoints } = await summariesAt(importing);
  if (count !== SERVICES || Math.abs(endpoints - ENDPOINTS) > ENDPOINTS / 4)
    throw new Error(`the other region has ${count} summaries of ${endpoints} endpoints`);
  for (const wire of wires) wire.close();
  await regions.stop();
  const note = `Afterwards the other region has ${count} summaries of ${cellText(endpoints)} endpoints, of ${cellText(changes.present.size)} that there are.`;
  return { who: "waymark", endpoints: ENDPOINTS, services: SERVICES, changes, idleBytes: idle, ...counted, countedSeconds, note };
}

// ---- Consul ----
/** Calls over connections of which each has one request under way. */
async function writers(to: Running): Promise<{ readonly write: (body: string) => Promise<unknown>; readonly close: () => void }> {
  const all = await Promise.all(Array.from({ length: WRITERS }, () => HttpWire.open(to.grpc)));
  const free = [...all];
  return {
    write: async (body) => {
      const wire = free.pop() ?? (await HttpWire.open(to.grpc));
      await wire.request({ method: "PUT", path: "/v1/txn", body });
      free.push(wire);
    },
    close: () => all.forEach((wire) => wire.close()),
  };
}

async function isWhole(peers: ConsulPeers, present: Iterable<number>, services: number): Promise<boolean> {
  const wanted = new Map<string, number>();
  for (const k of present) wanted.set(serviceName(k, services), (wanted.get(serviceName(k, services)) ?? 0) + 1);
  for (const [name, count] of wanted) if ((await peers.imported(name)) !== count) return false;
  return true;
}

async function consul(): Promise<Side | undefined> {
  const [endpoints, services] = [values["consul-endpoints"], values["consul-services"]];
  let relay: Relay | undefined;
  const peers = await startConsulPeers(async (to) => (relay = await startRelay(to)).at);
  if (peers === undefined || relay === undefined) return undefined;
  const { write, close } = await writers(peers.exporting);
  await write(consulNodes());
  const numbers = Array.from({ length: endpoints }, (_, k) => k);
  const startedMs = performance.now();
  for (let from = 0; from < endpoints; from += WRITERS)
    await Promise.all(numbers.slice(from, from + WRITERS).map((k) => write(consulMember(k, serviceName(k, services), true))));
  const loadSeconds = (performance.now() - startedMs) / 1000;
  await peers.begin();
  await until(() => isWhole(peers, numbers, services), "the other datacenter has all instances", 300_000);
  console.error(`${endpoints} endpoints in ${services} services of Consul are told in ${relay.bytes()} bytes`);
  await sleep(values["settle-seconds"] * 1000);
  const idle = await idleBytes(relay);
  const [before, startMs] = [relay.bytes(), performance.now()];
  const member = (k: number, isThere: boolean) => write(consulMember(k, serviceName(k, services), isThere));
  const changes = await joinAndLeave(
    { join: (k) => member(k, true), leave: (k) => member(k, false) },
    { endpoints, perSecond: ratePerSecond(endpoints), seconds: SECONDS },
  );
  await until(() => isWhole(peers, changes.present, services), "the other datacenter has all changes", 300_000);
  const bytes = relay.bytes() - before;
  const countedSeconds = (performance.now() - startMs) / 1000;
  close();
  for (const server of [peers.importing, peers.exporting]) await server.stop("SIGKILL");
  relay.close();
  const note = `Consul took ${cellText(round(loadSeconds))} s for its ${cellText(endpoints)} registrations, and its second datacenter has exactly the instances that there are afterwards.`;
  return { who: "consul", endpoints, services, changes, idleBytes: idle, bytes, countedSeconds, note };
}

const ours = PARTS.includes("waymark") ? await waymark() : undefined;
const theirs = PARTS.includes("consul") ? await consul() : undefined;

// ---- goals ----
const WORK = `${SHARE * 100} % of ${cellText(ENDPOINTS)} endpoints in ${cellText(SERVICES)} services join or leave a minute`;

/** Consul's bytes at the size of ours: as many instances of a service, so a change costs the same, and so many more changes. */
function scaled(of: Side): number {
  return (of.bytes * ENDPOINTS) / of.endpoints;
}

const factor = theirs === undefined ? 1 : ENDPOINTS / theirs.endpoints;
const scaling =
  factor === 1
    ? "Consul is measured at the same size."
    : `Consul is measured with ${cellText(theirs?.endpoints ?? 0)} endpoints in ${cellText(theirs?.services ?? 0)} services, which are as many of a service, and its bytes are taken times ${cellText(round(factor))}.`;

function goals(): readonly Goal[] {
  const unit = "bytes between regions";
  const records = ours?.recordBytes;
  return [
    ratioGoal({
      name: `${WORK}: bytes between regions, beside the same changes as record frames`,
      ratio: ours && records && ours.bytes / records,
      ours: ours?.bytes,
      theirs: records,
      missing: "not measured",
      atMost: 0.01,
      shown: {
        work: WORK,
        beside: "Waymark's record frames between two nodes of a region",
        unit,
        oursName: "summaries",
        theirsName: "record frames",
      },
    }),
    ratioGoal({
      name: `${WORK}: bytes between regions, beside Consul's peering`,
      ratio: ours && theirs && ours.bytes / scaled(theirs),
      ours: ours?.bytes,
      theirs: theirs && scaled(theirs),
      atMost: 0.1,
      ...(factor !== 1 && { note: `Consul's bytes times ${round(factor)}` }),
      shown: { work: WORK, beside: "Consul, two datacenters of one server each, peered, all services exported", unit },
    }),
    {
      name: "bytes a second on a border link on which nothing changes",
      value: ours && ours.idleBytes / values["idle-seconds"],
      unit: "B/s",
      atMost: 200,
    },
  ];
}

function rowOf({ who, endpoints, services, changes, bytes, recordBytes, idleBytes: idle, countedSeconds }: Side) {
  return {
    who,
    endpoints,
    services,
    changes: changes.count,
    "changes a second": round(changes.count / changes.tookSeconds),
    "counted for s": round(countedSeconds),
    "bytes between regions": bytes,
    "bytes a change": round(bytes / changes.count),
    "bytes of record frames": recordBytes,
    "idle B/s": round(idle / values["idle-seconds"]),
  };
}

report({
  name: "regions",
  isKept: asksForAll(values, DEFAULTS),
  tables: { "bytes of both directions": [ours, theirs].flatMap((side) => (side === undefined ? [] : [rowOf(side)])) },
  goals: goals(),
  notes: [
    "Both are counted alike: a relay of TCP between the regions counts what it carries in both directions, without the heads of TCP. Endpoints of one region join and leave, half of each, drawn at random, each by a call of its own.",
    "The record frames are those that the node at which they join sends to another node of its region for the same changes in the same time, as its own metric says, without what HTTP/2 and TCP add.",
    `The churn is ${cellText(SECONDS)} s of the full rate, after the regions were equal for a while; ours is counted for ${values["settle-seconds"]} s more, in which it tells what it held down, Consul until its other datacenter has every change.`,
    scaling,
    "Not equal, in our favour: a summary says how many endpoints there are within a quarter, and not which; Consul's peering tells every instance. Not equal, in Consul's favour: its instances have no checks. Our nodes have the settings that they have by themselves, without TLS on loopback; Consul's peering has TLS, which adds some 22 bytes a record.",
    ...[ours, theirs].flatMap((side) => (side === undefined ? [] : [side.note])),
  ],
});
