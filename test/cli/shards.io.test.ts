import type { MessageInitShape } from "@bufbuild/protobuf";
import { status } from "@grpc/grpc-js";
import { afterEach, expect, test } from "vitest";
import { StoreKind } from "../../gen/waymark/control/v1/leadership_pb.js";
import {
  ShardApproval,
  ShardEventKind,
  type ShardOwnerSchema,
  type ShardSchema,
  type ShardSetSchema,
  ShardStatus,
  ShardStrategy,
} from "../../gen/waymark/control/v1/shard_pb.js";
import { waymark } from "../fakes/cli-world.ts";
import { FakeDiscovery } from "../fakes/discovery-server.ts";

const started: FakeDiscovery[] = [];

async function startFake() {
  const fake = new FakeDiscovery();
  await fake.start();
  started.push(fake);
  const run = (argv: readonly string[], options: Parameters<typeof waymark>[1] = {}) =>
    waymark(["mesh", "shards", ...argv, "--server", fake.address], options);
  return { fake, run };
}

afterEach(() => {
  for (const fake of started.splice(0)) fake.stop();
});

const AT = { seconds: 1_770_000_000n, nanos: 0 };
const FENCE = { failoverVersion: 0n, storeEpoch: 1_760_000_000n, number: 41n };
const SHARD: MessageInitShape<typeof ShardSchema> = {
  namespace: "orders",
  id: 11,
  status: ShardStatus.ACTIVE,
  owner: "a",
  nodeId: "n1",
  fence: FENCE,
  epoch: 44n,
  weight: 1,
  movedAt: AT,
  reason: "the shard had no owner",
};
const SHARDS = [
  SHARD,
  { ...SHARD, id: 12, status: ShardStatus.DRAINING, nextOwner: "b", hint: "eu/eu-1a", ticket: "OPS-7", reason: "a is leaving" },
  { namespace: "orders", id: 13, status: ShardStatus.DISABLED, weight: 2.5, reason: "repair" },
];
const OWNERS: MessageInitShape<typeof ShardOwnerSchema>[] = [
  { namespace: "orders", instance: "a", target: "10.0.0.7:80" },
  { namespace: "orders", instance: "b", target: "10.0.0.8:80" },
];
const SET: MessageInitShape<typeof ShardSetSchema> = {
  namespace: "orders",
  settings: { count: 1000, service: "worker", strategy: ShardStrategy.RENDEZVOUS },
  epoch: 44n,
  checksum: "0123456789abcdef",
  ownerCount: 2,
  unownedCount: 1,
};
const STORE = { kind: StoreKind.ETCD, epoch: 1_760_000_000n, age: { seconds: 12n, nanos: 0 } };
/** As text, in tests of output that is reviewed. */
const shown = ({ stdout, stderr }: { readonly stdout: string; readonly stderr: string }) => stdout + stderr;

test("a list sends its filter, reads every page, and prints the shards and their sets as reviewed", async () => {
  const { fake, run } = await startFake();
  fake.shards.set("list", ({ pageToken }: { readonly pageToken: string }) =>
    pageToken === ""
      ? { shards: SHARDS.slice(0, 2), owners: OWNERS, sets: [SET], store: STORE, nextPageToken: "2" }
      : { shards: SHARDS.slice(2), sets: [SET] },
  );
  const argv = ["list", "orders", "--owner", "a", "--status", "active", "--status", "draining", "--text", "x"];
  await expect(shown(await run(argv))).toMatchFileSnapshot("../golden/cli/shards-list.txt");
  await expect(shown(await run(["list", "-o", "wide"]))).toMatchFileSnapshot("../golden/cli/shards-list-wide.txt");
  const filter = { namespace: "orders", owner: "a", statuses: [ShardStatus.ACTIVE, ShardStatus.DRAINING], text: "x" };
  expect(fake.callsOf("list")[0]?.request).toMatchObject(filter);
  const { shards } = JSON.parse((await run(["orders", "-o", "json"])).stdout) as { readonly shards: readonly unknown[] };
  expect(shards).toHaveLength(3);
  expect(shards[1]).toMatchObject({ id: 12, status: "SHARD_STATUS_DRAINING", nextOwner: "b", fence: { number: "41" } });
});

test("get and owner print one shard with the address of its owner", async () => {
  const { fake, run } = await startFake();
  fake.shards.set("get", () => ({ shard: SHARDS[0], owners: OWNERS, set: SET }));
  const line = /^SHARD .*\norders\/11 +active +a +- +10\.0\.0\.7:80 +0\.1760000000\.41 +44 .*the shard had no owner\n$/;
  expect((await run(["get", "orders/11"])).stdout).toMatch(line);
  expect((await run(["owner", "orders", "customer-7"])).stdout).toMatch(line);
  expect(fake.callsOf("get").map(({ request }) => request)).toMatchObject([
    { namespace: "orders", shard: { case: "id", value: 11 } },
    { namespace: "orders", shard: { case: "key", value: "customer-7" } },
  ]);
  expect(JSON.parse((await run(["get", "orders/11", "-o", "json"])).stdout)).toMatchObject({ owners: [{ instance: "a" }, {}] });
  const invalid = await run(["get", "orders"]);
  expect([invalid.exit, invalid.stderr]).toEqual([2, expect.stringContaining("expected namespace/id, such as orders/12")]);
  fake.refusals.set("get", { code: status.NOT_FOUND, message: "not_found: namespace orders has no shards" });
  expect((await run(["get", "orders/11"])).exit).toBe(5);
});

