/** Meshes of links under random schedules: they converge, whatever was lost, and nothing leaves its scope (P1, P5, P6). */
import fc from "fast-check";
import { expect, test } from "vitest";
import { mayHold, relationOf, SCOPE, type Scope } from "../../src/catalog/entry/scope.ts";
import { BODY } from "../../src/catalog/record/record.ts";
import { startNewGeneration } from "../../src/catalog/replica/new-generation.ts";
import { runs, some } from "../fakes/effort.ts";
import { ReplicatingNode, run, Wire, type WireOptions } from "../fakes/replication.ts";

const KINDS = ["put", "put", "put", "put", "end", "gone", "collect", "cut", "stall", "renew", "wait", "wait"] as const;
const NAMES = ["a", "b", "c", "d", "e", "f"] as const;
const SCOPES: readonly Scope[] = [SCOPE.LOCAL, SCOPE.ZONE, SCOPE.REGION, SCOPE.ZONE, SCOPE.REGION];

interface Step {
  readonly kind: (typeof KINDS)[number];
  readonly node: number;
  readonly name: number;
  readonly detail: number;
}

const STEPS: fc.Arbitrary<readonly Step[]> = fc.array(
  fc.record({ kind: fc.constantFrom(...KINDS), node: fc.nat(4), name: fc.nat(NAMES.length - 1), detail: fc.nat(99) }),
  { minLength: 5, maxLength: 60, size: "max" },
);

/** Clusters of the nodes, by index; the links there are, as pairs of indexes. */
interface Shape {
  readonly clusters: readonly string[];
  readonly regions?: readonly string[];
  readonly links: readonly (readonly [number, number])[];
}

const SHAPES: Readonly<Record<string, Shape>> = {
  "three in a ring": {
    clusters: ["c1", "c1", "c1"],
    links: [
      [0, 1],
      [1, 2],
      [2, 0],
    ],
  },
  "a chain of five": {
    clusters: ["c1", "c1", "c1", "c1", "c1"],
    links: [
      [0, 1],
      [1, 2],
      [2, 3],
      [3, 4],
    ],
  },
  "two clusters, two borders": {
    clusters: ["c1", "c1", "c2", "c2"],
    links: [
      [0, 1],
      [2, 3],
      [0, 2],
      [1, 3],
    ],
  },
  "three clusters in a row and back": {
    clusters: ["c1", "c2", "c3", "c1"],
    links: [
      [0, 1],
      [1, 2],
      [2, 0],
      [0, 3],
    ],
  },
  "two regions": {
    clusters: ["c1", "c1", "c2"],
    regions: ["r1", "r1", "r2"],
    links: [
      [0, 1],
      [1, 2],
      [0, 2],
    ],
  },
};

/** Does the steps, then runs until all is quiet; checks P1 after every step. */
function play(shape: Shape, steps: readonly Step[], options: WireOptions): readonly ReplicatingNode[] {
  const nodes = shape.clusters.map(
    (clusterId, i) =>
      new ReplicatingNode({
        nodeId: `n${i}`,
        clusterId,
        region: shape.regions?.[i] ?? "r1",
        options: { maxFrameBytes: 400 },
      }),
  );
  let now = 0;
  const connect = ([a, b]: readonly [number, number]): Wire => new Wire(nodes[a]!, nodes[b]!, now, options);
  const wires = shape.links.map(connect);
  for (const step of steps) {
    now = take(step, { nodes, wires, connect, links: shape.links }, now);
    for (const node of nodes) expectInScope(node, nodes);
  }
  for (const wire of wires) wire.isStalled = false;
  run(wires, now, 120_000, () => isQuiet(nodes, shape));
  return nodes;
}

interface World {
  readonly nodes: readonly ReplicatingNode[];
  readonly wires: Wire[];
  readonly links: Shape["links"];
  readonly connect: (pair: readonly [number, number]) => Wire;
}

function take(step: Step, world: World, now: number): number {
  const { nodes, wires } = world;
  const node = nodes[step.node % nodes.length]!;
  const at = step.detail % wires.length;
  switch (step.kind) {
    case "put":
      node.put(NAMES[step.name]!, now, { scope: SCOPES[step.detail % SCOPES.length]!, tag: `t${step.detail}` });
      break;
    case "end":
    case "gone": {
      const records = node.records();
      const record = records[step.detail % Math.max(1, records.length)];
      if (record !== undefined) node.end(record.key, step.kind === "end" ? BODY.EXPIRED : BODY.UNREGISTERED, now);
      break;
    }
    case "collect":
      // Who has not caught up does not know what its tombstones hide.
      if ([...node.links].every((link) => link.isCaughtUp)) node.collect(now + 10_000);
      break;
    case "cut":
      wires[at]!.close();
      wires[at] = world.connect(world.links[at]!);
      break;
    case "stall":
      wires[at]!.isStalled = !wires[at]!.isStalled;
      break;
    case "renew":
      startNewGeneration(node.replica, node.replica.self.generation + 1);
      node.replica.sweep(Number.POSITIVE_INFINITY, node.timeOf(now));
      node.shared.changed(node.timeOf(now));
      break;
    case "wait":
      return run(wires, now, step.detail * 20);
  }
  return run(wires, now, 5 + (step.detail % 3) * 5);
}

