/**
 * Two nodes with one id, from copies of one data directory, beside a third node: at most one of them takes writes, and both say where the other is.
 *
 * @module-tag night
 */

import { cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { Health } from "../../gen/grpc/health/v1/health_pb.js";
import { GrpcDoor } from "../fakes/node.ts";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { ProvedWatch } from "../fakes/proved-watch.ts";
import { readyz, UnreadyNode } from "../fakes/unready-node.ts";

const HOME = mkdtempSync(join(tmpdir(), "waymark-copied-"));
afterAll(() => rmSync(HOME, { recursive: true, force: true }));
const CONFIG = join(HOME, "node.json");
/** Who does not answer for so long is silent: longer than a busy machine keeps a node waiting. */
const FABRIC = { interval: "1500ms", ping_timeout: "1s", join_timeout: "3s" };
writeFileSync(CONFIG, JSON.stringify({ fabric: FABRIC, observability: { log_level: "info" } }));

const flagsOf = (nodeId: string, directory: string, more: readonly string[]) =>
  ["--node-id", nodeId, "--config", CONFIG, "--data-dir", join(HOME, directory)].concat(more);
const start = (nodeId: string, directory = nodeId, ...more: readonly string[]) => startNodeProcess(flagsOf(nodeId, directory, more));
const fabricOf = ({ listeners }: NodeProcess) => listeners["fabric"] ?? "";

const startSecond = (nodeId: string, directory: string, ...more: readonly string[]) => UnreadyNode.start(flagsOf(nodeId, directory, more));

async function register(grpc: string, name: string): Promise<string> {
  using door = new GrpcDoor(grpc);
  const key = { kind: "ENTRY_KIND_SERVICE", namespace: "svc.market", name, instanceId: "1" };
  return (await door.ask("register", { entries: [{ key, scope: "SCOPE_REGION" }], staticLease: true })).code;
}

async function namesAt(grpc: string): Promise<readonly string[]> {
  using door = new GrpcDoor(grpc);
  const { response } = await door.ask("catalogQuery", { namespacePrefix: "svc" });
  return ((response["items"] ?? []) as { key: { name: string } }[]).map(({ key }) => key.name).toSorted();
}

/** What load balancers are told of a node. */
async function healthOf(grpc: string): Promise<unknown> {
  using door = new GrpcDoor(grpc);
  return (await door.send(Health.method.check, new Uint8Array())).response["status"];
}

test("a copy of a node's directory is not ready and takes no writes; the first goes on, and both say where the other is", async () => {
  await using other = await start("m");
  await using first = await start("n", "n", "--join", fabricOf(other));
  expect(await register(first.grpc, "before")).toBe("OK");
  await first.stop("SIGKILL");
  cpSync(join(HOME, "n"), join(HOME, "n-copy"), { recursive: true });
  const port = fabricOf(first).split(":")[1] ?? "";
  await using again = await start("n", "n", "--join", fabricOf(other), "--fabric-port", port);
  expect(await register(again.grpc, "first")).toBe("OK");

  await using second = await startSecond("n", "n-copy", "--join", fabricOf(other));
  await expect.poll(() => readyz(second.http)).toContain(`503`);
  await expect.poll(() => readyz(second.http)).toContain(fabricOf(again));
  await expect.poll(() => second.command.stderr).toContain("own_start_refused");
  expect(second.command.stderr).toContain(fabricOf(again));
  expect(second.command.stderr).toContain("--new-generation");
  await expect.poll(() => readyz(again.listeners["http"] ?? "")).toContain(`at ${second.fabric} was rejected`);
  await expect.poll(() => again.command.stderr).toContain(second.fabric);
  expect(await readyz(again.listeners["http"] ?? "")).toMatch(/^200/);
  expect(await register(second.grpc, "second")).toBe("UNAVAILABLE");
  expect(await register(again.grpc, "goes-on")).toBe("OK");
  await expect.poll(() => namesAt(other.grpc)).toEqual(["before", "first", "goes-on"]);

  // The first is stopped and started once more while the copy runs: it is not locked out.
  await again.stop("SIGKILL");
  await using third = await start("n", "n", "--join", fabricOf(other), "--fabric-port", port);
  expect(await register(third.grpc, "third")).toBe("OK");
  expect(second.command.stdout).toBe("");
  await expect.poll(() => namesAt(other.grpc)).toEqual(["before", "first", "goes-on", "third"]);
});

test("a member remembers over its own restart whom it accepted: a copy is refused also when the first is gone, until it has a new generation", {
  tags: ["night"],
}, async () => {
  await using other = await start("m4");
  const port = fabricOf(other).split(":")[1] ?? "";
  {
    await using first = await start("gone", "gone", "--join", fabricOf(other));
    expect(await register(first.grpc, "before")).toBe("OK");
    await first.stop("SIGKILL");
    cpSync(join(HOME, "gone"), join(HOME, "gone-copy"), { recursive: true });
    await using again = await start("gone", "gone", "--join", fabricOf(other));
    expect(await register(again.grpc, "last")).toBe("OK");
    await expect.poll(() => namesAt(other.grpc)).toEqual(["before", "last"]);
    await again.stop("SIGKILL");
  }
  await other.stop("SIGTERM");
  await using back = await start("m4", "m4", "--fabric-port", port);
  {
    await using copy = await startSecond("gone", "gone-copy", "--join", fabricOf(back));
    await expect.poll(() => copy.command.stderr).toContain("own_start_refused");
    expect([copy.command.stdout, await register(copy.grpc, "copy")]).toEqual(["", "UNAVAILABLE"]);
  }
  await using taken = await start("gone", "gone-copy", "--join", fabricOf(back), "--new-generation");
  expect(await register(taken.grpc, "taken")).toBe("OK");
  await expect.poll(() => namesAt(back.grpc)).toEqual(["before", "last", "taken"]);
});

test("a node whose directory was moved is taken at once, though its last start is still held for alive", { tags: ["night"] }, async () => {
  await using other = await start("m2");
  await using first = await start("moved", "moved", "--join", fabricOf(other));
  expect(await register(first.grpc, "before")).toBe("OK");
  await first.stop("SIGKILL");
  cpSync(join(HOME, "moved"), join(HOME, "moved-there"), { recursive: true });
  await using there = await start("moved", "moved-there", "--join", fabricOf(other));
  expect(fabricOf(there)).not.toBe(fabricOf(first));
  expect(await register(there.grpc, "after")).toBe("OK");
  await expect.poll(() => namesAt(other.grpc)).toEqual(["after", "before"]);
});

test.each([["--new-generation"], ["--ephemeral"]])(
  "a node that was killed and is started at once in a new generation (%s) is one node: nobody tells of two, and nothing is denied",
  { tags: ["night"] },
  async (flag) => {
    const name = flag.slice(2);
    await using other = await start(`by-${name}`);
    await using first = await start(name, name, "--join", fabricOf(other));
    expect(await register(first.grpc, "before")).toBe("OK");
    await expect.poll(() => namesAt(other.grpc)).toEqual(["before"]);
    await first.stop("SIGKILL");
    const again = ["--node-id", name, "--config", CONFIG, "--join", fabricOf(other), flag];
    await using second = await startNodeProcess(flag === "--ephemeral" ? again : again.concat("--data-dir", join(HOME, name)));
    expect(await register(second.grpc, "after")).toBe("OK");
    await expect.poll(() => namesAt(other.grpc)).toContain("after");
    expect(other.command.stderr).not.toContain("two_nodes_with_one_id");
    const audit = await other.run(["audit", "list", "-o", "json"]);
    expect([audit.exit, audit.stdout.includes("two_nodes_with_one_id")]).toEqual([0, false]);
  },
);

test("a node that was frozen while its copy was taken takes no writes when it goes on, and its watches end with a cursor", {
  tags: ["night"],
}, async () => {
  await using other = await start("m3");
  await using first = await start("frozen", "frozen", "--join", fabricOf(other));
  expect(await register(first.grpc, "before")).toBe("OK");
  await expect.poll(() => namesAt(other.grpc)).toEqual(["before"]);
  await using watch = new ProvedWatch([first.grpc]);
  await watch.holds(["before"], 60_000);
  first.command.kill("SIGSTOP");
  cpSync(join(HOME, "frozen"), join(HOME, "frozen-copy"), { recursive: true });
  await using copy = await start("frozen", "frozen-copy", "--join", fabricOf(other));
  expect(await register(copy.grpc, "copy")).toBe("OK");
  // What waits in its sockets it finds before it can have heard of the copy.
  const waiting = ["w1", "w2", "w3"].map((name) => register(first.grpc, name));
  await expect.poll(() => namesAt(other.grpc)).toEqual(["before", "copy"]);
  first.command.kill("SIGCONT");
  expect(await Promise.all(waiting)).toEqual(["UNAVAILABLE", "UNAVAILABLE", "UNAVAILABLE"]);
  await expect.poll(() => readyz(first.listeners["http"] ?? "")).toMatch(/^503/);
  expect(await healthOf(first.grpc)).toBe("NOT_SERVING");
  expect(await register(first.grpc, "first")).toBe("UNAVAILABLE");
  expect(await register(copy.grpc, "goes-on")).toBe("OK");
  // What it was told last is a place to go on from, elsewhere.
  await watch.ended;
  expect(watch.portable).not.toBe("");
  await using resumed = new ProvedWatch([other.grpc], watch);
  await resumed.holds(["before", "copy", "goes-on"], 60_000);
  expect(await readyz(copy.listeners["http"] ?? "")).toMatch(/^200/);
  await expect.poll(() => namesAt(other.grpc)).toEqual(["before", "copy", "goes-on"]);
});
