/**
 * What does it cost to register, to change an entry and to stay registered, with every batch on disk before its answer? Beside etcd's lease, put and
 * keepalive, and renewals also beside a bare node:http2 server that answers as many bytes; a lone register under drivers that are not ours too.
 * `npm run bench -- register [--entries 50000] [--rounds 5]`; it takes about seven minutes. Measured on the disk the project lies on.
 */
import { closeSync, fdatasyncSync, openSync, writeSync } from "node:fs";
import { join } from "node:path";
import { argsOf, asksForAll } from "./_args.ts";
import { h2loadGoal, underOtherDrivers } from "./_drivers.ts";
import { neighbourShare, pinSelf, type Running, scratchDir, startEcho, startNode } from "./_processes.ts";
import { AHEAD, etcdLeaseId, etcdLeases, nodeLeases, renew, renewalBytes, together } from "./_renewals.ts";
import { cellText, type Goal, paired, percentile, quiet, ratioGoal, ratioOf, report, round, spread } from "./_results.ts";
import { queriesUnderLoad, underLoadGoals } from "./_under-load.ts";
import type { Wire } from "./_wire.ts";
import { ask, type Driven, driveAll, fail, INSTANCES, PATH, registerBytes } from "./_work.ts";
import { sizesOf, startEtcd } from "./adapters/etcd.ts";
import { ETCD_PATH, etcdGrant, etcdPut, etcdTxn } from "./adapters/etcd-messages.ts";

const DEFAULTS = { entries: 50_000, rounds: 5 };
const values = argsOf(DEFAULTS);
const ENTRIES = values.entries;
const ROUNDS = values.rounds;
const BATCH = 100;
const IN_FLIGHT = 8;
/** Of requests with one key each, at either peer. */
const SINGLE_IN_FLIGHT = 64;
const LONE = 500;
const LEASES = 10_000;
const LEASES_A_MESSAGE = 1000;
/** Versions from here on have as many digits, so that changes have as many bytes. */
const FIRST_VERSION = 1_000_000;
/** CPU time of a side before any round of renewals that counts: some 50,000 messages, after which Node has compiled their path. */
const WARM_MS = 1500;
/** CPU time of a round of renewals at least, so that a collection of garbage is a small part of it. */
const ROUND_MS = 500;
/** How a lone entry and a batch are told apart in the rows. */
const WORK = {
  batch: `an entry, ${BATCH} per request under one lease`,
  single: `an entry with its lease, one per request, ${SINGLE_IN_FLIGHT} under way`,
  apart: `an entry with its lease, one per request, one at a time on each of ${SINGLE_IN_FLIGHT} connections`,
  lone: "an entry with its lease, one at a time",
  changes: `a change of an entry under its lease, one per request, ${SINGLE_IN_FLIGHT} under way`,
  change: "a change of an entry under its lease, one at a time",
  renewal: "renew a lease over one stream, one per message",
  renewals: `renew a lease over one stream, ${LEASES_A_MESSAGE} per message`,
} as const;

interface Cost {
  /** Per entry or lease. */
  readonly cpuUs: number;
  readonly perSecond: number;
  /** Of each request, where one goes at a time. */
  readonly tookMs: readonly number[];
}

async function cost(server: Running, count: number, work: (tookMs: number[]) => Promise<unknown>): Promise<Cost> {
  const tookMs: number[] = [];
  const [cpuMs, startMs] = [server.cpuMs(), performance.now()];
  await work(tookMs);
  return { cpuUs: ((server.cpuMs() - cpuMs) * 1000) / count, perSecond: count / ((performance.now() - startMs) / 1000), tookMs };
}

/** What both peers are asked for: `entries` keys, `batch` a request, `inFlight` requests under way. */
interface Load {
  readonly entries: number;
  readonly batch: number;
  readonly inFlight: number;
  readonly connections: number;
}

/** Registers as one request a batch, or does the same in as many calls as a peer needs. */
type Registering = (wire: Wire, from: number, to: number) => Promise<unknown>;

function atNode(wire: Wire, from: number, to: number): Promise<unknown> {
  return wire.unary(PATH.register, registerBytes(from, to, { isStatic: false }));
}

