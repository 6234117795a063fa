/**
 * A client sees one cluster: it registers at one node, watches at another, and goes on at a third; the policy and a restart go along.
 * @module-tag night
 */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { afterAll, expect, test } from "vitest";
import { connect, type FollowEvent, follow } from "../../src/client/index.ts";
import { heldAddress } from "../fakes/held-address.ts";
import { GrpcDoor } from "../fakes/node.ts";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { ProvedWatch } from "../fakes/proved-watch.ts";
import { until } from "../fakes/until.ts";

const HOME = mkdtempSync(join(tmpdir(), "waymark-roaming-"));
afterAll(() => rmSync(HOME, { recursive: true, force: true }));

/** A policy needs a fabric that is not open to everybody. */
const TOKEN = join(HOME, "fabric.token");
writeFileSync(TOKEN, "a-token-of-the-roaming-tests\n", { mode: 0o600 });

function config(name: string, joinTimeout: string): string {
  const path = join(HOME, `${name}.json`);
  const fabric = {
    interval: "400ms",
    ping_timeout: "250ms",
    join_timeout: joinTimeout,
    snapshot_interval: "200ms",
    cluster_token_file: TOKEN,
  };
  writeFileSync(path, JSON.stringify({ fabric, observability: { log_level: "warn" } }));
  return path;
}

/** A node whose seeds are there is not to give them up, however busy the machine is. */
const CONFIG = config("node", "20s");
const IMPATIENT = config("impatient", "1s");

async function start(nodeId: string, flags: readonly string[] = []): Promise<NodeProcess> {
  const settings = flags.includes("--config") ? [] : ["--config", CONFIG];
  return startNodeProcess(["--node-id", nodeId, ...settings, "--data-dir", join(HOME, nodeId), ...flags]);
}

const fabricOf = ({ listeners }: NodeProcess): string => listeners["fabric"] ?? "";

async function register(node: NodeProcess, ...names: readonly string[]): Promise<void> {
  using door = new GrpcDoor(node.grpc);
  const entries = names.map((name) => ({ key: { namespace: "svc.market", name, instanceId: "1" } }));
  expect((await door.ask("register", { entries, staticLease: true })).code).toBe("OK");
}

async function unregister(node: NodeProcess, ...names: readonly string[]): Promise<void> {
  using door = new GrpcDoor(node.grpc);
  const keys = names.map((name) => ({ kind: "ENTRY_KIND_SERVICE", namespace: "svc.market", name, instanceId: "1" }));
  expect((await door.ask("unregister", { keys })).code).toBe("OK");
}

async function namesAt(node: NodeProcess): Promise<readonly string[]> {
  using door = new GrpcDoor(node.grpc);
  const { response } = await door.ask("catalogQuery", { namespacePrefix: "svc" });
  return ((response["items"] ?? []) as { key: { name: string } }[]).map(({ key }) => key.name).toSorted();
}

function waitForNames(node: NodeProcess, names: readonly string[]): Promise<void> {
  return expect.poll(() => namesAt(node), { message: node.nodeId }).toEqual(names.toSorted());
}

const many = (prefix: string, count: number) => Array.from({ length: count }, (_, i) => `${prefix}${i}`);

test("a client registers at A, watches at B, loses B, goes on at C and at A restarted, without a snapshot, and proves its digest", async () => {
  let a = await start("a");
  const [b, c] = await Promise.all([start("b", ["--join", fabricOf(a)]), start("c", ["--join", fabricOf(a)])]);
  try {
    const [first, second, third] = [many("x", 30), many("y", 5), many("z", 5)];
    await register(a, ...first);
    for (const node of [b, c]) await waitForNames(node, first);
    await using atB = new ProvedWatch([b.grpc]);
    await atB.holds(first);
    await register(a, ...second);
    await unregister(a, "x0", "x1");
    await atB.holds([...first.slice(2), ...second]);
    await b.stop("SIGKILL");
    await register(a, ...third);
    await unregister(c, "x2");
    const all = [...first.slice(3), ...second, ...third];
    await using atC = new ProvedWatch([c.grpc], atB);
    await atC.holds(all);
    expect(atC.beginCount).toBe(0);
    const port = fabricOf(a).split(":")[1] ?? "";
    await a.stop("SIGKILL");
    a = await start("a", ["--fabric-port", port, "--join", fabricOf(c)]);
    await using atA = new ProvedWatch([a.grpc], atC);
    await atA.holds(all);
    expect([atA.beginCount, atA.names]).toEqual([0, await namesAt(a)]);
  } finally {
    for (const node of [a, b, c]) await node[Symbol.asyncDispose]();
  }
});

test("the node where a client registers is lost: it registers at C, its watch goes on at C by what B told, and the digest is right", async () => {
  const a = await start("la");
  const [b, c] = await Promise.all([start("lb", ["--join", fabricOf(a)]), start("lc", ["--join", fabricOf(a)])]);
  try {
    const names = many("x", 20);
    await register(a, ...names);
    for (const node of [b, c]) await waitForNames(node, names);
    await using atB = new ProvedWatch([b.grpc]);
    await atB.holds(names);
    await a.stop("SIGKILL");
    await b.stop("SIGKILL");
    // Nothing was told by C so far; what A had is there, from A.
    await using atC = new ProvedWatch([c.grpc], atB);
    await atC.holds(names);
    await register(c, ...names.slice(5), "y");
    await unregister(c, "x0");
    const all = [...names.slice(1), "y"];
    await atC.holds(all);
    expect([atC.beginCount, atC.fault, await namesAt(c)]).toEqual([0, undefined, all.toSorted()]);
    expect(atC.removals).toEqual(["x0"]);
  } finally {
    for (const node of [a, b, c]) await node[Symbol.asyncDispose]();
  }
});

