/** Resolve at the service: tiers, levels, turns and loads of what is registered. */
import assert from "node:assert/strict";
import { create } from "@bufbuild/protobuf";
import { afterAll, beforeAll, expect, test } from "vitest";
import { EntryKind, HealthStatus } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import {
  RegisterRequestSchema,
  ResolvePolicy,
  ResolveRequestSchema,
  type ResolveResponse,
} from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { openLog } from "../../../src/lib/log.io.ts";
import { publishSelf } from "../../../src/node/self-entry.io.ts";
import { anonymousCaller } from "../../../src/policy/identity/caller.ts";
import { type DiscoveryInside, startDiscovery } from "../../fakes/discovery-service.ts";

const SILENT = { level: "silent", scopes: new Map(), format: "json" } as const;

let inside: DiscoveryInside;
beforeAll(async () => {
  inside = await startDiscovery();
});
afterAll(() => inside.stop());

function call(method: string, request: unknown): Promise<unknown> {
  const handler = inside.service.handlers[method];
  assert(handler?.kind === "unary");
  const caller = { ...anonymousCaller("local", "127.0.0.1", ["mesh.operate"]), principal: "p", tenant: "" };
  return Promise.resolve(handler.handle(request as never, { caller, time: inside.now(), requestId: "" }));
}

interface Instance {
  readonly zone?: string;
  readonly health?: HealthStatus;
  readonly utilization?: number;
  readonly targets?: readonly { readonly host: string; readonly port: number }[];
}

async function register(name: string, instances: Readonly<Record<string, Instance>>): Promise<void> {
  const entries = Object.entries(instances).map(([instanceId, { zone = "z1", health = HealthStatus.HEALTHY, utilization, targets }]) => ({
    key: { namespace: "svc.market", name, instanceId },
    zone,
    health,
    targets: [...(targets ?? [{ host: "192.0.2.1", port: 80 }])],
    ...(utilization !== undefined && { load: { utilization } }),
  }));
  await call("register", create(RegisterRequestSchema, { entries, staticLease: true }));
}

async function resolve(
  name: string,
  spec: { readonly policy?: ResolvePolicy; readonly hashKey?: string; readonly explain?: boolean; readonly zone?: string } = {},
) {
  const { zone = "z1", ...rest } = spec;
  const request = create(ResolveRequestSchema, { namespace: "svc.market", name, prefer: { zone }, ...rest });
  return (await call("resolve", request)) as ResolveResponse;
}

const idOf = ({ entry }: ResolveResponse) => entry?.key?.instanceId ?? "";

async function ids(name: string, count: number, zone?: string): Promise<string> {
  const found: string[] = [];
  for (let i = 0; i < count; i++) found.push(idOf(await resolve(name, zone === undefined ? {} : { zone })));
  return found.join(" ");
}

test("a name whose entries are all in maintenance is refused, and one that also has a critical entry is not", async () => {
  await register("shop", { a: { health: HealthStatus.MAINTENANCE }, b: { health: HealthStatus.MAINTENANCE } });
  await expect(resolve("shop")).rejects.toThrow("in_maintenance: every entry named shop in svc.market is in maintenance");
  await expect(resolve("shops")).rejects.toThrow("not_found: no entry named shops in svc.market");
  await register("shop", { c: { health: HealthStatus.CRITICAL } });
  for (const policy of [ResolvePolicy.LOAD_AWARE, ResolvePolicy.ROUND_ROBIN, ResolvePolicy.RANDOM]) {
    const answer = await resolve("shop", { policy, explain: true });
    expect([idOf(answer), answer.alternatives.length]).toEqual(["c", 0]);
    expect(answer.explanation.map(({ reason }) => reason)).toEqual(["kept", "maintenance", "maintenance"]);
  }
});

test("what was drained is not chosen either once its node is away", async () => {
  await register("gone", { a: { health: HealthStatus.MAINTENANCE }, b: { health: HealthStatus.CRITICAL } });
  await register("drained", { a: { health: HealthStatus.MAINTENANCE } });
  const { replica } = inside.core;
  replica.setLife(replica.self, "orphaned");
  for (const policy of [ResolvePolicy.LOAD_AWARE, ResolvePolicy.ROUND_ROBIN, ResolvePolicy.RANDOM, ResolvePolicy.HASH]) {
    const answers = [await resolve("gone", { policy, hashKey: "k" }), await resolve("gone", { policy, hashKey: "l" })];
    expect(answers.map((answer) => [idOf(answer), answer.entry?.health, answer.alternatives.length])).toEqual([
      ["b", HealthStatus.ORPHANED, 0],
      ["b", HealthStatus.ORPHANED, 0],
    ]);
  }
  await expect(resolve("drained")).rejects.toThrow("in_maintenance: every entry named drained in svc.market is in maintenance");
  replica.setLife(replica.self, "live");
});

test("callers that ask by turns have turns of their own for each name and place", async () => {
  await register("cart", { a: {}, b: {}, c: { zone: "z2" }, d: { zone: "z2" } });
  await register("tax", { a: {}, b: {} });
  const found: string[] = [];
  for (let i = 0; i < 4; i++)
    found.push(await ids("cart", 1), await ids("cart", 1, "z2"), await ids("tax", 1), await ids("cart", 1, `z${i + 9}`));
  expect([0, 1, 2, 3].map((at) => found.filter((_, i) => i % 4 === at).join(" "))).toEqual(["a b a b", "c d c d", "a b a b", "a b c d"]);
});

