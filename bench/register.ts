/**
 * What does it cost to register and to stay registered, with every batch on disk before its answer? Beside etcd's lease, put and keepalive, and
 * renewals also beside a bare node:http2 server that answers as many bytes; a lone register under drivers that are not ours too.
 * `npm run bench -- register [--entries 50000] [--rounds 5]`; it takes about three minutes. Measured on the disk the project lies on.
 */
import { closeSync, fdatasyncSync, openSync, writeSync } from "node:fs";
import { join } from "node:path";
import { argsOf } from "./_args.ts";
import { h2loadGoal, underOtherDrivers } from "./_drivers.ts";
import { field } from "./_frames.ts";
import { type Node, neighbourShare, pinSelf, type Running, scratchDir, startEcho, startNode } from "./_processes.ts";
import { type Goal, paired, percentile, quiet, ratioOf, report, round, spread } from "./_results.ts";
import { Wire } from "./_wire.ts";
import { type Driven, drive, driveAll, fail, leaseIn, PATH, registerBytes } from "./_work.ts";
import { sizesOf, startEtcd } from "./adapters/etcd.ts";
import { ETCD_PATH, etcdGrant, etcdPut, etcdTxn } from "./adapters/etcd-messages.ts";

const values = argsOf({ entries: 50_000, rounds: 5 });
const ENTRIES = values.entries;
const ROUNDS = values.rounds;
const BATCH = 100;
const IN_FLIGHT = 8;
/** Of requests with one key each, at either peer. */
const SINGLE_IN_FLIGHT = 64;
const LONE = 500;
const LEASES = 10_000;
const LEASES_A_MESSAGE = 1000;
/** What our node answers to a message with one lease: an id and a number of ms. */
const ECHO_BYTES = 32;
/** How a lone entry and a batch are told apart in the rows. */
const WORK = {
  batch: `an entry, ${BATCH} a request under one lease`,
  single: `an entry with its lease, one a request, ${SINGLE_IN_FLIGHT} under way`,
  lone: "an entry with its lease, one at a time",
  renewal: "renew a lease over one stream, one a message",
  renewals: `renew a lease over one stream, ${LEASES_A_MESSAGE} a message`,
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

let place = 0;

/** New keys at one peer. */
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

/** Sends every message on one stream, a few ahead of the answers. */
async function overStream(server: Running, path: string, messages: readonly Uint8Array[]): Promise<void> {
  const wire = await Wire.open(server.grpc);
  await new Promise<void>((resolve, reject) => {
    let sent = 0;
    let answered = 0;
    const stream = wire.stream(path, {
      onMessage: () => {
        answered += 1;
        if (answered === messages.length) resolve();
        else sendNext();
      },
      onEnd: () => reject(new Error(`${path} ended`)),
    });
    const sendNext = () => {
      const message = messages[sent++];
      if (message !== undefined) stream.send(message);
    };
    for (let i = 0; i < IN_FLIGHT; i++) sendNext();
  });
  wire.close();
}

async function nodeLeases(server: Node): Promise<readonly Uint8Array[]> {
  const ids: string[] = [];
  const message = (i: number) => registerBytes(i, i + 1, { isStatic: false, version: 1 });
  await drive(server, PATH.register, { count: LEASES, inFlight: 64, message, onAnswer: (answer) => ids.push(leaseIn(answer)) });
  return ids.map((id) => field(1, id));
}

/** `count` messages as one: fields that may repeat. */
function together(messages: readonly Uint8Array[], count: number): readonly Uint8Array[] {
  return Array.from({ length: messages.length / count }, (_, i) => Buffer.concat(messages.slice(i * count, (i + 1) * count)));
}

/** Leases with ids beyond those of registrations. */
async function etcdLeases(server: Running): Promise<readonly Uint8Array[]> {
  const first = 1_000_000_000;
  await drive(server, ETCD_PATH.grant, { count: LEASES, inFlight: 64, message: (i) => etcdGrant(first + i) });
  return Array.from({ length: LEASES }, (_, i) => field(1, first + i));
}

function repeated(messages: readonly Uint8Array[], times: number): readonly Uint8Array[] {
  return Array.from({ length: times }, () => messages).flat();
}

function renewed(server: Running, path: string, messages: readonly Uint8Array[], times: number): Promise<Cost> {
  return cost(server, LEASES * times, () => overStream(server, path, repeated(messages, times)));
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
  const p50 = (costs: readonly Cost[]) => {
    const all = costs.flatMap(({ tookMs }) => tookMs);
    return all.length === 0 ? "-" : percentile(all, 0.5);
  };
  const isMeasured = theirs.length > 0;
  return {
    work,
    peer,
    "CPU µs": spread(ours.map(({ cpuUs }) => cpuUs)),
    "peer's CPU µs": isMeasured ? spread(theirs.map(({ cpuUs }) => cpuUs)) : "-",
    "ours does": isMeasured ? ratioIn(row) : "not measured",
    "a second": spread(ours.map(({ perSecond }) => perSecond)),
    "peer's a second": isMeasured ? spread(theirs.map(({ perSecond }) => perSecond)) : "-",
    "p50 ms": p50(ours),
    "peer's p50 ms": p50(theirs),
  };
}

function lonely(work: string, tookMs: readonly number[]) {
  return { work, "p50 ms": percentile(tookMs, 0.5), "p99 ms": percentile(tookMs, 0.99), "most ms": round(Math.max(...tookMs)) };
}

pinSelf();
const [node, etcd, echo] = [await startNode({ dataDir: scratchDir("node") }), await startEtcd(), await startEcho(ECHO_BYTES)];
await drive(node, PATH.register, { count: 1, inFlight: 1, message: () => registerBytes(0, 10) });
const { etcdValue } = await sizesOf(node, etcd);

/** Rounds before those that count: Node has compiled the path of a request after some 20,000 of them. */
const WARM_ROUNDS = 3;

/** Paired rounds of one load at both. */
async function atBoth(work: string, load: Load): Promise<Row> {
  console.error(work);
  const theirs = etcd && (() => registered(etcd, load, atEtcd(etcdValue)));
  for (let r = 0; r < WARM_ROUNDS; r++) {
    await registered(node, load, atNode);
    await theirs?.();
  }
  const { a, b } = await paired(ROUNDS, () => registered(node, load, atNode), theirs);
  return { work, peer: "etcd: a lease, and a put or a transaction of puts", ours: a, theirs: b };
}

// First, so that the path of a request is compiled when fewer requests follow.
const singles = await atBoth(WORK.single, { entries: ENTRIES / 5, batch: 1, inFlight: SINGLE_IN_FLIGHT, connections: 4 });
const batches = await atBoth(WORK.batch, { entries: ENTRIES, batch: BATCH, inFlight: IN_FLIGHT, connections: 4 });
let lones: Row | undefined;
let diskMs: readonly number[] = [];
const others = await neighbourShare([node, etcd], async () => {
  lones = await atBoth(WORK.lone, { entries: LONE, batch: 1, inFlight: 1, connections: 1 });
  diskMs = fsyncMs();
});
const ourLeases = await nodeLeases(node);
const theirLeases = etcd === undefined ? [] : await etcdLeases(etcd);
const renewal = () => renewed(node, PATH.keepAlive, ourLeases, 2);
console.error(WORK.renewal);
await renewal();
const besideEtcd = await paired(ROUNDS, renewal, etcd && (() => renewed(etcd, ETCD_PATH.keepAlive, theirLeases, 2)));
const besideEcho = await paired(ROUNDS, renewal, () => renewed(echo, PATH.keepAlive, ourLeases, 2));
const ofThousand = together(ourLeases, LEASES_A_MESSAGE);
// etcd has no such message: it is asked for one lease a message here too.
const many = await paired(
  ROUNDS,
  () => renewed(node, PATH.keepAlive, ofThousand, 20),
  etcd && (() => renewed(etcd, ETCD_PATH.keepAlive, theirLeases, 2)),
);
// A request makes a lease for the same entry again and again: bytes that any driver can repeat. At etcd the lease and the put are calls of their own.
const lone = { server: node, calls: [{ path: PATH.register, message: registerBytes(0, 1, { isStatic: false }) }] };
const putBytes = ["put", "--key-size=24", `--val-size=${etcdValue.length}`];
const loneAtEtcd = etcd && {
  server: etcd,
  calls: [
    { path: ETCD_PATH.grant, message: etcdGrant(0) },
    { path: ETCD_PATH.put, message: etcdPut(0, etcdValue), etcdBenchmark: putBytes },
  ],
};
const checks = await underOtherDrivers(WORK.single, loneAtEtcd === undefined ? [lone] : [lone, loneAtEtcd], { rounds: 3, count: 5000 });
await Promise.all([node.stop(), etcd?.stop(), echo.stop()]);

const rows: readonly Row[] = [
  batches,
  singles,
  ...(lones === undefined ? [] : [lones]),
  { work: WORK.renewal, peer: "etcd, one a message", ours: besideEtcd.a, theirs: besideEtcd.b },
  { work: WORK.renewal, peer: "a bare node:http2 answer to the same bytes", ours: besideEcho.a, theirs: besideEcho.b },
  { work: WORK.renewals, peer: "etcd, one a message", ours: many.a, theirs: many.b },
];
const told = rows.map(rowOf);
const ETCD = "etcd, a lease and a put under it";
const BATCHED = "etcd, a lease and one transaction under it";
const LONE_WORK = "a durable registration of one entry with its lease";
const RENEWAL = "a renewed lease, one in each message of a stream";
/** Each: what is done, the peer in words, the row that shows it, and what is wanted. */
const GOALS = [
  [`a durable registration of ${BATCH} entries under one lease`, BATCHED, 0, 1.2],
  [`${LONE_WORK}, ${SINGLE_IN_FLIGHT} under way`, ETCD, 1, 2],
  [`${LONE_WORK}, one at a time`, ETCD, 2, 1.1],
  [RENEWAL, "etcd, one in each message", 3, 1.3],
  [RENEWAL, "a bare node:http2 server, an answer to the same bytes", 4, round(1 / 1.5)],
  ["a renewed lease, 1,000 in each message of a stream", "etcd, one in each message", 5, 23],
] as const;
function goalOf([work, beside, i, atLeast]: (typeof GOALS)[number]): Goal {
  const row = rows[i] ?? fail();
  const ratio = ratioIn(row);
  const goal = { name: `${work}, beside ${beside}`, value: ratio?.median, unit: "×", atLeast };
  if (ratio === undefined) return { ...goal, note: "not measured: the peer is not installed" };
  const unit = i < 3 ? "µs of CPU for each entry" : "µs of CPU for each lease";
  const cpuUs = (costs: readonly Cost[]) => spread(costs.map((each) => each.cpuUs));
  return { ...goal, shown: { work, beside, unit, ours: cpuUs(row.ours), theirs: cpuUs(row.theirs), ratio } };
}

/** What a caller waits for. */
function p50Goal({ ours, theirs }: Row): Goal {
  const p50s = (costs: readonly Cost[]) => costs.map(({ tookMs }) => percentile(tookMs, 0.5));
  const ratio = ratioOf(p50s(theirs), p50s(ours).slice(0, theirs.length));
  const work = `${LONE_WORK}, one at a time: how long it takes`;
  const goal = { name: `${work}, beside ${ETCD}`, unit: "×", atLeast: 1 };
  if (theirs.length === 0 || ratio === undefined) return { ...goal, value: undefined, note: "not measured: the peer is not installed" };
  const shown = { work, beside: ETCD, unit: "ms until the answer, p50", ours: spread(p50s(ours)), theirs: spread(p50s(theirs)), ratio };
  return { ...goal, value: ratio.median, shown };
}
const underH2load = { work: `${LONE_WORK}, the load from h2load`, beside: "etcd, a lease and a put", unit: "µs of CPU for each entry" };

report({
  name: "register",
  isKept: ENTRIES >= 50_000 && ROUNDS >= 5,
  tables: {
    "entries and leases": told,
    "one at a time": [lonely("fdatasync of 4 KiB on this disk", diskMs)].map((row) => ({
      ...row,
      "others' share of the core": round(others),
    })),
    "the same work under drivers that are not ours": checks.map((row) => ({ ...row })),
  },
  goals: [
    ...GOALS.map(goalOf),
    quiet(p50Goal(lones ?? fail()), others),
    h2loadGoal(checks, "lone durable register with its lease beside etcd, the load from h2load", 2, underH2load),
  ],
  notes: [
    `Register: new keys, ${BATCH} a request with ${IN_FLIGHT} requests under way, or one with ${SINGLE_IN_FLIGHT}, on 4 connections at both peers; as many bytes an entry. A request makes a lease at either: etcd is asked for the lease first, then for what is under it.`,
    `Renewals: one stream, ${IN_FLIGHT} messages ahead; ${LEASES_A_MESSAGE} leases in one message is what a proxy for many programs may send, a program of its own sends one.`,
    `Rates: ${SINGLE_IN_FLIGHT} requests under way is the full rate, one at a time the low one. Between the two, only how many requests share one write to disk differs.`,
    "Drivers that are not ours repeat the same bytes over 4 connections with 64 under way: an entry that is taken over by a new lease each time. At etcd a lease is made and a key is put, each as often, but not one under the other. ghz's latencies at etcd are those of either call. etcd's own benchmark only puts, keys at random.",
    "Both make a change durable with fdatasync before they answer, and gather what came meanwhile; both on the disk the project lies on. Renewals are durable at neither.",
    "For etcd: it checks no content. For us: it writes history and an index of revisions, and takes part in Raft, alone; and it makes the lease durable by itself.",
  ],
});
