/**
 * What does it cost three nodes to hold the same, and how soon does each show a change? Loading, and changes at a steady rate with a watch at
 * each node, beside etcd with three members. About two minutes.
 * `npm run bench -- members [--nodes 3] [--entries 20000] [--rate 200] [--seconds 5] [--rounds 5]`.
 */
import { argsOf, asksForAll } from "./_args.ts";
import { type ChangeOptions, type Changes, changeAtRate, type OpenMesh, openMesh, othersIn, seenAt } from "./_changes.ts";
import { countOn, cpuMs, type Heard, type Mesh, startMembers, until, waymarkMesh } from "./_mesh.ts";
import type { Running } from "./_processes.ts";
import { type Goal, quiet, ratioGoal, ratioOf, report, round, spread } from "./_results.ts";
import { Wire } from "./_wire.ts";
import { ask, driveAll, fail, PATH, registerBytes } from "./_work.ts";
import { type Sizes, sizesOf, startEtcdCluster } from "./adapters/etcd.ts";
import { ETCD_PATH, etcdChanges, etcdKey, etcdPut, etcdRange, etcdTxn, etcdWatch } from "./adapters/etcd-messages.ts";

const DEFAULTS = { nodes: 3, entries: 20_000, rate: 200, seconds: 5, rounds: 5 };
const values = argsOf(DEFAULTS);
const [NODES, ENTRIES, RATE, SECONDS, ROUNDS] = [values.nodes, values.entries, values.rate, values.seconds, values.rounds];
const BATCH = 100;
/** Fewer of loading, each of which adds entries for good. */
const LOAD_ROUNDS = Math.min(ROUNDS, 3);
const CHANGES: ChangeOptions = { perSecond: RATE, seconds: SECONDS, keys: 1000 };
/** Before the rounds, as fast as the nodes take them and at most at this rate: our program is compiled while it runs. */
const FIRST_CHANGES: ChangeOptions = { perSecond: 5 * RATE, seconds: 10, keys: 1000 };
/** etcd's value says its version in its first byte. */
const MAX_VERSION = 255;

/** What both peers can do. */
interface Members {
  readonly mesh: Mesh;
  load(wire: Wire, from: number, to: number): Promise<unknown>;
  /** Whether a node holds that many entries. */
  isWhole(server: Running, entries: number): Promise<boolean>;
}

function waymark(servers: readonly Running[]): Members {
  return {
    mesh: waymarkMesh(servers),
    load: (wire, from, to) => wire.unary(PATH.register, registerBytes(from, to)),
    isWhole: async (server, entries) => (await countOn(server)) >= entries,
  };
}

function etcd(servers: readonly Running[], { etcdValue }: Sizes): Members {
  return {
    mesh: {
      who: `etcd, ${servers.length} members`,
      servers,
      textOf: etcdKey,
      open: async (server) => {
        const wires = [await Wire.open(server.grpc), await Wire.open(server.grpc)] as const;
        return {
          change: (k, version) =>
            version > MAX_VERSION ? fail() : wires[0].unary(ETCD_PATH.put, etcdPut(k, Buffer.from(etcdValue).fill(version, 0, 1))),
          watch: (heard) => watchEtcd(wires[1], heard),
          close: () => wires.forEach((wire) => wire.close()),
        };
      },
    },
    load: (wire, from, to) => wire.unary(ETCD_PATH.txn, etcdTxn(from, to, etcdValue)),
    // Keys come in order at each member, so it looks for the last of each.
    isWhole: async (server, entries) => {
      const lasts = Array.from({ length: NODES }, (_, n) => etcdKey(entries - 1 - n * BATCH));
      const found = await Promise.all(lasts.map((key) => ask(server, ETCD_PATH.range, etcdRange(key))));
      return found.every((answer, n) => answer.includes(lasts[n] ?? ""));
    },
  };
}

function watchEtcd(wire: Wire, heard: Heard): Promise<void> {
  return new Promise((resolve, reject) => {
    const stream = wire.stream(ETCD_PATH.watch, {
      onMessage: (bytes, start, end) => {
        // The first says that the watch is there.
        resolve();
        for (const { key, first } of etcdChanges(bytes.subarray(start, end))) heard(key, first);
      },
      onEnd: (why) => reject(new Error(`a watch ended: ${why}`)),
    });
    stream.send(etcdWatch());
  });
}

/** Loads as many entries as there are to be from that number on, each node its share, until every node has all: µs of CPU an entry and node. */
async function load({ mesh: { who, servers }, ...members }: Members, from: number): Promise<number> {
  const before = cpuMs(servers);
  const batches = ENTRIES / BATCH;
  await Promise.all(
    servers.map((server, n) =>
      driveAll(server, { count: Math.ceil((batches - n) / NODES), inFlight: 4 }, (wire, i) => {
        const first = from + (n + i * NODES) * BATCH;
        return members.load(wire, first, first + BATCH);
      }),
    ),
  );
  const isWhole = async () => (await Promise.all(servers.map((server) => members.isWhole(server, from + ENTRIES)))).every(Boolean);
  await until(isWhole, `${who}: every node holds everything`);
  return ((cpuMs(servers) - before) * 1000) / (ENTRIES * NODES);
}

/** What is measured of one peer. */
interface Side {
  readonly members: Members;
  readonly firstLoad: number;
  readonly loads: number[];
  readonly rounds: Changes[];
}

