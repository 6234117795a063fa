/** The DNS of a real resolver: it calls a name absent only if it is, and asks its node about what it does not follow. */
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Scope } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { Source } from "../../gen/waymark/catalog/v1/watch_pb.js";
import { DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { PolicyService } from "../../gen/waymark/policy/v1/policy_pb.js";
import { dig } from "../fakes/dig.ts";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

const HOME = mkdtempSync(join(tmpdir(), "waymark-resolver-dns-"));
const TOKENS = { resolver: "token-of-a-resolver", admin: "token-of-an-admin" } as const;
const ROLES = { resolver: ["mesh.resolve"], admin: ["mesh.admin"] } as const;

const tokenFile = join(HOME, "resolver.token");
writeFileSync(tokenFile, TOKENS.resolver, { mode: 0o600 });

function settings(name: string, more: object = {}): string {
  const credentials = (["resolver", "admin"] as const).map((who) => ({
    tenant: who,
    token_sha256: createHash("sha256").update(TOKENS[who]).digest("hex"),
    roles: ROLES[who],
  }));
  const path = join(HOME, `${name}.json`);
  writeFileSync(path, JSON.stringify({ tenants: { mode: true, credentials }, observability: { log_level: "warn" }, ...more }));
  return path;
}

const asAdmin: Interceptor = (next) => (request) => {
  request.header.set("authorization", `Bearer ${TOKENS.admin}`);
  return next(request);
};

let node: NodeProcess;
let resolver: NodeProcess;
beforeAll(async () => {
  node = await startNodeProcess(["--ephemeral", "--node-id", "near", "--config", settings("node")]);
  await register("svc.market", "web", "192.0.2.1");
  await register("svc.other", "far", "192.0.2.2", ["shop.example", "deep.below.example"]);
  await register("svc.secret", "hidden", "192.0.2.3", ["own.example"]);
  const policies = createClient(PolicyService, transport());
  const rules = [{ namespace: "svc.secret", visibilityTenants: ["red"] }];
  await policies.applyPolicy({ policy: { version: "v1", defaultAllow: true, rules }, reason: "test" });
  const flags = ["--mode", "resolver", "--upstream", node.grpc, "--namespaces", "svc.market", "--ephemeral", "--node-id", "edge"];
  resolver = await startNodeProcess([...flags, "--config", settings("edge", { resolver: { token_file: tokenFile } })]);
});
afterAll(async () => {
  await resolver[Symbol.asyncDispose]();
  await node[Symbol.asyncDispose]();
  rmSync(HOME, { recursive: true, force: true });
});

function transport() {
  return createGrpcTransport({ baseUrl: `http://${node.grpc}`, interceptors: [asAdmin] });
}

async function register(namespace: string, name: string, host: string, aliases: string[] = []): Promise<void> {
  const entry = {
    key: { kind: 1, namespace, name, instanceId: "1" },
    scope: Scope.ZONE,
    targets: [{ host, port: 80 }],
    aliases,
  };
  await createClient(DiscoveryService, transport()).register({ entries: [entry], staticLease: true });
}

/** The code of the resolver's answer, then the type, seconds and data of each record. */
function asked(name: string, ...words: readonly string[]): Promise<string> {
  return askedAt(resolver, name, ...words);
}

async function askedAt(server: NodeProcess, name: string, ...words: readonly string[]): Promise<string> {
  const printed = await dig(server.listeners["dns"] ?? "", name === "" ? "waymark" : `${name}.waymark`, ...words);
  const records = printed.split("\n").filter((line) => line !== "" && !line.startsWith(";") && !line.includes("SOA"));
  const code = /status: (\w+)/.exec(printed)?.[1] ?? "";
  return [code, ...records.map((line) => line.split(/\s+/).slice(3).join(" "))].join("; ");
}

async function queriesAtNode(): Promise<number> {
  const text = await (
    await fetch(`http://${node.listeners["http"]}/metrics`, { headers: { authorization: `Bearer ${TOKENS.admin}` } })
  ).text();
  const line = text.split("\n").find((each) => each.startsWith("rpc_requests_total") && each.includes("CatalogQuery"));
  return Number(line?.split(" ").at(-1) ?? 0);
}

test("with default deny, the resolver gives the same answer as the node for each name", async () => {
  const policies = createClient(PolicyService, transport());
  const apply = (policy: object) => policies.applyPolicy({ policy, reason: "test" });
  await register("svc.market.deep.eu", "web", "192.0.2.4");
  await apply({ version: "v2", defaultAllow: false, rules: [{ namespace: "svc.market" }] });
  try {
    const absent = ["far.svc.other", "none.svc.other", "hidden.svc.secret", "svc.secret", "shop.example", "below.example", "up.eu"];
    for (const [name, code] of [...absent.map((each) => [each, "NXDOMAIN"] as const), ["deep.eu", "NOERROR"] as const]) {
      expect([name, await askedAt(node, name)]).toEqual([name, code]);
      // Answers from its node may arrive late.
      await until(`the resolver answers ${code} for ${name}`, async () => (await asked(name)) === code);
    }
  } finally {
    await apply({ version: "v3", defaultAllow: true, rules: [{ namespace: "svc.secret", visibilityTenants: ["red"] }] });
    await until("it has the policy", async () => (await asked("far.svc.other")).startsWith("NOERROR; A"));
  }
});

test("a name that is not followed is fetched, over UDP and TCP, and so is an alias that is carried elsewhere", async () => {
  expect(await asked("web.svc.market")).toBe("NOERROR; A 192.0.2.1");
  expect(await asked("far.svc.other")).toBe("NOERROR; A 192.0.2.2");
  expect(await asked("shop.example", "+tcp")).toBe("NOERROR; CNAME far.svc.other.waymark.; A 192.0.2.2");
  expect(await asked("_svc._tcp.far.svc.other", "SRV")).toContain("80 192-0-2-2.addr.node.waymark.");
  expect(await asked("near.node", "TXT")).toContain("NOERROR; TXT");
});

test("a name is absent only if it, an alias and all below it are, and what lies above a name is not", async () => {
  expect(await asked("none.svc.other")).toBe("NXDOMAIN");
  expect(await asked("none.svc.market")).toBe("NXDOMAIN");
  expect(await asked("other")).toBe("NOERROR");
  expect(await asked("below.example")).toBe("NOERROR");
  expect(await asked("_tcp.far.svc.other")).toBe("NOERROR");
});

test("a question counts once as an ask for its namespace, however often it is looked at while it waits", async () => {
  const baseUrl = `http://${resolver.grpc}`;
  const reads = createClient(DiscoveryService, createGrpcTransport({ baseUrl, interceptors: [asAdmin] }));
  const sourceOf = async (namespace: string) => (await reads.catalogQuery({ namespace, names: ["web"] })).source;
  expect(await asked("web.svc.rare")).toBe("NXDOMAIN");
  // What is asked for more than 3 times in 10 s is followed.
  await until("another is followed", async () => (await sourceOf("svc.often")) === Source.FOLLOWED);
  expect(await sourceOf("svc.rare")).toBe(Source.FETCHED);
});

test("a hidden name is absent as one that does not exist, and nothing is fetched for it", async () => {
  const before = await queriesAtNode();
  expect(before).toBeGreaterThan(0);
  for (const name of ["hidden.svc.secret", "none.svc.secret", "_svc._tcp.hidden.svc.secret"]) expect(await asked(name)).toBe("NXDOMAIN");
  expect(await queriesAtNode()).toBe(before);
  // The alias lies in no hidden namespace. Its carrier does.
  expect(await asked("own.example")).toBe("NXDOMAIN");
});

test("the zone's name server is the resolver, which has an address there, and no node's name becomes another's", async () => {
  expect(await asked("", "NS")).toBe("NOERROR; NS edge.node.waymark.; A 127.0.0.1");
  expect(await asked("edge.node")).toBe("NOERROR; A 127.0.0.1");
  expect(await asked("edge.node", "TXT")).toContain('"namespace=discovery.resolvers"');
  expect(await asked("other.node")).toBe("NXDOMAIN");
});

test("with every server gone what is known is answered, and nothing else is called absent", async () => {
  node.command.kill("SIGKILL");
  await node.command.finished();
  await until("it knows", async () => (await asked("new.svc.other")) === "SERVFAIL");
  expect(await asked("web.svc.market")).toBe("NOERROR; A 192.0.2.1");
  expect(await asked("far.svc.other")).toBe("NOERROR; A 192.0.2.2");
  expect(await asked("shop.example")).toBe("NOERROR; CNAME far.svc.other.waymark.; A 192.0.2.2");
  expect(await asked("none.svc.other")).toBe("NXDOMAIN");
  expect(await asked("another.svc.market")).toBe("SERVFAIL");
  expect(await asked("edge.node")).toBe("NOERROR; A 127.0.0.1");
  expect(await asked("hidden.svc.secret")).toBe("NXDOMAIN");
});
