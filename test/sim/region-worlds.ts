/**
 * Small worlds of two and three regions, in which the machines of nodes exchange summaries over border links, each made for some of the rules of
 * docs/design/summaries.md. Each looks at what every node shows.
 */
import { SCOPE } from "../../src/catalog/entry/scope.ts";
import { Rng } from "../../src/lib/rng.ts";
import { opened } from "../../src/summary/codec.ts";
import { claimsOf } from "../../src/summary/held/seals.ts";
import { BAND, type Sealed } from "../../src/summary/summary.ts";
import { rule, span } from "../fakes/policies.ts";
import { forgeries } from "./regions/forged.ts";
import { type Layout, Regions, SUMMARY } from "./regions/world.ts";
import { type SimNode, WALL_START_MS } from "./sim-node.ts";

export interface RegionOutcome {
  readonly violation: { readonly invariant: string; readonly message: string } | undefined;
  readonly world: string;
  readonly exportCount: number;
}

/** Makes a world; returns when it ends. */
type Story = (of: { readonly seed: string; readonly rng: Rng; readonly trace: string | undefined }) => {
  readonly regions: Regions;
  readonly endMs: number;
};

const PAIR: Layout = { eu: { eu1: 1 }, us: { us1: 1 } };
const THREE: Layout = { eu: { eu1: 2 }, us: { us1: 2 }, ap: { ap1: 2 } };
const { ttlMs, staleKeepMs, holdDownMs, exportIntervalMs } = SUMMARY;
/** By then border links are up. */
const LINKED_MS = 8000;

const WORLDS: readonly Story[] = [
  showsElsewhere,
  restsAlike,
  isCutOff,
  losesItsExporter,
  takesBack,
  closesItsWindow,
  hasWrongClocks,
  losesItsDisks,
  swingsAroundAnEdge,
  churns,
  isSplit,
  hasANodeWithout,
  isLiedTo,
  isMisled,
  hidesNamespaces,
  isToldLate,
  isApartForLong,
  goesInACircle,
];

/** Worlds that no mutant needs. */
const OTHERS: readonly Story[] = [isBesideALoss, isBesideALossOfTime];

export const WORLD_COUNT: number = WORLDS.length;

/** A service shows in the other region within a second, is gone when it ended, and comes back. */
function showsElsewhere({ seed, rng, trace }: Parameters<Story>[0]) {
  const regions = new Regions(seed, PAIR, {}, trace);
  regions.start();
  const putMs = LINKED_MS + rng.int(2000);
  const all = [...regions.nodes.values()];
  regions.at(putMs, () => regions.put("eu1-a", "quotes"));
  regions.look(putMs + 1000, () => regions.differs(all, ["eu1 svc/quotes"]));
  const endMs = putMs + 3000 + rng.int(1000);
  regions.at(endMs, () => regions.end("eu1-a", "quotes"));
  regions.watch(endMs + holdDownMs + 1000, endMs + 7000, () => regions.differs(all, []));
  const againMs = endMs + 7500;
  regions.at(againMs, () => regions.put("eu1-a", "quotes"));
  regions.look(againMs + holdDownMs + 1000, () => regions.differs(all, ["eu1 svc/quotes"]));
  return { regions, endMs: againMs + 8000 };
}

/** 3 regions of 2 clusters of 3 nodes: each shows what the others export to it, within a second, and at rest nothing is compared but equal digests. */
function restsAlike({ seed, rng, trace }: Parameters<Story>[0]) {
  const layout = { eu: { eu1: 3, eu2: 3 }, us: { us1: 3, us2: 3 }, ap: { ap1: 3, ap2: 3 } };
  // The clusters of us show only one of the namespaces that eu1 tells them, and those of ap tell only one.
  const rules = (from: string, to: string) => {
    if (from.startsWith("us") && to === "eu1") return { imports: ["svc"] };
    return from.startsWith("ap") ? { exports: ["svc"] } : undefined;
  };
  const regions = new Regions(seed, layout, { apartMs: 80, rules }, trace);
  regions.start();
  const putMs = 8000 + rng.int(1000);
  const clusters = ["eu1", "eu2", "us1", "us2", "ap1", "ap2"];
  const letters = ["a", "b", "c"];
  for (const [i, cluster] of clusters.entries())
    for (const [j, letter] of letters.entries())
      for (const namespace of ["svc", "inner"])
        regions.at(putMs + i * 40 + j * 13, () => regions.put(`${cluster}-${letter}`, `s${j}`, "1", { namespace }));
  const expected = (place: string) => {
    const sees = (cluster: string, namespace: string) => {
      if (namespace === "svc" || cluster.startsWith(place)) return true;
      return !cluster.startsWith("ap") && !(place === "us" && cluster === "eu1");
    };
    return clusters.flatMap((cluster) =>
      ["svc", "inner"].flatMap((namespace) => (sees(cluster, namespace) ? [0, 1, 2].map((n) => `${cluster} ${namespace}/s${n}`) : [])),
    );
  };
  const wrong = () => ["eu", "us", "ap"].flatMap((place) => regions.differs(regions.nodesOf(place), expected(place)));
  regions.look(putMs + 300 + 1000, wrong);
  let restedBytes = 0;
  regions.look(putMs + 12_000, () => {
    restedBytes = regions.comparedBytes;
    return wrong();
  });
  regions.look(putMs + 36_000, () => [...wrong(), ...regions.comparedSince(restedBytes)]);
  return { regions, endMs: putMs + 36_500 };
}

