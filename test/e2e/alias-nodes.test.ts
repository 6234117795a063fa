/** Aliases at several real nodes, as `dig` finds them: each is judged from its record, alike at all, and by the policy of the moment. */
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { dig, isDigThere, recordsIn } from "../fakes/dig.ts";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

const HOME = mkdtempSync(join(tmpdir(), "waymark-alias-"));
afterAll(() => rmSync(HOME, { recursive: true, force: true }));
const FABRIC_TOKEN = join(HOME, "fabric.token");
writeFileSync(FABRIC_TOKEN, "a-token-of-the-alias-tests\n", { mode: 0o600 });
const ADMIN = "the-token-of-an-admin-of-the-mesh";
const EVIL = "the-token-of-somebody-who-writes";
const hashOf = (token: string): string => createHash("sha256").update(token).digest("hex");
const CREDENTIALS = [
  { tenant: "op", token_sha256: hashOf(ADMIN), roles: ["mesh.admin"] },
  { tenant: "evil", token_sha256: hashOf(EVIL), roles: ["mesh.operate"] },
];
const SETTINGS = {
  fabric: { cluster_token_file: FABRIC_TOKEN, interval: "400ms", ping_timeout: "250ms", join_timeout: "20s" },
  tenants: { credentials: CREDENTIALS },
  // As long as a busy machine takes to hand over what a node has that leaves.
  node: { stop_timeout: "60s" },
  observability: { log_level: "warn" },
};

interface Start {
  readonly seeds?: readonly NodeProcess[];
  readonly zones?: readonly string[];
  readonly flags?: readonly string[];
}

async function start(name: string, { seeds = [], zones = ["waymark"], flags = [] }: Start = {}): Promise<NodeProcess> {
  const path = join(HOME, `${name}.json`);
  writeFileSync(path, JSON.stringify({ ...SETTINGS, dns: { zones } }));
  const joins = seeds.length === 0 ? [] : ["--join", seeds.map((seed) => seed.listeners["fabric"] ?? "").join()];
  return startNodeProcess(["--node-id", name, "--data-dir", join(HOME, name), "--config", path, ...joins, ...flags]);
}

/** Status and records of the answer, without owner and ttl. */
async function ask(node: NodeProcess, name: string): Promise<string> {
  const printed = await dig(node.listeners["dns"] ?? "", "+noall", "+comments", "+answer", "A", name);
  const status = /status: ([A-Z]+)/.exec(printed)?.[1] ?? "no answer";
  return [status, ...recordsIn(printed)].join(" ");
}

/** Waits until each node answers each name so. */
async function expectAnswers(nodes: readonly NodeProcess[], want: Readonly<Record<string, string>>): Promise<void> {
  for (const node of nodes) {
    await until(`what ${node.nodeId} answers`, async () => {
      const found = await Promise.all(Object.keys(want).map(async (name) => [name, await ask(node, name)] as const));
      return found.flatMap(([name, answer]) => (answer === want[name] ? [] : [`${name}: ${answer}`]));
    });
  }
}

interface Registration {
  readonly token: string;
  readonly namespace: string;
  readonly aliases: readonly string[];
}

/** A service `web` with these aliases, under a static lease; beyond the cluster, where policy says who may. */
function register(
  node: NodeProcess,
  { token, namespace, aliases }: Registration,
): Promise<{ exit: number; stdout: string; stderr: string }> {
  const named = [
    "--namespace",
    namespace,
    "--name",
    "web",
    "--instance",
    "1",
    "--target",
    "192.0.2.1:80",
    "--scope",
    "region",
    "--token",
    token,
  ];
  return node.run(["register", ...named, ...aliases.flatMap((alias) => ["--alias", alias])]);
}

async function applyPolicy(node: NodeProcess, name: string, owned: readonly string[]): Promise<void> {
  const path = join(HOME, `${name}.yaml`);
  const rules = owned.map((namespace) => `  - namespace: ${namespace}\n    owners: [bank]\n`);
  writeFileSync(path, `version: ${name}\ndefault_allow: true\n${rules.length === 0 ? "" : `rules:\n${rules.join("")}`}`);
  const { exit, stderr } = await node.run(["namespace", "policy", "apply", path, "--token", ADMIN]);
  expect({ exit, stderr: exit === 0 ? "" : stderr }).toEqual({ exit: 0, stderr: "" });
}

const NONE = "NXDOMAIN";
const OP = "NOERROR CNAME web.svc.op.waymark. A 192.0.2.1";
const EVILS = "NOERROR CNAME web.svc.evil.waymark. A 192.0.2.1";

describe.skipIf(!isDigThere())("an alias at several nodes", { tags: ["night"] }, () => {
  test("is judged alike at all, by each policy anew, after restarts and hand-overs, and by a newcomer", async () => {
    await using nodes = new AsyncDisposableStack();
    const begin = async (name: string, how: Start = {}) => nodes.use(await start(name, how));
    const a = await begin("a");
    const [b, c] = await Promise.all([begin("b", { seeds: [a] }), begin("c", { seeds: [a] })]);
    const refused = await register(a, { token: EVIL, namespace: "svc.evil", aliases: ["root"] });
    expect(refused.stderr).toContain("mesh.admin");
    expect((await register(a, { token: EVIL, namespace: "svc.evil", aliases: ["api.svc.bank"] })).exit).toBe(0);
    expect((await register(b, { token: ADMIN, namespace: "svc.op", aliases: ["root", "vault"] })).exit).toBe(0);
    const free = { "root.waymark": OP, "vault.waymark": OP, "api.svc.bank.waymark": EVILS };
    await expectAnswers([a, b, c], free);

    await applyPolicy(c, "bank", ["svc.bank", "vault"]);
    const owned = { "root.waymark": OP, "vault.waymark": NONE, "api.svc.bank.waymark": NONE };
    await expectAnswers([a, b, c], owned);

    // Its node leaves, and another takes the entry over; then that one is killed and finds it in its journal.
    await b.stop("SIGTERM");
    await expectAnswers([a, c], owned);
    await Promise.all([a.stop("SIGKILL"), c.stop("SIGKILL")]);
    const flags = ["--fabric-port", (a.listeners["fabric"] ?? "").split(":")[1] ?? "0"];
    const again = await Promise.all([begin("a", { flags }), begin("c", { seeds: [a] }), begin("d", { seeds: [a] })]);
    await expectAnswers(again, owned);

    await applyPolicy(again[0], "open", []);
    await expectAnswers(again, free);
  });

  test("that is a single label only in another node's zone counts there for an admin only, whatever its registrant says", async () => {
    await using a = await start("one");
    await using b = await start("two", { seeds: [a], zones: ["waymark", "corp"] });
    const key = { namespace: "svc.evil", name: "web", instanceId: "1" };
    const entry = { key, targets: [{ host: "192.0.2.1", port: 80 }], aliases: ["pay.corp"], registeredByAdmin: true };
    const sent = await fetch(`http://${a.listeners["http"]}/waymark.discovery.v1.DiscoveryService/Register`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${EVIL}` },
      body: JSON.stringify({ entries: [entry], staticLease: true }),
    });
    expect(sent.status).toBe(200);
    expect((await register(a, { token: ADMIN, namespace: "svc.op", aliases: ["root.corp"] })).exit).toBe(0);
    await expectAnswers([a], { "pay.corp.waymark": EVILS });
    await expectAnswers([b], { "root.corp": OP.replace("waymark", "corp"), "web.svc.evil.corp": "NOERROR A 192.0.2.1" });
    expect(await ask(b, "pay.corp")).toBe(NONE);
  });
});
