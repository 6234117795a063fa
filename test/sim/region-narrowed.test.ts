/** Export rules of borders become narrower and wider while real node machines show summaries in other regions (docs/design/summaries.md, Narrowed export rules). */
import { expect, test } from "vitest";
import { sized } from "../fakes/effort.ts";
import { type Layout, Regions, SUMMARY } from "./regions/world.ts";

const LINKED_MS = 8000;
const NARROW_MS = 14_000;
/** By then the nodes are back, have told their rule, and it is used. */
const DONE_MS = 20_000;
/** Not each cluster has a link with each one. What has none by then is not waited for. */
const SETTLED_MS = 60_000;
const ALL = ["eu1 inner/b", "eu1 svc/a"];
const FEW = ["eu1 svc/a"];
const [COUNT, FLAPS] = [sized(40, 10), sized(6, 3)];

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

const CASES: readonly Case[] = [
  { name: "one node a region", layout: PAIR },
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
];
const LARGER_CASES: readonly Case[] = [
  { name: "more nodes than links", layout: { eu: { eu1: 2 }, us: { us1: 4 } } },
  { name: "more clusters than one", layout: { eu: { eu1: 2, eu2: 1 }, us: { us1: 2, us2: 1 } }, by: ["eu1", "eu2"], doneMs: SETTLED_MS },
];

function expectShownWhileExported({ name, layout, by = ["eu1"], beside, shown = FEW, doneMs = DONE_MS }: Case): void {
  const regions = worldOf(name, layout);
  const others = Object.keys(layout["us"] ?? {});
  const narrow = (exports: readonly string[]) => by.forEach((from) => regions.changeRules(from, others, { exports }));
  regions.at(NARROW_MS, () => narrow(["svc"]));
  beside?.(regions, NARROW_MS);
  const narrowedMs = NARROW_MS + doneMs;
  watch(regions, narrowedMs, narrowedMs + 10_000, "us", shown);
  watch(regions, narrowedMs, narrowedMs + 10_000, "eu", ALL);
  const wideMs = narrowedMs + 10_500;
  regions.at(wideMs, () => narrow([]));
  watch(regions, wideMs + DONE_MS, wideMs + DONE_MS + 5000, "us", ALL);
  expect(regions.run(wideMs + DONE_MS + 6000)).toEqual([]);
}

test.each(CASES)("what no neighbour exports any more is shown no longer, and again when it is: $name", expectShownWhileExported);