/** A region is cut off: stale after the ttl, dropped in the end, equal soon after the links are back; and what was taken back meanwhile never returns. */
function isCutOff({ seed, rng, trace }: Parameters<Story>[0]) {
  const regions = new Regions(seed, THREE, {}, trace);
  regions.start();
  for (const [i, cluster] of ["eu1", "us1", "ap1"].entries())
    regions.at(LINKED_MS + 100 * i, () => {
      regions.put(`${cluster}-a`, "stays");
      regions.put(`${cluster}-a`, "goes");
    });
  const cutMs = LINKED_MS + 4000 + rng.int(4000);
  const forMs = rng.int(2) === 0 ? ttlMs + 8000 : ttlMs + staleKeepMs + 6000;
  const [inside, outside] = [regions.nodesOf("ap"), [...regions.nodesOf("eu"), ...regions.nodesOf("us")]];
  const names = (clusters: readonly string[], services: readonly string[]) =>
    clusters.flatMap((cluster) => services.map((service) => `${cluster} svc/${service}`));
  const stale = (list: readonly string[]) => list.map((name) => `${name} stale`);
  regions.look(cutMs - 100, () => regions.differs([...inside, ...outside], names(["eu1", "us1", "ap1"], ["stays", "goes"])));
  regions.at(cutMs, () => regions.cutOff("ap"));
  regions.at(cutMs + 1000, () => {
    regions.end("eu1-a", "goes");
    regions.put("us1-a", "comes");
  });
  const now = [...names(["eu1"], ["stays"]), ...names(["us1"], ["stays", "goes", "comes"])];
  const [apAll, others] = [names(["ap1"], ["stays", "goes"]), names(["eu1", "us1"], ["stays", "goes"])];
  regions.look(cutMs + 6000, () => [...regions.differs(outside, [...now, ...apAll]), ...regions.differs(inside, [...apAll, ...others])]);
  const staleMs = cutMs + ttlMs + 1500;
  // A start makes no source fresh.
  regions.at(staleMs + 500, () => regions.node("us1-b").crash({ isSilent: false, isBatchKept: true, isDiskLost: rng.int(2) === 0 }));
  regions.at(staleMs + 800, () => regions.node("us1-b").start());
  const steady = outside.filter(({ name }) => name !== "us1-b");
  regions.watch(staleMs, cutMs + forMs - (forMs > ttlMs + staleKeepMs ? staleKeepMs - 5000 : 0) - 100, () => [
    ...regions.differs(steady, [...now, ...stale(apAll)]),
    ...regions.differs(inside, [...apAll, ...stale(others)]),
    ...freshAt(regions, "us1-b", "ap1"),
  ]);
  if (forMs > ttlMs + staleKeepMs)
    regions.look(cutMs + forMs - 500, () => [...regions.differs(outside, now), ...regions.differs(inside, apAll)]);
  // First only one of the two regions has links with the third one again.
  const healMs = cutMs + forMs;
  regions.at(healMs, () => regions.cut(regions.nodesOf("us"), inside, false));
  regions.watch(healMs, healMs + 40_000, () =>
    outside.flatMap(({ name }) => (regions.shown(name)?.has("eu1 svc/goes") === true ? [`${name} shows what was taken back`] : [])),
  );
  regions.at(healMs + 20_000, () => regions.cut(regions.nodesOf("eu"), inside, false));
  for (const place of ["us", "eu"]) {
    let linkedMs = Number.POSITIVE_INFINITY;
    regions.watch(healMs, healMs + 39_000, () => {
      const isUp = inside.some(({ process }) => process?.fabric.borders.linkedRegions().has(place) === true);
      if (isUp && regions.world.nowMs > healMs + 1000) linkedMs = Math.min(linkedMs, regions.world.nowMs);
      const isDue = regions.world.nowMs >= linkedMs + 5000;
      return isDue ? regions.differs([...inside, ...regions.nodesOf(place)], [...now, ...apAll]) : [];
    });
    regions.look(healMs + 39_000, () => (linkedMs < healMs + 34_000 ? [] : [`ap has no link with ${place} again`]));
  }
  return { regions, endMs: healMs + 40_500 };
}

function freshAt(regions: Regions, nodeId: string, source: string): readonly string[] {
  const shown = [...(regions.shown(nodeId) ?? [])];
  return shown.flatMap(([name, { isStale }]) => (name.startsWith(`${source} `) && !isStale ? [`${nodeId} shows ${name} as fresh`] : []));
}

