/** The origins a replica knows of. */
import { expect, test } from "vitest";
import { OriginTable } from "../../../src/catalog/replica/origins.ts";

const HOME = { clusterId: "c1", region: "r1" };

test("an origin is one object, and keeps the first place it is told of", () => {
  const origins = new OriginTable();
  const origin = origins.take("a", 1, undefined);
  expect([origin.id, origin.clusterId, origins.take("a", 1, HOME) === origin, origin.clusterId]).toEqual(["a/1", "", true, "c1"]);
  origins.take("a", 1, { clusterId: "c2", region: "r2" });
  expect([origin.clusterId, origin.region, origins.take("a", 2, HOME) === origin]).toEqual(["c1", "r1", false]);
});

test("an origin renamed is the same under its new name only", () => {
  const origins = new OriginTable();
  const origin = origins.take("a", 1, HOME);
  origins.rename(origin, 3);
  expect([[...origins.known.keys()], origin.id, origin.generation]).toEqual([["a/3"], "a/3", 3]);
});

test("forgotten origins are remembered by name, the last ten thousand, until they are readmitted", () => {
  const origins = new OriginTable();
  for (let n = 0; n < 10_001; n++) origins.forget(origins.take(`n${n}`, 1, HOME));
  expect([origins.known.size, origins.forgotten.size, origins.forgotten.has("n0/1"), origins.forgotten.has("n1/1")]).toEqual([
    0,
    10_000,
    false,
    true,
  ]);
  origins.restoreOrigin("n1/1");
  expect(origins.forgotten.has("n1/1")).toBe(false);
});
