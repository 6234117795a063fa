/**
 * How many bytes does a region tell another one of its endpoints that join and leave? One in ten of 100,000 endpoints in 1,000 services joins or leaves a minute, for ten minutes: bytes on a
 * border link, beside those of the same changes as record frames inside the region, and beside peered datacenters of Consul that export the same. Both are measured at once, since bytes
 * are counted and no time; each change costs Consul the same, so it is measured for less long. Afterwards services lose half of their endpoints or get half as many more, at the same rate,
 * which no summary can leave untold. It takes about twelve minutes.
 * `npm run bench -- regions [--endpoints 100000] [--services 1000] [--seconds 600] [--consul-seconds 240] [--scaling-seconds 20] [--idle-seconds 40] [--only waymark,consul]`
 */
import { argsOf, asksForAll } from "./_args.ts";
import { HttpWire } from "./_http.ts";
import { ComingAndGoing, type Pace, type Played } from "./_joins.ts";
import { countOn, sleep, until } from "./_mesh.ts";
import type { Node, Running } from "./_processes.ts";
import { type Relay, startRelay } from "./_relay.ts";
import { cellText, type Goal, ratioGoal, report, round } from "./_results.ts";
import { exportsOf, joiningBytes, leavingBytes, recordBytesOf, serviceName, startRegions, summariesAt } from "./_two-regions.ts";
import { Wire } from "./_wire.ts";
import { fail, PATH } from "./_work.ts";
import { BATCH as CONSUL_BATCH, type ConsulPeers, consulMembers, consulNodes, startConsulPeers } from "./adapters/consul.ts";

const DEFAULTS = {
  endpoints: 100_000,
  services: 1000,
  seconds: 600,
  "consul-seconds": 240,
  "scaling-seconds": 20,
  // A turn of beacons, with two comparisons in each direction: a shorter time may miss all of them.
  "idle-seconds": 40,
  only: ["waymark", "consul"],
};
const values = argsOf(DEFAULTS);
const { endpoints: ENDPOINTS, services: SERVICES, only: PARTS } = values;
/** Of all endpoints, those that join or leave in a minute. */
const SHARE = 0.1;
const BATCH = 1000;
/** For what is still on its way when all is told: acknowledgements, and first comparisons. */
const SETTLE_MS = 5000;
/** Counts wait for the export interval of 30 s; nodes that compete for cores take longer. */
const TOLD_MS = 240_000;

/** Endpoints joined and left for a time, until all was told. */
interface Churn {
  readonly played: Played;
  /** Between the regions. */
  readonly bytes: number;
  /** From the first change until the end of what was counted. */
  readonly countedSeconds: number;
  /** Of Waymark: summaries made meanwhile, and bytes of record frames. */
  readonly summaries?: number;
  readonly recordBytes?: number;
}

interface Side {
  readonly who: string;
  /** Until the other region knew all endpoints of the start. */
  readonly startBytes: number;
  /** While nothing changed. */
  readonly idleBytes: number;
  readonly eachForItself: Churn;
  readonly serviceByService: Churn;
  readonly note: string;
}

/** As many a second as make that share in a minute. */
function paceOf(seconds: number): Pace {
  return { perSecond: (ENDPOINTS * SHARE) / 60, seconds };
}

/** Bytes in so many seconds in which nothing changes. */
async function idleBytes(relay: Relay): Promise<number> {
  await sleep(SETTLE_MS);
  const before = relay.bytes();
  await sleep(values["idle-seconds"] * 1000);
  return relay.bytes() - before;
}

/** How many endpoints each service has. */
function countsOf(present: Iterable<number>): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const k of present) counts.set(serviceName(k, SERVICES), (counts.get(serviceName(k, SERVICES)) ?? 0) + 1);
  return counts;
}

/** Whether nothing is due any more: a count is told again when it differs by more than a quarter from the one told last. */
function isTold(told: ReadonlyMap<string, number>, counts: ReadonlyMap<string, number>): boolean {
  return (
    told.size === counts.size && [...counts].every(([name, count]) => Math.abs(count - (told.get(name) ?? 0)) <= (told.get(name) ?? 0) / 4)
  );
}

/** Each look is a page of all summaries, so there are few. */
const LOOK_MS = 500;

async function untilTold(importing: Node, counts: ReadonlyMap<string, number>, what: string): Promise<void> {
  await until(async () => isTold(await summariesAt(importing), counts) || sleep(LOOK_MS).then(() => false), what, TOLD_MS);
}

