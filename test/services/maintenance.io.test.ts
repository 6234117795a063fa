/** SetMaintenance: who may order it, what is refused before anything changes, and what is answered for entries of other nodes (semantics.md, Maintenance). */
import { create, type MessageInitShape, toBinary, toJson } from "@bufbuild/protobuf";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type EntryKeySchema, EntrySchema } from "../../gen/waymark/catalog/v1/entry_pb.js";
import {
  RegisterRequestSchema,
  SetMaintenanceRequestSchema,
  type SetMaintenanceResponse,
  SetMaintenanceResponseSchema,
} from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { BODY, KIND, keyText } from "../../src/catalog/record/record.ts";
import { StoredRecord } from "../../src/catalog/record/stored-record.ts";
import { NO_TRAITS } from "../../src/catalog/record/traits.ts";
import type { MaintenanceCall, MaintenanceResult } from "../../src/fabric/wire/messages.ts";
import { WaymarkError } from "../../src/lib/errors.ts";
import { anonymousCaller, type Caller } from "../../src/policy/identity/caller.ts";
import type { CallContext, MethodHandler } from "../../src/services/service.ts";
import { type DiscoveryInside, startDiscovery } from "../fakes/discovery-service.ts";
import { nodeRef } from "../fakes/fabric-values.ts";

let inside: DiscoveryInside;
/** What other nodes answer, and what they were asked. */
let answers: Record<string, Omit<MaintenanceResult, "response"> & { readonly response?: Partial<MaintenanceResult["response"]> }>;
const asked: { readonly nodeId: string; readonly maintain: MaintenanceCall }[] = [];
let refusal: WaymarkError | undefined;

beforeEach(async () => {
  inside = await startDiscovery(undefined, false, { maintain, checkWrites });
  answers = {};
  asked.length = 0;
  refusal = undefined;
});
afterEach(async () => inside.stop());

function caller(principal: string, ...roles: string[]): Caller {
  return { ...anonymousCaller("local", "127.0.0.1", roles), principal };
}
const ANN = caller("ann");
const OPERATOR = caller("op", "mesh.operate");

function key(name: string, init: MessageInitShape<typeof EntryKeySchema> = {}) {
  return { namespace: "svc", name, instanceId: "1", ...init };
}

async function register(...names: string[]): Promise<void> {
  const handler = inside.service.handlers["register"] as MethodHandler & { kind: "unary" };
  const entries = names.map((name) => ({ key: key(name) }));
  await handler.handle(create(RegisterRequestSchema, { entries, staticLease: true }) as never, context(ANN));
}

function context(by: Caller): CallContext {
  return { caller: by, time: inside.now(), requestId: "r" };
}

async function maintain(nodeId: string, said: MaintenanceCall): Promise<MaintenanceResult> {
  asked.push({ nodeId, maintain: said });
  const { response, ...rest } = answers[nodeId] ?? {};
  const from = nodeRef(nodeId);
  return { response: response && { kind: "maintain", from, changed: 0, refusals: [], ...response }, ...rest };
}

function checkWrites(): void {
  if (refusal !== undefined) throw refusal;
}

async function set(by: Caller, request: MessageInitShape<typeof SetMaintenanceRequestSchema>): Promise<SetMaintenanceResponse> {
  const handler = inside.service.handlers["setMaintenance"] as MethodHandler & { kind: "unary" };
  return (await handler.handle(create(SetMaintenanceRequestSchema, request) as never, context(by))) as SetMaintenanceResponse;
}

/** Another node's live entry, as replication brings it. */
function hear(nodeId: string, name: string, life: "live" | "orphaned" = "live", namespace = "svc"): void {
  const { replica, identity } = inside.core;
  const origin = replica.origin(nodeId, 1, { clusterId: identity.clusterId, region: identity.region });
  origin.life = life;
  const seq = (origin.through += 1);
  const said = { kind: KIND.SERVICE, namespace, name };
  const text = keyText({ ...said, instanceId: "1", clusterId: identity.clusterId });
  const bytes = toBinary(EntrySchema, create(EntrySchema, { key: { ...said, instanceId: "1", clusterId: identity.clusterId } }));
  const at = replica.slab.put(bytes);
  const sized = { at, sizeBytes: bytes.length, contentBytes: bytes.length };
  const numbers = { seq, hlc: 1, firstSeq: seq, filterSeq: seq, scope: 2, reach: 2, health: 1 } as const;
  replica.install(
    new StoredRecord({
      ...said,
      ...numbers,
      ...sized,
      key: text,
      origin,
      body: BODY.ENTRY,
      traits: NO_TRAITS,
      principal: "ann",
      hasAliases: false,
      hasChecks: false,
    }),
    inside.now(),
  );
}

