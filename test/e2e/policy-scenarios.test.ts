/** Policy on real nodes: tenants apart at every listener, delegation, a cutover and its rollback, races, broken stores, a tampered audit. */
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import type { CatalogWatchResponse } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { openSqliteStore } from "../../src/store/control/sqlite.io.ts";
import { queryBytes, responseText } from "../fakes/dns-text.ts";
import { type LimitedNode, outcomeOf, registration, startLimitedNode, type Who } from "../fakes/limited-node.ts";
import { type NodeProcess, startNodeProcess, waymarkProcess } from "../fakes/node-process.ts";
import { PATIENCE_MS, until } from "../fakes/until.ts";

const POLICY = "/waymark.policy.v1.PolicyService";
const DISCOVERY = "/waymark.discovery.v1.DiscoveryService";

type Json = Readonly<Record<string, unknown>>;

const folder = (): string => mkdtempSync(join(tmpdir(), "waymark-scenarios-"));

async function call(node: LimitedNode, who: Who, rpc: string, body: Json): Promise<Json> {
  const answer = await node.post(who, rpc, body);
  const said = (await answer.json()) as Json;
  if (answer.status !== 200) throw new Error(`${rpc}: ${answer.status} ${JSON.stringify(said)}`);
  return said;
}

const apply = (node: LimitedNode, rules: readonly Json[], more: Json = {}) =>
  call(node, "operator", `${POLICY}/ApplyPolicy`, { policy: { version: "v", defaultAllow: true, rules }, ...more });

async function dns(node: LimitedNode, name: string): Promise<string> {
  const socket = createSocket("udp4");
  try {
    socket.send(queryBytes({ name, type: "SRV" }), Number(node.process.listeners["dns"]?.split(":").at(-1)), "127.0.0.1");
    const [reply] = (await once(socket, "message", { signal: AbortSignal.timeout(30_000) })) as [Buffer];
    return responseText(reply);
  } finally {
    socket.close();
  }
}

async function sd(node: LimitedNode, token: string): Promise<string> {
  const headers = { authorization: `Bearer ${token}` };
  return (await fetch(`http://${node.process.listeners["http"]}/sd/prometheus`, { headers })).text();
}

const ONLY_B = { namespace: "team.b", visibilityTenants: ["b"], owners: ["local"], policyVersion: "b-1" };

