/** The audit logs of the real nodes of a cluster, which one command searches, although one node is down. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { CommandProcess, type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";

const HOME = mkdtempSync(join(tmpdir(), "waymark-audit-"));
afterAll(() => rmSync(HOME, { recursive: true, force: true }));

const TOKEN = "a-token-of-an-operator";
const CONFIG = join(HOME, "node.json");
const credentials = [
  { scheme: "bearer", token_file: join(HOME, "token"), tenant: "ops", principal: "ada", roles: ["mesh.admin"] },
  { scheme: "bearer", token_file: join(HOME, "reader"), tenant: "ops", principal: "bob", roles: ["mesh.read"] },
];
writeFileSync(join(HOME, "cluster"), "a-token-of-the-nodes\n");
writeFileSync(join(HOME, "token"), `${TOKEN}\n`);
writeFileSync(join(HOME, "reader"), "a-token-of-a-reader\n");
writeFileSync(
  CONFIG,
  JSON.stringify({ fabric: { join_timeout: "2s", cluster_token_file: join(HOME, "cluster") }, tenants: { credentials } }),
);

function start(nodeId: string, ...flags: readonly string[]): Promise<NodeProcess> {
  return startNodeProcess(["--ephemeral", "--node-id", nodeId, "--cluster-id", "c1", "--config", CONFIG, ...flags]);
}

const KEY = ["--namespace", "svc.market", "--name", "web", "--instance", "web-1"];

test("--all-nodes finds who registered and removed an entry on any node, and names the node that is down", async () => {
  await using a = await start("a");
  const joining = ["--join", a.listeners["fabric"] ?? ""];
  await using b = await start("b", ...joining);
  await using c = await start("c", ...joining);
  const run = (node: NodeProcess, ...argv: readonly string[]) => node.run([...argv, "--token", TOKEN]);
  const clusterMap = async () => JSON.parse((await run(a, "discovery", "cluster-map", "-o", "json")).stdout) as unknown;
  await expect.poll(clusterMap, { timeout: 20_000 }).toHaveProperty("nodes.length", 3);
  const search = ["audit", "list", "--entry", "svc.market/web/web-1", "--all-nodes"];
  expect(await run(a, ...search)).toMatchObject({ exit: 0, stdout: "" });
  expect((await run(b, "register", ...KEY, "--target", "10.0.0.1:8080")).exit).toBe(0);
  expect((await run(b, "unregister", ...KEY)).exit).toBe(0);
  await c.stop("SIGKILL");
  const { exit, stdout, stderr } = await run(a, ...search, "-o", "json");
  expect(exit).toBe(1);
  expect(stderr).toMatch(/^error: c did not answer: /);
  const who = {
    node: "b",
    principal: "ada",
    tenant: "ops",
    source: "127.0.0.1",
    tokenId: expect.stringMatching(/^sha256:[0-9a-f]{12}$/) as unknown,
  };
  expect(JSON.parse(stdout)).toMatchObject({
    records: [
      { ...who, action: "unregister" },
      { ...who, action: "register" },
    ],
    failed: [{ node: "c" }],
  });
  expect((await a.run([...search, "--token", "a-token-of-a-reader"])).exit).toBe(4);
  const watching = new CommandProcess([
    "audit",
    "watch",
    "--all-nodes",
    "--since",
    "1h",
    "-o",
    "json",
    "--server",
    a.grpc,
    "--token",
    TOKEN,
  ]);
  await watching.line(/"node":"b".*"action":"unregister"/);
  await run(a, "register", ...KEY, "--target", "10.0.0.1:8080");
  await watching.line(/"node":"a".*"action":"register"/);
  watching.kill("SIGTERM");
  await watching.finished();
});

test("GET /control/audit has the filters of the rpc, and answers 304 while no record was added", async () => {
  await using node = await start("a");
  await node.run(["register", ...KEY, "--target", "10.0.0.1:8080", "--token", TOKEN]);
  const get = (query: string, headers: Record<string, string> = {}) =>
    fetch(`http://${node.listeners["http"]}/control/audit?${query}`, { headers: { authorization: `Bearer ${TOKEN}`, ...headers } });
  const query = `entry=${encodeURIComponent("svc.market/web/web-1")}&outcomes=allowed&since=${new Date(Date.now() - 60_000).toISOString()}`;
  const answer = await get(query);
  expect(await answer.json()).toMatchObject({
    records: [{ action: "register", subjects: [expect.stringMatching(/^lease:a/), "svc.market/web/web-1"] }],
    servedBy: "a",
  });
  const etag = answer.headers.get("etag") ?? "";
  expect((await get(query, { "if-none-match": etag })).status).toBe(304);
  await node.run(["unregister", ...KEY, "--token", TOKEN]);
  expect((await get(query, { "if-none-match": etag })).status).toBe(200);
  expect((await get("entry=web-1")).status).toBe(400);
});
