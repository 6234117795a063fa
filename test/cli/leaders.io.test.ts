import type { MessageInitShape } from "@bufbuild/protobuf";
import { status } from "@grpc/grpc-js";
import { afterEach, expect, test } from "vitest";
import { LeaderEventKind, type LeaderSchema, LeaderScopeKind, StoreKind } from "../../gen/waymark/control/v1/leadership_pb.js";
import { waymark } from "../fakes/cli-world.ts";
import { FakeDiscovery } from "../fakes/discovery-server.ts";

const started: FakeDiscovery[] = [];

async function startFake(): Promise<FakeDiscovery> {
  const fake = new FakeDiscovery();
  await fake.start();
  started.push(fake);
  return fake;
}

afterEach(() => {
  for (const fake of started.splice(0)) fake.stop();
});

const AT = { seconds: 1_770_000_000n, nanos: 0 };
const FENCE = { failoverVersion: 0n, storeEpoch: 1_760_000_000n, number: 41n };
const CLEANER: MessageInitShape<typeof LeaderSchema> = {
  scope: "custom/orders/cleaner",
  kind: LeaderScopeKind.CUSTOM,
  holderId: "worker-7",
  nodeId: "n1",
  term: 3n,
  fence: FENCE,
  issuedAt: AT,
  expiresAt: { ...AT, seconds: AT.seconds + 3n },
  reason: "the session of n2 ended",
};
const LEADERS = [
  CLEANER,
  { ...CLEANER, scope: "global-control", kind: LeaderScopeKind.GLOBAL_CONTROL, holderId: "n1", resignReason: "host maintenance" },
  { ...CLEANER, scope: "custom/orders/index", holderId: "", reason: "the node stopped", expiresAt: undefined },
  { scope: "custom/orders/other", kind: LeaderScopeKind.CUSTOM, reason: "the record cannot be read" },
  { ...CLEANER, scope: "shard/orders/7", kind: LeaderScopeKind.SHARD },
];
const STORE = { kind: StoreKind.ETCD, id: "s", epoch: 1_760_000_000n, revision: 99n, age: { seconds: 0n, nanos: 0 } };

test.each([
  { what: "of a store that answers", store: {} },
  { what: "of a store that is away", store: { age: { seconds: 12n, nanos: 0 }, fault: "the control store did not answer" } },
])("the status $what is as reviewed", async ({ what, store }) => {
  const fake = await startFake();
  fake.leaders.set("list", () => ({ leaders: LEADERS, store: { ...STORE, ...store }, servedBy: "n1" }));
  const { exit, stdout, stderr } = await waymark(["mesh", "leaders", "status", "--server", fake.address]);
  expect(exit).toBe(0);
  await expect(stdout + stderr).toMatchFileSnapshot(`../golden/cli/leaders-status.${what.split(" ").at(-1)}.txt`);
});

test("list sends its filter, reads every page, and prints the fields of each leader as JSON", async () => {
  const fake = await startFake();
  fake.leaders.set("list", ({ pageToken }: { readonly pageToken: string }) =>
    pageToken === "" ? { leaders: LEADERS.slice(0, 2), nextPageToken: "2", servedBy: "n1" } : { leaders: LEADERS.slice(2) },
  );
  const { stdout } = await waymark(["mesh", "leaders", "--scope", "custom/orders", "-o", "json", "--server", fake.address]);
  const { leaders } = JSON.parse(stdout) as { readonly leaders: readonly unknown[] };
  expect(leaders).toHaveLength(LEADERS.length);
  expect(leaders[0]).toMatchObject({ holderId: "worker-7", kind: "LEADER_SCOPE_KIND_CUSTOM", fence: { number: "41" } });
  expect(fake.callsOf("list")[0]?.request).toMatchObject({ scopePrefix: "custom/orders" });
});

test("shards are listed only if a scope asks for them", async () => {
  const fake = await startFake();
  fake.leaders.set("list", () => ({ leaders: LEADERS, store: STORE, servedBy: "n1" }));
  const list = async (...flags: readonly string[]) =>
    (await waymark(["mesh", "leaders", "list", ...flags, "--server", fake.address])).stdout;
  expect(await list()).not.toContain("shard/orders/7");
  expect(await list("--scope", "shard")).toContain("shard/orders/7");
});

test("status as JSON has the sessions and the store", async () => {
  const fake = await startFake();
  fake.leaders.set("list", () => ({ leaders: [], sessions: [{ name: "n1/b-1", nodeId: "n1" }], store: STORE }));
  const { stdout, stderr } = await waymark(["mesh", "leaders", "status", "-o", "json", "--server", fake.address]);
  expect(JSON.parse(stdout)).toMatchObject({ leaders: [], sessions: [{ name: "n1/b-1" }], store: { kind: "STORE_KIND_ETCD", age: "0s" } });
  expect(stderr).toBe("");
});

test("a watch prints each event, and continues after its last id when the stream breaks off", async () => {
  const fake = await startFake();
  fake.leaderScripts = [
    [
      { kind: LeaderEventKind.SNAPSHOT, leader: CLEANER, id: 41n },
      { kind: LeaderEventKind.EXPIRED, leader: CLEANER },
    ],
    [
      { kind: LeaderEventKind.ELECTED, leader: { ...CLEANER, holderId: "worker-8", term: 4n }, id: 43n },
      { kind: LeaderEventKind.SPLIT_BRAIN, detail: "n3 uses another store" },
    ],
  ];
  const stop = new AbortController();
  const { exit, stdout, stderr } = await waymark(["mesh", "leaders", "status", "--watch", "--scope", "custom", "--server", fake.address], {
    interrupt: stop.signal,
    onStdout: (text) => text.includes("split-brain") && stop.abort(),
    later: (act) => {
      setImmediate(act);
      return () => {};
    },
  });
  expect(exit).toBe(0);
  expect(stderr).toContain("reconnecting");
  await expect(stdout).toMatchFileSnapshot("../golden/cli/leaders-watch.txt");
  expect(fake.leaderRequests).toMatchObject([
    { scopes: ["custom"], afterId: 0n },
    { scopes: ["custom"], afterId: 41n },
  ]);
});

test("resign and raise-store-epoch send the reason, which is required", async () => {
  const fake = await startFake();
  fake.leaders.set("resign", () => ({ leader: LEADERS[1] }));
  fake.leaders.set("raiseStoreEpoch", () => ({ epoch: 1_770_000_000n }));
  const run = (...argv: string[]) => waymark(["mesh", "leaders", ...argv, "--server", fake.address]);
  const resigned = await run("resign", "global-control", "--reason", "host maintenance");
  expect([resigned.exit, resigned.stdout]).toEqual([
    0,
    expect.stringMatching(/^SCOPE .*\nglobal-control .*asked to resign: host maintenance\n$/),
  ]);
  const raised = await run("raise-store-epoch", "--reason", "restored");
  expect([raised.exit, raised.stdout]).toEqual([0, "EPOCH\n1770000000\n"]);
  expect(fake.callsOf("resign")[0]?.request).toMatchObject({ scope: "global-control", reason: "host maintenance" });
  expect(fake.callsOf("raiseStoreEpoch")[0]?.request).toMatchObject({ reason: "restored" });
  expect([(await run("resign", "global-control")).exit, (await run("raise-store-epoch")).exit]).toEqual([2, 2]);
  fake.refusals.set("resign", { code: status.PERMISSION_DENIED, message: "discovery_access_denied: needs mesh.operate" });
  expect((await run("resign", "global-control", "--reason", "x")).exit).toBe(4);
});