test("tenant isolation: a cannot see b by any door, b can, and the refusals are in the audit", async () => {
  await using node = await startLimitedNode("");
  const { entries } = registration("team.b.shop", "secret-1");
  await node.grpc.b.register({ entries: entries.map((entry) => ({ ...entry, aliases: ["secret.alias"] })) });
  await node.grpc.a.register(registration("team.a", "own-1"));
  await apply(node, [ONLY_B]);
  const [a, b] = [node.grpc.a, node.grpc.b];
  const about = { namespace: "team.b.shop", name: "web" };
  const grpcSees = async (who: Who) => {
    const all = await node.grpc[who].catalogQuery({});
    return all.items.filter(({ key }) => key?.namespace.startsWith("team.b") === true).length;
  };
  expect([await grpcSees("a"), await grpcSees("b")]).toEqual([0, 1]);
  expect((await a.catalogQuery({ namespacePrefix: "team", names: ["web"] })).items).toHaveLength(1);
  // Hidden and absent are told the same.
  const hidden = await outcomeOf(a.resolve(about));
  const absent = await outcomeOf(a.resolve({ ...about, namespace: "team.b.none" }));
  expect(hidden.reason).toBe("not_found");
  expect(hidden.message.replace("team.b.shop", "?")).toBe(absent.message.replace("team.b.none", "?"));
  expect(await outcomeOf(b.resolve(about))).toMatchObject({ reason: "ok" });
  const toldA = await a.namespaceStatus({ namespace: "team.b.shop" });
  expect(toldA).toMatchObject({ allowed: false, endpointCount: 0n, policyVersion: "v", owners: [], exportScopes: [] });
  expect(await b.namespaceStatus({ namespace: "team.b.shop" })).toMatchObject({ allowed: true, policyVersion: "b-1", owners: ["local"] });
  expect((await a.clusterMap({ namespaceFilter: "team.b" })).nodes).toEqual([]);
  expect(await outcomeOf(a.catalogWatch({ namespace: "team.b.shop" })[Symbol.asyncIterator]().next())).toMatchObject({
    reason: "discovery_access_denied",
  });
  const watch = a.catalogWatch({ namespacePrefix: "team" })[Symbol.asyncIterator]();
  const first: IteratorResult<CatalogWatchResponse, unknown> = await watch.next();
  expect(first.done === true ? [] : first.value.deltas.map(({ namespace }) => namespace)).toEqual(["team.a"]);
  await watch.return?.();
  expect(JSON.stringify(await call(node, "a", `${DISCOVERY}/CatalogQuery`, {}))).not.toContain("secret-1");
  expect(await sd(node, "token-of-a")).not.toContain("team.b");
  expect(await sd(node, "token-of-b")).toContain("team.b.shop");
  const dnsDenials = async () => /^dns_policy_denials_total (\d+)$/m.exec(await node.metrics())?.[1];
  expect(await dnsDenials()).toBe("0");
  expect(await dns(node, "_svc._tcp.web.team.b.shop.waymark")).toMatch(/^NXDOMAIN/);
  expect(await dnsDenials()).toBe("1");
  // Asked again, answered from what is kept; and by an alias of what is hidden.
  expect(await dns(node, "_svc._tcp.web.team.b.shop.waymark")).toMatch(/^NXDOMAIN/);
  expect(await dns(node, "secret.alias.waymark")).toMatch(/^NXDOMAIN/);
  expect(await dns(node, "_svc._tcp.web.team.a.waymark")).toMatch(/^NOERROR/);
  expect(await dnsDenials()).toBe("3");
  expect(await node.metrics()).not.toContain("team.b");
  const denied = await node.process.run(["discovery", "access-audit", "--token", "token-of-operator", "-o", "json"]);
  expect(denied).toMatchObject({ exit: 0 });
  const { records } = JSON.parse(denied.stdout) as { records: readonly Record<string, string>[] };
  const ofA = records.filter(({ tenant, outcome }) => tenant === "a" && outcome === "AUDIT_OUTCOME_DENIED");
  expect(new Set(ofA.map(({ action }) => action))).toEqual(new Set(["query", "watch"]));
  expect(ofA.every(({ reason, rule }) => reason === "viewer_denied" && rule === "team.b")).toBe(true);
});

test("that a rule hides a namespace and that none opens it are told the same through every door, and apart in the audit", async () => {
  await using node = await startLimitedNode("");
  const rules = [{ namespace: "team.b", visibilityTenants: ["b"], owners: ["elsewhere"] }, { namespace: "open" }];
  await apply(node, rules, { policy: { version: "v", defaultAllow: false, rules } });
  const about = (namespace: string) => {
    const { a } = node.grpc;
    const post = async (rpc: string, body: Json) => {
      const answer = await node.post("a", `${DISCOVERY}/${rpc}`, body);
      return `${answer.status} ${await answer.text()}`;
    };
    const wide = registration(namespace, "1").entries.map((entry) => ({ ...entry, scope: 3 }));
    return Promise.all([
      outcomeOf(a.register(registration(namespace, "1"))),
      outcomeOf(a.register({ entries: wide })),
      outcomeOf(a.catalogWatch({ namespace })[Symbol.asyncIterator]().next()),
      outcomeOf(a.resolve({ namespace, name: "web" })),
      a.namespaceStatus({ namespace }).then(({ allowed, reason, policyVersion, owners }) => ({ allowed, reason, policyVersion, owners })),
      post("Register", { entries: [{ key: { namespace, name: "web", instance_id: "1" } }] }),
      post("NamespaceStatus", { namespace }),
      post("Resolve", { namespace, name: "web" }),
      dns(node, `_svc._tcp.web.${namespace}.waymark`),
    ]);
  };
  const ruled = JSON.stringify(await about("team.b"));
  const unruled = JSON.stringify(await about("team.c"));
  // Base64 details of HTTP answers hold the namespace too; both names are of one length.
  const plain = (text: string) =>
    text
      .replaceAll("team.c", "team.b")
      .replaceAll(/[0-9a-f]{8}-[0-9a-f-]{27}/g, "ID")
      .replaceAll(/"(value|age)\\?":\s*\\?"[^"]*"/g, "-")
      // The serial of a zone is the second in which the policy was seen to change.
      .replaceAll(/(?<=hostmaster\.waymark\. )\d+/g, "SERIAL");
  expect(plain(unruled)).toBe(plain(ruled));
  expect(ruled).toContain("viewer_denied");
  expect(ruled).not.toContain("elsewhere");
  const audit = await node.process.run(["discovery", "access-audit", "--token", "token-of-operator", "-o", "json"]);
  const { records } = JSON.parse(audit.stdout) as { records: readonly Record<string, string>[] };
  const reasonsOf = (namespace: string) => new Set(records.filter((each) => each["namespace"] === namespace).map(({ reason }) => reason));
  expect([reasonsOf("team.b"), reasonsOf("team.c")]).toEqual([new Set(["viewer_denied", "owner_denied"]), new Set(["no_policy"])]);
  // What policy denies is not recorded a second time as a refused call, which would be named by its rpc.
  expect(records.filter(({ action }) => action?.includes("/") === true)).toEqual([]);
});

