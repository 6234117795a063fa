/** Real resolvers register themselves at real nodes: clients find them, they outlive the loss of a node, and they are gone when they stop. */
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, expect, test } from "vitest";
import { DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { PolicyService } from "../../gen/waymark/policy/v1/policy_pb.js";
import { connect } from "../../src/client/index.ts";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

const HOME = mkdtempSync(join(tmpdir(), "waymark-resolver-registration-"));
const TOKENS = { resolver: "token-of-a-resolver", admin: "token-of-an-admin" } as const;

const tokenFile = join(HOME, "resolver.token");
writeFileSync(tokenFile, TOKENS.resolver, { mode: 0o600 });
const fabricToken = join(HOME, "fabric.token");
writeFileSync(fabricToken, "a-token-of-the-registration-tests\n", { mode: 0o600 });

function settings(name: string, more: object): string {
  const credentials = Object.entries(TOKENS).map(([who, token]) => ({
    tenant: who,
    token_sha256: createHash("sha256").update(token).digest("hex"),
    roles: [who === "admin" ? "mesh.admin" : "mesh.resolve"],
  }));
  const path = join(HOME, `${name}.json`);
  writeFileSync(path, JSON.stringify({ tenants: { mode: true, credentials }, observability: { log_level: "warn" }, ...more }));
  return path;
}

const FABRIC = { cluster_token_file: fabricToken, interval: "400ms", ping_timeout: "250ms", join_timeout: "20s" };
const started: NodeProcess[] = [];

async function start(id: string, flags: readonly string[], more: object): Promise<NodeProcess> {
  const server = await startNodeProcess(["--ephemeral", "--node-id", id, ...flags, "--config", settings(id, more)]);
  started.push(server);
  return server;
}

let a: NodeProcess;
let b: NodeProcess;
/** Has both nodes as upstreams. */
let edge: NodeProcess;
beforeAll(async () => {
  a = await start("a", [], { fabric: FABRIC });
  b = await start("b", ["--join", a.listeners["fabric"] ?? ""], { fabric: FABRIC });
  const rules = [{ namespace: "svc.secret", visibilityTenants: ["blue"] }];
  await createClient(PolicyService, transportAt(a, "admin")).applyPolicy({
    policy: { version: "v1", defaultAllow: false, rules: rules as never },
  });
  edge = await start("edge", resolverFlags(`${a.grpc},${b.grpc}`, "svc.market,svc.secret"), {
    node: { zone: "z9" },
    resolver: { token_file: tokenFile },
  });
});
afterAll(async () => {
  for (const server of started.toReversed()) await server[Symbol.asyncDispose]();
  rmSync(HOME, { recursive: true, force: true });
});

const resolverFlags = (upstreams: string, namespaces: string) => [
  "--mode",
  "resolver",
  "--upstream",
  upstreams,
  "--namespaces",
  namespaces,
];

function transportAt(server: NodeProcess, who?: keyof typeof TOKENS) {
  const credential: Interceptor = (next) => (request) => {
    if (who !== undefined) request.header.set("authorization", `Bearer ${TOKENS[who]}`);
    return next(request);
  };
  return createGrpcTransport({ baseUrl: `http://${server.grpc}`, interceptors: [credential] });
}

/** The resolvers that a caller without a credential is shown. */
async function resolversAt(server: NodeProcess) {
  return (await createClient(DiscoveryService, transportAt(server)).catalogQuery({ namespace: "discovery.resolvers" })).items;
}

const idsAt = async (server: NodeProcess) => (await resolversAt(server)).map(({ key }) => key?.name);

test("a resolver stands at every node under its id, with its zone, its listeners, and what it follows but for what policy hides", async () => {
  for (const node of [a, b]) {
    await until("the resolver is there", async () => (await idsAt(node)).length === 1);
    const [entry] = await resolversAt(node);
    expect(entry).toMatchObject({ key: { name: "edge", instanceId: "edge" }, zone: "z9", tenantId: "resolver", ttl: { seconds: 30n } });
    const [host, port] = edge.grpc.split(":");
    expect(entry?.targets.find(({ name }) => name === "grpc")).toMatchObject({ host, port: Number(port), protocol: "grpc" });
    // The default of the policy denies: everything but the control plane's namespaces is hidden.
    expect(entry?.metadata).toMatchObject({ "waymark.resolver.namespaces": "", "waymark.resolver.namespace_count": "0" });
  }
});

test("a client without a credential finds the resolver", async () => {
  const client = connect({ servers: [a.grpc], refreshMs: 1000 });
  try {
    await client.call(DiscoveryService.method.serverInfo, {});
    await until("the client knows the resolver", () => client.servers.length >= 3);
    expect(client.servers).toContain(edge.grpc);
  } finally {
    client.close();
  }
});

test("a resolver behind another one registers at a node that this one names, and is gone when it stops", async () => {
  const second = await start("second", resolverFlags(edge.grpc, "svc.market"), { resolver: { token_file: tokenFile } });
  await until("both are there", async () => (await idsAt(b)).length === 2);
  expect((await resolversAt(b)).map(({ nodeId }) => nodeId)).toEqual([expect.stringMatching(/^[ab]$/), expect.stringMatching(/^[ab]$/)]);
  expect((await second.stop()).exit).toBe(0);
  // Far sooner than its lease would end.
  await until("it is gone", async () => (await idsAt(a)).join() === "edge" && (await idsAt(b)).join() === "edge", 10_000);
});

test("what it may name changes with the policy, and so does its entry, under the same lease", async () => {
  const rules = [{ namespace: "svc.secret", visibilityTenants: ["blue"] }];
  await createClient(PolicyService, transportAt(a, "admin")).applyPolicy({
    policy: { version: "v2", defaultAllow: true, rules: rules as never },
  });
  await until("it names what it follows", async () => {
    const [entry] = await resolversAt(b);
    return entry?.metadata["waymark.resolver.namespaces"] !== "";
  });
  const [entry] = await resolversAt(b);
  expect(entry?.metadata).toMatchObject({ "waymark.resolver.namespaces": "svc.market", "waymark.resolver.namespace_count": "1" });
});

test("when the node that holds its lease is killed, it is at the other one", { tags: ["night"] }, async () => {
  const [entry] = await resolversAt(a);
  const [lost, kept] = entry?.nodeId === "a" ? [a, b] : [b, a];
  lost.command.kill("SIGKILL");
  await until("the resolver is at the other node", async () => {
    const [now] = await resolversAt(kept);
    return now?.nodeId === kept.nodeId ? [] : [now?.nodeId ?? "nowhere"];
  });
  expect(await idsAt(kept)).toEqual(["edge"]);
});
