/**
 * What does a read cost? An exact service (10 entries) and a page of 100 beside etcd's serializable range of as many bytes, at 10,000 entries
 * and up to a million; an exact service through gRPC and through HTTP/JSON beside Consul's health endpoint, for as many entries and for as many
 * bytes. `npm run bench -- query [--sizes 10000,100000,1000000] [--rounds 5] [--seconds 2]`.
 */
import { parseArgs } from "node:util";
import { HttpWire } from "./_http.ts";
import { type Node, pinSelf, type Running, startNode } from "./_processes.ts";
import { type Asked, compareAtRates, grpcAsked, httpAsked, type RateRow, ratioIn } from "./_rates.ts";
import { type Goal, report } from "./_results.ts";
import {
  ask,
  exactJson,
  exactQuery,
  fail,
  INSTANCES,
  itemsIn,
  loadNode,
  NAMESPACE,
  PATH,
  pageQuery,
  scattered,
  tagQuery,
} from "./_work.ts";
import { type ConsulReading, consulHealth, loadConsul, startConsul } from "./adapters/consul.ts";
import { loadEtcd, sizesOf, startEtcd } from "./adapters/etcd.ts";
import { ETCD_PATH, etcdExact, etcdRange } from "./adapters/etcd-messages.ts";

const { values } = parseArgs({
  options: {
    sizes: { type: "string", default: "10000,100000,1000000" },
    rounds: { type: "string", default: "5" },
    seconds: { type: "string", default: "2" },
  },
});
const SIZES = values.sizes.split(",").map(Number);
const RATES = { rounds: Number(values.rounds), seconds: Number(values.seconds), lowPerSecond: 3000 };
/** A look at fewer sizes, or for less time, leaves the kept result as it is. */
const IS_WHOLE = SIZES.length >= 3 && RATES.rounds >= 5 && RATES.seconds >= 2;
/** Entries beside Consul: it takes a millisecond to register one. */
const CONSUL_ENTRIES = 10_000;
/** A peer is asked at no more entries than this: it would take minutes to fill, and its cost hardly grows. */
const PEER_ENTRIES = 1_000_000;

const WORK = {
  exact: (entries: number) => `exact, ${entries} entries`,
  page: (entries: number) => `page of 100, ${entries} entries`,
  tag: (entries: number) => `by tag, ${entries} entries`,
  grpc: "exact through gRPC beside Consul",
  http: "exact through HTTP/JSON, equal entries",
  bytes: "exact through HTTP/JSON, equal bytes",
} as const;

const rows: RateRow[] = [];

async function mustHave(server: Running, path: string, message: Uint8Array, items: number): Promise<void> {
  const found = itemsIn(server, await ask(server, path, message));
  if (found !== items) throw new Error(`${server.name}: ${found} items where ${items} are asked for`);
}

async function besideEtcd(entries: number): Promise<void> {
  const [node, etcd] = [await startNode(), entries <= PEER_ENTRIES ? await startEtcd() : undefined];
  await loadNode(node, Math.min(entries, 1000));
  const sizes = await sizesOf(node, etcd);
  await loadNode(node, entries, 1000);
  if (etcd !== undefined) await loadEtcd(etcd, entries, sizes);
  const services = entries / INSTANCES;
  const exact = (i: number) => exactQuery(scattered(i, services));
  await mustHave(node, PATH.query, exact(0), INSTANCES);
  await mustHave(node, PATH.query, pageQuery(100), 100);
  await mustHave(node, PATH.query, tagQuery(1, 10), 10);
  const sides = (ours: (i: number) => Uint8Array, theirs: (i: number) => Uint8Array): readonly Asked[] => [
    grpcAsked(node, PATH.query, ours),
    ...(etcd === undefined ? [] : [grpcAsked(etcd, ETCD_PATH.range, theirs)]),
  ];
  rows.push(
    ...(await compareAtRates(
      WORK.exact(entries),
      sides(exact, (i) => etcdExact(scattered(i, services))),
      RATES,
    )),
  );
  const page = [pageQuery(100), etcdRange(`/${NAMESPACE}/`, 100)] as const;
  rows.push(
    ...(await compareAtRates(
      WORK.page(entries),
      sides(
        () => page[0],
        () => page[1],
      ),
      RATES,
    )),
  );
  // etcd has no such query: it would read the whole prefix.
  rows.push(...(await compareAtRates(WORK.tag(entries), [grpcAsked(node, PATH.query, () => tagQuery(1, 10))], RATES)));
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
  rows.push(...(await compareAtRates(WORK.bytes, [httpAsked(wide, jsonDoor(wide), json, "waymark"), ...peers], RATES)));
  await Promise.all([wide.stop(), consul.stop()]);
  return [`An answer through HTTP/JSON has ${ourBytes} bytes, for equal bytes ${wideBytes}; Consul's has ${theirBytes}.`];
}