test("delegation: another cluster's namespace takes local endpoints only, and what was there is hidden, not lost", {
  tags: ["night"],
}, async () => {
  await using node = await startLimitedNode("");
  const wide = (id: string) => {
    const { entries } = registration("shop", id);
    return { entries: entries.map((entry) => ({ ...entry, scope: 3 })) };
  };
  await node.grpc.a.register(wide("1"));
  await apply(node, [{ namespace: "shop", owners: ["elsewhere"] }]);
  const seen = async () => (await node.grpc.a.catalogQuery({ namespace: "shop" })).items.map(({ key }) => key?.instanceId);
  expect(await seen()).toEqual([]);
  expect(await outcomeOf(node.grpc.a.register(wide("2")))).toMatchObject({
    reason: "discovery_access_denied",
    facts: { reason: "owner_denied", rule: "shop" },
  });
  expect(await outcomeOf(node.grpc.a.register(registration("shop", "3")))).toMatchObject({ reason: "ok" });
  // Hidden is not free: somebody else may neither take the key nor end it.
  expect(await outcomeOf(node.grpc.b.register(registration("shop", "1")))).toMatchObject({ reason: "discovery_access_denied" });
  await apply(node, [{ namespace: "shop", owners: ["local"] }]);
  expect(await seen()).toEqual(["1", "3"]);
  expect(await outcomeOf(node.grpc.a.register(wide("2")))).toMatchObject({ reason: "ok" });
});

/** Longer than a busy machine takes to notice that it has begun. */
const OPEN_MS = 5000;

/** In ms after the edge: when the first with the new verdict was answered. */
async function flip(node: LimitedNode, edgeWallMs: number, wanted: boolean): Promise<number> {
  // Until shortly before, nobody asks anything.
  await new Promise<void>((resolve) => setTimeout(resolve, edgeWallMs - Date.now() - 500));
  for (;;) {
    const { allowed = false } = await call(node, "operator", `${POLICY}/Explain`, {
      namespace: "shop",
      action: "ACT_EXPORT_SUMMARY",
      viewer: { clusterId: "local" },
    });
    if (allowed === wanted) return Date.now() - edgeWallMs;
    if (Date.now() > edgeWallMs + PATIENCE_MS) throw new Error("no flip");
  }
}

test("NamespaceStatus says which rule applies, whose it is, and what leaves now", async () => {
  await using node = await startLimitedNode("");
  const of = (namespace: string) => node.grpc.a.namespaceStatus({ namespace });
  expect(await of("shop.eu")).toMatchObject({ policyVersion: "", owners: [], exportScopes: [], reason: "policy_disabled" });
  const open = { startsAt: "2020-01-01T00:00:00Z", exportScopes: ["SCOPE_REGION"] };
  const closed = { startsAt: "2020-01-01T00:00:00Z", endsAt: "2021-01-01T00:00:00Z", exportScopes: ["SCOPE_REGION"] };
  const rule = { owners: ["local", "eu"], exportScopes: ["SCOPE_ZONE", "SCOPE_GLOBAL"] };
  await apply(node, [
    { ...rule, namespace: "shop", policyVersion: "shop-7" },
    { ...rule, namespace: "moving", cutoverWindows: [open] },
    { ...rule, namespace: "moved", cutoverWindows: [closed] },
  ]);
  expect(await of("shop.eu")).toMatchObject({ policyVersion: "shop-7", owners: ["local", "eu"], exportScopes: [2, 4] });
  expect(await of("moving")).toMatchObject({ policyVersion: "v", exportScopes: [3] });
  expect(await of("moved")).toMatchObject({ policyVersion: "v", exportScopes: [2, 4] });
  expect(await of("elsewhere")).toMatchObject({ policyVersion: "v", owners: [], exportScopes: [] });
  expect(await of("discovery.nodes")).toMatchObject({ owners: [], exportScopes: [] });
  const words = await node.process.run(["discovery", "status", "shop", "--token", "token-of-a", "-o", "json"]);
  expect(JSON.parse(words.stdout)).toMatchObject({ policyVersion: "shop-7", owners: ["local", "eu"] });
});