function json(answer: SetMaintenanceResponse) {
  return toJson(SetMaintenanceResponseSchema, answer);
}

async function refusedWith(act: Promise<unknown>): Promise<{ readonly reason: string; readonly message: string }> {
  try {
    await act;
  } catch (error) {
    if (error instanceof WaymarkError) return { reason: error.reason, message: error.message };
    throw error;
  }
  return { reason: "none", message: "" };
}

test("the principal of an entry and an operator may order it; another caller may not, and then nothing of its request is done", async () => {
  await register("web", "db");
  expect(json(await set(ANN, { keys: [key("web")], on: true, reason: "x" }))).toEqual({ changed: "1" });
  expect(json(await set(OPERATOR, { keys: [key("db")], on: true }))).toEqual({ changed: "1" });
  const stranger = await refusedWith(set(caller("eve"), { keys: [key("nothing"), key("web")] }));
  expect(stranger).toEqual({
    reason: "discovery_access_denied",
    message: expect.stringContaining("keys[1]: is registered by another principal") as string,
  });
  expect(json(await set(ANN, { keys: [key("web"), key("db")], on: true, reason: "x" }))).toEqual({ changed: "1", unchanged: "1" });
});

test("who ordered it: the principal of an entry does not end an operator's order, here and elsewhere", async () => {
  await register("web");
  hear("b", "b1");
  answers = { b: { response: { changed: 1 } } };
  await set(OPERATOR, { keys: [key("web"), key("b1")], on: true });
  const refused = json(await set(ANN, { keys: [key("web"), key("b1")] }));
  expect(refused).toMatchObject({
    changed: "1",
    refusals: [
      { key: { name: "web" }, reason: "REASON_DISCOVERY_ACCESS_DENIED", message: expect.stringContaining("mesh.operate") as string },
    ],
  });
  expect(asked.map(({ maintain: { isOn, principal, isForAll } }) => [isOn, principal, isForAll])).toEqual([
    [true, "op", true],
    [false, "ann", false],
  ]);
  expect(json(await set(OPERATOR, { keys: [key("web")] }))).toEqual({ changed: "1" });
});

test("only an operator may order it for a node, which must be known; entries of the control plane are left out", async () => {
  await register("web", "db");
  const { nodeId } = inside.core.identity;
  expect(await refusedWith(set(ANN, { nodeId, on: true }))).toMatchObject({ reason: "unauthenticated" });
  expect(await refusedWith(set({ ...ANN, isAuthenticated: true }, { nodeId, on: true }))).toMatchObject({
    reason: "discovery_access_denied",
  });
  expect(await refusedWith(set(OPERATOR, { nodeId: "nobody", on: true }))).toMatchObject({ reason: "not_found" });
  expect(json(await set(OPERATOR, { nodeId, on: true }))).toEqual({ changed: "2" });
  hear("c", "far", "orphaned");
  expect(json(await set(OPERATOR, { nodeId: "c", on: true }))).toMatchObject({
    refused: "1",
    refusals: [{ reason: "REASON_ORIGIN_AWAY" }],
  });
  hear("b", "b", "live", "discovery.nodes");
  const plane = await refusedWith(set(OPERATOR, { keys: [{ ...key("b"), namespace: "discovery.nodes" }], on: true }));
  expect(plane).toMatchObject({ reason: "discovery_access_denied", message: expect.stringContaining("control plane") as string });
  expect(json(await set(OPERATOR, { nodeId: "b", on: true }))).toEqual({});
  expect(asked).toEqual([]);
});

const DAY = 86_400_000;
const soon = (ms: number) => {
  const at = Date.now() + ms;
  return { seconds: BigInt(Math.trunc(at / 1000)), nanos: 0 };
};