/** The exporter of some services is killed and comes back without its disk: nothing is taken back, no count falls, and the next one goes on. */
function losesItsExporter({ seed, rng, trace }: Parameters<Story>[0]) {
  const regions = new Regions(seed, { eu: { eu1: 3 }, us: { us1: 1 } }, { slow: ["eu1-a"] }, trace);
  regions.start();
  const names = Array.from({ length: 8 }, (_, i) => `s${i}`);
  regions.at(LINKED_MS, () => {
    // So that a start takes a while to hear of the others.
    for (let i = 0; i < 300; i++) regions.put("eu1-b", `other${i}`, "1", { scope: SCOPE.ZONE });
    for (const name of names) for (const nodeId of ["eu1-b", "eu1-c"]) regions.put(nodeId, name);
  });
  const killMs = LINKED_MS + 2 * exportIntervalMs + rng.int(1000);
  regions.at(killMs, () => regions.node("eu1-a").crash({ isSilent: rng.int(2) === 0, isBatchKept: true, isDiskLost: true }));
  const backMs = killMs + 9000 + rng.int(1000);
  regions.at(backMs, () => regions.node("eu1-a").start());
  const full = names.map((name) => `eu1 svc/${name}`);
  regions.watch(killMs - 500, backMs + 15_000, () =>
    full.flatMap((name) => {
      const { count = 0, band } = regions.shown("us1-a")?.get(name) ?? {};
      return count === 2 && band !== undefined ? [] : [`us1-a shows ${name} with ${count}`];
    }),
  );
  // Whoever exports now says what changes.
  let goneMs = Number.POSITIVE_INFINITY;
  regions.watch(killMs, killMs + 8000, () => {
    if (
      goneMs === Number.POSITIVE_INFINITY &&
      ["eu1-b", "eu1-c"].every((nodeId) => regions.node(nodeId).process?.lists("eu1-a") === false)
    ) {
      goneMs = regions.world.nowMs;
      const newMs = goneMs + 1000;
      regions.at(newMs, () => {
        for (let i = 0; i < 4; i++) regions.put("eu1-b", `new${i}`);
      });
      regions.look(newMs + 1000, () =>
        [0, 1, 2, 3].flatMap((i) => (regions.shown("us1-a")?.has(`eu1 svc/new${i}`) === true ? [] : [`us1-a lacks new${i}`])),
      );
    }
    return [];
  });
  regions.look(killMs + 8000, () => (goneMs === Number.POSITIVE_INFINITY ? ["the others still list the node that was killed"] : []));
  return { regions, endMs: backMs + 16_000 };
}

/** A policy takes a service back: it is gone everywhere within a second, and in a region that is cut off when the source is lost for long. */
function takesBack({ seed, rng, trace }: Parameters<Story>[0]) {
  const regions = new Regions(seed, THREE, {}, trace);
  regions.start();
  regions.at(LINKED_MS, () => {
    regions.put("eu1-a", "public");
    regions.put("eu1-a", "secret", "1", { namespace: "svc.inner" });
  });
  const cutMs = LINKED_MS + 3000;
  const isCut = rng.int(2) === 0;
  if (isCut) regions.at(cutMs, () => regions.cutOff("ap"));
  const appliedMs = cutMs + 500 + rng.int(1000);
  regions.at(appliedMs, () => regions.apply("eu1-a", [rule("svc.inner", { allowSummaries: false })], "no-inner"));
  const names = ["eu1 svc/public", "eu1 svc.inner/secret"];
  const reached = [...regions.nodes.values()].filter(({ options }) => !isCut || options.region !== "ap");
  regions.look(appliedMs - 50, () => regions.differs([...regions.nodes.values()], names));
  let inForceMs = Number.POSITIVE_INFINITY;
  regions.watch(appliedMs, appliedMs + 12_000, () => {
    const isInForce = regions.nodesOf("eu1").every(({ process }) => process?.policies.policy.set?.version === "no-inner");
    if (isInForce) inForceMs = Math.min(inForceMs, regions.world.nowMs);
    return regions.world.nowMs < inForceMs + 1000 ? [] : regions.differs(reached, names.slice(0, 1));
  });
  regions.look(appliedMs + 4000, () => (inForceMs > regions.world.nowMs ? ["the policy is not in force"] : []));
  if (!isCut) return { regions, endMs: appliedMs + 13_000 };
  regions.look(cutMs + ttlMs + 1500, () =>
    regions.differs(
      regions.nodesOf("ap"),
      names.map((name) => `${name} stale`),
    ),
  );
  regions.look(cutMs + ttlMs + staleKeepMs + 1500, () => regions.differs(regions.nodesOf("ap"), []));
  return { regions, endMs: cutMs + ttlMs + staleKeepMs + 2000 };
}

/** A window lets a service out, and ends: by then nobody shows it, wherever the links are cut. */
function closesItsWindow({ seed, rng, trace }: Parameters<Story>[0]) {
  const regions = new Regions(seed, THREE, {}, trace);
  regions.start();
  const cutMs = LINKED_MS + 6000;
  const endMs = cutMs + (rng.int(2) === 0 ? 4000 : ttlMs + 6000) + rng.int(1000);
  const open = span(WALL_START_MS - 60_000, WALL_START_MS + endMs, { exportScopes: [SCOPE.GLOBAL], allowSummaries: true });
  regions.at(LINKED_MS, () => regions.apply("eu1-a", [rule("svc.sale", { cutoverWindows: [open] })], "sale"));
  regions.at(LINKED_MS + 3000, () => regions.put("eu1-b", "cart", "1", { namespace: "svc.sale" }));
  regions.look(cutMs - 100, () => regions.differs([...regions.nodes.values()], ["eu1 svc.sale/cart"]));
  regions.at(cutMs, () => regions.cutOff("ap"));
  regions.look(cutMs + 3000, () => regions.differs([...regions.nodes.values()], ["eu1 svc.sale/cart"]));
  regions.watch(endMs + 500, endMs + 15_000, () => regions.differs([...regions.nodes.values()], []));
  return { regions, endMs: endMs + 16_000 };
}

