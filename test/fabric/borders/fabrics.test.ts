/** What is said on border links between whole fabrics, which open the links themselves. */
import { expect, test } from "vitest";
import { BorderChannel } from "../../../src/fabric/borders/channel.ts";
import { BORDER_FIXED } from "../../../src/fabric/borders/options.ts";
import { FabricWorld, type WorldNode } from "../../fakes/fabric-world.ts";
import { HeldMap } from "./held-map.ts";

const PLACES = [
  { region: "ap", clusterId: "ap1", nodeId: "ap1a" },
  { region: "eu", clusterId: "eu1", nodeId: "eu1a" },
  { region: "us", clusterId: "us1", nodeId: "us1a" },
];

interface Member {
  readonly node: WorldNode;
  readonly held: HeldMap;
}

/** A node in each region, with a border to each other one. */
function start(world: FabricWorld): readonly Member[] {
  const regions = new Map(PLACES.map(({ clusterId, region }) => [clusterId, region]));
  return PLACES.map((place) => {
    const held = new HeldMap(place.clusterId, regions);
    const others = PLACES.filter(({ region }) => region !== place.region);
    const borders = others.map(({ clusterId, region, nodeId }) => {
      const trust = { kind: "token" as const, token: "the-token-of-this-border" };
      return {
        clusterId,
        region,
        addresses: [`${nodeId}:1`],
        trust,
        imports: ["*"],
        exports: ["*"],
        batchIntervalMs: 100,
        bytesPerSecond: 0,
      };
    });
    const linked = new Set(others.map(({ region }) => region));
    const borderExports = () => new Map([...linked].map((region) => [region, [["*"]]]));
    const parts = {
      here: place,
      summaries: held,
      priorityOf: () => 0,
      linkedRegions: () => linked,
      borderExports,
      reaches: { reachRevision: 0, reachTo: () => [] },
    };
    const channel = new BorderChannel({ ...BORDER_FIXED, storeForwardMs: 300_000, storeForwardCount: 200 }, parts);
    return { held, node: world.start({ ...place, seeds: [`${place.nodeId}:1`], borders, borderChannels: [channel] }) };
  });
}

test("fabrics of three regions tell each other summaries within a second, and what they missed after a link was lost", () => {
  const world = new FabricWorld();
  const members = start(world);
  const [ap, eu] = members as [Member, Member];
  const shown = () => members.map(({ held }) => held.live().length);
  world.run(20_000);
  for (const { held } of members) held.say({ name: "web", version: 1 }, world.time());
  world.run(1000);
  expect(shown()).toEqual([3, 3, 3]);
  world.reaches = (from, to) => (from === ap.node) === (to === ap.node);
  for (const { node } of members) if (node !== ap.node) world.cut(ap.node, node);
  world.run(60_000);
  ap.held.say({ name: "alone", version: 1 }, world.time());
  eu.held.say({ name: "web", version: 2, isWithdrawn: true }, world.time());
  world.run(1000);
  expect(shown()).toEqual([4, 2, 2]);
  world.reaches = () => true;
  world.run(30_000);
  expect(shown()).toEqual([3, 3, 3]);
});
