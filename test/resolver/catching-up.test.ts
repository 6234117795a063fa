/** A server that has not caught up since its start answers probes, and refuses what a resolver fetches. */
import { expect, test } from "vitest";
import { KIND } from "../../src/catalog/record/record.ts";
import { KEYS } from "../fakes/mesh.ts";
import { ResolverWorld } from "../fakes/resolver-world.ts";

const SECOND = 1000;
const name = (of: string) => ({ kind: KIND.SERVICE, namespace: "other", name: of });

test("a resolver that follows nothing asks another server than the quickest, while that has not caught up", () => {
  const world = new ResolverWorld(["a", "b"], { namespaces: [] });
  world.put("b", KEYS[12]!);
  world.server("b").latencyMs = 50;
  world.server("a").isBehind = true;
  world.run(2 * SECOND);
  expect([world.machine.upstreams.current, world.ask(name("db"))]).toEqual(["a", "told"]);
  world.run(SECOND);
  expect([world.machine.upstreams.current, world.ask({ ...name("db"), name: "other" })]).toEqual(["b", "told"]);
  expect([world.server("a").fetchCount, world.server("b").fetchCount]).toEqual([1, 2]);
});

test("the only server that there is stays, and is asked again when it has caught up", () => {
  const world = new ResolverWorld(["a"], { namespaces: [] });
  world.put("a", KEYS[12]!);
  world.server("a").isBehind = true;
  world.run(2 * SECOND);
  expect(world.ask(name("db"))).toBe("failed");
  world.server("a").isBehind = false;
  world.run(SECOND);
  expect([world.machine.upstreams.current, world.ask(name("db"))]).toEqual(["a", "told"]);
});

test("a server that refuses for another reason is not taken for one that has not caught up", () => {
  const world = new ResolverWorld(["a", "b"], { namespaces: [] });
  world.put("b", KEYS[12]!);
  world.server("b").latencyMs = 50;
  world.server("a").isBusy = true;
  world.run(2 * SECOND);
  expect(world.ask(name("db"))).toBe("failed");
  world.run(SECOND);
  expect([world.machine.upstreams.current, world.ask(name("db"))]).toEqual(["a", "failed"]);
});
