/** What is left of a cluster of which most vanished at once says that it lives, and one node at a time does. */
import { expect, test } from "vitest";
import { beaconKey } from "../../src/summary/keys.ts";
import { Regions, SUMMARY } from "./regions/world.ts";

const LINKED_MS = 8000;
/** Until then all is over that was under way when most vanished. */
const CALM_MS = LINKED_MS + 12_000;
const END_MS = CALM_MS + 4 * SUMMARY.ttlMs;

test("of nodes that confirm what was exported one sends each beacon, and no other one beside it", () => {
  const regions = new Regions("confirming", { eu: { eu1: 5 }, us: { us1: 1 } });
  const nodes = regions.nodesOf("eu1");
  const left = nodes.slice(3);
  const sent = new Set<string>();
  regions.start();
  for (const { name } of nodes) regions.at(4000, () => regions.put(name, `of-${name}`));
  regions.at(LINKED_MS, () => {
    for (const node of nodes.slice(0, 3)) node.crash({ isSilent: true, isBatchKept: true, isDiskLost: false });
  });
  regions.watch(CALM_MS, END_MS, () => {
    for (const { name, process } of left) {
      const own = process?.rooms.regions?.held.replica.own(beaconKey("eu1"));
      if (own !== undefined && own.sizeBytes > 0) sent.add(`${name} ${own.hlc}`);
    }
    return regions.differs(
      regions.nodesOf("us1"),
      nodes.map(({ name }) => `eu1 svc/of-${name}`),
    );
  });
  expect(regions.run(END_MS + 1000)).toEqual([]);
  for (const { process } of left) expect(process?.rooms.regions?.standingText).toMatch(/^exports paused, .*confirmed by beacons/);
  expect(new Set([...sent].map((text) => text.split(" ")[0])).size).toBe(1);
  // The first of them was sent before.
  expect(sent.size - 1).toBeLessThanOrEqual((END_MS - CALM_MS) / (SUMMARY.ttlMs / 3));
});