/** Regions are minutes apart, and the fast exporter is followed by a slow one: it is neither ignored nor is the key poisoned. */
function hasWrongClocks({ seed, rng, trace }: Parameters<Story>[0]) {
  // Of two nodes, one that is alone would take itself for the part that is cut off.
  const regions = new Regions(seed, { eu: { eu1: 3 }, us: { us1: 1 } }, {}, trace);
  const apartMs = 300_000;
  regions.node("us1-a").skewMs = rng.int(2) === 0 ? apartMs : -apartMs;
  regions.start();
  const names = Array.from({ length: 6 }, (_, i) => `s${i}`);
  let [fast, slow] = ["eu1-a", "eu1-b"];
  regions.at(LINKED_MS, () => {
    fast = regions.node("eu1-a").process?.rooms.regions?.builder.exporterOf("\0beacon") ?? fast;
    slow = fast === "eu1-a" ? "eu1-b" : "eu1-a";
    for (const node of regions.nodesOf("eu")) node.skewMs = node.name === fast ? 20_000 : -20_000;
  });
  const putMs = LINKED_MS + 500;
  regions.at(putMs, () => {
    for (const name of names) regions.put(slow, name);
  });
  const all = names.map((name) => `eu1 svc/${name}`);
  regions.look(putMs + 1000, () => regions.differs(regions.nodesOf("us"), all));
  const killMs = putMs + 4000 + rng.int(4000);
  regions.at(killMs, () => regions.node(fast).crash({ isSilent: false, isBatchKept: true, isDiskLost: false }));
  const changeMs = killMs + 10_000;
  regions.at(changeMs, () => {
    for (const name of names) regions.put(slow, name, "1", { health: 3 });
  });
  regions.look(changeMs + holdDownMs + 1000, () =>
    all.flatMap((name) =>
      regions.shown("us1-a")?.get(name)?.band === BAND.CRITICAL ? [] : [`us1-a does not show that ${name} is unwell`],
    ),
  );
  regions.watch(killMs, killMs + 40_000, () => freshOnly(regions, "us1-a"));
  return { regions, endMs: killMs + 40_500 };
}

function freshOnly(regions: Regions, nodeId: string): readonly string[] {
  const shown = [...(regions.shown(nodeId) ?? [])];
  return shown.flatMap(([name, { isStale }]) => (isStale ? [`${nodeId} shows ${name} as stale`] : []));
}

/** A cluster loses all its disks. What it says from then on counts, and what it has no more is taken back. */
function losesItsDisks({ seed, rng, trace }: Parameters<Story>[0]) {
  const regions = new Regions(seed, { eu: { eu1: 2 }, us: { us1: 1 } }, { keyless: ["eu1-a"] }, trace);
  regions.start();
  regions.at(LINKED_MS, () => {
    regions.put("eu1-a", "stays");
    regions.put("eu1-a", "goes");
  });
  const lossMs = LINKED_MS + 5000 + rng.int(4000);
  const eu = regions.nodesOf("eu");
  regions.at(lossMs, () => {
    for (const node of eu) node.crash({ isSilent: false, isBatchKept: false, isDiskLost: true });
  });
  // For a while there may be nobody who can take back what others still show.
  const signerMs = lossMs + (rng.int(2) === 0 ? 1000 : 15_000);
  regions.at(lossMs + 1000, () => regions.node("eu1-a").start());
  regions.at(signerMs, () => regions.node("eu1-b").start());
  // It never takes its own word from others.
  regions.watch(lossMs + 1500, signerMs + 60_000, () =>
    eu.flatMap(({ name }) => (regions.shown(name)?.has("eu1 svc/goes") === true ? [`${name} shows what it lost`] : [])),
  );
  regions.at(signerMs + 6000, () => regions.put("eu1-b", "stays", "1", { health: 3 }));
  regions.watch(signerMs + 45_000, signerMs + 60_000, () => {
    const { band, isStale } = regions.shown("us1-a")?.get("eu1 svc/stays") ?? {};
    const isRight = band === BAND.CRITICAL && isStale === false;
    return [...regions.differs(regions.nodesOf("us"), ["eu1 svc/stays"]), ...(isRight ? [] : [`us1-a has an old word: band ${band}`])];
  });
  return { regions, endMs: signerMs + 60_500 };
}

