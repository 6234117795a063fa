/**
 * What does a resolver cost beside the node that it reads, and beside Consul's agent with its cache? CPU time of an exact query (10 of 10,000 entries) at a
 * resolver that follows the namespace or fetched its names, at its node, and at client agents of Consul; memory of a resolver that follows as many entries as a node has from
 * another node. `npm run bench -- resolver [--rounds 5] [--seconds 1] [--held 100000] [--pairs 3] [--settle-seconds 60] [--only node,consul,memory]`; it
 * takes about seven minutes.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { argsOf, asksForAll } from "./_args.ts";
import { HttpWire } from "./_http.ts";
import { areEqual, lengthOf } from "./_lengths.ts";
import { countOn, sleep, startMember, until } from "./_mesh.ts";
import { listenerOf, type Node, type NodeOptions, pinSelf, type Running, scratchDir, startNode } from "./_processes.ts";
import {
  type Asked,
  besideGoal,
  compareAtRates,
  grpcAsked,
  httpAsked,
  ONE_A_CONNECTION,
  type RateOptions,
  type RateRow,
  rateText,
} from "./_rates.ts";
import { cellText, type Goal, type Ratio, ratioGoal, ratioOf, report, round, spread } from "./_results.ts";
import { ask, exactJson, exactQuery, INSTANCES, itemsIn, loadNode, NAMESPACE, PATH, scattered } from "./_work.ts";
import { consulHealth, loadConsul, startConsulAgents } from "./adapters/consul.ts";

const DEFAULTS = { rounds: 5, seconds: 1, held: 100_000, pairs: 3, "settle-seconds": 60, only: ["node", "consul", "memory"] };
const values = argsOf(DEFAULTS);
const PARTS = values.only;
const unknown = PARTS.filter((part) => !DEFAULTS.only.includes(part));
if (unknown.length > 0) {
  const named = unknown.map((part) => JSON.stringify(part)).join(", ");
  console.error(`resolver: there is no part ${named}; there are: ${DEFAULTS.only.join(", ")}`);
  process.exit(2);
}
const RATES: RateOptions = { rounds: values.rounds, seconds: values.seconds, lowPerSecond: 3000 };
/** Beside Consul: half of the full rate says little more, and takes as long. */
const CONSUL_RATES: RateOptions = { ...RATES, rates: ["low", "full"] };
/** Entries that are asked for: as many as Consul is given in `query`. */
const ENTRIES = 10_000;
const SERVICES = ENTRIES / INSTANCES;
const HELD = values.held;
const SETTLE_MS = values["settle-seconds"] * 1000;
const MIB = 1024 * 1024;
const WHO = {
  resolver: "waymark, resolver",
  fetching: "waymark, resolver that fetches",
  node: "waymark, node",
  cached: "consul, client agent, cached",
  tuned: "consul, client agent, cached, tuned",
} as const;

const WORK = {
  node: `exact through gRPC over 4 connections, ${ENTRIES} entries, compared with the node`,
  fetched: `exact through gRPC over 4 connections, ${ENTRIES} entries fetched by name, compared with the node`,
  grpcOverFour: `exact through gRPC over 4 connections, ${ENTRIES} entries, compared with Consul`,
  grpc: `exact through gRPC over 64 connections, ${ENTRIES} entries, compared with Consul`,
  http: `exact through HTTP/JSON, equal bytes, ${ENTRIES} entries, compared with Consul`,
} as const;

const rows: RateRow[] = [];

const exact = (i: number) => exactQuery(scattered(i, SERVICES));

/** A resolver that follows the namespace of all entries; it is ready when it has them. */
function startResolver(upstream: Running, options: NodeOptions = {}): Promise<Node> {
  const { host, port } = upstream.grpc;
  const args = ["--mode", "resolver", "--upstream", `${host}:${port}`, "--namespaces", NAMESPACE];
  return startNode({ ...options, args: [...args, ...(options.args ?? [])] });
}

/** A resolver that follows something else and nothing more, so that it has what is asked for by fetching each name; it keeps that for an hour. */
async function startFetching({ grpc: { host, port } }: Running): Promise<Node> {
  const dataDir = scratchDir("fetching");
  const config = join(dataDir, "resolver.json");
  const ttls = { ttl_zone: "1h", ttl_region: "1h", ttl_global: "1h" };
  writeFileSync(
    config,
    JSON.stringify({ resolver: { upstreams: [`${host}:${port}`], namespaces: ["svc.other"], max_watches: 1, ...ttls } }),
  );
  const resolver = await startNode({ dataDir, args: ["--mode", "resolver", "--config", config] });
  for (let i = 0; i < SERVICES; i++) await ask(resolver, PATH.query, exactQuery(i));
  return resolver;
}

