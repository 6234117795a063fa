/**
 * What does a read cost? An exact service (10 entries) and a page of 100 beside etcd's serializable range of as many bytes, at 10,000 entries
 * and at a million; an exact service through gRPC and through HTTP/JSON beside Consul's health endpoint, for as many entries and as many
 * bytes; the same exact query under drivers that are not ours. `npm run bench -- query [--sizes 10000,1000000] [--rounds 5] [--seconds 1]
 * [--only etcd,drivers,consul]`; it takes about ten minutes. More sizes and longer rounds are for a closer look.
 */
import { argsOf, asksForAll } from "./_args.ts";
import { type CheckRow, h2loadGoal, underOtherDrivers } from "./_drivers.ts";
import { areEqual, lengthOf } from "./_lengths.ts";
import { listenerOf, pinSelf, type Running, startEcho, startNode } from "./_processes.ts";
import {
  type Asked,
  besideGoal,
  compareAtRates,
  grpcAsked,
  httpAsked,
  ONE_A_CONNECTION,
  OVER_FOUR,
  type RateOptions,
  type RateRow,
  rateText,
  type Spreading,
} from "./_rates.ts";
import { cellText, type Goal, report } from "./_results.ts";
import {
  ask,
  exactJson,
  exactQuery,
  fail,
  INSTANCES,
  itemsIn,
  loadNode,
  loadSmall,
  NAMESPACE,
  PATH,
  pageQuery,
  SMALL,
  scattered,
  smallNamespace,
  tagQuery,
} from "./_work.ts";
import { type ConsulReading, consulHealth, loadConsul, startConsul } from "./adapters/consul.ts";
import { loadEtcd, loadEtcdSmall, sizesOf, startEtcd } from "./adapters/etcd.ts";
import { ETCD_PATH, etcdExact, etcdRange } from "./adapters/etcd-messages.ts";

const DEFAULTS = { sizes: [10_000, 1_000_000], rounds: 5, seconds: 1, only: ["etcd", "drivers", "consul"] };
const values = argsOf(DEFAULTS);
const SIZES = values.sizes;
const RATES: RateOptions = { rounds: values.rounds, seconds: values.seconds, lowPerSecond: 3000 };
const FULL: RateOptions = { ...RATES, rates: ["full"] };
const PARTS = values.only;
const unknown = PARTS.filter((part) => !DEFAULTS.only.includes(part));
if (unknown.length > 0) {
  console.error(
    `query: there is no part ${unknown.map((part) => JSON.stringify(part)).join(", ")}; there are: ${DEFAULTS.only.join(", ")}`,
  );
  process.exit(2);
}
/** Entries beside Consul: it takes a millisecond to register one. */
const CONSUL_ENTRIES = 10_000;

const WORK = {
  exact: (entries: number) => `exact, ${entries} entries`,
  lone: (entries: number) => `exact over 64 connections, one call each, ${entries} entries`,
  page: (entries: number) => `page of 100 in a small namespace, ${entries} entries`,
  tag: (entries: number) => `by tag, ${entries} entries`,
  grpc: `exact through gRPC over 64 connections, compared with Consul, ${CONSUL_ENTRIES} entries`,
  grpcOverFour: `exact through gRPC over 4 connections, ${CONSUL_ENTRIES} entries`,
  http: `exact through HTTP/JSON, equal entries, ${CONSUL_ENTRIES} entries`,
  bytes: `exact through HTTP/JSON, equal bytes, ${CONSUL_ENTRIES} entries`,
} as const;

const rows: RateRow[] = [];
const checks: CheckRow[] = [];

async function mustHave(server: Running, path: string, message: Uint8Array, items: number): Promise<void> {
  const found = itemsIn(server, await ask(server, path, message));
  if (found !== items) throw new Error(`${server.name}: ${found} items where ${items} are asked for`);
}

