/** Measurements on simulated meshes: each builds a world, does one thing many times and returns figures in virtual time. */
import { multiHub, quantile, Scenario, type Shape, star } from "./scenario.ts";

export interface World {
  readonly nodes: number;
  readonly seed: number;
  readonly loss?: number;
  readonly maxLinks?: number;
}

/** A mesh in which everybody knows everybody, all links are up and all replicas are equal. */
export function settled(world: World & Partial<Pick<Shape, "clientCount" | "watches" | "seeds" | "fabric">>): Scenario {
  const scenario = new Scenario({ seeds: star(world.nodes), ...world });
  scenario.start(50);
  scenario.run(world.nodes * 50);
  const joinedMs = scenario.until(
    () => scenario.knowAll() && scenario.up().every(({ process }) => process?.isReady === true),
    120_000,
    200,
  );
  if (joinedMs === undefined) throw new Error(`${world.nodes} nodes have not found each other in two minutes`);
  scenario.run(10_000);
  return scenario;
}

export interface Spread {
  readonly p50Ms: number;
  readonly p95Ms: number;
  readonly maxMs: number;
}

function spreadOf(delaysMs: readonly number[]): Spread {
  return { p50Ms: quantile(delaysMs, 0.5), p95Ms: quantile(delaysMs, 0.95), maxMs: quantile(delaysMs, 1) };
}

/** From a record's commit at its node until each other node holds it. */
export function changesSpread({ changes, ...world }: World & { readonly changes: number }): Spread & { readonly samples: number } {
  const scenario = settled({ ...world, clientCount: changes });
  const delaysMs: number[] = [];
  for (let i = 0; i < changes; i++) {
    const home = (i * 7) % world.nodes;
    const origin = scenario.sim.nodes[home]?.process?.replica.self;
    const before = origin?.through ?? 0;
    scenario.register(i, home);
    scenario.until(() => (origin?.through ?? 0) > before, 2000, 1);
    const startMs = scenario.nowMs;
    const waiting = new Set(scenario.up());
    scenario.until(
      () => {
        for (const node of waiting) {
          if ((node.process?.replica.origins.get(origin?.id ?? "")?.through ?? 0) <= before) continue;
          waiting.delete(node);
          delaysMs.push(scenario.nowMs - startMs);
        }
        return waiting.size === 0;
      },
      30_000,
      10,
    );
    delaysMs.push(...Array.from(waiting, () => Number.POSITIVE_INFINITY));
    scenario.run(200);
  }
  return { ...spreadOf(delaysMs), samples: delaysMs.length };
}

/** From a node's start, or its goodbye, until each other node has heard of it. */
export function joinsAndLeavesSpread({ rounds, ...world }: World & { readonly rounds: number }) {
  const scenario = settled(world);
  const { nodes } = scenario.sim;
  const [joinMs, leaveMs]: [number[], number[]] = [[], []];
  for (let round = 0; round < rounds; round++) {
    const node = nodes[1 + ((round * 13) % (world.nodes - 1))];
    if (node === undefined) continue;
    const others = scenario.up().filter((other) => other !== node);
    const heardOf = (isThere: boolean, delaysMs: number[]) => {
      const startMs = scenario.nowMs;
      const waiting = new Set(others);
      scenario.until(
        () => {
          for (const other of waiting) {
            if (other.process?.lists(node.name) !== isThere) continue;
            waiting.delete(other);
            delaysMs.push(scenario.nowMs - startMs);
          }
          return waiting.size === 0;
        },
        60_000,
        10,
      );
      delaysMs.push(...Array.from(waiting, () => Number.POSITIVE_INFINITY));
    };
    node.stop("leave", 3000);
    heardOf(false, leaveMs);
    scenario.run(5000);
    node.start();
    heardOf(true, joinMs);
    scenario.run(10_000);
  }
  const [join, leave] = [spreadOf(joinMs), spreadOf(leaveMs)];
  return { joinP95Ms: join.p95Ms, joinMaxMs: join.maxMs, leaveP95Ms: leave.p95Ms, leaveMaxMs: leave.maxMs };
}

