/**
 * What attacks on a resolver found: ways to learn what policy hides, to be told that something is absent, and to cut it off from its servers.
 *
 * @module-tag night
 */
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, expect, test } from "vitest";
import { EntryKind, Scope } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { Snapshot, Source } from "../../gen/waymark/catalog/v1/watch_pb.js";
import { DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { PolicyService } from "../../gen/waymark/policy/v1/policy_pb.js";
import { ResolverService } from "../../gen/waymark/resolver/v1/resolver_pb.js";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

const HOME = mkdtempSync(join(tmpdir(), "waymark-resolver-attacks-"));
const ROLES: Readonly<Record<string, readonly string[]>> = { resolver: ["mesh.resolve"], admin: ["mesh.admin"], blue: [], red: [] };
const tokenOf = (who: string) => `token-of-${who}`;
/** One caller may have a quarter of them. */
const MAX_WATCHES = 8;
writeFileSync(join(HOME, "token"), tokenOf("resolver"), { mode: 0o600 });

function settings(name: string, more: object = {}): readonly string[] {
  const credentials = Object.entries(ROLES).map(([tenant, roles]) => ({
    tenant,
    token_sha256: createHash("sha256").update(tokenOf(tenant)).digest("hex"),
    roles,
  }));
  const path = join(HOME, `${name}.json`);
  writeFileSync(path, JSON.stringify({ tenants: { mode: true, credentials }, observability: { log_level: "warn" }, ...more }));
  return ["--ephemeral", "--node-id", name, "--config", path];
}

let node: NodeProcess;
let edge: NodeProcess;
let behind: NodeProcess;
beforeAll(async () => {
  node = await startNodeProcess(settings("node"));
  const service = (namespace: string, name: string, more: object = {}) => ({
    key: { kind: EntryKind.SERVICE, namespace, name, instanceId: "1" },
    scope: Scope.ZONE,
    targets: [{ host: "192.0.2.1", port: 80 }],
    ...more,
  });
  const entries = [
    service("svc.market", "web", { aliases: ["web.shop.example."] }),
    service("svc.far", "web"),
    service("svc.far", "near", { scope: Scope.LOCAL }),
    service("svc.more", "job"),
    service("svc.owned", "stray", { scope: Scope.REGION }),
    service("svc.owned", "late", { scope: Scope.REGION }),
    service("veiled", "secret"),
    ...[1, 2, 3].map((n) => service("hidden.deep", `secret-${n}`)),
    {
      key: { kind: EntryKind.TOPIC, namespace: "svc.topics", name: "top", instanceId: "1" },
      scope: Scope.ZONE,
      detail: { case: "topic" as const, value: {} },
    },
  ];
  await discoveryAt(node, "admin").register({ entries, staticLease: true });
  await discoveryAt(node, "admin").setMaintenance({
    keys: [{ kind: 1, namespace: "svc.more", name: "job", instanceId: "1" }],
    on: true,
    reason: "test",
  });
  const rules = ["hidden", "veiled"].map((namespace) => ({ namespace, visibilityTenants: ["red"] }));
  await createClient(PolicyService, transportAt(node, "admin")).applyPolicy({
    policy: { version: "v1", defaultAllow: true, rules },
    reason: "test",
  });
  edge = await startResolver("edge", node);
  behind = await startResolver("behind", edge);
});
afterAll(async () => {
  for (const server of [behind, edge, node]) await server[Symbol.asyncDispose]();
  rmSync(HOME, { recursive: true, force: true });
});

function startResolver(id: string, upstream: NodeProcess): Promise<NodeProcess> {
  const mode = ["--mode", "resolver", "--upstream", upstream.grpc, "--namespaces", "svc.market"];
  return startNodeProcess([...mode, ...settings(id, { resolver: { token_file: join(HOME, "token"), max_watches: MAX_WATCHES } })]);
}

function transportAt(server: NodeProcess, who: string) {
  const credential: Interceptor = (next) => (request) => {
    request.header.set("authorization", `Bearer ${tokenOf(who)}`);
    return next(request);
  };
  return createGrpcTransport({ baseUrl: `http://${server.grpc}`, interceptors: [credential] });
}
const discoveryAt = (server: NodeProcess, who: string) => createClient(DiscoveryService, transportAt(server, who));

async function scraped(path: string): Promise<{ readonly status: number; readonly text: string }> {
  const headers = { authorization: `Bearer ${tokenOf("blue")}` };
  const answer = await fetch(`http://${edge.listeners["http"]}${path}`, { headers });
  return { status: answer.status, text: await answer.text() };
}

test("a scrape of what is not followed has it all, and one of a namespace that cannot be costs nobody anything", async () => {
  expect((await scraped("/sd/prometheus?namespace=svc.far")).text).toContain("192.0.2.1:80");
  expect((await scraped("/sd/prometheus")).text).toContain("svc.market");
  expect((await scraped("/sd/prometheus?namespace=A_B")).status).toBe(400);
  const { stale, items } = await discoveryAt(edge, "blue").catalogQuery({ namespace: "svc.market" });
  expect([stale, items.length]).toEqual([false, 1]);
});

test("entries of every kind and condition come through two resolvers, as bytes that the second one can keep", async () => {
  const named = createClient(ResolverService, transportAt(behind, "blue"));
  for (const [namespace, name, kind] of [
    ["svc.topics", "top", EntryKind.TOPIC],
    ["svc.more", "job", EntryKind.SERVICE],
    ["svc.far", "web", EntryKind.SERVICE],
  ] as const)
    expect((await named.resolve({ namespace, name, kind })).entries.map(({ key }) => key?.name)).toEqual([name]);
  expect((await discoveryAt(behind, "blue").catalogQuery({ namespace: "svc.market" })).stale).toBe(false);
});

test("a query by names in DNS gives each entry once", async () => {
  const { items } = await discoveryAt(edge, "blue").catalogQuery({ namespace: "svc.market", aliases: ["web.shop.example"] });
  expect(items.map(({ key }) => key?.name)).toEqual(["web"]);
});

test("a caller that may not see a prefix makes the resolver follow nothing by watching it, and cannot count what is there", {
  tags: ["night"],
}, async () => {
  const entries = async () => Number(/^discovery_cache_entries (\d+)$/m.exec((await scraped("/metrics")).text)?.[1]);
  // A scrape of all made it follow all for some seconds, and part of that may still be on its way. Then there is what it follows, and what was asked for.
  await until("what a scrape made it follow is gone", async () => (await entries()) <= 4);
  const before = await entries();
  for await (const { deltas, snapshot } of discoveryAt(edge, "blue").catalogWatch({ namespacePrefix: "hidden" })) {
    expect(deltas).toEqual([]);
    if (snapshot === Snapshot.END) break;
  }
  expect(await entries()).toBeLessThanOrEqual(before);
  const seen: string[] = [];
  for await (const { deltas, snapshot } of discoveryAt(edge, "red").catalogWatch({ namespacePrefix: "hidden" })) {
    seen.push(...deltas.map(({ namespace }) => namespace));
    if (snapshot === Snapshot.END) break;
  }
  expect(seen).toEqual(["hidden.deep", "hidden.deep", "hidden.deep"]);
});

test("which nodes have entries is told as the caller may see them, and explanations and tokens tell of nothing else", async () => {
  const nodesFor = async (server: NodeProcess, who: string) =>
    (await discoveryAt(server, who).clusterMap({ namespaceFilter: "hidden" })).nodes.map(({ key }) => key?.name);
  for (const server of [node, edge, behind])
    expect([await nodesFor(server, "blue"), await nodesFor(server, "red")]).toEqual([[], ["node"]]);
  const { explanation } = await discoveryAt(edge, "blue").catalogQuery({
    namespacePrefix: "svc.far",
    names: ["near", "web"],
    explain: true,
  });
  expect(explanation.map(({ key }) => key?.name)).toEqual(["web"]);
  const last = await discoveryAt(edge, "blue").catalogQuery({ kinds: [EntryKind.TOPIC], limit: 1 });
  expect([last.items.length, last.nextPageToken]).toEqual([1, ""]);
});

test("a caller that may not see a namespace causes no fetch there", async () => {
  const entries = async () => Number(/^discovery_cache_entries (\d+)$/m.exec((await scraped("/metrics")).text)?.[1]);
  const [before, named] = [await entries(), createClient(ResolverService, transportAt(edge, "blue"))];
  expect((await named.resolve({ namespace: "veiled", name: "secret" })).entries).toEqual([]);
  // What red watched may go meanwhile.
  expect(await entries()).toBeLessThanOrEqual(before);
});

test("the cursor of a fetched answer leads a watch to a snapshot, since nobody told the resolver of changes there", async () => {
  const job = { namespace: "svc.more", name: "job" };
  // A scrape of everything made it follow that for some seconds. A query of a prefix is no ask that would make it follow.
  const byPrefix = { namespacePrefix: job.namespace };
  await until("it is followed no more", async () => (await discoveryAt(edge, "blue").catalogQuery(byPrefix)).source === Source.FETCHED);
  const { cursor } = await createClient(ResolverService, transportAt(edge, "blue")).resolve(job);
  const request = { namespace: job.namespace, names: [job.name], kinds: [EntryKind.SERVICE], cursor };
  for await (const { snapshot } of discoveryAt(edge, "blue").catalogWatch(request)) {
    expect(snapshot).not.toBe(Snapshot.UNSPECIFIED);
    break;
  }
});

test("names without a kind are asked for by name, once for all who ask, and one call is no reason to follow the namespace", async () => {
  const stats = async () => createClient(ResolverService, transportAt(edge, "admin")).cacheStats({});
  const before = await stats();
  const request = { namespace: "veiled", names: ["other", "secret"] };
  for (let n = 0; n < 2; n++) {
    const { items, source } = await discoveryAt(edge, "red").catalogQuery(request);
    expect([items.length, source]).toEqual([1, Source.FETCHED]);
  }
  const after = await stats();
  expect([after.hits - before.hits, after.misses - before.misses]).toEqual([1n, 1n]);
});

test("what was fetched follows a new policy at once, in what it hides and in what it shows", async () => {
  const named = createClient(ResolverService, transportAt(edge, "blue"));
  const strays = async (name = "stray") => (await named.resolve({ namespace: "svc.owned", name })).entries.length;
  const topics = async () => (await named.resolve({ namespace: "svc.topics", name: "top", kind: EntryKind.TOPIC })).entries.length;
  const policies = createClient(PolicyService, transportAt(node, "admin"));
  const apply = (version: string, rules: readonly object[]) =>
    policies.applyPolicy({ policy: { version, defaultAllow: true, rules: rules as never }, reason: "test" });
  await until("both are there", async () => (await strays()) === 1 && (await topics()) === 1);
  await apply("v2", [
    { namespace: "svc.owned", owners: ["elsewhere"] },
    { namespace: "svc.topics", visibilityTenants: ["red"] },
  ]);
  await until("the policy is here", async () => (await topics()) === 0);
  expect([await strays(), await strays("late")]).toEqual([0, 0]);
  await apply("v3", []);
  await until("the policy is here", async () => (await topics()) === 1);
  // Long before the answer that nothing exists is over.
  await until("it is asked for again", async () => (await strays("late")) === 1, 8000);
});

test("one caller's watches take a quarter of what may be followed, and a resolver's any number", async () => {
  let ends = new AbortController();
  /** Opens a watch that stays open. Resolves with whether it has begun. */
  const watch = async (who: string, namespace: string): Promise<boolean> => {
    const stream = discoveryAt(behind, who).catalogWatch({ namespace }, { signal: ends.signal })[Symbol.asyncIterator]();
    return (await stream.next()).done !== true;
  };
  expect([await watch("blue", "svc.far"), await watch("blue", "svc.more"), await watch("blue", "svc.market")]).toEqual([true, true, true]);
  await expect(watch("blue", "svc.topics")).rejects.toThrow(
    /\[resource_exhausted\].*this caller already use.*2 namespaces.*resolver\.max_watches/,
  );
  expect([await watch("blue", "svc.far"), await watch("red", "svc.topics"), await watch("red", "svc.nothing")]).toEqual([true, true, true]);
  ends.abort();
  ends = new AbortController();
  await until("its share is free again", () => watch("blue", "svc.topics").catch(() => false));
  ends.abort();
});