const NUMBERS = Array.from({ length: ENDPOINTS }, (_, k) => k);

// ---- ours ----
async function waymark(): Promise<Side> {
  const regions = await startRegions();
  const { exporting, beside, importing, relay } = regions;
  const wires = await Promise.all(Array.from({ length: 4 }, () => Wire.open(exporting.grpc)));
  const call = (k: number, path: string, message: Uint8Array) => (wires[k % wires.length] ?? fail()).unary(path, message);
  for (let from = 0; from < ENDPOINTS; from += BATCH)
    await call(from / BATCH, PATH.register, joiningBytes(NUMBERS.slice(from, from + BATCH), SERVICES));
  await until(async () => (await countOn(beside)) === ENDPOINTS, "the other node of the region has all endpoints", TOLD_MS);
  await untilTold(importing, countsOf(NUMBERS), "the other region has all summaries");
  const startBytes = relay.bytes();
  const idle = await idleBytes(relay);
  const fleet = new ComingAndGoing(
    {
      join: (k) => call(k, PATH.register, joiningBytes([k], SERVICES)),
      leave: (k) => call(k, PATH.unregister, leavingBytes(k, SERVICES)),
    },
    { endpoints: ENDPOINTS, services: SERVICES },
  );
  const churn = async (play: () => Promise<Played>): Promise<Churn> => {
    console.error("waymark: endpoints join and leave");
    const figures = async () => [relay.bytes(), await recordBytesOf(exporting), await exportsOf(exporting)] as const;
    const [startMs, [bytes, recordBytes, summaries]] = [performance.now(), await figures()];
    const played = await play();
    const { length } = fleet.present;
    await until(async () => (await countOn(beside)) === length, "the other node of the region has all changes", TOLD_MS);
    // What is told late counts too.
    await untilTold(importing, countsOf(fleet.present), "the other region has all changes");
    const end = await figures();
    const countedSeconds = (performance.now() - startMs) / 1000;
    return { played, bytes: end[0] - bytes, recordBytes: end[1] - recordBytes, summaries: end[2] - summaries, countedSeconds };
  };
  const eachForItself = await churn(() => fleet.eachForItself(paceOf(values.seconds)));
  const note = offText(await summariesAt(importing), countsOf(fleet.present));
  const serviceByService = await churn(() => fleet.serviceByService(paceOf(values["scaling-seconds"])));
  for (const wire of wires) wire.close();
  await regions.stop();
  return { who: "waymark", startBytes, idleBytes: idle, eachForItself, serviceByService, note };
}

function offText(told: ReadonlyMap<string, number>, counts: ReadonlyMap<string, number>): string {
  const off = [...counts].map(([name, count]) => Math.abs(count / (told.get(name) ?? fail()) - 1));
  const mean = off.reduce((sum, each) => sum + each, 0) / off.length;
  return `After the churn of single endpoints, the counts in Waymark's other region were wrong by ${round(100 * mean)} % on average, and by at most ${round(100 * Math.max(...off))} %.`;
}

// ---- Consul ----
const RETRY_MS = 5000;

interface Writers {
  readonly write: (body: string) => Promise<unknown>;
  readonly close: () => void;
}

/** Calls over connections that are kept, each with one request under way. */
function writersTo({ grpc }: Running): Writers {
  const all = new Set<HttpWire>();
  const free: HttpWire[] = [];
  const taken = async (): Promise<HttpWire> => {
    for (let wire = free.pop(); wire !== undefined; wire = free.pop()) {
      // Consul closes one that is not used for two minutes.
      if (wire.isOpen) return wire;
      all.delete(wire);
    }
    const wire = await HttpWire.open(grpc);
    all.add(wire);
    return wire;
  };
  const once = async (body: string): Promise<void> => {
    const wire = await taken();
    await wire.request({ method: "PUT", path: "/v1/txn", body }).finally(() => free.push(wire));
  };
  return {
    // A machine that stands still makes Consul refuse a write that waited for too long. The same write can come again.
    write: (body) => once(body).catch(() => sleep(RETRY_MS).then(() => once(body))),
    close: () => all.forEach((wire) => wire.close()),
  };
}

