/** What the command line tells of summaries that are on their way. */
import { durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { status } from "@grpc/grpc-js";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Scope } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { HealthBand } from "../../gen/waymark/catalog/v1/summary_pb.js";
import { SourceState } from "../../gen/waymark/control/v1/peer_pb.js";
import { waymark } from "../fakes/cli-world.ts";
import { FakeDiscovery } from "../fakes/discovery-server.ts";

const fake = new FakeDiscovery();
beforeAll(() => fake.start());
afterAll(() => fake.stop());

const BORDERS = [
  {
    clusterId: "us1",
    region: "us",
    links: 1,
    regionLinks: 2,
    unsent: 0n,
    exportedEqualAt: timestampFromMs(1_770_000_000_000),
    importedEqualAt: timestampFromMs(1_770_000_004_000),
  },
  { clusterId: "ap1", region: "ap", links: 0, regionLinks: 0, dueFor: durationFromMs(95_000), unsent: 7n },
];
const SOURCES = [
  { clusterId: "eu1", region: "eu", state: SourceState.FRESH, beaconAge: durationFromMs(1500), summaries: 12n },
  {
    clusterId: "us1",
    region: "us",
    state: SourceState.STALE,
    beaconAge: durationFromMs(130_000),
    summaries: 20_000n,
    full: true,
    refused: { older: 1n, limit: 40n },
  },
  { clusterId: "x", region: "", state: SourceState.DROPPED },
];
const EXPORTS = { exporting: true, exporters: 2, detail: "exporting summaries", lag: durationFromMs(95_000) };

test.each([
  { name: "lag-borders", argv: ["discovery", "lag", "--borders", "-o", "wide"] },
  { name: "lag-sources", argv: ["discovery", "lag", "--sources"] },
  { name: "export-lag", argv: ["report", "export-lag"] },
  { name: "export-lag.json", argv: ["report", "export-lag", "-o", "json"] },
])("$argv is as reviewed", async ({ name, argv }) => {
  fake.mesh.set("lag", () => ({ servedBy: "n1", ready: true, borders: BORDERS, sources: SOURCES, exports: EXPORTS }));
  const { exit, stdout, stderr } = await waymark([...argv, "--server", fake.address]);
  expect(exit).toBe(0);
  await expect(stderr + stdout).toMatchFileSnapshot(`../golden/cli/${name}.txt`);
});

test("a border without a link is shown as such, even if no change is pending", async () => {
  const border = { clusterId: "ap1", region: "ap", links: 0, regionLinks: 0 };
  fake.mesh.set("lag", () => ({ servedBy: "n1", ready: true, borders: [border], exports: { ...EXPORTS, lag: durationFromMs(0) } }));
  const { stdout, stderr } = await waymark(["report", "export-lag", "--server", fake.address]);
  expect(stderr).toContain("no changes are pending on the links that are up");
  expect(stdout).toMatch(/^ap1 .* no link /m);
});

test("a cluster in which no live node has the key says that it exports nothing", async () => {
  const none = { detail: "not exporting summaries: this node has no summary.signing_key_file; not exported by any node of the cluster" };
  fake.mesh.set("lag", () => ({ servedBy: "n1", ready: true, exports: none }));
  for (const command of [
    ["report", "export-lag"],
    ["discovery", "lag", "--sources"],
  ]) {
    const { exit, stderr } = await waymark([...command, "--server", fake.address]);
    expect(exit).toBe(0);
    expect(stderr).toContain("not exported by any node of the cluster; no changes are pending\nno live node of this cluster exports");
  }
});

test("a node without summaries is told by which settings it would have some", async () => {
  fake.mesh.set("lag", () => ({ servedBy: "n1", ready: true }));
  const report = await waymark(["report", "export-lag", "--server", fake.address]);
  expect([report.exit, report.stderr]).toEqual([1, expect.stringContaining("n1 stores no summaries: set")]);
  const borders = await waymark(["discovery", "lag", "--borders", "--server", fake.address]);
  expect([borders.exit, borders.stderr]).toEqual([0, expect.stringContaining("n1 stores no summaries")]);
  const both = await waymark(["discovery", "lag", "--borders", "--links", "--server", fake.address]);
  expect([both.exit, both.stderr]).toEqual([2, expect.stringContaining("cannot be combined")]);
});

test("report namespace-health tells what is exported, what is withheld by which rule, and which sources are stale", async () => {
  const register = (namespace: string, name: string, health: string) =>
    waymark(["register", "--namespace", namespace, "--name", name, "--instance", "1", "--health", health, "--server", fake.address]);
  await register("svc.market", "cart", "healthy");
  await register("svc.market", "pay", "critical");
  await register("svc.shop", "web", "healthy");
  const summary = { namespace: "svc.market", serviceId: "cart", kind: 1, scope: Scope.GLOBAL, healthBand: HealthBand.HEALTHY };
  const of = (sourceCluster: string, more: object = {}) => ({ ...summary, sourceCluster, ...more });
  fake.summaries = ({ pageToken }) =>
    pageToken === ""
      ? { items: [of("test-cluster"), of("us1", { stale: true })], nextPageToken: "t" }
      : { items: [of("ap1", { namespace: "svc.far", stale: true }), of("us1", { namespace: "svc.far" })] };
  fake.namespaces.set("svc.market", { summariesExported: 1n, exportAllowed: true, exportReason: "summary_allowed", policyNumber: 7n });
  const denied = { exportReason: "summaries_disabled", policyNumber: 7n, policyRule: "svc.shop" };
  fake.namespaces.set("svc.shop", denied);
  const argv = ["report", "namespace-health", "--server", fake.address];
  await expect((await waymark(argv)).stdout).toMatchFileSnapshot("../golden/cli/report-summaries.table.txt");
  const told = async (): Promise<unknown> => JSON.parse((await waymark([...argv, "-o", "json"])).stdout);
  const health = { healthy: 1, degraded: 0, critical: 1, maintenance: 0, orphaned: 0 };
  const namespaces = [
    { namespace: "svc.far", services: 0, summaries: { exported: 0, withheld: 0, received: 2, staleSources: ["ap1"] } },
    { namespace: "svc.market", services: 2, health, summaries: { exported: 1, withheld: 1, received: 1, staleSources: ["us1"] } },
    { namespace: "svc.shop", summaries: { exported: 0, withheld: 1, ...denied, policyNumber: 7, received: 0, staleSources: [] } },
  ];
  expect(await told()).toMatchObject({ namespaces });
  fake.refusals.set("summaryQuery", { code: status.FAILED_PRECONDITION, message: "no summaries" });
  const without = await told();
  expect(without).toMatchObject({ namespaces: [{ namespace: "svc.market" }, { namespace: "svc.shop" }] });
  expect(without).not.toHaveProperty("namespaces.0.summaries");
});
