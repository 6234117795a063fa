/**
 * What a node does to what it holds while its start goes on.
 *
 * @module-tag night
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { CommandProcess, startNodeProcess } from "../fakes/node-process.ts";
import { hasStrace, slowDisk } from "../fakes/slow-disk.ts";

const HOME = mkdtempSync(join(tmpdir(), "waymark-slow-start-"));
afterAll(() => rmSync(HOME, { recursive: true, force: true }));

const TTL_MS = 1000;
const CONFIG = join(HOME, "node.json");
const DATA = join(HOME, "data");
const TOKEN = join(HOME, "token");
writeFileSync(TOKEN, "a-token-of-many-characters\n", { mode: 0o600 });
const SETTINGS = {
  node: { id: "a" },
  listen: { grpc_port: 0, http_port: 0 },
  dns: { enabled: false },
  fabric: { port: 0, cluster_token_file: TOKEN },
  catalog: { tombstone_ttl: `${TTL_MS}ms` },
};
writeFileSync(CONFIG, JSON.stringify(SETTINGS));

async function tombstonesOf(http: string): Promise<string | undefined> {
  const metrics = await (await fetch(`http://${http}/metrics`)).text();
  return /^waymark_catalog_tombstones (\d+)$/m.exec(metrics)?.[1];
}

test.skipIf(!hasStrace)(
  "a start that takes longer than the ttl of tombstones drops none: which origins are lost is known when the fabric is open",
  { tags: ["night"] },
  async () => {
    await using before = await startNodeProcess(["--config", CONFIG, "--data-dir", DATA]);
    const key = ["--namespace", "svc.market", "--name", "web", "--instance", "web-1"];
    expect(await before.run(["register", ...key, "--target", "10.0.0.1:8080/http"])).toMatchObject({ exit: 0 });
    expect(await before.run(["unregister", ...key])).toMatchObject({ exit: 0 });
    expect(await tombstonesOf(before.listeners["http"] ?? "")).toBe("1");
    await before.stop("SIGKILL");

    // The start waits where the policy file is applied, and wherever else something is to be on disk.
    const policy = join(HOME, "policy.yaml");
    writeFileSync(policy, "version: first\ndefault_allow: true\nrules: []\n");
    const argv = ["serve", "-o", "json", "--config", CONFIG, "--data-dir", DATA, "--policy", policy];
    await using command = new CommandProcess(argv, "", slowDisk(TTL_MS / 2));
    await command.errorLine(/"msg":"audit log opened"/, 30_000);
    const openedMs = Date.now();
    const ready = JSON.parse(await command.line(/"event":"ready"/, 60_000)) as { readonly listeners: Readonly<Record<string, string>> };
    expect(Date.now() - openedMs).toBeGreaterThan(2 * TTL_MS);
    expect(await tombstonesOf(ready.listeners["http"] ?? "")).toBe("1");
  },
);

test.skipIf(!hasStrace)(
  "a node that is told to stop while it starts opens nothing more, and ends cleanly",
  { tags: ["night"] },
  async () => {
    const data = join(HOME, "stopped");
    const policy = join(HOME, "policy.yaml");
    writeFileSync(policy, "version: first\ndefault_allow: true\nrules: []\n");
    const argv = ["serve", "-o", "json", "--config", CONFIG, "--data-dir", data, "--policy", policy, "--workers", "1"];
    await using command = new CommandProcess(argv, "", slowDisk(100));
    await command.errorLine(/"msg":"audit log opened"/, 30_000);
    command.kill("SIGTERM");
    expect(await command.finished()).toMatchObject({ exit: 0, stdout: "" });
    expect(command.stderr).toContain('"msg":"node is stopping"');
    expect(command.stderr).not.toContain('"msg":"node is listening"');
    expect(command.stderr).not.toMatch(/"level":"(?:warn|error)"/);
    await using again = await startNodeProcess(["--config", CONFIG, "--data-dir", data]);
    expect(again.nodeId).toBe("a");
  },
);

test("what loading has left is collected before the node is ready, and nothing is collected so while it serves", async () => {
  const program = process.env["PROGRAM_OF_TESTS"];
  const main = program === undefined ? "src/main.ts" : join(program, "..", "..", "dist", "src", "main.js");
  const sayOrigin = "data:text/javascript,console.error(JSON.stringify({originMs:performance.timeOrigin}))";
  const argv = ["serve", "-o", "json", "--config", CONFIG, "--ephemeral"];
  await using command = new CommandProcess(argv, "", [process.execPath, "--trace-gc", "--import", sayOrigin], main);
  await command.line(/"event":"ready"/, 30_000);
  command.kill("SIGTERM");
  await command.finished();
  const said = command.stderr.split("\n").filter(Boolean);
  const { originMs } = JSON.parse(said[0] ?? "") as { readonly originMs: number };
  const ready = JSON.parse(said.find((line) => line.includes('"node is ready"')) ?? "") as { readonly time: string };
  // V8 tells when each ended, in ms since it began, which is a little after the process did. It calls one that a program asks for "testing".
  const endedMs = [...command.stdout.matchAll(/(\d+) ms: Mark-Compact \(reduce\).* testing;/g)].map(([, ms]) => originMs + Number(ms));
  expect(endedMs).not.toEqual([]);
  expect(Math.max(...endedMs)).toBeLessThan(Date.parse(ready.time));
});
