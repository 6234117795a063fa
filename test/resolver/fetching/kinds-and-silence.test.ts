/** What was fetched of a name, kind by kind, and while the server that is followed stands still. */
import { expect, test } from "vitest";
import type { InstanceName } from "../../../src/catalog/query/instances.ts";
import { KIND } from "../../../src/catalog/record/record.ts";
import { KEYS } from "../../fakes/mesh.ts";
import { ResolverWorld } from "../../fakes/resolver-world.ts";

const SECOND = 1000;
/** Of a namespace that is not followed. */
const OTHER: InstanceName = { kind: KIND.SERVICE, namespace: "other", name: "db" };

function fetched(): ResolverWorld {
  const world = new ResolverWorld(["a"], { namespaces: ["svc"] });
  for (const key of [KEYS[0]!, KEYS[12]!]) world.put("a", key);
  world.run(2 * SECOND);
  expect([world.ask(OTHER), world.run(SECOND), world.ask(OTHER)]).toEqual(["told", undefined, "fetched 1"]);
  return world;
}

test("one fetch tells of all kinds, and that a kind is not there is said no longer than any negative answer", () => {
  const world = fetched();
  const topic = { ...OTHER, kind: KIND.TOPIC };
  expect([world.ask(topic), world.server("a").fetchCount]).toEqual(["fetched 0", 1]);
  world.run(17 * SECOND);
  expect([world.ask(topic), world.ask(OTHER)]).toEqual(["told", "fetched 1"]);
});

test("beyond its time a name is waited for, and after three seconds of silence of the server it is told as stale", () => {
  const world = fetched();
  world.run(60 * SECOND);
  world.server("a").isSilent = true;
  world.run(2 * SECOND);
  expect(world.ask(OTHER)).toBe("told");
  const silent = fetched();
  silent.run(40 * SECOND);
  silent.server("a").isSilent = true;
  silent.run(8 * SECOND);
  expect(silent.ask(OTHER)).toBe("fetched stale 1");
});
