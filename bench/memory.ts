/**
 * What memory does an entry take, and a node without any? Memory of a node with a data directory beside etcd, each as users run it, some time
 * after everything was registered: nobody is told to collect garbage. `npm run bench -- memory [--sizes 100000,1000000]
 * [--settle-seconds 300]`; it takes about eight minutes. What lives in our node after a collection stands beside it.
 */
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { argsOf, asksForAll } from "./_args.ts";
import { aliasOf, askDns, dnsSettings, INSTANCES, loadNames, questionsOf } from "./_dns.ts";
import type { DnsPart } from "./_dns-memory-child.ts";
import { listenerOf, pinSelf, type Running, scratchDir, startEcho, startNode } from "./_processes.ts";
import { type Goal, ratioGoal, report, round } from "./_results.ts";
import { Wire } from "./_wire.ts";
import { exactQuery, fail, loadNode, PATH } from "./_work.ts";
import { loadEtcd, sizesOf, startEtcd } from "./adapters/etcd.ts";
import { ETCD_PATH, etcdRange } from "./adapters/etcd-messages.ts";

/** Go collects after two minutes in which nothing was allocated, and then gives back in the background a part of what is free: time for two of these. */
const DEFAULTS = { sizes: [100_000, 1_000_000], "settle-seconds": 300 };
const values = argsOf(DEFAULTS);
const SIZES = values.sizes;
const SETTLE_MS = values["settle-seconds"] * 1000;
/** Long enough for writes under way, and too short for Go to give memory back. */
const SOON_MS = 5000;
const MIB = 1024 * 1024;

/** What one process holds. */
interface Held {
  readonly who: Running["name"];
  readonly entries: number;
  /** All that is resident. */
  readonly allBytes: number;
  /** The process's own: RssAnon. */
  readonly ownBytes: number;
  /** The same soon after the last entry was registered. */
  readonly soonOwnBytes: number;
}

function rowOf({ who, entries, allBytes, ownBytes, soonOwnBytes }: Held): Readonly<Record<string, unknown>> {
  const perEntry = (bytes: number) => (entries === 0 ? "-" : round(bytes / entries));
  return {
    who,
    entries,
    "RSS MiB": round(allBytes / MIB),
    "own (RssAnon) MiB": round(ownBytes / MIB),
    "own soon after loading, MiB": round(soonOwnBytes / MIB),
    "RSS, B per entry": perEntry(allBytes),
    "own, B per entry": perEntry(ownBytes),
  };
}

interface Pair {
  readonly entries: number;
  readonly servers: readonly { readonly server: Running; readonly soonOwnBytes: number }[];
}

async function filled(entries: number): Promise<Pair> {
  console.error(`${entries} entries`);
  const [node, etcd] = [await startNode({ dataDir: scratchDir("memory"), isPlain: true }), await startEtcd()];
  if (entries > 0) {
    await loadNode(node, entries);
    const sizes = await sizesOf(node, etcd);
    if (etcd !== undefined) await loadEtcd(etcd, entries, sizes);
  }
  await new Promise((resolve) => setTimeout(resolve, SOON_MS));
  const servers = etcd === undefined ? [node] : [node, etcd];
  return { entries, servers: servers.map((server) => ({ server, soonOwnBytes: server.rssAnonKiB() * 1024 })) };
}

/** All sizes wait together: what one process keeps does not change what another keeps. */
async function measure(sizes: readonly number[]): Promise<readonly Held[]> {
  const pairs: Pair[] = [];
  for (const entries of sizes) pairs.push(await filled(entries));
  await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
  const held = pairs.flatMap(({ entries, servers }) =>
    servers.map(({ server, soonOwnBytes }) => ({
      who: server.name,
      entries,
      soonOwnBytes,
      allBytes: server.rssKiB() * 1024,
      ownBytes: server.rssAnonKiB() * 1024,
    })),
  );
  for (const { servers } of pairs) for (const { server } of servers) await server.stop("SIGKILL");
  return held;
}