test("follow goes on at the next server when its own is lost: each change is told once, and there is one snapshot", async () => {
  await using a = await start("fa");
  await using b = await start("fb", ["--join", fabricOf(a)]);
  await register(a, "one", "two");
  await waitForNames(b, ["one", "two"]);
  const client = connect({ servers: [b.grpc, a.grpc], findServers: false });
  const end = new AbortController();
  const events: FollowEvent[] = [];
  const following = (async () => {
    const request = { namespacePrefix: "svc", bookmarkInterval: durationFromMs(1000) };
    for await (const event of follow(client, request, { signal: end.signal, chance: () => 0.5 })) events.push(event);
  })();
  const told = () => events.flatMap((event) => (event.kind === "synced" ? [] : [`${event.kind} ${event.key.name}`])).toSorted();
  await until("followed", () => events.some(({ kind }) => kind === "synced"));
  await b.stop("SIGKILL");
  await register(a, "three");
  await unregister(a, "one");
  await until("gone on", () => told().length === 4);
  const syncedCount = events.filter(({ kind }) => kind === "synced").length;
  await until("in step", () => events.filter(({ kind }) => kind === "synced").length > syncedCount);
  end.abort();
  await following;
  client.close();
  expect(told()).toEqual(["put one", "put three", "put two", "remove one"]);
  expect(events.filter((event) => event.kind === "synced" && event.isSnapshot)).toHaveLength(1);
});

async function policyAt(node: NodeProcess): Promise<Record<string, unknown>> {
  const answer = await fetch(`http://${node.listeners["http"]}/discovery/policy`);
  return (await answer.json()) as Record<string, unknown>;
}

async function waitForPolicy(node: NodeProcess, number: string): Promise<Record<string, unknown>> {
  await expect.poll(() => policyAt(node), { message: node.nodeId }).toMatchObject({ number });
  return policyAt(node);
}

function policyFile(label: string, tenant: string): string {
  const path = join(HOME, `${label}.yaml`);
  writeFileSync(path, `version: ${label}\ndefault_allow: true\nrules:\n  - namespace: svc.market\n    visibility_tenants: [${tenant}]\n`);
  return path;
}

test("a policy applied at one node is in force at all, and a newcomer never shows what the cluster hides", async () => {
  await using a = await start("pa");
  await using b = await start("pb", ["--join", fabricOf(a)]);
  await register(a, "web");
  await waitForNames(b, ["web"]);
  await using watch = new ProvedWatch([b.grpc]);
  await watch.holds(["web"]);
  const applied = await a.run(["namespace", "policy", "apply", policyFile("v1", "blue")]);
  expect([applied.exit, applied.stderr]).toEqual([0, expect.anything()]);
  const [atA, atB] = [await waitForPolicy(a, "1"), await waitForPolicy(b, "1")];
  expect(atB["checksum"]).toBe(atA["checksum"]);
  expect(atB["conflict"]).toBe("");
  await watch.holds([]);
  await using late = await start("pc", ["--join", fabricOf(b)]);
  expect([await namesAt(late), (await policyAt(late))["number"]]).toEqual([[], "1"]);
  const next = await b.run(["namespace", "policy", "apply", policyFile("v2", "red"), "--expect", "1"]);
  expect(next.exit).toBe(0);
  for (const node of [a, b, late]) expect(await waitForPolicy(node, "2")).toMatchObject({ version: "v2", conflict: "" });
  const history = await late.run(["namespace", "policy", "history", "-o", "json"]);
  expect(history.stdout).toContain('"v2"');
});

test("a restarted node has what others told it from its snapshot, also while they are away", async () => {
  const a = await start("wa");
  let b = await start("wb", ["--join", fabricOf(a)]);
  try {
    await register(a, "web", "db");
    await waitForNames(b, ["web", "db"]);
    const path = join(HOME, "wb", "replica.snapshot");
    await until("a snapshot of both", () => existsSync(path) && ["web", "db"].every((name) => readFileSync(path).includes(name)));
    await a.stop("SIGKILL");
    await b.stop("SIGKILL");
    await using _ = await heldAddress(fabricOf(a));
    b = await start("wb", ["--config", IMPATIENT, "--join", fabricOf(a)]);
    expect(await namesAt(b)).toEqual(["db", "web"]);
    using door = new GrpcDoor(b.grpc);
    // At the end of the join time; where the node stood still, so much later. How long it is presumed to be alive: test/fabric/origin-lifecycle-restart.test.ts.
    await until("nobody was met", async () => {
      const { response } = await door.ask("catalogQuery", { namespacePrefix: "svc" });
      const found = (response["items"] as { health: string }[]).map(({ health }) => health);
      return found.length === 2 && found.every((health) => health === "HEALTH_STATUS_ORPHANED") ? [] : found;
    });
  } finally {
    for (const node of [a, b]) await node[Symbol.asyncDispose]();
  }
});
