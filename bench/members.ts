/**
 * What does it cost three nodes to hold the same, and how soon does each show a change? Loading, and changes at a steady rate with a watch at
 * each node, beside etcd with three members: `npm run bench -- members [--nodes 3] [--entries 50000] [--rate 200] [--seconds 10] [--rounds 3]`.
 */
import { parseArgs } from "node:util";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Snapshot } from "../gen/waymark/catalog/v1/watch_pb.js";
import {
  CatalogWatchResponseSchema,
  NamespaceStatusRequestSchema,
  NamespaceStatusResponseSchema,
} from "../gen/waymark/discovery/v1/discovery_pb.js";
import { type Running, scratchDir, startNode } from "./_processes.ts";
import { type Goal, percentile, ratioOf, report, spread } from "./_results.ts";
import { Wire } from "./_wire.ts";
import { ask, driveAll, fail, keyOf, NAMESPACE, PATH, registerBytes, watchBytes } from "./_work.ts";
import { ETCD_PATH, etcdChanges, etcdKey, etcdPut, etcdTxn, etcdWatch, type Sizes, sizesOf, startEtcdCluster } from "./adapters/etcd.ts";

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
/** Keys that change in turn. The same comes again after some seconds, so that no change replaces one that is still on its way. */
const CHANGING = 1000;
const LATE_MS = 60_000;
/** The version that a change carries: one digit, since etcd's is the first byte of its value. */
const VERSIONS = 10;

/** What both peers can do. */
interface Mesh {
  readonly name: "waymark" | "etcd";
  readonly servers: readonly Running[];
  load(wire: Wire, from: number, to: number): Promise<unknown>;
  change(wire: Wire, k: number, version: number): Promise<unknown>;
  /** Whether a node holds all entries. */
  isWhole(server: Running): Promise<boolean>;
  /** Opens a watch of everything; resolves when changes from now on are told, as the key's text and its version. */
  watch(wire: Wire, heard: (key: string, version: number) => void): Promise<void>;
  textOf(k: number): string;
}

function waymark(servers: readonly Running[]): Mesh {
  const status = toBinary(NamespaceStatusRequestSchema, create(NamespaceStatusRequestSchema, { namespace: NAMESPACE }));
  return {
    name: "waymark",
    servers,
    load: (wire, from, to) => wire.unary(PATH.register, registerBytes(from, to, { isStatic: false })),
    change: (wire, k, version) => wire.unary(PATH.register, registerBytes(k, k + 1, { version })),
    isWhole: async (server) =>
      Number(fromBinary(NamespaceStatusResponseSchema, await ask(server, PATH.status, status)).endpointCount) >= ENTRIES,
    watch: (wire, heard) =>
      new Promise((resolve, reject) => {
        const stream = wire.stream(PATH.watch, {
          onMessage: (bytes, start, end) => {
            const message = fromBinary(CatalogWatchResponseSchema, bytes.subarray(start, end));
            for (const { payload } of message.deltas) {
              if (payload.case !== "entry") continue;
              const { key, metadata } = payload.value;
              heard(`${key?.name}/${key?.instanceId}`, Number(metadata["v"] ?? -1));
            }
            if (message.snapshot === Snapshot.END) resolve();
          },
          onEnd: (why) => reject(new Error(`a watch ended: ${why}`)),
        });
        stream.send(watchBytes());
        stream.end();
      }),
    textOf: (k) => `${keyOf(k).name}/${keyOf(k).instanceId}`,
  };
}

function etcd(servers: readonly Running[], { etcdValue }: Sizes): Mesh {
  const valueOf = (version: number) => Buffer.from(etcdValue).fill(String(version), 0, 1);
  return {
    name: "etcd",
    servers,
    load: (wire, from, to) => wire.unary(ETCD_PATH.txn, etcdTxn(from, to, etcdValue)),
    change: (wire, k, version) => wire.unary(ETCD_PATH.put, etcdPut(k, valueOf(version))),
    // Its last key is there, and keys come in order.
    isWhole: async (server) => {
      const range = await ask(
        server,
        ETCD_PATH.range,
        Buffer.concat([Buffer.from([0x0a, etcdKey(ENTRIES - 1).length]), Buffer.from(etcdKey(ENTRIES - 1)), Buffer.from([0x38, 1])]),
      );
      return range.includes(etcdKey(ENTRIES - 1));
    },
    watch: (wire, heard) =>
      new Promise((resolve, reject) => {
        let hasBegun = false;
        const stream = wire.stream(ETCD_PATH.watch, {
          onMessage: (bytes, start, end) => {
            if (!hasBegun) resolve();
            hasBegun = true;
            for (const { key, first } of etcdChanges(bytes.subarray(start, end))) heard(key, first - 0x30);
          },
          onEnd: (why) => reject(new Error(`a watch ended: ${why}`)),
        });
        stream.send(etcdWatch());
      }),
    textOf: etcdKey,
  };
}

function cpuMs(servers: readonly Running[]): number {
  return servers.reduce((sum, server) => sum + server.cpuMs(), 0);
}

