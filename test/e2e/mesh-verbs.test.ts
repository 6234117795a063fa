/** What people are told of a mesh of real nodes: who is in it, what became of one, how far a node is behind; and where nodes say they are. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { statusWord } from "../fakes/member.ts";
import { CommandProcess, type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

const HOME = mkdtempSync(join(tmpdir(), "waymark-verbs-"));
afterAll(() => rmSync(HOME, { recursive: true, force: true }));

const CONFIG = join(HOME, "node.json");
writeFileSync(CONFIG, JSON.stringify({ fabric: { interval: "400ms", ping_timeout: "250ms", join_timeout: "2s" } }));

function start(nodeId: string, ...flags: readonly string[]): Promise<NodeProcess> {
  const settings = flags.includes("--config") ? [] : ["--config", CONFIG];
  return startNodeProcess(["--ephemeral", "--node-id", nodeId, "--cluster-id", "c1", ...settings, ...flags]);
}

const fabricOf = ({ listeners }: NodeProcess): string => listeners["fabric"] ?? "";

/** What a command prints as JSON. */
async function json(node: NodeProcess, ...argv: readonly string[]): Promise<Record<string, unknown>> {
  const { exit, stdout, stderr } = await node.run([...argv, "-o", "json", "--quiet"]);
  expect([exit, stderr]).toEqual([0, ""]);
  return JSON.parse(stdout) as Record<string, unknown>;
}

test("mesh peers list, watch and explain, and discovery lag, of three nodes of which one is killed", { tags: ["night"] }, async () => {
  await using a = await start("a");
  await using b = await start("b", "--join", fabricOf(a));
  await using c = await start("c", "--join", fabricOf(a));
  const statuses = async (node: NodeProcess) => {
    const { peers } = await json(node, "mesh", "peers", "list");
    return (peers as { nodeId: string; status: string; linked: boolean }[]).map(
      (peer) => `${peer.nodeId} ${statusWord(peer.status)} ${peer.linked}`,
    );
  };
  const wanted = ["a alive false", "b alive true", "c alive true"];
  await until("all are linked", async () => {
    const found = await statuses(a);
    return found.join() === wanted.join() ? [] : found;
  });
  await settingsAreShown(a, b);
  const watching = new CommandProcess(["mesh", "peers", "watch", "-o", "json", "--server", a.grpc]);
  await watching.line(/"c".*"PEER_STATUS_ALIVE"/);
  await c.stop("SIGKILL");
  await watching.line(/"c".*"PEER_STATUS_SUSPECT"/);
  await watching.line(/"c".*"PEER_STATUS_DEAD"/);
  watching.kill("SIGTERM");
  await watching.finished();
  // The other one may hear of it a moment later.
  const explained = () => json(b, "mesh", "peers", "explain", "c");
  await expect.poll(explained).toMatchObject({ peer: { nodeId: "c", status: "PEER_STATUS_DEAD" } });
  // Its own watcher saw the suspicion at a.
  const { events } = await json(a, "mesh", "peers", "explain", "c");
  const told = events as { kind: string; by: string; path: string }[];
  const suspected = told.find(({ kind }) => kind === "PEER_EVENT_KIND_SUSPECT");
  expect(["a", "b"]).toContain(suspected?.by);
  expect(["DIRECT", "INDIRECT", "GOSSIP", "TABLE"].map((path) => `PEER_EVENT_PATH_${path}`)).toContain(suspected?.path);
  expect(told.at(-1)).toMatchObject({ kind: "PEER_EVENT_KIND_DEAD" });
  const origins = [
    { nodeId: "a", state: "ORIGIN_STATE_LIVE", behind: "0" },
    { nodeId: "b", state: "ORIGIN_STATE_LIVE", behind: "0" },
    { nodeId: "c", state: "ORIGIN_STATE_ORPHANED", behind: "0" },
  ].map((origin): unknown => expect.objectContaining(origin));
  const lag = { servedBy: "a", ready: true, caughtUp: true, origins: expect.arrayContaining(origins) as unknown };
  await expect.poll(() => json(a, "discovery", "lag")).toMatchObject(lag);
  const metrics = async () => (await fetch(`http://${a.listeners["http"]}/metrics`)).text();
  for (const line of [
    /^mesh_gossip_members\{status="alive"\} 2$/m,
    /^mesh_gossip_members\{status="dead"\} 1$/m,
    /^mesh_links\{state="up"\} 1$/m,
    /^mesh_orphans\{state="orphaned"\} 1$/m,
    /^mesh_link_frames_total\{direction="sent",kind="records"\} [1-9]/m,
    /^mesh_link_bytes_total\{direction="received",kind="vector"\} [1-9]/m,
    /^mesh_vector_exchanges_total\{outcome="equal"\} [1-9]/m,
    /^mesh_gossip_messages_total\{direction="sent",outcome="ok"\} [1-9]/m,
  ])
    await expect.poll(metrics).toMatch(line);
});

