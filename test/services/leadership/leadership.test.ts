/** LeadershipService over the real leadership machine: lists, routes, and the operations of operators. */
import { create, type DescMessage, type MessageInitShape } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import {
  LeaderScopeKind,
  LeadershipService,
  LeadershipServiceListRequestSchema,
  type LeadershipServiceListResponse,
  LeadershipServiceRaiseStoreEpochRequestSchema,
  type LeadershipServiceRaiseStoreEpochResponse,
  LeadershipServiceResignRequestSchema,
  type LeadershipServiceResignResponse,
  StoreKind,
} from "../../../gen/waymark/control/v1/leadership_pb.js";
import { LEADERS } from "../../../src/control/leadership/records.ts";
import { anonymousCaller } from "../../../src/policy/identity/caller.ts";
import { requestCheckOf, requiredAccessOf } from "../../../src/services/contract.ts";
import { type LeadershipOperation, leadershipService } from "../../../src/services/leadership/leadership.ts";
import type { RouteParameters } from "../../../src/services/service.ts";
import { DrivenLeadership, DrivenStore } from "../../fakes/driven-leadership.ts";
import { OPEN_GATE } from "../../fakes/peer-operations.ts";

const CALLER = anonymousCaller("c1", "127.0.0.1", ["mesh.admin"]);
const CLEANER = "custom/orders/cleaner";
const SCOPES = ["custom/orders2/a", CLEANER, "custom/orders/index", "global-control", "shard/orders/7"];

function served(scopes: readonly string[] = SCOPES) {
  const store = new DrivenStore();
  const node = new DrivenLeadership(store, "n1", scopes);
  const recorded: LeadershipOperation[] = [];
  const service = leadershipService({
    source: node,
    servedBy: "n1",
    leaseMs: 3000,
    ownScopes: [],
    gate: OPEN_GATE,
    checkNamespace: () => {},
    maxSubscriptions: 2,
    tick: () => () => {},
    onOperation: (_caller, operation) => recorded.push(operation),
  });
  const context = () => ({ caller: CALLER, time: store.time, requestId: "r" });
  const call = async <D extends DescMessage>(name: string, schema: D, init: MessageInitShape<D>): Promise<unknown> => {
    const handler = service.handlers[name];
    if (handler?.kind !== "unary") throw new Error(`${name} is not unary`);
    const request = create(schema, init);
    requestCheckOf(schema)(request);
    return handler.handle(request as never, context());
  };
  return {
    store,
    node,
    recorded,
    list: (init: MessageInitShape<typeof LeadershipServiceListRequestSchema> = {}) =>
      call("list", LeadershipServiceListRequestSchema, init) as Promise<LeadershipServiceListResponse>,
    resign: (scope: string, reason = "host maintenance") =>
      call("resign", LeadershipServiceResignRequestSchema, { scope, reason }) as Promise<LeadershipServiceResignResponse>,
    raise: (reason = "restored") =>
      call("raiseStoreEpoch", LeadershipServiceRaiseStoreEpochRequestSchema, {
        reason,
      }) as Promise<LeadershipServiceRaiseStoreEpochResponse>,
    get: async (path: string, parameters: RouteParameters = {}) => {
      const answer = await service.routes?.find((each) => each.path === path)?.answer?.(parameters, context());
      if (answer?.kind !== "page") throw new Error(`${path} has no page`);
      return { page: answer.page as Record<string, unknown>, steady: JSON.stringify(answer.steady) };
    },
  };
}

test.each([
  { prefix: "", want: SCOPES.toSorted() },
  { prefix: "custom", want: [CLEANER, "custom/orders/index", "custom/orders2/a"] },
  { prefix: "custom/orders", want: [CLEANER, "custom/orders/index"] },
  { prefix: CLEANER, want: [CLEANER] },
  { prefix: "shard/billing", want: [] },
])("a list of the prefix $prefix has whole parts of scopes, in order", async ({ prefix, want }) => {
  const { leaders } = await served().list({ scopePrefix: prefix });
  expect(leaders.map(({ scope }) => scope)).toEqual(want);
});

