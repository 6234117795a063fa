/** Whom to have links to. */
import { expect, test } from "vitest";
import { type LinkCandidate, Topology } from "../../../src/fabric/links/topology.ts";
import { sized } from "../../fakes/effort.ts";

const MAX_LINKS = 20;

function members(count: number, clusters = 1): readonly LinkCandidate[] {
  return Array.from({ length: count }, (_, i) => ({ nodeId: `node-${i}`, clusterId: `c${i % clusters}` }));
}

/** Everybody's choice. One chooser for all: what it remembers is the same for everybody. */
function graph(all: readonly LinkCandidate[]): ReadonlyMap<string, ReadonlySet<string>> {
  const topology = new Topology(MAX_LINKS);
  const choice = (self: LinkCandidate): ReadonlySet<string> =>
    topology.choose(
      self,
      all.filter((other) => other !== self),
    );
  return new Map(all.map((self) => [self.nodeId, choice(self)]));
}

/** How many steps it takes from the first to reach everybody; fails when that never happens. */
function reach(links: ReadonlyMap<string, ReadonlySet<string>>, within: ReadonlySet<string>): number {
  let [front] = [[...within].slice(0, 1)];
  const seen = new Set(front);
  for (let steps = 0; ; steps++) {
    if (seen.size === within.size) return steps;
    front = front.flatMap((id) => [...(links.get(id) ?? [])]).filter((id) => within.has(id) && !seen.has(id));
    if (front.length === 0) throw new Error(`only ${seen.size} of ${within.size} are reached`);
    for (const id of front) seen.add(id);
  }
}

test("up to twenty peers everybody has a link to everybody", () => {
  for (const peers of graph(members(21)).values()) expect(peers.size).toBe(20);
});

test.each([22, 50, 200, sized(1000, 400)])(
  "%i nodes: both ends choose each other, nobody more than twenty, all are reached in few steps",
  (count) => {
    const links = graph(members(count));
    for (const [id, peers] of links) {
      expect(peers.size).toBeLessThanOrEqual(MAX_LINKS);
      expect(peers.size).toBeGreaterThanOrEqual(8);
      for (const peer of peers) expect(links.get(peer)?.has(id), `${id} and ${peer}`).toBe(true);
    }
    expect(reach(links, new Set(links.keys()))).toBeLessThanOrEqual(Math.ceil(Math.log2(count) / 2) + 1);
  },
);

test("many clusters of a region: each is connected by links of its own, and all together", () => {
  const all = members(240, 6);
  const links = graph(all);
  expect(reach(links, new Set(links.keys()))).toBeLessThan(8);
  for (let c = 0; c < 6; c++) {
    const own = new Set(all.filter(({ clusterId }) => clusterId === `c${c}`).map(({ nodeId }) => nodeId));
    expect(reach(links, own)).toBeLessThan(8);
  }
});

test("one that comes or goes changes one link a ring and no more", () => {
  const all = members(200);
  const before = graph(all);
  const after = graph(all.slice(0, -1));
  let changed = 0;
  for (const [id, peers] of after) for (const peer of peers) if (before.get(id)?.has(peer) !== true) changed += 1;
  // Each of ten rings closes its gap: one new link, seen from both ends.
  expect(changed).toBeLessThanOrEqual(20);
});

test("the order in which members are known does not matter", () => {
  const all = members(100);
  const [self, ...others] = all;
  if (self === undefined) throw new Error("members");
  const chosen = [...new Topology(MAX_LINKS).choose(self, others)].toSorted();
  expect([...new Topology(MAX_LINKS).choose(self, others.toReversed())].toSorted()).toEqual(chosen);
});
