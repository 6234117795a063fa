/** A real resolver between real nodes and real callers: what it serves, to whom, and what it says of it. */
import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { durationFromMs, durationMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Health, HealthCheckResponse_ServingStatus as Serving } from "../../gen/grpc/health/v1/health_pb.js";
import type { DiscoveryDelta } from "../../gen/waymark/catalog/v1/delta_pb.js";
import { Scope } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { Snapshot, Source } from "../../gen/waymark/catalog/v1/watch_pb.js";
import { PeerService } from "../../gen/waymark/control/v1/peer_pb.js";
import { type CatalogWatchResponse, DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { DnsService } from "../../gen/waymark/dns/v1/dns_pb.js";
import { Act } from "../../gen/waymark/options/v1/options_pb.js";
import { PolicyService } from "../../gen/waymark/policy/v1/policy_pb.js";
import { ResolverService } from "../../gen/waymark/resolver/v1/resolver_pb.js";
import { AnyClient } from "../fakes/any-call.ts";
import { dig } from "../fakes/dig.ts";
import { heldAddress } from "../fakes/held-address.ts";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

const HOME = mkdtempSync(join(tmpdir(), "waymark-resolver-mode-"));
const TOKENS = { resolver: "token-of-a-resolver", admin: "token-of-an-admin", blue: "token-of-blue", red: "token-of-red" } as const;
const ROLES = { resolver: ["mesh.resolve"], admin: ["mesh.admin"], blue: [], red: [] } as const;
type Who = keyof typeof TOKENS;

const tokenFile = join(HOME, "resolver.token");
writeFileSync(tokenFile, TOKENS.resolver, { mode: 0o600 });
/** Credential of a caller whose token changes. */
const changingFile = join(HOME, "changing.token");
writeFileSync(changingFile, "token-before", { mode: 0o600 });

function settings(name: string, more: object = {}): string {
  const credentials = Object.entries(TOKENS).map(([who, token]) => ({
    tenant: who,
    token_sha256: createHash("sha256").update(token).digest("hex"),
    roles: ROLES[who as Who],
  }));
  const path = join(HOME, `${name}.json`);
  const changing = { tenant: "changing", token_file: changingFile };
  writeFileSync(
    path,
    JSON.stringify({ tenants: { mode: true, credentials: [...credentials, changing] }, observability: { log_level: "warn" }, ...more }),
  );
  return path;
}

let node: NodeProcess;
let resolver: NodeProcess;
beforeAll(async () => {
  node = await startNodeProcess(["--ephemeral", "--node-id", "near", "--config", settings("node")]);
  await register("svc.market", "web");
  await register("svc.market.deep", "deep");
  await register("svc.secret", "hidden");
  await register("svc.other", "far");
  await applyPolicy("v1", []);
  resolver = await startResolver("edge", node.grpc);
});
afterAll(async () => {
  await resolver[Symbol.asyncDispose]();
  await node[Symbol.asyncDispose]();
  rmSync(HOME, { recursive: true, force: true });
});

function startResolver(id: string, upstreams: string): Promise<NodeProcess> {
  const flags = ["--mode", "resolver", "--upstream", upstreams, "--namespaces", "svc.market", "--ephemeral", "--node-id", id];
  return startNodeProcess([...flags, "--config", settings(id, { resolver: { token_file: tokenFile } })]);
}

function transportAt(server: NodeProcess, who: Who) {
  const credential: Interceptor = (next) => (request) => {
    request.header.set("authorization", `Bearer ${TOKENS[who]}`);
    return next(request);
  };
  return createGrpcTransport({ baseUrl: `http://${server.grpc}`, interceptors: [credential] });
}

const discoveryAt = (server: NodeProcess, who: Who = "blue") => createClient(DiscoveryService, transportAt(server, who));
const keyOf = (namespace: string, name: string, instanceId = "1") => ({ kind: 1, namespace, name, instanceId });
const entryOf = (namespace: string, name: string, instanceId = "1") => ({
  key: keyOf(namespace, name, instanceId),
  scope: Scope.ZONE,
  targets: [{ host: "192.0.2.1", port: 80 }],
});

async function register(namespace: string, name: string, instanceId = "1"): Promise<void> {
  await discoveryAt(node, "admin").register({ entries: [entryOf(namespace, name, instanceId)], staticLease: true });
}

async function applyPolicy(version: string, rules: readonly object[]): Promise<void> {
  const policies = createClient(PolicyService, transportAt(node, "admin"));
  await policies.applyPolicy({ policy: { version, defaultAllow: true, rules: rules as never }, reason: "test" });
}

const SECRET = { namespace: "svc.secret", visibilityTenants: ["red"] };

async function refusal(call: Promise<unknown>): Promise<string> {
  const error = await call.then(
    () => undefined,
    (thrown: unknown) => ConnectError.from(thrown),
  );
  return error === undefined ? "answered" : `${Code[error.code]} ${error.rawMessage}`;
}

test("what it follows is as at its node, also after a change, and the answer says where it comes from", async () => {
  const query = () => discoveryAt(resolver).catalogQuery({ namespacePrefix: "svc.market" });
  const first = await query();
  expect(first.items.map(({ key }) => key?.name)).toEqual(["web", "deep"]);
  expect([first.source, first.stale, first.servedBy]).toEqual([Source.FOLLOWED, false, "edge"]);
  await register("svc.market", "db");
  await until("it shows at the resolver", async () => (await query()).items.length === 3);
  await discoveryAt(node, "admin").unregister({ keys: [keyOf("svc.market", "db")] });
  await until("it shows at the resolver", async () => (await query()).items.length === 2);
});

test("a name elsewhere is fetched, and so is the absence of one", async () => {
  const named = createClient(ResolverService, transportAt(resolver, "blue"));
  const found = await named.resolve({ namespace: "svc.other", name: "far" });
  expect([found.entries.map(({ key }) => key?.name), found.source, found.servedBy]).toEqual([["far"], Source.FETCHED, "edge"]);
  expect((await named.resolve({ namespace: "svc.other", name: "none" })).entries).toEqual([]);
  const chosen = await discoveryAt(resolver).resolve({ namespace: "svc.market", name: "web", kind: 1 });
  expect([chosen.entry?.key?.name, chosen.source]).toEqual(["web", Source.FOLLOWED]);
  expect(await refusal(discoveryAt(resolver).resolve({ namespace: "svc.other", name: "none", kind: 1 }))).toMatch(/^NotFound/);
});

test("an age that the cache cannot keep is asked upstream", async () => {
  // Followed data gets up to a second old between two bookmarks, and the age of an answer from the node includes its transit time.
  const maxStaleness = durationFromMs(300);
  const named = async () => {
    const { entries, ...answer } = await createClient(ResolverService, transportAt(resolver, "blue")).resolve({
      namespace: "svc.market",
      name: "web",
      maxStaleness,
    });
    return { ...answer, count: entries.length };
  };
  const queried = async () => {
    const { items, ...answer } = await discoveryAt(resolver).catalogQuery({ namespace: "svc.market", maxStaleness });
    return { ...answer, count: items.length };
  };
  const wrong: string[] = [];
  for (const ask of [named, queried])
    await until("it is asked upstream", async () => {
      const asked = ask();
      const said = await refusal(asked);
      if (said !== "answered") {
        // On a slower machine the answer is refused, not older.
        if (!said.includes("too_stale")) wrong.push(said);
        return false;
      }
      const { age, source, count } = await asked;
      if (age === undefined || durationMs(age) > 300 || count !== 1) wrong.push(JSON.stringify([age?.nanos, count]));
      return source === Source.FETCHED;
    });
  expect(wrong).toEqual([]);
});

test("a query that it holds nothing of is passed on page by page, and shows each caller what a node would", async () => {
  await applyPolicy("v2", [SECRET]);
  for (const who of ["blue", "red"] as const) {
    const pages = async (server: NodeProcess) => {
      const names: string[] = [];
      for (let pageToken = ""; ; ) {
        const page = await discoveryAt(server, who).catalogQuery({ namespacePrefix: "svc", limit: 1, pageToken });
        names.push(...page.items.map(({ key }) => key?.name ?? ""));
        ({ nextPageToken: pageToken } = page);
        if (pageToken === "") return names;
      }
    };
    await until("it shows at the resolver", async () => (await pages(resolver)).join() === (await pages(node)).join());
    expect(await pages(resolver)).toEqual(who === "red" ? ["web", "deep", "far", "hidden"] : ["web", "deep", "far"]);
  }
});

test("what it hides from a caller stands in its own audit log, also where the query was passed on", async () => {
  await applyPolicy("v4", [SECRET]);
  const audited = async () => {
    await discoveryAt(resolver, "blue").catalogQuery({ namespacePrefix: "svc" });
    const { records } = await createClient(PolicyService, transportAt(resolver, "admin")).accessAudit({ namespace: "svc.secret" });
    return records.filter(({ tenant }) => tenant === "blue");
  };
  await until("the denial is recorded", async () => (await audited()).length > 0);
  expect((await audited())[0]).toMatchObject({ action: "query", reason: "viewer_denied" });
});

test("a caller that may not see a namespace gets nothing of it by any way, and one that may gets it", async () => {
  await applyPolicy("v3", [SECRET]);
  const seen = async (who: Who) => {
    const named = await createClient(ResolverService, transportAt(resolver, who)).resolve({ namespace: "svc.secret", name: "hidden" });
    const queried = await discoveryAt(resolver, who).catalogQuery({ namespace: "svc.secret" });
    const watched = await refusal(firstSnapshot(who, { namespace: "svc.secret" }));
    const status = await discoveryAt(resolver, who).namespaceStatus({ namespace: "svc.secret" });
    return [named.entries.length, queried.items.length, watched.split(" ")[0], Number(status.endpointCount)];
  };
  await until("it shows at the resolver", async () => (await seen("blue")).join() === "0,0,PermissionDenied,0");
  for (let n = 0; n < 5; n++) {
    expect(await seen("red")).toEqual([1, 1, "answered", 1]);
    expect(await seen("blue")).toEqual([0, 0, "PermissionDenied", 0]);
  }
});

test("the operator's view is refused there, since what it holds is from reads with its own right, and an explanation counts nothing hidden", async () => {
  const viewer = { asOperator: true };
  const discovery = discoveryAt(resolver, "admin");
  const dnsService = createClient(DnsService, transportAt(resolver, "admin"));
  const asked = { namespace: "svc.secret", viewer };
  const refusals = [
    discovery.catalogQuery(asked),
    discovery.resolve({ ...asked, name: "hidden" }),
    discovery.summaryQuery(asked),
    firstSnapshot("admin", asked),
    dnsService.resolveName({ name: "hidden.svc.secret.waymark", viewer }),
    dnsService.describeName({ name: "hidden.svc.secret.waymark", viewer }),
  ].map(refusal);
  for (const refused of await Promise.all(refusals))
    expect(refused).toMatch(/^FailedPrecondition read_only: this server is a resolver, which rejects viewer\.as_operator/);
  expect(await refusal(discoveryAt(resolver, "red").catalogQuery(asked))).toMatch(/^PermissionDenied .*mesh\.operate/);
  const { explanation } = await discovery.catalogQuery({ namespace: "svc.secret", explain: true });
  expect(explanation.filter(({ reason }) => reason === "policy")).toEqual([]);
});

function nameIn({ payload }: DiscoveryDelta): string {
  return payload.case === "entry" ? (payload.value.key?.name ?? "") : "";
}

async function firstSnapshot(who: Who, request: object): Promise<readonly string[]> {
  const stop = new AbortController();
  const names: string[] = [];
  try {
    for await (const message of discoveryAt(resolver, who).catalogWatch(request, { signal: stop.signal })) {
      names.push(...message.deltas.map(nameIn));
      if (message.snapshot === Snapshot.END) return names;
    }
  } finally {
    stop.abort();
  }
  return names;
}

test("a watch of what it did not follow makes it follow that, and goes on at the node with its portable cursor", async () => {
  const stop = new AbortController();
  const messages: CatalogWatchResponse[] = [];
  const watching = (async () => {
    for await (const message of discoveryAt(resolver).catalogWatch(
      { namespace: "svc.other", bookmarkInterval: { seconds: 1n, nanos: 0 } },
      { signal: stop.signal },
    ))
      messages.push(message);
  })().catch(() => {});
  await until("it shows at the resolver", () => messages.some(({ snapshot }) => snapshot === Snapshot.END));
  await register("svc.other", "near", "2");
  await until("it shows at the resolver", () => messages.some(({ deltas }) => deltas.some((delta) => nameIn(delta) === "near")));
  await until("it shows at the resolver", () => messages.some(({ portableCursor, bookmark }) => bookmark && portableCursor !== ""));
  const cursor = messages.findLast(({ portableCursor }) => portableCursor !== "")?.portableCursor ?? "";
  stop.abort();
  await watching;
  await register("svc.other", "next", "3");
  const told: string[] = [];
  const atNode = new AbortController();
  for await (const { deltas, snapshot } of discoveryAt(node).catalogWatch({ namespace: "svc.other", cursor }, { signal: atNode.signal })) {
    expect(snapshot).toBe(Snapshot.UNSPECIFIED);
    told.push(...deltas.map(nameIn));
    if (told.length > 0) break;
  }
  atNode.abort();
  expect(told).toEqual(["next"]);
});

test("writes are refused, and the refusal names nodes", async () => {
  const refused = await refusal(discoveryAt(resolver, "admin").register({ entries: [entryOf("svc.market", "new")], staticLease: true }));
  expect(refused).toMatch(
    /^FailedPrecondition read_only: this server is a resolver, which rejects writes: send the call to a node, for example 127\.0\.0\.1:\d+/,
  );
});

test("the policy is read there, and what only a node can do with it is refused and names nodes", async () => {
  await applyPolicy("v5", [SECRET]);
  const policies = createClient(PolicyService, transportAt(resolver, "admin"));
  await until("it is in force there", async () => (await policies.policyStatus({})).version === "v5");
  const atNode = createClient(PolicyService, transportAt(node, "admin"));
  for (const call of ["policyStatus", "exportPolicy"] as const) expect(await policies[call]({})).toEqual(await atNode[call]({}));
  const asked = { action: Act.QUERY, namespace: "svc.secret", viewer: { tenantId: "blue" } };
  expect(await policies.explain(asked)).toMatchObject({ allowed: false, reason: "viewer_denied" });
  const headers = { authorization: `Bearer ${TOKENS.admin}` };
  const page = await fetch(`http://${resolver.listeners["http"]}/discovery/policy?namespace=svc.secret`, { headers });
  expect(await page.json()).toMatchObject({ version: "v5", view: { allowed: false } });
  const policy = { version: "v6", defaultAllow: true };
  const writes = [policies.applyPolicy({ policy }), policies.rollbackPolicy({})];
  for (const said of await Promise.all(writes.map(refusal)))
    expect(said).toMatch(/^FailedPrecondition read_only: .*rejects writes.*for example 127\.0\.0\.1/);
  const others = [policies.policyHistory({}), policies.validatePolicy({ policy })];
  for (const said of await Promise.all(others.map(refusal)))
    expect(said).toMatch(/^FailedPrecondition read_only: .*polic(?:y|ies).*for example 127\.0\.0\.1/);
});

test("the nodes of the cluster are asked for upstream, and services that only nodes have are not serving", async () => {
  const map = await discoveryAt(resolver).clusterMap({});
  expect([map.nodes.map(({ key }) => key?.name), map.servedBy, map.source]).toEqual([["near"], "edge", Source.FETCHED]);
  const health = createClient(Health, transportAt(resolver, "blue"));
  const status = async (service: string) => (await health.check({ service })).status;
  expect(await status(DiscoveryService.typeName)).toBe(Serving.SERVING);
  expect(await status(PeerService.typeName)).toBe(Serving.NOT_SERVING);
});

test("SIGHUP makes it read the tokens of its callers again", async () => {
  using client = new AnyClient(resolver.grpc);
  const codeOf = async (token: string) =>
    (await client.call(DiscoveryService.method.serverInfo, {}, { authorization: `Bearer ${token}` })).code;
  expect(await codeOf("token-before")).toBe("OK");
  writeFileSync(changingFile, "token-after");
  resolver.command.kill("SIGHUP");
  await until("the new token is accepted", async () => (await codeOf("token-after")) === "OK");
  expect(await codeOf("token-before")).toBe("UNAUTHENTICATED");
});

test("HTTP and DNS answer as at a node", async () => {
  const http = `http://${resolver.listeners["http"]}`;
  const headers = { "content-type": "application/json", authorization: `Bearer ${TOKENS.blue}` };
  const asked = await fetch(`${http}/waymark.discovery.v1.DiscoveryService/CatalogQuery`, {
    method: "POST",
    headers,
    body: JSON.stringify({ namespace: "svc.market", names: ["web"] }),
  });
  expect(await asked.json()).toMatchObject({ items: [{ key: { name: "web" } }], source: "SOURCE_FOLLOWED", servedBy: "edge" });
  const admin = { ...headers, authorization: `Bearer ${TOKENS.admin}` };
  const all = await fetch(`${http}/waymark.resolver.v1.ResolverService/Prewarm`, { method: "POST", headers: admin, body: "{}" });
  expect([all.status, await all.text()]).toEqual([400, expect.stringContaining("namespaces: is empty")]);
  const scraped = await fetch(`${http}/sd/prometheus?namespace=svc.other`, { headers });
  expect([scraped.status, ((await scraped.json()) as unknown[]).length > 0]).toEqual([200, true]);
  expect((await fetch(`${http}/readyz`)).status).toBe(200);
  const metrics = await (await fetch(`${http}/metrics`, { headers })).text();
  expect(Number(/^waymark_catalog_entries\{kind="service",scope="zone"\} (\d+)$/m.exec(metrics)?.[1])).toBeGreaterThan(1);
  expect(await dig(resolver.listeners["dns"] ?? "", "web.svc.market.waymark")).toContain("192.0.2.1");
});

test("with its node gone it goes on serving what it holds, marked stale, and says of nothing else that it is absent", async () => {
  await using lone = await startNodeProcess(["--ephemeral", "--node-id", "gone", "--config", settings("gone")]);
  await discoveryAt(lone, "admin").register({ entries: [entryOf("svc.market", "web")], staticLease: true });
  await using edge = await startResolver("cut-off", lone.grpc);
  expect((await discoveryAt(edge).catalogQuery({ namespace: "svc.market" })).items.length).toBe(1);
  lone.command.kill("SIGKILL");
  await lone.command.finished();
  await until("it shows at the resolver", async () => (await discoveryAt(edge).catalogQuery({ namespace: "svc.market" })).stale);
  const held = await discoveryAt(edge).catalogQuery({ namespace: "svc.market" });
  expect([held.items.length, held.stale, held.source]).toEqual([1, true, Source.FOLLOWED]);
  expect(await refusal(discoveryAt(edge).catalogQuery({ namespace: "svc.unknown", names: ["x"] }))).toMatch(/^Unavailable not_ready/);
  const young = { namespace: "svc.market", name: "web", maxStaleness: { seconds: 0n, nanos: 1 } };
  expect(await refusal(createClient(ResolverService, transportAt(edge, "blue")).resolve(young))).toMatch(/^Unavailable too_stale/);
});

test("after a restart with every server gone it serves its copy on disk to those who may see it, and to nobody else", {
  tags: ["night"],
}, async () => {
  const data = join(HOME, "data");
  const lone = await startNodeProcess(["--ephemeral", "--node-id", "lone", "--config", settings("lone")]);
  await discoveryAt(lone, "admin").register({ entries: [entryOf("svc.market", "web")], staticLease: true });
  const rules = [{ namespace: "svc.market", visibilityTenants: ["red"] }];
  await createClient(PolicyService, transportAt(lone, "admin")).applyPolicy({
    policy: { version: "v1", defaultAllow: true, rules },
    reason: "test",
  });
  const seen = async (server: NodeProcess, who: Who) =>
    (await discoveryAt(server, who).catalogQuery({ namespace: "svc.market" })).items.length;
  const flags = ["--mode", "resolver", "--upstream", lone.grpc, "--namespaces", "svc.market", "--data-dir", data];
  const config = ["--config", settings("restarted", { resolver: { token_file: tokenFile } })];
  const first = await startNodeProcess([...flags, ...config]);
  await until("the policy is there", async () => (await seen(first, "red")) === 1 && (await seen(first, "blue")) === 0);
  await first.stop();
  lone.command.kill("SIGKILL");
  await lone.command.finished();
  await using _ = await heldAddress(lone.grpc);
  await using again = await startNodeProcess([...flags, ...config]);
  expect([again.nodeId, await seen(again, "red"), await seen(again, "blue")]).toEqual([first.nodeId, 1, 0]);
  const { stale, source } = await discoveryAt(again, "red").catalogQuery({ namespace: "svc.market" });
  expect([stale, source]).toEqual([true, Source.DISK]);
});

test("a resolver that is killed as soon as it has a copy, right after its first start, serves from it", { tags: ["night"] }, async () => {
  const data = join(HOME, "killed");
  await using lone = await startNodeProcess(["--ephemeral", "--node-id", "lone", "--config", settings("lone-killed")]);
  await discoveryAt(lone, "admin").register({ entries: [entryOf("svc.market", "web")], staticLease: true });
  const flags = ["--mode", "resolver", "--upstream", lone.grpc, "--namespaces", "svc.market", "--data-dir", data];
  const config = ["--config", settings("killed", { resolver: { token_file: tokenFile } })];
  const first = await startNodeProcess([...flags, ...config]);
  // Shorter than the time between two copies.
  await until("its copy is there", () => existsSync(join(data, "followed.copy")), 20_000);
  first.command.kill("SIGKILL");
  await first.command.finished();
  lone.command.kill("SIGKILL");
  await lone.command.finished();
  await using _ = await heldAddress(lone.grpc);
  await using again = await startNodeProcess([...flags, ...config]);
  const { items, source } = await discoveryAt(again, "blue").catalogQuery({ namespace: "svc.market" });
  expect([items.length, source]).toEqual([1, Source.DISK]);
});

test("where no policy has ever been applied, it answers after a restart as it did before, also about what it does not follow", {
  tags: ["night"],
}, async () => {
  await using free = await startNodeProcess(["--ephemeral", "--node-id", "free", "--config", settings("free")]);
  await discoveryAt(free, "admin").register({ entries: [entryOf("svc.market", "web"), entryOf("svc.other", "far")], staticLease: true });
  const flags = ["--mode", "resolver", "--upstream", free.grpc, "--namespaces", "svc.market", "--data-dir", join(HOME, "unruled")];
  for (let starts = 0; starts < 2; starts++) {
    await using edge = await startNodeProcess([...flags, "--config", settings("unruled", { resolver: { token_file: tokenFile } })]);
    const { resolve } = createClient(ResolverService, transportAt(edge, "blue"));
    const followed = await resolve({ namespace: "svc.market", name: "web" });
    // With a copy on disk it serves before it has reached its server.
    let fetched = followed;
    await until("it reaches its server", async () => {
      fetched = await resolve({ namespace: "svc.other", name: "far" });
      return true;
    });
    const answers = [followed, fetched];
    expect(answers.map(({ entries }) => entries.length)).toEqual([1, 1]);
    expect(answers[1]?.source).toBe(Source.FETCHED);
    expect((await discoveryAt(edge).namespaceStatus({ namespace: "svc.other" })).allowed).toBe(true);
    await edge.stop();
  }
});

test("a resolver behind a resolver holds what that one does, and a change comes through both", async () => {
  await using second = await startResolver("second", resolver.grpc);
  const names = async () => (await discoveryAt(second).catalogQuery({ namespacePrefix: "svc.market" })).items.map(({ key }) => key?.name);
  expect(await names()).toEqual(["web", "deep"]);
  await register("svc.market", "through");
  await until("it shows at the resolver", async () => (await names()).length === 3);
  await discoveryAt(node, "admin").unregister({ keys: [keyOf("svc.market", "through")] });
  await until("it shows at the resolver", async () => (await names()).length === 2);
  const far = await createClient(ResolverService, transportAt(second, "blue")).resolve({ namespace: "svc.other", name: "far" });
  expect([far.entries.length, far.source]).toEqual([1, Source.FETCHED]);
});

test("what it fetched whole again by itself, and what it took from its disk, is in its audit log, as the runbook says", {
  tags: ["night"],
}, async () => {
  const flags = ["--ephemeral", "--node-id", "first"];
  const first = await startNodeProcess(flags);
  const entry = ["--namespace", "svc.market", "--name", "web", "--instance", "1", "--target", "192.0.2.1:80", "--ttl", "1h"];
  expect(await first.run(["register", ...entry])).toMatchObject({ exit: 0 });
  const follower = ["--mode", "resolver", "--upstream", first.grpc, "--namespaces", "svc.market", "--node-id", "auditor"];
  const start = () => startNodeProcess([...follower, "--data-dir", join(HOME, "auditor")]);
  await using before = await start();
  // A new node at the same address knows nothing of what was before.
  await first.stop("SIGKILL");
  await using second = await startNodeProcess([...flags, "--grpc-port", first.grpc.slice(first.grpc.lastIndexOf(":") + 1)]);
  expect(await second.run(["register", ...entry])).toMatchObject({ exit: 0 });
  const listed = async (of: NodeProcess, ...more: readonly string[]) =>
    (await of.run(["discovery", "access-audit", "-o", "json", ...more])).stdout;
  expect(await listed(before)).not.toContain("resolver.replay");
  await until("the gap is noted", async () => (await listed(before, "--reason", "gap")).includes('"cache.resync"'));
  expect(JSON.parse(await listed(before, "--reason", "gap"))).toMatchObject({
    records: [{ action: "cache.resync", namespace: "svc.market" }],
  });
  const held = async () => (await before.run(["discovery", "query", "--namespace", "svc.market", "-o", "json"])).stdout.includes('"web"');
  await until("it has the new entry", held);
  await before.stop("SIGTERM");
  await using again = await start();
  const replayed = { action: "resolver.replay", detail: expect.stringMatching(/^1 entries, \d+ ms old$/) as string };
  expect(JSON.parse(await listed(again))).toMatchObject({
    records: expect.arrayContaining([expect.objectContaining(replayed)]) as unknown,
  });
});
