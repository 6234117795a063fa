import { expect, test } from "vitest";
import { EntryStamper } from "../../src/catalog/entry/codec.ts";
import { TraitsPool } from "../../src/catalog/record/traits.ts";
import type { ResolverInput } from "../../src/resolver/io-types.ts";
import { type ResolverNews, ResolverParts } from "../../src/resolver/parts.ts";
import { BOUNDS } from "../fakes/options.ts";
import { ResolverWorld } from "../fakes/resolver-world.ts";

const KINDS = {
  tick: true,
  probed: true,
  "probe failed": true,
  "watch said": true,
  "watch ended": true,
  "policy said": true,
  "policy ended": true,
  "summaries said": true,
  "summaries ended": true,
  fetched: true,
  "fetch failed": true,
  garbled: true,
  "credentials changed": true,
  act: true,
  "upstream changed": true,
  reopen: true,
} as const satisfies Record<(ResolverInput | ResolverNews)["kind"], true>;

test("every input of a resolver, and all news among its parts, are handled by a part: what is not would leave as an order", () => {
  const { replica, rooms, resolver, now } = new ResolverWorld(["a"]);
  const { policies } = rooms;
  const stamper = new EntryStamper({ bounds: BOUNDS, traits: new TraitsPool(16) });
  const { list } = new ResolverParts(resolver, { replica, policies, stamper }, now);
  expect(list.kinds.toSorted()).toEqual(Object.keys(KINDS).toSorted());
});