/** Goes through all sides, in an order that turns round each time. */
async function inTurns(
  sides: readonly Side[],
  rounds: number,
  work: (side: Side, i: number, round: number) => Promise<void>,
): Promise<void> {
  for (let r = 0; r < rounds; r++)
    for (const i of r % 2 === 0 ? sides.keys() : [...sides.keys()].toReversed()) await work(sides[i] ?? fail(), i, r);
}

const nodes = await startMembers(NODES);
const [first = fail()] = nodes;
await ask(first, PATH.register, registerBytes(0, 10));
const etcds = await startEtcdCluster(NODES);
const peers = etcds.length === 0 ? [waymark(nodes)] : [waymark(nodes), etcd(etcds, await sizesOf(first, etcds[0]))];
const sides: Side[] = [];
for (const members of peers) sides.push({ members, firstLoad: await load(members, 0), loads: [], rounds: [] });
await inTurns(sides, LOAD_ROUNDS, async ({ members, loads }, _, r) => void loads.push(await load(members, (1 + r) * ENTRIES)));
console.error("everything is loaded");
const meshes: OpenMesh[] = [];
for (const { mesh } of peers) meshes.push(await openMesh(mesh));
const firstChanges: Changes[] = [];
for (const mesh of meshes) firstChanges.push(await changeAtRate(mesh, FIRST_CHANGES));
const beside = peers.map(({ mesh }) => mesh);
await inTurns(sides, ROUNDS, async ({ rounds }, i) => void rounds.push(await changeAtRate(meshes[i] ?? fail(), { ...CHANGES, beside })));
for (const mesh of meshes) mesh.close();
for (const server of [...nodes, ...etcds]) await server.stop("SIGKILL");

const rows = sides.map(({ members, firstLoad, loads, rounds }, i) => ({
  who: members.mesh.who,
  nodes: NODES,
  "loading into fresh nodes, CPU µs per entry and node": firstLoad,
  "loading more": spread(loads),
  "the first changes, CPU µs per node": firstChanges[i]?.cpuUs,
  "a change, CPU µs per node": spread(rounds.map(({ cpuUs }) => cpuUs)),
  "seen p50 ms": seenAt(rounds, 0.5),
  "seen p99 ms": seenAt(rounds, 0.99),
  missing: rounds.reduce((sum, { missing }) => sum + missing, 0),
  "others' share of the machine": round(othersIn(rounds)),
}));
const [ours = fail(), theirs] = sides;
const [row = fail(), peerRow] = rows;
const changing = `${RATE} changes a second to ${NODES} nodes`;
const beyond = `etcd, ${NODES} members, which agree on each change by consensus (we do not)`;

interface Cost {
  readonly name: string;
  readonly work: string;
  readonly unit: string;
  readonly atLeast: number;
  readonly costs: (side: Side) => readonly number[];
}

function costGoal({ name, work, unit, atLeast, costs }: Cost): Goal {
  return ratioGoal({
    name: `${NODES} nodes, ${name} over ours`,
    shown: { work, beside: beyond, unit },
    ratio: theirs && ratioOf(costs(theirs), costs(ours)),
    ours: spread(costs(ours)),
    theirs: theirs && spread(costs(theirs)),
    atLeast,
  });
}

function seenGoal(which: "p50" | "p99", atMost: number): Goal {
  const seen = row[`seen ${which} ms`];
  const goal: Goal = {
    name: `${changing}: seen at a node, ${which}`,
    value: seen.median,
    unit: "ms",
    atMost,
    shown: {
      work: `${changing}: time from when a change is due until a watch on a node shows it, ${which}`,
      beside: beyond,
      unit: "ms",
      ours: seen,
      ...(peerRow !== undefined && { theirs: peerRow[`seen ${which} ms`] }),
    },
  };
  return quiet(goal, othersIn(ours.rounds));
}

report({
  name: "members",
  isKept: NODES === DEFAULTS.nodes && asksForAll(values, DEFAULTS),
  tables: { "three nodes": rows },
  goals: [
    costGoal({
      name: "loading: etcd's CPU time an entry",
      work: `loading ${NODES} nodes, ${BATCH} entries per request`,
      unit: "µs of CPU per entry and node",
      atLeast: 0.8,
      costs: ({ loads }) => loads,
    }),
    seenGoal("p50", 5),
    seenGoal("p99", 25),
    costGoal({
      name: `${RATE} changes a second: etcd's CPU time a change and node`,
      work: `${changing}, with a watch on each`,
      unit: "µs of CPU per change and node",
      atLeast: 1.5,
      costs: ({ rounds }) => rounds.map(({ cpuUs }) => cpuUs),
    }),
    { name: "changes that a watch did not show", value: row["missing"], unit: "changes", atMost: 0 },
  ],
  notes: [
    `Loading and changes are measured after the nodes have done as much before, because our program is compiled while it runs, and nodes run for days. The cost of the first ${ENTRIES} entries and the first ${FIRST_CHANGES.perSecond * FIRST_CHANGES.seconds} changes on fresh nodes is in separate columns.`,
    `The nodes are real processes with data directories on this machine's cores. The load and all watches run in one more process on the same cores. Loading sends ${BATCH} entries per request, and per transaction in etcd. Entries have no lease on either side, so none ends during the measurement.`,
    "A change is timed from its scheduled time, not from when it was sent, until a watch of everything on each node has it. Each key is changed on one node; etcd's members forward a change to their leader.",
    "Each change is durable on the receiving node before it is answered, and in etcd on two members. This agreement is the difference: a change that only one Waymark node has received is lost if the disk of that node is lost.",
    "Only Waymark checks each entry against the schema and the policy, and indexes it by name, tag and target.",
  ],
});
