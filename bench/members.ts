/**
 * What does it cost three nodes to hold the same, and how soon does each show a change? Loading, and changes at a steady rate with a watch at
 * each node, beside etcd with three members: `npm run bench -- members [--nodes 3] [--entries 50000] [--rate 200] [--seconds 10] [--rounds 3]`.
 */
import { parseArgs } from "node:util";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { NamespaceStatusRequestSchema, NamespaceStatusResponseSchema } from "../gen/waymark/discovery/v1/discovery_pb.js";
import { type Changes, changeAtRate, cpuMs, type Heard, type Mesh, waymarkMesh } from "./_changes.ts";
import { type Running, scratchDir, startNode } from "./_processes.ts";
import { type Goal, percentile, ratioOf, report, spread } from "./_results.ts";
import { Wire } from "./_wire.ts";
import { ask, driveAll, fail, NAMESPACE, PATH, registerBytes } from "./_work.ts";
import { type Sizes, sizesOf, startEtcdCluster } from "./adapters/etcd.ts";
import { ETCD_PATH, etcdChanges, etcdKey, etcdPut, etcdRange, etcdTxn, etcdWatch } from "./adapters/etcd-messages.ts";

const { values } = parseArgs({
  options: {
    nodes: { type: "string", default: "3" },
    entries: { type: "string", default: "50000" },
    rate: { type: "string", default: "200" },
    seconds: { type: "string", default: "10" },
    rounds: { type: "string", default: "3" },
  },
});
const [NODES, ENTRIES, RATE, SECONDS, ROUNDS] = [
  Number(values.nodes),
  Number(values.entries),
  Number(values.rate),
  Number(values.seconds),
  Number(values.rounds),
];
const BATCH = 100;
const CHANGES = { perSecond: RATE, seconds: SECONDS, keys: 1000 };
/** Before the rounds, as fast as the nodes take them and at most at this rate: our program is compiled while it runs. */
const FIRST_CHANGES = { perSecond: 5 * RATE, seconds: 2 * SECONDS, keys: 1000 };
const LATE_MS = 60_000;

/** What both peers can do. */
interface Members extends Mesh {
  readonly name: "waymark" | "etcd";
  load(wire: Wire, from: number, to: number): Promise<unknown>;
  /** Whether a node holds that many entries. */
  isWhole(server: Running, entries: number): Promise<boolean>;
}

function waymark(servers: readonly Running[]): Members {
  const status = toBinary(NamespaceStatusRequestSchema, create(NamespaceStatusRequestSchema, { namespace: NAMESPACE }));
  return {
    ...waymarkMesh(servers),
    name: "waymark",
    load: (wire, from, to) => wire.unary(PATH.register, registerBytes(from, to, { isStatic: false })),
    isWhole: async (server, entries) =>
      Number(fromBinary(NamespaceStatusResponseSchema, await ask(server, PATH.status, status)).endpointCount) >= entries,
  };
}

function etcd(servers: readonly Running[], { etcdValue }: Sizes): Members {
  return {
    name: "etcd",
    servers,
    textOf: etcdKey,
    load: (wire, from, to) => wire.unary(ETCD_PATH.txn, etcdTxn(from, to, etcdValue)),
    // Keys come in order at each member, so it looks for the last of each.
    isWhole: async (server, entries) => {
      const lasts = Array.from({ length: NODES }, (_, n) => etcdKey(entries - 1 - n * BATCH));
      const found = await Promise.all(lasts.map((key) => ask(server, ETCD_PATH.range, etcdRange(key))));
      return found.every((answer, n) => answer.includes(lasts[n] ?? ""));
    },
    open: async (server) => {
      const wires = [await Wire.open(server.grpc), await Wire.open(server.grpc)] as const;
      return {
        server,
        change: (k, version) => wires[0].unary(ETCD_PATH.put, etcdPut(k, Buffer.from(etcdValue).fill(String(version), 0, 1))),
        watch: (heard) => watchEtcd(wires[1], heard),
        close: () => wires.forEach((wire) => wire.close()),
      };
    },
  };
}

function watchEtcd(wire: Wire, heard: Heard): Promise<void> {
  return new Promise((resolve, reject) => {
    const stream = wire.stream(ETCD_PATH.watch, {
      onMessage: (bytes, start, end) => {
        // The first says that the watch is there.
        resolve();
        for (const { key, first } of etcdChanges(bytes.subarray(start, end))) heard(key, first - 0x30);
      },
      onEnd: (why) => reject(new Error(`a watch ended: ${why}`)),
    });
    stream.send(etcdWatch());
  });
}

