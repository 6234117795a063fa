/** No listener shows anybody what policy hides: random policies and changes against a naive model (semantics.md, Policy; P10, P11). */
import { expect, test } from "vitest";
import { runs } from "../fakes/effort.ts";
import { PolicyWorld } from "../fakes/policy-world.ts";

const NAMESPACES = ["a", "a-x", "a.b", "a.b.c", "a.b.d", "b", "b.a", "b.a.c", "shop", "shop.eu", "shop.eu.web"] as const;
const SIZE = { tenants: 3, namespaces: NAMESPACES, maxRules: 6, viewersAStep: 2, streams: 8, burst: 3 } as const;

test.each(Array.from({ length: runs(24) }, (_, i) => `seed ${i}`))(
  "after every step each door shows each viewer what the model shows it: %s",
  async (seed) => {
    const world = await PolicyWorld.open(SIZE, seed);
    try {
      for (let i = 0; i < 60; i++) {
        try {
          await world.step();
        } catch (error) {
          throw new Error(`step ${i}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
        }
      }
      expect([...world.counts.keys()]).toEqual(expect.arrayContaining(["registered", "unregistered", "expired", "applied", "reconnected"]));
    } finally {
      await world.close();
    }
  },
);
