/** Scenario 6 in one cluster: names that are registered through DnsService, over the command line, HTTP and dig, at nodes, a read worker and a resolver. */
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { dig, isDigThere, recordsIn } from "../fakes/dig.ts";
import { type Finished, type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

const HOME = mkdtempSync(join(tmpdir(), "waymark-dns-service-"));
const ROLES = { resolver: ["mesh.resolve"], admin: ["mesh.admin"], green: [], blue: [] } as const;
type Who = keyof typeof ROLES;
const tokenOf = (who: Who): string => `token-of-${who}`;
const tokenFile = join(HOME, "resolver.token");
writeFileSync(tokenFile, tokenOf("resolver"), { mode: 0o600 });
const fabricToken = join(HOME, "fabric.token");
writeFileSync(fabricToken, "a-token-of-the-fabric\n", { mode: 0o600 });
const NODE = { fabric: { cluster_token_file: fabricToken, interval: "400ms", ping_timeout: "250ms", join_timeout: "20s" } };

function settings(name: string, more: object = {}): string {
  const credentials = (["resolver", "admin", "green", "blue"] as const).map((who) => ({
    tenant: who,
    token_sha256: createHash("sha256").update(tokenOf(who)).digest("hex"),
    roles: ROLES[who],
  }));
  const path = join(HOME, `${name}.json`);
  writeFileSync(path, JSON.stringify({ tenants: { mode: true, credentials }, observability: { log_level: "warn" }, ...more }));
  return path;
}

const SPACE = "svc.prod.us-east";
let near: NodeProcess;
let far: NodeProcess;
let edge: NodeProcess;

/** A command as somebody. */
function as(who: Who, node: NodeProcess, ...argv: readonly string[]): Promise<Finished> {
  return node.run([...argv, "--token", tokenOf(who)]);
}

function endpoint(name: string, host: string, ...more: readonly string[]): readonly string[] {
  return [
    "dns",
    "register",
    name,
    "--namespace",
    SPACE,
    "--protocol",
    "grpc",
    "--port",
    "8080",
    "--target",
    host,
    "--ttl",
    "300s",
    ...more,
  ];
}

beforeAll(async () => {
  near = await startNodeProcess(["--ephemeral", "--node-id", "near", "--config", settings("near", NODE)]);
  const joined = ["--ephemeral", "--node-id", "far", "--join", near.listeners["fabric"] ?? "", "--workers", "1"];
  far = await startNodeProcess([...joined, "--config", settings("far", NODE)]);
  const upstream = ["--mode", "resolver", "--upstream", near.grpc, "--namespaces", "svc.other", "--ephemeral", "--node-id", "edge"];
  edge = await startNodeProcess([...upstream, "--config", settings("edge", { resolver: { token_file: tokenFile } })]);
  const policy = join(HOME, "policy.yaml");
  const rules = [`  - namespace: ${SPACE}.pay`, "    visibility_tenants: [blue, admin]"].join("\n");
  writeFileSync(policy, `version: v1\ndefault_allow: true\nrules:\n${rules}\n`);
  const applied = await as("admin", near, "namespace", "policy", "apply", policy, "--reason", "test");
  if (applied.exit !== 0) throw new Error(applied.stderr);
});
afterAll(async () => {
  for (const node of [edge, far, near]) await node[Symbol.asyncDispose]();
  rmSync(HOME, { recursive: true, force: true });
});

test("a service that is registered anew at another node replaces the one before, and is gone at once when it is unregistered", {
  tags: ["night"],
}, async () => {
  const named = await as("green", near, ...endpoint("web", "192.0.2.1", "--alias", `www.${SPACE}`, "--alias", `www.${SPACE}.pay`));
  const lost = `the alias www.${SPACE}.pay is not in DNS: another entry owns the name, or a policy forbids it in this namespace\n`;
  expect(named).toMatchObject({ exit: 0, stderr: lost });
  const resolved = async (node: NodeProcess) => (await as("green", node, "dns", "explain", `web.${SPACE}.waymark`, "A")).stdout;
  await until("the other node answers", async () => (await resolved(far)).includes("60 IN A 192.0.2.1"));
  expect(await as("green", far, ...endpoint("web", "192.0.2.2"))).toMatchObject({ exit: 0 });
  await until("the first node has heard of it", async () => (await resolved(near)).includes("192.0.2.2"));
  for (const node of [near, far, edge]) expect(await resolved(node)).not.toContain("192.0.2.1");
  // What a resolver fetched it tells for what is left of its time.
  expect(await resolved(edge)).toMatch(/ (\d|1\d) IN A 192\.0\.2\.2\n[^]*; the data fetched by this resolver expires in (\d|1\d) s/);
  const gone = ["dns", "unregister", "web", "--namespace", SPACE, "--protocol", "grpc", "--port", "8080"];
  expect(await as("blue", far, ...gone)).toMatchObject({ exit: 4 });
  expect(await as("green", far, ...gone)).toMatchObject({ exit: 0 });
  expect(await resolved(far)).toContain("NXDOMAIN");
  expect(await as("green", far, ...gone)).toMatchObject({ exit: 5 });
});

test("a tenant-restricted viewer sees of SRV only what it may see, by list, description, answer and dig", { tags: ["night"] }, async () => {
  expect(await as("green", near, ...endpoint("api", "192.0.2.10"))).toMatchObject({ exit: 0 });
  expect(await as("green", near, ...endpoint("api", "192.0.2.11").map((word) => (word === "8080" ? "8081" : word)))).toMatchObject({
    exit: 0,
  });
  const secret = endpoint("card", "192.0.2.20").map((word) => (word === SPACE ? `${SPACE}.pay` : word));
  expect(await as("green", near, ...secret)).toMatchObject({ exit: 4 });
  expect(await as("blue", near, ...secret)).toMatchObject({ exit: 0 });
  const fn = [
    "register",
    "--kind",
    "function",
    "--namespace",
    SPACE,
    "--name",
    "sum",
    "--instance",
    "1",
    "--target",
    "192.0.2.30:9000/grpc",
  ];
  expect(await as("green", near, ...fn)).toMatchObject({ exit: 0 });
  const listed = async (who: Who, node: NodeProcess) => {
    const { names } = JSON.parse((await as(who, node, "dns", "list", "--prefix", SPACE, "-o", "json")).stdout) as {
      names: { name: string }[];
    };
    return names.map(({ name }) => name);
  };
  await until("the other node has it all", async () => (await listed("blue", far)).length === 3);
  for (const node of [near, far, edge]) {
    expect(await listed("green", node)).toEqual(["api", "sum"]);
    expect(await listed("blue", node)).toEqual(["api", "sum", "card"]);
    const hidden = `_svc._tcp.card.${SPACE}.pay.waymark`;
    expect(await as("green", node, "dns", "describe", hidden)).toMatchObject({ exit: 5 });
    expect(await as("blue", node, "dns", "describe", hidden)).toMatchObject({ exit: 0 });
    const srv = async (who: Who, name: string) => (await as(who, node, "dns", "explain", name, "SRV")).stdout;
    expect(await srv("green", hidden)).toContain("NXDOMAIN");
    expect(await srv("blue", hidden)).toContain("SRV 0 1 8080 192-0-2-20.addr.node.waymark.");
    expect((await srv("green", `_svc._tcp.api.${SPACE}.waymark`)).match(/ IN SRV /g)).toHaveLength(2);
    expect(await srv("green", `_rpc._tcp.sum.${SPACE}.waymark`)).toContain("SRV 0 1 9000 192-0-2-30.addr.node.waymark.");
  }
  if (!isDigThere()) return;
  for (const node of [near, far, edge]) {
    const server = node.listeners["dns"] ?? "";
    expect(recordsIn(await dig(server, "+noadditional", "SRV", `_svc._tcp.api.${SPACE}.waymark`))).toHaveLength(2);
    expect(await dig(server, "SRV", `_svc._tcp.card.${SPACE}.pay.waymark`)).toContain("status: NXDOMAIN");
  }
});

test("a resolver refuses what writes, and names a node; HTTP refuses bad input with its field", async () => {
  const refused = await as("green", edge, ...endpoint("new", "192.0.2.40"));
  expect(refused.exit).toBe(1);
  expect(refused.stderr).toContain("read_only");
  const post = async (endpointFields: object) => {
    const body = JSON.stringify({
      staticLease: true,
      endpoint: { name: "x", namespace: SPACE, port: 80, targets: ["192.0.2.1"], ...endpointFields },
    });
    const headers = { "content-type": "application/json", authorization: `Bearer ${tokenOf("green")}` };
    const answer = await fetch(`http://${near.listeners["http"]}/waymark.dns.v1.DnsService/RegisterName`, {
      method: "POST",
      headers,
      body,
    });
    const { code, message } = (await answer.json()) as { readonly code?: string; readonly message?: string };
    return { status: answer.status, code, message };
  };
  for (const [field, value] of [
    ["port", 70_000],
    ["ttl", "-1s"],
    ["name", ""],
  ] as const) {
    const { message, ...said } = await post({ [field]: value });
    expect(said).toEqual({ status: 400, code: "invalid_argument" });
    expect(message).toContain(`endpoint.${field}: `);
  }
  expect(await post({ namespace: `${SPACE}.pay` })).toMatchObject({ status: 403, code: "permission_denied" });
});
