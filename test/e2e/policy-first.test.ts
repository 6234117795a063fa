/**
 * Who applies a policy and then registers what it hides is sure that no other node shows it meanwhile, however large the policy is.
 * @module-tag night
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { PATIENCE_MS } from "../fakes/until.ts";

const HOME = mkdtempSync(join(tmpdir(), "waymark-policy-first-"));
afterAll(() => rmSync(HOME, { recursive: true, force: true }));
const TOKEN = join(HOME, "fabric.token");
writeFileSync(TOKEN, "a-token-of-the-policy-first-test\n", { mode: 0o600 });
const CONFIG = join(HOME, "config.json");
writeFileSync(CONFIG, JSON.stringify({ fabric: { cluster_token_file: TOKEN } }));

async function start(nodeId: string, seed?: NodeProcess): Promise<NodeProcess> {
  const joins = seed === undefined ? [] : ["--join", seed.listeners["fabric"] ?? ""];
  return startNodeProcess(["--node-id", nodeId, "--data-dir", join(HOME, nodeId), "--config", CONFIG, ...joins]);
}

/** Calls a method over HTTP and JSON; returns the answer, which is to be good. */
async function call(node: NodeProcess, method: string, body: unknown): Promise<Record<string, unknown>> {
  const request = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  const response = await fetch(`http://${node.listeners["http"]}/waymark.${method}`, request);
  const said = (await response.json()) as Record<string, unknown>;
  expect({ status: response.status, said }).toMatchObject({ status: 200 });
  return said;
}

const ROUNDS = 12;
/** Rules that a round adds: reading and checking them takes the other node a while. */
const RULES = 400;

test("what is registered after a policy that hides it is shown at no other node", async () => {
  await using a = await start("a");
  await using b = await start("b", a);
  const rules: unknown[] = [];
  for (let round = 1; round <= ROUNDS; round++) {
    const namespace = `secret${round}`;
    rules.push({ namespace, visibilityTenants: ["somebody"] });
    for (let n = 0; n < RULES; n++) rules.push({ namespace: `other${round}.${n}`, visibilityTenants: ["somebody"] });
    await call(a, "policy.v1.PolicyService/ApplyPolicy", { policy: { version: `${round}`, defaultAllow: true, rules }, reason: "test" });
    const key = (name: string, of: string) => ({ key: { kind: "ENTRY_KIND_SERVICE", namespace: of, name, instanceId: "1" } });
    // What everybody may see comes after it over the same link: when that is at the other node, the hidden one is too.
    await call(a, "discovery.v1.DiscoveryService/Register", {
      entries: [key("web", namespace), key(`after${round}`, "open")],
      staticLease: true,
    });
    // Without a pause: what must never be seen is not to be missed.
    for (const untilMs = Date.now() + PATIENCE_MS; ; ) {
      const { items: leaked } = await call(b, "discovery.v1.DiscoveryService/CatalogQuery", { namespacePrefix: namespace });
      expect({ round, leaked }).toEqual({ round, leaked: undefined });
      const { items } = await call(b, "discovery.v1.DiscoveryService/CatalogQuery", { namespacePrefix: "open", names: [`after${round}`] });
      if (items !== undefined) break;
      if (Date.now() > untilMs) throw new Error(`round ${round} has not come`);
    }
  }
});
