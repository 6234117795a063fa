/** ShardService over real maps: lists, single shards, differences, history, simulations, routes, and the operations of operators. */
import { create, type DescMessage, type MessageInitShape, type MessageShape } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import {
  ShardApproval,
  ShardService,
  ShardServiceApplyRequestSchema,
  type ShardServiceApplyResponseSchema,
  ShardServiceDiffRequestSchema,
  type ShardServiceDiffResponseSchema,
  ShardServiceGetRequestSchema,
  type ShardServiceGetResponseSchema,
  ShardServiceHistoryRequestSchema,
  type ShardServiceHistoryResponseSchema,
  ShardServiceListRequestSchema,
  type ShardServiceListResponseSchema,
  ShardServiceSetShardRequestSchema,
  type ShardServiceSetShardResponseSchema,
  ShardServiceSimulateRequestSchema,
  type ShardServiceSimulateResponseSchema,
  ShardStatus,
  ShardStrategy,
  StoreLossBehavior,
} from "../../../gen/waymark/control/v1/shard_pb.js";
import type { ShardMaps } from "../../../src/control/shards/maps.ts";
import { WaymarkError } from "../../../src/lib/errors.ts";
import { shardOfKey } from "../../../src/lib/shard-key.ts";
import { anonymousCaller, type Caller } from "../../../src/policy/identity/caller.ts";
import { NO_POLICY, PENDING_POLICY, Policy } from "../../../src/policy/set/verdict.ts";
import { requestCheckOf, requiredAccessOf } from "../../../src/services/contract.ts";
import type { RouteParameters } from "../../../src/services/service.ts";
import type { ShardOperation } from "../../../src/services/shards/shard-access.ts";
import { type ShardParts, shardService } from "../../../src/services/shards/shards.ts";
import { KeptShards } from "../../fakes/kept-shards.ts";
import { OPEN_GATE } from "../../fakes/peer-operations.ts";
import { rule, set } from "../../fakes/policies.ts";

const CALLER: Caller = { ...anonymousCaller("c1", "127.0.0.1", ["mesh.admin"]), principal: "ann" };
const TIME = { monoMs: 1000, wallMs: 1_770_000_001_000 };
const CONTEXT = { caller: CALLER, time: TIME, requestId: "r" };

/** The namespace `secret` can be seen by the cluster c2 alone. */
const HIDING = new Policy(set([rule("secret", { visibility: ["c2"] })], { defaultAllow: true }), 1);

function served(parts: Partial<ShardParts> = {}) {
  const source = new KeptShards();
  const recorded: ShardOperation[] = [];
  const denied: string[] = [];
  const service = shardService({
    source,
    servedBy: "n1",
    leaseMs: 3000,
    gate: OPEN_GATE,
    checkNamespace: () => {},
    entryOf: () => undefined,
    policies: { policy: NO_POLICY },
    onDenied: (_caller, { action, namespace }) => denied.push(`${action} ${namespace}`),
    maxWatches: 2,
    tick: () => () => {},
    onOperation: (_caller, operation) => recorded.push(operation),
    ...parts,
  });
  const call = <I extends DescMessage, O extends DescMessage>(name: string, schema: I) => {
    return async (init: MessageInitShape<I>): Promise<MessageShape<O>> => {
      const handler = service.handlers[name];
      if (handler?.kind !== "unary") throw new Error(`${name} is not unary`);
      const request = create(schema, init);
      requestCheckOf(schema)(request);
      return (await handler.handle(request as never, CONTEXT)) as MessageShape<O>;
    };
  };
  return {
    source,
    service,
    recorded,
    denied,
    apply: call<typeof ShardServiceApplyRequestSchema, typeof ShardServiceApplyResponseSchema>("apply", ShardServiceApplyRequestSchema),
    set: call<typeof ShardServiceSetShardRequestSchema, typeof ShardServiceSetShardResponseSchema>(
      "setShard",
      ShardServiceSetShardRequestSchema,
    ),
    list: call<typeof ShardServiceListRequestSchema, typeof ShardServiceListResponseSchema>("list", ShardServiceListRequestSchema),
    one: call<typeof ShardServiceGetRequestSchema, typeof ShardServiceGetResponseSchema>("get", ShardServiceGetRequestSchema),
    diff: call<typeof ShardServiceDiffRequestSchema, typeof ShardServiceDiffResponseSchema>("diff", ShardServiceDiffRequestSchema),
    history: call<typeof ShardServiceHistoryRequestSchema, typeof ShardServiceHistoryResponseSchema>(
      "history",
      ShardServiceHistoryRequestSchema,
    ),
    simulate: call<typeof ShardServiceSimulateRequestSchema, typeof ShardServiceSimulateResponseSchema>(
      "simulate",
      ShardServiceSimulateRequestSchema,
    ),
    get: async (path: string, parameters: RouteParameters = {}) => {
      const answer = await service.routes?.find((each) => each.path === path)?.answer?.(parameters, CONTEXT);
      if (answer?.kind !== "page") throw new Error(`${path} has no page`);
      return { page: answer.page as Record<string, unknown>, steady: JSON.stringify(answer.steady) };
    },
  };
}

