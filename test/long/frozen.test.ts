/**
 * A node that stands still ends nobody's lease: what its clients sent in time waits in the sockets. After 20 ttl the others have called the
 * node dead. The simulator has the rule in every build: invariant "lease".
 */
import { test } from "vitest";
import { frozenFor } from "../fakes/frozen-node.ts";

test.concurrent.for([2, 20])(
  "a node frozen for %i ttl ends no lease that is renewed; who moved meanwhile wins; who is silent is gone",
  async (ttlCount, { expect }) => {
    expect(await frozenFor(ttlCount, expect)).toEqual({ ended: [], removals: [] });
  },
);