/** Deaths that nobody died, and what membership and an idle mesh cost. */
export function quietHour({ minutes, ...world }: World & { readonly minutes: number }) {
  const scenario = settled(world);
  const { events, network, world: time } = scenario.sim;
  const before = events.get("member_dead") ?? 0;
  const suspectedBefore = events.get("member_suspected") ?? 0;
  const startEvents = time.eventCount;
  const startCpu = process.cpuUsage();
  for (const traffic of network.traffic) Object.assign(traffic, { calls: 0, callBytes: 0, frames: 0, frameBytes: 0 });
  scenario.run(minutes * 60_000);
  const perNodeSecond = (what: "calls" | "callBytes" | "frames" | "frameBytes") =>
    Number((network.traffic.reduce((sum, traffic) => sum + traffic[what], 0) / world.nodes / minutes / 60).toFixed(1));
  return {
    falseDeaths: (events.get("member_dead") ?? 0) - before,
    suspicions: (events.get("member_suspected") ?? 0) - suspectedBefore,
    knowAll: scenario.knowAll(),
    callsPerNodeSecond: perNodeSecond("calls"),
    callBytesPerNodeSecond: perNodeSecond("callBytes"),
    framesPerNodeSecond: perNodeSecond("frames"),
    frameBytesPerNodeSecond: perNodeSecond("frameBytes"),
    events: time.eventCount - startEvents,
    cpuSeconds: Math.round(process.cpuUsage(startCpu).user / 1e6),
  };
}

/** From a machine's loss of power until everybody else takes it for dead. */
export function crashesAreKnown({ crashes, ...world }: World & { readonly crashes: number }): Spread {
  const scenario = settled(world);
  const delaysMs: number[] = [];
  for (let i = 0; i < crashes; i++) {
    const node = scenario.sim.nodes[1 + ((i * 11) % (world.nodes - 1))];
    if (node === undefined) continue;
    node.crash({ isSilent: true, isBatchKept: true, isDiskLost: false });
    const startMs = scenario.nowMs;
    const waiting = new Set(scenario.up());
    scenario.until(
      () => {
        for (const other of waiting) {
          if (other.process?.lists(node.name) !== false) continue;
          waiting.delete(other);
          delaysMs.push(scenario.nowMs - startMs);
        }
        return waiting.size === 0;
      },
      120_000,
      100,
    );
    delaysMs.push(...Array.from(waiting, () => Number.POSITIVE_INFINITY));
    node.start();
    scenario.run(30_000);
  }
  return spreadOf(delaysMs);
}

/** Two halves apart, with work on both sides; then together again. */
export function partitionHeals({ minutes, ...world }: World & { readonly minutes: number }) {
  const scenario = settled({ ...world, clientCount: world.nodes * 2 });
  const { network, nodes } = scenario.sim;
  const half = Math.floor(world.nodes / 2);
  const pairs = nodes.slice(0, half).flatMap((a) => nodes.slice(half).map((b) => [a.index, b.index] as const));
  for (const [a, b] of pairs) {
    network.cut(a, b);
    network.cut(b, a);
  }
  for (let i = 0; i < world.nodes * 2; i++) {
    scenario.register(i, i % world.nodes);
    scenario.run((minutes * 60_000) / (world.nodes * 2));
  }
  const apart = scenario.aliveAt(0);
  const differencesApart = scenario.differences().length;
  for (const [a, b] of pairs) {
    network.heal(a, b);
    network.heal(b, a);
  }
  const startMs = scenario.nowMs;
  const linkedMs = scenario.until(() => network.isConnected(nodes.map(({ index }) => index)), 120_000, 50);
  const equalMs = scenario.until(() => scenario.areEqual(), 120_000, 50);
  const equalAtMs = scenario.nowMs;
  const differences = scenario.differences();
  const records = Math.min(...scenario.up().map(({ process }) => process?.replica.lookup.size ?? 0));
  scenario.until(() => scenario.knowAll(), 120_000, 100);
  return {
    aliveWhileApart: apart,
    differencesApart,
    linkedMs: linkedMs ?? Number.POSITIVE_INFINITY,
    equalAfterLinkedMs: equalMs ?? Number.POSITIVE_INFINITY,
    equalMs: equalAtMs - startMs,
    /** At that moment, records and not only vectors. */
    differences,
    records,
    membersMs: scenario.knowAll() ? scenario.nowMs - startMs : Number.POSITIVE_INFINITY,
  };
}