/** What lives after a collection: V8's heap, and buffers outside it. */
async function living(entries: number) {
  const node = await startNode({ dataDir: scratchDir("memory") });
  await node.probe("gc");
  const before = await node.probe("gc");
  await loadNode(node, entries);
  await node.probe("gc");
  const after = await node.probe("gc");
  const { entryBytes } = await sizesOf(node, undefined);
  await node.stop("SIGKILL");
  return {
    entries,
    "entry bytes": entryBytes,
    "heap B": round((after.heapBytes - before.heapBytes) / entries),
    "buffers B": round((after.externalBytes - before.externalBytes) / entries),
    "RSS MiB": round(after.rssBytes / MIB),
  };
}

/** Connections that are open before those that are counted: they pay for compiled code and V8's young generation, which a process has once. */
const FIRST_CONNECTIONS = 1000;
const COUNTED_CONNECTIONS = 2000;
const IDLE_MS = 10_000;

/** What connections take that have made one call and then wait: memory of each, and CPU time of a thousand. */
async function idleConnections(server: Running, path: string, message: Uint8Array) {
  const wires: Wire[] = [];
  const atRest = async (count: number) => {
    while (wires.length < count) {
      const wire = await Wire.open(server.grpc);
      await wire.unary(path, message);
      wires.push(wire);
    }
    await new Promise((resolve) => setTimeout(resolve, IDLE_MS));
    const [cpuMs, startMs] = [server.cpuMs(), performance.now()];
    await new Promise((resolve) => setTimeout(resolve, IDLE_MS));
    return { kib: server.rssAnonKiB(), percent: (100 * (server.cpuMs() - cpuMs)) / (performance.now() - startMs) };
  };
  const before = await atRest(FIRST_CONNECTIONS);
  const after = await atRest(FIRST_CONNECTIONS + COUNTED_CONNECTIONS);
  for (const wire of wires) wire.close();
  await server.stop("SIGKILL");
  const percent = ((after.percent - before.percent) / COUNTED_CONNECTIONS) * 1000;
  return {
    who: server.name,
    "KiB per connection": round((after.kib - before.kib) / COUNTED_CONNECTIONS),
    "CPU of 1,000, % of a core": round(Math.max(0, percent)),
  };
}

async function idleRows() {
  const node = await startNode({ isPlain: true });
  await loadNode(node, 1000);
  const rows = [
    await idleConnections(node, PATH.query, exactQuery(0)),
    await idleConnections(await startEcho(1000), PATH.query, exactQuery(0)),
  ];
  const etcd = await startEtcd();
  if (etcd !== undefined) rows.push(await idleConnections(etcd, ETCD_PATH.range, etcdRange("/", 10)));
  return rows;
}

/** Of three instances each: as many as the default quotas have room for, aliases included. */
const DNS_NAMES = 30_000;

/** What lives after a collection for each name that DNS can be asked for. One question was asked, so no answer is prepared. */
async function dnsBytes(dns: { readonly enabled: boolean; readonly reverse_zones?: readonly string[] }, hasAlias = false): Promise<number> {
  const node = await startNode({ args: ["--config", dnsSettings(dns)] });
  await node.probe("gc");
  const before = await node.probe("gc");
  await loadNames(node, DNS_NAMES, { hasAlias });
  if (dns.enabled) await askDns(listenerOf(node, "dns"), questionsOf(1)[0] ?? fail());
  await node.probe("gc");
  const after = await node.probe("gc");
  await node.stop("SIGKILL");
  return (after.heapBytes + after.externalBytes - before.heapBytes - before.externalBytes) / DNS_NAMES;
}

/** What the entries of a name hold of its alias, on average: a tag, a length and the text in each of them. */
function aliasBytes(): number {
  const texts = Array.from({ length: DNS_NAMES }, (_, n) => aliasOf(n).length + 2);
  return (INSTANCES * texts.reduce((sum, bytes) => sum + bytes, 0)) / DNS_NAMES;
}