async function besideEtcd(entries: number, isFirst: boolean): Promise<void> {
  const [node, etcd] = [await startNode(), await startEtcd()];
  await loadNode(node, Math.min(entries, 1000));
  const sizes = await sizesOf(node, etcd);
  await loadNode(node, entries, 1000);
  await loadSmall(node);
  if (etcd !== undefined) {
    await loadEtcd(etcd, entries, sizes);
    await loadEtcdSmall(etcd, sizes);
  }
  const services = entries / INSTANCES;
  const small = (i: number) => smallNamespace(scattered(i, SMALL.namespaces));
  const exact = (i: number) => exactQuery(scattered(i, services));
  const [ourPage, theirPage] = [(i: number) => pageQuery(100, small(i)), (i: number) => etcdRange(`/${small(i)}/`, 100)];
  await mustHave(node, PATH.query, exact(0), INSTANCES);
  await mustHave(node, PATH.query, ourPage(0), 100);
  await mustHave(node, PATH.query, tagQuery(1, 10), 10);
  if (etcd !== undefined) await mustHave(etcd, ETCD_PATH.range, theirPage(0), 100);
  const sides = (ours: (i: number) => Uint8Array, theirs: (i: number) => Uint8Array, spreading = OVER_FOUR): readonly Asked[] => [
    grpcAsked(node, PATH.query, ours, spreading),
    ...(etcd === undefined ? [] : [grpcAsked(etcd, ETCD_PATH.range, theirs, spreading)]),
  ];
  const theirExact = (i: number) => etcdExact(scattered(i, services));
  if (PARTS.includes("etcd")) {
    const rates = isFirst ? RATES : FULL;
    // What no answer over Node's HTTP/2 is cheaper than.
    const bare = isFirst ? [await startEcho((await ask(node, PATH.query, exact(0))).length)] : [];
    const floor = (spreading: Spreading) =>
      bare.map((echo) => ({ ...grpcAsked(echo, PATH.query, exact, spreading), who: "a bare node:http2 server" }));
    rows.push(...(await compareAtRates(WORK.exact(entries), [...sides(exact, theirExact), ...floor(OVER_FOUR)], rates)));
    const lone = [...sides(exact, theirExact, ONE_A_CONNECTION), ...floor(ONE_A_CONNECTION)];
    rows.push(...(await compareAtRates(WORK.lone(entries), lone, FULL)));
    for (const echo of bare) await echo.stop();
    rows.push(...(await compareAtRates(WORK.page(entries), sides(ourPage, theirPage), rates)));
    // etcd has no such query: it would read the whole prefix.
    if (isFirst) rows.push(...(await compareAtRates(WORK.tag(entries), [grpcAsked(node, PATH.query, () => tagQuery(1, 10))], FULL)));
  }
  if (isFirst && PARTS.includes("drivers")) {
    const ours = { server: node, calls: [{ path: PATH.query, message: exactQuery(7) }] };
    const etcdBenchmark = ["range", `/${NAMESPACE}/service-7/`, `/${NAMESPACE}/service-70`, "--consistency=s"];
    const call = { path: ETCD_PATH.range, message: etcdExact(7), etcdBenchmark };
    const theirs = etcd === undefined ? [] : [{ server: etcd, calls: [call] }];
    const options = { rounds: Math.min(3, RATES.rounds), count: 20_000 };
    checks.push(...(await underOtherDrivers("one exact query, repeated", [ours, ...theirs], options)));
  }
  await Promise.all([node.stop(), etcd?.stop()]);
}

interface ConsulSide {
  /** Bytes of an answer at our listener and at Consul's. */
  readonly ourBytes: number;
  readonly theirBytes: number;
  readonly notes: readonly string[];
}