/**
 * A node is cut off for a minute while others go on registering: by how much its age falls short of the time for which it has lacked
 * what they have told each other, and whether it knows nobody in the end.
 */
export function ageWhileCutOff(world: World) {
  const scenario = settled({ ...world, clientCount: world.nodes });
  const { network, nodes } = scenario.sim;
  const process = nodes[0]?.process;
  if (process === undefined) throw new Error("node 0 is not up");
  const others = nodes.slice(1);
  const says = () => process.fabric.readiness.read(process.time()).ageMs;
  const [before, atMs] = [says(), scenario.nowMs];
  for (const { index } of others) {
    network.cut(0, index);
    network.cut(index, 0);
    scenario.register(index, index);
  }
  scenario.run(100);
  let [shortMs, lackedMs] = [Number.NEGATIVE_INFINITY, 0];
  while (scenario.nowMs - atMs < 60_000) {
    const lacks = others.some(
      ({ process: other }) =>
        (process.replica.origins.get(other?.replica.self.id ?? "")?.through ?? 0) < (other?.replica.self.through ?? 0),
    );
    if (lacks) {
      lackedMs = scenario.nowMs - atMs - 100;
      shortMs = Math.max(shortMs, lackedMs - says());
    }
    scenario.run(100);
  }
  return { before, shortMs, lackedMs, isAlone: !others.some(({ name }) => process.lists(name)) };
}

/**
 * A node is cut off and continues to accept writes. For each 100 ms of a minute: whether another node lacks a write that the cut-off node accepted more than
 * a second ago, whether its age is still below a second, and whether it lists the node as unreachable.
 */
export function writesBehindCut(world: World) {
  const scenario = settled({ ...world, clientCount: world.nodes });
  const { network, nodes } = scenario.sim;
  const [cut, reader] = [nodes[0]?.process, nodes[1]?.process];
  if (cut === undefined || reader === undefined) throw new Error("two nodes are not up");
  const others = nodes.slice(1);
  const named = () => reader.fabric.unreachable(reader.time())?.nodeIds ?? [];
  const before = named();
  for (const { index } of others) {
    network.cut(0, index);
    network.cut(index, 0);
  }
  scenario.run(1000);
  scenario.register(0, 0);
  scenario.run(1500);
  const lacks = () => (reader.replica.origins.get(cut.replica.self.id)?.through ?? 0) < cut.replica.self.through;
  const counts = { lacking: 0, young: 0, silent: 0 };
  for (let i = 0; i < 600; i++) {
    if (lacks()) counts.lacking += 1;
    const isYoung = lacks() && reader.fabric.readiness.read(reader.time()).ageMs < 1000;
    if (isYoung) counts.young += 1;
    if (isYoung && !named().includes(cut.node.name)) counts.silent += 1;
    scenario.run(100);
  }
  const whileCut = named();
  for (const { index } of others) {
    network.heal(0, index);
    network.heal(index, 0);
  }
  scenario.run(60_000);
  return { before, ...counts, whileCut, cutName: cut.node.name, lacksAfter: lacks(), after: named() };
}

/**
 * Above `maxLinks`: a node is cut off from those it has links to, in silence, and goes on registering; the others go on calling it alive.
 * By how much the ages of those that never had a link to it fall short of the time for which they have lacked what it wrote.
 */
export function ageBeyondNeighbours(world: World & { readonly maxLinks: number }) {
  const scenario = settled({ ...world, clientCount: world.nodes });
  const { network, nodes } = scenario.sim;
  nodes.forEach((_, i) => scenario.register(i, i));
  scenario.run(30_000);
  const cut = nodes[0]?.process;
  if (cut === undefined) throw new Error("node 0 is not up");
  const linked = new Set(cut.fabric.links().map(({ nodeId }) => nodeId));
  const far = nodes.filter(({ name }, i) => i > 0 && !linked.has(name));
  const says = ({ process }: (typeof far)[number]) => process?.fabric.readiness.read(process.time());
  let quietMs = 0;
  for (let i = 0; i < 100; i++) {
    quietMs = Math.max(quietMs, ...far.map((node) => says(node)?.ageMs ?? 0));
    scenario.run(100);
  }
  for (const { index, name } of nodes) {
    if (!linked.has(name)) continue;
    network.cut(0, index);
    network.cut(index, 0);
  }
  const atMs = scenario.nowMs;
  scenario.register(0, 0, 0, 1);
  let [shortMs, lackedMs] = [Number.NEGATIVE_INFINITY, 0];
  const wasInStep = far.every((node) => says(node)?.isInStep === true);
  // Then it looks for other neighbours.
  while (scenario.nowMs - atMs < 18_000) {
    scenario.run(100);
    for (const node of far) {
      const has = node.process?.replica.origins.get(cut.replica.self.id)?.through ?? 0;
      if (has >= cut.replica.self.through || node.process?.lists("n0") !== true) continue;
      lackedMs = scenario.nowMs - atMs - 100;
      shortMs = Math.max(shortMs, lackedMs - (says(node)?.ageMs ?? 0));
    }
  }
  const isInStep = far.some((node) => says(node)?.isInStep === true);
  network.healAll();
  const healedMs = scenario.until(() => far.every((node) => (says(node)?.ageMs ?? 0) < 15_000), 120_000);
  return { farCount: far.length, quietMs, wasInStep, shortMs, lackedMs, isInStep, healedMs };
}

