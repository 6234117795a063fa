/** Small worlds of regions, in virtual time, and what their nodes say and show. */
import { BorderWorld, type Exports, type WorldNode } from "./border-world.ts";
import type { Saying } from "./held-map.ts";

export const MINUTE = 60_000;

/** What readers of the node are shown of other regions. */
export function shownAt({ held, region }: WorldNode): readonly string[] {
  const others = held.live().filter(({ source }) => held.regionOf(source) !== region);
  return others.map(({ source, name, version }) => `${source} ${name} ${version}`).toSorted();
}

export function say(world: BorderWorld, node: WorldNode, name: string, version: number, more: Saying = {}): void {
  node.held.say({ name, version, ...more }, world.time);
}

export function sayMany(world: BorderWorld, node: WorldNode, count: number, version: number): void {
  for (let n = 0; n < count; n++) say(world, node, `s${n}`, version);
}

/** Runs on, with a beacon of each cluster every 40 s. */
export function live(world: BorderWorld, ms: number): void {
  for (let left = ms; left > 0; left -= 40_000) {
    for (const { held } of world.nodes) held.beat(world.time.monoMs, world.time);
    world.run(Math.min(left, 40_000));
  }
}

/** A region of one border node for each letter. */
export function regions(letters: string, world = new BorderWorld()): readonly [BorderWorld, ...WorldNode[]] {
  return [world, ...letters.split("").map((letter) => world.add(letter, `c${letter}`, `r${letter}`))];
}

/** Two regions with a link. */
export function pair(world = new BorderWorld(), sides: readonly Exports[] = []): readonly [BorderWorld, WorldNode, WorldNode] {
  const [, a, b] = regions("ab", world) as [BorderWorld, WorldNode, WorldNode];
  world.link(a, b, ...sides);
  return [world, a, b];
}

export function mesh(count: number): BorderWorld {
  const world = new BorderWorld();
  for (let n = 0; n < count; n++) world.add(`n${n}`, `c${n}`, `r${n}`);
  for (const [n, a] of world.nodes.entries()) for (const b of world.nodes.slice(n + 1)) world.link(a, b);
  return world;
}