async function until(isTrue: () => Promise<boolean>): Promise<void> {
  const endMs = performance.now() + LATE_MS;
  while (!(await isTrue())) {
    if (performance.now() > endMs) throw new Error("not whole");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Loads a third at each node, until every node has all: µs of CPU an entry and node. */
async function load(mesh: Mesh): Promise<number> {
  const before = cpuMs(mesh.servers);
  const batches = ENTRIES / BATCH;
  await Promise.all(
    mesh.servers.map((server, n) =>
      driveAll(server, { count: Math.ceil((batches - n) / NODES), inFlight: 4 }, (wire, i) => {
        const first = (n + i * NODES) * BATCH;
        return mesh.load(wire, first, first + BATCH);
      }),
    ),
  );
  await until(async () => (await Promise.all(mesh.servers.map((server) => mesh.isWhole(server)))).every(Boolean));
  return ((cpuMs(mesh.servers) - before) * 1000) / (ENTRIES * NODES);
}

interface Changes {
  readonly cpuUs: number;
  /** From when a change was due until a watch had it; one a change and node. */
  readonly seenMs: readonly number[];
}

let version = 0;

/** Changes at a steady rate, each key always at the same node, whether or not earlier ones are answered. */
async function change(mesh: Mesh): Promise<Changes> {
  const total = RATE * SECONDS;
  const seenMs: number[] = [];
  const dueAt = new Map<string, number>();
  const wires = await Promise.all(mesh.servers.map((server) => Wire.open(server.grpc)));
  const watches = await Promise.all(mesh.servers.map((server) => Wire.open(server.grpc)));
  let heardAll: () => void = () => {};
  const all = new Promise<void>((resolve) => (heardAll = resolve));
  const heard = (key: string, told: number) => {
    const due = dueAt.get(`${key} ${told}`);
    if (due === undefined) return;
    if (seenMs.push(performance.now() - due) === total * NODES) heardAll();
  };
  await Promise.all(watches.map((wire) => mesh.watch(wire, heard)));
  await new Promise((resolve) => setTimeout(resolve, 1000));
  const beforeMs = cpuMs(mesh.servers);
  const startMs = performance.now();
  const late = setTimeout(() => fail(), SECONDS * 1000 + LATE_MS);
  let sent = 0;
  const turn = () => {
    const due = Math.min(total, Math.floor(((performance.now() - startMs) / 1000) * RATE) + 1);
    for (; sent < due; sent++) {
      const k = sent % CHANGING;
      if (k === 0) version = (version + 1) % VERSIONS;
      dueAt.set(`${mesh.textOf(k)} ${version}`, startMs + (sent * 1000) / RATE);
      void mesh.change(wires[k % NODES] as Wire, k, version);
    }
    // A timer, though it adds up to a millisecond: looking all the time would take a core from the nodes.
    if (sent < total) setTimeout(turn, Math.max(1, startMs + (sent * 1000) / RATE - performance.now()));
  };
  turn();
  await all;
  clearTimeout(late);
  const cpuUs = ((cpuMs(mesh.servers) - beforeMs) * 1000) / (total * NODES);
  for (const wire of [...wires, ...watches]) wire.close();
  return { cpuUs, seenMs };
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

const loads = new Map<Mesh, number>();
for (const mesh of meshes) loads.set(mesh, await load(mesh));
const results = new Map<Mesh, Changes[]>(meshes.map((mesh) => [mesh, []]));
for (const mesh of meshes) await change(mesh);
for (let r = 0; r < ROUNDS; r++) {
  for (const mesh of r % 2 === 0 ? meshes : meshes.toReversed()) results.get(mesh)?.push(await change(mesh));
}
for (const { servers } of meshes) for (const server of servers) await server.stop("SIGKILL");

const rows = meshes.map((mesh) => {
  const rounds = results.get(mesh) ?? [];
  const seen = rounds.flatMap(({ seenMs }) => seenMs);
  return {
    who: mesh.name,
    nodes: NODES,
    "loading, CPU µs an entry and node": loads.get(mesh) ?? fail(),
    "a change, CPU µs a node": spread(rounds.map(({ cpuUs }) => cpuUs)),
    "seen p50 ms": percentile(seen, 0.5),
    "seen p99 ms": percentile(seen, 0.99),
  };
});
const cpuOf = (mesh: Mesh) => (results.get(mesh) ?? []).map(({ cpuUs }) => cpuUs);
const loadOf = (mesh: Mesh) => loads.get(mesh) ?? fail();
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
    `Real processes with data directories on this machine's two cores, and the load with all watches in one more process on the same cores. ${BATCH} entries a request while loading: ours make a lease for each request, etcd's are a transaction without one.`,
    "A change is timed from when the schedule had it, not from when it was sent, until a watch of everything at each node has it. Each key is changed at one node; at etcd the members hand a change to their leader.",
    "Each change is durable where it was taken before it is answered, at etcd at two members. That agreement is what etcd does and we do not: a change that only one of our nodes has taken is lost with that node's disk.",
  ],
});