/** A square wave of four points around the edge of a band turns it once. */
function swingsAroundAnEdge({ seed, rng, trace }: Parameters<Story>[0]) {
  const regions = new Regions(seed, PAIR, {}, trace);
  regions.start();
  regions.at(LINKED_MS, () => {
    for (let i = 0; i < 25; i++) regions.put("eu1-a", "wave", `${i}`, { health: i < 20 ? 1 : 3 });
  });
  const everyMs = 3000 + rng.int(500);
  for (let n = 1; n <= 10; n++)
    regions.at(LINKED_MS + n * everyMs, () => regions.put("eu1-a", "wave", "19", { health: n % 2 === 1 ? 3 : 1 }));
  const endMs = LINKED_MS + 11 * everyMs;
  regions.look(endMs, () => {
    const bands = regions.exports.map(({ band }) => band);
    const turns = bands.filter((band, i) => i > 0 && band !== bands[i - 1]).length;
    return turns === 1 ? [] : [`the band turned ${turns} times: ${bands.join(" ")}`];
  });
  return { regions, endMs: endMs + 100 };
}

/** P14: under churn each service is said at most once a hold-down. */
function churns({ seed, rng, trace }: Parameters<Story>[0]) {
  const regions = new Regions(seed, { eu: { eu1: 2 }, us: { us1: 1 } }, {}, trace);
  regions.start();
  const there = new Set<string>();
  for (let atMs = LINKED_MS; atMs < LINKED_MS + 15_000; atMs += 60 + rng.int(60)) {
    const [nodeId, name, instance] = [rng.int(2) === 0 ? "eu1-a" : "eu1-b", `s${rng.int(3)}`, `${rng.int(4)}`];
    const health = 1 + 2 * rng.int(2);
    const isPut = rng.int(2) === 0;
    const text = `${nodeId} ${name} ${instance}`;
    if (!isPut && !there.has(text)) continue;
    if (isPut) there.add(text);
    else there.delete(text);
    regions.at(atMs, () => (isPut ? regions.put(nodeId, name, instance, { health }) : regions.end(nodeId, name, instance)));
  }
  const endMs = LINKED_MS + 15_000 + holdDownMs + 1500;
  regions.look(endMs, () => {
    const often = regions.exports.flatMap(({ name, atMs }, i) => {
      const before = regions.exports.findLast((each, j) => j < i && each.name === name);
      const apartMs = before === undefined ? Number.POSITIVE_INFINITY : atMs - before.atMs;
      return apartMs >= holdDownMs - 1 ? [] : [`${name} is said again after ${apartMs.toFixed(0)} ms`];
    });
    const services = [...new Set([...there].map((text) => text.split(" ")[1] ?? ""))];
    return [
      ...often,
      ...regions.differs(
        [...regions.nodes.values()],
        services.map((name) => `eu1 svc/${name}`),
      ),
    ];
  });
  return { regions, endMs: endMs + 100 };
}

/** A cluster falls apart, with borders on both sides. The part that does not see the whole says nothing of what it lost. */
function isSplit({ seed, rng, trace }: Parameters<Story>[0]) {
  const regions = new Regions(seed, { eu: { eu1: 3 }, us: { us1: 1 } }, {}, trace);
  regions.start();
  const names = Array.from({ length: 6 }, (_, i) => `s${i}`);
  // Most of what the lone node knows is at the others, and what is its own is unwell.
  regions.at(LINKED_MS, () => {
    for (const name of names)
      for (const nodeId of ["eu1-a", "eu1-b", "eu1-c"]) regions.put(nodeId, name, "1", { health: nodeId === "eu1-c" ? 3 : 1 });
  });
  const cutMs = LINKED_MS + 2 * exportIntervalMs + rng.int(1000);
  // Of two words of one version that of the higher exporter counts.
  const [alone, rest] = [[regions.node("eu1-c")], [regions.node("eu1-a"), regions.node("eu1-b")]];
  regions.at(cutMs, () => regions.cut(alone, rest));
  regions.at(cutMs + 35_000, () => regions.cut(alone, rest, false));
  regions.watch(cutMs - 500, cutMs + 40_000, () =>
    names.flatMap((name) => {
      const { count = 0, band } = regions.shown("us1-a")?.get(`eu1 svc/${name}`) ?? {};
      return count >= 2 && band !== BAND.CRITICAL ? [] : [`us1-a shows ${name} with ${count} in band ${band}`];
    }),
  );
  return { regions, endMs: cutMs + 40_500 };
}

/** A node without a summary replica is told nothing of them, and nothing is missing at the others. */
function hasANodeWithout({ seed, trace }: Parameters<Story>[0]) {
  const regions = new Regions(seed, { eu: { eu1: 3 }, us: { us1: 2 } }, { without: ["eu1-b", "us1-a"] }, trace);
  regions.start();
  regions.at(LINKED_MS, () => {
    regions.put("eu1-b", "quotes");
    regions.put("us1-a", "orders");
  });
  const news = [...regions.nodes.values()].filter(({ options }) => options.regional !== undefined);
  regions.watch(LINKED_MS + 1500, LINKED_MS + 8000, () => [
    ...regions.differs(news, ["eu1 svc/quotes", "us1 svc/orders"]),
    ...["eu1-b", "us1-a"].flatMap((nodeId) => {
      const unknownFrame = regions.node(nodeId).process?.fabric.refused().unknownFrame ?? 0;
      return unknownFrame === 0 ? [] : [`${nodeId} got ${unknownFrame} frames that it does not know`];
    }),
  ]);
  return { regions, endMs: LINKED_MS + 8500 };
}

