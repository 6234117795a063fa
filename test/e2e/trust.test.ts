/** Which clusters link: real nodes under each `fabric.trust`, and a permissive one between two that do not. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { JsonObject } from "@bufbuild/protobuf";
import { afterAll, describe, expect, test } from "vitest";
import { some } from "../fakes/effort.ts";
import { FabricAuthority } from "../fakes/fabric-transport.ts";
import { GrpcDoor } from "../fakes/node.ts";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { readyz, UnreadyNode } from "../fakes/unready-node.ts";
import { until } from "../fakes/until.ts";

const HOME = mkdtempSync(join(tmpdir(), "waymark-trust-"));
afterAll(() => rmSync(HOME, { recursive: true, force: true }));
const TOKEN = join(HOME, "fabric.token");
writeFileSync(TOKEN, "a-token-of-the-trust-tests\n", { mode: 0o600 });
const BY_TOKEN = { cluster_token_file: TOKEN };
const authority = new FabricAuthority();

function byCertificate(nodeId: string, clusterId: string): JsonObject {
  const tls = authority.issue(nodeId, { clusterId });
  const at = (part: string, bytes: Uint8Array) => {
    const path = join(HOME, `${nodeId}-${clusterId}.${part}`);
    writeFileSync(path, bytes, { mode: 0o600 });
    return path;
  };
  return { cert_file: at("cert", tls.cert), key_file: at("key", tls.key), ca_file: at("ca", tls.clientCa) };
}

let files = 0;
interface Started {
  readonly nodeId: string;
  readonly clusterId: string;
  readonly fabric: JsonObject;
  readonly seed?: NodeProcess;
}

function start(options: Started): Promise<NodeProcess> {
  return startNodeProcess(flagsOf(options));
}

function flagsOf({ nodeId, clusterId, fabric, seed }: Started): readonly string[] {
  const path = join(HOME, `node-${files++}.json`);
  const fast = { interval: "400ms", ping_timeout: "250ms", join_timeout: "1s" };
  writeFileSync(path, JSON.stringify({ fabric: { ...fast, ...fabric }, observability: { log_level: "warn" } }));
  const joins = seed === undefined ? [] : ["--join", seed.listeners["fabric"] ?? ""];
  const named = ["--ephemeral", "--node-id", nodeId, "--cluster-id", clusterId, "--region", "eu", "--config", path];
  return [...named, ...joins];
}

async function register(node: NodeProcess, name: string): Promise<void> {
  using door = new GrpcDoor(node.grpc);
  const entry = { key: { kind: "ENTRY_KIND_SERVICE", namespace: "svc.market", name, instanceId: "1" }, scope: "SCOPE_REGION" };
  expect((await door.ask("register", { entries: [entry], staticLease: true })).code).toBe("OK");
}

/** Entries and other members that a node shows. */
async function shown(node: NodeProcess): Promise<string> {
  using door = new GrpcDoor(node.grpc);
  const { response } = await door.ask("catalogQuery", { namespacePrefix: "svc" });
  const names = ((response["items"] ?? []) as { key: { name: string } }[]).map(({ key }) => key.name);
  const answer = await fetch(`http://${node.listeners["http"]}/control/peers?statuses=alive`);
  const { peers } = (await answer.json()) as { peers?: { nodeId: string }[] };
  const others = (peers ?? []).map(({ nodeId }) => nodeId).filter((id) => id !== node.nodeId);
  return [...names, ...others].toSorted().join(" ");
}

async function shows(node: NodeProcess, want: string): Promise<void> {
  await until(`${node.nodeId} shows ${want}`, async () => {
    const found = await shown(node);
    return found === want ? [] : [found];
  });
}

async function metric(node: NodeProcess, name: string): Promise<string> {
  const text = await (await fetch(`http://${node.listeners["http"]}/metrics`)).text();
  return text.split("\n").find((line) => line.startsWith(name)) ?? "";
}

