/** How long a resolver serves what it fetched while nobody answers: the time counts from when nobody did any more (semantics.md, Resolver 12). */
import { expect, test } from "vitest";
import { KIND } from "../../src/catalog/record/record.ts";
import { KEYS } from "../fakes/mesh.ts";
import { ResolverWorld } from "../fakes/resolver-world.ts";

const SECOND = 1000;
const FOLLOWED = { kind: KIND.SERVICE, namespace: "svc", name: "db" };
/** Of a namespace that nobody configured. */
const OTHER = { kind: KIND.SERVICE, namespace: "other", name: "db" };

test("what was fetched long before an outage is served for as long as what was fetched just before it", () => {
  const world = new ResolverWorld(["a"], { maxStaleMs: 60 * SECOND });
  world.put("a", KEYS[12]!);
  world.run(2 * SECOND);
  expect(world.ask(OTHER)).toBe("told");
  // It is stale now, and nobody asks for it.
  world.run(40 * SECOND);
  world.server("a").isUp = false;
  world.run(50 * SECOND);
  expect(world.ask(OTHER)).toBe("fetched stale 1");
  world.run(11 * SECOND);
  expect(world.ask(OTHER)).toBe("not_ready");
});

test("a server that answers for a moment begins the time anew", () => {
  const world = new ResolverWorld(["a"], { maxStaleMs: 60 * SECOND });
  world.put("a", KEYS[12]!);
  world.run(2 * SECOND);
  world.ask(OTHER);
  for (let i = 0; i < 3; i++) {
    world.server("a").isUp = false;
    world.run(50 * SECOND);
    expect(world.ask(OTHER)).toBe("fetched stale 1");
    world.server("a").isUp = true;
    world.run(12 * SECOND);
    world.ask(OTHER);
  }
});

test("what was told in an outage is told on when that ends, to whoever asks meanwhile and in an outage soon after", () => {
  const world = new ResolverWorld(["a"], { pruneIntervalMs: SECOND });
  const { upstreams } = world.machine;
  const away = (ms: number) => {
    world.server("a").isUp = false;
    world.run(ms);
    expect(upstreams.isCutOff).toBe(true);
    expect(world.ask(OTHER)).toBe("fetched stale 1");
    world.server("a").isUp = true;
    while (upstreams.isCutOff) world.run(100);
  };
  world.put("a", KEYS[12]!);
  world.run(2 * SECOND);
  expect(world.ask(OTHER)).toBe("told");
  away(300 * SECOND);
  // Longer than it takes to prune. Nobody asks.
  world.run(20 * SECOND);
  away(20 * SECOND);
  expect(world.ask(OTHER)).toBe("fetched stale 1");
  world.run(SECOND);
  expect(world.ask(OTHER)).toBe("fetched 1");
});

test("what is followed is served for as long as nobody answers, also after a restart, and its age tells for how long", () => {
  const world = new ResolverWorld(["a"], { maxStaleMs: 60 * SECOND });
  world.put("a", KEYS[0]!);
  world.run(2 * SECOND);
  expect(world.ask(FOLLOWED)).toBe("followed 1");
  const copy = world.copy();
  world.server("a").isUp = false;
  world.run(600 * SECOND);
  expect(world.ask(FOLLOWED)).toBe("followed stale 1");
  world.restart(copy, { downMs: SECOND });
  world.run(600 * SECOND);
  expect(world.ask(FOLLOWED)).toBe("disk stale 1");
  expect(world.machine.followedAnswer(world.now).ageMs).toBeGreaterThan(1200 * SECOND);
});