/** A neighbour makes up summaries: with no right signature, with its own key, or from another region than is configured. */
function isLiedTo({ seed, rng, trace }: Parameters<Story>[0]) {
  const regions = new Regions(seed, THREE, {}, trace);
  regions.start();
  regions.at(LINKED_MS, () => {
    regions.put("eu1-a", "quotes");
    regions.put("ap1-a", "orders");
  });
  const truth = ["eu1 svc/quotes", "ap1 svc/orders"];
  const lieMs = LINKED_MS + 3000 + rng.int(1000);
  regions.look(lieMs - 100, () => regions.differs([...regions.nodes.values()], truth));
  regions.at(lieMs, () => {
    for (const node of regions.nodesOf("us")) {
      const link = node.process?.fabric.borders.rows.find(({ clusterId, state }) => clusterId === "ap1" && state === "up")?.link;
      if (link === undefined) continue;
      const wallMs = WALL_START_MS + regions.world.nowMs;
      const frame = { kind: "borderBatch", summaries: forgeries(wallMs), beacons: [], keys: [], beaconAgesMs: [] } as const;
      node.received(link, frame, () => {}, false);
    }
  });
  regions.watch(lieMs + 100, lieMs + 5000, () => regions.differs([...regions.nodes.values()], truth));
  return { regions, endMs: lieMs + 5500 };
}

/** The nodes of each region are told that those of the other are members too: nothing but summaries crosses all the same. */
function isMisled({ seed, rng, trace }: Parameters<Story>[0]) {
  const regions = new Regions(seed, { eu: { eu1: 2 }, us: { us1: 1 } }, { isMisled: true }, trace);
  regions.start();
  regions.at(LINKED_MS, () => regions.put("eu1-a", "quotes"));
  regions.watch(LINKED_MS + 1000, LINKED_MS + 4000, () => regions.differs([...regions.nodes.values()], ["eu1 svc/quotes"]), 500);
  return { regions, endMs: LINKED_MS + 4000 + rng.int(500) };
}

/** What a region does not import is hidden there, and the digests are equal all the same. */
function hidesNamespaces({ seed, rng, trace }: Parameters<Story>[0]) {
  const rules = (from: string) => (from === "us1" ? { imports: ["svc"] } : undefined);
  const regions = new Regions(seed, PAIR, { rules }, trace);
  regions.start();
  regions.at(LINKED_MS, () => {
    for (const namespace of ["svc", "inner"]) regions.put("eu1-a", "quotes", "1", { namespace });
  });
  const restMs = LINKED_MS + 8000 + rng.int(1000);
  let restedBytes = 0;
  const wrong = () => [
    ...regions.differs(regions.nodesOf("eu"), ["eu1 svc/quotes", "eu1 inner/quotes"]),
    ...regions.differs(regions.nodesOf("us"), ["eu1 svc/quotes"]),
  ];
  regions.look(restMs, () => {
    restedBytes = regions.comparedBytes;
    return wrong();
  });
  regions.look(restMs + 21_000, () => [...wrong(), ...regions.comparedSince(restedBytes)]);
  return { regions, endMs: restMs + 21_500 };
}

/**
 * A relay keeps what it hears of eu for as long as the clocks of eu and of the last region let it, and tells it when eu has taken it back long ago. The last
 * region shows it then until the source ends there, and asks the others to take it: they still know that it was taken back.
 */
function isToldLate({ seed, rng, trace }: Parameters<Story>[0]) {
  const maxClockSkewMs = 60_000;
  const areNeighbours = (a: string, b: string) => a === "us" || b === "us";
  const layout = { eu: { eu1: 1 }, us: { us1: 1 }, ap: { ap1: 1 } };
  const regions = new Regions(seed, layout, { areNeighbours, summary: { maxClockSkewMs } }, trace);
  regions.node("eu1-a").skewMs = maxClockSkewMs - 1000;
  const [us, ap] = [regions.node("us1-a"), regions.node("ap1-a")];
  const kept = withholds(regions, us, ap);
  const ofEu = (what: "summary" | "beacon") => (sealed: Sealed) => claimsOf(opened(what, sealed)).source === "eu1";
  regions.start();
  regions.at(LINKED_MS, () => regions.put("eu1-a", "goes"));
  const endMs = LINKED_MS + 5000 + rng.int(2000);
  regions.look(endMs - 100, () => regions.differs([us], ["eu1 svc/goes"]));
  let beacon: Sealed | undefined;
  regions.at(endMs, () => {
    regions.end("eu1-a", "goes");
    beacon = kept.beacons.findLast(ofEu("beacon"));
  });
  const lateMs = endMs + 2 * maxClockSkewMs - 6000;
  // What its tombstones and older beacons would tell it is forgotten by a restart. Then it knows only what eu still remembers.
  regions.at(lateMs - 15_000, () => us.crash({ isSilent: false, isBatchKept: true, isDiskLost: false }));
  regions.at(lateMs - 14_000, () => us.start());
  regions.at(lateMs, () => {
    const link = ap.process?.fabric.borders.rows.find(({ clusterId, state }) => clusterId === "us1" && state === "up")?.link;
    const summary = kept.summaries.find(ofEu("summary"));
    if (link === undefined || beacon === undefined || summary === undefined) {
      regions.wrong.push("there is nothing to tell late");
      return;
    }
    const frame = { kind: "borderBatch", summaries: [summary], beacons: [beacon], keys: [], beaconAgesMs: [0] } as const;
    ap.received(link, frame, () => {}, false);
  });
  regions.look(lateMs + 2000, () => regions.differs([ap], ["eu1 svc/goes"]));
  const overMs = lateMs + ttlMs + staleKeepMs + 1500;
  const eu = regions.node("eu1-a");
  regions.watch(endMs + holdDownMs + 1000, overMs + 5000, () => regions.differs([eu, us], []), 20);
  regions.watch(overMs, overMs + 5000, () => regions.differs([ap], []));
  return { regions, endMs: overMs + 5500 };
}

