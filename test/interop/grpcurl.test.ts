/** grpcurl knows the node by reflection alone: no proto files, no generated code. */
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { run } from "../../scripts/run.ts";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { isGrpcurlThere } from "./needs.ts";

const DISCOVERY = "waymark.discovery.v1.DiscoveryService";
const isThere = await isGrpcurlThere();

const sha256 = (text: string) => createHash("sha256").update(text).digest("hex");

interface Message {
  readonly snapshot?: string;
  readonly bookmark?: boolean;
  readonly count?: string;
  readonly digest?: string;
  readonly portableCursor?: string;
  readonly deltas?: readonly { readonly action: string; readonly entry: { readonly key: { readonly instanceId: string } } }[];
}

describe.skipIf(!isThere)(`grpcurl${isThere ? "" : " (skipped: needs grpcurl)"}`, () => {
  let node: NodeProcess;
  beforeAll(async () => {
    node = await startNodeProcess(["--ephemeral"]);
  });
  afterAll(() => node[Symbol.asyncDispose]());

  const grpcurl = async (...args: string[]) => run("grpcurl", ["-plaintext", ...args]);
  const call = async (method: string, request: object, ...flags: string[]) =>
    grpcurl(...flags, "-d", JSON.stringify(request), node.grpc, method);
  const register = async (instanceId: string) =>
    call(`${DISCOVERY}/Register`, {
      entries: [
        {
          key: { kind: "ENTRY_KIND_SERVICE", namespace: "svc.market", name: "web", instanceId },
          targets: [{ host: "10.0.0.1", port: 8080 }],
        },
      ],
      ttl: "30s",
    });

  test("shows a bearer token or an API key, and is told when it is wrong", async () => {
    const credentials = [
      { tenant: "alpha", token_sha256: sha256("tok-alpha"), roles: ["mesh.read"] },
      { tenant: "beta", token_sha256: sha256("key-beta"), scheme: "api-key" },
    ];
    const folder = mkdtempSync(join(tmpdir(), "waymark-grpcurl-"));
    const config = join(folder, "node.json");
    writeFileSync(config, JSON.stringify({ server: { reflection: "authenticated" }, tenants: { mode: true, credentials } }));
    await using guarded = await startNodeProcess(["--ephemeral", "--config", config]);
    const ask = async (method: string, ...headers: string[]) =>
      grpcurl(...headers.flatMap((header) => ["-H", header]), "-d", "{}", guarded.grpc, method);
    expect(await ask("waymark.policy.v1.PolicyService/PolicyStatus", "authorization: Bearer tok-alpha")).toMatchObject({ code: 0 });
    const role = await ask("waymark.policy.v1.PolicyService/PolicyStatus", "x-api-key: key-beta");
    expect(role.output).toContain("the caller must have the role mesh.read");
    const wrong = await ask(`${DISCOVERY}/ServerInfo`, "authorization: Bearer tok-wrong");
    expect([wrong.code !== 0, wrong.output.includes("token is unknown on this node")]).toEqual([true, true]);
    expect((await grpcurl(guarded.grpc, "list")).output).toContain(
      "grpc.reflection.v1.ServerReflection requires a credential on this node",
    );
    rmSync(folder, { recursive: true, force: true });
  });

  test("lists every service and its methods", async () => {
    const services = (await grpcurl(node.grpc, "list")).output.trim().split("\n");
    expect(services).toEqual(expect.arrayContaining([DISCOVERY, "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"]));
    for (const service of services) expect(await grpcurl(node.grpc, "list", service)).toMatchObject({ code: 0 });
    expect((await grpcurl(node.grpc, "list", DISCOVERY)).output.trim().split("\n")).toHaveLength(14);
  });

  test("describes services and messages with their comments", async () => {
    const service = await grpcurl(node.grpc, "describe", DISCOVERY);
    expect(service.output).toContain("// Reads and writes the catalog. Any node of a cluster answers any call from its own memory.");
    expect(service.output).toMatch(/rpc CatalogWatch \( \.\S+CatalogWatchRequest \) returns \( stream \.\S+CatalogWatchResponse \) \{/);
    expect(service.output).toContain("option (.waymark.options.v1.access) = { role: ROLE_NONE };");
    const message = await grpcurl(node.grpc, "describe", "waymark.catalog.v1.EntryKey");
    expect(message.output).toMatch(/string instance_id = 4 \[\s+\(\.buf\.validate\.field\)/);
    expect((await grpcurl(node.grpc, "describe", "waymark.catalog.v1.Reason")).output).toContain("REASON_LEASE_NOT_FOUND = 6;");
  });

  test("registers an entry and finds it again", async () => {
    const registered = JSON.parse((await register("i1")).output) as { readonly leaseId: string; readonly ttl: string };
    expect(registered.ttl).toBe("30s");
    expect(registered.leaseId.split("/")[0]).toBe(node.nodeId);
    const page = await call(`${DISCOVERY}/CatalogQuery`, { namespace: "svc.market", names: ["web"] });
    expect(JSON.parse(page.output)).toMatchObject({
      servedBy: node.nodeId,
      items: [{ key: { name: "web", instanceId: "i1" }, targets: [{ host: "10.0.0.1", port: 8080 }], health: "HEALTH_STATUS_HEALTHY" }],
    });
  });

  test("watches: a snapshot with END, then a bookmark with the same count and digest", async () => {
    await register("i1");
    // The call ends by its deadline, since a watch has no end of its own.
    const watched = await call(
      `${DISCOVERY}/CatalogWatch`,
      { namespace: "svc.market", withDigest: true, bookmarkInterval: "1s" },
      "-max-time",
      "3",
    );
    const messages = messagesOf(watched.output);
    expect(messages[0]).toMatchObject({
      snapshot: "SNAPSHOT_BEGIN",
      deltas: [{ action: "ACTION_CREATE", entry: { key: { instanceId: "i1" } } }],
    });
    const end = messages.find((message) => message.snapshot === "SNAPSHOT_END");
    const bookmark = messages.find((message) => message.bookmark === true);
    expect(end?.count).toBe("1");
    expect(end?.portableCursor).toMatch(/^p1\./);
    expect({ count: bookmark?.count, digest: bookmark?.digest }).toEqual({ count: end?.count, digest: end?.digest });
    expect(watched.output).toContain("Code: DeadlineExceeded");
  });

  test.each([
    {
      what: "a bad namespace",
      method: "CatalogQuery",
      request: { namespace: "Svc" },
      code: 3,
      reason: "INVALID_ARGUMENT",
      field: "namespace",
    },
    {
      what: "a forged cursor",
      method: "CatalogWatch",
      request: { cursor: "p1.AAAA" },
      code: 3,
      reason: "INVALID_ARGUMENT",
      field: "cursor",
    },
    {
      what: "a request that needs a missing setting",
      method: "SummaryQuery",
      request: { scope: "SCOPE_GLOBAL" },
      code: 9,
      reason: "SUMMARIES_DISABLED",
      field: undefined,
    },
  ])("shows why $what is refused: reason and field", async ({ method, request, code, reason, field }) => {
    const refused = await call(`${DISCOVERY}/${method}`, request, "-format-error");
    expect(refused.code).toBe(64 + code);
    const status = JSON.parse(refused.output) as { readonly message: string; readonly details: readonly object[] };
    expect(status.message).toMatch(new RegExp(`^${reason.toLowerCase()}: `));
    expect(status.details[0]).toMatchObject({ "@type": "type.googleapis.com/google.rpc.ErrorInfo", domain: "waymark", reason });
    if (field !== undefined) expect(status.details[1]).toMatchObject({ fieldViolations: [{ field }] });
  });

  test("checks health, of the server and of one service", async () => {
    for (const service of ["", DISCOVERY, "waymark.resolver.v1.ResolverService", "waymark.dns.v1.DnsService"]) {
      expect(JSON.parse((await call("grpc.health.v1.Health/Check", { service })).output)).toEqual({ status: "SERVING" });
    }
    expect((await call("grpc.health.v1.Health/Check", { service: "nobody" })).output).toContain("Code: NotFound");
  });

  test("asks who the node is", async () => {
    const info = JSON.parse((await grpcurl(node.grpc, `${DISCOVERY}/ServerInfo`)).output) as { readonly version: string };
    expect(info).toMatchObject({ nodeId: node.nodeId, listeners: { grpc: node.grpc } });
    expect(info.version).toMatch(/^\d+\./);
  });
});

/** grpcurl prints one JSON object after the other, each over several lines that end with a lone brace. */
function messagesOf(output: string): readonly Message[] {
  const text = output.slice(0, output.indexOf("ERROR:") === -1 ? undefined : output.indexOf("ERROR:"));
  return text
    .split(/^\}$/m)
    .filter((part) => part.trim() !== "")
    .map((part) => JSON.parse(`${part}}`) as Message);
}
