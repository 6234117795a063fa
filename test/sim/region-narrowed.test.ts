/** Export rules of borders become narrower and wider while real node machines show summaries in other regions (docs/design/summaries.md, Narrowed export rules). */
import { expect, test } from "vitest";
import { type Layout, Regions } from "./regions/world.ts";

const LINKED_MS = 8000;
const NARROW_MS = 14_000;
/** By then the nodes are back, have told their rule, and it is used. */
const DONE_MS = 20_000;
/** Not each cluster has a link with each one. What has none by then is not waited for. */
const SETTLED_MS = 60_000;
const ALL = ["eu1 inner/b", "eu1 svc/a"];
const FEW = ["eu1 svc/a"];

/** Two services of eu1, of which one is in the namespace that it will keep for itself. */
function worldOf(seed: string, layout: Layout): Regions {
  const regions = new Regions(`narrowed/${seed}`, layout);
  regions.start();
  regions.at(LINKED_MS, () => regions.put("eu1-a", "a"));
  regions.at(LINKED_MS, () => regions.put("eu1-a", "b", "1", { namespace: "inner" }));
  regions.look(NARROW_MS - 500, () => regions.differs([...regions.nodes.values()], ALL));
  return regions;
}

/** What all nodes of a region show, and of the others all. */
function watch(regions: Regions, fromMs: number, toMs: number, place: string, expected: readonly string[]): void {
  regions.watch(fromMs, toMs, () => regions.differs(regions.nodesOf(place), expected), 500);
}

interface Case {
  readonly name: string;
  readonly layout: Layout;
  /** The clusters whose rule becomes narrower; eu1 alone when absent. */
  readonly by?: readonly string[];
  /** What happens beside it. */
  readonly beside?: (regions: Regions, atMs: number) => void;
  /** What us shows then; few when absent. */
  readonly shown?: readonly string[];
  readonly doneMs?: number;
}

const PAIR: Layout = { eu: { eu1: 1 }, us: { us1: 1 } };
/** One node after the other, so that the records of their earlier starts are still held by the others. */
const crash = (regions: Regions, cluster: string) => {
  for (const [n, node] of regions.nodesOf(cluster).entries())
    regions.at(regions.world.nowMs + 5000 * n, () => {
      node.crash({ isSilent: false, isBatchKept: true, isDiskLost: false });
      regions.at(regions.world.nowMs + 1000, () => node.start());
    });
};

test.each<Case>([
  { name: "one node a region", layout: PAIR },
  { name: "more nodes than links", layout: { eu: { eu1: 2 }, us: { us1: 4 } } },
  { name: "more clusters than one", layout: { eu: { eu1: 2, eu2: 1 }, us: { us1: 2, us2: 1 } }, by: ["eu1", "eu2"], doneMs: SETTLED_MS },
  {
    name: "the rule changes while the regions are apart",
    layout: PAIR,
    beside: (regions, atMs) => {
      regions.at(atMs - 400, () => regions.cutOff("us"));
      regions.at(atMs + 6000, () => regions.cutOff("us", false));
    },
  },
  {
    name: "the border nodes start anew with it",
    layout: { eu: { eu1: 1 }, us: { us1: 2 } },
    beside: (regions, atMs) => regions.at(atMs, () => crash(regions, "us1")),
  },
  {
    name: "the border nodes start anew after it",
    layout: { eu: { eu1: 2 }, us: { us1: 2 } },
    beside: (regions, atMs) => regions.at(atMs + 8000, () => crash(regions, "us1")),
  },
  {
    name: "the nodes that took it have no link any more",
    layout: { eu: { eu1: 2 }, us: { us1: 3 } },
    beside: (regions, atMs) =>
      regions.at(atMs - 400, () => {
        const linked = regions.nodesOf("us1").filter(({ process }) => process?.fabric.borders.rows.some(({ state }) => state === "up"));
        regions.cut(linked, regions.nodesOf("eu"));
      }),
  },
  {
    name: "a cluster that still exports it",
    layout: { eu: { eu1: 2, eu2: 2 }, us: { us1: 2 } },
    by: ["eu1"],
    shown: ALL,
  },
])(
  "what no neighbour exports any more is shown no longer, and again when it is: $name",
  ({ name, layout, by = ["eu1"], beside, shown = FEW, doneMs = DONE_MS }) => {
    const regions = worldOf(name, layout);
    const others = Object.keys(layout["us"] ?? {});
    const narrow = (exports: readonly string[]) => by.forEach((from) => regions.exportTo(from, others, exports));
    regions.at(NARROW_MS, () => narrow(["svc"]));
    beside?.(regions, NARROW_MS);
    const narrowedMs = NARROW_MS + doneMs;
    watch(regions, narrowedMs, narrowedMs + 10_000, "us", shown);
    watch(regions, narrowedMs, narrowedMs + 10_000, "eu", ALL);
    const wideMs = narrowedMs + 10_500;
    regions.at(wideMs, () => narrow([]));
    watch(regions, wideMs + DONE_MS, wideMs + DONE_MS + 5000, "us", ALL);
    expect(regions.run(wideMs + DONE_MS + 6000)).toEqual([]);
  },
);

test("a neighbour that is merely away changes nothing, also where its rule is narrow, until its summaries are dropped", () => {
  const regions = worldOf("away", { eu: { eu1: 1 }, us: { us1: 2 } });
  const others = ["eu1 inner/b", "eu1 svc/a"].map((name) => `${name} stale`);
  regions.at(NARROW_MS, () => regions.cutOff("us"));
  watch(regions, NARROW_MS + 14_000, NARROW_MS + 28_000, "us", others);
  regions.at(NARROW_MS + 29_000, () => regions.cutOff("us", false));
  watch(regions, NARROW_MS + 40_000, NARROW_MS + 50_000, "us", ALL);
  expect(regions.run(NARROW_MS + 51_000)).toEqual([]);
});

test.each([{ isAway: false }, { isAway: true }])(
  "where each cluster exports something else, a border node that dies takes nothing of its neighbour along (which is away: $isAway)",
  ({ isAway }) => {
    const own = (from: string) => (from.startsWith("eu") ? { exports: [from === "eu1" ? "svc" : "inner"] } : undefined);
    const regions = new Regions(`narrowed/dies/${isAway}`, { eu: { eu1: 1, eu2: 1 }, us: { us1: 2 } }, { rules: own });
    regions.start();
    regions.at(LINKED_MS, () => regions.put("eu1-a", "a"));
    regions.at(LINKED_MS, () => regions.put("eu2-a", "b", "1", { namespace: "inner" }));
    const diedMs = SETTLED_MS + 10_000;
    regions.at(diedMs, () => {
      const isLinked = (cluster: string) => (row: object) =>
        JSON.stringify(row).includes(`"${cluster}"`) && JSON.stringify(row).includes(`"up"`);
      const [linked] = regions.nodesOf("us1").filter(({ process }) => process?.fabric.borders.rows.some(isLinked("eu2")));
      if (isAway) regions.cutOff("eu2");
      linked?.crash({ isSilent: true, isBatchKept: true, isDiskLost: false });
      if (isAway) regions.at(diedMs + 1000, () => linked?.start());
    });
    const both = ["eu1 svc/a", "eu2 inner/b"];
    watch(regions, NARROW_MS, isAway ? diedMs + 6000 : diedMs + 30_000, "us", both);
    if (isAway) watch(regions, diedMs + 14_000, diedMs + 27_000, "us", ["eu1 svc/a", "eu2 inner/b stale"]);
    expect(regions.run(diedMs + 31_000)).toEqual([]);
  },
);