test("what a zone that lost half cannot take spills, and the answer says so", async () => {
  await register("mail", {
    a: {},
    b: {},
    c: { health: HealthStatus.CRITICAL },
    d: { health: HealthStatus.MAINTENANCE },
    e: { zone: "z2" },
  });
  const found = (await ids("mail", 20)).split(" ");
  expect(["a", "b", "e"].map((id) => found.filter((one) => one === id).length)).toEqual([7, 7, 6]);
  const { explanation } = await resolve("mail", { explain: true });
  expect(explanation.map(({ key, detail }) => `${key?.instanceId ?? ""}: ${detail}`)).toEqual([
    "a: rank 1: healthy, same zone (level chosen 70 % of the time), load unknown, next in the rotation",
    "b: rank 2: healthy, same zone (level chosen 70 % of the time), load unknown",
    "e: rank 3: healthy, same region (level chosen 30 % of the time), load unknown",
    "c: rank 4: critical, same zone, load unknown",
    "d: in maintenance, so it is never chosen",
  ]);
});

test("a reported load turns turns into draws, and the less loaded is the first alternative", async () => {
  await register("pay", { a: { utilization: 0.9 }, b: { utilization: 0.1 }, c: {} });
  // Both draws of the fake chance fall on the middle of three.
  const { entry, alternatives } = await resolve("pay");
  expect([entry, ...alternatives].map((one) => one?.key?.instanceId)).toEqual(["b", "c", "a"]);
});

test("of a crowded name, a level has its share by all its entries, also by those that no sample has", async () => {
  const near = Object.fromEntries(
    Array.from({ length: 10 }, (_, i) => [`n${i}`, { health: i < 4 ? HealthStatus.HEALTHY : HealthStatus.CRITICAL }]),
  );
  const others = Array.from({ length: 1100 }, (_, i) => [`o${i}`, { zone: "z2" }] as const);
  await register("crowd", { ...near, ...Object.fromEntries(others.slice(0, 550)) });
  await register("crowd", Object.fromEntries(others.slice(550)));
  const found = (await ids("crowd", 50)).split(" ");
  expect(found.filter((id) => id.startsWith("n")).length).toBe(28);
});

test("choices are counted by what decided, and a refusal is none", async () => {
  const counts = () =>
    ["load", "turn", "random", "hash"].map((by) => inside.metrics.counter("discovery_resolve_choices_total", { by } as never).value);
  await register("counted", { a: { utilization: 0.5 }, b: { utilization: 0.5 } });
  await register("unknown", { a: {}, b: {} });
  const before = counts();
  await resolve("counted");
  for (const policy of [ResolvePolicy.LOAD_AWARE, ResolvePolicy.ROUND_ROBIN]) await resolve("unknown", { policy });
  await resolve("counted", { policy: ResolvePolicy.RANDOM });
  await resolve("counted", { policy: ResolvePolicy.HASH, hashKey: "user" });
  await expect(resolve("absent")).rejects.toThrow("absent");
  expect(counts().map((count, i) => count - (before[i] ?? 0))).toEqual([1, 2, 1, 1]);
});

const POLICIES = [ResolvePolicy.LOAD_AWARE, ResolvePolicy.ROUND_ROBIN, ResolvePolicy.RANDOM, ResolvePolicy.HASH];

test("an instance without a target is chosen only if no instance has one, and comes last among the alternatives", async () => {
  await register("bare", { a: { targets: [] }, b: { health: HealthStatus.CRITICAL }, c: { targets: [], health: HealthStatus.CRITICAL } });
  for (const policy of POLICIES)
    for (const hashKey of ["k", "l", "m"]) {
      const { entry, alternatives, target } = await resolve("bare", { policy, hashKey });
      expect([entry, ...alternatives].map((one) => one?.key?.instanceId)).toEqual(["b", "a", "c"]);
      expect(target).toMatchObject({ host: "192.0.2.1" });
    }
  const { explanation } = await resolve("bare", { explain: true });
  expect(explanation[1]).toMatchObject({ detail: "rank 2: healthy, no target, same zone, load unknown" });
  await register("facts", { a: { targets: [], health: HealthStatus.CRITICAL }, b: { targets: [] } });
  const { entry, target } = await resolve("facts");
  expect([entry?.key?.instanceId, target]).toEqual(["b", undefined]);
});

test("only instances with a target are chosen, also for a name with many instances", async () => {
  const bare = (from: number) => Object.fromEntries(Array.from({ length: 800 }, (_, i) => [`b${from + i}`, { targets: [] }]));
  await register("crowd-bare", { ...bare(0), x: {} });
  await register("crowd-bare", bare(800));
  expect(new Set((await ids("crowd-bare", 20)).split(" "))).toEqual(new Set(["x"]));
});

test("a function without a target is called through its node, but not at the node's fabric endpoint", async () => {
  const listeners = { http: { host: "192.0.2.9", port: 8080 }, fabric: { host: "192.0.2.9", port: 7000 } };
  const callers = { metrics: inside.metrics, connectionCount: () => 0, utilization: () => 0 };
  await publishSelf(inside.core, { settings: inside.settings, log: openLog(SILENT), listeners, callers });
  const key = { kind: EntryKind.FUNCTION, namespace: "svc.market", name: "price", instanceId: "1" };
  await call("register", create(RegisterRequestSchema, { entries: [{ key }], staticLease: true }));
  const request = create(ResolveRequestSchema, { kind: EntryKind.FUNCTION, namespace: "svc.market", name: "price" });
  const { entry, target } = (await call("resolve", request)) as ResolveResponse;
  expect([entry?.targets, target]).toMatchObject([[], { host: "192.0.2.9", port: 8080, protocol: "http" }]);
});
