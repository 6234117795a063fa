/** A node that stands still ends nobody's lease: what its clients sent in time waits in the sockets. A long one is in test/long. */
import { expect, test } from "vitest";
import { frozenFor } from "../fakes/frozen-node.ts";

test("a node frozen for 2 ttl ends no lease that is renewed; who moved meanwhile wins; who is silent is gone", async () => {
  expect(await frozenFor(2)).toEqual({ ended: [], removals: [] });
});