test.each(["cutsom", "custom/", "custom/ord ers", "global-control/x", "shard/orders/7/8"])(
  "%s is neither a scope nor a prefix",
  async (scope) => {
    const on = served();
    await expect(on.list({ scopePrefix: scope })).rejects.toThrow(
      /invalid_argument: scope_prefix: .* must be global-control.*, or the first parts of a scope/,
    );
    await expect(on.get("/control/leaders", { scope })).rejects.toThrow(/invalid_argument: scope: /);
    await expect(on.resign(scope)).rejects.toThrow(/invalid_argument: scope: /);
  },
);

test("pages join to the list, and only the first has the sessions", async () => {
  const on = served();
  const first = await on.list({ limit: 2 });
  const second = await on.list({ limit: 2, pageToken: first.nextPageToken });
  const third = await on.list({ limit: 2, pageToken: second.nextPageToken });
  expect([first, second, third].flatMap(({ leaders }) => leaders.map(({ scope }) => scope))).toEqual(SCOPES.toSorted());
  expect([first, second, third].map(({ sessions, store, nextPageToken }) => [sessions.length, store?.kind, nextPageToken === ""])).toEqual([
    [1, StoreKind.ETCD, false],
    [0, StoreKind.ETCD, false],
    [0, StoreKind.ETCD, true],
  ]);
  await expect(on.list({ scopePrefix: "custom", pageToken: first.nextPageToken })).rejects.toThrow("page_token");
});

test("a leader is listed with its holder, its fence, and when it can lose the scope", async () => {
  const on = served([CLEANER]);
  const { leaders, sessions, store, servedBy } = await on.list();
  const { machine } = on.node;
  const { storeEpoch, number } = machine.held(CLEANER, on.store.time)?.leader.fence ?? expect.fail("the node leads");
  expect(leaders).toMatchObject([
    {
      scope: CLEANER,
      kind: LeaderScopeKind.CUSTOM,
      holderId: "n1",
      nodeId: "n1",
      term: 1n,
      fence: { failoverVersion: 0n, storeEpoch: BigInt(storeEpoch), number: BigInt(number) },
      reason: "the scope had no leader",
      expiresAt: { seconds: 1_760_000_003n },
    },
  ]);
  expect(sessions).toMatchObject([{ name: "n1/1-b", nodeId: "n1", lease: { seconds: 3n }, renewedAt: { seconds: 1_760_000_001n } }]);
  expect(store).toMatchObject({ id: machine.store?.id, epoch: BigInt(storeEpoch), fault: "" });
  expect(servedBy).toBe("n1");
});

test("a record that cannot be read, and one that no leader holds, are listed as such", async () => {
  const on = served([]);
  on.store.lead([CLEANER, { session: "", reason: "the node stopped", issuedWallMs: Number.MAX_SAFE_INTEGER }]);
  on.store.transact([], [{ key: `${LEADERS}shard/orders/7`, value: Buffer.from("?") }]);
  on.store.transact([], [{ key: `${LEADERS}of another program`, value: Buffer.from("?") }]);
  const { leaders } = await on.list();
  expect(leaders.map(({ scope, kind, holderId, reason, fence }) => [scope, kind, holderId, reason.slice(0, 10), fence?.number])).toEqual([
    [CLEANER, LeaderScopeKind.CUSTOM, "", "the node s", 40n],
    ["of another program", LeaderScopeKind.UNSPECIFIED, "", "the record", undefined],
    ["shard/orders/7", LeaderScopeKind.SHARD, "", "the record", undefined],
  ]);
  expect((await on.get("/control/leaders")).page["leaders"]).toMatchObject([{ issuedAt: "9999-12-31T23:59:59.999Z" }, {}, {}]);
});

test("while the store is away, a list has the known leaders and their age, and no sessions", async () => {
  const on = served([CLEANER]);
  on.store.isAway = true;
  // The store is not known to be away before a request has failed.
  expect(await on.list()).toMatchObject({ leaders: [{ scope: CLEANER }], sessions: [], store: { age: { seconds: 0n, nanos: 0 } } });
  on.store.pass(2000);
  expect(await on.list()).toMatchObject({ leaders: [{ scope: CLEANER }], sessions: [], store: { age: { seconds: 2n } } });
  on.node.sessions = () => Promise.reject(new Error("asked a store that is known to be away"));
  expect((await on.get("/control/lease-health")).page).toMatchObject({ sessions: [], store: { kind: "STORE_KIND_ETCD", age: "2s" } });
});

