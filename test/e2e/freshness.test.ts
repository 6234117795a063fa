/** Honest freshness: who answered, from which revision, how old; why an entry is in an answer or not; and targeted debug logs. */
import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Snapshot } from "../../gen/waymark/catalog/v1/watch_pb.js";
import { type CatalogWatchResponse, DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { connect } from "../../src/client/index.ts";
import { askHttp, type GrpcDoor, goodEntry, textOf } from "../fakes/node.ts";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { startStillNode } from "../fakes/still-node.ts";

let node: NodeProcess;
let grpc: GrpcDoor;
let revision = "";

beforeAll(async () => {
  ({ node, grpc } = await startStillNode(["--node-id", "n1", "--zone", "z1", "--log-scopes", "server.rpc=debug"]));
  const entries = [
    goodEntry({ tags: ["blue"], zone: "z2" }, { instanceId: "far" }),
    goodEntry({ tags: ["blue"] }, { instanceId: "near" }),
    goodEntry({ tags: ["green"], health: "HEALTH_STATUS_CRITICAL" }, { instanceId: "sick" }),
    goodEntry({ scope: "SCOPE_REGION", function: { version: "1.4.0" } }, { name: "area", instanceId: "new" }),
    goodEntry({ scope: "SCOPE_REGION", function: { version: "0.9.0" } }, { name: "area", instanceId: "old" }),
  ];
  const { response } = await grpc.ask("register", { entries, staticLease: true });
  revision = textOf(response["revision"]);
});
afterAll(async () => {
  grpc[Symbol.dispose]();
  await node.stop();
});

const fresh = () => ({ servedBy: "n1", revision, age: "0s", source: "SOURCE_REPLICA" });

describe("every answer carries serving node, revision and age", () => {
  test.each([
    { rpc: "catalogQuery", request: { namespace: "svc.market" } },
    { rpc: "catalogQuery", request: { namespace: "svc.absent" } },
    { rpc: "resolve", request: { namespace: "svc.market", name: "web" } },
    { rpc: "clusterMap", request: {} },
    { rpc: "listPeers", request: {} },
    { rpc: "namespaceStatus", request: { namespace: "svc.market" } },
  ] satisfies readonly { rpc: Parameters<GrpcDoor["ask"]>[0]; request: JsonValue }[])("$rpc $request", async ({ rpc, request }) => {
    expect((await grpc.ask(rpc, request)).response).toMatchObject(fresh());
    expect((await askHttp(node.listeners["http"] ?? "", rpc, request)).response).toMatchObject(fresh());
  });

  test("a query also says when it was answered, and a cursor to follow on from", async () => {
    const { response } = await grpc.ask("catalogQuery", { namespace: "svc.market", limit: 1 });
    expect(Math.abs(Date.parse(textOf(response["generatedAt"])) - Date.now())).toBeLessThan(60_000);
    expect(response["cursor"]).toMatch(/^s2\./);
  });

  test("a register and an unregister carry the revision that contains them", async () => {
    const { response } = await grpc.ask("register", { entries: [goodEntry({}, { name: "brief" })] });
    const at = Number(response["revision"]);
    expect(at).toBe(Number(revision) + 1);
    const gone = await grpc.ask("unregister", { leaseId: response["leaseId"] ?? "" });
    expect(gone.response).toEqual({ removed: 1, revision: String(at + 1) });
    revision = String(at + 1);
  });

  test("/metrics/persistence carries the seq of the newest change, not the one from the start", async () => {
    const seqNow = async () => {
      const answer = await fetch(`http://${node.listeners["http"]}/metrics/persistence`);
      return Number(/"lastSeq":(\d+)/.exec(await answer.text())?.[1]);
    };
    const before = await seqNow();
    const { response } = await grpc.ask("register", { entries: [goodEntry({}, { name: "brief" })] });
    expect(await seqNow()).toBe(before + 1);
    const gone = await grpc.ask("unregister", { leaseId: response["leaseId"] ?? "" });
    revision = textOf(gone.response["revision"]);
  });

  test("/metrics/persistence does not show paths of the node", async () => {
    const page = await (await fetch(`http://${node.listeners["http"]}/metrics/persistence`)).text();
    expect(page).toContain('"fileBytes":');
    expect(page).not.toMatch(/\/|"path"/);
  });

  test("a watch says it at BEGIN, END and bookmarks; every other message its revision", async () => {
    const client = connect({ servers: [node.grpc], findServers: false });
    const seen: CatalogWatchResponse[] = [];
    const watch = client.stream(DiscoveryService.method.catalogWatch, { namespace: "svc.market", bookmarkInterval: { seconds: 1n } });
    for await (const message of watch) {
      seen.push(message);
      if (message.bookmark && message.snapshot === Snapshot.UNSPECIFIED) break;
    }
    client.close();
    expect(seen.map(({ snapshot }) => snapshot)).toEqual(expect.arrayContaining([Snapshot.BEGIN, Snapshot.END, Snapshot.UNSPECIFIED]));
    for (const message of seen)
      expect(message).toMatchObject({ servedBy: "n1", revision: BigInt(revision), age: { seconds: 0n, nanos: 0 } });
  });
});

/** `instance` → reason, of an explanation. */
function reasons(response: JsonObject): Record<string, string> {
  const found: Record<string, string> = {};
  const list = response["explanation"];
  for (const each of Array.isArray(list) ? list : []) {
    const { key, reason, detail } = each as { key: { instanceId: string }; reason: string; detail?: string };
    if (reason !== "kept" && detail === undefined) throw new Error(`${reason} is not explained`);
    found[key.instanceId] = reason;
  }
  return found;
}

describe("explain", () => {
  test("is empty when it is off", async () => {
    expect((await grpc.ask("catalogQuery", { namespace: "svc.market" })).response).not.toHaveProperty("explanation");
    expect((await grpc.ask("resolve", { namespace: "svc.market", name: "web" })).response).not.toHaveProperty("explanation");
  });

  test.each([
    { asks: { tags: ["blue"] }, says: { far: "kept", near: "kept", sick: "tags" } },
    { asks: { health: ["HEALTH_STATUS_HEALTHY"] }, says: { far: "kept", near: "kept", sick: "health" } },
    { asks: { scope: "SCOPE_REGION" }, says: { far: "scope", near: "scope", sick: "scope" } },
    { asks: { kinds: ["ENTRY_KIND_QUEUE"] }, says: { far: "kinds", near: "kinds", sick: "kinds" } },
    { asks: { clusterId: "elsewhere" }, says: { far: "cluster_id", near: "cluster_id", sick: "cluster_id" } },
    { asks: { capabilities: ["gpu"] }, says: { far: "capabilities", near: "capabilities", sick: "capabilities" } },
    { asks: { limit: 1 }, says: { far: "kept", near: "after_page" } },
  ])("a query for $asks says of each web why it is there or not", async ({ asks, says }) => {
    const { response } = await grpc.ask("catalogQuery", { namespace: "svc.market", names: ["web"], explain: true, ...asks });
    expect(reasons(response)).toEqual(says);
  });

  test("a resolve says how each candidate ranked", async () => {
    const { response } = await grpc.ask("resolve", { namespace: "svc.market", name: "web", limit: 1, explain: true });
    expect(response).toMatchObject({
      entry: { key: { instanceId: "near" } },
      alternatives: [{ key: { instanceId: "far" } }],
    });
    expect(reasons(response)).toEqual({ near: "kept", far: "kept", sick: "rank" });
  });

  test("a resolve says which version did not fit", async () => {
    const { response } = await grpc.ask("resolve", {
      kind: "ENTRY_KIND_FUNCTION",
      namespace: "svc.market",
      name: "area",
      versionRange: "^1.2.0",
      explain: true,
    });
    expect(reasons(response)).toEqual({ new: "kept", old: "version_range" });
  });
});

describe("--log-scopes", () => {
  test("one component at debug: its calls are logged with their request ids, and no other component says more", async () => {
    await askHttp(node.listeners["http"] ?? "", "serverInfo", {}, { "x-request-id": "look-for-me" });
    // The answer can be here before the line is: it comes on another pipe.
    const told: unknown = JSON.parse(await node.command.errorLine(/look-for-me/));
    expect(told).toMatchObject({ level: "debug", component: "server.rpc", method: "ServerInfo", requestId: "look-for-me" });
    const whole = node.command.stderr.slice(0, node.command.stderr.lastIndexOf("\n"));
    const lines = whole.split("\n").map((line): Record<string, unknown> => JSON.parse(line) as Record<string, unknown>);
    const debug = lines.filter(({ level }) => level === "debug");
    expect(new Set(debug.map(({ component }) => component))).toEqual(new Set(["server.rpc"]));
  });

  test("is silent by default, and refuses a level that is none", async () => {
    await using quiet = await startNodeProcess(["--ephemeral"]);
    await askHttp(quiet.listeners["http"] ?? "", "serverInfo", {});
    expect((await quiet.stop()).stderr).not.toContain('"debug"');
    await expect(startNodeProcess(["--ephemeral", "--log-scopes", "dns=loud"])).rejects.toThrow(/"loud" is not a log level|loud/);
  });
});
