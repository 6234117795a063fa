/** The numbers of a resolver, filled when somebody asks. */
import { expect, test } from "vitest";
import { BODY, KIND, keyText } from "../../../src/catalog/record/record.ts";
import { Metrics } from "../../../src/lib/metrics/metrics.ts";
import { observeResolver } from "../../../src/node/resolver/reports.ts";
import { KEYS } from "../../fakes/mesh.ts";
import { ResolverWorld } from "../../fakes/resolver-world.ts";

/** The value of `discovery_cache_<name>`. */
function valueOf(metrics: Metrics, name: string): number | undefined {
  for (const family of metrics.collect())
    if (family.name === `discovery_cache_${name}` && "series" in family) return [...family.series.values()].map(({ value }) => value)[0];
  return undefined;
}

test("answers are counted by what came of them, and the age is unknown before a server has told it", () => {
  const world = new ResolverWorld(["a"]);
  const metrics = new Metrics();
  const names = ["hit_rate", "entries", "negative_total", "stale_serves_total", "upstream_changes_total", "age_ms"];
  const look = () => {
    observeResolver(metrics, world.machine, world.now);
    return names.map((name) => valueOf(metrics, name));
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

test("entries that are gone and find no room beside those that are there are counted", () => {
  const world = new ResolverWorld(["a"], { maxEntries: 4 });
  const [later = "", ...keys] = ["5", "1", "2", "3", "4"].map((instanceId) =>
    keyText({ namespace: "svc", name: "db", kind: KIND.SERVICE, instanceId, clusterId: "c1" }),
  );
  for (const key of keys) world.put("a", key);
  world.run(2000);
  for (const key of keys.slice(0, 3)) world.end("a", key, BODY.EXPIRED);
  world.put("a", later);
  world.run(1000);
  const metrics = new Metrics();
  observeResolver(metrics, world.machine, world.now);
  expect(valueOf(metrics, "unheld_total")).toBe(1);
});