/** The set of `orders`: shards 0 and 1 are of a, shard 2 moves from b to a, and shard 3 is disabled. The epoch is 2. */
function ordered(parts: Partial<ShardParts> = {}, count = 4) {
  const on = served(parts);
  on.source.apply("orders", { count });
  on.source.own("orders", "a");
  on.source.own("orders", "b", { zone: "b", weight: 2, slots: 10, isLeaving: true });
  on.source.change("orders", [
    { id: 0, owner: "a", number: 41, reason: "the shard had no owner" },
    { id: 1, owner: "a", number: 42, hint: "eu/a", ticket: "OPS-7" },
    { id: 2, owner: "b", number: 43, next: "a", isDraining: true, weight: 2.5 },
    { id: 3, mode: "disabled" },
  ]);
  return on;
}

test("a list has the shards, their owners, their set and the state of the store", async () => {
  const { list } = ordered();
  const { shards, owners, sets, store, servedBy } = await list({ namespace: "orders" });
  expect(
    shards.map(({ id, status, owner, nextOwner, fence, epoch }) => [id, ShardStatus[status], owner, nextOwner, fence?.number, epoch]),
  ).toEqual([
    [0, "ACTIVE", "a", "", 41n, 2n],
    [1, "ACTIVE", "a", "", 42n, 2n],
    [2, "DRAINING", "b", "a", 43n, 2n],
    [3, "DISABLED", "", "", undefined, 2n],
  ]);
  expect(shards[1]).toMatchObject({
    namespace: "orders",
    nodeId: "n1",
    hint: "eu/a",
    ticket: "OPS-7",
    weight: 1,
    movedAt: { seconds: 1_770_000_000n },
  });
  expect(owners).toMatchObject([
    { namespace: "orders", instance: "a", target: "a.host:80", nodeId: "n1", zone: "a", region: "eu", weight: 1, slots: 0, leaving: false },
    { instance: "b", weight: 2, slots: 10, leaving: true },
  ]);
  expect(sets).toMatchObject([{ namespace: "orders", epoch: 2n, ownerCount: 2, unownedCount: 0, oldestEpoch: 1n, settings: { count: 4 } }]);
  expect(sets[0]?.checksum).toMatch(/^[0-9a-f]{16}$/);
  expect([store?.epoch, servedBy]).toEqual([7n, "n1"]);
});

test("a set has the end of its freeze only until it is over", async () => {
  const { source, list, one } = ordered();
  const ends = async () => [
    (await list({ namespace: "orders" })).sets[0]?.frozenUntil,
    (await one({ namespace: "orders", shard: { case: "id", value: 0 } })).set?.frozenUntil,
  ];
  source.apply("orders", { frozenUntilWallMs: TIME.wallMs + 1000 });
  const end = { seconds: BigInt(TIME.wallMs / 1000 + 1) };
  expect(await ends()).toMatchObject([end, end]);
  source.apply("orders", { frozenUntilWallMs: TIME.wallMs });
  expect(await ends()).toEqual([undefined, undefined]);
});

test("a shard that never changed has no fence and no times", async () => {
  const { source, list } = served();
  source.apply("orders", { count: 1 });
  const { shards } = await list({ namespace: "orders" });
  expect(shards[0]).toMatchObject({ status: ShardStatus.ACTIVE, owner: "", nodeId: "", epoch: 0n, weight: 1 });
  expect([shards[0]?.fence, shards[0]?.movedAt, shards[0]?.changedAt]).toEqual([undefined, undefined, undefined]);
});