async function besideConsul(): Promise<ConsulSide | undefined> {
  const services = CONSUL_ENTRIES / INSTANCES;
  const consul = await startConsul();
  const node = await startNode();
  await loadNode(node, CONSUL_ENTRIES);
  if (consul !== undefined) await loadConsul(consul, CONSUL_ENTRIES);
  const theirs = (reading: ConsulReading) =>
    consul === undefined
      ? []
      : [httpAsked(consul, consul.grpc, (i) => ({ path: consulHealth(scattered(i, services), reading) }), `consul, ${reading}`)];
  const peers = [...theirs("stale"), ...theirs("cached")];
  const json = (i: number) => ({ path: PATH.query, body: exactJson(scattered(i, services)) });
  const exact = (i: number) => exactQuery(scattered(i, services));
  await mustHave(node, PATH.query, exact(0), INSTANCES);
  const ourBytes = await lengthOf(listenerOf(node, "http"), json(0));
  rows.push(...(await compareAtRates(WORK.grpc, [grpcAsked(node, PATH.query, exact, ONE_A_CONNECTION), ...peers], RATES)));
  rows.push(...(await compareAtRates(WORK.grpcOverFour, [grpcAsked(node, PATH.query, exact), ...peers], RATES)));
  rows.push(...(await compareAtRates(WORK.http, [httpAsked(node, listenerOf(node, "http"), json, "waymark"), ...peers], RATES)));
  if (consul === undefined) {
    await node.stop();
    return undefined;
  }
  const theirBytes = await lengthOf(consul.grpc, { path: consulHealth(0, "stale") });
  if ((await lengthOf(consul.grpc, { path: consulHealth(0, "cached") })) !== theirBytes) fail();
  const told = `An answer over HTTP/JSON has ${ourBytes} bytes, and Consul's answer with the same entries ${theirBytes}`;
  if (areEqual(ourBytes, theirBytes)) {
    await Promise.all([node.stop(), consul.stop()]);
    return { ourBytes, theirBytes, notes: [`${told}: equal within 2 %, so rows with equal entries are also rows with equal bytes.`] };
  }
  const missing = Math.round(Math.abs(ourBytes - theirBytes) / INSTANCES);
  const isOursLonger = ourBytes > theirBytes;
  if (isOursLonger) await loadConsul(consul, CONSUL_ENTRIES, Math.max(1, missing - '"padding":""'.length));
  else await loadNode(node, CONSUL_ENTRIES, 0, { padding: Math.max(1, missing - '"metadata":{"padding":""},'.length) });
  const [ours, peer] = [await lengthOf(listenerOf(node, "http"), json(0)), await lengthOf(consul.grpc, { path: consulHealth(0, "stale") })];
  if (!areEqual(ours, peer)) throw new Error(`answers of ${ours} and ${peer} bytes were to be equally long`);
  rows.push(...(await compareAtRates(WORK.bytes, [httpAsked(node, listenerOf(node, "http"), json, "waymark"), ...peers], RATES)));
  await Promise.all([node.stop(), consul.stop()]);
  const longer = isOursLonger ? "Consul's" : "ours";
  return { ourBytes, theirBytes, notes: [`${told}; for equal bytes, metadata made ${longer} longer: ${ours} and ${peer}.`] };
}

pinSelf();
const first = SIZES[0] ?? fail();
if (PARTS.includes("etcd") || PARTS.includes("drivers")) for (const entries of SIZES) await besideEtcd(entries, entries === first);
const besideThem = PARTS.includes("consul") ? await besideConsul() : undefined;

const ETCD = "etcd, serializable range";
const CONSUL = "Consul, health endpoint over HTTP/1.1 and JSON";
const CONSUL_READINGS = ["stale", "cached"] as const;

function exactAmong(entries: number): string {
  return `an exact query of ${INSTANCES} entries among ${cellText(entries)}`;
}

/** What is wanted beside etcd, with as many entries. */
function etcdGoals(entries: number): readonly Goal[] {
  const beside = { program: "etcd", beside: ETCD } as const;
  const [row, exact] = [WORK.exact(entries), exactAmong(entries)];
  const page = `a page of 100 inside one of many namespaces, ${cellText(entries)} entries in total`;
  return [
    besideGoal(rows, { ...beside, work: `${exact}, 64 under way`, row, rate: "full", atLeast: 2 }),
    besideGoal(rows, {
      ...beside,
      work: `${exact} over 64 connections, one call at a time on each`,
      row: WORK.lone(entries),
      rate: "full",
      atLeast: 1.1,
    }),
    ...(entries === first
      ? [
          // Between the two, no less is wanted than where each comes alone.
          besideGoal(rows, { ...beside, work: `${exact}, at half of the full rate`, row, rate: "half", atLeast: 1.4 }),
          besideGoal(rows, {
            ...beside,
            name: `${exact}, one at a time`,
            work: `${exact}, one at a time, ${rateText(rows, row, "low")}`,
            row,
            rate: "low",
            atLeast: 1.4,
          }),
        ]
      : []),
    besideGoal(rows, {
      work: `${page}, 64 under way`,
      row: WORK.page(entries),
      program: "etcd",
      beside: `${ETCD} of that prefix`,
      rate: "full",
      atLeast: 3,
    }),
  ];
}

