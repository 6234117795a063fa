/** The goals of regions in virtual time, with the times of the product: how soon each change is seen, and what crosses borders for it. */

import { SCOPE } from "../../../src/catalog/entry/scope.ts";
import { Rng } from "../../../src/lib/rng.ts";
import { BAND } from "../../../src/summary/summary.ts";
import { rule, span } from "../../fakes/policies.ts";
import { WALL_START_MS } from "../sim-node.ts";
import { type Layout, Regions, type RegionsOptions } from "./world.ts";

const SECOND = 1000;
const MINUTE = 60_000;
/** Defaults of the settings. */
export const TIMES = { ttlMs: 120_000, staleKeepMs: 600_000, holdDownMs: 5000, exportIntervalMs: 30_000 } as const;
/** With so many nodes in each cluster. */
const topologyOf = (nodes: number): Layout => ({
  eu: { eu1: nodes, eu2: nodes },
  us: { us1: nodes, us2: nodes },
  ap: { ap1: nodes, ap2: nodes },
});
/** By then border links are up, and the first comparisons are over. */
const LINKED_MS = 20_000;
const LOOK_MS = 20;

function started(seed: number, layout: Layout, options: RegionsOptions = {}): Regions {
  const regions = new Regions(`${seed}`, layout, { apartMs: 80, summary: TIMES, ...options });
  regions.start();
  return regions;
}

/** What is done at a time, and when all nodes of the other regions are to see it. */
interface Change {
  readonly name: string;
  readonly atMs: number;
  readonly act: () => void;
  readonly isSeen: (shown: { readonly count: number; readonly band: number } | undefined) => boolean;
}

/** Of each change the time until the last node of the other regions shows it, in ms. */
export function timesUntilSeen(seed: number, nodes: number): ReadonlyMap<string, number> {
  const regions = started(seed, topologyOf(nodes));
  const others = regions.nodesOf("eu").length;
  const seers = [...regions.nodes.values()].slice(others);
  const put = (instance: string, health = 1) => regions.put("eu1-b", "quotes", instance, { health });
  const t = LINKED_MS;
  const changes: readonly Change[] = [
    { name: "new", atMs: t, act: () => put("1"), isSeen: (shown) => shown?.count === 1 },
    { name: "band", atMs: t + 40_000, act: () => put("1", 3), isSeen: (shown) => shown?.band === BAND.CRITICAL },
    { name: "band again", atMs: t + 40_500, act: () => put("1"), isSeen: (shown) => shown?.band === BAND.HEALTHY },
    { name: "gone", atMs: t + 80_000, act: () => regions.end("eu1-b", "quotes", "1"), isSeen: (shown) => shown === undefined },
    { name: "back", atMs: t + 80_500, act: () => put("1"), isSeen: (shown) => shown?.count === 1 },
    { name: "count", atMs: t + 120_000, act: () => put("2"), isSeen: (shown) => shown?.count === 2 },
    { name: "count again", atMs: t + 121_000, act: () => ["3", "4"].map((each) => put(each)), isSeen: (shown) => shown?.count === 4 },
  ];
  const times = new Map<string, number>();
  for (const [i, { name, atMs, act, isSeen }] of changes.entries()) {
    regions.at(atMs, act);
    const nextMs = changes[i + 1]?.atMs ?? Number.POSITIVE_INFINITY;
    const untilMs = Math.min(atMs + 35 * SECOND, nextMs > atMs + SECOND ? nextMs : nextMs + 35 * SECOND);
    // One that comes right before the next is seen before that, or not judged.
    for (let lookMs = atMs + LOOK_MS; lookMs < Math.min(untilMs, nextMs); lookMs += LOOK_MS)
      regions.at(lookMs, () => {
        if (times.has(name)) return;
        if (seers.every((node) => isSeen(regions.shown(node.name)?.get("eu1 svc/quotes")))) times.set(name, lookMs - atMs);
      });
  }
  regions.run(t + 160_000);
  return times;
}