test.each([
  { filter: { owner: "a" }, want: [0, 1] },
  { filter: { statuses: [ShardStatus.DRAINING, ShardStatus.DISABLED] }, want: [2, 3] },
  { filter: { statuses: [ShardStatus.UNOWNED] }, want: [4] },
  { filter: { statuses: [ShardStatus.UNOWNED, ShardStatus.DISABLED] }, want: [3, 4] },
  { filter: { text: "OPS" }, want: [1] },
  { filter: { text: "had no OWNER" }, want: [0] },
  { filter: { text: "3" }, want: [3] },
  { filter: { owner: "c" }, want: [] },
])("the filter $filter matches the shards $want", async ({ filter, want }) => {
  const { source, list } = ordered({}, 5);
  source.change("orders", [{ id: 4, mode: "paused" }]);
  const { shards, sets } = await list({ namespace: "orders", ...filter });
  expect([shards.map(({ id }) => id), sets.length]).toEqual([want, 1]);
});

test("a list without a namespace has all namespaces in order, and pages join to it with the sets and owners of each page", async () => {
  const { source, list } = ordered();
  source.apply("billing", { count: 12 });
  const whole = await list({});
  expect(whole.sets.map(({ namespace }) => namespace).toSorted()).toEqual(["billing", "orders"]);
  const pages = [await list({ limit: 10 })];
  for (let token = pages[0]?.nextPageToken ?? ""; token !== ""; token = pages.at(-1)?.nextPageToken ?? "")
    pages.push(await list({ limit: 10, pageToken: token }));
  expect(pages.flatMap(({ shards }) => shards)).toEqual(whole.shards);
  expect(pages.map(({ sets, owners }) => [sets.map(({ namespace }) => namespace).toSorted(), owners.length])).toEqual([
    [["billing"], 0],
    [["billing", "orders"], 2],
  ]);
  await expect(list({ owner: "a", pageToken: pages[0]?.nextPageToken ?? "" })).rejects.toThrow("invalid_argument: page_token");
});

test("a shard is chosen by its id or by a key, and one without an owner is no error", async () => {
  const { one } = ordered();
  expect(await one({ namespace: "orders", shard: { case: "id", value: 2 } })).toMatchObject({
    shard: { id: 2, owner: "b" },
    owners: [{ instance: "b" }, { instance: "a" }],
    set: { epoch: 2n },
    store: { epoch: 7n },
  });
  const { shard } = await one({ namespace: "orders", shard: { case: "key", value: "customer-7" } });
  expect(shard?.id).toBe(shardOfKey("orders", 4, "customer-7"));
  expect(await one({ namespace: "orders", shard: { case: "id", value: 3 } })).toMatchObject({ shard: { owner: "" }, owners: [] });
  await expect(one({ namespace: "orders", shard: { case: "id", value: 4 } })).rejects.toThrow(
    "invalid_argument: id: orders has the shards 0 to 3, got 4",
  );
  await expect(one({ namespace: "orders" })).rejects.toThrow("invalid_argument: id: id or key is required");
});

test("a difference has the first and the last state of each shard that differs", async () => {
  const { source, diff } = ordered();
  source.change("orders", [{ id: 0, owner: "b", number: 50 }]);
  source.change("orders", [
    { id: 0, owner: "c", number: 51 },
    { id: 1, owner: "c", number: 52 },
  ]);
  source.change("orders", [{ id: 1, owner: "a", number: 42 }]);
  const { shards, fromEpoch, toEpoch } = await diff({ namespace: "orders", fromEpoch: 2n });
  expect(shards).toMatchObject([
    { id: 0, before: { owner: "a", status: ShardStatus.ACTIVE, fence: { number: 41n } }, after: { owner: "c", fence: { number: 51n } } },
  ]);
  expect([fromEpoch, toEpoch]).toEqual([2n, 5n]);
  const upTo = await diff({ namespace: "orders", fromEpoch: 2n, toEpoch: 4n, limit: 1 });
  expect(upTo.shards.map(({ id }) => id)).toEqual([0]);
  const rest = await diff({ namespace: "orders", fromEpoch: 2n, toEpoch: 4n, limit: 1, pageToken: upTo.nextPageToken });
  expect([rest.shards.map(({ id }) => id), rest.nextPageToken]).toEqual([[1], ""]);
  expect((await diff({ namespace: "orders", fromEpoch: 5n })).shards).toEqual([]);
});

