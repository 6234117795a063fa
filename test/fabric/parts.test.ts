import { expect, test } from "vitest";
import { EntryStamper } from "../../src/catalog/entry/codec.ts";
import { TraitsPool } from "../../src/catalog/record/traits.ts";
import type { FabricInput } from "../../src/fabric/io-types.ts";
import type { FabricNews } from "../../src/fabric/part.ts";
import { addParts, roomsOf } from "../../src/fabric/parts.ts";
import { Hlc } from "../../src/lib/hlc.ts";
import { Rng } from "../../src/lib/rng.ts";
import { FabricWorld } from "../fakes/fabric-world.ts";
import { BOUNDS, FABRIC_OPTIONS } from "../fakes/options.ts";

/** With `tick`, at which the parts only look. */
const KINDS = {
  tick: false,
  asked: true,
  answered: true,
  opened: true,
  received: true,
  closed: true,
  lagged: true,
  facts: true,
  policy: true,
  policyRead: true,
  policyRefused: true,
  leaving: true,
  offer: true,
  maintain: true,
  stop: true,
  called: true,
  replied: true,
  memberChanged: true,
  memberForgotten: true,
  members: true,
  turnedAway: true,
  letIn: true,
  ownIdUsed: true,
  wanted: true,
  up: true,
  down: true,
  inStep: true,
  heard: true,
  borderCounts: true,
  forget: true,
} as const satisfies Record<(FabricInput | FabricNews)["kind"], boolean>;

test("every input of the fabric, and all news among its parts, are handled by a part: what is not would leave as an order", () => {
  const { facts: self, replica } = new FabricWorld("parts").start({ nodeId: "a" });
  const stamper = new EntryStamper({ bounds: BOUNDS, traits: new TraitsPool(16) });
  const how = { self, replica, stamper, bounds: BOUNDS, hlc: new Hlc(), rng: new Rng("parts"), seeds: [], clusterToken: "secret" };
  const rooms = roomsOf(FABRIC_OPTIONS, { ...how, isInsecure: true, asOfMonoMs: undefined });
  addParts(rooms);
  const handled = Object.entries(KINDS).flatMap(([kind, isHandled]) => (isHandled ? [kind] : []));
  expect(rooms.list.kinds.toSorted()).toEqual(handled.toSorted());
});