/** A lease, then a put under it, or a transaction of puts. The lease's id is the first key's number, counted from 1. */
function atEtcd(value: Uint8Array): Registering {
  return async (wire, from, to) => {
    await wire.unary(ETCD_PATH.grant, etcdGrant(from + 1));
    if (to - from === 1) await wire.unary(ETCD_PATH.put, etcdPut(from, value, from + 1));
    else await wire.unary(ETCD_PATH.txn, etcdTxn(from, to, value, from + 1));
  };
}

/** A new version of entry `from`, under the lease that it has. */
function changeAtNode(leases: readonly string[]): Registering {
  return (wire, from) => {
    const k = from % leases.length;
    return wire.unary(PATH.register, registerBytes(k, k + 1, { leaseId: leases[k] ?? fail(), version: FIRST_VERSION + from }));
  };
}

/** The value's bytes stay as they are: etcd writes a new revision all the same. */
function changeAtEtcd(value: Uint8Array): Registering {
  return (wire, from) => wire.unary(ETCD_PATH.put, etcdPut(from % LEASES, value, etcdLeaseId(from % LEASES)));
}

/** Beyond the entries that are changed and whose leases are renewed: a lease ends when another takes its last entry. */
let place = LEASES;

/** New keys at one peer, or changes, each of the next key. */
function registered(server: Running, { entries, batch, inFlight, connections }: Load, registering: Registering): Promise<Cost> {
  const from = place;
  place += entries;
  const driven: Driven = { count: entries / batch, inFlight, connections };
  return cost(server, entries, (tookMs) =>
    driveAll(server, driven, async (wire, i) => {
      const sentMs = performance.now();
      await registering(wire, from + i * batch, from + (i + 1) * batch);
      tookMs.push(performance.now() - sentMs);
    }),
  );
}

/** What the disk itself takes to make a small write durable. */
function fsyncMs(): readonly number[] {
  const file = openSync(join(scratchDir("fsync"), "file"), "w");
  const page = Buffer.alloc(4096);
  const tookMs = Array.from({ length: LONE }, () => {
    writeSync(file, page);
    const startMs = performance.now();
    fdatasyncSync(file);
    return performance.now() - startMs;
  });
  closeSync(file);
  return tookMs;
}

/** One side of a comparison of renewals. */
interface Renewing {
  readonly server: Running;
  readonly messages: readonly Uint8Array[];
  readonly leasesAMessage?: number;
}

/** Warms a side, and returns what renews all its leases so often that a round is long enough. */
async function renewing({ server, messages, leasesAMessage = 1 }: Renewing): Promise<() => Promise<Cost>> {
  const leases = messages.length * leasesAMessage;
  const renewed = (times: number) => cost(server, leases * times, () => renew(server, messages, times));
  let cpuUs = 0;
  for (let [times, spentMs] = [1, 0]; spentMs < WARM_MS; times *= 2) {
    ({ cpuUs } = await renewed(times));
    spentMs += (cpuUs * leases * times) / 1000;
  }
  // A fifth more, since the path may become cheaper yet.
  const times = Math.ceil((1.2 * ROUND_MS * 1000) / (cpuUs * leases));
  return () => renewed(times);
}

interface Row {
  readonly work: string;
  readonly peer: string;
  readonly ours: readonly Cost[];
  readonly theirs: readonly Cost[];
}

function ratioIn({ ours, theirs }: Row) {
  const cpuUs = (costs: readonly Cost[]) => costs.map((each) => each.cpuUs);
  return ratioOf(cpuUs(theirs), cpuUs(ours).slice(0, theirs.length));
}

function rowOf(row: Row) {
  const { work, peer, ours, theirs } = row;
  const took = (costs: readonly Cost[], p: number) => {
    const all = costs.flatMap(({ tookMs }) => tookMs);
    return all.length === 0 ? "-" : percentile(all, p);
  };
  const isMeasured = theirs.length > 0;
  return {
    work,
    peer,
    "CPU µs": spread(ours.map(({ cpuUs }) => cpuUs)),
    "peer's CPU µs": isMeasured ? spread(theirs.map(({ cpuUs }) => cpuUs)) : "-",
    "peer's CPU ÷ ours": isMeasured ? ratioIn(row) : "not measured",
    "units a second": spread(ours.map(({ perSecond }) => perSecond)),
    "peer's units a second": isMeasured ? spread(theirs.map(({ perSecond }) => perSecond)) : "-",
    "p50 ms": took(ours, 0.5),
    "peer's p50 ms": took(theirs, 0.5),
    "p99 ms": took(ours, 0.99),
    "peer's p99 ms": took(theirs, 0.99),
  };
}

