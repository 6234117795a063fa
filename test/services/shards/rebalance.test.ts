/** RebalanceService over real maps and the real rules of plans: lists, proposals, approvals, freezes, and streams. */
import { create, type DescMessage, fromBinary, type MessageInitShape, type MessageShape } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { RebalanceService, RebalanceState } from "../../../gen/waymark/control/v1/rebalance_pb.js";
import { ShardEventKind, ShardService } from "../../../gen/waymark/control/v1/shard_pb.js";
import { WaymarkError } from "../../../src/lib/errors.ts";
import { anonymousCaller, type Caller } from "../../../src/policy/identity/caller.ts";
import { NO_POLICY, Policy } from "../../../src/policy/set/verdict.ts";
import { requestCheckOf, requiredAccessOf } from "../../../src/services/contract.ts";
import type { StreamSource } from "../../../src/services/service.ts";
import { rebalanceService } from "../../../src/services/shards/rebalance.ts";
import type { ShardOperation } from "../../../src/services/shards/shard-access.ts";
import { shardService } from "../../../src/services/shards/shards.ts";
import { KeptShards } from "../../fakes/kept-shards.ts";
import { OPEN_GATE } from "../../fakes/peer-operations.ts";
import { rule, set } from "../../fakes/policies.ts";

const HIDING = new Policy(set([rule("orders", { visibility: ["c2"] })], { defaultAllow: true }), 1);
const WALL_MS = 1_770_000_001_000;

const callerOf = (principal: string, roles = ["mesh.operate"]): Caller => ({ ...anonymousCaller("c1", "127.0.0.1", roles), principal });

/** The set of `orders`: a owns all 20 shards, and b none. */
function served(settings: Parameters<KeptShards["apply"]>[1] = {}) {
  const source = new KeptShards();
  const recorded: ShardOperation[] = [];
  const policies = { policy: NO_POLICY };
  const common = { source, policies, onDenied: () => {}, maxWatches: 2, tick: () => () => {} };
  const onOperation = (_caller: Caller, operation: ShardOperation) => recorded.push(operation);
  const service = rebalanceService({ ...common, onOperation });
  const shards = shardService({
    ...common,
    onOperation,
    servedBy: "n1",
    leaseMs: 3000,
    gate: OPEN_GATE,
    checkNamespace: () => {},
    entryOf: () => undefined,
  });
  const time = { monoMs: 1000, wallMs: WALL_MS };
  const contextOf = (caller: Caller) => ({ caller, time, requestId: "r" });
  const call = <I extends DescMessage, O extends DescMessage>({ localName, input }: { localName: string; input: I; output: O }) => {
    return async (init: MessageInitShape<I>, caller = callerOf("ann")): Promise<MessageShape<O>> => {
      const handler = service.handlers[localName];
      if (handler?.kind !== "unary") throw new Error(`${localName} is not unary`);
      const request = create(input, init);
      requestCheckOf(input)(request);
      return (await handler.handle(request as never, contextOf(caller))) as MessageShape<O>;
    };
  };
  const open = (init: MessageInitShape<typeof ShardService.method.watch.input>, of = service, caller = callerOf("ann")): StreamSource => {
    const { watch } = of.handlers;
    if (watch?.kind !== "server_streaming") throw new Error("watch is no stream");
    const { input } = of === service ? RebalanceService.method.watch : ShardService.method.watch;
    return watch.open(create(input, init) as never, contextOf(caller));
  };
  source.apply("orders", { count: 20, cooldownMs: 0, ...settings });
  source.own("orders", "a");
  source.own("orders", "b");
  source.change(
    "orders",
    Array.from({ length: 20 }, (_, id) => ({ id, owner: "a", number: 40 + id, movedWallMs: 1 })),
  );
  const { listPlans, propose, approve, cancel, freeze } = RebalanceService.method;
  const calls = { list: call(listPlans), propose: call(propose), approve: call(approve), cancel: call(cancel), freeze: call(freeze) };
  const page = async (parameters: Record<string, string>) => {
    const answer = await service.routes?.[0]?.answer?.(parameters, contextOf(callerOf("ann")));
    return answer?.kind === "page" ? (answer.page as Record<string, unknown>) : expect.fail("no page");
  };
  return { source, recorded, policies, open, shards, time, page, ...calls };
}

test.each(RebalanceService.methods.map(({ localName }) => localName))("%s requires mesh.operate, or the owner of the namespace", (name) => {
  const method = RebalanceService.methods.find(({ localName }) => localName === name) ?? expect.fail();
  expect(requiredAccessOf(method)).toMatchObject({ role: "mesh.operate", ownerOf: "namespace" });
});

