/**
 * What does a read cost? An exact service (10 entries) and a page of 100 beside etcd's serializable range of as many bytes, at 10,000 entries
 * and at a million; an exact service through gRPC and through HTTP/JSON beside Consul's health endpoint, for as many entries and for as many
 * bytes; the same exact query under drivers that are not ours. `npm run bench -- query [--sizes 10000,1000000] [--rounds 5] [--seconds 1]
 * [--only etcd,drivers,consul]`; it takes about seven minutes. More sizes and longer rounds are for a closer look.
 */
import { argsOf } from "./_args.ts";
import { type CheckRow, h2loadGoal, underOtherDrivers } from "./_drivers.ts";
import { HttpWire } from "./_http.ts";
import { type Node, pinSelf, type Running, startNode } from "./_processes.ts";
import { type Asked, besideGoal, compareAtRates, grpcAsked, httpAsked, type RateRow } from "./_rates.ts";
import { report } from "./_results.ts";
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

const values = argsOf({
  sizes: [10_000, 1_000_000],
  rounds: 5,
  seconds: 1,
  only: ["etcd", "drivers", "consul"],
});
const SIZES = values.sizes;
const RATES = { rounds: values.rounds, seconds: values.seconds, lowPerSecond: 3000 };
const PARTS = values.only;
/** A look at fewer sizes, or for less time, leaves the kept result as it is. */
const IS_WHOLE = SIZES.length >= 2 && RATES.rounds >= 5 && RATES.seconds >= 1 && PARTS.length >= 3;
/** Entries beside Consul: it takes a millisecond to register one. */
const CONSUL_ENTRIES = 10_000;

const WORK = {
  exact: (entries: number) => `exact, ${entries} entries`,
  page: (entries: number) => `page of 100 in a small namespace, ${entries} entries`,
  tag: (entries: number) => `by tag, ${entries} entries`,
  grpc: "exact through gRPC beside Consul",
  http: "exact through HTTP/JSON, equal entries",
  bytes: "exact through HTTP/JSON, equal bytes",
} as const;

const rows: RateRow[] = [];
const checks: CheckRow[] = [];

async function mustHave(server: Running, path: string, message: Uint8Array, items: number): Promise<void> {
  const found = itemsIn(server, await ask(server, path, message));
  if (found !== items) throw new Error(`${server.name}: ${found} items where ${items} are asked for`);
}

async function besideEtcd(entries: number, hasDrivers: boolean): Promise<void> {
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
  const sides = (ours: (i: number) => Uint8Array, theirs: (i: number) => Uint8Array): readonly Asked[] => [
    grpcAsked(node, PATH.query, ours),
    ...(etcd === undefined ? [] : [grpcAsked(etcd, ETCD_PATH.range, theirs)]),
  ];
  const theirExact = (i: number) => etcdExact(scattered(i, services));
  if (PARTS.includes("etcd")) {
    rows.push(...(await compareAtRates(WORK.exact(entries), sides(exact, theirExact), RATES)));
    rows.push(...(await compareAtRates(WORK.page(entries), sides(ourPage, theirPage), RATES)));
    // etcd has no such query: it would read the whole prefix.
    if (hasDrivers) rows.push(...(await compareAtRates(WORK.tag(entries), [grpcAsked(node, PATH.query, () => tagQuery(1, 10))], RATES)));
  }
  if (hasDrivers && PARTS.includes("drivers")) {
    const ours = { server: node, calls: [{ path: PATH.query, message: exactQuery(7) }] };
    const etcdBenchmark = ["range", `/${NAMESPACE}/service-7/`, `/${NAMESPACE}/service-70`, "--consistency=s"];
    const call = { path: ETCD_PATH.range, message: etcdExact(7), etcdBenchmark };
    const theirs = etcd === undefined ? [] : [{ server: etcd, calls: [call] }];
    const options = { rounds: Math.min(3, RATES.rounds), count: 20_000 };
    checks.push(...(await underOtherDrivers("one exact query again and again", [ours, ...theirs], options)));
  }
  await Promise.all([node.stop(), etcd?.stop()]);
}

function jsonDoor(node: Node): Running["grpc"] {
  const [host = "", port = ""] = (node.listeners["http"] ?? "").split(":");
  return { host, port: Number(port) };
}

async function lengthOf(at: Running["grpc"], request: Parameters<HttpWire["request"]>[0]): Promise<number> {
  const wire = await HttpWire.open(at);
  const answer = await wire.request(request);
  wire.close();
  return answer.length;
}