test.each([
  { epochs: { fromEpoch: 3n, toEpoch: 2n }, want: "invalid_argument: from_epoch: must be at most 2, got 3" },
  { epochs: { fromEpoch: 1n, toEpoch: 9n }, want: "invalid_argument: to_epoch: the newest epoch of orders on this node is 3, got 9" },
  { epochs: { fromEpoch: 0n }, want: "not_found: the changes of orders after epoch 0 are no longer kept: the oldest is 2" },
])("a difference of $epochs is refused", async ({ epochs, want }) => {
  const { source, diff } = ordered();
  source.apply("orders", { oldestEpoch: 2 });
  await expect(diff({ namespace: "orders", ...epochs })).rejects.toThrow(want);
  expect((await diff({ namespace: "orders", fromEpoch: 1n })).toEpoch).toBe(3n);
});

test("the history has the changes that are kept, newest first, in pages", async () => {
  const { source, history } = ordered();
  for (let i = 0; i < 5; i++) source.change("orders", [{ id: 0, owner: "a", number: 50 + i }]);
  source.apply("orders", { oldestEpoch: 3 });
  const first = await history({ namespace: "orders", limit: 4 });
  expect(first.changes.map(({ epoch }) => epoch)).toEqual([8n, 7n, 6n, 5n]);
  expect(first.changes[1]).toMatchObject({ actor: "n1", reason: "a change", shards: [{ id: 0, after: { fence: { number: 54n } } }] });
  const second = await history({ namespace: "orders", limit: 4, pageToken: first.nextPageToken });
  expect([second.changes.map(({ epoch }) => epoch), second.nextPageToken]).toEqual([[4n, 3n], ""]);
  expect(source.reads).toEqual(["4-8", "2-4"]);
});

test("one caller reads half of the histories that a node reads at a time, and can read again afterwards", async () => {
  const { source, history } = ordered();
  const { promise, resolve } = Promise.withResolvers<readonly []>();
  source.shardHistory = () => promise;
  const asked = Array.from({ length: 5 }, () => history({ namespace: "orders" }));
  await expect(asked[4]).rejects.toThrow("quota_exceeded: too many reads of the history of shards");
  resolve([]);
  expect(await Promise.all(asked.slice(0, 4))).toHaveLength(4);
  expect((await history({ namespace: "orders" })).changes).toEqual([]);
});

test("a simulation assumes other owners and another strategy, and changes nothing", async () => {
  const { source, simulate } = served();
  source.apply("orders", { count: 40 });
  for (const owner of ["a", "b"]) source.own("orders", owner);
  source.change(
    "orders",
    Array.from({ length: 40 }, (_, id) => ({ id, owner: id % 2 === 0 ? "a" : "b", number: 40 + id })),
  );
  const unchanged = await simulate({ namespace: "orders" });
  expect(unchanged).toMatchObject({ moves: [], movedRatio: 0, planCount: 0, imbalanceRatioBefore: 1, imbalanceRatioAfter: 1 });
  const added = await simulate({ namespace: "orders", strategy: ShardStrategy.RING, owners: [{ instance: "d", weight: 2 }] });
  expect(added.moves.length).toBeGreaterThan(10);
  expect(added.moves.every(({ after }) => after === "d")).toBe(true);
  expect([added.movedRatio, added.imbalanceRatioBefore]).toEqual([added.moves.length / 40, 2]);
  const removed = await simulate({ namespace: "orders", removedOwners: ["b"] });
  expect(removed.moves.map(({ before, after }) => `${before} ${after}`)).toEqual(Array.from({ length: 20 }, () => "b a"));
  await expect(simulate({ namespace: "orders", removedOwners: ["b", "x"] })).rejects.toThrow(
    "invalid_argument: removed_owners[1]: x is not an owner in orders",
  );
  await expect(simulate({ namespace: "orders", strategy: 9 as ShardStrategy })).rejects.toThrow("invalid_argument: strategy");
  await expect(simulate({ namespace: "orders", owners: [{ instance: "d", weight: -1 }] })).rejects.toThrow("owners[0].weight");
  await expect(simulate({ namespace: "orders", removedOwners: ["a", "b"] })).rejects.toThrow(
    "invalid_argument: removed_owners: no owner would be left, so all shards of orders would have no owner",
  );
  const owners = Array.from({ length: 999 }, (_, i) => ({ instance: `o${i}` }));
  await expect(simulate({ namespace: "orders", owners })).rejects.toThrow("quota_exceeded: owners: orders would have 1001 owners");
  expect(source.orders).toEqual([]);
});

