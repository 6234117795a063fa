/**
 * The policy file of a node that its cluster has not let in is a beginning, however often it is edited: what the cluster has wins over it.
 * @module-tag night
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { startNodeProcess } from "../fakes/node-process.ts";
import { UnreadyNode } from "../fakes/unready-node.ts";
import { until } from "../fakes/until.ts";

const HOME = mkdtempSync(join(tmpdir(), "waymark-beginning-"));
afterAll(() => rmSync(HOME, { recursive: true, force: true }));

function file(name: string, content: string): string {
  const path = join(HOME, name);
  writeFileSync(path, content, { mode: 0o600 });
  return path;
}

const policyOf = (name: string, version: string, isOpen: boolean) =>
  file(`${name}.yaml`, `version: ${version}\ndefault_allow: ${isOpen}\n`);
const tokenOf = (name: string, secret: string) => file(`${name}.token`, `${secret}\n`);

const QUICK = { interval: "400ms", ping_timeout: "250ms" };

function flags(
  nodeId: string,
  { fabric = QUICK, ...more }: Record<string, unknown> & { readonly fabric?: object } = {},
): readonly string[] {
  const all = { fabric: { cluster_token_file: join(HOME, `${nodeId}.token`), ...fabric }, ...more };
  const config = file(`${nodeId}.json`, JSON.stringify(all));
  return ["--node-id", nodeId, "--cluster-id", "c1", "--region", "eu", "--data-dir", join(HOME, `data-${nodeId}`), "--config", config];
}

async function policyAt(http: string): Promise<Record<string, unknown>> {
  return (await (await fetch(`http://${http}/discovery/policy`)).json()) as Record<string, unknown>;
}

test.each([
  { what: "and told by SIGHUP", nodeId: "b1", isRestarted: false },
  { what: "and read at a restart", nodeId: "b2", isRestarted: true },
])("a file that is edited $what before its node is let in does not replace the cluster's policy", async ({ nodeId, isRestarted }) => {
  const seedId = `a-${nodeId}`;
  tokenOf(seedId, "a-token-of-the-cluster");
  tokenOf(nodeId, "a-token-of-another");
  await using seed = await startNodeProcess(flags(seedId));
  expect((await seed.run(["namespace", "policy", "apply", policyOf("strict", "strict", false)])).exit).toBe(0);
  const joins = ["--join", seed.listeners["fabric"] ?? ""];
  const start = async () => UnreadyNode.start([...flags(nodeId, { policy: { file: policyOf(nodeId, "open-1", true) } }), ...joins]);
  await using first = await start();
  expect(await policyAt(first.http)).toMatchObject({ version: "open-1", number: "1" });
  policyOf(nodeId, "open-2", true);
  let joiner = first;
  await using again = new AsyncDisposableStack();
  if (isRestarted) {
    first.command.kill("SIGTERM");
    await first.command.finished();
    joiner = again.use(await UnreadyNode.start([...flags(nodeId, { policy: { file: join(HOME, `${nodeId}.yaml`) } }), ...joins]));
    expect(await policyAt(joiner.http)).toMatchObject({ version: "open-2", number: "1" });
  } else {
    first.command.kill("SIGHUP");
    await first.command.errorLine(/policy file not reloaded: this node is not ready yet/);
  }
  tokenOf(nodeId, "a-token-of-the-cluster");
  joiner.command.kill("SIGHUP");
  await joiner.command.line(/"event":"ready"/);
  for (const http of [seed.listeners["http"] ?? "", joiner.http])
    expect(await policyAt(http)).toMatchObject({ version: "strict", number: "1" });
  // An edit by a member is news for everybody.
  policyOf(nodeId, "open-3", true);
  joiner.command.kill("SIGHUP");
  await until("all have the edit", async () => (await policyAt(seed.listeners["http"] ?? ""))["version"] === "open-3");
});

test("a file that is edited at a new node that serves alone, as its seeds are away, does not replace the policy of the cluster that it meets later", async () => {
  for (const nodeId of ["far", "alone"]) tokenOf(nodeId, "a-token-of-the-cluster");
  const alone = flags("alone", { policy: { file: policyOf("alone", "open-1", true) }, fabric: { ...QUICK, join_timeout: "500ms" } });
  {
    await using far = await startNodeProcess(flags("far"));
    expect((await far.run(["namespace", "policy", "apply", policyOf("strict", "strict", false)])).exit).toBe(0);
  }
  await using node = await startNodeProcess([...alone, "--join", "127.0.0.1:9"]);
  for (const version of ["open-2", "open-3"]) {
    policyOf("alone", version, true);
    node.command.kill("SIGHUP");
    await until(`it has ${version}`, async () => (await policyAt(node.listeners["http"] ?? ""))["version"] === version);
  }
  await using far = await startNodeProcess([...flags("far"), "--join", node.listeners["fabric"] ?? ""]);
  const both = async () => Promise.all([far, node].map(async ({ listeners }) => policyAt(listeners["http"] ?? "")));
  await until("both have the cluster's", async () => (await both()).every(({ version }) => version === "strict"));
  expect(await both()).toMatchObject([{ number: "1" }, { number: "1" }]);
  // By now it is a member: its edit is news for everybody.
  policyOf("alone", "open-4", true);
  await until("all have the edit", async () => {
    node.command.kill("SIGHUP");
    return (await both()).every(({ version }) => version === "open-4");
  });
});
