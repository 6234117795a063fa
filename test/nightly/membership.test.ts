/** Membership at the size and length of P8. */
import { expect, test } from "vitest";
import { World } from "../fabric/membership-world.ts";

test("P8: no false death among 200 nodes in an hour with 10 % loss", () => {
  const world = new World({ seed: "hour", lossRatio: 0.1 });
  world.startMany(200, (i) => (i === 0 ? [] : ["n0"]));
  expect(world.runFor(30_000, () => world.isConverged())).toBe(true);
  world.isWatched = false;
  const suspicions = world.suspicionCount;
  world.runFor(3_600_000);
  expect(world.falseDeaths).toBe(0);
  expect(world.suspicionCount - suspicions).toBeGreaterThan(1000);
  expect(world.isConverged()).toBe(true);
}, 600_000);
