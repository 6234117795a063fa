/** ResolverService of a node: a name is looked up as by a query, and there is no cache that the other calls could be about. */
import { create, fromBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { afterEach, beforeEach, expect, test } from "vitest";
import { EntryKind } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { Snapshot, Source } from "../../gen/waymark/catalog/v1/watch_pb.js";
import {
  CatalogQueryRequestSchema,
  CatalogQueryResponseSchema,
  CatalogWatchRequestSchema,
  type CatalogWatchResponse,
  CatalogWatchResponseSchema,
  RegisterRequestSchema,
} from "../../gen/waymark/discovery/v1/discovery_pb.js";
import {
  ResolveRequestSchema,
  type ResolveResponse,
  ResolveResponseSchema,
  ResolverService,
} from "../../gen/waymark/resolver/v1/resolver_pb.js";
import { assert } from "../../src/lib/errors.ts";
import { runThrough } from "../../src/lib/machine.ts";
import type { Caller } from "../../src/policy/identity/caller.ts";
import { SOURCE } from "../../src/services/discovery/answer-age.ts";
import type { CallContext } from "../../src/services/service.ts";
import { NEW } from "../fakes/ages.ts";
import { type DiscoveryInside, startDiscovery } from "../fakes/discovery-service.ts";
import { rule, set } from "../fakes/policies.ts";

const CALLER: Caller = {
  principal: "p",
  tenant: "green",
  cluster: "local",
  roles: ["mesh.admin"],
  isAuthenticated: true,
  address: "127.0.0.1",
};
const WEB = { namespace: "svc", name: "web" };

let inside: DiscoveryInside;
beforeEach(async () => {
  inside = await startDiscovery(["waymark"], true);
  for (const key of ["1", "2", "3"].map((instanceId) => ({ kind: EntryKind.SERVICE, ...WEB, instanceId }))) await register(key);
  await register({ kind: EntryKind.FUNCTION, ...WEB, instanceId: "4" });
  await register({ kind: EntryKind.SERVICE, namespace: "svc", name: "webb", instanceId: "5" });
});
afterEach(() => inside.stop());

const context = () => ({ caller: CALLER, time: inside.now(), requestId: "" });

async function register(key: { readonly kind: EntryKind; readonly namespace: string; readonly name: string; readonly instanceId: string }) {
  const handler = inside.service.handlers["register"];
  assert(handler?.kind === "unary", "a unary method");
  await handler.handle(create(RegisterRequestSchema, { entries: [{ key }], staticLease: true }) as never, context());
}

/** What a call has beside its request. */
type By = Partial<Pick<CallContext, "age" | "caller">>;

async function resolve(request: MessageInitShape<typeof ResolveRequestSchema> = WEB, by: By = {}): Promise<ResolveResponse> {
  const handler = inside.resolver.handlers["resolve"];
  assert(handler?.kind === "unary", "a unary method");
  const answer = await handler.handle(create(ResolveRequestSchema, request) as never, { ...context(), ...by });
  assert(answer instanceof Uint8Array, "an encoded answer");
  return fromBinary(ResolveResponseSchema, answer);
}

async function query(request: MessageInitShape<typeof CatalogQueryRequestSchema>, by: By = {}) {
  const handler = inside.service.handlers["catalogQuery"];
  assert(handler?.kind === "unary", "a unary method");
  const answer = await handler.handle(create(CatalogQueryRequestSchema, request) as never, { ...context(), ...by });
  assert(answer instanceof Uint8Array, "an encoded answer");
  return fromBinary(CatalogQueryResponseSchema, answer);
}

/** The first message of a watch. Undefined if there is nothing to tell. */
function watched(request: MessageInitShape<typeof CatalogWatchRequestSchema>): CatalogWatchResponse | undefined {
  const handler = inside.service.handlers["catalogWatch"];
  assert(handler?.kind === "server_streaming", "a stream");
  const bytes = handler.open(create(CatalogWatchRequestSchema, request) as never, context()).pull(inside.now());
  return bytes && fromBinary(CatalogWatchResponseSchema, bytes);
}

const idsIn = ({ entries }: ResolveResponse) => entries.map(({ key }) => key?.instanceId);

test("a name has the entries that a query of it has, of the kind SERVICE unless another is asked for", async () => {
  const { nodeId } = inside.core.identity;
  const answer = await resolve();
  expect(idsIn(answer)).toEqual(["1", "2", "3"]);
  expect(answer).toMatchObject({ stale: false, age: { seconds: 0n }, source: Source.REPLICA, servedBy: nodeId, nextPageToken: "" });
  expect(answer.entries).toEqual((await query({ namespace: "svc", names: ["web"], kinds: [EntryKind.SERVICE] })).items);
  expect(idsIn(await resolve({ ...WEB, kind: EntryKind.FUNCTION }))).toEqual(["4"]);
  expect(idsIn(await resolve({ namespace: "svc", name: "absent" }))).toEqual([]);
});

test("pages follow each other; only the first has a cursor, and a watch goes on from it", async () => {
  const first = await resolve({ ...WEB, limit: 2 });
  const second = await resolve({ ...WEB, limit: 2, pageToken: first.nextPageToken });
  expect([idsIn(first), idsIn(second), second.nextPageToken, second.cursor]).toEqual([["1", "2"], ["3"], "", ""]);
  await expect(resolve({ namespace: "svc", name: "webb", pageToken: first.nextPageToken })).rejects.toMatchObject({
    reason: "invalid_argument",
  });
  await register({ kind: EntryKind.SERVICE, ...WEB, instanceId: "6" });
  const message = watched({ namespace: "svc", names: ["web"], kinds: [EntryKind.SERVICE], cursor: first.cursor });
  expect([message?.snapshot, message?.deltas.map(({ payload }) => payload.case === "entry" && payload.value.key?.instanceId)]).toEqual([
    Snapshot.UNSPECIFIED,
    ["6"],
  ]);
});

test("no watch goes on from an answer that was fetched, also where that says that nothing exists", async () => {
  const fetched = { age: { ...NEW, source: SOURCE.FETCHED } };
  const name = { namespace: "svc", name: "absent" };
  const request = { namespace: "svc", names: ["absent"], kinds: [EntryKind.SERVICE] };
  const cursors = [(await resolve(name, fetched)).cursor, (await query(request, fetched)).cursor];
  expect(cursors.map((cursor) => watched({ ...request, cursor })?.snapshot)).toEqual([Snapshot.BEGIN, Snapshot.BEGIN]);
});

test("a name that the policy hides is as one that does not exist, and viewers and ages are judged as in a query", async () => {
  const { core } = inside;
  const terms = { expectedNumber: 0, stage: undefined, principal: "ann", reason: "", changeTicket: "" };
  const rules = set([rule("svc", { visibilityTenants: ["blue"] })], { defaultAllow: true });
  core.policies.commit(runThrough(core.policies.stamped(rules, terms, inside.now().wallMs)), 100);
  await core.switchPolicy();
  expect(idsIn(await resolve())).toEqual([]);
  // Only who shows no credential may ask as another, where the setting allows it.
  const asBlue = { ...WEB, viewer: { tenantId: "blue" } };
  expect(idsIn(await resolve(asBlue))).toEqual([]);
  expect(idsIn(await resolve(asBlue, { caller: { ...CALLER, isAuthenticated: false } }))).toEqual(["1", "2", "3"]);
  inside.freshness.ageMs = 61_000;
  expect(await resolve()).toMatchObject({ stale: true, age: { seconds: 61n } });
  await expect(resolve({ ...WEB, maxStaleness: { seconds: 60n } })).rejects.toMatchObject({ reason: "too_stale" });
});

test.each(ResolverService.methods.map(({ localName }) => localName).filter((name) => name !== "resolve"))("%s needs a cache", (name) => {
  const handler = inside.resolver.handlers[name];
  assert(handler?.kind === "unary", "a unary method");
  expect(() => handler.handle({} as never, context())).toThrow("resolver_disabled: this server is a node");
});
