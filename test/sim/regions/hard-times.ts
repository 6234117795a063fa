/** Stories of regions whose clusters, links or hubs are lost for a while. Each looks at what the others show of them meanwhile. */
import type { Rng } from "../../../src/lib/rng.ts";
import type { SimNode } from "../sim-node.ts";
import { Regions, SUMMARY } from "./world.ts";

/** Makes a world, and says when it ends. */
export type HardTime = (seed: string, rng: Rng) => { readonly regions: Regions; readonly endMs: number };

const { ttlMs, staleKeepMs, holdDownMs } = SUMMARY;
/** By then border links are up. */
const LINKED_MS = 8000;

/** Three spokes lose their hub while things change, and have it again. Two of them may have a border of their own, and then hear each other all the time. */
export function losesItsHub(seed: string, rng: Rng): ReturnType<HardTime> {
  const hasSecondWay = rng.int(2) === 0;
  const areNeighbours = (a: string, b: string) =>
    a === "hub" || b === "hub" || (hasSecondWay && `${a}${b}` !== "ac" && a !== "c" && b !== "c");
  const regions = new Regions(seed, { hub: { hub1: 2 }, a: { a1: 1 }, b: { b1: 1 }, c: { c1: 1 } }, { areNeighbours });
  regions.start();
  const spokes = ["a", "b", "c"];
  const there = new Set<string>();
  const lostMs = LINKED_MS + 6000 + rng.int(2000);
  const backMs = lostMs + ttlMs - 2000 + rng.int(staleKeepMs + 6000);
  for (let atMs = LINKED_MS; atMs < backMs; atMs += 150 + rng.int(300)) {
    const [spoke, name] = [spokes[rng.int(3)] ?? "a", `s${rng.int(5)}`];
    const text = `${spoke}1 svc/${name}`;
    const isEnd = there.has(text) && rng.int(2) === 0;
    if (isEnd) there.delete(text);
    else there.add(text);
    regions.at(atMs, () => (isEnd ? regions.end(`${spoke}1-a`, name) : regions.put(`${spoke}1-a`, name)));
  }
  const hub = regions.nodesOf("hub");
  regions.at(lostMs, () => {
    for (const node of hub) node.crash({ isSilent: rng.int(2) === 0, isBatchKept: true, isDiskLost: false });
  });
  if (hasSecondWay) regions.watch(lostMs, backMs + 20_000, () => [...stale(regions, "a1-a", "b1"), ...stale(regions, "b1-a", "a1")]);
  regions.at(backMs, () => {
    for (const node of hub) node.start();
  });
  let linkedMs = Number.POSITIVE_INFINITY;
  regions.watch(backMs, backMs + 25_000, () => {
    const areLinked = spokes.every((spoke) => regions.node(`${spoke}1-a`).process?.fabric.borders.linkedRegions().has("hub") === true);
    if (areLinked && regions.world.nowMs > backMs + holdDownMs) linkedMs = Math.min(linkedMs, regions.world.nowMs);
    return regions.world.nowMs < linkedMs + 5000 ? [] : regions.differs([...regions.nodes.values()], [...there]);
  });
  regions.look(backMs + 20_000, () => (linkedMs < backMs + 16_000 ? [] : ["the spokes have no link with the hub again"]));
  return { regions, endMs: backMs + 25_500 };
}