/** Bytes of an answer to an exact query through gRPC, which must hold the instances of one service. */
async function answerBytes(server: Running): Promise<number> {
  const answer = await ask(server, PATH.query, exact(0));
  if (itemsIn(server, answer) !== INSTANCES) throw new Error(`not ${INSTANCES} instances in an answer`);
  return answer.length;
}

// ---- beside a node ----
async function besideNode(): Promise<readonly string[]> {
  const node = await startNode();
  await loadNode(node, ENTRIES);
  const resolver = await startResolver(node);
  const [own, upstream] = [await answerBytes(resolver), await answerBytes(node)];
  const sides: readonly Asked[] = [
    { ...grpcAsked(resolver, PATH.query, exact), who: WHO.resolver },
    { ...grpcAsked(node, PATH.query, exact), who: WHO.node },
  ];
  rows.push(...(await compareAtRates(WORK.node, sides, RATES)));
  await resolver.stop();
  const fetching = await startFetching(node);
  const hits: readonly Asked[] = [
    { ...grpcAsked(fetching, PATH.query, exact), who: WHO.fetching },
    { ...grpcAsked(node, PATH.query, exact), who: WHO.node },
  ];
  rows.push(...(await compareAtRates(WORK.fetched, hits, CONSUL_RATES)));
  await fetching.stop();
  await node.stop();
  return [
    `An answer of the resolver over gRPC has ${own} bytes, and the node's ${upstream}. The node is the upstream of the resolver, and the entries are registered on it. While one of the two is asked, the other only handles a bookmark per second.`,
  ];
}

// ---- beside Consul ----
interface ConsulSide {
  readonly ourBytes: number;
  readonly theirBytes: number;
  /** What is resident of each when it was asked for everything. */
  readonly resident: readonly Readonly<Record<string, unknown>>[];
  readonly notes: readonly string[];
}

async function besideConsul(): Promise<ConsulSide | undefined> {
  const node = await startNode({ isFree: true });
  await loadNode(node, ENTRIES);
  const consul = await startConsulAgents();
  const resolver = await startResolver(node);
  if (consul === undefined) {
    await Promise.all([resolver.stop(), node.stop()]);
    return undefined;
  }
  const { server, shipped: agent, tuned } = consul;
  await loadConsul(server, ENTRIES);
  const [path, json] = [consulHealth(0, "cached"), { path: PATH.query, body: exactJson(0) }];
  const http = listenerOf(resolver, "http");
  // The agent asks the server for what it does not have, so it answers with all that the server has.
  const lengths = async () => [await lengthOf(http, json), await lengthOf(agent.grpc, { path })] as const;
  let [ourBytes, theirBytes] = await lengths();
  const told = `An answer of the resolver over HTTP/JSON has ${ourBytes} bytes, and the agent's answer with the same entries ${theirBytes}`;
  let equal = "equal within 2 %";
  if (!areEqual(ourBytes, theirBytes)) {
    const missing = Math.round(Math.abs(ourBytes - theirBytes) / INSTANCES);
    const isOursLonger = ourBytes > theirBytes;
    if (isOursLonger) await loadConsul(server, ENTRIES, Math.max(1, missing - '"padding":""'.length));
    else await loadNode(node, ENTRIES, 0, { padding: Math.max(1, missing - '"metadata":{"padding":""},'.length) });
    await until(async () => areEqual(...(await lengths())), "answers of the resolver and of the agent that are equally long");
    [ourBytes, theirBytes] = await lengths();
    equal = `metadata made ${isOursLonger ? "the agent's" : "ours"} longer, to ${ourBytes} and ${theirBytes}`;
  }
  const grpcBytes = await answerBytes(resolver);
  for (const each of [agent, tuned]) await mustBeCached(each, path);
  const request = (i: number) => ({ path: consulHealth(scattered(i, SERVICES), "cached") });
  const theirs = [httpAsked(agent, agent.grpc, request, WHO.cached), httpAsked(tuned, tuned.grpc, request, WHO.tuned)];
  const question = (i: number) => ({ path: PATH.query, body: exactJson(scattered(i, SERVICES)) });
  const compare = async (work: string, ours: Asked) => {
    rows.push(...(await compareAtRates(work, [{ ...ours, who: WHO.resolver }, ...theirs], CONSUL_RATES)));
  };
  await compare(WORK.grpcOverFour, grpcAsked(resolver, PATH.query, exact));
  await compare(WORK.grpc, grpcAsked(resolver, PATH.query, exact, ONE_A_CONNECTION));
  await compare(WORK.http, httpAsked(resolver, http, question, WHO.resolver));
  const residentMiB = (of: Running) => round((of.rssKiB() * 1024) / MIB);
  const resident = [
    { who: WHO.resolver, "RSS MiB": residentMiB(resolver) },
    { who: WHO.cached, "RSS MiB": residentMiB(agent) },
    { who: WHO.tuned, "RSS MiB": residentMiB(tuned) },
  ];
  await Promise.all([resolver.stop(), agent.stop(), tuned.stop(), server.stop()]);
  await node.stop();
  return {
    ourBytes,
    theirBytes,
    resident,
    notes: [`${told}: ${equal}. Over gRPC, the resolver answers the same entries in ${grpcBytes} bytes.`],
  };
}

