import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { status } from "@grpc/grpc-js";
import { afterEach, expect, test } from "vitest";
import { DiscoveryDelta_Action as Action } from "../../gen/waymark/catalog/v1/delta_pb.js";
import { Scope } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { HealthBand } from "../../gen/waymark/catalog/v1/summary_pb.js";
import { Snapshot } from "../../gen/waymark/catalog/v1/watch_pb.js";
import { waymark } from "../fakes/cli-world.ts";
import { FakeDiscovery } from "../fakes/discovery-server.ts";

const started: FakeDiscovery[] = [];

async function startFake(): Promise<FakeDiscovery> {
  const fake = new FakeDiscovery();
  await fake.start();
  started.push(fake);
  fake.summaries = ({ pageToken }) =>
    pageToken === ""
      ? { items: [CART, CART_HERE], nextPageToken: "t", ingress: { "us-1": { urls: ["grpc://us:1"] } } }
      : { items: [CART_ZONE, PAY], ingress: { "us-2": { urls: ["grpc://us:2", "grpc://us:3"] } } };
  return fake;
}

afterEach(() => {
  for (const fake of started.splice(0)) fake.stop();
});

const CART = {
  namespace: "svc.shop",
  serviceId: "cart",
  kind: 1,
  sourceCluster: "us-1",
  regions: ["us"],
  scope: Scope.GLOBAL,
  endpointCount: 12,
  healthBand: HealthBand.HEALTHY,
  latencyBandMs: { min: 2, max: 16 },
  version: 1_764_259_200n,
};
const CART_HERE = { ...CART, sourceCluster: "us-2", endpointCount: 3, healthBand: HealthBand.DEGRADED, stale: true };
const CART_ZONE = { ...CART_HERE, scope: Scope.ZONE, endpointCount: 9, healthBand: HealthBand.HEALTHY };
const PAY = { ...CART, serviceId: "pay", regions: ["us", "ap"], healthBand: HealthBand.CRITICAL };

test.each([
  { name: "table", argv: [] },
  { name: "wide", argv: ["-o", "wide"] },
  { name: "ingress.table", argv: ["--ingress"] },
  { name: "by-region.table", argv: ["--by-region"] },
  { name: "by-region.ingress.table", argv: ["--by-region", "--ingress"] },
  { name: "by-region.json", argv: ["--by-region", "-o", "json"] },
  { name: "by-region.yaml", argv: ["--by-region", "--ingress", "-o", "yaml"] },
  { name: "json", argv: ["-o", "json"] },
])("summaries as $name are as reviewed", async ({ name, argv }) => {
  const fake = await startFake();
  const { exit, stdout } = await waymark(["discovery", "summary", ...argv, "--server", fake.address]);
  expect(exit).toBe(0);
  await expect(stdout).toMatchFileSnapshot(`../golden/cli/summary.${name}.txt`);
});

test("programs get the sums of regions too, and the ingress of clusters only when they ask for it", async () => {
  const fake = await startFake();
  const ask = async (...argv: readonly string[]) => {
    const { stdout } = await waymark(["discovery", "summary", "--by-region", "-o", "json", ...argv, "--server", fake.address]);
    return JSON.parse(stdout) as unknown;
  };
  const sums = [
    { regions: ["us"], serviceId: "cart", endpointCount: 21, staleCount: 1 },
    { regions: ["us", "ap"], serviceId: "pay", endpointCount: 12, staleCount: 0 },
  ];
  expect(await ask()).toMatchObject({ sums });
  expect(await ask()).not.toHaveProperty("ingress");
  expect(await ask("--ingress")).toMatchObject({ sums, ingress: { "us-1": { urls: ["grpc://us:1"] } } });
});

test("a server without summaries is told by which settings it would have some", async () => {
  const fake = await startFake();
  fake.refusals.set("summaryQuery", { code: status.UNIMPLEMENTED, message: "unimplemented: this server does not offer SummaryQuery" });
  const { exit, stderr } = await waymark(["discovery", "summary", "--server", fake.address]);
  expect(exit).toBe(1);
  expect(stderr).toContain("SummaryQuery");
  expect(stderr).toContain("summary.signing_key_file");
});

