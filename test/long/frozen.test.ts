/** As test/e2e/frozen.test.ts, frozen for long: by then the others have called the node dead. */
import { expect, test } from "vitest";
import { frozenFor } from "../fakes/frozen-node.ts";

test("a node frozen for 20 ttl ends no lease that is renewed; who moved meanwhile wins; who is silent is gone", async () => {
  expect(await frozenFor(20)).toEqual({ ended: [], removals: [] });
});
