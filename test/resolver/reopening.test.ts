/** What is open at a server is opened again when a resolver has other credentials (semantics.md, Resolver 23). */
import { expect, test } from "vitest";
import { KIND } from "../../src/catalog/record/record.ts";
import { KEYS } from "../fakes/mesh.ts";
import { ResolverWorld } from "../fakes/resolver-world.ts";

const DB = { kind: KIND.SERVICE, namespace: "svc", name: "db" };
const [DB1, DB2] = [KEYS[0]!, KEYS[1]!];

function followed(options: ConstructorParameters<typeof ResolverWorld>[1] = {}): ResolverWorld {
  const world = new ResolverWorld(["a", "b"], options);
  world.server("b").latencyMs = 50;
  world.put("a", DB1);
  world.run(3000);
  return world;
}

const opened = ({ watchCount, policyCount, snapshotCount }: ResolverWorld["servers"][string]) => [watchCount, policyCount, snapshotCount];

test("its streams go on from their places, no answer is stale meanwhile, and nothing is fetched again", () => {
  const world = followed();
  expect(opened(world.server("a"))).toEqual([1, 1, 1]);
  world.changeCredentials();
  for (let i = 0; i < 60; i++) {
    world.run(100);
    expect(world.ask(DB)).toBe("followed 1");
    expect(world.machine.followedAnswer(world.now).ageMs).toBeLessThan(1500);
  }
  expect([opened(world.server("a")), opened(world.server("b"))]).toEqual([
    [2, 2, 1],
    [0, 0, 0],
  ]);
  world.put("a", DB2);
  world.run(1000);
  expect(world.ask(DB)).toBe("followed 2");
});

test.each([0.1, 0.5, 0.98])("resolvers that are told in the same second come back within 5 s, each at its own time: %s", (drawn) => {
  const world = followed({ random: () => drawn });
  world.changeCredentials();
  // Once more, as when several files are changed: it comes no later.
  world.run(100);
  world.changeCredentials();
  const isOpenAgain = () => world.server("a").watchCount > 1;
  world.run(5000 * drawn - 200);
  expect(isOpenAgain()).toBe(false);
  world.run(100);
  expect(isOpenAgain()).toBe(true);
  world.run(10_000);
  expect(opened(world.server("a"))).toEqual([2, 2, 1]);
});

test("what was opened since, at another server, is not opened again", () => {
  const world = followed({ random: () => 0.99 });
  world.changeCredentials();
  world.run(1000);
  world.server("a").isUp = false;
  world.run(10_000);
  expect(opened(world.server("b"))).toEqual([1, 1, 0]);
});