/** Nothing that one node says over borders comes to another one, as if a relay withheld it. Returns what was withheld. */
function withholds(regions: Regions, from: SimNode, to: SimNode) {
  const kept = { summaries: [] as Sealed[], beacons: [] as Sealed[] };
  const { onFrame } = regions.network;
  regions.network.onFrame = (sender, receiver, frame, sizeBytes) => {
    if (frame.kind !== "borderBatch" || sender !== from.index || receiver !== to.index) return onFrame(sender, receiver, frame, sizeBytes);
    kept.summaries.push(...frame.summaries);
    kept.beacons.push(...frame.beacons);
    return false;
  };
  return kept;
}

/** A region is apart until all others have forgotten what was taken back meanwhile, and it what it took back. Nobody ever shows that again. */
function isApartForLong({ seed, rng, trace }: Parameters<Story>[0]) {
  const maxClockSkewMs = 1000;
  const regions = new Regions(seed, { eu: { eu1: 1 }, us: { us1: 1 }, ap: { ap1: 1 } }, { summary: { maxClockSkewMs } }, trace);
  regions.start();
  const clusters = ["eu1", "us1", "ap1"];
  regions.at(LINKED_MS, () => {
    for (const cluster of clusters) for (const name of ["stays", "goes"]) regions.put(`${cluster}-a`, name);
  });
  const all = [...regions.nodes.values()];
  const namesOf = (services: readonly string[]) => clusters.flatMap((cluster) => services.map((name) => `${cluster} svc/${name}`));
  const cutMs = LINKED_MS + 3000 + rng.int(2000);
  regions.look(cutMs - 100, () => regions.differs(all, namesOf(["stays", "goes"])));
  regions.at(cutMs, () => regions.cutOff("ap"));
  regions.at(cutMs + 1000, () => {
    for (const cluster of clusters) regions.end(`${cluster}-a`, "goes");
  });
  // A beacon names a withdrawal as long as its own cluster remembers it, and others remember that for as long once more.
  const healMs = cutMs + 1000 + holdDownMs + 2 * (ttlMs + staleKeepMs + 2 * maxClockSkewMs) + 5000 + rng.int(5000);
  regions.look(healMs - 100, () => all.flatMap((node) => remembering(node)));
  regions.at(healMs, () => regions.cutOff("ap", false));
  const isGone = (name: string) => name.endsWith("/goes");
  regions.watch(cutMs + ttlMs + staleKeepMs + 1500, healMs + 25_000, () =>
    all.flatMap(({ name }) => [...(regions.shown(name)?.keys() ?? [])].filter(isGone).map((gone) => `${name} shows ${gone}`)),
  );
  let linkedMs = Number.POSITIVE_INFINITY;
  regions.watch(healMs, healMs + 25_000, () => {
    if (["eu", "us"].every((place) => regions.node("ap1-a").process?.fabric.borders.linkedRegions().has(place) === true))
      linkedMs = Math.min(linkedMs, regions.world.nowMs);
    return regions.world.nowMs < linkedMs + 5000 ? [] : regions.differs(all, namesOf(["stays"]));
  });
  regions.look(healMs + 20_000, () => (linkedMs < healMs + 20_000 ? [] : ["ap has no links again"]));
  return { regions, endMs: healMs + 25_500 };
}