test("a set is applied with the defaults of the contract, and the operation is recorded", async () => {
  const { source, apply, recorded } = served();
  const settings = { count: 100, service: "worker" };
  const { set: applied } = await apply({ namespace: "orders", settings, reason: "first", ticket: "OPS-1" });
  expect(applied).toMatchObject({
    namespace: "orders",
    epoch: 1n,
    unownedCount: 100,
    settings: {
      ...settings,
      strategy: ShardStrategy.RENDEZVOUS,
      approval: ShardApproval.NONE,
      onStoreLoss: StoreLossBehavior.STOP,
      maxParallelMoves: 10,
      cooldown: { seconds: 60n },
      prepareTimeout: { seconds: 30n },
      drainTimeout: { seconds: 30n },
    },
  });
  expect(source.orders).toMatchObject([
    { kind: "apply", namespace: "orders", expectedEpoch: undefined, actor: "ann", reason: "first", ticket: "OPS-1" },
  ]);
  const texts = { rule: "", detail: "100 shards of worker, strategy rendezvous; first", ticket: "OPS-1" };
  expect(recorded).toEqual([{ action: "mesh.apply_shards", requestId: "r", namespace: "orders", scope: "", ...texts }]);
  const others = { strategy: ShardStrategy.LOCALITY, approval: ShardApproval.OTHER, onStoreLoss: StoreLossBehavior.SERVE };
  const changed = {
    ...settings,
    ...others,
    maxParallelMoves: 3,
    cooldown: { seconds: 0n, nanos: 500_000_000 },
    drainTimeout: { seconds: 5n },
  };
  expect(await apply({ namespace: "orders", settings: changed, expectedEpoch: 1n })).toMatchObject({
    set: { epoch: 2n, settings: changed },
  });
  expect(source.orders[1]).toMatchObject({ expectedEpoch: 1, settings: { cooldownMs: 500, prepareMs: 30_000, drainMs: 5000 } });
  await apply({ namespace: "orders", settings });
  const details = recorded.slice(1).map((each) => each.detail);
  expect(details.at(-1)).toContain(
    'strategy "SHARD_STRATEGY_LOCALITY" → "SHARD_STRATEGY_RENDEZVOUS", approval "SHARD_APPROVAL_OTHER" → "SHARD_APPROVAL_NONE"',
  );
});

test.each([
  { settings: { count: 0 }, want: "settings.count" },
  { settings: { count: 10_001 }, want: "settings.count" },
  { settings: { service: "" }, want: "settings.service" },
  { settings: { strategy: 9 }, want: "settings.strategy" },
  { settings: { approval: 9 }, want: "settings.approval" },
  { settings: { onStoreLoss: 9 }, want: "settings.on_store_loss" },
  { settings: { maxParallelMoves: 1001 }, want: "settings.max_parallel_moves" },
  { settings: { cooldown: { seconds: 86_401n } }, want: "settings.cooldown" },
  { settings: { drainTimeout: { seconds: -1n } }, want: "settings.drain_timeout" },
  { settings: { prepareTimeout: { seconds: 3601n } }, want: "settings.prepare_timeout" },
])("the settings $settings are refused with their field", async ({ settings, want }) => {
  const { apply, recorded, source } = served();
  await expect(apply({ namespace: "orders", settings: { count: 10, service: "worker", ...settings } })).rejects.toThrow(want);
  expect([recorded, source.orders]).toEqual([[], []]);
});

test("the number of shards of a set cannot be changed", async () => {
  const { apply, source } = ordered();
  const settings = { count: 5, service: "worker" };
  const description = "must stay 4 until the set is deleted, got 5";
  await expect(apply({ namespace: "orders", settings })).rejects.toMatchObject({
    reason: "invalid_argument",
    details: { violations: [{ field: "settings.count", description }] },
  });
  expect(source.orders).toEqual([]);
});