/** Asks for each service until it is right: none is asked again. */
async function untilWhole(peers: ConsulPeers, present: Iterable<number>, what: string): Promise<void> {
  for (const [name, count] of countsOf(present)) await until(async () => (await peers.imported(name)) === count, what, TOLD_MS);
}

async function consul(): Promise<Side | undefined> {
  let relay: Relay | undefined;
  const peers = await startConsulPeers(async (to) => (relay = await startRelay(to)).at);
  if (peers === undefined || relay === undefined) return undefined;
  const counting: Relay = relay;
  const { write, close } = writersTo(peers.exporting);
  await write(consulNodes());
  const members = (of: readonly number[], isThere: boolean) => consulMembers(of, (k) => serviceName(k, SERVICES), isThere);
  for (let from = 0; from < ENDPOINTS; from += CONSUL_BATCH) await write(members(NUMBERS.slice(from, from + CONSUL_BATCH), true));
  const bare = counting.bytes();
  await peers.begin();
  await untilWhole(peers, NUMBERS, "the other datacenter has all instances");
  const startBytes = counting.bytes() - bare;
  const idle = await idleBytes(counting);
  const fleet = new ComingAndGoing(
    { join: (k) => write(members([k], true)), leave: (k) => write(members([k], false)) },
    { endpoints: ENDPOINTS, services: SERVICES },
  );
  const churn = async (play: () => Promise<Played>): Promise<Churn> => {
    console.error("consul: endpoints join and leave");
    const [bytes, startMs] = [counting.bytes(), performance.now()];
    const played = await play();
    await untilWhole(peers, fleet.present, "the other datacenter has all changes");
    return { played, bytes: counting.bytes() - bytes, countedSeconds: (performance.now() - startMs) / 1000 };
  };
  const eachForItself = await churn(() => fleet.eachForItself(paceOf(values["consul-seconds"])));
  const serviceByService = await churn(() => fleet.serviceByService(paceOf(values["scaling-seconds"])));
  close();
  for (const server of [peers.importing, peers.exporting]) await server.stop("SIGKILL");
  counting.close();
  const note = "Consul's other datacenter had exactly the existing instances each time.";
  return { who: "consul", startBytes, idleBytes: idle, eachForItself, serviceByService, note };
}

const [ours, theirs] = await Promise.all([
  PARTS.includes("waymark") ? waymark() : undefined,
  PARTS.includes("consul") ? consul() : undefined,
]);

const SIDES = [ours, theirs].filter((side) => side !== undefined);

// ---- goals ----
const WORK = `${SHARE * 100} % of ${cellText(ENDPOINTS)} endpoints in ${cellText(SERVICES)} services join or leave per minute`;

function aChange(churn: Churn, bytes = churn.bytes): number {
  return bytes / churn.played.count;
}

const [ourBytes, theirBytes] = [ours && aChange(ours.eachForItself), theirs && aChange(theirs.eachForItself)];
const recordsAChange = ours && aChange(ours.eachForItself, ours.eachForItself.recordBytes);

const NOT_THE_SAME = "a summary contains less than Consul's data: no single endpoints";

function goals(): readonly Goal[] {
  const unit = "bytes between regions per join or leave";
  return [
    ratioGoal({
      name: `${WORK}: bytes between regions, beside the same changes as record frames`,
      ratio: ourBytes && recordsAChange && ourBytes / recordsAChange,
      ours: ourBytes,
      theirs: recordsAChange,
      missing: "not measured",
      atMost: 0.01,
      shown: {
        work: WORK,
        beside: "Waymark's record frames between two nodes of a region, which contain each endpoint",
        unit,
        oursName: "summaries",
        theirsName: "record frames",
      },
    }),
    ratioGoal({
      name: `${WORK}: bytes between regions, beside Consul's peering`,
      ratio: ourBytes && theirBytes && ourBytes / theirBytes,
      ours: ourBytes,
      theirs: theirBytes,
      note: NOT_THE_SAME,
      atMost: 0.1,
      shown: {
        work: `${WORK}: a summary has the number of endpoints of a service, within a quarter, and no address`,
        beside: "Consul, two peered datacenters of one server each, all services exported, which sends every instance with its address",
        unit,
      },
    }),
    {
      name: "bytes a second on the one border link of two regions, while nothing changes",
      value: ours && ours.idleBytes / values["idle-seconds"],
      unit: "B/s",
      atMost: 200,
    },
  ];
}