test("a difference reads all pages up to the epoch of the first, and prints both states", async () => {
  const { fake, run } = await startFake();
  const before = { status: ShardStatus.ACTIVE, owner: "a", fence: FENCE };
  const shards = [
    { id: 11, before, after: { status: ShardStatus.DRAINING, owner: "a", nextOwner: "b", fence: FENCE } },
    { id: 12, before: { status: ShardStatus.ACTIVE }, after: { ...before, owner: "b" } },
  ];
  fake.shards.set("diff", ({ pageToken }: { readonly pageToken: string }) =>
    pageToken === "" ? { shards: shards.slice(0, 1), toEpoch: 44n, nextPageToken: "2" } : { shards: shards.slice(1), toEpoch: 44n },
  );
  const { stdout } = await run(["diff", "orders", "--from", "41"]);
  expect(stdout).toBe(
    [
      "SHARD  BEFORE                      AFTER",
      "11     active a (0.1760000000.41)  draining a → b (0.1760000000.41)",
      "12     active - (-)                active b (0.1760000000.41)",
      "",
    ].join("\n"),
  );
  expect(fake.callsOf("diff").map(({ request }) => request)).toMatchObject([
    { namespace: "orders", fromEpoch: 41n, toEpoch: 0n },
    { fromEpoch: 41n, toEpoch: 44n, pageToken: "2" },
  ]);
  fake.shards.set("diff", () => ({ toEpoch: 44n }));
  expect((await run(["diff", "orders", "--from", "41", "--to", "44"])).stderr).toContain("no shard differs between the epochs 41 and 44");
  expect((await run(["diff", "orders"])).exit).toBe(2);
});

test("the history prints one page, newest first, and how to continue", async () => {
  const { fake, run } = await startFake();
  const change = { epoch: 44n, changedAt: AT, actor: "ann", reason: "repair", ticket: "OPS-7", shards: [{ id: 11 }, { id: 12 }] };
  fake.shards.set("history", () => ({ changes: [change, { ...change, epoch: 43n, shards: [] }], nextPageToken: "t" }));
  const { stdout, stderr } = await run(["history", "orders", "--limit", "2"]);
  expect(stdout).toMatch(/^EPOCH .*\n44 .* ann +11, 12 +OPS-7 +repair\n43 .* ann +- +OPS-7 +repair\n$/);
  expect(stderr).toContain("--page-token t");
});

test("a watch prints the shards of each message, and continues after its last epoch when the stream breaks off", async () => {
  const { fake, run } = await startFake();
  fake.shardScripts = [
    [
      { kind: ShardEventKind.SNAPSHOT, shards: SHARDS.slice(0, 1) },
      { kind: ShardEventKind.SNAPSHOT, shards: SHARDS.slice(1), owners: OWNERS, epoch: 44n },
      { kind: ShardEventKind.HEARTBEAT, epoch: 44n },
    ],
    [{ kind: ShardEventKind.CHANGE, shards: [{ ...SHARD, owner: "b", epoch: 45n }], owners: OWNERS, epoch: 45n }],
  ];
  const stop = new AbortController();
  const { exit, stdout, stderr } = await run(["watch", "orders"], {
    interrupt: stop.signal,
    onStdout: (text) => text.includes("10.0.0.8:80") && stop.abort(),
    later: (act) => {
      setImmediate(act);
      return () => {};
    },
  });
  expect([exit, stderr]).toEqual([0, expect.stringContaining("reconnecting")]);
  await expect(stdout).toMatchFileSnapshot("../golden/cli/shards-watch.txt");
  expect(fake.shardRequests).toMatchObject([
    { namespace: "orders", afterEpoch: 0n },
    { namespace: "orders", afterEpoch: 44n },
  ]);
});

const FILE = `namespace: orders
settings:
  count: 1000
  service: worker
  strategy: rendezvous
  cooldown: 30s
reason: in the file
ticket: OPS-1
`;

test("apply sends the file, whose reason and epoch the flags replace, and prints the set", async () => {
  const { fake, run } = await startFake();
  fake.shards.set("apply", () => ({ set: SET }));
  const { exit, stdout } = await run(["apply", "-f", "orders.yaml", "--reason", "first", "--expect", "43"], {
    files: { "orders.yaml": FILE },
  });
  expect([exit, stdout]).toEqual([0, expect.stringMatching(/^NAMESPACE .*\norders +44 +1000 +worker +rendezvous +2 +1\n$/)]);
  const settings = { count: 1000, service: "worker", strategy: ShardStrategy.RENDEZVOUS, cooldown: { seconds: 30n } };
  const request = { namespace: "orders", settings, expectedEpoch: 43n, reason: "first", ticket: "OPS-1" };
  expect(fake.callsOf("apply")[0]?.request).toMatchObject(request);
});