/** The same of parts of DNS, each in a process with a catalog of its own, with and without that part: a node has the index whether its gateway is on or not. */
function dnsPartBytes(part: DnsPart): number {
  const child = join(import.meta.dirname, "_dns-memory-child.ts");
  return Number(execFileSync(process.execPath, ["--expose-gc", child, String(DNS_NAMES), part], { encoding: "utf8" }));
}

pinSelf();
const withoutDns = await dnsBytes({ enabled: false });
const withDns = await dnsBytes({ enabled: true });
const withAliases = await dnsBytes({ enabled: true }, true);
const withAddresses = await dnsBytes({ enabled: true, reverse_zones: ["10.0.0.0/8"] });
const parts = {
  names: dnsPartBytes("names"),
  stamps: dnsPartBytes("stamps"),
  listed: dnsPartBytes("listed"),
  aliases: dnsPartBytes("aliases"),
  addresses: dnsPartBytes("addresses"),
};
const idle = await idleRows();
const measured = await measure([0, ...SIZES]);
const lives: Awaited<ReturnType<typeof living>>[] = [];
for (const entries of SIZES) lives.push(await living(entries));

function find(who: Running["name"], entries: number): Held | undefined {
  return measured.find((held) => held.who === who && held.entries === entries);
}

function goalAt(entries: number, atLeast: number): Goal {
  const [ours, theirs] = [find("waymark", entries), find("etcd", entries)];
  const work = `memory for ${entries.toLocaleString("en-US")} entries on disk`;
  const beside = "etcd, the same entries, which it writes through Raft (ours does not)";
  const mib = (bytes: number) => round(bytes / MIB);
  const pair = ours && theirs && { ours, theirs };
  const told = (column: "allBytes" | "soonOwnBytes") =>
    pair && `${round(pair.theirs[column] / pair.ours[column])} × (${mib(pair.ours[column])} and ${mib(pair.theirs[column])} MiB)`;
  return ratioGoal({
    name: `${work}, beside ${beside}`,
    shown: { work, beside, unit: `MiB of the process's own memory (RssAnon), ${SETTLE_MS / 1000} s after loading` },
    ratio: pair && pair.theirs.ownBytes / pair.ours.ownBytes,
    ours: ours && mib(ours.ownBytes),
    theirs: theirs && mib(theirs.ownBytes),
    atLeast,
    note: `${SOON_MS / 1000} s after loading: ${told("soonOwnBytes")}; with all resident memory, including etcd's mapped database file: ${told("allBytes")}`,
    missing: "not measured: the peer is not installed, or this size was not asked for",
  });
}

/** Our own limit; etcd stands beside it to be seen. */
function emptyGoal(): Goal {
  const [ours, theirs] = [find("waymark", 0) ?? fail(), find("etcd", 0)];
  const mb = ({ allBytes }: Held) => allBytes / 1e6;
  const shown = {
    work: "memory of an empty node",
    unit: "MB resident (10^6 bytes, all of RSS)",
    ours: mb(ours),
    ...(theirs !== undefined && { beside: "etcd, empty", theirs: mb(theirs) }),
  };
  return { name: "resident memory of an empty node", value: mb(ours), unit: "MB", atMost: 140, shown };
}

function dnsGoal(what: string, bytes: number): Goal {
  const value = Math.max(0, bytes);
  const work = `memory of DNS for ${what} in addition to the catalog, without prepared answers`;
  return { name: work, value, unit: "B", atMost: 200, shown: { work, unit: "B live after a collection", ours: value } };
}

/** Of an idle connection: its memory, and CPU time. */
function idleGoals(): readonly Goal[] {
  const [ours = fail(), , theirs] = idle;
  const goal = (field: "KiB per connection" | "CPU of 1,000, % of a core", work: string, unit: string, atMost: number): Goal => {
    const besides = theirs && { beside: "etcd, one call on each before", theirs: theirs[field] };
    return { name: work, value: ours[field], unit, atMost, shown: { work, unit, ours: ours[field], ...besides } };
  };
  return [
    goal("KiB per connection", "memory of an idle connection", "KiB", 30),
    goal("CPU of 1,000, % of a core", "CPU of 1,000 idle connections", "% of a core", 0.5),
  ];
}