test("the steady form of a page changes with a leader, and not with renewals", async () => {
  const on = served([CLEANER, "global-control"]);
  const pages = () => Promise.all([on.get("/control/leaders", { scope: "custom" }), on.get("/control/lease-health")]);
  const [leaders, health] = await pages();
  expect(leaders.page).toMatchObject({ leaders: [{ scope: CLEANER, holderId: "n1" }], sessions: [{}], nextPageToken: "", servedBy: "n1" });
  expect(Object.keys(health.page).toSorted()).toEqual(["generatedAt", "servedBy", "sessions", "store"]);
  on.store.pass(5000);
  const [laterLeaders, laterHealth] = await pages();
  expect(laterLeaders.page).not.toEqual(leaders.page);
  expect([laterLeaders.steady, laterHealth.steady]).toEqual([leaders.steady, health.steady]);
  await on.resign(CLEANER);
  on.store.pass(5000);
  const [changed, unchanged] = await pages();
  expect([changed.steady === leaders.steady, unchanged.steady]).toEqual([false, health.steady]);
});

test("a leader that is asked to resign is replaced, and the operation is recorded", async () => {
  const on = served([CLEANER]);
  const { leader } = await on.resign(CLEANER);
  expect(leader).toMatchObject({ scope: CLEANER, holderId: "", reason: "host maintenance", term: 1n });
  expect(on.recorded).toEqual([{ action: "mesh.resign_leader", scope: CLEANER, detail: "host maintenance", requestId: "r" }]);
  on.store.pass(3000);
  expect((await on.list()).leaders).toMatchObject([{ holderId: "n1", term: 2n, reason: "n1 gave the scope up: host maintenance" }]);
});

test("the leader of another node that is asked to resign is shown with the request", async () => {
  const on = served([]);
  on.store.lead([CLEANER, {}]);
  expect((await on.resign(CLEANER)).leader).toMatchObject({ holderId: "n9", resignReason: "host maintenance" });
});

test("raising the epoch answers with the new one, and is recorded", async () => {
  const on = served([CLEANER]);
  const { epoch: before = 0n } = (await on.list()).store ?? {};
  const { epoch } = await on.raise();
  expect(epoch).toBe(before + 1n);
  expect((await on.list()).leaders).toMatchObject([{ term: 2n, fence: { storeEpoch: epoch } }]);
  expect(on.recorded).toEqual([{ action: "mesh.raise_store_epoch", scope: "", detail: "restored", requestId: "r" }]);
});

test("a refused operation is not recorded, and one whose outcome is unknown is", async () => {
  const on = served([CLEANER]);
  await expect(on.resign("custom/orders/none")).rejects.toThrow(/^no_leader: /);
  expect(on.recorded).toEqual([]);
  on.store.isAway = true;
  await expect(on.resign(CLEANER)).rejects.toThrow(/^store_unavailable: /);
  await expect(on.raise()).rejects.toThrow(/^store_unavailable: /);
  expect(on.recorded.map(({ detail }) => detail)).toEqual(["host maintenance; the outcome is unknown", "restored; the outcome is unknown"]);
});

test.each([
  ["list", "mesh.read"],
  ["subscribe", "mesh.read"],
  ["resign", "mesh.operate"],
  ["raiseStoreEpoch", "mesh.admin"],
] as const)("%s requires the role %s", (name, role) => {
  expect(requiredAccessOf(LeadershipService.method[name]).role).toBe(role);
});

test.each(["", "x".repeat(257)])("an operation needs a reason of 1 to 256 characters", async (reason) => {
  const on = served();
  await expect(on.resign(CLEANER, reason)).rejects.toThrow("invalid_argument: reason");
  await expect(on.raise(reason)).rejects.toThrow("invalid_argument: reason");
});
