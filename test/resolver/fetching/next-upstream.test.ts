/** A name is asked of the next upstream when the one that is followed cannot answer: who waits learns nothing of a server that has just stopped. */
import { expect, test } from "vitest";
import { KIND } from "../../../src/catalog/record/record.ts";
import { KEYS } from "../../fakes/mesh.ts";
import { ResolverWorld } from "../../fakes/resolver-world.ts";

/** Of a namespace that nobody configured. */
const OTHER = { kind: KIND.SERVICE, namespace: "other", name: "db" };

function worldOf(...names: readonly string[]): ResolverWorld {
  const world = new ResolverWorld(names);
  world.put("a", KEYS[12]!);
  world.run(2000);
  return world;
}

/** How often each was asked for a name. */
const asked = (world: ResolverWorld) => Object.values(world.servers).map(({ fetchCount }) => fetchCount);

test.each(["isUp", "isBehind"] as const)("where the one that is followed cannot answer (%s), the next one is asked", (what) => {
  const world = worldOf("a", "b");
  expect(world.machine.upstreams.current).toBe("a");
  world.server("a")[what] = what === "isBehind";
  expect(world.ask(OTHER)).toBe("told");
  expect(asked(world)).toEqual([1, 1]);
});

test("two are asked, each once, and then whoever waits is told, however many there are", () => {
  const world = worldOf("a", "b", "c");
  for (const server of Object.values(world.servers)) server.isUp = false;
  expect(world.ask(OTHER)).toBe("failed");
  expect(asked(world)).toEqual([1, 1, 0]);
});

test("what a server refuses is not asked of the next one", () => {
  const world = worldOf("a", "b");
  world.server("a").isBusy = true;
  expect(world.ask(OTHER)).toBe("failed");
  expect(asked(world)).toEqual([1, 0]);
});