test.each([
  {
    argv: [],
    stdout: "RANK      CLUSTER  REGION  HEALTH    STALE  URLS\nredirect  us-1     us      degraded  no     grpc://us:1, grpc://us:2\n",
  },
  {
    argv: ["--quiet", "-o", "wide"],
    stdout:
      "RANK      CLUSTER  REGION  HEALTH    STALE  VALID FOR  URLS\nredirect  us-1     us      degraded  no     20s        grpc://us:1, grpc://us:2\n",
  },
])("a name that only another cluster has is answered with that cluster: $argv", async ({ argv, stdout }) => {
  const fake = await startFake();
  const urls = ["grpc://us:1", "grpc://us:2"];
  fake.redirect = () => ({ clusterId: "us-1", region: "us", band: HealthBand.DEGRADED, ttl: durationFromMs(20_000), urls });
  const asked = ["discovery", "resolve", "cart", "--namespace", "svc.shop", "--server", fake.address];
  expect(await waymark([...asked, ...argv])).toEqual({ exit: 0, stdout, stderr: "" });
  const { stdout: json } = await waymark([...asked, "-o", "json"]);
  expect(JSON.parse(json)).toMatchObject({ redirect: { clusterId: "us-1", urls } });
});

test("a peer of another region is shown as ingress, and not as a member", async () => {
  const fake = await startFake();
  fake.farPeers = [{ clusterId: "us-1", region: "us", scope: Scope.GLOBAL, urls: ["grpc://us:1"] }];
  const { stdout } = await waymark(["discovery", "peers", "--server", fake.address]);
  expect(stdout.split("\n")[2]).toMatch(/^- +us-1 +us +ingress +grpc:..us:1$/);
});

test("the filters of the command line are those of the call", async () => {
  const fake = await startFake();
  const asked: unknown[] = [];
  fake.summaries = (request) => {
    asked.push(request);
    return {};
  };
  const filters = ["--prefix", "svc", "--kind", "queue", "--scope", "region", "--region", "us", "--region", "eu"];
  await waymark(["discovery", "summary", "cart", ...filters, "--limit", "5", "--tenant", "blue", "--server", fake.address]);
  const wanted = { namespacePrefix: "svc", serviceId: "cart", kinds: [4], scope: Scope.REGION, regions: ["us", "eu"], limit: 5 };
  expect(asked).toMatchObject([{ ...wanted, includeIngress: false, viewer: { tenantId: "blue" } }]);
});

test("a watch tells what is there and each change, with a cursor to go on from", async () => {
  const fake = await startFake();
  const put = (value: typeof CART & { stale?: boolean }) => ({
    deltaId: "n/1/1",
    action: Action.CREATE,
    payload: { case: "summary" as const, value },
  });
  const removed = { kind: 1, namespace: "svc.shop", name: "cart", instanceId: "global", clusterId: "us-2" };
  fake.summaryScript = [
    { snapshot: Snapshot.BEGIN, deltas: [put(CART), put(CART_HERE)] },
    { snapshot: Snapshot.END, portableCursor: "p1", revision: 2n },
    { snapshot: Snapshot.BEGIN, replaces: ["svc.shop"], deltas: [put({ ...CART, stale: true }), put(CART_HERE)] },
    { snapshot: Snapshot.END, portableCursor: "p2", revision: 2n },
    { deltas: [{ deltaId: "n/1/2", action: Action.REMOVE, payload: { case: "removed", value: removed } }] },
  ];
  const argv = ["discovery", "summary", "--watch", "--region", "us", "--cursor", "p0", "--count", "4", "--server", fake.address];
  for (const format of ["table", "json"]) {
    const { exit, stdout } = await waymark([...argv, "-o", format]);
    expect(exit).toBe(0);
    await expect(stdout).toMatchFileSnapshot(`../golden/cli/summary-watch.${format}.txt`);
  }
  expect(fake.summaryRequests[0]).toMatchObject({ regions: ["us"], cursor: "p0" });
});

test.each([
  { argv: ["cart", "--watch"], says: "--watch cannot be combined with a service" },
  { argv: ["--watch", "--by-region"], says: "--watch cannot be combined with a service" },
  { argv: ["--kind", "node"], says: "service, function, topic, queue, cache" },
  { argv: ["--watch", "--limit", "1"], says: "--ingress, --by-region, --limit or --page-token" },
  { argv: ["--watch", "--page-token", "p1"], says: "--ingress, --by-region, --limit or --page-token" },
  { argv: ["--cursor", "p1"], says: "--cursor, --count and --until-synced require --watch" },
  { argv: ["--count", "1"], says: "--cursor, --count and --until-synced require --watch" },
  { argv: ["--until-synced"], says: "--cursor, --count and --until-synced require --watch" },
  { argv: ["--namespace", "a", "--prefix", "a"], says: "cannot be combined" },
])("$argv is refused before a server is asked", async ({ argv, says }) => {
  const { exit, stderr } = await waymark(["discovery", "summary", ...argv, "--server", "127.0.0.1:1"]);
  expect(exit).toBe(2);
  expect(stderr).toContain(says);
});