test.each([
  { request: { namespace: "", settings: { count: 1, service: "a" } }, want: "namespace" },
  { request: { namespace: "Orders", settings: { count: 1, service: "a" } }, want: "namespace" },
  { request: { namespace: "discovery.x", settings: { count: 1, service: "a" } }, want: "namespace: the namespace discovery.x is reserved" },
  { request: { namespace: "orders" }, want: "settings: is required" },
  { request: { namespace: "orders", settings: { count: 1, service: "a" }, reason: "x".repeat(257) }, want: "reason" },
])("the set $request is refused", async ({ request, want }) => {
  await expect(served().apply(request)).rejects.toThrow(`invalid_argument: ${want}`);
});

test.each([
  { change: { case: "status", value: ShardStatus.PAUSED } as const, want: { mode: "paused" }, detail: "status paused" },
  { change: { case: "weight", value: 0.5 } as const, want: { weight: 0.5 }, detail: "weight 0.5" },
  { change: { case: "hint", value: "eu/eu-1a" } as const, want: { hint: "eu/eu-1a" }, detail: 'hint "eu/eu-1a"' },
  { change: { case: "hint", value: "" } as const, want: { hint: "" }, detail: 'hint ""' },
])("a change of the $change.case of a shard leaves the rest as it is, and is recorded", async ({ change, want, detail }) => {
  const { set: setShard, recorded, source } = ordered();
  const { shard, epoch } = await setShard({ namespace: "orders", id: 1, change, reason: "repair", expectedEpoch: 2n });
  expect([shard?.id, shard?.owner, shard?.epoch, epoch]).toEqual([1, "a", 3n, 3n]);
  const unchanged = { mode: undefined, weight: undefined, hint: undefined };
  expect(source.orders).toEqual([
    { kind: "setShard", namespace: "orders", id: 1, expectedEpoch: 2, actor: "ann", reason: "repair", ticket: "", ...unchanged, ...want },
  ]);
  expect(recorded).toMatchObject([{ action: "mesh.set_shard", scope: "shard/orders/1", namespace: "orders", detail: `${detail}; repair` }]);
});

test.each([
  { id: 1, change: { case: undefined } as const, want: "status" },
  { id: 1, change: { case: "status", value: ShardStatus.DRAINING } as const, want: "status" },
  { id: 1, change: { case: "status", value: ShardStatus.UNOWNED } as const, want: "status" },
  { id: 1, change: { case: "status", value: ShardStatus.UNSPECIFIED } as const, want: "status" },
  { id: 1, change: { case: "weight", value: 0 } as const, want: "weight" },
  { id: 1, change: { case: "weight", value: -1 } as const, want: "weight" },
  { id: 1, change: { case: "weight", value: 1001 } as const, want: "weight" },
  { id: 1, change: { case: "weight", value: Number.NaN } as const, want: "weight" },
  { id: 1, change: { case: "hint", value: "eu/a/b" } as const, want: "hint" },
  { id: 1, change: { case: "hint", value: "e u" } as const, want: "hint" },
  { id: 4, change: { case: "weight", value: 1 } as const, want: "id" },
])("the change $change of shard $id is refused", async ({ id, change, want }) => {
  const { set: setShard, source } = ordered();
  await expect(setShard({ namespace: "orders", id, change })).rejects.toThrow(`invalid_argument: ${want}`);
  expect(source.orders).toEqual([]);
});

test("a refused operation is not recorded, and one whose outcome is unknown is", async () => {
  const { set: setShard, recorded, source } = ordered();
  const request = { namespace: "orders", id: 1, change: { case: "weight", value: 2 } as const };
  source.refuse = () => {
    throw new WaymarkError("version_conflict", "the set has epoch 2");
  };
  await expect(setShard(request)).rejects.toThrow(/^version_conflict: /);
  expect(recorded).toEqual([]);
  source.refuse = () => {
    throw new WaymarkError("store_unavailable", "no answer");
  };
  await expect(setShard(request)).rejects.toThrow(/^store_unavailable: /);
  expect(recorded.map(({ detail }) => detail)).toEqual(["weight 2; the outcome is unknown"]);
});

const READS = ["list", "one", "diff", "history", "simulate"] as const;