/** The time until no node of any region shows what a window let out, from its end, and what a rollback takes back, from when the nodes of the cluster have it in force. */
export function timesUntilTakenBack(seed: number, nodes: number): { readonly windowMs: number; readonly rollbackMs: number } {
  const regions = started(seed, topologyOf(nodes));
  const all = [...regions.nodes.values()];
  const isShownBy = (name: string) => all.map((node) => regions.shown(node.name)?.has(`eu1 ${name}`) === true);
  const windowEndMs = LINKED_MS + 40_000;
  const window = span(WALL_START_MS - MINUTE, WALL_START_MS + windowEndMs, { exportScopes: [SCOPE.GLOBAL], allowSummaries: true });
  const sale = rule("svc.sale", { cutoverWindows: [window] });
  const move = (allowSummaries: boolean) => rule("svc.move", { allowSummaries, exportScopes: allowSummaries ? [SCOPE.GLOBAL] : [] });
  regions.at(LINKED_MS, () => {
    regions.apply("eu1-a", [sale, move(true)], "moved");
    regions.put("eu1-b", "cart", "1", { namespace: "svc.sale" });
    regions.put("eu1-b", "stock", "1", { namespace: "svc.move" });
  });
  const backMs = windowEndMs + 10_000;
  regions.at(backMs, () => regions.apply("eu1-a", [sale, move(false)], "back"));
  const untilGone = (name: string, shownAtMs: number, fromMs: () => number) => {
    let tookMs = Number.POSITIVE_INFINITY;
    regions.look(shownAtMs, () => (isShownBy(name).every(Boolean) ? [] : [`not all show ${name}`]));
    regions.watch(
      shownAtMs,
      backMs + 20_000,
      () => {
        if (tookMs === Number.POSITIVE_INFINITY && !isShownBy(name).some(Boolean)) tookMs = regions.world.nowMs - fromMs();
        return [];
      },
      LOOK_MS,
    );
    return () => tookMs;
  };
  let inForceMs = Number.POSITIVE_INFINITY;
  regions.watch(
    backMs,
    backMs + 20_000,
    () => {
      const isInForce = regions.nodesOf("eu1").every(({ process }) => process?.policies.policy.set?.version === "back");
      if (isInForce) inForceMs = Math.min(inForceMs, regions.world.nowMs);
      return [];
    },
    LOOK_MS,
  );
  const windowMs = untilGone("svc.sale/cart", windowEndMs - 1000, () => windowEndMs);
  const rollbackMs = untilGone("svc.move/stock", backMs - 1000, () => Math.min(inForceMs, regions.world.nowMs));
  const wrong = regions.run(backMs + 20_500);
  if (wrong.length > 0) throw new Error(wrong.join("; "));
  return { windowMs: windowMs(), rollbackMs: rollbackMs() };
}

/** Bytes a second of an idle border link, with both directions. */
export function idleRate(seed: number): { readonly links: number; readonly bytesPerSecond: number } {
  const regions = started(seed, topologyOf(3), { isEncoded: true });
  for (const { name } of regions.nodes.values()) regions.at(LINKED_MS, () => regions.put(name, `at-${name}`));
  const fromMs = LINKED_MS + 2 * MINUTE;
  let [before, links] = [0, 0];
  regions.at(fromMs, () => {
    before = regions.crossed.bytes;
    links = regions.linkCount;
  });
  regions.run(fromMs + 4 * MINUTE);
  return { links, bytesPerSecond: (regions.crossed.bytes - before) / (4 * 60) / links };
}

/** Summaries that cross for one change of one service of each region, in a full mesh of so many regions. */
export function copiesInMesh(seed: number, count: number): { readonly copies: number; readonly missing: readonly string[] } {
  const names = Array.from({ length: count }, (_, i) => `r${i}`);
  const regions = started(seed, Object.fromEntries(names.map((name) => [name, { [`${name}c`]: 1 }])));
  for (const name of names) regions.at(LINKED_MS, () => regions.put(`${name}c-a`, "web"));
  const changeMs = LINKED_MS + MINUTE;
  let before = 0;
  regions.at(changeMs, () => {
    before = regions.crossed.summaries;
    for (const name of names) regions.put(`${name}c-a`, "web", "1", { health: 3 });
  });
  const missing: string[] = [];
  regions.at(changeMs + 20_000, () => {
    for (const { name: nodeId } of regions.nodes.values())
      for (const name of names)
        if (regions.shown(nodeId)?.get(`${name}c svc/web`)?.band !== BAND.CRITICAL) missing.push(`${nodeId} lacks the change of ${name}`);
  });
  regions.run(changeMs + 90_000);
  return { copies: (regions.crossed.summaries - before) / (count * (count - 1)), missing };
}

/** Bytes between regions in a full mesh of so many, each with one cluster, for the same changes of the same services of each, with so many nodes and endpoints. */
export function bytesInMesh(seed: number, count: number, nodes: number, endpoints: number): number {
  const names = Array.from({ length: count }, (_, i) => `r${i}`);
  const regions = started(seed, Object.fromEntries(names.map((name) => [name, { [`${name}c`]: nodes }])), { isEncoded: true });
  const services = Array.from({ length: 10 }, (_, i) => `s${i}`);
  const putAll = (health: number) => {
    for (const name of names) {
      const holders = regions.nodesOf(name);
      for (const service of services)
        for (let i = 0; i < endpoints; i++) regions.put(holders[i % holders.length]?.name ?? "", service, `${i}`, { health });
    }
  };
  regions.at(LINKED_MS, () => putAll(1));
  const fromMs = LINKED_MS + 30 * SECOND;
  let before = 0;
  regions.at(fromMs, () => {
    before = regions.crossed.bytes;
  });
  for (let n = 0; n < 2; n++) regions.at(fromMs + SECOND + n * 20 * SECOND, () => putAll(n % 2 === 0 ? 3 : 1));
  regions.run(fromMs + 40 * SECOND);
  return regions.crossed.bytes - before;
}