/** The same beside Consul's two kinds of read. `told`: what was measured of the answers. */
function consulGoals(work: string, row: string, atLeast: readonly [stale: number, cached: number], told = ""): readonly Goal[] {
  return CONSUL_READINGS.map((reading, i) =>
    besideGoal(rows, {
      name: `${work}, 64 under way`,
      work: `${work}${told}, 64 under way`,
      row,
      program: `consul, ${reading}`,
      beside: `${CONSUL}, ${reading}`,
      rate: "full",
      atLeast: atLeast[i] ?? fail(),
    }),
  );
}

const hasBytesRows = rows.some(({ work }) => work === WORK.bytes);
const lengths =
  besideThem === undefined ? "" : ` (an answer of ${cellText(besideThem.ourBytes)} bytes, Consul's ${cellText(besideThem.theirBytes)})`;
const amongTheirs = exactAmong(CONSUL_ENTRIES);
const goals: readonly Goal[] = [
  ...SIZES.flatMap(etcdGoals),
  ...consulGoals(`${amongTheirs} through gRPC over 4 connections, shared by calls`, WORK.grpcOverFour, [4.5, 4]),
  ...consulGoals(`${amongTheirs} through gRPC over 64 connections`, WORK.grpc, [4.5, 4]),
  ...consulGoals(`${amongTheirs} through HTTP/JSON`, WORK.http, [1.5, 1.1], lengths),
  ...(hasBytesRows ? consulGoals(`${amongTheirs} through HTTP/JSON, equal bytes in an answer`, WORK.bytes, [1.5, 1.1]) : []),
  h2loadGoal(checks, {
    name: "exact query beside etcd, load from h2load",
    atLeast: 2,
    shown: { work: `${exactAmong(first)}, load from h2load`, beside: ETCD, unit: "µs of CPU per request" },
  }),
];

report({
  name: "query",
  isKept: asksForAll(values, DEFAULTS),
  tables: {
    "CPU time per request": rows.map((row) => ({ ...row })),
    "the same work with other drivers": checks.map((row) => ({ ...row })),
  },
  goals,
  notes: [
    'Full: 64 requests in flight, gRPC over 4 connections, or over 64 where stated, and HTTP/1.1 over 64, since a connection carries one request at a time. Half: half of the rate that the slowest side answers at full load. Low: one request at a time, 3,000 a second, or a quarter of half if 3,000 would be more than two thirds of half. The column "requests a second" has the actual rate. The full rate has nearly twice as many rounds as the others, since it varies most. Latency is timed from the scheduled time of a request, at full load from sending it.',
    "Each request asks for a random service; every side gets a part of one sequence. Our driver is the same for all sides: it reads frames, or the end of an answer, from the bytes of the socket. One answer of each side is checked for its contents.",
    "Other drivers repeat a query for one service over 4 connections with 64 requests in flight. h2load posts the bytes that our driver posts, and the bytes of its answers are counted; ghz encodes requests itself; etcd's own benchmark reads the same range. They need more of a core than the servers do, so their latencies include a busy driver.",
    `A page is read from one of ${SMALL.namespaces} random namespaces of ${SMALL.entries} entries each; one more namespace has all other entries. etcd counts all keys of a range, also beyond its limit, so a range over a large namespace would cost it more.`,
    "Values in etcd are shorter than Waymark's entries by the size of etcd's own keys and revisions, so that answers are equally long.",
    ...(besideThem?.notes ?? []),
    "In favour of etcd and Consul: neither decodes a filter or checks a scope. In Waymark's favour: both write to disk and run Raft, and etcd keeps each revision until it is compacted; the Waymark node ran with --ephemeral, which does not affect a query.",
    "No side uses TLS. Peers run with GOMAXPROCS=1.",
  ],
});
