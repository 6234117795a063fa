/**
 * Nodes of two clusters: one of them was away while the other was started more than once, from its disk.
 * @module-tag night
 */
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { statusWord } from "../fakes/member.ts";
import { GrpcDoor } from "../fakes/node.ts";
import { CommandProcess, type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

const HOME = mkdtempSync(join(tmpdir(), "waymark-missed-"));
afterAll(() => rmSync(HOME, { recursive: true, force: true }));
const CONFIG = join(HOME, "node.json");
writeFileSync(CONFIG, JSON.stringify({ fabric: { trust: "explicit", clusters: ["c1", "c2"], join_timeout: "1s" } }));

/** `n` is of cluster c1, `m` of c2. */
function start(nodeId: "n" | "m", seed: string, port = "0"): Promise<NodeProcess> {
  const place = ["--node-id", nodeId, "--cluster-id", nodeId === "n" ? "c1" : "c2", "--region", "eu", "--config", CONFIG];
  const disk = ["--data-dir", join(HOME, nodeId), "--on-stop", "keep", "--fabric-port", port];
  return startNodeProcess([...place, ...disk, ...(seed === "" ? [] : ["--join", seed])]);
}

async function peersOf(node: NodeProcess): Promise<readonly string[]> {
  using door = new GrpcDoor(node.grpc);
  const { response } = await door.ask("listPeers", {});
  return ((response["peers"] ?? []) as { nodeId: string; status: string }[]).map(({ nodeId, status }) => `${nodeId} ${statusWord(status)}`);
}

test("they meet again, and one sees what the other has registered since", async () => {
  await using first = await start("n", "");
  const place = first.listeners["fabric"] ?? "";
  const port = place.split(":")[1] ?? "";
  let other = await start("m", place);
  const otherPort = (other.listeners["fabric"] ?? "").split(":")[1] ?? "";
  await until("n knows m", async () => ((await peersOf(first)).includes("m alive") ? [] : ["not yet"]));
  await first.stop("SIGTERM");
  for (let starts = 0; starts < 2; starts++) {
    await other.stop("SIGKILL");
    other = await start("m", place, otherPort);
  }
  await using last = other;
  using door = new GrpcDoor(last.grpc);
  const key = { kind: "ENTRY_KIND_SERVICE", namespace: "svc", name: "since", instanceId: "1" };
  expect((await door.ask("register", { entries: [{ key, scope: "SCOPE_REGION" }], staticLease: true })).code).toBe("OK");
  await using back = await start("n", last.listeners["fabric"] ?? "", port);
  await until("n knows m again", async () => {
    const peers = await peersOf(back);
    return peers.includes("m alive") ? [] : [peers.join()];
  });
  using here = new GrpcDoor(back.grpc);
  await until("n shows what m has", async () => {
    const { response } = await here.ask("catalogQuery", { namespace: "svc" });
    return ((response["items"] ?? []) as unknown[]).length === 1 ? [] : ["nothing"];
  });
});

test("a start that failed before anybody heard of it is none: the next one follows the last that was", async () => {
  const flags = (nodeId: string) => ["--node-id", nodeId, "--cluster-id", "c1", "--region", "eu", "--log-level", "info"];
  await using witness = await startNodeProcess([...flags("witness"), "--ephemeral"]);
  const disk = ["--data-dir", join(HOME, "failing"), "--join", witness.listeners["fabric"] ?? ""];
  await using first = await startNodeProcess([...flags("failing"), ...disk]);
  const port = (first.listeners["fabric"] ?? "").split(":")[1] ?? "";
  await first.stop("SIGKILL");
  // The witness asks there whether the killed one lives.
  const holder = createServer((socket) => socket.destroy()).listen(Number(port), "127.0.0.1");
  await once(holder, "listening");
  await using failed = new CommandProcess([
    "serve",
    ...flags("failing"),
    ...disk,
    "--fabric-port",
    port,
    "--grpc-port",
    "0",
    "--http-port",
    "0",
  ]);
  const { exit, stderr } = await failed.finished();
  expect({ exit, stderr }).toEqual({ exit: 1, stderr: expect.stringContaining("address already in use") as string });
  expect(stderr).toContain("journal opened");
  holder.close();
  await once(holder, "close");
  await using again = await startNodeProcess([...flags("failing"), ...disk, "--fabric-port", port]);
  await until("the witness knows it again", async () => ((await peersOf(witness)).includes("failing alive") ? [] : ["not yet"]));
  for (const { command } of [witness, again])
    expect(command.stderr).not.toMatch(/two_nodes_with_one_id|own_start_refused|own_update_refused/);
});