function lonely(work: string, tookMs: readonly number[]) {
  return { work, "p50 ms": percentile(tookMs, 0.5), "p99 ms": percentile(tookMs, 0.99), "max ms": round(Math.max(...tookMs)) };
}

pinSelf();
const [node, etcd] = [await startNode({ dataDir: scratchDir("node") }), await startEtcd()];
await ask(node, PATH.register, registerBytes(0, 10));
const { etcdValue } = await sizesOf(node, etcd);
const versionBytes = registerBytes(0, 1, { version: FIRST_VERSION }).length - registerBytes(0, 1).length;
const changedValue = Buffer.concat([etcdValue, Buffer.alloc(versionBytes, "x")]);

/** Rounds before those that count: Node has compiled the path of a request after some 20,000 of them. */
const WARM_ROUNDS = 3;

interface Sides {
  readonly ours: Registering;
  readonly theirs: Registering;
  readonly peer: string;
}

/** Paired rounds of one load at both. */
async function atBoth(work: string, load: Load, { ours, theirs, peer }: Sides): Promise<Row> {
  console.error(work);
  const atPeer = etcd && (() => registered(etcd, load, theirs));
  for (let r = 0; r < WARM_ROUNDS; r++) {
    await registered(node, load, ours);
    await atPeer?.();
  }
  const { a, b } = await paired(ROUNDS, () => registered(node, load, ours), atPeer);
  return { work, peer, ours: a, theirs: b };
}

const PEER = {
  batch: `etcd, a lease and then one transaction of ${BATCH} puts under it: two calls, each through Raft (ours is not)`,
  lone: "etcd, a lease and then a put under it: two calls, each through Raft (ours is not)",
  change: "etcd, a put under the key's lease, through Raft (ours is not)",
  renewal: "etcd, one in each message",
  echo: "a bare node:http2 server, answering the same bytes",
} as const;
const FULL = { batch: 1, inFlight: SINGLE_IN_FLIGHT, connections: 4 } as const;
const ALONE = { entries: LONE, batch: 1, inFlight: 1, connections: 1 } as const;