test("apply reads the thresholds of overload", async () => {
  const { fake, run } = await startFake();
  const overload = { depth: 500, latency: "2s", error_ratio: 0.1, duration: "30s" };
  const file = JSON.stringify({ namespace: "orders", settings: { count: 4, service: "worker", approval: "other", overload } });
  await run(["apply", "-f", "orders.json"], { files: { "orders.json": file } });
  const read = { depth: 500n, latency: { seconds: 2n }, errorRatio: 0.1, duration: { seconds: 30n } };
  expect(fake.callsOf("apply")[0]?.request).toMatchObject({ settings: { approval: ShardApproval.OTHER, overload: read } });
});

test.each([
  {
    file: FILE.replace("rendezvous", "round-robin"),
    want: 'orders.yaml:5: strategy: "round-robin" is not one of rendezvous, ring, locality',
  },
  { file: FILE.replace("count", "shards"), want: "orders.yaml:3: shards: unknown field" },
  { file: `${FILE}---\n${FILE}`, want: "must contain one document, got 2" },
  { file: "", want: "must contain one document, got 0" },
  { file: "- a", want: 'orders.yaml:1: ["a"] is not a ShardServiceApplyRequest' },
])("apply refuses a file with its line: $want", async ({ file, want }) => {
  const { fake, run } = await startFake();
  const { exit, stderr } = await run(["apply", "-f", "orders.yaml"], { files: { "orders.yaml": file } });
  expect([exit, stderr]).toEqual([1, expect.stringContaining(want)]);
  expect(fake.callsOf("apply")).toEqual([]);
});

test.each([
  { argv: ["--status", "paused"], want: { case: "status", value: ShardStatus.PAUSED } },
  { argv: ["--weight", "0.5"], want: { case: "weight", value: 0.5 } },
  { argv: ["--hint", ""], want: { case: "hint", value: "" } },
])("set sends the change $argv", async ({ argv, want }) => {
  const { fake, run } = await startFake();
  fake.shards.set("setShard", () => ({ shard: SHARD, epoch: 45n }));
  const { exit, stdout } = await run(["set", "orders/11", ...argv, "--ticket", "OPS-7"]);
  expect([exit, stdout]).toEqual([0, expect.stringMatching(/^SHARD +STATUS +OWNER +NEXT +FENCE .*\norders\/11 +active +a /)]);
  expect(fake.callsOf("setShard")[0]?.request).toMatchObject({
    namespace: "orders",
    id: 11,
    change: want,
    ticket: "OPS-7",
    expectedEpoch: 0n,
  });
});

test.each([
  { argv: ["set", "orders/11"], want: "exactly one of --status, --weight and --hint is required" },
  { argv: ["set", "orders/11", "--weight", "2", "--hint", "eu"], want: "exactly one of" },
  { argv: ["set", "orders/11", "--weight", "-1"], want: "invalid --weight -1" },
  { argv: ["set", "orders/11", "--status", "draining"], want: "draining" },
  { argv: ["owner", "orders", "a\uFFFD"], want: "the key is not valid UTF-8" },
  { argv: ["simulate", "orders", "--add", "d:weight=two"], want: "invalid --add d:weight=two: expected instance" },
  { argv: ["simulate", "orders", "--add", "d:speed=2"], want: "invalid --add d:speed=2" },
  { argv: ["diff", "orders", "--from", "now"], want: "invalid --from now" },
])("$argv is a usage error", async ({ argv, want }) => {
  const { run } = await startFake();
  const { exit, stderr } = await run(argv);
  expect([exit, stderr]).toEqual([2, expect.stringContaining(want)]);
});

test("a simulation sends the owners, and prints the moves and their number", async () => {
  const { fake, run } = await startFake();
  const moves = [
    { id: 11, before: "a", after: "d" },
    { id: 12, after: "d" },
  ];
  fake.shards.set("simulate", () => ({ moves, movedRatio: 0.002, planCount: 1, imbalanceRatioBefore: 1.5, imbalanceRatioAfter: 1.04 }));
  const owners = ["--add", "d:weight=2,zone=eu-1a,region=eu,slots=100", "--add", "urn:e", "--remove", "b"];
  const { stdout, stderr } = await run(["simulate", "orders", "--strategy", "ring", ...owners]);
  expect(stdout).toBe("SHARD      BEFORE  AFTER\norders/11  a       d\norders/12  -       d\n");
  expect(stderr).toBe("2 shards would move (0.2 %) in 1 plan\nthe fullest owner has 1.50 × its fair share before, and 1.04 × after\n");
  expect(fake.callsOf("simulate")[0]?.request).toMatchObject({
    namespace: "orders",
    strategy: ShardStrategy.RING,
    owners: [
      { instance: "d", weight: 2, zone: "eu-1a", region: "eu", slots: 100 },
      { instance: "urn:e", weight: 0 },
    ],
    removedOwners: ["b"],
  });
});
