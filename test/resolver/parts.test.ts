import { expect, test } from "vitest";
import type { ResolverInput } from "../../src/resolver/io-types.ts";
import type { ResolverNews } from "../../src/resolver/machine.ts";
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
  const { list } = new ResolverWorld(["a"]).machine;
  expect(list.kinds.toSorted()).toEqual(Object.keys(KINDS).toSorted());
});