test.each(READS)("%s fails for a namespace without a set, that the caller cannot see, or while the node cannot know", async (name) => {
  const init = { namespace: "orders", shard: { case: "id", value: 0 } as const };
  const read = (on: ReturnType<typeof served>, namespace = "orders") => on[name]({ ...init, namespace });
  await expect(read(served())).rejects.toThrow(/^not_found: namespace orders has no shards/);
  const unread = served();
  Object.assign(unread.source, { maps: { isRead: false, map: () => undefined, namespaces: [] } satisfies Partial<ShardMaps> });
  await expect(read(unread)).rejects.toThrow(/^not_ready: this node has not read the control store/);
  const hidden = served({ policies: { policy: HIDING } });
  await expect(read(hidden, "secret")).rejects.toThrow(/^discovery_access_denied: permission denied: namespace: secret is not visible/);
  expect(hidden.denied).toEqual(["query secret"]);
  await expect(read(served({ policies: { policy: PENDING_POLICY } }))).rejects.toThrow(/^not_ready: .*policy/);
});

test("the settings and the shards of a namespace that the caller cannot see are not changed, and errors do not reveal them", async () => {
  const { source, apply, set: setShard, recorded, denied } = served({ policies: { policy: HIDING } });
  source.apply("secret");
  const hidden = "discovery_access_denied: permission denied: namespace: secret is not visible";
  await expect(apply({ namespace: "secret", settings: { count: 5, service: "worker" } })).rejects.toThrow(hidden);
  await expect(setShard({ namespace: "secret", id: 9, change: { case: "weight", value: 2 } })).rejects.toThrow(hidden);
  expect([source.orders, recorded, denied]).toEqual([[], [], ["query secret", "query secret"]]);
});

test("a list of all namespaces leaves out those that the caller cannot see", async () => {
  const { source, list } = ordered({ policies: { policy: HIDING } });
  source.apply("secret");
  const { sets } = await list({});
  expect(sets.map(({ namespace }) => namespace)).toEqual(["orders"]);
});

test.each([
  ["apply", "mesh.admin", "namespace"],
  ["setShard", "mesh.admin", "namespace"],
  ["delete", "mesh.admin", "namespace"],
  ["list", undefined, undefined],
  ["get", undefined, undefined],
  ["watch", undefined, undefined],
  ["diff", undefined, undefined],
  ["history", undefined, undefined],
  ["simulate", "mesh.read", "namespace"],
  ["attach", undefined, undefined],
] as const)("%s requires the role %s, or the owner of the field %s", (name, role, ownerOf) => {
  expect(requiredAccessOf(ShardService.method[name])).toMatchObject({ role, ownerOf });
});

test("the page of a route has the filters of List, and its steady form changes with a shard and not with the store", async () => {
  const { source, get } = ordered();
  const asked = { namespace: "orders", owner: "a", statuses: "active,draining", text: "eu" };
  const before = await get("/control/shards", asked);
  expect(before.page).toMatchObject({ shards: [{ id: 1, status: "SHARD_STATUS_ACTIVE" }], sets: [{ epoch: "2" }], nextPageToken: "" });
  source.status = { ...source.status, ageMs: 5000, revision: 99 };
  const later = await get("/control/shards", asked);
  expect([later.page === before.page, later.steady]).toEqual([false, before.steady]);
  expect(later.page).toMatchObject({ store: { age: "5s" } });
  source.change("orders", [{ id: 1, owner: "a", number: 60, hint: "eu/a" }]);
  expect((await get("/control/shards", asked)).steady).not.toBe(before.steady);
});

test("the route of differences has the two states", async () => {
  const { get } = ordered();
  const { page } = await get("/control/shards/diff", { namespace: "orders", from_epoch: "1", to_epoch: "2", limit: "2" });
  expect(page).toMatchObject({
    shards: [{ id: 0, before: { owner: "" }, after: { owner: "a" } }, { id: 1 }],
    fromEpoch: "1",
    toEpoch: "2",
  });
});

test.each([
  ["/control/shards", { statuses: "active,done" }, 'statuses: must be one of active, draining, paused, disabled, unowned, got "done"'],
  ["/control/shards", { limit: "-1" }, "limit"],
  ["/control/shards", { namespace: "Orders" }, "namespace"],
  ["/control/shards/diff", {}, "namespace"],
  ["/control/shards/diff", { namespace: "orders", from_epoch: "one" }, "from_epoch"],
  ["/control/shards/diff", { namespace: "orders", to_epoch: "-1" }, "to_epoch"],
] as const)("GET %s with %o is refused", async (path, parameters, want) => {
  await expect(ordered().get(path, parameters)).rejects.toThrow(`invalid_argument: ${want}`);
});
