/** Regions in a row: what the first one says passes through the machines of all others, and stays as fresh as it is (docs/design/summaries.md, What crosses a border). */
import { expect, test } from "vitest";
import { sized } from "../fakes/effort.ts";
import { type Layout, Regions } from "./regions/world.ts";

const COUNT = sized(8, 6);
const END_MS = sized(90_000, 60_000);
const name = (n: number) => `r${n}`;
const LAYOUT: Layout = Object.fromEntries(Array.from({ length: COUNT }, (_, n) => [name(n), { [`${name(n)}x`]: 3 }]));

test(`a cluster that lives is stale in none of ${COUNT} regions in a row`, () => {
  const areNeighbours = (one: string, other: string) => Math.abs(Number(one.slice(1)) - Number(other.slice(1))) === 1;
  const regions = new Regions("chain", LAYOUT, { areNeighbours });
  regions.start();
  regions.at(10_000, () => regions.put("r0x-a", "quotes"));
  const all = [...regions.nodes.values()];
  // Where the node that takes a beacon is not the one that passes it on, the time between two beacons must not be added.
  regions.watch(40_000, END_MS, () => regions.differs(all, ["r0x svc/quotes"]), 500);
  expect(regions.run(END_MS + 500)).toEqual([]);
});
