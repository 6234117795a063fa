/** What a node answers resolvers: everything but LOCAL entries, whatever viewers may see, to those that have the role. */
import assert from "node:assert/strict";
import { create, fromBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { afterEach, beforeEach, expect, test } from "vitest";
import { EntryKind, Scope } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { Snapshot, Source } from "../../../gen/waymark/catalog/v1/watch_pb.js";
import {
  CatalogQueryRequestSchema,
  type CatalogQueryResponse,
  CatalogQueryResponseSchema,
  CatalogWatchRequestSchema,
  type CatalogWatchResponse,
  CatalogWatchResponseSchema,
  RegisterRequestSchema,
} from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { runThrough } from "../../../src/lib/machine.ts";
import type { Caller } from "../../../src/policy/identity/caller.ts";
import type { NamespaceRule } from "../../../src/policy/set/rules.ts";
import type { StreamSource } from "../../../src/services/service.ts";
import { type DiscoveryInside, startDiscovery } from "../../fakes/discovery-service.ts";
import { rule, set } from "../../fakes/policies.ts";

const RESOLVER: Caller = {
  principal: "r",
  tenant: "",
  cluster: "local",
  roles: ["mesh.resolve"],
  isAuthenticated: true,
  address: "127.0.0.1",
};
const ADMIN: Caller = { ...RESOLVER, principal: "ann", roles: ["mesh.admin"] };

let inside: DiscoveryInside;
beforeEach(async () => {
  inside = await startDiscovery();
});
afterEach(() => inside.stop());

async function register(namespace: string, name: string, scope = Scope.ZONE): Promise<void> {
  const handler = inside.service.handlers["register"];
  assert(handler?.kind === "unary");
  const key = { kind: EntryKind.SERVICE, namespace, name, instanceId: "1" };
  const request = create(RegisterRequestSchema, {
    entries: [{ key, scope, targets: [{ host: "192.0.2.1", port: 1 }] }],
    staticLease: true,
  });
  await handler.handle(request as never, { caller: ADMIN, time: inside.now(), requestId: "" });
}

/** Hides `svc.hidden` from everybody but one tenant. */
function hide(): Promise<void> {
  return apply([rule("svc.hidden", { visibilityTenants: ["blue"] })]);
}

async function apply(rules: readonly NamespaceRule[]): Promise<void> {
  const { core } = inside;
  const terms = { expectedNumber: 0, stage: undefined, principal: "ann", reason: "", changeTicket: "" };
  core.policies.commit(runThrough(core.policies.stamped(set(rules, { defaultAllow: true }), terms, inside.now().wallMs)), 100);
  await core.switchPolicy();
}

async function query(
  caller: Caller,
  request: MessageInitShape<typeof CatalogQueryRequestSchema> = { forResolver: true },
): Promise<CatalogQueryResponse> {
  const handler = inside.service.handlers["catalogQuery"];
  assert(handler?.kind === "unary");
  const answer = await handler.handle(create(CatalogQueryRequestSchema, request) as never, { caller, time: inside.now(), requestId: "" });
  assert(answer instanceof Uint8Array);
  return fromBinary(CatalogQueryResponseSchema, answer);
}

function watch(caller: Caller, request: MessageInitShape<typeof CatalogWatchRequestSchema>): Stream {
  const handler = inside.service.handlers["catalogWatch"];
  assert(handler?.kind === "server_streaming");
  return new Stream(handler.open(create(CatalogWatchRequestSchema, request) as never, { caller, time: inside.now(), requestId: "" }));
}

function follow(namespacePrefixes: readonly string[], cursor = "", withDigest = false): Stream {
  return watch(RESOLVER, { forResolver: true, namespacePrefixes: [...namespacePrefixes], cursor, withDigest });
}

class Stream {
  readonly source: StreamSource;

  constructor(source: StreamSource) {
    this.source = source;
    source.attach(
      () => undefined,
      () => undefined,
    );
  }

  take(): readonly CatalogWatchResponse[] {
    const messages: CatalogWatchResponse[] = [];
    for (let bytes = this.source.pull(inside.now()); bytes !== undefined; bytes = this.source.pull(inside.now()))
      messages.push(fromBinary(CatalogWatchResponseSchema, bytes));
    return messages;
  }
}

function namesIn(messages: readonly CatalogWatchResponse[]): readonly string[] {
  return messages.flatMap(({ deltas }) =>
    deltas.map(({ payload }) =>
      payload.case === "entry" ? (payload.value.key?.name ?? "") : payload.case === "removed" ? `-${payload.value.name}` : "?",
    ),
  );
}

test.each([
  { what: "without a credential", caller: { roles: [], isAuthenticated: false }, reason: "unauthenticated" },
  { what: "with another role", caller: { roles: ["mesh.admin"] }, reason: "discovery_access_denied" },
  { what: "over an open connection from elsewhere", caller: { address: "192.0.2.9" }, reason: "discovery_access_denied" },
])("a caller $what is refused", async ({ caller, reason }) => {
  const by = { ...RESOLVER, ...caller };
  await expect(query(by)).rejects.toMatchObject({ reason });
  expect(() => watch(by, { forResolver: true, namespacePrefixes: [""] })).toThrow(expect.objectContaining({ reason }) as Error);
});

test.each<{ readonly request: MessageInitShape<typeof CatalogWatchRequestSchema>; readonly field: string }>([
  { request: { forResolver: true }, field: "namespace_prefixes" },
  { request: { forResolver: true, namespacePrefixes: ["svc"], namespace: "svc" }, field: "for_resolver" },
  { request: { forResolver: true, namespacePrefixes: ["svc"], names: ["web"] }, field: "for_resolver" },
  { request: { forResolver: true, namespacePrefixes: ["svc"], namesOnly: true }, field: "for_resolver" },
  { request: { forResolver: true, namespacePrefixes: ["svc"], viewer: { tenantId: "blue" } }, field: "viewer" },
  { request: { namespacePrefixes: ["svc"] }, field: "namespace_prefixes" },
  { request: { via: ["r1"] }, field: "via" },
])("a watch with $request is refused with the field $field", ({ request, field }) => {
  expect(() => watch(RESOLVER, request)).toThrow(`invalid_argument: ${field}: `);
});

test("a resolver is answered with what policy hides from viewers, and each answer names the policy", async () => {
  await register("svc.hidden", "secret");
  await register("svc.open", "web");
  expect((await query(RESOLVER)).policyEpoch).toBe("none");
  await hide();
  const answer = await query(RESOLVER);
  const epoch = inside.core.policies.policy.epoch;
  expect(answer).toMatchObject({ policyEpoch: epoch, source: Source.REPLICA });
  expect(answer.items.map(({ key }) => key?.name)).toEqual(["secret", "web"]);
  expect((await query(RESOLVER, {})).items.map(({ key }) => key?.name)).toEqual(["web"]);
  const messages = follow(["svc"]).take();
  expect(namesIn(messages)).toEqual(["secret", "web"]);
  expect(messages.map(({ policyEpoch }) => policyEpoch)).toEqual(messages.map(() => epoch));
  expect(messages.at(-1)).toMatchObject({ snapshot: Snapshot.END, source: Source.REPLICA, via: [] });
});

test("what an owner's rule begins to hide is removed, and what it hides already is not spoken of", async () => {
  await register("svc.owned", "stray", Scope.REGION);
  const stream = follow(["svc"]);
  expect(namesIn(stream.take())).toEqual(["stray"]);
  await apply([rule("svc.owned", { owners: ["elsewhere"] })]);
  expect(namesIn(stream.take())).toEqual(["-stray"]);
  await register("svc.owned", "other", Scope.REGION).catch(() => undefined);
  expect(namesIn(stream.take())).toEqual([]);
});

test("LOCAL entries are left out of pages, watches and digests of resolvers", async () => {
  await register("svc", "near", Scope.LOCAL);
  await register("svc", "web");
  expect((await query(RESOLVER)).items.map(({ key }) => key?.name)).toEqual(["web"]);
  const stream = follow([""], "", true);
  const [end] = stream.take().slice(-1);
  expect(end?.count).toBe(1n);
  const viewers = watch(ADMIN, { namespacePrefix: "svc", withDigest: true }).take().at(-1);
  expect(viewers?.count).toBe(2n);
  await register("svc", "web", Scope.LOCAL);
  expect(namesIn(stream.take())).toEqual(["-web"]);
  await register("svc", "near");
  expect(namesIn(stream.take())).toEqual(["near"]);
  expect(follow([""], "", true).take().at(-1)).toMatchObject({ count: 1n });
});

test("a resolver is told nothing of what is LOCAL all the time, not even that it is gone", async () => {
  // With one LOCAL entry there from the start, cursors before and after the next one lead to changes, not to snapshots.
  await register("svc", "near", Scope.LOCAL);
  await register("svc", "web");
  const stream = follow(["svc"]);
  const { cursor = "", portableCursor = "" } = stream.take().at(-1) ?? {};
  await register("svc", "secret", Scope.LOCAL);
  await register("svc", "near", Scope.LOCAL);
  await register("svc", "api");
  expect(namesIn(stream.take())).toEqual(["api"]);
  for (const from of [cursor, portableCursor]) {
    const messages = follow(["svc"], from).take();
    expect([namesIn(messages), messages[0]?.snapshot]).toEqual([["api"], Snapshot.UNSPECIFIED]);
  }
});

test("a cursor is good for any list of namespaces: what is new in the list is the reader's to fetch", async () => {
  await register("svc.a", "one");
  await register("svc.b", "two");
  const first = follow(["svc.a"]);
  const cursor = first.take().at(-1)?.cursor ?? "";
  expect(namesIn(follow(["svc.a"], cursor).take())).toEqual([]);
  await register("svc.a", "three");
  await register("svc.b", "four");
  await register("svc.c", "five");
  expect(namesIn(first.take())).toEqual(["three"]);
  expect(namesIn(follow(["svc.b", "svc.a"], cursor).take())).toEqual(["three", "four"]);
  // The cursor of an answer has a filter behind it, and none that a watch could name.
  const { cursor: answered } = await query(RESOLVER, { forResolver: true, namespace: "svc.a" });
  expect(namesIn(follow(["svc.a"], answered).take())).toEqual(["one", "three"]);
});

test.each([
  { before: ["svc.a"], after: ["svc.a", "svc.b"] },
  { before: ["svc.a", "svc.b"], after: ["svc.a"] },
])("from $before to $after a cursor leads to changes, though a namespace has LOCAL entries", async ({ before, after }) => {
  await register("svc.a", "one");
  await register("svc.b", "near", Scope.LOCAL);
  const { portableCursor = "" } = follow(before).take().at(-1) ?? {};
  await register("svc.a", "two");
  const messages = follow(after, portableCursor).take();
  expect([namesIn(messages), messages[0]?.snapshot]).toEqual([["two"], Snapshot.UNSPECIFIED]);
});

test("a change wakes a resolver once that follows many namespaces, and not the one that follows others", async () => {
  const woken: string[] = [];
  for (const [name, prefixes] of Object.entries({ both: ["svc.a", "svc.b"], other: ["other"], all: [""] })) {
    const { source } = follow(prefixes);
    source.attach(
      () => void woken.push(name),
      () => undefined,
    );
    while (source.pull(inside.now()) !== undefined);
  }
  await register("svc.a.x", "one");
  const { fanout } = inside.core;
  for (let watcher = fanout.take(); watcher !== undefined; watcher = fanout.take()) watcher.wake();
  expect(new Set(woken)).toEqual(new Set(["both", "all"]));
});

test.each([
  ["a resolver", { forResolver: true, namespacePrefixes: ["svc"] }],
  ["a client", { namespacePrefix: "svc" }],
])("%s goes on from its cursor at a node that just learned its first policy, and is not sent everything again", async (_, request) => {
  await register("svc.shown", "web");
  const first = watch(RESOLVER, request).take();
  const cursor = first.at(-1)?.portableCursor ?? "";
  expect([namesIn(first), cursor]).toEqual([["web"], expect.stringMatching(/./)]);
  const { policies } = inside.core;
  // After a start nothing is known until a peer answers; then the watches that are open are told, which takes a moment.
  policies.isAwaiting = true;
  await inside.core.switchPolicy();
  expect(() => watch(RESOLVER, { ...request, cursor })).toThrow("not_ready");
  policies.isAwaiting = false;
  expect(() => watch(RESOLVER, { ...request, cursor })).toThrow("not_ready");
  await inside.core.switchPolicy();
  await register("svc.shown", "api");
  const again = watch(RESOLVER, { ...request, cursor }).take();
  expect([namesIn(again), again.map(({ snapshot }) => snapshot)]).toEqual([["api"], again.map(() => Snapshot.UNSPECIFIED)]);
});