/** The second answer for a service comes from the agent's cache, as the agent says. */
async function mustBeCached(agent: Running, path: string): Promise<void> {
  const wire = await HttpWire.open(agent.grpc);
  await wire.ask({ path });
  const { headers } = await wire.ask({ path });
  wire.close();
  if (!headers.includes("x-cache: hit")) throw new Error(`Consul's agent does not answer from its cache: ${headers}`);
}

// ---- memory ----
interface Held {
  readonly who: string;
  /** All that is resident. */
  readonly allBytes: number;
  /** The process's own: RssAnon. */
  readonly ownBytes: number;
}

interface Pair {
  readonly resolver: Node;
  readonly replica: Node;
}

/** What follows the upstream, and what has the same entries from it over the fabric. */
async function startPair(upstream: Node, i: number, isPlain: boolean): Promise<Pair> {
  const options = { isPlain, isFree: true, args: ["--node-id", `resolver-${i}`] };
  const startFollowing = () => startResolver(upstream, { ...options, dataDir: scratchDir("resolver") });
  const startReplica = () => startMember([upstream], `replica-${i}`, { isPlain });
  const early = i % 2 === 0 ? await startFollowing() : undefined;
  const replica = await startReplica();
  const resolver = early ?? (await startFollowing());
  for (const node of [replica, resolver])
    await until(async () => (await countOn(node)) === HELD, `${HELD} entries at a node and at a resolver`);
  return { resolver, replica };
}

function heldBy(who: string, server: Running): Held {
  return { who, allBytes: server.rssKiB() * 1024, ownBytes: server.rssAnonKiB() * 1024 };
}

interface Memory {
  readonly resolvers: readonly Held[];
  readonly nodes: readonly Held[];
  readonly lives: readonly Readonly<Record<string, unknown>>[];
}

async function memory(): Promise<Memory> {
  console.error(`memory for ${HELD} entries`);
  const upstream = await startMember([], "upstream");
  await loadNode(upstream, HELD);
  const probed = await startPair(upstream, 0, false);
  const lives = [];
  for (const [who, node] of [
    [WHO.resolver, probed.resolver],
    [WHO.node, probed.replica],
  ] as const) {
    await node.probe("gc");
    const { heapBytes, externalBytes, rssBytes } = await node.probe("gc");
    const mib = (bytes: number) => round(bytes / MIB);
    lives.push({ who, "heap MiB": mib(heapBytes), "buffers MiB": mib(externalBytes), "RSS MiB": mib(rssBytes) });
    // Killed, it would be suspected while the others are filled.
    await node.stop();
  }
  const pairs: Pair[] = [];
  for (let i = 1; i <= values.pairs; i++) pairs.push(await startPair(upstream, i, true));
  await sleep(SETTLE_MS);
  const resolvers = pairs.map(({ resolver }) => heldBy(WHO.resolver, resolver));
  const nodes = pairs.map(({ replica }) => heldBy(WHO.node, replica));
  for (const { resolver, replica } of pairs) for (const node of [resolver, replica]) await node.stop("SIGKILL");
  await upstream.stop("SIGKILL");
  return { resolvers, nodes, lives };
}

function heldRow({ who, allBytes, ownBytes }: Held): Readonly<Record<string, unknown>> {
  return {
    who,
    entries: HELD,
    "RSS MiB": round(allBytes / MIB),
    "own (RssAnon) MiB": round(ownBytes / MIB),
    "own, B per entry": round(ownBytes / HELD),
  };
}

pinSelf();
const nodeNotes = PARTS.includes("node") ? await besideNode() : [];
const besideThem = PARTS.includes("consul") ? await besideConsul() : undefined;
const held = PARTS.includes("memory") ? await memory() : undefined;

// ---- goals ----
const A_RESOLVER = { program: WHO.resolver, name: "a resolver" } as const;
const AMONG = `an exact query of ${INSTANCES} entries among ${cellText(ENTRIES)} to a resolver that follows them`;

function nodeGoal(rate: "full" | "low"): Goal {
  const alone = `${AMONG}, one at a time`;
  return besideGoal(rows, {
    name: rate === "full" ? `${AMONG}, 64 under way` : alone,
    work: rate === "full" ? `${AMONG}, 64 under way` : `${alone}, ${rateText(rows, WORK.node, rate)}`,
    row: WORK.node,
    ours: A_RESOLVER,
    program: WHO.node,
    theirsName: "its node",
    beside: "the Waymark node that it reads from",
    rate,
    atLeast: 0.9,
  });
}