const registering = (peer: string): Sides => ({ ours: atNode, theirs: atEtcd(etcdValue), peer });
// First, so that the path of a request is compiled when fewer requests follow.
const singles = await atBoth(WORK.single, { ...FULL, entries: ENTRIES / 5 }, registering(PEER.lone));
const apart = await atBoth(WORK.apart, { ...FULL, connections: SINGLE_IN_FLIGHT, entries: ENTRIES / 5 }, registering(PEER.lone));
const batches = await atBoth(WORK.batch, { entries: ENTRIES, batch: BATCH, inFlight: IN_FLIGHT, connections: 4 }, registering(PEER.batch));
const held = await nodeLeases(node, { count: LEASES, version: FIRST_VERSION });
const echo = await startEcho(await renewalBytes(node, held));
const heldAtEtcd = etcd === undefined ? [] : await etcdLeases(etcd, { count: LEASES, value: changedValue });
const changing: Sides = { ours: changeAtNode(held.ids), theirs: changeAtEtcd(changedValue), peer: PEER.change };
const changes = await atBoth(WORK.changes, { ...FULL, entries: ENTRIES / 5 }, changing);
let [lones, alone]: [Row | undefined, Row | undefined] = [undefined, undefined];
let diskMs: readonly number[] = [];
const others = await neighbourShare([node, etcd], async () => {
  lones = await atBoth(WORK.lone, ALONE, registering(PEER.lone));
  alone = await atBoth(WORK.change, ALONE, changing);
  diskMs = fsyncMs();
});
console.error(WORK.renewal);
const renewal = await renewing({ server: node, messages: held.messages });
// etcd has no message for many leases: it is always asked for one a message.
const renewalAtEtcd = etcd && (await renewing({ server: etcd, messages: heldAtEtcd }));
const renewalAtEcho = await renewing({ server: echo, messages: held.messages });
const manyAMessage = { messages: together(held.messages, LEASES_A_MESSAGE), leasesAMessage: LEASES_A_MESSAGE };
const renewals = await renewing({ server: node, ...manyAMessage });
const besideEtcd = await paired(ROUNDS, renewal, renewalAtEtcd);
const besideEcho = await paired(ROUNDS, renewal, renewalAtEcho);
const many = await paired(ROUNDS, renewals, renewalAtEtcd);
// Bytes that any driver can repeat: a new lease for the same entry again and again. At etcd the lease and the put are calls of their own.
const lone = { server: node, calls: [{ path: PATH.register, message: registerBytes(0, 1, { isStatic: false }) }] };
const putBytes = ["put", "--key-size=24", `--val-size=${etcdValue.length}`];
const loneAtEtcd = etcd && {
  server: etcd,
  calls: [
    { path: ETCD_PATH.grant, message: etcdGrant(0) },
    { path: ETCD_PATH.put, message: etcdPut(0, etcdValue), etcdBenchmark: putBytes },
  ],
};
const TAKEN_OVER = "the same entry taken over by a new lease, its record unchanged";
const checks = await underOtherDrivers(TAKEN_OVER, loneAtEtcd === undefined ? [lone] : [lone, loneAtEtcd], { rounds: 3, count: 5000 });
// Last, since it registers the most entries.
const underLoad = await queriesUnderLoad(
  ROUNDS,
  { server: node, services: LEASES / INSTANCES, register: (wire, from) => atNode(wire, from, from + 1) },
  etcd && { server: etcd, services: LEASES / INSTANCES, register: (wire, from) => atEtcd(etcdValue)(wire, from, from + 1) },
);
await Promise.all([node.stop(), etcd?.stop(), echo.stop()]);

const LONE_WORK = "a durable registration of one entry with its lease";
const CHANGE = "a durable change of an entry under its lease";
const RENEWAL = "a renewed lease, one in each message of a stream";
const OWN_WISH = "our own target";

/** A row of the report, and the goal that it shows. */
interface Wanted {
  readonly row: Row;
  /** In words of a reader. */
  readonly work: string;
  readonly atLeast: number;
  readonly note?: string;
}

const ENTRY_ROWS: readonly Wanted[] = [
  { row: batches, work: `a durable registration of ${BATCH} entries under one lease`, atLeast: 1.2 },
  { row: singles, work: `${LONE_WORK}, ${SINGLE_IN_FLIGHT} under way`, atLeast: 2 },
  { row: apart, work: `${LONE_WORK}, one at a time on each of ${SINGLE_IN_FLIGHT} connections`, atLeast: 1.3 },
  { row: lones ?? fail(), work: `${LONE_WORK}, one at a time`, atLeast: 1.1 },
  { row: changes, work: `${CHANGE}, ${SINGLE_IN_FLIGHT} under way`, atLeast: 1, note: OWN_WISH },
  { row: alone ?? fail(), work: `${CHANGE}, one at a time`, atLeast: 1, note: OWN_WISH },
];
const LEASE_ROWS: readonly Wanted[] = [
  { row: { work: WORK.renewal, peer: PEER.renewal, ours: besideEtcd.a, theirs: besideEtcd.b }, work: RENEWAL, atLeast: 1.3 },
  { row: { work: WORK.renewal, peer: PEER.echo, ours: besideEcho.a, theirs: besideEcho.b }, work: RENEWAL, atLeast: round(1 / 1.5) },
  {
    row: { work: WORK.renewals, peer: PEER.renewal, ours: many.a, theirs: many.b },
    work: `a renewed lease, ${cellText(LEASES_A_MESSAGE)} in each message of a stream`,
    atLeast: 23,
  },
];

/** A goal of what one figure of each round says. */
function goalOf({ row, work, atLeast, note }: Wanted, unit: string, figure: (cost: Cost) => number): Goal {
  const [ours, theirs] = [row.ours.map(figure), row.theirs.map(figure)];
  return ratioGoal({
    name: `${work}, beside ${row.peer}`,
    shown: { work, beside: row.peer, unit },
    ratio: ratioOf(theirs, ours.slice(0, theirs.length)),
    ours: spread(ours),
    theirs: spread(theirs),
    atLeast,
    note,
    missing: "the peer is not installed",
  });
}