/** Four regions in a ring. A change comes to each at most three times; a cut link makes nothing stale; and who is lost is stale everywhere at its ttl. */
export function isARing(seed: string, rng: Rng): ReturnType<HardTime> {
  const places = ["a", "b", "c", "d"];
  const areNeighbours = (a: string, b: string) => (places.indexOf(a) - places.indexOf(b)) % 2 !== 0;
  const regions = new Regions(seed, { a: { a1: 1 }, b: { b1: 1 }, c: { c1: 1 }, d: { d1: 1 } }, { areNeighbours });
  const copies = copiesIn(regions);
  regions.start();
  const all = [...regions.nodes.values()];
  const cutMs = LINKED_MS + 4000 + rng.int(4000);
  const healMs = cutMs + ttlMs + 4000 + rng.int(4000);
  const deadMs = healMs + 8000;
  for (const [i, place] of places.entries())
    for (let n = 0; n < 8; n++)
      regions.at(LINKED_MS + i * 300 + n * holdDownMs * 1.6, () =>
        regions.put(`${place}1-a`, "web", `${n % 2}`, { health: n % 2 === 0 ? 1 : 3 }),
      );
  regions.at(cutMs, () => regions.cut(regions.nodesOf("a"), regions.nodesOf("b")));
  regions.at(healMs, () => regions.cut(regions.nodesOf("a"), regions.nodesOf("b"), false));
  const names = places.map((place) => `${place}1 svc/web`);
  regions.watch(LINKED_MS + 3000, deadMs - 100, () => [
    ...regions.differs(all, names),
    ...copies()
      .filter(({ count }) => count > 3)
      .map(({ what, count }) => `${what} came ${count} times`),
    ...places.flatMap((source) => younger(regions, all, `${source}1`)),
  ]);
  const [lost, ...others] = [regions.node("a1-a"), regions.node("b1-a"), regions.node("c1-a"), regions.node("d1-a")];
  let beaconMs = 0;
  regions.at(deadMs, () => {
    beaconMs = deadMs - (ageOf(lost, "a1") ?? 0);
    lost?.crash({ isSilent: true, isBatchKept: true, isDiskLost: false });
  });
  regions.watch(deadMs, deadMs + ttlMs + 5000, () => {
    if (regions.world.nowMs < beaconMs + ttlMs + 1000) return [];
    return regions.differs(others, [...names.slice(1), `${names[0]} stale`]);
  });
  return { regions, endMs: deadMs + ttlMs + 5500 };
}

/** The exporter of a cluster stands still while things change, and goes on. Nothing that it knew before takes the place of what others said meanwhile. */
export function isFrozen(seed: string, rng: Rng): ReturnType<HardTime> {
  const regions = new Regions(seed, { eu: { eu1: 3 }, us: { us1: 1 } });
  regions.start();
  const names = Array.from({ length: 6 }, (_, i) => `s${i}`);
  const eu = regions.nodesOf("eu");
  let frozen: SimNode | undefined;
  let kin: readonly SimNode[] = [];
  regions.at(LINKED_MS, () => {
    const exporter = eu[0]?.process?.rooms.regions?.builder.exporterOf("\0beacon");
    frozen = eu.find(({ name }) => name === exporter);
    kin = eu.filter((node) => node !== frozen);
    for (const name of names) for (const node of kin) regions.put(node.name, name);
  });
  const freezeMs = LINKED_MS + 7000 + rng.int(1000);
  const thawMs = freezeMs + 3000 + rng.int(25_000);
  const newMs = thawMs - 2000;
  const versions = new Map<string, number>();
  regions.at(freezeMs, () => frozen?.freeze());
  regions.at(newMs, () => {
    for (const name of names) for (const node of kin) regions.put(node.name, name, "2");
  });
  regions.at(thawMs, () => frozen?.thaw());
  regions.watch(freezeMs, thawMs + 20_000, () => {
    const shown = regions.shown("us1-a");
    return names.flatMap((name) => {
      const { count = 0, version = 0, isStale } = shown?.get(`eu1 svc/${name}`) ?? {};
      const [before, fewest] = [versions.get(name) ?? 0, regions.world.nowMs < thawMs + 15_000 ? 2 : 4];
      versions.set(name, version);
      const isRight = version >= before && count >= fewest && isStale === false;
      return isRight ? [] : [`us1-a shows ${name} with ${count} in version ${version} after ${before}${isStale === true ? ", stale" : ""}`];
    });
  });
  return { regions, endMs: thawMs + 20_500 };
}

/** A cluster loses its disks while its clocks are set back. What it says then is below what others know of it, and counts all the same. */
export function losesDisksAndTime(seed: string, rng: Rng): ReturnType<HardTime> {
  const regions = new Regions(seed, { eu: { eu1: 2 }, us: { us1: 2 } });
  regions.start();
  const [eu, us] = [regions.nodesOf("eu"), regions.nodesOf("us")];
  regions.at(LINKED_MS, () => {
    for (const name of ["stays", "goes"]) regions.put("eu1-a", name);
  });
  const lossMs = LINKED_MS + 5000 + rng.int(4000);
  const backMs = lossMs + 1000 + rng.int(ttlMs);
  regions.at(lossMs, () => {
    for (const node of eu) {
      node.crash({ isSilent: false, isBatchKept: false, isDiskLost: true });
      node.skewMs = -300_000;
    }
  });
  regions.at(backMs, () => {
    for (const node of eu) node.start();
  });
  regions.at(backMs + 4000, () => {
    for (const name of ["stays", "new"]) regions.put("eu1-b", name);
  });
  // Two ttls later nothing is fresh by what was heard before, and what the cluster does not have any more is taken back.
  const restMs = backMs + 4000 + 2 * ttlMs + rng.int(8000);
  regions.watch(restMs, restMs + ttlMs, () => regions.differs(us, ["eu1 svc/new", "eu1 svc/stays"]));
  return { regions, endMs: restMs + ttlMs + 500 };
}

