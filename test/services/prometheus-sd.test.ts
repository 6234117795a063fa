import { expect, test } from "vitest";
import { newEntry } from "../../gen/waymark/catalog/v1/entry_codec.ts";
import type { EntryView } from "../../src/catalog/entry/view.ts";
import { Reads } from "../../src/discovery/reads.ts";
import { NO_POLICY } from "../../src/policy/set/verdict.ts";
import { prometheusRoute, renderTargetGroups } from "../../src/services/prometheus-sd.ts";
import { at, caller, Registry } from "../fakes/registry.ts";

const WEB: EntryView = {
  ...newEntry(),
  key: { kind: 1, namespace: "svc.market", name: "web", instanceId: "web-1", clusterId: "eu-1" },
  scope: 3,
  targets: [
    { name: "http", host: "10.0.0.1", port: 8080, priority: 0, weight: 1, protocol: "http" },
    { name: "admin", host: "fd00::1", port: 9090, priority: 0, weight: 1, protocol: "http" },
    { name: "", host: "web.example", port: 80, priority: 0, weight: 1, protocol: "" },
  ],
  tags: ["blue", "canary"],
  metadata: { team: "market", "app.kubernetes.io/name": 'we"b' },
  ttlMs: undefined,
  region: "eu",
  zone: "eu-a",
  nodeId: "n1",
  health: 2,
  load: undefined,
};

function rendered(entries: Iterable<EntryView>): unknown {
  return JSON.parse([...renderTargetGroups(entries)].join(""));
}

test("an entry is one group with a target a port and its facts as labels", () => {
  expect(rendered([WEB])).toEqual([
    {
      targets: ["10.0.0.1:8080", "[fd00::1]:9090", "web.example:80"],
      labels: {
        __meta_waymark_namespace: "svc.market",
        __meta_waymark_name: "web",
        __meta_waymark_instance: "web-1",
        __meta_waymark_cluster: "eu-1",
        __meta_waymark_region: "eu",
        __meta_waymark_zone: "eu-a",
        __meta_waymark_node: "n1",
        __meta_waymark_scope: "region",
        __meta_waymark_health: "degraded",
        __meta_waymark_tags: ",blue,canary,",
        __meta_waymark_metadata_team: "market",
        __meta_waymark_metadata_app_kubernetes_io_name: 'we"b',
      },
    },
  ]);
});

test("no entries are an empty list, and an entry without tags has an empty tag label", () => {
  expect(rendered([])).toEqual([]);
  expect(rendered([{ ...WEB, tags: [] }])).toMatchObject([{ labels: { __meta_waymark_tags: "" } }]);
});

test("a large catalog comes in pieces, and is only read as far as asked", () => {
  let readCount = 0;
  function* endless(): Generator<EntryView> {
    for (;;) {
      readCount++;
      yield WEB;
    }
  }
  const first = renderTargetGroups(endless()).next();
  expect(first.done).toBe(false);
  expect(readCount).toBeLessThan(300);
});

test("many entries joined are one JSON list", () => {
  expect(rendered(Array.from({ length: 2_000 }, () => WEB))).toHaveLength(2_000);
});

test.each([
  { parameters: { namespace: "Svc" }, field: "namespace" },
  { parameters: { namespace: "a..b" }, field: "namespace" },
  { parameters: { namespace: "" }, field: "namespace" },
  { parameters: { tag: "a b" }, field: "tag" },
  { parameters: { tag: "" }, field: "tag" },
])("a filter that names nothing possible is refused: $parameters", ({ parameters, field }) => {
  const facts = { nodeId: "a", clusterId: "c1", region: "r1", boot: "b" };
  const reads = new Reads(new Registry().replica, facts, { policies: { policy: NO_POLICY }, onDenied: () => {} });
  expect(() =>
    prometheusRoute({ reads, checkCaughtUp: () => undefined }).answer(parameters, { caller: caller("ann"), time: at(0), requestId: "" }),
  ).toThrow(`invalid_argument: ${field}`);
});