async function until(isTrue: () => Promise<boolean>): Promise<void> {
  const endMs = performance.now() + LATE_MS;
  while (!(await isTrue())) {
    if (performance.now() > endMs) throw new Error("not every node holds everything");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Loads as many entries as there are to be from that number on, each node its share, until every node has all: µs of CPU an entry and node. */
async function load(mesh: Members, from: number): Promise<number> {
  const before = cpuMs(mesh.servers);
  const batches = ENTRIES / BATCH;
  await Promise.all(
    mesh.servers.map((server, n) =>
      driveAll(server, { count: Math.ceil((batches - n) / NODES), inFlight: 4 }, (wire, i) => {
        const first = from + (n + i * NODES) * BATCH;
        return mesh.load(wire, first, first + BATCH);
      }),
    ),
  );
  await until(async () => (await Promise.all(mesh.servers.map((server) => mesh.isWhole(server, from + ENTRIES)))).every(Boolean));
  return ((cpuMs(mesh.servers) - before) * 1000) / (ENTRIES * NODES);
}

const nodes: Running[] = [];
let seed: readonly string[] = [];
for (let i = 0; i < NODES; i++) {
  const node = await startNode({ dataDir: scratchDir("members"), isFree: true, isPlain: true, args: ["--node-id", `bench-${i}`, ...seed] });
  if (i === 0) seed = ["--join", node.listeners["fabric"] ?? fail()];
  nodes.push(node);
}
const [first = fail()] = nodes;
await ask(first, PATH.register, registerBytes(0, 10));
const members = await startEtcdCluster(NODES);
const ours = waymark(nodes);
const theirs = members.length === 0 ? undefined : etcd(members, await sizesOf(first, members[0]));
const meshes = theirs === undefined ? [ours] : [ours, theirs];

const [firstLoads, loads] = [new Map<Members, number>(), new Map<Members, number>()];
for (const mesh of meshes) firstLoads.set(mesh, await load(mesh, 0));
for (const mesh of meshes) loads.set(mesh, await load(mesh, ENTRIES));
const firstChanges = new Map<Members, Changes>();
for (const mesh of meshes) firstChanges.set(mesh, await changeAtRate(mesh, FIRST_CHANGES));
const results = new Map<Members, Changes[]>(meshes.map((mesh) => [mesh, []]));
for (let r = 0; r < ROUNDS; r++) {
  for (const mesh of r % 2 === 0 ? meshes : meshes.toReversed()) results.get(mesh)?.push(await changeAtRate(mesh, CHANGES));
}
for (const { servers } of meshes) for (const server of servers) await server.stop("SIGKILL");

const rows = meshes.map((mesh) => {
  const rounds = results.get(mesh) ?? [];
  const seen = rounds.flatMap(({ seenMs }) => seenMs);
  return {
    who: mesh.name,
    nodes: NODES,
    "loading into fresh nodes, CPU µs an entry and node": firstLoads.get(mesh) ?? fail(),
    "as many more": loads.get(mesh) ?? fail(),
    "the first changes, CPU µs a node": firstChanges.get(mesh)?.cpuUs ?? fail(),
    "a change, CPU µs a node": spread(rounds.map(({ cpuUs }) => cpuUs)),
    "seen p50 ms": percentile(seen, 0.5),
    "seen p99 ms": percentile(seen, 0.99),
  };
});
const cpuOf = (mesh: Members) => (results.get(mesh) ?? []).map(({ cpuUs }) => cpuUs);
const loadOf = (mesh: Members) => loads.get(mesh) ?? fail();
const notMeasured = { value: undefined, note: "not measured: the peer is not installed" };
const goals: readonly Goal[] = [
  {
    name: `${NODES} nodes, loading: etcd's CPU time an entry over ours`,
    unit: "×",
    atLeast: 0.8,
    ...(theirs === undefined ? notMeasured : { value: loadOf(theirs) / loadOf(ours) }),
  },
  { name: `${NODES} nodes, ${RATE} changes a second: seen at a node, p50`, value: rows[0]?.["seen p50 ms"], unit: "ms", atMost: 5 },
  { name: `${NODES} nodes, ${RATE} changes a second: seen at a node, p99`, value: rows[0]?.["seen p99 ms"], unit: "ms", atMost: 25 },
  {
    name: `${NODES} nodes, ${RATE} changes a second: etcd's CPU time a change and node over ours`,
    unit: "×",
    atLeast: 1.5,
    ...(theirs === undefined ? notMeasured : { value: ratioOf(cpuOf(theirs), cpuOf(ours))?.median }),
  },
];
report({
  name: "members",
  isKept: NODES === 3 && ROUNDS >= 3,
  tables: { "three nodes": rows },
  goals,
  notes: [
    `Loading and changes are measured when the nodes have done as much before: our program is compiled while it runs, and a node runs for days. What the first ${ENTRIES} entries and the first ${FIRST_CHANGES.perSecond * FIRST_CHANGES.seconds} changes cost fresh nodes stands beside it.`,
    `Real processes with data directories on this machine's two cores, and the load with all watches in one more process on the same cores. ${BATCH} entries a request while loading: ours make a lease for each request, etcd's are a transaction without one.`,
    "A change is timed from when the schedule had it, not from when it was sent, until a watch of everything at each node has it. Each key is changed at one node; at etcd the members hand a change to their leader.",
    "Each change is durable where it was taken before it is answered, at etcd at two members. That agreement is what etcd does and we do not: a change that only one of our nodes has taken is lost with that node's disk.",
  ],
});