report({
  name: "memory",
  isKept: asksForAll(values, DEFAULTS),
  tables: {
    "resident memory": measured.map(rowOf),
    "idle gRPC connections": idle,
    "live memory of a node after a garbage collection, beyond an empty node": lives,
    "live memory per name of three instances after a garbage collection": [
      { "with DNS": "no", aliases: 0, "reverse zones": "no", "B per name": round(withoutDns) },
      { "with DNS": "yes", aliases: 0, "reverse zones": "no", "B per name": round(withDns) },
      { "with DNS": "yes", aliases: 1, "reverse zones": "no", "B per name": round(withAliases) },
      { "with DNS": "yes", aliases: 0, "reverse zones": "of all addresses", "B per name": round(withAddresses) },
    ],
    "memory of DNS per name of three instances, beyond the catalog, after a garbage collection": [
      { what: "index of names", "B per name": round(parts.names) },
      { what: "index of names, each with an alias", "B per name": round(parts.aliases) },
      { what: "index of names, and of their three addresses in a reverse zone", "B per name": round(parts.addresses) },
      { what: "stamps of an A and an SRV answer", "B per name": round(parts.stamps) },
      { what: "stamps of both, with the list in each answer", "B per name": round(parts.listed) },
    ],
  },
  goals: [
    goalAt(100_000, 0.6),
    goalAt(1_000_000, 1.1),
    emptyGoal(),
    ...idleGoals(),
    dnsGoal("a name of three instances, index and stamps of its A and SRV answers,", Math.max(0, parts.names) + parts.stamps),
    dnsGoal("an alias of three instances, index alone,", parts.aliases - Math.max(0, parts.names)),
    dnsGoal("an address in a reverse zone, index alone,", (parts.addresses - Math.max(0, parts.names)) / INSTANCES),
  ],
  notes: [
    "Entries: ten instances per service, one target, two tags, registered 1,000 per request through gRPC with static leases. etcd gets them with one put each. An entry has the same number of bytes in both.",
    `RSS is all resident memory, ${SETTLE_MS / 1000} s or more after the last entry was registered. This is long enough for two of the garbage collections that Go runs when nothing is allocated, each of which returns a part of the free memory. No program is sent to collect garbage. It is one measurement: the garbage that etcd has kept varies by a third between runs.`,
    "The goals compared with etcd use RssAnon, the memory that belongs to the process alone. The rest of RSS is pages of files: etcd maps its database, so the system's cache of that file counts as etcd's memory. A Waymark node reads its database with pread, so the same cache counts for no process. The mapped program counts only in RSS; Waymark's is larger, because Node is larger than etcd. The limit of an empty node applies to all of RSS.",
    `The memory of a name in DNS is measured with ${DNS_NAMES.toLocaleString("en-US")} names of ${INSTANCES} instances each. Names with an alias have it in each of their three entries, ${round(aliasBytes())} B in total, which belong to the catalog, and in an index, which a node has with or without DNS. Therefore, the goals of DNS are measured without a node: a catalog, and then the index or the stamps made from it. All names are in one namespace, for which the index of names has one row. A stamp is kept as long as an answer depends on it. The list of stamps in a prepared answer counts as part of the answer, as in \`dns_plans_bytes\`.`,
    `Idle connections: ${COUNTED_CONNECTIONS.toLocaleString("en-US")} connections that have made one call, in addition to ${FIRST_CONNECTIONS.toLocaleString("en-US")} earlier ones. Memory is the growth of RssAnon, without the kernel's socket buffers. CPU time is also the growth, over 10 s. The bare server (echo) shows the memory that node:http2 itself needs.`,
    "In Waymark's favour: etcd keeps each revision until it is compacted.",
  ],
});