test("a dry run returns the plan and writes nothing, and the proposal after it makes the same plan", async () => {
  const { source, recorded, propose, list } = served();
  const { plan: dry } = await propose({ namespace: "orders", dryRun: true });
  expect(dry).toMatchObject({ id: "", state: RebalanceState.DRAINING, author: "ann", epoch: 2n, totalCount: 2, movedCount: 0 });
  expect(dry?.moves.map(({ before, after }) => [before, after])).toEqual([
    ["a", "b"],
    ["a", "b"],
  ]);
  expect([source.orders, recorded, (await list({ namespace: "orders" })).plans]).toEqual([[], [], []]);
  const { plan } = await propose({ namespace: "orders", reason: "new owner", ticket: "OPS-7" });
  expect(plan).toMatchObject({ reason: "new owner", ticket: "OPS-7", moves: dry?.moves, approvedBy: "" });
  expect(plan?.id).toMatch(/^orders\/2-[0-9a-f]{8}$/);
  expect(plan?.checksum).toMatch(/^[0-9a-f]{16}$/);
  expect(recorded).toEqual([
    {
      action: "mesh.propose_rebalance",
      requestId: "r",
      namespace: "orders",
      scope: "",
      rule: "",
      detail: `plan ${plan?.id}; new owner`,
      ticket: "OPS-7",
    },
  ]);
  const { plan: forced } = await served().propose({ namespace: "orders", dryRun: true, force: true });
  expect(forced?.totalCount).toBeGreaterThan(2);
});

test.each([true, false])(
  "with dry_run %s, a proposal is refused if no shard must move, or if another plan has not ended",
  async (dryRun) => {
    const balanced = served();
    balanced.source.own("orders", "b", { slots: 1, isLeaving: true });
    await expect(balanced.propose({ namespace: "orders", dryRun })).rejects.toThrow("not_found: the shards of orders are balanced");
    const { source, propose } = served();
    source.plan("orders", "2-aa", { state: "running" });
    await expect(propose({ namespace: "orders", dryRun })).rejects.toThrow("version_conflict: the plan orders/2-aa has not ended");
  },
);

test("a plan that waits is approved with its checksum, which is recorded with the reason", async () => {
  const { source, recorded, propose, approve, list } = served({ approval: "any" });
  const { plan } = await propose({ namespace: "orders" });
  const { id = "", checksum = "" } = plan ?? {};
  expect((await list({ namespace: "orders" })).state).toBe(RebalanceState.REBALANCE_PENDING);
  const asked = { namespace: "orders", planId: id, reason: "reviewed" };
  await expect(approve({ ...asked, checksum: "0" })).rejects.toThrow(/^version_conflict: the plan .* has the checksum/);
  expect((await approve({ ...asked, checksum })).plan).toMatchObject({ state: RebalanceState.DRAINING, approvedBy: "ann" });
  expect(recorded.at(-1)).toMatchObject({ action: "mesh.approve_rebalance", detail: `plan ${id}; reviewed` });
  await expect(approve({ ...asked, checksum })).rejects.toThrow("does not wait for approval");
  const [first] = plan?.moves ?? [];
  source.change("orders", [{ id: first?.id ?? 0, owner: "b", number: 90 }]);
  const { plans, state } = await list({ namespace: "orders" });
  expect([state, plans[0]?.movedCount, plans[0]?.totalCount]).toEqual([RebalanceState.REBALANCING, 1, 2]);
});

test("with the approval of another operator, the author cannot approve a plan", async () => {
  const { propose, approve } = served({ approval: "other" });
  const { plan } = await propose({ namespace: "orders" });
  const asked = { namespace: "orders", planId: plan?.id ?? "", checksum: plan?.checksum ?? "" };
  await expect(approve(asked)).rejects.toThrow(/^discovery_access_denied: .*ann is the author/);
  expect((await approve(asked, callerOf("bob"))).plan).toMatchObject({ author: "ann", approvedBy: "bob" });
});

test("a plan cannot be approved for another epoch, and a plan of another namespace does not exist", async () => {
  const { source, approve, cancel } = served({ approval: "any" });
  source.plan("orders", "1-aa", { epoch: 1 });
  const asked = { namespace: "orders", planId: "orders/1-aa", checksum: "0123456789abcdef" };
  await expect(approve(asked)).rejects.toThrow("version_conflict: the plan orders/1-aa was made for the epoch 1");
  source.apply("billing");
  await expect(cancel({ ...asked, namespace: "billing" })).rejects.toThrow("not_found: there is no plan orders/1-aa");
});

