/** Border links come to rest, whatever addresses each side is given of the other. */
import fc from "fast-check";
import { expect, test } from "vitest";
import type { Border } from "../../../src/fabric/borders/border.ts";
import { runs } from "../../fakes/effort.ts";
import { FabricWorld, type NodeSpec, type WorldNode } from "../../fakes/fabric-world.ts";

/** A side has one or two clusters of one or two nodes. Of each node of the other side it may know the address, another name for it, both, or neither. */
const side = fc.record({
  clusterCount: fc.integer({ min: 1, max: 2 }),
  nodeCount: fc.integer({ min: 1, max: 2 }),
  known: fc.array(fc.record({ hasAddress: fc.boolean(), hasName: fc.boolean() }), { minLength: 4, maxLength: 4 }),
});

interface Side {
  readonly clusterCount: number;
  readonly nodeCount: number;
  readonly known: readonly { readonly hasAddress: boolean; readonly hasName: boolean }[];
}

function idsOf(region: string, { clusterCount, nodeCount }: Side): readonly (readonly string[])[] {
  return Array.from({ length: clusterCount }, (_, c) => ["a", "b"].slice(0, nodeCount).map((letter) => `${region}${c + 1}${letter}`));
}

function specsOf(region: string, own: Side, farRegion: string, far: Side, hasCertificate: boolean): readonly NodeSpec[] {
  const trust = hasCertificate ? ({ kind: "authority" } as const) : ({ kind: "token", token: "the-token-of-this-border" } as const);
  const borders = idsOf(farRegion, far).map((ids, c): Border => {
    const addresses = ids.flatMap((id, n) => {
      const { hasAddress = false, hasName = false } = own.known[2 * c + n] ?? {};
      return [...(hasAddress ? [`${id}:1`] : []), ...(hasName ? [`name-of-${id}:1`] : [])];
    });
    const rules = { imports: [], exports: [], batchIntervalMs: 100, bytesPerSecond: 0 };
    return { clusterId: `${farRegion}${c + 1}`, region: farRegion, addresses, trust, ...rules };
  });
  const nodeIds = idsOf(region, own).flat();
  const seeds = nodeIds.map((id) => `${id}:1`);
  return nodeIds.map((nodeId) => ({ nodeId, clusterId: nodeId.slice(0, -1), region, seeds, borders, hasCertificate }));
}

/** Pairs of nodes that have links, one for each end. */
function endsOf(nodes: readonly WorldNode[]): readonly string[] {
  const up = (node: WorldNode) => node.fabric.borders.rows.filter(({ state }) => state === "up");
  return nodes.flatMap((node) => up(node).map(({ nodeId }) => [node.spec.nodeId, nodeId].toSorted().join(" "))).toSorted();
}

test("whatever addresses the sides have, links come to rest, no two nodes have two, and both ends know of each", () => {
  fc.assert(
    fc.property(side, side, fc.boolean(), fc.array(fc.nat(20_000), { minLength: 8, maxLength: 8 }), (eu, us, hasCertificate, startsMs) => {
      const world = new FabricWorld();
      const specs = [...specsOf("eu", eu, "us", us, hasCertificate), ...specsOf("us", us, "eu", eu, hasCertificate)];
      const nodes: WorldNode[] = [];
      const begunMs = world.nowMs;
      for (const { spec, atMs } of specs.map((each, i) => ({ spec: each, atMs: startsMs[i] ?? 0 })).toSorted((a, b) => a.atMs - b.atMs)) {
        world.run(begunMs + atMs - world.nowMs);
        const node = world.start(spec);
        nodes.push(node);
        world.nodes.set(`name-of-${spec.nodeId}:1`, node);
      }
      const rests = () => {
        world.run(180_000);
        const lost = () => nodes.map(({ events }) => events.filter(({ name }) => name === "border_lost").length);
        const [before, ends] = [lost(), endsOf(nodes)];
        world.run(150_000);
        expect([lost(), endsOf(nodes)]).toEqual([before, ends]);
        for (const pair of new Set(ends)) expect(ends.filter((each) => each === pair)).toHaveLength(2);
      };
      rests();
      for (const a of nodes) for (const b of nodes) if (a.spec.region !== b.spec.region) world.cut(a, b);
      rests();
    }),
    { numRuns: runs(5) },
  );
});