function expectInScope(node: ReplicatingNode, nodes: readonly ReplicatingNode[]): void {
  for (const origin of node.replica.origins.values()) {
    const home = nodes.find((other) => other.nodeId === origin.nodeId)!;
    const relation = home === node ? "self" : relationOf(home.place, node.place);
    for (const stored of origin.log.list())
      if (stored.body === BODY.ENTRY) expect(mayHold(stored.scope, relation), `${stored.key} on ${node.nodeId}`).toBe(true);
  }
}

/** What everybody of a cluster must hold of an origin's live records in the end. */
function wanted(node: ReplicatingNode, home: ReplicatingNode): readonly string[] {
  const relation = relationOf(home.place, node.place);
  const storedRecords = home.replica.self.log.list();
  return storedRecords
    .filter((stored) => stored.body === BODY.ENTRY && mayHold(stored.scope, relation))
    .map((stored) => `${stored.key.replaceAll("\0", "|")} ${stored.seq}`);
}

function live(node: ReplicatingNode, originId: string): readonly string[] {
  const storedRecords = node.replica.origins.get(originId)?.log.list() ?? [];
  return storedRecords.filter((stored) => stored.body === BODY.ENTRY).map((stored) => `${stored.key.replaceAll("\0", "|")} ${stored.seq}`);
}

function isQuiet(nodes: readonly ReplicatingNode[], shape: Shape): boolean {
  const isEqual = nodes.every((node) =>
    nodes.every((other) => other.place.clusterId !== node.place.clusterId || vectorText(other) === vectorText(node)),
  );
  return (
    isEqual &&
    nodes.every((node, i) =>
      nodes.every((home) => {
        if (home === node || !isReachable(shape, i, nodes.indexOf(home))) return true;
        return (node.replica.origins.get(home.replica.self.id)?.through ?? 0) === home.replica.self.through;
      }),
    )
  );
}

function vectorText(node: ReplicatingNode): string {
  return node.vector().join();
}

/** Records go from cluster to cluster over borders, but not back into a cluster they left. */
function isReachable(shape: Shape, from: number, to: number): boolean {
  const region = (i: number): string => shape.regions?.[i] ?? "r1";
  return region(from) === region(to);
}

/** P6: who knows the same of an origin holds the same of it. */
function expectEqual(nodes: readonly ReplicatingNode[]): void {
  for (const node of nodes)
    for (const other of nodes.filter(({ place }) => place.clusterId === node.place.clusterId))
      for (const { id, through } of node.replica.origins.values())
        if (![node, other].some(({ replica }) => replica.self.id === id) && other.replica.origins.get(id)?.through === through)
          expect(live(other, id), `${id} at ${other.nodeId} and ${node.nodeId}`).toEqual(live(node, id));
}

const UNRULY: WireOptions = { lossPercent: 20, doublePercent: 10, jitterMs: 60 };

for (const [name, shape] of Object.entries(SHAPES)) {
  const nets = [
    { wire: "streams", options: {}, numRuns: runs(60) },
    { wire: "an unruly net", options: UNRULY, numRuns: runs(30) },
  ] as const;
  test.each(some(nets))(`P1, P5, P6: ${name} converge over $wire`, ({ options, numRuns }) => {
    fc.assert(
      fc.property(STEPS, (steps) => {
        const nodes = play(shape, steps, options);
        const vectors = nodes.map((node) => `${node.nodeId}: ${node.vector().join(", ")}`).join("; ");
        expect(isQuiet(nodes, shape) ? "" : vectors).toBe("");
        expectEqual(nodes);
        for (const [i, node] of nodes.entries())
          for (const [j, home] of nodes.entries())
            if (i !== j && isReachable(shape, i, j))
              expect(live(node, home.replica.self.id), `${home.nodeId} at ${node.nodeId}`).toEqual(wanted(node, home));
      }),
      { numRuns: runs(numRuns) },
    );
  });
}
