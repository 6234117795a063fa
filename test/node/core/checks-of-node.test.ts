/** The checks of a node, as its rooms and its machine put them together: what a restart finds, what an alias may see, when nobody is probed. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import type { CheckSchema } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { FAILURE } from "../../../src/catalog/entry/checks.ts";
import { HEALTH } from "../../../src/catalog/record/record.ts";
import { failed, PASSED } from "../../../src/discovery/checks/threshold.ts";
import { LoneNode } from "../../fakes/lone-node.ts";
import { rule } from "../../fakes/policies.ts";
import { at, draftAt, stamped, stampedBy } from "../../fakes/registry.ts";

const FAST: MessageInitShape<typeof CheckSchema> = { interval: { seconds: 1n }, failing: 1, probe: { case: "tcp", value: {} } };
const TARGETS = [{ host: "10.0.0.1", port: 80 }];
const ALIAS: typeof FAST = {
  ...FAST,
  probe: { case: "alias", value: { key: { namespace: "other", name: "db", instanceId: "1" } } },
};
const checked = (name: string, check = FAST) => stamped(name, { targets: TARGETS, checks: [check] });

test("a probe is ordered when the node has begun, and what it finds is on the disk and shown", () => {
  const node = new LoneNode();
  node.register(checked("web"));
  node.run(5000);
  expect(node.probes).toEqual([]);
  node.begin();
  node.outcome = failed(FAILURE.REFUSED);
  node.run(5000);
  expect(node.probes[0]).toMatchObject({ probe: { kind: "tcp", host: "10.0.0.1", port: 80, timeoutMs: 1000 } });
  expect(node.healthOf("web")).toBe(HEALTH.CRITICAL);
  const again = new LoneNode(node.disk).begin();
  expect([again.healthOf("web"), again.statesOf("web")]).toEqual([HEALTH.CRITICAL, [failed(FAILURE.REFUSED)]]);
  again.run(5000);
  expect([again.probes.length > 0, again.healthOf("web")]).toEqual([true, HEALTH.HEALTHY]);
});

test("a node that runs no checks any more keeps the entries of its disk, and shows that nothing is known of their checks", () => {
  const node = new LoneNode().begin();
  node.outcome = failed(FAILURE.REFUSED);
  node.register(checked("web"));
  node.run(5000);
  const without = new LoneNode(node.disk, false).begin();
  without.run(5000);
  expect([without.healthOf("web"), without.statesOf("web"), without.probes]).toEqual([HEALTH.HEALTHY, [], []]);
  expect(without.rooms.checks.counts().unwatched).toBe(1);
});

test("an alias is blind where the tenant of its entry may not look, from the moment that the policy says so", () => {
  const node = new LoneNode().begin();
  node.register(checked("web", ALIAS), draftAt({ namespace: "other", name: "db", instanceId: "1" }, {}));
  node.run(5000);
  expect(node.healthOf("web")).toBe(HEALTH.HEALTHY);
  node.policy({ rules: [rule("other", { visibilityTenants: ["blue"] })] });
  node.run(5000);
  expect(node.statesOf("web")).toEqual([failed(FAILURE.ALIAS)]);
});

test("an alias sees what the tenant of its entry may see", () => {
  const node = new LoneNode().begin();
  node.register(draftAt({ namespace: "other", name: "db", instanceId: "1" }, {}));
  node.policy({ rules: [rule("other", { visibilityTenants: ["blue"] })] });
  const of = (tenant: string) => stampedBy(tenant, "web", { targets: TARGETS, checks: [ALIAS] });
  node.register(of("red"));
  node.run(5000);
  expect(node.statesOf("web")).toEqual([failed(FAILURE.ALIAS)]);
  node.register(of("blue"));
  node.run(5000);
  expect(node.statesOf("web")).toEqual([PASSED]);
});

test("a standstill of the process voids the probes under way, and a node that drains orders none", () => {
  const node = new LoneNode().begin();
  node.register(checked("web"));
  node.run(5000);
  node.isAnswering = false;
  node.run(2000);
  const { id = 0 } = node.probes.at(-1) ?? {};
  node.rooms.machine.look(at(node.ms), []);
  node.ms += 60_000;
  expect(node.rooms.machine.look(at(node.ms), [])).toBe(true);
  node.outcome = failed(FAILURE.TIMEOUT);
  node.answer(id);
  expect(node.rooms.checks.totals.failed).toBe(0);
  node.isAnswering = true;
  node.outcome = PASSED;
  node.answer(node.probes.at(-1)?.id ?? 0);
  const before = node.probes.length;
  node.run(5000);
  const { length } = node.probes;
  expect(length).toBeGreaterThan(before);
  node.give({ kind: "drain" });
  node.run(10_000);
  expect(node.probes).toHaveLength(length);
});

test("a doubt is told when it begins and when it ends", () => {
  const node = new LoneNode().begin();
  node.register(...Array.from({ length: 12 }, (_, i) => checked(`w${i}`)));
  node.run(5000);
  node.outcome = failed(FAILURE.TIMEOUT);
  node.run(5000);
  expect([node.doubts, node.healthOf("w0")]).toEqual([[true], HEALTH.HEALTHY]);
  node.run(35_000);
  expect([node.doubts, node.healthOf("w0")]).toEqual([[true, false], HEALTH.CRITICAL]);
});