function startRow({ who, startBytes, idleBytes: idle }: Side) {
  return {
    who,
    "bytes of the first transfer": startBytes,
    "bytes per endpoint": round(startBytes / ENDPOINTS),
    "idle B/s": round(idle / values["idle-seconds"]),
  };
}

function churnRow(who: string, what: string, churn: Churn) {
  const { played, bytes, countedSeconds, summaries, recordBytes } = churn;
  return {
    who,
    churn: what,
    changes: played.count,
    "changes a second": round(played.count / played.tookSeconds),
    "complete after s": round(countedSeconds - played.tookSeconds),
    "bytes between regions": bytes,
    "bytes per change": round(aChange(churn)),
    summaries,
    "record frames, bytes per change": recordBytes && round(aChange(churn, recordBytes)),
    "share of record frames, %": recordBytes && round((100 * bytes) / recordBytes),
  };
}

/** How much of the difference to Consul is the way in which a change is told, and how much is what is not told. */
function partsOf(records: number, consuls: number, summaries: number): string {
  return `The difference to Consul has two parts: how a change is sent, and the data that is not sent. Consul sends all instances of a service when one changes, ${cellText(round(consuls))} bytes per join or leave. Waymark's record frames, which contain as much of each endpoint as Consul's data, use ${cellText(round(records))} bytes (${cellText(round(consuls / records))} times less), and summaries ${cellText(round(summaries))} bytes (another ${cellText(round(records / summaries))} times less).`;
}

const NOTES = [
  "Both are counted in the same way: a TCP relay between the regions counts the bytes in both directions, without TCP headers. Both use TLS on that connection, and neither compresses. There is one connection, with a node or server on each side.",
  "**The two do not send the same data.** Consul's other datacenter has every instance with its address, port and tags, and its clients can connect to an instance without another query. Waymark's other region has for each service its existence, its number of endpoints within a quarter, its health, and the ingress of its cluster. A client there that needs an endpoint asks that cluster, and those calls are not in these bytes.",
  ...(ourBytes && theirBytes && recordsAChange ? [partsOf(recordsAChange, theirBytes, ourBytes)] : []),
  `*Single endpoints*: random endpoints of one region join and leave, half of each, with a call each. A joining endpoint is new, and belongs to a random service. The goals use this churn. With ${cellText(Math.round(ENDPOINTS / SERVICES))} endpoints per service, few counts leave the quarter within which no change is sent: most bytes are beacons and comparisons, which are also sent without churn.`,
  "*Service by service*: the same rate, but one service after the other loses half of its endpoints or gets half as many more, so each change must be sent. With such churn, summaries are a larger share of record frames.",
  "No endpoint changes its health. Consul would send each such change; Waymark sends those that change the health level of a service.",
  "The record frames are the bytes that the node with the registrations sends to another node of its region for the same changes in the same time, by its own metric, without TLS, HTTP/2 and TCP.",
  `Both are measured at the same time on the same cores, after a period without changes. Waymark's churn lasts ${cellText(values.seconds)} s, because counts drift further the longer it lasts. Consul's lasts ${cellText(values["consul-seconds"])} s at the same rate, because the cost of a change does not depend on time. Each is counted until its other region has all changes. If the cores are too slow, Consul falls behind and sends a service once for several changes: fewer bytes, later.`,
  "In Consul's favour: its nodes have no ids, several kinds of addresses or metadata, and its instances no checks; agents have these, and peering sends them with each instance. Its peering (1.22) has no setting that makes a change cheaper, except exporting fewer services.",
  "Consul's alternative, WAN federation, replicates nothing: churn costs no bytes there. Each look-up of another datacenter is a call to it, which fails while it is unreachable.",
  `While nothing changes, ${values["idle-seconds"]} s are counted: a beacon of each cluster, and two comparisons in each direction, on one border link between two regions with a cluster each.`,
  ...SIDES.map(({ note }) => note),
];

report({
  name: "regions",
  isKept: asksForAll(values, DEFAULTS),
  tables: {
    [`${cellText(ENDPOINTS)} endpoints in ${cellText(SERVICES)} services, bytes of both directions`]: SIDES.map(startRow),
    "bytes of both directions while endpoints join and leave": SIDES.flatMap(({ who, eachForItself, serviceByService }) => [
      churnRow(who, "single endpoints", eachForItself),
      churnRow(who, "service by service", serviceByService),
    ]),
  },
  goals: goals(),
  notes: NOTES,
});