test("a cancelled plan has the reason as its detail, and cannot be cancelled again", async () => {
  const { source, recorded, cancel } = served();
  source.plan("orders", "2-aa", { state: "running" });
  const asked = { namespace: "orders", planId: "orders/2-aa", reason: "too many errors" };
  expect((await cancel(asked)).plan).toMatchObject({ state: RebalanceState.CANCELLED, detail: "too many errors" });
  expect(recorded.at(-1)).toMatchObject({ action: "mesh.cancel_rebalance", detail: "plan orders/2-aa; too many errors" });
  await expect(cancel(asked)).rejects.toThrow("version_conflict: the plan orders/2-aa has ended");
});

test("a change whose outcome is unknown is recorded, and one that was refused is not", async () => {
  const { source, recorded, cancel } = served();
  source.plan("orders", "2-aa");
  const asked = { namespace: "orders", planId: "orders/2-aa" };
  const refuse = (reason: "quota_exceeded" | "store_unavailable") => () => {
    throw new WaymarkError(reason, "x");
  };
  source.refuse = refuse("quota_exceeded");
  await expect(cancel(asked)).rejects.toThrow("quota_exceeded");
  source.refuse = refuse("store_unavailable");
  await expect(cancel(asked)).rejects.toThrow("store_unavailable");
  expect(recorded.map(({ detail }) => detail)).toEqual(["plan orders/2-aa; the outcome is unknown"]);
});

test("a freeze ends after its time, and zero ends it", async () => {
  const { recorded, freeze, list, time } = served();
  const hour = { seconds: 3600n, nanos: 0 };
  const until = { seconds: BigInt(WALL_MS / 1000 + 3600) };
  expect(await freeze({ namespace: "orders", duration: hour, reason: "upgrade" })).toMatchObject({ frozenUntil: until, epoch: 3n });
  expect((await list({ namespace: "orders" })).frozenUntil).toMatchObject(until);
  time.wallMs += 3_600_000;
  expect((await list({ namespace: "orders" })).frozenUntil).toBeUndefined();
  expect((await freeze({ namespace: "orders", duration: {} })).frozenUntil).toBeUndefined();
  expect(recorded.map(({ action, detail }) => [action, detail])).toEqual([
    ["mesh.freeze_shards", "frozen until 2026-02-02T03:40:01.000Z; upgrade"],
    ["mesh.freeze_shards", "not frozen"],
  ]);
  await expect(freeze({ namespace: "orders" })).rejects.toThrow("invalid_argument: duration");
  await expect(freeze({ namespace: "orders", duration: { seconds: 604_801n } })).rejects.toThrow("invalid_argument: duration");
});

test("plans are listed newest first, by state and in pages of at most ten", async () => {
  const { source, list, page } = served();
  for (let i = 0; i < 12; i++) source.plan("orders", `1-${i}`, { state: i % 2 === 0 ? "completed" : "failed", createdWallMs: WALL_MS + i });
  source.apply("orders.eu");
  source.plan("orders.eu", "1-xx");
  const first = await list({ namespace: "orders", limit: 100 });
  const second = await list({ namespace: "orders", pageToken: first.nextPageToken });
  const ids = [...first.plans, ...second.plans].map(({ id }) => id);
  expect([first.plans.length, ids]).toEqual([10, Array.from({ length: 12 }, (_, i) => `orders/1-${11 - i}`)]);
  const failed = await list({ namespace: "orders", states: [RebalanceState.FAILED] });
  expect(failed.plans.map(({ id }) => id)).toEqual([11, 9, 7, 5, 3, 1].map((i) => `orders/1-${i}`));
  const answer = await page({ namespace: "orders", states: "failed,rebalance-pending", limit: "1" });
  expect(answer).toMatchObject({ plans: [{ id: "orders/1-11", state: "REBALANCE_STATE_FAILED" }], state: "REBALANCE_STATE_STEADY" });
  await expect(page({ namespace: "orders", states: "done" })).rejects.toThrow("invalid_argument: states: must be one of steady,");
  await expect(page({ limit: "1" })).rejects.toThrow("invalid_argument: namespace");
});

test.each(["list", "propose", "approve", "cancel", "freeze"] as const)("%s fails for a namespace without shards", async (name) => {
  const all = { namespace: "none", planId: "none/1-a", checksum: "c", duration: { seconds: 1n } };
  await expect(served()[name](all)).rejects.toThrow(/^not_found: namespace none has no shards/);
});

