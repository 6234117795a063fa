/**
 * Two clusters in one fabric: being connected gives nobody a say in the other's policy.
 * @module-tag night
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

const HOME = mkdtempSync(join(tmpdir(), "waymark-borders-"));
afterAll(() => rmSync(HOME, { recursive: true, force: true }));
const TOKEN = join(HOME, "fabric.token");
writeFileSync(TOKEN, "a-token-of-the-border-tests\n", { mode: 0o600 });
const POLICY = join(HOME, "policy.yaml");
writeFileSync(POLICY, "version: v1\ndefault_allow: true\n");

async function start(clusterId: string, acceptFrom: readonly string[], seed?: NodeProcess): Promise<NodeProcess> {
  const path = join(HOME, `${clusterId}.json`);
  const trust = { trust: "explicit", clusters: ["a", "b", "c"] };
  const fabric = { ...trust, cluster_token_file: TOKEN, join_timeout: "20s", interval: "400ms", ping_timeout: "250ms" };
  writeFileSync(path, JSON.stringify({ fabric, policy: { accept_from: acceptFrom }, observability: { log_level: "warn" } }));
  const joins = seed === undefined ? [] : ["--join", seed.listeners["fabric"] ?? ""];
  const named = ["--cluster-id", clusterId, "--node-id", `${clusterId}-1`, "--ephemeral"];
  return startNodeProcess([...named, "--config", path, ...joins]);
}

async function policy(node: NodeProcess): Promise<Record<string, unknown>> {
  return (await (await fetch(`http://${node.listeners["http"]}/discovery/policy`)).json()) as Record<string, unknown>;
}

test("a cluster takes the policy of another only where its settings accept it; what it does not take shows, and the audit names the way", async () => {
  await using a = await start("a", []);
  await using b = await start("b", ["a"], a);
  await using c = await start("c", [], a);
  const stage = ["namespace", "policy", "apply", POLICY, "--dry-run", ...["a", "b", "c"].flatMap((id) => ["--cluster", id])];
  await until("only c is not known to take it", async () => {
    const { stdout, stderr } = await a.run(stage);
    const said = stdout + stderr;
    return said.includes('cluster "c" is not known to accept the policy of this cluster') && !said.includes('cluster "b"') ? [] : [said];
  });
  expect((await a.run(["namespace", "policy", "apply", POLICY])).exit).toBe(0);
  await until("b takes it", async () => ((await policy(b))["number"] === "1" ? [] : ["not yet"]));
  await until("c says that it does not", async () =>
    String((await policy(c))["notTaken"]).includes("policy.accept_from") ? [] : ["not yet"],
  );
  expect(await policy(c)).toMatchObject({ enabled: false, number: "0" });
  const metrics = await (await fetch(`http://${c.listeners["http"]}/metrics`)).text();
  expect(metrics).toMatch(/^mesh_policy_not_taken 1$/m);
  await c.command.errorLine(/policy not applied/);
  expect(c.command.stderr.match(/policy not applied/g)).toHaveLength(1);
  const audit = async () => (await b.run(["namespace", "policy", "audit", "-o", "json"])).stdout;
  await expect.poll(audit).toContain("adopted from node a-1 through node a-1 of cluster a");
  expect((await c.run(["namespace", "policy", "apply", POLICY])).exit).toBe(0);
  const ofC = expect.stringContaining("version 1 of node c-1") as string;
  await until("a hears of c's", async () => (String((await policy(a))["notTaken"]) === "" ? ["not yet"] : []));
  expect(await policy(a)).toMatchObject({ number: "1", conflict: "", notTaken: ofC });
});
