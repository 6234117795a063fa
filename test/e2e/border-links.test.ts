/**
 * Border links between real nodes of two regions: by certificate and by token, and who is kept out.
 *
 * @module-tag night
 */
import { generateKeyPairSync } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { JsonObject } from "@bufbuild/protobuf";
import { afterAll, describe, expect, test } from "vitest";
import { FabricAuthority } from "../fakes/fabric-transport.ts";
import { GrpcDoor } from "../fakes/node.ts";
import { CommandProcess, type NodeProcess, onFreePorts, startNodeProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

const HOME = mkdtempSync(join(tmpdir(), "waymark-border-links-"));
afterAll(() => rmSync(HOME, { recursive: true, force: true }));

function file(name: string, content: string | Uint8Array): string {
  const path = join(HOME, name);
  writeFileSync(path, content, { mode: 0o600 });
  return path;
}

function byCertificate(authority: FabricAuthority, nodeId: string, clusterId: string): JsonObject {
  const tls = authority.issue(nodeId, { clusterId });
  const name = `${nodeId}-${clusterId}`;
  return { cert_file: file(`${name}.cert`, tls.cert), key_file: file(`${name}.key`, tls.key), ca_file: file(`${name}.ca`, tls.clientCa) };
}

interface Started {
  readonly nodeId: string;
  readonly clusterId: string;
  readonly region: string;
  readonly fabric: JsonObject;
  readonly summary?: JsonObject;
}

function flagsOf({ nodeId, clusterId, region, fabric, summary = {} }: Started): readonly string[] {
  const fast = { interval: "400ms", ping_timeout: "250ms", join_timeout: "1s" };
  const config = file(`${nodeId}.json`, JSON.stringify({ fabric: { ...fast, ...fabric }, summary, observability: { log_level: "info" } }));
  return ["--ephemeral", "--node-id", nodeId, "--cluster-id", clusterId, "--region", region, "--config", config];
}

function start(options: Started): Promise<NodeProcess> {
  return startNodeProcess(flagsOf(options));
}

/** A node that nobody lets in. It is not ready before it has asked its seeds for long. */
function intrude(options: Omit<Started, "clusterId" | "region">): CommandProcess {
  return new CommandProcess(["serve", "-o", "json", ...onFreePorts(flagsOf({ ...options, clusterId: "eu1", region: "eu" }))]);
}

function addressOf(node: NodeProcess): string {
  return node.listeners["fabric"] ?? "";
}

/** Waits for an event in the node's log; returns its line. */
async function told(node: NodeProcess, event: string, text = ""): Promise<string> {
  const lines = () => node.command.stderr.split("\n").filter((line) => line.includes(`"event":"${event}"`) && line.includes(text));
  await until(`${node.nodeId} tells of ${event} ${text}`, () => lines().length > 0);
  return lines()[0] ?? "";
}

/** The members that a node knows, and the entries that it shows. */
async function known(node: NodeProcess): Promise<string> {
  using door = new GrpcDoor(node.grpc);
  const { response } = await door.ask("catalogQuery", { namespacePrefix: "svc" });
  const names = ((response["items"] ?? []) as { key: { name: string } }[]).map(({ key }) => key.name);
  const answer = await fetch(`http://${node.listeners["http"]}/control/peers`);
  const { peers = [] } = (await answer.json()) as { peers?: { nodeId?: string }[] };
  return [...peers.map(({ nodeId }) => nodeId ?? ""), ...names].toSorted().join(" ");
}

async function register(node: NodeProcess, name: string): Promise<void> {
  using door = new GrpcDoor(node.grpc);
  const entry = { key: { kind: "ENTRY_KIND_SERVICE", namespace: "svc.market", name, instanceId: "1" }, scope: "SCOPE_GLOBAL" };
  expect((await door.ask("register", { entries: [entry], staticLease: true })).code).toBe("OK");
}

describe("by certificate", () => {
  const [eu, us] = [new FabricAuthority(), new FabricAuthority()];
  const euCa = file("eu.pem", eu.ca);
  const usCa = file("us.pem", us.ca);

  test("neighbours that name each other are linked, and neither members nor entries cross; a node with a certificate of the neighbour's authority is let in nowhere else", async () => {
    const toEu = { cluster_id: "eu1", region: "eu", trust: { ca_file: euCa } };
    await using far = await start({
      nodeId: "us1a",
      clusterId: "us1",
      region: "us",
      fabric: { ...byCertificate(us, "us1a", "us1"), borders: [toEu] },
    });
    const toUs = { cluster_id: "us1", region: "us", addresses: [addressOf(far)], trust: { ca_file: usCa } };
    await using near = await start({
      nodeId: "eu1a",
      clusterId: "eu1",
      region: "eu",
      fabric: { ...byCertificate(eu, "eu1a", "eu1"), borders: [toUs] },
    });
    expect(await told(near, "border_up")).toContain('"nodeId":"us1a"');
    expect(await told(far, "border_up")).toContain('"nodeId":"eu1a"');
    await register(far, "of-us");
    await register(near, "of-eu");
    expect([await known(far), await known(near)]).toEqual(["of-us us1a", "eu1a of-eu"]);
    // The neighbour's authority vouches for a node of our cluster and region, which would be a member.
    const thief = { ...byCertificate(us, "eu1z", "eu1"), ca_file: euCa, seeds: [addressOf(near)], trust: "permissive" };
    await using stranger = intrude({ nodeId: "eu1z", fabric: thief });
    await told(near, "stranger_refused", "TLS handshake");
    expect(await known(near)).toBe("eu1a of-eu");
    expect(near.command.stderr).not.toContain('"nodeId":"eu1z"');
    expect(stranger.stderr).not.toContain("node is ready");
  });

  test("a cluster that is not named is told which setting is missing, and so is the operator; a reload of the authority lets the right one in", {
    tags: ["night"],
  }, async () => {
    const ca = file("changing.pem", us.ca);
    const toEu = { cluster_id: "eu1", region: "eu", trust: { ca_file: ca } };
    await using far = await start({
      nodeId: "us2a",
      clusterId: "us2",
      region: "us",
      fabric: { ...byCertificate(us, "us2a", "us2"), borders: [toEu] },
    });
    const borders = [{ cluster_id: "us2", region: "us", addresses: [addressOf(far)], trust: { ca_file: usCa } }];
    await using near = await start({
      nodeId: "eu1b",
      clusterId: "eu1",
      region: "eu",
      fabric: { ...byCertificate(eu, "eu1b", "eu1"), borders },
    });
    await told(near, "border_not_reached");
    await told(far, "stranger_refused");
    file("changing.pem", eu.ca);
    far.command.kill("SIGHUP");
    await told(far, "border_up");
    // One authority for all regions, and a cluster that has no border.
    const other = [{ cluster_id: "eu1", region: "eu", addresses: [addressOf(near)], trust: { ca_file: euCa } }];
    await using unnamed = await start({
      nodeId: "ap1a",
      clusterId: "ap1",
      region: "ap",
      fabric: { ...byCertificate(eu, "ap1a", "ap1"), borders: other },
    });
    const why = "no border of cluster eu1 names cluster ap1 of region ap; to let it in, add to fabric.borders";
    expect(await told(near, "border_refused", why)).toContain(why);
    expect(await told(unnamed, "border_refused_by_peer", why)).toContain(why);
  });
});

test("by token, on loopback: the right one is linked, and a border's token is no cluster token", { tags: ["night"] }, async () => {
  const token = file("border.token", "the-token-of-this-border\n");
  const cluster = file("eu.token", "the-token-of-the-cluster\n");
  const toEu = { cluster_id: "eu1", region: "eu", trust: { token_file: token } };
  await using far = await start({ nodeId: "us1a", clusterId: "us1", region: "us", fabric: { borders: [toEu] } });
  const borders = [{ cluster_id: "us1", region: "us", addresses: [addressOf(far)], trust: { token_file: token } }];
  await using near = await start({ nodeId: "eu1a", clusterId: "eu1", region: "eu", fabric: { cluster_token_file: cluster, borders } });
  await told(near, "border_up");
  await told(far, "border_up");
  const thief = { cluster_token_file: token, seeds: [addressOf(near)] };
  await using stranger = intrude({ nodeId: "eu1z", fabric: thief });
  await told(near, "call_refused", "wrong_token");
  expect(await known(near)).toBe("eu1a");
  expect(stranger.stderr).not.toContain("node is ready");
  const same = { cluster_token_file: token, borders: [toEu] };
  await using refused = intrude({ nodeId: "us1b", fabric: { ...same, borders: [{ ...toEu, cluster_id: "us1", region: "us" }] } });
  expect((await refused.finished()).stderr).toContain("has the same token as the fabric");
});

test("a refused summary is in the log and the audit, with the time of the refusal, though nobody reads the metrics", {
  tags: ["night"],
}, async () => {
  const token_file = file("unread.token", "the-token-of-a-border-that-nobody-watches\n");
  const { privateKey } = generateKeyPairSync("ed25519");
  const signing_key_file = file("unread.key", privateKey.export({ type: "pkcs8", format: "pem" }).toString());
  const named = (cluster_id: string, region: string) => ({ cluster_id, region, trust: { token_file } });
  const diskOf = (nodeId: string) => ["--data-dir", join(HOME, `data-${nodeId}`), "--on-stop", "keep"];
  const withDisk = (options: Started, summary: JsonObject) =>
    startNodeProcess([...flagsOf({ ...options, summary }).filter((flag) => flag !== "--ephemeral"), ...diskOf(options.nodeId)]);
  const ours = { nodeId: "eu9a", clusterId: "eu9", region: "eu", fabric: { borders: [named("us9", "us")] } };
  // It knows no key of its neighbour.
  await using near = await withDisk(ours, {});
  const borders = [{ ...named("eu9", "eu"), addresses: [addressOf(near)] }];
  const startMs = Date.now();
  await using far = await withDisk({ nodeId: "us9a", clusterId: "us9", region: "us", fabric: { borders } }, { signing_key_file });
  await register(far, "refused");
  await near.command.errorLine(/summary rejected/);
  const refusedMs = Date.now();
  const { stdout } = await near.run(["audit", "list", "-o", "json"]);
  const { records } = JSON.parse(stdout) as { records: readonly Record<string, string>[] };
  // The newest is the first.
  const taken = records.filter(({ action }) => action === "summary.take").at(-1);
  expect(taken).toMatchObject({ action: "summary.take", reason: "unknown_key", source: "us9" });
  expect(Date.parse(taken?.["at"] ?? "")).toBeGreaterThanOrEqual(startMs);
  expect(Date.parse(taken?.["at"] ?? "")).toBeLessThanOrEqual(refusedMs);
});