test("reads fail for a namespace that the caller cannot see, and a stream ends when the policy hides it", async () => {
  const { source, policies, list, open } = served();
  const stream = open({ namespace: "orders" });
  stream.attach(
    () => {},
    () => {},
  );
  expect(stream.pull({ monoMs: 0, wallMs: 0 })).toBeDefined();
  policies.policy = HIDING;
  await expect(list({ namespace: "orders" })).rejects.toThrow("discovery_access_denied");
  expect(() => open({ namespace: "orders" })).toThrow("discovery_access_denied");
  source.plan("orders", "2-aa");
  expect(() => stream.pull({ monoMs: 0, wallMs: 0 })).toThrow("discovery_access_denied");
  stream.close();
  expect(source.followerCount).toBe(0);
});

test.each(["propose", "approve", "cancel", "freeze"] as const)("%s fails for a namespace that the caller cannot see", async (name) => {
  const { source, policies, recorded, ...calls } = served();
  policies.policy = HIDING;
  const all = { planId: "orders/2-aa", checksum: "c", duration: { seconds: 1n } };
  for (const dryRun of [true, false])
    await expect(calls[name]({ ...all, namespace: "orders", dryRun })).rejects.toThrow(
      "discovery_access_denied: permission denied: namespace",
    );
  expect([source.orders, recorded]).toEqual([[], []]);
});

/** Reads all messages that a stream has now. */
function reader<D extends DescMessage>(stream: StreamSource, schema: D) {
  let wakes = 0;
  stream.attach(
    () => wakes++,
    () => {},
  );
  return () => {
    const read: MessageShape<D>[] = [];
    for (let bytes = stream.pull({ monoMs: 0, wallMs: 0 }); bytes !== undefined; bytes = stream.pull({ monoMs: 0, wallMs: 0 }))
      read.push(fromBinary(schema, bytes));
    return read;
  };
}

test("a stream has the state and the newest plan, and then their changes, without the moves", async () => {
  const { source, open } = served();
  source.plan("orders", "1-aa", { state: "completed" });
  const read = reader(open({ namespace: "orders" }), RebalanceService.method.watch.output);
  const lines = () => read().map(({ status }) => [RebalanceState[status?.state ?? 0], status?.plan?.id, status?.plan?.movedCount]);
  expect(lines()).toEqual([["STEADY", "orders/1-aa", 0]]);
  expect(lines()).toEqual([]);
  source.change("orders", [{ id: 19, owner: "a", number: 99, isThrottled: true, movedWallMs: 1 }]);
  expect(lines()).toEqual([["INVESTIGATING", "orders/1-aa", 0]]);
  const moves = [{ from: "a", to: "b", ids: new Set([0, 1]) }];
  source.plan("orders", "3-bb", { moves });
  source.plan("orders", "3-bb", { state: "running", moves });
  expect(lines()).toEqual([["DRAINING", "orders/3-bb", 0]]);
  source.change("orders", [{ id: 0, owner: "b", number: 100 }]);
  source.change("orders", [{ id: 5, owner: "a", number: 101, weight: 2 }]);
  expect(lines()).toEqual([["REBALANCING", "orders/3-bb", 1]]);
  source.change("orders", [{ id: 6, owner: "a", number: 102, weight: 2 }]);
  expect(lines()).toEqual([]);
  source.plan("orders", "3-bb", { state: "completed", moves });
  expect(lines()).toEqual([["INVESTIGATING", "orders/3-bb", 2]]);
});

test("a stream of shards includes the plans only for readers that ask for them and can read them", async () => {
  const { source, open, shards } = served();
  const asked = { namespace: "orders", includePlans: true };
  expect(() => open(asked, shards, callerOf("eve", ["mesh.read"]))).toThrow("mesh.operate");
  expect(() => open(asked, shards, callerOf("eve", ["owner:billing"]))).toThrow("mesh.operate");
  const read = reader(open(asked, shards, callerOf("own", ["owner:orders"])), ShardService.method.watch.output);
  const kinds = () => read().map(({ kind, epoch, rebalance }) => [ShardEventKind[kind], epoch, rebalance?.plan?.id]);
  expect(kinds()).toEqual([
    ["SNAPSHOT", 2n, undefined],
    ["PLAN", 0n, undefined],
    ["HEARTBEAT", 2n, undefined],
  ]);
  source.plan("orders", "2-aa");
  expect(kinds()).toEqual([["PLAN", 0n, "orders/2-aa"]]);
  const plain = reader(open({ namespace: "orders" }, shards, callerOf("eve", [])), ShardService.method.watch.output);
  expect(plain().map(({ kind }) => ShardEventKind[kind])).toEqual(["SNAPSHOT", "HEARTBEAT"]);
});