/** Of two nodes with the same file, and other ids and ports. */
async function settingsAreShown(a: NodeProcess, b: NodeProcess): Promise<void> {
  // Findings are evaluated every 5 s, so a node can still report that it was not ready.
  await until("no findings", async () => {
    const { exit, stdout } = await a.run(["status"]);
    return exit === 0 ? [] : [stdout];
  });
  const { nodes } = await json(a, "status");
  const shown = await json(b, "mesh", "config", "show", "--origin", "file");
  expect(shown).toMatchObject({
    servedBy: "b",
    settings: [{ key: "fabric.join_timeout" }, { key: "fabric.interval", value: "400ms" }, {}],
  });
  expect(new Set((nodes as { status: { configDigest: string } }[]).map(({ status }) => status.configDigest))).toEqual(
    new Set([shown["configDigest"]]),
  );
  expect(await json(a, "mesh", "config", "diff", "a", "b")).toEqual({ settings: [] });
  const every = await a.run(["mesh", "config", "diff", "a", "b", "--all-keys"]);
  expect([every.exit, every.stdout]).toEqual([1, expect.stringMatching(/^node\.id +a +b$/m)]);
  const invalid = join(HOME, "invalid.toml");
  writeFileSync(invalid, "[dns]\nport = 53\n");
  const checked = await a.run(["mesh", "config", "validate", invalid]);
  expect([checked.exit, checked.stderr]).toEqual([2, expect.stringContaining("dns.port: unknown key")]);
  const url = `http://${b.listeners["http"]}/control/config`;
  const page = await fetch(url);
  expect(await page.json()).toMatchObject({ servedBy: "b", configDigest: shown["configDigest"] });
  const again = await fetch(url, { headers: { "if-none-match": page.headers.get("etag") ?? "" } });
  expect(again.status).toBe(304);
}

test("a node bound to 0.0.0.0 tells others an address they can reach it at; --advertise-host is told instead", {
  tags: ["night"],
}, async () => {
  const token = join(HOME, "token");
  writeFileSync(token, "a-token-for-open-nodes\n");
  const open = join(HOME, "open.json");
  writeFileSync(open, JSON.stringify({ fabric: { join_timeout: "2s", cluster_token_file: token } }));
  const bound = ["--host", "0.0.0.0", "--insecure", "--config", open];
  await using a = await start("oa", ...bound);
  const port = fabricOf(a).split(":").at(-1) ?? "";
  await using b = await start("ob", ...bound, "--advertise-host", "localhost", "--join", `127.0.0.1:${port}`);
  const addressOf = async (node: NodeProcess, id: string) => {
    const { peers } = await json(node, "mesh", "peers", "list");
    return (peers as { nodeId: string; address: string; linked: boolean }[]).find((peer) => peer.nodeId === id && peer.linked)?.address;
  };
  await until("linked", async () => ((await addressOf(a, "ob")) === undefined ? ["not yet"] : []));
  expect(await addressOf(a, "ob")).toMatch(/^localhost:\d+$/);
  expect(await addressOf(b, "oa")).toMatch(/^\d+\.\d+\.\d+\.\d+:\d+$/);
  expect(await addressOf(b, "oa")).not.toContain("0.0.0.0");
});