function fetchedGoal(): Goal {
  const work = `an exact query of ${INSTANCES} entries among ${cellText(ENTRIES)} to a resolver that fetched them by name, 64 under way`;
  return besideGoal(rows, {
    work,
    row: WORK.fetched,
    ours: { program: WHO.fetching, name: "a resolver" },
    program: WHO.node,
    theirsName: "its node",
    beside: "the Waymark node that it reads from",
    rate: "full",
    atLeast: 0.9,
  });
}

const lengthsText =
  besideThem === undefined ? "" : ` (an answer of ${cellText(besideThem.ourBytes)} bytes, Consul's ${cellText(besideThem.theirBytes)})`;

function consulGoal(
  through: string,
  row: string,
  atLeast: number,
  { told = "", program }: { readonly told?: string; readonly program: string },
): Goal {
  const agent = `Consul's client agent ${program === WHO.tuned ? "without streaming and with GOGC=200" : "with default settings"}`;
  return besideGoal(rows, {
    name: `${AMONG}, through ${through}, 64 under way`,
    work: `${AMONG}, through ${through}${told}, 64 under way`,
    row,
    ours: A_RESOLVER,
    program,
    rate: "full",
    atLeast,
    beside: `${agent}, health endpoint over HTTP/1.1 and JSON, cached`,
  });
}

function memoryGoal(): Goal {
  const work = `memory of a resolver that follows ${cellText(HELD)} entries`;
  const beside = "a Waymark node that replicates them from another node";
  const [ours, theirs] = [held?.resolvers ?? [], held?.nodes ?? []];
  const own = (of: readonly Held[]) => of.map(({ ownBytes }) => ownBytes / MIB);
  const all = (of: readonly Held[]) => of.map(({ allBytes }) => allBytes / MIB);
  const ratio: Ratio | undefined = ratioOf(own(ours), own(theirs));
  const resident = ratioOf(all(ours), all(theirs));
  return ratioGoal({
    name: `${work}, beside ${beside}`,
    shown: { work, beside, unit: "MiB of the process's own memory (RssAnon)", oursName: "a resolver", theirsName: "a node" },
    ratio,
    ours: ratio && spread(own(ours)),
    theirs: ratio && spread(own(theirs)),
    atMost: 1.2,
    note: `with all resident memory: ${cellText(resident)} ×`,
    missing: "not measured: this part was left out",
  });
}

report({
  name: "resolver",
  isKept: asksForAll(values, DEFAULTS),
  tables: {
    "CPU time per request": rows.map((row) => ({ ...row })),
    "memory compared with Consul, after all entries were requested": besideThem?.resident ?? [],
    "memory of a resolver and of a node with the same entries": [...(held?.resolvers ?? []), ...(held?.nodes ?? [])].map(heldRow),
    "live memory after a garbage collection": held?.lives ?? [],
  },
  goals: [
    nodeGoal("full"),
    nodeGoal("low"),
    fetchedGoal(),
    ...[WHO.cached, WHO.tuned].flatMap((program) => [
      consulGoal("gRPC over 4 connections, shared by calls", WORK.grpcOverFour, 3.5, { program }),
      consulGoal("gRPC over 64 connections", WORK.grpc, 3.5, { program }),
      consulGoal("HTTP/JSON", WORK.http, 1.1, { told: lengthsText, program }),
    ]),
    memoryGoal(),
  ],
  notes: [
    'Rates, rounds and the driver are as in "query": full has 64 requests in flight; half is half of the rate that the slower side answers at full load; low is one request at a time, 3,000 a second or a quarter of half. The ratio uses only the CPU time of the process that is asked.',
    ...nodeNotes,
    "The peer of a resolver is a client agent of Consul, which answers from its cache (it reports so in X-Cache) and asks a server for missing data. One agent has the default settings. The other has the settings with which such reads cost the least (use_streaming_backend: false and GOGC=200; with even fewer collections it would cost less, and use more memory than the resolver). The resolver's own memory includes the probe that measures its event loop. Each agent and the resolver have one core. Consul's server and the resolver's node run on any core, are idle meanwhile, and are not counted. Every service was requested before the figures count.",
    ...(besideThem?.notes ?? []),
    `Memory: the node has its entries from another node over the fabric, and the resolver has them from the same node, so neither has registrations of its own. Both keep data directories, as users run them: the node its journal, the resolver its copy. There are ${values.pairs} pairs, measured ${SETTLE_MS / 1000} s after the last of them had all entries, so that the resolver has written its copy. No program is sent to collect garbage. The live memory after a collection is from one more pair. 16 MiB of the resolver's buffers count the requests for each name, and use no memory before there are requests (resolver.max_entries, here the default, decides their size).`,
    "No side uses TLS or policy: no side checks its callers.",
  ],
});