/** Bytes between two regions for so many changes of the same services, with so many nodes and endpoints. */
export function bytesOfChanges(seed: number, rounds: number, nodes: number, endpoints: number): number {
  const regions = started(seed, { eu: { eu1: nodes }, us: { us1: nodes } }, { isEncoded: true });
  const services = Array.from({ length: 40 }, (_, i) => `s${i}`);
  const holders = regions.nodesOf("eu").map(({ name }) => name);
  const putAll = (name: string, health: number) => {
    for (let i = 0; i < endpoints; i++) regions.put(holders[i % holders.length] ?? "", name, `${i}`, { health });
  };
  regions.at(LINKED_MS, () => services.map((name) => putAll(name, 1)));
  const fromMs = LINKED_MS + MINUTE;
  let before = 0;
  regions.at(fromMs, () => {
    before = regions.crossed.bytes;
  });
  for (let n = 0; n < rounds; n++) regions.at(fromMs + 1000 + n * 30_000, () => services.map((name) => putAll(name, n % 2 === 0 ? 3 : 1)));
  regions.run(fromMs + MINUTE + rounds * 30_000);
  return regions.crossed.bytes - before;
}

/** A tenth of all endpoints joins or leaves a minute: bytes between regions, and those of the same changes as record frames to each other region. */
export function churnBytes(seed: number, { services, endpoints, minutes }: { services: number; endpoints: number; minutes: number }) {
  const rng = new Rng(`churn ${seed}`);
  const places = ["eu", "us", "ap"] as const;
  const regions = started(seed, Object.fromEntries(places.map((place) => [place, { [`${place}1`]: 2 }])), { isEncoded: true });
  const there = new Map(places.map((place) => [place, [] as (readonly [name: string, instance: string])[]]));
  let next = 0;
  const join = (place: (typeof places)[number]) => {
    const endpoint = [`s${rng.int(services)}`, `${next++}`] as const;
    there.get(place)?.push(endpoint);
    regions.put(`${place}1-a`, ...endpoint);
  };
  const leave = (place: (typeof places)[number]) => {
    const list = there.get(place) ?? [];
    const at = rng.int(list.length);
    const [endpoint] = list.splice(at, 1, ...list.splice(-1));
    if (endpoint !== undefined) regions.end(`${place}1-a`, ...endpoint);
  };
  const fillMs = 60_000;
  for (let i = 0; i < endpoints; i++) regions.at(LINKED_MS + (i * fillMs) / endpoints, () => places.forEach(join));
  const fromMs = LINKED_MS + fillMs + 2 * MINUTE;
  const recordBytes = () => regions.network.traffic.reduce((sum, { byKind }) => sum + (byKind.get("records") ?? 0), 0);
  const before = { bytes: 0, records: 0 };
  regions.at(fromMs, () => Object.assign(before, { bytes: regions.crossed.bytes, records: recordBytes() }));
  const everyMs = MINUTE / (endpoints / 10);
  for (let atMs = fromMs; atMs < fromMs + minutes * MINUTE; atMs += everyMs)
    regions.at(atMs, () => places.forEach(rng.int(2) === 0 ? join : leave));
  regions.run(fromMs + minutes * MINUTE);
  // In its own region each change went from one node to one other. As records it would go to both other regions.
  return { bytes: regions.crossed.bytes - before.bytes, asRecords: 2 * (recordBytes() - before.records) };
}

/** After so long apart: summaries that cross for services that changed several times, and the time from the first link until all are equal. */
export function afterTimeApart(seed: number, services: number): { readonly summaries: number; readonly equalAfterMs: number } {
  const regions = started(seed, { eu: { eu1: 2 }, us: { us1: 2 } });
  const names = Array.from({ length: services }, (_, i) => `s${i}`);
  const change = (health: number) => names.forEach((name) => regions.put("eu1-a", name, "1", { health }));
  regions.at(LINKED_MS, () => change(1));
  const cutMs = LINKED_MS + MINUTE;
  regions.at(cutMs, () => regions.cutOff("eu"));
  for (let n = 0; n < 5; n++) regions.at(cutMs + (n + 1) * MINUTE, () => change(n % 2 === 0 ? 3 : 1));
  const healMs = cutMs + 10 * MINUTE;
  let [before, linkedMs, equalMs] = [0, 0, 0];
  regions.at(healMs, () => {
    before = regions.crossed.summaries;
    regions.cutOff("eu", false);
  });
  const isEqual = () =>
    regions.nodesOf("us").every(({ name }) => names.every((each) => regions.shown(name)?.get(`eu1 svc/${each}`)?.band === BAND.CRITICAL));
  for (let atMs = healMs; atMs < healMs + 2 * MINUTE; atMs += 50)
    regions.at(atMs, () => {
      if (linkedMs === 0 && regions.linkCount > 0 && atMs > healMs + 500) linkedMs = atMs;
      if (linkedMs > 0 && equalMs === 0 && isEqual()) equalMs = atMs;
    });
  regions.run(healMs + 3 * MINUTE);
  return { summaries: regions.crossed.summaries - before, equalAfterMs: equalMs === 0 ? Number.POSITIVE_INFINITY : equalMs - linkedMs };
}