function stale(regions: Regions, nodeId: string, source: string): readonly string[] {
  const shown = [...(regions.shown(nodeId) ?? [])];
  return shown.flatMap(([name, { isStale }]) => (name.startsWith(`${source} `) && isStale ? [`${nodeId} shows ${name} as stale`] : []));
}

function ageOf(node: SimNode | undefined, source: string): number | undefined {
  const { process } = node ?? {};
  return process?.rooms.regions?.held.ages(process.time()).find((age) => age.source === source)?.ageMs;
}

/** Nodes for which a source is younger than for itself, or much older: what a relay adds to a beacon's age would add up in a ring. */
function younger(regions: Regions, nodes: readonly SimNode[], source: string): readonly string[] {
  const own = ageOf(regions.node(`${source}-a`), source) ?? 0;
  return nodes.flatMap((node) => {
    const age = ageOf(node, source);
    // The newest beacon may be on its way, or one may be lost with a link.
    return age !== undefined && age >= own - IN_TRANSIT_MS && age < own + ttlMs
      ? []
      : [`${source} is ${own} ms old and at ${node.name} ${age}`];
  });
}

/** Three borders, each 40 ms away. A beacon may also wait for a turn. */
const IN_TRANSIT_MS = 500;

/** How often each version of a summary came to a node over borders. */
function copiesIn(regions: Regions): () => readonly { readonly what: string; readonly count: number }[] {
  const counts = new Map<string, number>();
  for (const node of regions.nodes.values()) {
    const receive = node.received.bind(node);
    node.received = (link, frame, ...rest) => {
      if (frame.kind === "borderBatch")
        for (const { signature } of frame.summaries) {
          const what = `${node.name} ${signature.slice(0, 8).join()}`;
          counts.set(what, (counts.get(what) ?? 0) + 1);
        }
      receive(link, frame, ...rest);
    };
  }
  return () => [...counts].map(([what, count]) => ({ what, count }));
}

/** All nodes of a cluster but one vanish at once. It lives, so others show what it said, fresh, and nothing lower, for as long as that lasts. */
export function isAlmostLost(seed: string, rng: Rng): ReturnType<HardTime> {
  const count = 2 + rng.int(2);
  const regions = new Regions(seed, { eu: { eu1: count }, us: { us1: 1 } });
  regions.start();
  const names = ["s0", "s1", "s2", "s3"];
  const nodes = regions.nodesOf("eu1");
  regions.at(LINKED_MS, () => {
    for (const name of names) for (const node of nodes) regions.put(node.name, name);
  });
  const killMs = LINKED_MS + 8000 + rng.int(3000);
  const left = nodes[rng.int(nodes.length)];
  regions.at(killMs, () => {
    for (const node of nodes) if (node !== left) node.crash({ isSilent: rng.int(2) === 0, isBatchKept: true, isDiskLost: false });
  });
  const backMs = killMs + ttlMs + staleKeepMs + 5000;
  const full = () =>
    names.flatMap((name) => {
      const { count: seen = 0, isStale } = regions.shown("us1-a")?.get(`eu1 svc/${name}`) ?? {};
      // The dead are found after some seconds, and the ttl of these worlds is short.
      const isFresh = isStale === false || regions.world.nowMs < killMs + ttlMs;
      return seen === count && isFresh ? [] : [`us1-a shows ${name} with ${seen} of ${count}${isStale === true ? ", stale" : ""}`];
    });
  regions.watch(killMs - 500, backMs, full);
  regions.at(backMs, () => {
    for (const node of nodes) if (node !== left) node.start();
  });
  regions.watch(backMs, backMs + ttlMs + holdDownMs, full);
  return { regions, endMs: backMs + ttlMs + holdDownMs + 500 };
}