async function besideConsul(): Promise<readonly string[]> {
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
  const grpc = grpcAsked(node, PATH.query, (i) => exactQuery(scattered(i, services)));
  rows.push(...(await compareAtRates(WORK.grpc, [grpc, ...peers], RATES)));
  rows.push(...(await compareAtRates(WORK.http, [httpAsked(node, jsonDoor(node), json, "waymark"), ...peers], RATES)));
  const ourBytes = await lengthOf(jsonDoor(node), json(0));
  await node.stop();
  if (consul === undefined) return [`An answer through HTTP/JSON has ${ourBytes} bytes.`];
  const theirBytes = await lengthOf(consul.grpc, { path: consulHealth(0, "stale") });
  const wide = await startNode();
  await loadNode(wide, CONSUL_ENTRIES, 0, {
    padding: Math.max(1, Math.floor((theirBytes - ourBytes) / INSTANCES) - '"metadata":{"padding":""},'.length),
  });
  const wideBytes = await lengthOf(jsonDoor(wide), json(0));
  rows.push(
    ...(await compareAtRates(WORK.bytes, [httpAsked(wide, jsonDoor(wide), json, "waymark"), ...peers], { ...RATES, rates: ["full"] })),
  );
  await Promise.all([wide.stop(), consul.stop()]);
  return [`An answer through HTTP/JSON has ${ourBytes} bytes, for equal bytes ${wideBytes}; Consul's has ${theirBytes}.`];
}

pinSelf();
const first = SIZES[0] ?? fail();
if (PARTS.includes("etcd") || PARTS.includes("drivers")) for (const entries of SIZES) await besideEtcd(entries, entries === first);
const lengths = PARTS.includes("consul") ? await besideConsul() : [];

const EXACT = "an exact query of 10 entries";
const ETCD = "etcd, serializable range";
const [STALE, CACHED] = ["Consul, health endpoint, stale", "Consul, health endpoint, cached"];
/** Each: what is done, the row that shows it, the peer in that row, the peer in words, the rate, and what is wanted. */
const GOALS = [
  [`${EXACT}, 64 under way`, WORK.exact(first), "etcd", ETCD, "full", 2],
  // Between the two, no less is wanted than where each comes alone.
  [`${EXACT}, at half of the full rate`, WORK.exact(first), "etcd", ETCD, "half", 1.4],
  [`${EXACT}, each alone, 3,000 a second`, WORK.exact(first), "etcd", ETCD, "low", 1.4],
  ["a page of 100 inside one of many namespaces, 64 under way", WORK.page(first), "etcd", `${ETCD} of that prefix`, "full", 3],
  [`${EXACT} through gRPC, 64 under way`, WORK.grpc, "consul, stale", STALE, "full", 4.5],
  [`${EXACT} through gRPC, 64 under way`, WORK.grpc, "consul, cached", CACHED, "full", 4],
  [`${EXACT} through HTTP/JSON, 64 under way`, WORK.http, "consul, stale", STALE, "full", 1.5],
  [`${EXACT} through HTTP/JSON, 64 under way`, WORK.http, "consul, cached", CACHED, "full", 1.1],
  [
    "an exact query through HTTP/JSON with as many bytes in the answer as Consul's, 64 under way",
    WORK.bytes,
    "consul, stale",
    STALE,
    "full",
    1.5,
  ],
  [
    "an exact query through HTTP/JSON with as many bytes in the answer as Consul's, 64 under way",
    WORK.bytes,
    "consul, cached",
    CACHED,
    "full",
    1.1,
  ],
] as const;
const driven = { work: `${EXACT}, the load from h2load`, beside: ETCD, unit: "µs of CPU a request" };
report({
  name: "query",
  isKept: IS_WHOLE,
  tables: {
    "CPU time a request": rows.map((row) => ({ ...row })),
    "the same work under drivers that are not ours": checks.map((row) => ({ ...row })),
  },
  goals: [
    ...GOALS.map(([work, row, who, beside, rate, atLeast]) => besideGoal(rows, { work, row, who, beside, rate, atLeast })),
    h2loadGoal(checks, "exact query beside etcd, the load from h2load", 2, driven),
  ],
  notes: [
    `Full: 64 requests under way, gRPC over 4 connections, HTTP/1.1 over 64. Half: as many a second as half of what the slowest side answers at full load. Low: ${RATES.lowPerSecond} a second, each alone. Latency counts from when a request was due, at full load from when it was sent.`,
    "Each request asks for a service drawn at random; every side gets the same sequence. The driver is ours and the same for all: it reads frames, or an answer's end, from the socket's bytes.",
    "Drivers that are not ours ask for one service again and again, over 4 connections with 64 under way: h2load posts the bytes that our driver posts, ghz encodes them itself, and etcd's own benchmark reads the same range. They need more of a core than the servers do, so latencies there are also those of a driver that is busy.",
    `A page is read from one of ${SMALL.namespaces} namespaces of ${SMALL.entries} entries each, drawn at random, which stand beside one with all others. etcd counts whatever a range covers, beyond its limit too, so a range over a large namespace would cost it more.`,
    "Values in etcd are shorter than our entries by what its own keys and revisions take, so that answers are equally long.",
    ...lengths,
    "For etcd and Consul: neither decodes a filter or checks a scope. For us: both write to disk and keep history, and run Raft; our node ran --ephemeral, which a query does not touch.",
    "No TLS on any side. Peers run with GOMAXPROCS=1.",
  ],
});