test.each([
  { what: "neither keys nor a node", request: { on: true }, says: "keys: set either keys or node_id" },
  { what: "both", request: { keys: [key("web")], nodeId: "a", on: true }, says: "keys: set either keys or node_id" },
  { what: "a key twice", request: { keys: [key("web"), key("web")], on: true }, says: "keys[1]: duplicates keys[0]" },
  { what: "a key that is none", request: { keys: [key("a b")], on: true }, says: "keys[0].name" },
  {
    what: "too many keys",
    request: { keys: Array.from({ length: 1001 }, (_, i) => key(`n${i}`)), on: true },
    says: "keys: must have at most 1000 items",
  },
  { what: "an end in the past", request: { keys: [key("web")], on: true, until: soon(-5000) }, says: "until: must be in the future" },
  {
    what: "an end in two years",
    request: { keys: [key("web")], on: true, until: soon(730 * DAY) },
    says: "until: must be at most 366 days",
  },
  {
    what: "an end of a time that never comes",
    request: { keys: [key("web")], on: true, until: { seconds: 2n ** 62n, nanos: 0 } },
    says: "until: must be at most",
  },
  { what: "a reason to end it", request: { keys: [key("web")], reason: "x" }, says: "reason: must be empty when on is false" },
  { what: "a time to end it", request: { keys: [key("web")], until: soon(5000) }, says: "until: must be absent when on is false" },
])("refused: $what", async ({ request, says }) => {
  await register("web");
  const { reason, message } = await refusedWith(set(OPERATOR, request));
  expect([reason, message]).toEqual(["invalid_argument", expect.stringContaining(says)]);
  expect(json(await set(ANN, { keys: [key("web")] }))).toEqual({ unchanged: "1" });
});

test("entries of several nodes: each node is asked once for its keys, and each key is answered", async () => {
  await register("here");
  for (const name of ["b1", "b2"]) hear("b", name);
  hear("old", "old1");
  hear("mute", "mute1");
  hear("odd", "odd1");
  hear("away", "away1", "orphaned");
  answers = {
    b: {
      response: {
        changed: 1,
        refusals: [
          { index: 1, reason: "discovery_access_denied", detail: "is registered by another principal" },
          { index: 9, reason: "x", detail: "" },
        ],
      },
    },
    old: { refusal: "it is busy" },
    mute: {},
    odd: { response: { changed: 7, refusals: [{ index: 0, reason: "a_word_of_later", detail: "no" }] } },
  };
  const names = ["b1", "away1", "here", "b2", "none", "old1", "mute1", "odd1"];
  const answer = json(await set(ANN, { keys: names.map((name) => key(name)), on: true, reason: "r", until: soon(60_000) }));
  const refusals = (answer as { refusals: { key: { name: string }; reason: string; retryAfter?: string }[] }).refusals;
  expect(answer).toMatchObject({ changed: "2", refused: "6" });
  expect(refusals.map(({ key: { name }, reason, retryAfter }) => [name, reason.replace("REASON_", ""), retryAfter])).toEqual([
    ["away1", "ORIGIN_AWAY", "5s"],
    ["b2", "DISCOVERY_ACCESS_DENIED", undefined],
    ["none", "NOT_FOUND", undefined],
    ["old1", "ORIGIN_AWAY", "5s"],
    ["mute1", "ORIGIN_AWAY", "5s"],
    ["odd1", "INTERNAL", undefined],
  ]);
  expect(
    asked.map(({ nodeId, maintain: { keys, isOn, reason, principal, isForAll } }) => [
      nodeId,
      keys.map(({ name }) => name),
      isOn,
      reason,
      principal,
      isForAll,
    ]),
  ).toEqual([
    ["b", ["b1", "b2"], true, "r", "ann", false],
    ["old", ["old1"], true, "r", "ann", false],
    ["mute", ["mute1"], true, "r", "ann", false],
    ["odd", ["odd1"], true, "r", "ann", false],
  ]);
});

test("while the called node takes no writes nothing is asked of others", async () => {
  hear("b", "b1");
  refusal = new WaymarkError("clock_skew", "wrong clock");
  expect(await refusedWith(set(ANN, { keys: [key("b1")], on: true }))).toMatchObject({ reason: "clock_skew" });
  expect(asked).toEqual([]);
});