test.each(LARGER_CASES)(
  "what no neighbour exports any more is shown no longer, and again when it is: $name",
  { tags: ["night"] },
  expectShownWhileExported,
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

type Shape = readonly (readonly [string, string])[];
const SPOKES: Shape = [
  ["h", "a"],
  ["h", "b"],
  ["h", "c"],
];

/** Regions of one cluster each, called as they are with a 1, of which only these have borders with each other. Region a exports two services. */
function shapeOf(
  seed: string,
  shape: Shape,
  { count = 1 }: { readonly count?: number } = {},
): { readonly regions: Regions; readonly all: readonly string[] } {
  const all = [...new Set(shape.flat())];
  const areNeighbours = (one: string, other: string) => shape.some((pair) => pair.includes(one) && pair.includes(other));
  const regions = new Regions(`narrowed/${seed}`, Object.fromEntries(all.map((place) => [place, { [`${place}1`]: count }])), {
    areNeighbours,
  });
  regions.start();
  regions.at(LINKED_MS, () => regions.put("a1-a", "a"));
  regions.at(LINKED_MS, () => regions.put("a1-a", "b", "1", { namespace: "inner" }));
  regions.look(NARROW_MS - 500, () => regions.differs([...regions.nodes.values()], BOTH));
  return { regions, all };
}

const BOTH = ["a1 inner/b", "a1 svc/a"];
const ONE = ["a1 svc/a"];
/** Long enough for words that go in a circle of regions to end by their distance. */
const AROUND_MS = 30_000;
const RING: Shape = [
  ["a", "b"],
  ["b", "c"],
  ["c", "d"],
  ["d", "a"],
];
const CHAIN: Shape = RING.slice(0, 3);
/** Behind a there is a ring: each of it is a neighbour of a neighbour of the others. */
const TAIL: Shape = [
  ["a", "b"],
  ["b", "c"],
  ["c", "d"],
  ["d", "b"],
];
const MESH: Shape = [...RING, ["a", "c"], ["b", "d"]];

interface RelayCase {
  readonly name: string;
  readonly shape: Shape;
  /** Whom a tells its narrower rule; all when absent. */
  readonly to?: readonly string[];
  readonly count?: number;
  readonly shown?: readonly string[];
  readonly rule?: readonly string[];
  readonly beside?: (regions: Regions, atMs: number) => void;
}

const RELAY_CASES: readonly RelayCase[] = [
  { name: "a hub and its spokes", shape: SPOKES },
  { name: "nothing is exported any more", shape: SPOKES, rule: ["none"], shown: [] },
  { name: "a chain", shape: CHAIN },
  { name: "a ring", shape: RING },
  { name: "a ring behind a neighbour", shape: TAIL },
  { name: "a ring of several nodes behind a neighbour", shape: TAIL, count: 2 },
  { name: "a mesh", shape: MESH },
  { name: "a mesh in which one relay is still let in", shape: MESH, to: ["b", "c"], shown: BOTH },
  { name: "a ring in which one relay is still let in, and has several nodes", shape: RING, to: ["b"], shown: BOTH, count: 2 },
  {
    name: "the hub starts anew while the narrowed spoke is away",
    shape: SPOKES,
    count: 2,
    beside: (regions, atMs) => {
      regions.at(atMs - 400, () => regions.cutOff("a"));
      regions.at(atMs + 1000, () => crash(regions, "h1"));
      regions.at(atMs + 10_000, () => regions.cutOff("a", false));
    },
  },
];
const LARGER_RELAY_CASES: readonly RelayCase[] = [
  { name: "a hub of several nodes", shape: SPOKES, count: 2 },
  { name: "a chain of several nodes a region", shape: CHAIN, count: 3 },
  { name: "a mesh of several nodes a region", shape: MESH, count: 2 },
];

function expectUnsupported({ name, shape, to, count = 1, shown = ONE, rule = ["svc"], beside }: RelayCase): void {
  const { regions, all } = shapeOf(name, shape, { count });
  const others = all.filter((place) => place !== "a");
  const narrow = (exports: readonly string[]) =>
    regions.changeRules(
      "a1",
      (to ?? others).map((place) => `${place}1`),
      { exports },
    );
  regions.at(NARROW_MS, () => narrow(rule));
  beside?.(regions, NARROW_MS);
  const narrowedMs = NARROW_MS + AROUND_MS;
  // What one relay may still have goes nowhere meanwhile.
  const fromMs = shown === BOTH ? NARROW_MS : narrowedMs;
  for (const place of others) watch(regions, fromMs, narrowedMs + 10_000, place, shown);
  regions.look(narrowedMs, () => regions.differs(regions.nodesOf("a"), BOTH));
  regions.at(narrowedMs + 10_500, () => narrow([]));
  for (const place of others) watch(regions, narrowedMs + 10_500 + DONE_MS, narrowedMs + 15_500 + DONE_MS, place, BOTH);
  expect(regions.run(narrowedMs + 16_500 + DONE_MS)).toEqual([]);
}

test.each(RELAY_CASES)("what a relay has only from us supports nothing: $name", expectUnsupported);

test.each(LARGER_RELAY_CASES)("what a relay has only from us supports nothing: $name", { tags: ["night"] }, expectUnsupported);

test("a link of a ring that is dead supports nothing when all that came over it is lost", () => {
  const { regions } = shapeOf("dead link", RING);
  const lostMs = NARROW_MS + SUMMARY.ttlMs + SUMMARY.staleKeepMs + 2 * DONE_MS;
  // From then on c has it from b alone, and what d told last counts for its time.
  regions.at(NARROW_MS, () => regions.cut(regions.nodesOf("c"), regions.nodesOf("d")));
  regions.at(NARROW_MS + 1000, () => regions.changeRules("a1", ["b1"], { exports: ["svc"] }));
  for (const place of ["b", "c"]) watch(regions, lostMs, lostMs + 10_000, place, ONE);
  watch(regions, NARROW_MS, lostMs + 10_000, "d", BOTH);
  expect(regions.run(lostMs + 11_000)).toEqual([]);
});

test("a region whose rule flaps makes its neighbours send no more over any link than it sends over one of its own", () => {
  const layout = { h: { h1: 2 }, a: { a1: 1 }, b: { b1: 1 }, c: { c1: 1 } };
  const areNeighbours = (one: string, other: string) => one === "h" || other === "h";
  const regions = new Regions("narrowed/flapping", layout, { areNeighbours });
  const ids = [...regions.nodes.keys()];
  const sent = new Map<string, number>();
  const count = regions.network.onFrame;
  regions.network.onFrame = (from, to, frame, sizeBytes) => {
    const link = `${ids[from]} ${ids[to]}`;
    if (frame.kind === "borderBatch") sent.set(link, (sent.get(link) ?? 0) + frame.summaries.length);
    return count(from, to, frame, sizeBytes);
  };
  regions.start();
  for (let n = 0; n < COUNT; n++) regions.at(LINKED_MS + n * 20, () => regions.put("a1-a", `s${n}`, "1", { namespace: "inner" }));
  for (let n = 0; n < FLAPS; n++) {
    regions.at(NARROW_MS + 2 * n * DONE_MS, () => regions.changeRules("a1", ["h1"], { exports: ["svc"] }));
    regions.at(NARROW_MS + (2 * n + 1) * DONE_MS, () => regions.changeRules("a1", ["h1"], { exports: [] }));
  }
  expect(regions.run(NARROW_MS + 2 * FLAPS * DONE_MS)).toEqual([]);
  const own = Math.max(...[...sent].map(([link, summaries]) => (link.startsWith("a1-a ") ? summaries : 0)));
  expect(own).toBe((1 + FLAPS) * COUNT);
  expect(Math.max(...sent.values())).toBe(own);
});
