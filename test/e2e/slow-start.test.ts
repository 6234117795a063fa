/** What a node does to what it holds while its start goes on. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { CommandProcess, startNodeProcess } from "../fakes/node-process.ts";

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

test("a start that takes longer than the ttl of tombstones drops none: which origins are lost is known when the fabric is open", async () => {
  await using before = await startNodeProcess(["--config", CONFIG, "--data-dir", DATA]);
  const key = ["--namespace", "svc.market", "--name", "web", "--instance", "web-1"];
  expect(await before.run(["register", ...key, "--target", "10.0.0.1:8080/http"])).toMatchObject({ exit: 0 });
  expect(await before.run(["unregister", ...key])).toMatchObject({ exit: 0 });
  expect(await tombstonesOf(before.listeners["http"] ?? "")).toBe("1");
  await before.stop("SIGKILL");

  // The start waits where the policy file is read: once for its form before anything is opened, then to be applied.
  const policy = join(HOME, "policy.yaml");
  execFileSync("mkfifo", [policy]);
  const say = () => writeFile(policy, "version: first\ndefault_allow: true\nrules: []\n");
  await using command = new CommandProcess(["serve", "-o", "json", "--config", CONFIG, "--data-dir", DATA, "--policy", policy]);
  await say();
  await command.errorLine(/"msg":"audit log opened"/, 30_000);
  const openedMs = Date.now();
  await expect.poll(() => Date.now() - openedMs, { timeout: 10_000 }).toBeGreaterThan(2 * TTL_MS);
  await say();
  const ready = JSON.parse(await command.line(/"event":"ready"/, 30_000)) as { readonly listeners: Readonly<Record<string, string>> };
  expect(await tombstonesOf(ready.listeners["http"] ?? "")).toBe("1");
});