test("a cutover opens and closes at its times without traffic, expiry denies, and one command takes it back", {
  tags: ["night"],
}, async () => {
  await using node = await startLimitedNode("");
  await apply(node, []); // The first takes longest.
  const startMs = Date.now() + 3000;
  const iso = (ms: number) => new Date(ms).toISOString();
  const windows = [{ startsAt: iso(startMs), endsAt: iso(startMs + OPEN_MS), allowSummaries: true }];
  await apply(node, [{ namespace: "shop", owners: ["local"], cutoverWindows: windows }]);
  // How soon after it is a matter of `test/policy/set/rules.test.ts`: here a busy machine would be judged.
  for (const [edge, wanted] of [
    [startMs, true],
    [startMs + OPEN_MS, false],
  ] as const)
    expect(await flip(node, edge, wanted)).toBeGreaterThanOrEqual(-2);
  const explain = () =>
    call(node, "operator", `${POLICY}/Explain`, { namespace: "shop", action: "ACT_EXPORT_SUMMARY", viewer: { clusterId: "local" } });
  expect(await explain()).toMatchObject({ reason: "cutover_closed" });
  await apply(node, [{ namespace: "shop", owners: ["local"], allowSummaries: true }]);
  expect(await explain()).toMatchObject({ allowed: true, reason: "summary_allowed" });
  const back = await node.process.run(["namespace", "policy", "rollback", "--token", "token-of-operator", "-o", "json"]);
  expect(back).toMatchObject({ exit: 0 });
  expect(await explain()).toMatchObject({ reason: "cutover_closed" });
});

test("policies change and are rolled back under traffic: no error, and each answer is of one of the two policies", {
  tags: ["night"],
}, async () => {
  await using node = await startLimitedNode("");
  await node.grpc.b.register(registration("team.b", "1", "2", "3"));
  await node.grpc.b.register(registration("team.c", "1"));
  await apply(node, []);
  const over = new AbortController();
  const counts = new Map<number, number>();
  const traffic = Promise.all(
    Array.from({ length: 4 }, async () => {
      while (!over.signal.aborted) {
        const { items } = await node.grpc.a.catalogQuery({ namespacePrefix: "team" });
        counts.set(items.length, (counts.get(items.length) ?? 0) + 1);
      }
    }),
  );
  for (let i = 0; i < 10; i++) {
    await apply(node, [ONLY_B]);
    expect((await node.grpc.a.catalogQuery({ namespacePrefix: "team" })).items).toHaveLength(1);
    await call(node, "operator", `${POLICY}/RollbackPolicy`, {});
    expect((await node.grpc.a.catalogQuery({ namespacePrefix: "team" })).items).toHaveLength(4);
  }
  over.abort();
  await traffic;
  expect([...counts.keys()].toSorted((x, y) => x - y)).toEqual([1, 4]);
});

test("apply racing apply: one is in force, all others are told of the conflict", { tags: ["night"] }, async () => {
  await using node = await startLimitedNode("");
  await apply(node, []);
  const races = await Promise.all(
    Array.from({ length: 8 }, (_, i) =>
      node.post("operator", `${POLICY}/ApplyPolicy`, { policy: { version: `race-${i}`, defaultAllow: true }, expectedNumber: "1" }),
    ),
  );
  const said = await Promise.all(races.map(async (answer) => ({ status: answer.status, text: await answer.text() })));
  expect(said.filter(({ status }) => status === 200)).toHaveLength(1);
  for (const { status, text } of said)
    if (status !== 200) expect(text).toContain("the newest policy version is 2, but the request expects 1");
  expect(await call(node, "operator", `${POLICY}/PolicyStatus`, {})).toMatchObject({ number: "2", newestNumber: "2" });
});