/** Three regions in a circle behind another one have from each other what that one exports no more. Nobody shows it when the words have gone round, and all do again later. */
function goesInACircle({ seed, rng, trace }: Parameters<Story>[0]) {
  const borders = ["ab", "bc", "cd", "bd"];
  const areNeighbours = (one: string, other: string) => borders.includes(`${one}${other}`) || borders.includes(`${other}${one}`);
  const layout = { a: { a1: 1 }, b: { b1: 1 }, c: { c1: 1 + rng.int(2) }, d: { d1: 1 } };
  const regions = new Regions(seed, layout, { areNeighbours }, trace);
  regions.start();
  const all = [...regions.nodes.values()];
  const others = ["b", "c", "d"].flatMap((place) => regions.nodesOf(place));
  const [few, both] = [["a1 svc/stays"], ["a1 svc/stays", "a1 inner/goes"]];
  regions.at(LINKED_MS, () => regions.put("a1-a", "stays"));
  regions.at(LINKED_MS, () => regions.put("a1-a", "goes", "1", { namespace: "inner" }));
  const narrowMs = LINKED_MS + 5000 + rng.int(2000);
  regions.look(narrowMs - 100, () => regions.differs(all, both));
  regions.at(narrowMs, () => regions.changeRules("a1", ["b1"], { exports: ["svc"] }));
  // Each of at most eight borders costs a wait of 3 s for other words.
  const wideMs = narrowMs + 30_000;
  regions.watch(wideMs - 3000, wideMs, () => regions.differs(others, few));
  regions.at(wideMs, () => regions.changeRules("a1", ["b1"], { exports: [] }));
  regions.watch(wideMs + 15_000, wideMs + 18_000, () => regions.differs(all, both));
  return { regions, endMs: wideMs + 18_500 };
}

/** What a node holds of sources beside the one service that each of them still has: withdrawals that are remembered. */
function remembering({ name, process }: SimNode): readonly string[] {
  const sources = process?.rooms.regions?.held.sources(process.time()) ?? [];
  return sources.flatMap(({ source, summaries, state }) =>
    state === "dropped" || summaries === 1 ? [] : [`${name} holds ${summaries} summaries of ${source}`],
  );
}

/** A cluster loses its only disk, and nobody outside of its region tells it what it said: the other cluster of its region does. */
function isBesideALoss({ seed, rng, trace }: Parameters<Story>[0]) {
  const rules = () => ({ exports: ["svc"] });
  const regions = new Regions(seed, { eu: { eu1: 2, eu2: 1 }, us: { us1: 1 } }, { rules }, trace);
  regions.start();
  const eu1 = regions.nodesOf("eu1");
  regions.at(LINKED_MS, () => {
    for (const name of ["stays", "goes"]) regions.put("eu2-a", name, "1", { namespace: "inner" });
  });
  const lossMs = LINKED_MS + 3000 + rng.int(1000);
  regions.look(lossMs - 100, () => regions.differs(eu1, ["eu2 inner/stays", "eu2 inner/goes"]));
  regions.at(lossMs, () => regions.node("eu2-a").crash({ isSilent: false, isBatchKept: false, isDiskLost: true }));
  regions.at(lossMs + 1000, () => regions.node("eu2-a").start());
  regions.at(lossMs + 5000, () => regions.put("eu2-a", "stays", "1", { namespace: "inner" }));
  // Five minutes after its node began another one, an origin is taken over.
  regions.watch(lossMs + 340_000, lossMs + 400_000, () => regions.differs(regions.nodesOf("eu"), ["eu2 inner/stays"]), 1000);
  return { regions, endMs: lossMs + 400_500 };
}

/** The same, and the clock of the cluster is set back: what it says then is below what it took back before, of which only the other cluster of its region knows. */
function isBesideALossOfTime({ seed, rng, trace }: Parameters<Story>[0]) {
  const rules = () => ({ exports: ["svc"] });
  const regions = new Regions(seed, { eu: { eu1: 2, eu2: 1 }, us: { us1: 1 } }, { rules }, trace);
  regions.start();
  const put = () => regions.put("eu2-a", "comes", "1", { namespace: "inner" });
  regions.at(LINKED_MS, put);
  regions.at(LINKED_MS + 3000, () => regions.end("eu2-a", "comes", "1", "inner"));
  const lossMs = LINKED_MS + 12_000 + rng.int(1000);
  regions.look(lossMs - 100, () => regions.differs(regions.nodesOf("eu"), []));
  regions.at(lossMs, () => {
    const node = regions.node("eu2-a");
    node.crash({ isSilent: false, isBatchKept: false, isDiskLost: true });
    node.skewMs = -120_000;
  });
  regions.at(lossMs + 1000, () => regions.node("eu2-a").start());
  regions.at(lossMs + 5000, put);
  regions.watch(lossMs + 340_000, lossMs + 400_000, () => regions.differs(regions.nodesOf("eu"), ["eu2 inner/comes"]), 1000);
  return { regions, endMs: lossMs + 400_500 };
}

/** The seed says which of the worlds it is, in turn, and draws its times. */
export function runSeed(seed: number, trace?: string): RegionOutcome {
  return runWorld(WORLDS[(seed - 1) % WORLDS.length] ?? showsElsewhere, seed, trace);
}

/** One of the worlds by its name, with the times that the seed draws. */
export function runNamed(name: string, seed: number): RegionOutcome {
  const story = [...WORLDS, ...OTHERS].find((each) => each.name === name);
  if (story === undefined) throw new Error(`there is no world ${name}`);
  return runWorld(story, seed);
}

function runWorld(story: Story, seed: number, trace?: string): RegionOutcome {
  const { regions, endMs } = story({ seed: `${seed}`, rng: new Rng(`region world ${seed}`), trace });
  const wrong = regions.run(endMs);
  regions.trace.flush();
  const violation = wrong.length === 0 ? undefined : { invariant: story.name, message: wrong.slice(0, 5).join("; ") };
  return { violation, world: story.name, exportCount: regions.exports.length };
}