/** All start at once and join by one node, or by hubs; then a quarter leaves for good and comes back, and another quarter dies. */
export function shapeConverges({ hubs, ...world }: World & { readonly hubs: number }) {
  const seeds = hubs === 0 ? star(world.nodes) : multiHub(world.nodes, hubs);
  const scenario = new Scenario({ ...world, seeds });
  scenario.start(0);
  scenario.run(100);
  const joinedMs = scenario.until(() => scenario.knowAll(), 120_000) ?? Number.POSITIVE_INFINITY;
  scenario.run(5000);
  const { nodes, network } = scenario.sim;
  const links = network.openLinks;
  const leaving = nodes.filter(({ index }) => index % 4 === 3);
  for (const node of leaving) node.stop("leave", 2000);
  scenario.run(2100);
  const listedMs = scenario.until(() => scenario.knowAll(), 60_000) ?? Number.POSITIVE_INFINITY;
  for (const node of nodes.filter(({ index }) => index % 4 === 2)) node.crash({ isSilent: false, isBatchKept: true, isDiskLost: false });
  const deadMs = scenario.until(() => scenario.knowAll(), 120_000) ?? Number.POSITIVE_INFINITY;
  for (const node of nodes) node.start();
  scenario.run(100);
  const againMs = scenario.until(() => scenario.knowAll(), 120_000) ?? Number.POSITIVE_INFINITY;
  return { joinedMs, links, listedAfterLeaveMs: listedMs, deadKnownMs: deadMs, allBackMs: againMs };
}

/** Entries end and come at 10 % a minute, with watches on; every check of a seed is made as it goes. */
export function churn({ entries, minutes, ...world }: World & { readonly entries: number; readonly minutes: number }) {
  const watches = [0, 1, 2].map((filter) => ({ node: filter % world.nodes, filter, everyMs: 500, budgetBytes: 4000 }));
  const scenario = settled({ ...world, clientCount: entries, watches });
  for (let i = 0; i < entries; i++) scenario.register(i, i % world.nodes);
  scenario.run(5000);
  const changes = Math.round(entries * 0.1 * minutes);
  for (let i = 0; i < changes; i++) {
    const client = scenario.sim.clients[(i * 17) % entries];
    const node = (i * 5) % world.nodes;
    if (client?.wish?.state === "present" && i % 2 === 0) client.want({ ...client.wish, state: "gone", node });
    else scenario.register((i * 17) % entries, node, 0, i % 5);
    scenario.run((minutes * 60_000) / changes);
  }
  scenario.run(15_000);
  const up = scenario.up();
  const sizes = up.map(({ process }) => process?.replica.lookup.size ?? 0);
  const tombstones = Math.max(...up.map(({ process }) => process?.replica.tombstoneCount ?? 0));
  return {
    isEqual: scenario.areEqual() && scenario.differences().length === 0 && new Set(sizes).size === 1,
    entries: sizes[0] ?? 0,
    changes,
    tombstones,
    tombstoneBound: Math.max(up[0]?.options.minTombstones ?? 0, entries),
    slabBytes: Math.max(...up.map(({ process }) => process?.replica.slab.stats().usedBytes ?? 0)),
    bookmarks: scenario.sim.watches.reduce((sum, { settledCount }) => sum + settledCount, 0),
  };
}