pinSelf();
for (const entries of SIZES) await besideEtcd(entries);
const lengths = await besideConsul();

const first = SIZES[0] ?? fail();
const last = SIZES.at(-1) ?? fail();
const cpuUs = (work: string) =>
  rows.find((row) => row.work === work && row.rate === "full" && row.who === "waymark")?.["CPU µs"].median ?? fail();
const ratioGoal = (name: string, work: string, who: string, rate: RateRow["rate"], atLeast: number): Goal => {
  const value = ratioIn(rows, work, who, rate);
  return { name, value, unit: "×", atLeast, ...(value === undefined && { note: "not measured: the peer is not installed" }) };
};
const growthGoal = (what: string, workAt: (entries: number) => string): readonly Goal[] =>
  first === last
    ? []
    : [
        {
          name: `${what}, CPU at ${last} entries over that at ${first}`,
          value: cpuUs(workAt(last)) / cpuUs(workAt(first)),
          unit: "×",
          atMost: 1.2,
        },
      ];
report({
  name: "query",
  isKept: IS_WHOLE,
  tables: { "CPU time a request": rows.map((row) => ({ ...row })) },
  goals: [
    ratioGoal("exact query beside etcd, 64 under way", WORK.exact(first), "etcd", "full", 2),
    ratioGoal("exact query beside etcd, each alone", WORK.exact(first), "etcd", "low", 1.4),
    ratioGoal("page of 100 beside etcd, 64 under way", WORK.page(first), "etcd", "full", 3),
    ratioGoal("exact query beside Consul, stale", WORK.grpc, "consul, stale", "full", 4.5),
    ratioGoal("exact query beside Consul, cached", WORK.grpc, "consul, cached", "full", 4),
    ratioGoal("exact query through HTTP/JSON beside Consul, stale", WORK.http, "consul, stale", "full", 1.5),
    ratioGoal("exact query through HTTP/JSON beside Consul, cached", WORK.http, "consul, cached", "full", 1.1),
    ...growthGoal("exact query", WORK.exact),
    ...growthGoal("page of 100", WORK.page),
    ...growthGoal("by tag", WORK.tag),
  ],
  notes: [
    `Full: 64 requests under way, gRPC over 4 connections, HTTP/1.1 over 64. Half: as many a second as half of what the slowest side answers at full load. Low: ${RATES.lowPerSecond} a second, each alone. Latency counts from when a request was due, at full load from when it was sent.`,
    "Each request asks for a service drawn at random; every side gets the same sequence. The driver is ours and the same for all: it reads frames, or an answer's end, from the socket's bytes.",
    "Values in etcd are shorter than our entries by what its own keys and revisions take, so that answers are equally long.",
    ...lengths,
    "For etcd and Consul: neither decodes a filter or checks a scope. For us: both write to disk and keep history, and run Raft; our node ran --ephemeral, which a query does not touch.",
    "No TLS on any side. Peers run with GOMAXPROCS=1.",
  ],
});