test.each(
  some([
    { what: "strict, by token", a: { ...BY_TOKEN, clusters: ["b"] }, b: { ...BY_TOKEN, clusters: ["a"] }, isIn: false },
    { what: "nothing said, by certificate", a: byCertificate("a-1", "a"), b: byCertificate("b-1", "b"), isIn: false },
    {
      what: "strict, listed and by certificate",
      a: { ...byCertificate("a-1", "a"), clusters: ["b"] },
      b: { ...byCertificate("b-1", "b"), clusters: ["a"] },
      isIn: true,
    },
    {
      what: "explicit, listed at one side only",
      a: { ...BY_TOKEN, trust: "explicit" },
      b: { ...BY_TOKEN, trust: "explicit", clusters: ["a"] },
      isIn: false,
    },
    {
      what: "explicit, listed",
      a: { ...BY_TOKEN, trust: "explicit", clusters: ["b"] },
      b: { ...BY_TOKEN, trust: "explicit", clusters: ["a"] },
      isIn: true,
    },
    { what: "permissive", a: { ...BY_TOKEN, trust: "permissive" }, b: { ...BY_TOKEN, trust: "permissive" }, isIn: true },
  ]),
)("$what: another cluster is let in: $isIn; both sides say what to add where it is not", async ({ what, a: ofA, b: ofB, isIn }) => {
  await using a = await start({ nodeId: "a-1", clusterId: "a", fabric: ofA });
  await register(a, "of-a");
  const joining = { nodeId: "b-1", clusterId: "b", fabric: ofB, seed: a };
  if (isIn) {
    await using b = await start(joining);
    await register(b, "of-b");
    await shows(a, "b-1 of-a of-b");
    await shows(b, "a-1 of-a of-b");
  } else {
    await using b = await UnreadyNode.start(flagsOf(joining));
    await a.command.errorLine(/fabric\.clusters = \[\\"b\\"\].*call_refused/);
    await b.command.errorLine(/fabric\.clusters = \[\\"b\\"\].*refused_by_peer/);
    await until("it is not ready for that", async () => {
      const said = await readyz(b.http);
      return said.startsWith("503 ") && said.includes("fabric.clusters = ") ? [] : [said];
    });
    expect(await shown(a)).toBe("of-a");
  }
  const isPermissive = what === "permissive";
  expect(await metric(a, "mesh_foreign_links_total")).toMatch(isPermissive ? / [1-9]\d*$/ : / 0$/);
  if (isPermissive) await a.command.errorLine(/fabric\.trust = .*permissive/);
  if (isPermissive) await a.command.errorLine(/foreign_cluster_admitted/);
});

describe("a permissive node between two clusters", { tags: ["night"] }, () => {
  test("passes on a foreign cluster's members and records, and none of them is taken", async () => {
    const permissive = { clusterId: "a", fabric: { ...BY_TOKEN, trust: "permissive" } };
    await using between = await start({ ...permissive, nodeId: "a-1" });
    await using foreign = await start({ ...permissive, nodeId: "b-1", clusterId: "b", seed: between });
    await using node = await start({ nodeId: "a-2", clusterId: "a", fabric: BY_TOKEN, seed: between });
    await register(foreign, "of-b");
    await register(between, "of-a");
    await until("the node between has it all", async () => ((await shown(between)).includes("of-a of-b") ? [] : ["not yet"]));
    await shows(node, "a-1 of-a");
    await node.command.errorLine(/fabric\.clusters = .*foreign_node_refused/);
    await register(foreign, "later-of-b");
    await register(between, "later-of-a");
    await shows(node, "a-1 later-of-a of-a");
    await register(foreign, "last-of-b");
    await until("passed on", async () => ((await shown(between)).includes("last-of-b") ? [] : ["not yet"]));
    await register(between, "last-of-a");
    await shows(node, "a-1 last-of-a later-of-a of-a");
    expect(await metric(node, 'mesh_refused_updates_total{reason="foreign"}')).toMatch(/ [1-9]\d*$/);
  });
});
