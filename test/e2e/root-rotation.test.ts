/** Real nodes change their root: a rotation to the end, and from certificates in files to certificates of an issuer. */

import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { TestAuthority } from "../fakes/certificates.ts";
import { metricOf } from "../fakes/leader-nodes.ts";
import { type NodeProcess, startNodeProcess, waymarkProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

const folder = mkdtempSync(join(tmpdir(), "waymark-rotation-"));
const at = (name: string) => join(folder, name);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function done(...argv: readonly string[]): Promise<string> {
  const { exit, stdout, stderr } = await waymarkProcess(argv);
  if (exit !== 0) throw new Error(`exit ${exit}: ${stderr}`);
  return stdout;
}

const on = ({ grpc }: NodeProcess, ...argv: readonly string[]) => done(...argv, "--server", grpc);
const fabricOf = ({ listeners }: NodeProcess) => listeners["fabric"] ?? "";

interface RootState {
  readonly rootId: string;
  readonly missingOn?: readonly string[];
  readonly usedBy?: readonly string[];
}

async function rootsAt(issuer: NodeProcess): Promise<ReadonlyMap<string, RootState>> {
  const { accepted } = JSON.parse(await on(issuer, "ca", "status", "-o", "json")) as { accepted: readonly RootState[] };
  return new Map(accepted.map((root) => [root.rootId, root]));
}

/** Waits until these nodes have certificates under a root that all nodes accept. */
function usedBy(issuer: NodeProcess, rootId: string, ...nodes: readonly string[]): Promise<void> {
  return until(`${nodes.join(" and ")} use the root ${rootId}`, async () => {
    const root = (await rootsAt(issuer)).get(rootId);
    return [root?.missingOn?.join(), root?.usedBy?.toSorted().join()].join(" ") === ` ${nodes.join()}` || [JSON.stringify(root)];
  });
}

async function linked(node: NodeProcess, count: number): Promise<void> {
  await until(`${node.nodeId} has ${count} links`, async () => {
    const { peers } = JSON.parse(await on(node, "mesh", "peers", "list", "-o", "json")) as { peers: { linked?: boolean }[] };
    return peers.filter((peer) => peer.linked === true).length === count || [JSON.stringify(peers)];
  });
}

interface LinkRow {
  readonly nodeId?: string;
  readonly framesReceived?: string;
}

/** Counts the frames of a link, and fails if the count is lower than before: a link that was made again begins at 0. */
class LinkCount {
  readonly #node: NodeProcess;
  readonly #peer: string;
  #count = 0;

  constructor(node: NodeProcess, peer: string) {
    this.#node = node;
    this.#peer = peer;
  }

  async check(): Promise<void> {
    const { links } = JSON.parse(await on(this.#node, "discovery", "lag", "--links", "-o", "json")) as { links: readonly LinkRow[] };
    const count = Number(links.find(({ nodeId }) => nodeId === this.#peer)?.framesReceived ?? 0);
    if (count === 0 || count < this.#count) throw new Error(`${count} frames from ${this.#peer}, and ${this.#count} before`);
    this.#count = count;
  }
}

/** What the members announce about their certificates, by node. */
async function securityAt(node: NodeProcess): Promise<Record<string, unknown>> {
  const { peers } = JSON.parse(await on(node, "mesh", "peers", "list", "-o", "json")) as { peers: { nodeId: string }[] };
  const securityOf = async (nodeId: string) =>
    (JSON.parse(await on(node, "mesh", "peers", "get", nodeId, "-o", "json")) as { security?: object }).security;
  return Object.fromEntries(await Promise.all(peers.map(async ({ nodeId }) => [nodeId, await securityOf(nodeId)] as const)));
}

async function joinToken(issuer: NodeProcess, node: string): Promise<string> {
  writeFileSync(at(`${node}-token`), await on(issuer, "mesh", "token", "create", "--node", node));
  return at(`${node}-token`);
}

async function startJoined(issuer: NodeProcess, node: string): Promise<NodeProcess> {
  const joining = ["--join", fabricOf(issuer), "--join-token-file", await joinToken(issuer, node)];
  return startNodeProcess(["--data-dir", at(node), ...joining]);
}

test("the root is replaced while all nodes run, and no link between nodes that only renew ends", { tags: ["night"] }, async () => {
  await done("ca", "init", "--node", "eu-1", "--ca-dir", at("ca"), "--data-dir", at("eu-1"));
  await using first = await startNodeProcess(["--data-dir", at("eu-1")]);
  await using eu2 = await startJoined(first, "eu-2");
  await using eu3 = await startJoined(first, "eu-3");
  for (const node of [first, eu2, eu3]) await linked(node, 2);
  const [old = ""] = (await rootsAt(first)).keys();
  await usedBy(first, old, "eu-1", "eu-2", "eu-3");
  expect(await securityAt(eu3)).toMatchObject({ "eu-2": { source: "mesh", issuer: "eu-1", root: old, acceptedRoots: [old] } });
  const link = new LinkCount(eu2, "eu-3");
  await link.check();

  await done("ca", "init", "--ca-dir", at("next"));
  const { rootId: next } = JSON.parse(await on(first, "ca", "publish", join(at("next"), "root.pem"), "-o", "json")) as { rootId: string };
  await usedBy(first, next);
  await link.check();
  await expect(on(first, "ca", "drop", old)).rejects.toThrow(/not_ready: the root .* is in use by node eu-1, node eu-2, node eu-3/);

  await done("ca", "intermediate", "--node", "eu-1", "--ca-dir", at("next"), "--data-dir", at("eu-1"));
  const port = fabricOf(first).split(":")[1] ?? "";
  await first.stop();
  await using again = await startNodeProcess(["--data-dir", at("eu-1"), "--fabric-port", port]);
  await usedBy(again, next, "eu-1");
  await link.check();
  for (const node of [eu2, eu3]) {
    const endS = async () => Date.now() / 1000 + (await metricOf(node, "waymark_identity_expires_seconds"));
    const before = await endS();
    await done("cert", "renew", "--data-dir", at(node.nodeId));
    node.command.kill("SIGHUP");
    await until("the node shows the end of its next certificate", async () => (await endS()) > before + 1);
  }
  await usedBy(again, next, "eu-1", "eu-2", "eu-3");
  await link.check();
  await on(again, "ca", "drop", old);
  await until("the old root is gone from all nodes", async () => {
    const files = ["eu-1", "eu-2", "eu-3"].map((name) => readFileSync(join(at(name), "identity", "roots.pem"), "utf8"));
    return files.every((file) => file.match(/BEGIN/g)?.length === 1) && (await rootsAt(again)).size === 1;
  });
  await usedBy(again, next, "eu-1", "eu-2", "eu-3");
  for (const node of [again, eu2, eu3]) await linked(node, 2);
  await link.check();
  for (const { command } of [eu2, eu3]) expect(command.stderr).not.toMatch(/certificate reload failed/);
  // The links of a node that starts now are made with the new root alone.
  await using eu4 = await startJoined(again, "eu-4");
  await linked(eu4, 3);
});

test("two nodes with certificates in files move to an issuer, one after the other", { tags: ["night"] }, async () => {
  const authority = new TestAuthority(folder, "old-ca");
  const trusted = at("trusted.pem");
  writeFileSync(trusted, authority.ca);
  const configs = ["fa", "fb"].map((node) => {
    const { certFile: cert_file, keyFile: key_file } = authority.issue(
      node,
      `URI:spiffe://waymark.internal/waymark/cluster/local/node/${node}`,
    );
    writeFileSync(at(`${node}.json`), JSON.stringify({ fabric: { cert_file, key_file, ca_file: trusted } }));
    return ["--config", at(`${node}.json`), "--node-id", node, "--data-dir", at(node)];
  });
  const [filesA = [], filesB = []] = configs;
  await using a = await startNodeProcess(filesA);
  await using b = await startNodeProcess([...filesB, "--join", fabricOf(a)]);
  await linked(a, 1);
  expect(await securityAt(a)).toMatchObject({ fa: { source: "files", issuer: "old-ca" }, fb: { source: "files", issuer: "old-ca" } });

  await done("ca", "init", "--node", "fa", "--ca-dir", at("mesh-ca"), "--data-dir", at("fa"));
  appendFileSync(trusted, readFileSync(join(at("mesh-ca"), "root.pem")));
  for (const { command } of [a, b]) command.kill("SIGHUP");
  await until("both accept the new root", async () =>
    Object.values(await securityAt(a)).every((each) => (each as { acceptedRoots: readonly string[] }).acceptedRoots.length === 2),
  );
  const port = fabricOf(a).split(":")[1] ?? "";
  await a.stop();
  await using issuer = await startNodeProcess(["--data-dir", at("fa"), "--node-id", "fa", "--fabric-port", port]);
  const { rootId: old } = JSON.parse(await on(issuer, "ca", "publish", authority.caFile, "-o", "json")) as { rootId: string };
  await linked(issuer, 1);
  await usedBy(issuer, old, "fb");
  await expect(on(issuer, "ca", "drop", old)).rejects.toThrow(/is in use by node fb/);

  await b.stop();
  await using moved = await startJoined(issuer, "fb");
  const [mesh = ""] = [...(await rootsAt(issuer)).keys()].filter((rootId) => rootId !== old);
  await usedBy(issuer, mesh, "fa", "fb");
  await on(issuer, "ca", "drop", old);
  await until("the old authority is dropped", async () => (await rootsAt(issuer)).size === 1);
  await linked(moved, 1);
  expect(await securityAt(moved)).toMatchObject({ fa: { source: "mesh", issuer: "fa" }, fb: { source: "mesh", issuer: "fa", root: mesh } });
});