/** Puts bytes that are no policy in place of the versions from this one on, in the store of a stopped node. */
async function spoilVersions(data: string, from: number): Promise<void> {
  const store = await openSqliteStore(data);
  const { items } = await store.list("policy/versions/", {});
  for (const { key, version } of items) {
    if (Number(key.split("/")[2]) >= from) await store.compareAndSwap(key, version, Uint8Array.of(0, 255));
  }
  await store.close();
}

const ready = async (node: NodeProcess): Promise<string> => (await fetch(`http://${node.listeners["http"]}/readyz`)).text();
const seen = async (node: NodeProcess): Promise<number> => {
  const { stdout } = await node.run(["discovery", "query", "--namespace", "shop", "-o", "json"]);
  return (JSON.parse(stdout) as { items: readonly unknown[] }).items.length;
};

test("a policy that cannot be read: the last known good is in force and said so, and with none everything is denied", {
  tags: ["night"],
}, async () => {
  const data = folder();
  const flags = ["--data-dir", data];
  {
    await using node = await startNodeProcess(flags);
    await node.run(["register", "--namespace", "shop", "--name", "web", "--instance", "1", "--target", "10.0.0.1:80"]);
    await node.run(["namespace", "policy", "apply", "-"], 'version: "1"\ndefault_allow: true\nrules: []\n');
    await node.run(
      ["namespace", "policy", "apply", "-"],
      'version: "2"\ndefault_allow: true\nrules:\n  - namespace: shop\n    visibility: [x]\n',
    );
    expect(await seen(node)).toBe(0);
    await node.stop();
  }
  await spoilVersions(data, 2);
  {
    await using node = await startNodeProcess(flags);
    expect(await ready(node)).toMatch(/version 2 cannot be read.*version 1 is in force/);
    expect(await seen(node)).toBe(1);
    await node.stop();
  }
  await spoilVersions(data, 1);
  await using node = await startNodeProcess(flags);
  expect(await ready(node)).toMatch(/cannot be read.*all requests are denied/);
  expect(await seen(node)).toBe(0);
});

test("over its limit a tenant gets 429 with Retry-After, and the audit says so", { tags: ["night"] }, async () => {
  await using node = await startLimitedNode("[limits]\nreads_per_minute = 3\n");
  let answer = await node.post("a", `${DISCOVERY}/CatalogQuery`, {});
  for (let i = 0; i < 5 && answer.status === 200; i++) answer = await node.post("a", `${DISCOVERY}/CatalogQuery`, {});
  expect([answer.status, Number(answer.headers.get("retry-after"))]).toEqual([429, expect.toSatisfy((n: number) => n > 0 && n <= 60)]);
  await until("all are in the audit", async () => {
    const { records = [] } = await call(node, "operator", `${POLICY}/AccessAudit`, { reason: "rate_limited" });
    return (records as readonly unknown[]).length > 0;
  });
});

test("an audit log that somebody changed is found, in the file and in the store", { tags: ["night"] }, async () => {
  const data = folder();
  const file = join(data, "audit.jsonl");
  const config = join(data, "node.toml");
  writeFileSync(config, `[audit]\nfile = ${JSON.stringify(file)}\n`);
  await using node = await startNodeProcess(["--data-dir", data, "--config", config]);
  for (let i = 0; i < 3; i++)
    await node.run(["namespace", "policy", "apply", "-", "--reason", `change ${i}`], `version: "${i}"\ndefault_allow: true\nrules: []\n`);
  expect((await node.run(["audit", "verify"])).exit).toBe(0);
  await node.stop();
  const lines = readFileSync(file, "utf8").trimEnd().split("\n");
  const verify = (text: readonly string[]) => waymarkProcess(["audit", "verify", "-"], `${text.join("\n")}\n`);
  expect((await verify(lines)).exit).toBe(0);
  const at = lines.findIndex((line) => line.includes("change 1"));
  expect((await verify(lines.with(at, lines[at]?.replace("change 1", "change 9") ?? ""))).stderr).toContain("altered");
  expect((await verify(lines.toSpliced(at, 1))).exit).toBe(1);
  expect((await verify([...lines.slice(0, at), lines[at + 1] ?? "", lines[at] ?? "", ...lines.slice(at + 2)])).exit).toBe(1);
});
