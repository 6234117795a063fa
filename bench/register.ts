/**
 * What does it cost to register and to stay registered, with every batch on disk before its answer? Beside etcd's put and
 * lease keepalive. `npm run bench -- register [--entries 50000] [--rounds 5]`. Measured on the disk the project lies on.
 */
import { closeSync, fdatasyncSync, openSync, writeSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { field } from "./_frames.ts";
import { type Node, neighbourShare, pinSelf, type Running, scratchDir, startEtcd, startNode } from "./_processes.ts";
import { type Goal, paired, percentile, quiet, ratioOf, report, round, spread } from "./_results.ts";
import { Wire } from "./_wire.ts";
import { drive, etcdPut, etcdTxn, fail, leaseIn, PATH, registerBytes, type Sizes, sizesOf } from "./_work.ts";

const { values } = parseArgs({ options: { entries: { type: "string", default: "50000" }, rounds: { type: "string", default: "5" } } });
const ENTRIES = Number(values.entries);
const ROUNDS = Number(values.rounds);
const BATCH = 100;
const IN_FLIGHT = 8;
/** Of requests with one key each, at either peer. */
const SINGLE_IN_FLIGHT = 64;
const LONE = 500;
const LEASES = 10_000;
const LEASES_A_MESSAGE = 1000;

interface Cost {
  /** Per entry or lease. */
  readonly cpuUs: number;
  readonly perSecond: number;
}

/** What both peers are asked for: `entries` keys, `batch` a request, `inFlight` requests under way. */
interface Load {
  readonly entries: number;
  readonly batch: number;
  readonly inFlight: number;
}

async function cost(server: Running, count: number, work: () => Promise<unknown>): Promise<Cost> {
  const [cpuMs, startMs] = [server.cpuMs(), performance.now()];
  await work();
  return { cpuUs: ((server.cpuMs() - cpuMs) * 1000) / count, perSecond: count / ((performance.now() - startMs) / 1000) };
}

/** New keys, `batch` a request. */
function register(node: Node, from: number, { entries, batch, inFlight }: Load): Promise<Cost> {
  const message = (i: number) => registerBytes(from + i * batch, from + (i + 1) * batch, { isStatic: false });
  return cost(node, entries, () => drive(node, PATH.register, { count: entries / batch, inFlight, connections: 4, message }));
}

/** The same with etcd: a transaction of `batch` puts, or a put. */
function put(etcd: Running, from: number, { entries, batch, inFlight }: Load, { etcdValue }: Sizes): Promise<Cost> {
  const first = (i: number) => from + i * batch;
  const [path, message] =
    batch === 1
      ? [PATH.etcdPut, (i: number) => etcdPut(first(i), etcdValue)]
      : [PATH.etcdTxn, (i: number) => etcdTxn(first(i), first(i + 1), etcdValue)];
  return cost(etcd, entries, () => drive(etcd, path, { count: entries / batch, inFlight, connections: 4, message }));
}

/** One at a time: ms each. */
async function lone(server: Running, path: string, message: (i: number) => Uint8Array): Promise<readonly number[]> {
  const tookMs: number[] = [];
  await drive(server, path, { count: LONE, inFlight: 1, message, onAnswer: (_, ms) => tookMs.push(ms) });
  return tookMs;
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

async function nodeLeases(node: Node): Promise<readonly Uint8Array[]> {
  const ids: string[] = [];
  const message = (i: number) => registerBytes(i, i + 1, { isStatic: false, version: 1 });
  await drive(node, PATH.register, { count: LEASES, inFlight: 64, message, onAnswer: (answer) => ids.push(leaseIn(answer)) });
  return ids.map((id) => field(1, id));
}

/** `count` messages as one: fields that may repeat. */
function together(messages: readonly Uint8Array[], count: number): readonly Uint8Array[] {
  return Array.from({ length: messages.length / count }, (_, i) => Buffer.concat(messages.slice(i * count, (i + 1) * count)));
}

async function etcdLeases(etcd: Running): Promise<readonly Uint8Array[]> {
  const messages: Uint8Array[] = [];
  // LeaseGrant: ttl 3600 s, id of our choice; LeaseKeepAlive: id.
  const message = (i: number) => Buffer.concat([field(1, 3600), field(2, i + 1)]);
  await drive(etcd, PATH.etcdGrant, { count: LEASES, inFlight: 64, message });
  for (let i = 0; i < LEASES; i++) messages.push(field(1, i + 1));
  return messages;
}

function repeated(messages: readonly Uint8Array[], times: number): readonly Uint8Array[] {
  return Array.from({ length: times }, () => messages).flat();
}

interface Row {
  readonly work: string;
  readonly ours: readonly Cost[];
  readonly theirs: readonly Cost[];
}

function rowOf({ work, ours, theirs }: Row) {
  const perCpu = ({ cpuUs }: Cost) => 1e6 / cpuUs;
  const none = theirs.length === 0;
  const noPeer = etcd === undefined ? "no verdict: needs etcd" : "etcd has no such message";
  return {
    work,
    "CPU µs": spread(ours.map((r) => r.cpuUs)),
    "etcd's CPU µs": none ? "-" : spread(theirs.map((r) => r.cpuUs)),
    "ratio a CPU-second": ratioOf(ours.map(perCpu), theirs.map(perCpu)) ?? noPeer,
    "a second": spread(ours.map((r) => r.perSecond)),
    "etcd's a second": none ? "-" : spread(theirs.map((r) => r.perSecond)),
  };
}

function lonely(work: string, tookMs: readonly number[]) {
  return { work, "p50 ms": percentile(tookMs, 0.5), "p99 ms": percentile(tookMs, 0.99), "most ms": round(Math.max(...tookMs)) };
}

pinSelf();
const [node, etcd] = [await startNode({ dataDir: scratchDir("node") }), await startEtcd()];
await drive(node, PATH.register, { count: 1, inFlight: 1, message: () => registerBytes(0, 10) });
const sizes = await sizesOf(node, etcd);
let place = 0;
const next = () => (place += ENTRIES);

/** Paired rounds of one load at both. */
async function atBoth(load: Load) {
  await register(node, next(), load);
  return paired(ROUNDS, () => register(node, next(), load), etcd && (() => put(etcd, next(), load, sizes)));
}

const batches = await atBoth({ entries: ENTRIES, batch: BATCH, inFlight: IN_FLIGHT });
const singles = await atBoth({ entries: ENTRIES / 5, batch: 1, inFlight: SINGLE_IN_FLIGHT });
const ourLeases = await nodeLeases(node);
const theirLeases = etcd === undefined ? [] : await etcdLeases(etcd);
const renewed = (server: Running, path: string, messages: readonly Uint8Array[], times: number) =>
  cost(server, LEASES * times, () => overStream(server, path, repeated(messages, times)));
const renewals = await paired(
  ROUNDS,
  () => renewed(node, PATH.keepAlive, ourLeases, 2),
  etcd && (() => renewed(etcd, PATH.etcdKeepAlive, theirLeases, 2)),
);
const ofThousand = together(ourLeases, LEASES_A_MESSAGE);
const manyRenewals = await paired(ROUNDS, () => renewed(node, PATH.keepAlive, ofThousand, 20), undefined);
let loneMs: readonly number[] = [];
let theirLoneMs: readonly number[] = [];
let diskMs: readonly number[] = [];
const others = await neighbourShare([node, etcd], async () => {
  loneMs = await lone(node, PATH.register, (i) => registerBytes(i, i + 1, { version: 2 + i, isStatic: false }));
  if (etcd !== undefined) theirLoneMs = await lone(etcd, PATH.etcdPut, (i) => etcdPut(i, sizes.etcdValue));
  diskMs = fsyncMs();
});
await Promise.all([node.stop(), etcd?.stop()]);

const diskP99 = percentile(diskMs, 0.99);
const rows = [
  rowOf({ work: `an entry, ${BATCH} a request (etcd: a transaction of ${BATCH} puts)`, ours: batches.a, theirs: batches.b }),
  rowOf({ work: "an entry, one a request (etcd: a put)", ours: singles.a, theirs: singles.b }),
  rowOf({ work: "renew a lease over one stream, one a message", ours: renewals.a, theirs: renewals.b }),
  rowOf({ work: `renew a lease over one stream, ${LEASES_A_MESSAGE} a message`, ours: manyRenewals.a, theirs: [] }),
];
const waits = [
  lonely("a lone register", loneMs),
  ...(etcd === undefined ? [] : [lonely("etcd: a lone put", theirLoneMs)]),
  lonely("fdatasync of 4 KiB", diskMs),
];
const entriesPerSecond = rows[0]?.["a second"].median ?? fail();
const renewalsPerSecond = rows[3]?.["a second"].median ?? fail();
const goals: readonly Goal[] = [
  quiet({ name: "register with persistence, entries", value: entriesPerSecond, unit: "a second", atLeast: 40_000 }, others),
  quiet({ name: "lone register, p99", value: percentile(loneMs, 0.99), unit: "ms", atMost: round(5 + diskP99) }, others),
  quiet(
    { name: `renewals over KeepAlive, ${LEASES_A_MESSAGE} leases a message`, value: renewalsPerSecond, unit: "a second", atLeast: 200_000 },
    others,
  ),
];
report({
  name: "register",
  tables: { "entries and leases": rows, "one at a time": waits.map((row) => ({ ...row, "others' share of the core": round(others) })) },
  goals,
  notes: [
    `Register: new keys, ${BATCH} a request with ${IN_FLIGHT} requests under way, or one with ${SINGLE_IN_FLIGHT}, on 4 connections at both peers; as many bytes an entry. Each of our requests makes a lease, etcd's puts are without.`,
    `Renewals: one stream, ${IN_FLIGHT} messages ahead; ${LEASES_A_MESSAGE} leases in one message is what a proxy for many programs may send, a program of its own sends one.`,
    "Both make a change durable with fdatasync before they answer, and gather what came meanwhile; both on the disk the project lies on. Renewals are durable at neither.",
    "For etcd: it checks no content and makes no lease. For us: it writes history and an index of revisions, and takes part in Raft, alone.",
  ],
});
