/** The numbers of a resolver, filled when somebody asks. */
import { expect, test } from "vitest";
import { KIND } from "../../../src/catalog/record/record.ts";
import { Metrics } from "../../../src/lib/metrics/metrics.ts";
import { observeResolver } from "../../../src/node/resolver/metrics.ts";
import { KEYS } from "../../fakes/mesh.ts";
import { ResolverWorld } from "../../fakes/resolver-world.ts";

test("answers are counted by what came of them, and the age is unknown before a server has told it", () => {
  const world = new ResolverWorld(["a"]);
  const metrics = new Metrics();
  const names = ["hit_rate", "entries", "negative_total", "stale_serves_total", "upstream_changes_total", "age_ms"];
  const look = () => {
    observeResolver(metrics, world.machine, world.now);
    return names.map((name) => {
      for (const family of metrics.collect())
        if (family.name === `discovery_cache_${name}` && "series" in family)
          return [...family.series.values()].map(({ value }) => value)[0];
      return undefined;
    });
  };
  expect(look()).toEqual([0, 0, 0, 0, 0, -1]);
  world.put("a", KEYS[0]!);
  world.run(2000);
  const none = { kind: KIND.SERVICE, namespace: "other", name: "none" };
  expect([world.ask({ ...none, namespace: "svc", name: "db" }), world.ask(none), world.ask(none)]).toEqual([
    "followed 1",
    "told",
    "fetched 0",
  ]);
  const [rate, ...rest] = look();
  expect(rate).toBeCloseTo(2 / 3, 5);
  expect(rest.slice(0, 4)).toEqual([1, 1, 0, 1]);
  expect(rest[4]).toBeGreaterThanOrEqual(0);
});