/** What a caller waits for. The name stays without the percentile, by which the run before is found. */
function p50Goal(wanted: Wanted): Goal {
  const told = { ...wanted, work: `${wanted.work}: duration`, atLeast: 1 };
  const goal = goalOf(told, "ms until the answer, p50", ({ tookMs }) => percentile(tookMs, 0.5));
  const late = (costs: readonly Cost[]) => cellText(spread(costs.map(({ tookMs }) => percentile(tookMs, 0.99))).median);
  const { ours, theirs } = wanted.row;
  const note = theirs.length === 0 ? [] : [`p99 ${late(ours)} and ${late(theirs)} ms`];
  const notes = [...(goal.note === undefined ? [] : [goal.note]), ...note].join("; ");
  const shown = goal.shown && { shown: { ...goal.shown, work: `${wanted.work}: latency, p50` } };
  return quiet({ ...goal, ...shown, ...(notes !== "" && { note: notes }) }, others);
}

report({
  name: "register",
  isKept: asksForAll(values, DEFAULTS),
  tables: {
    "entries and leases": [...ENTRY_ROWS, ...LEASE_ROWS].map(({ row }) => rowOf(row)),
    "one at a time": [lonely("fdatasync of 4 KiB on this disk", diskMs)].map((row) => ({
      ...row,
      "others' share of the core": round(others),
    })),
    "queries under registrations": underLoad,
    "the same work with other drivers": checks.map((row) => ({ ...row })),
  },
  goals: [
    ...ENTRY_ROWS.map((wanted) => goalOf(wanted, "µs of CPU per entry", ({ cpuUs }) => cpuUs)),
    ...LEASE_ROWS.map((wanted) => goalOf(wanted, "µs of CPU per lease", ({ cpuUs }) => cpuUs)),
    ...ENTRY_ROWS.filter(({ row }) => row === lones || row === alone).map(p50Goal),
    ...underLoadGoals(underLoad),
    h2loadGoal(checks, {
      name: `${TAKEN_OVER}, compared with etcd, a lease, and a put not under it, which writes a new revision; load from h2load`,
      atLeast: 2,
    }),
  ],
  notes: [
    `Register: new keys, ${BATCH} per request with ${IN_FLIGHT} requests in flight, or one per request with ${SINGLE_IN_FLIGHT} in flight, on 4 connections for both sides, with the same number of bytes per entry. Each request creates a lease: etcd gets the lease first and then the keys under it, and writes each of the two calls through Raft. Every lease lasts an hour on both sides, so none ends during the measurement.`,
    `Changes: ${cellText(LEASES)} entries, each under its own lease, are changed in turn, with one request to the Waymark node, which writes a new version of the entry, and one put to etcd under the key's lease. An entry has the same number of bytes on both sides. The goals of these rows are our own targets.`,
    `Renewals: one stream with ${AHEAD} messages in flight. A proxy for many programs can send ${LEASES_A_MESSAGE} leases in one message; a single program sends one. Each side is warmed up for ${WARM_MS} ms of its CPU time, and a round uses about ${ROUND_MS} ms of it or more. Every answer is checked for leases that were not renewed.`,
    `Rates: ${SINGLE_IN_FLIGHT} requests in flight is the full rate, one at a time the low rate. Between the two, only the number of requests that share one write to disk differs.`,
    "Other drivers repeat the same bytes over 4 connections with 64 requests in flight, and so only check our driver. On the Waymark node, a new lease takes over the same entry each time, and its record does not change. In etcd, a lease is created and a key is put, equally often but independent of each other, and the put writes a new revision. ghz's latencies with etcd are for either call. etcd's own benchmark only puts random keys.",
    "Both make a change durable with a disk flush before they answer, and batch the changes that arrive meanwhile, on the same disk. Neither makes renewals durable.",
    "In favour of etcd: it does not check content. In Waymark's favour: etcd runs Raft, with one member, on each write, and Waymark does not; etcd writes history and an index of revisions; and it makes the lease durable by itself.",
  ],
});
