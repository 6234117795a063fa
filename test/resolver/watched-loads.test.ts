/** Reports about the load of entries that a resolver follows: the last one that its server told, and none of an entry that has none. */
import { create, toBinary } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { CatalogWatchResponseSchema } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { BODY } from "../../src/catalog/record/record.ts";
import { SNAPSHOT } from "../../src/catalog/watch/reader.ts";
import { KEYS } from "../fakes/mesh.ts";
import { ResolverWorld } from "../fakes/resolver-world.ts";

const [KEY, OTHER] = [KEYS[0]!, KEYS[1]!];
const SECOND = 1000;

/** A resolver that was told of an entry with a report about its load. */
function loaded() {
  const world = new ResolverWorld(["a"]);
  const { loads } = world.server("a");
  loads.set(KEY, { utilization: 0.5, activeClients: 7, latencyMs: 3, errorRate: 0, observedWallMs: 1000 });
  world.put("a", KEY);
  world.put("a", OTHER);
  world.run(2 * SECOND);
  expect([world.machine.loadOf(KEY)?.activeClients, world.machine.loadOf(OTHER)]).toEqual([7, undefined]);
  return { world, loads };
}

test("an entry that is told again without a report has none any more", () => {
  const { world, loads } = loaded();
  loads.delete(KEY);
  world.put("a", KEY, 1);
  world.run(SECOND);
  expect(world.machine.loadOf(KEY)).toBeUndefined();
});

test.each([BODY.EXPIRED, BODY.UNREGISTERED] as const)("of an entry that ended nothing is kept: %s", (body) => {
  const { world } = loaded();
  world.end("a", KEY, body);
  world.run(SECOND);
  expect(world.machine.loadOf(KEY)).toBeUndefined();
});

test("of an entry that a snapshot leaves out nothing is kept", () => {
  const { world } = loaded();
  const parts = [SNAPSHOT.BEGIN, SNAPSHOT.END].map((snapshot) =>
    toBinary(CatalogWatchResponseSchema, create(CatalogWatchResponseSchema, { snapshot })),
  );
  world.server("a").garble = (bytes) => Buffer.concat([bytes, ...parts.splice(0, 1)]);
  world.run(3 * SECOND);
  expect([world.machine.lookups.reduce((count, { size }) => count + size, 0), world.machine.loadOf(KEY)]).toEqual([0, undefined]);
});
