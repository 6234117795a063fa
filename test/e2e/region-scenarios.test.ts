/**
 * Scenarios of regions with real nodes: delegation, cutover and rollback, churn, and a region that is cut off. One fleet plays all of them.
 * @module-tag night
 */
import { randomBytes } from "node:crypto";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, test } from "vitest";
import { connect } from "../../src/client/index.ts";
import { queryBytes, responseText } from "../fakes/dns-text.ts";
import { GrpcDoor } from "../fakes/node.ts";
import type { NodeProcess } from "../fakes/node-process.ts";
import { inMemory } from "../fakes/process-memory.ts";
import { RegionFleet, type SummarySeen, summariesIn } from "../fakes/region-fleet.ts";
import { until } from "../fakes/until.ts";

const HOLD_DOWN_MS = 2000;
const TTL_MS = 8000;
/** Ends before the ttl does, of which the first third may be over when the region is cut off. */
const WINDOW_MS = 5000;
const CHURN_MS = 7000;
/** Two clocks of one machine, in whole milliseconds. */
const CLOCK_MS = 20;
const TIMES = { hold_down: "2s", ttl: "8s", stale_keep: "3s", export_interval: "2s" };
const REGIONS = ["ap", "eu", "us"] as const;

let fleet: RegionFleet;
beforeAll(async () => {
  fleet = await RegionFleet.start(REGIONS, TIMES);
  return () => fleet[Symbol.asyncDispose]();
});

interface Endpoint {
  readonly namespace: string;
  readonly name: string;
  readonly instanceId: string;
  readonly health?: string;
  readonly host?: string;
}

async function register(region: string, ...endpoints: readonly Endpoint[]): Promise<void> {
  using door = new GrpcDoor(fleet.node(region).grpc);
  const entries = endpoints.map(({ health = "HEALTH_STATUS_HEALTHY", host = "10.0.0.1", ...key }) => ({
    key: { kind: "ENTRY_KIND_SERVICE", ...key },
    scope: "SCOPE_GLOBAL",
    health,
    targets: [{ host, port: 8080, protocol: "http" }],
    metadata: { serial: key.instanceId },
  }));
  const answer = await door.ask("register", { entries, staticLease: true });
  expect(answer).toMatchObject({ code: "OK" });
}

async function unregister(region: string, ...endpoints: readonly Endpoint[]): Promise<void> {
  using door = new GrpcDoor(fleet.node(region).grpc);
  const keys = endpoints.map(({ namespace, name, instanceId }) => ({ kind: "ENTRY_KIND_SERVICE", namespace, name, instanceId }));
  expect(await door.ask("unregister", { keys })).toMatchObject({ code: "OK" });
}

async function applyPolicy(region: string, rules: readonly object[]): Promise<void> {
  const answer = await fetch(`http://${fleet.node(region).listeners["http"]}/waymark.policy.v1.PolicyService/ApplyPolicy`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ policy: { version: "scenario", defaultAllow: true, rules } }),
  });
  expect([answer.status, await answer.text()]).toEqual([200, expect.any(String)]);
}

/** A service of a namespace as a region shows it, or `absent`. */
async function shown(region: string, namespace: string, name: string): Promise<string> {
  const found = (await summariesIn(fleet.node(region), namespace)).filter(({ serviceId }) => serviceId === name);
  return found.map(({ sourceCluster, stale }) => `${sourceCluster} ${stale === true ? "stale" : "fresh"}`).join(", ") || "absent";
}

/** Waits until all of these regions show the same; returns how long that took. */
async function showEverywhere(namespace: string, name: string, what: string, regions: readonly string[] = REGIONS): Promise<number> {
  const startedMs = performance.now();
  await until(`${regions.join(", ")} show ${namespace} ${name} as ${what}`, async () => {
    const all = await Promise.all(regions.map(async (region) => [region, await shown(region, namespace, name)] as const));
    return all.filter(([, each]) => each !== what).map((each) => each.join(": "));
  });
  return performance.now() - startedMs;
}

const get = async (node: NodeProcess, path: string): Promise<string> => (await fetch(`http://${node.listeners["http"]}${path}`)).text();

async function dns(node: NodeProcess, name: string): Promise<string> {
  const socket = createSocket("udp4");
  try {
    socket.send(queryBytes({ name, type: "SRV" }), Number(node.listeners["dns"]?.split(":").at(-1)), "127.0.0.1");
    const [reply] = (await once(socket, "message", { signal: AbortSignal.timeout(30_000) })) as [Buffer];
    return responseText(reply);
  } finally {
    socket.close();
  }
}

/** Everything that a node says of what it knows, by way of saying it. */
async function allThatIsSaid(node: NodeProcess, namespace: string, name: string): Promise<ReadonlyMap<string, string>> {
  using door = new GrpcDoor(node.grpc);
  const ask = async (rpc: Parameters<GrpcDoor["ask"]>[0], request = {}) => JSON.stringify((await door.ask(rpc, request)).response);
  const run = async (...argv: readonly string[]) => (await node.run([...argv, "-o", "json"])).stdout;
  const ways: Readonly<Record<string, Promise<string>>> = {
    CatalogQuery: ask("catalogQuery", { limit: 1000 }),
    Resolve: ask("resolve", { namespace, name, limit: 10 }),
    SummaryQuery: ask("summaryQuery", { includeIngress: true }),
    ListPeers: ask("listPeers"),
    ClusterMap: ask("clusterMap"),
    NamespaceStatus: ask("namespaceStatus", { namespace }),
    ServerInfo: ask("serverInfo"),
    CatalogWatch: run("discovery", "watch", "--until-synced"),
    SummaryWatch: run("discovery", "summary", "--watch", "--until-synced"),
    audit: run("audit", "list"),
    DNS: dns(node, `_svc._tcp.${name}.${namespace}.waymark`),
    log: Promise.resolve(node.command.stderr),
  };
  const paths = ["/metrics", "/sd/prometheus", "/control/peers", "/discovery/summary", "/discovery/lag", "/discovery/policy", "/readyz"];
  const all = [...Object.entries(ways), ...paths.map((path) => [path, get(node, path)] as const)];
  return new Map(await Promise.all(all.map(async ([way, said]) => [way, await said] as const)));
}

function filesWith(folder: string, word: string): readonly string[] {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((each) => each.isFile());
  return files.map(({ parentPath, name }) => join(parentPath, name)).filter((path) => readFileSync(path).includes(word));
}

/** How often a name was said on the way into a region since the relays forgot: once in each summary. */
function saidInto(region: string, name: string): number {
  const into = fleet.relaysOf(region).map((relay) => relay.passed[fleet.isOpener(region, relay) ? "back" : "there"]);
  return into.reduce((sum, bytes) => sum + bytes.toString("latin1").split(name).length - 1, 0);
}

test("scenario 1, delegation: callers are led to the region that owns the name, and no endpoint of it is in another region's memory, files, wire or answers", async () => {
  const [secret, own] = [`eu-${randomBytes(8).toString("hex")}`, `us-${randomBytes(8).toString("hex")}`];
  const owned = ["us", "eu"].map((region) => ({
    namespace: `svc.prod.${region === "us" ? "us-east" : "eu-west"}`,
    owners: [region],
    allowSummaries: true,
    exportScopes: ["SCOPE_GLOBAL"],
  }));
  await using resolver = await fleet.startResolver("us");
  await Promise.all(REGIONS.map((region) => applyPolicy(region, owned)));
  const pay = { namespace: "svc.prod.eu-west.shop", name: "pay" };
  const cart = { namespace: "svc.prod.us-east.shop", name: "cart" };
  await register("eu", { ...pay, instanceId: secret, host: `${secret}.internal` });
  await register("us", { ...cart, instanceId: own, host: `${own}.internal` });
  await showEverywhere("svc.prod.eu-west", "pay", "eu1 fresh");
  await showEverywhere("svc.prod.us-east", "cart", "us1 fresh");
  const us = fleet.node("us");
  // What another region owns cannot be published here for others.
  using door = new GrpcDoor(us.grpc);
  const foreign = { key: { kind: "ENTRY_KIND_SERVICE", ...pay, instanceId: "1" }, scope: "SCOPE_GLOBAL" };
  expect(await door.ask("register", { entries: [foreign], staticLease: true })).toMatchObject({ code: "PERMISSION_DENIED" });
  await until("callers are sent to the owner", async () => "redirect" in (await door.ask("resolve", pay)).response);
  // Clients ask a resolver, which knows of the other region what its node knows.
  using asked = new GrpcDoor(resolver.grpc);
  await until("the resolver sends them there too", async () => "redirect" in (await asked.ask("resolve", pay)).response);
  expect((await summariesIn(resolver)).map(({ sourceCluster, stale = false }) => `${sourceCluster} ${stale}`)).toEqual([
    "eu1 false",
    "us1 false",
  ]);
  const client = connect({ servers: [resolver.grpc], findServers: false, autoSummaryRedirect: true });
  try {
    const found = await client.resolve(pay.namespace, pay.name);
    expect(found?.entry).toMatchObject({ clusterId: "eu1", key: { instanceId: secret } });
  } finally {
    client.close();
  }
  // Each search finds what is there, and so can be believed of what it does not find.
  const said = await allThatIsSaid(us, cart.namespace, cart.name);
  const saying = (word: string, all: ReadonlyMap<string, string>) => [...all].filter(([, text]) => text.includes(word)).map(([way]) => way);
  expect(saying(own, said)).toEqual(["CatalogQuery", "Resolve", "CatalogWatch", "audit", "DNS", "/sd/prometheus"]);
  expect(saying(secret, said)).toEqual([]);
  const ofOther = await allThatIsSaid(us, pay.namespace, pay.name);
  expect(ofOther.get("Resolve")).toContain("redirect");
  expect(saying(secret, ofOther)).toEqual([]);
  expect(filesWith(fleet.dataDir("us"), own)).not.toEqual([]);
  expect(filesWith(fleet.dataDir("us"), secret)).toEqual([]);
  const passed = (word: string) => [...fleet.relays].filter(([, relay]) => relay.hasPassed(word)).map(([way]) => way);
  expect(passed("eu-west.shop")).toEqual(expect.arrayContaining(["ap>eu", "eu>us"]));
  expect([...passed(secret), ...passed(own)]).toEqual([]);
  expect(inMemory(fleet.node("eu").command.pid, [secret, own])).toEqual([secret]);
  expect(inMemory(us.command.pid, [secret, own])).toEqual([own]);
  expect(inMemory(resolver.command.pid, [secret, own])).toEqual([]);
});

test("scenario 2, cutover and rollback: a summary shows in all regions within its ttl, and a rollback takes it back within the hold-down; the audit has both", async () => {
  const rule = { namespace: "svc.move", owners: ["eu"], exportScopes: ["SCOPE_GLOBAL"] };
  await applyPolicy("eu", [{ ...rule, allowSummaries: false }]);
  await register("eu", { namespace: "svc.move", name: "stock", instanceId: "1" });
  const window = { startsAt: new Date(Date.now() - 60_000).toISOString(), endsAt: new Date(Date.now() + 3_600_000).toISOString() };
  expect(await Promise.all(REGIONS.map((region) => shown(region, "svc.move", "stock")))).toEqual(["absent", "absent", "absent"]);
  await applyPolicy("eu", [{ ...rule, allowSummaries: true, cutoverWindows: [window] }]);
  expect(await showEverywhere("svc.move", "stock", "eu1 fresh")).toBeLessThan(TTL_MS);
  expect(await fleet.node("eu").run(["namespace", "policy", "rollback", "--reason", "not yet"])).toMatchObject({ exit: 0 });
  expect(await showEverywhere("svc.move", "stock", "absent")).toBeLessThan(HOLD_DOWN_MS);
  const audit = await fleet.node("eu").run(["audit", "list", "--namespace", "svc.move", "-o", "json"]);
  const { records } = JSON.parse(audit.stdout) as { records: readonly Record<string, string>[] };
  const acts = records.filter(({ action = "" }) => action.startsWith("summary."));
  expect(acts.map(({ action, rule: by, detail }) => ({ action, rule: by, detail }))).toEqual([
    { action: "summary.withdraw", rule: "svc.move", detail: "service=stock endpoints=0 policy=4" },
    { action: "summary.export", rule: "svc.move", detail: "service=stock endpoints=1 policy=3" },
  ]);
});

test("scenario 4, churn: each service is told at most once in a hold-down, and no band turns twice in one", async () => {
  const names = Array.from({ length: 10 }, (_, i) => `churn-${i}`);
  const endpoints = names.flatMap((name) => Array.from({ length: 20 }, (_, i) => ({ namespace: "svc.churn", name, instanceId: `${i}` })));
  for (const relay of fleet.relays.values()) relay.forget();
  const startedMs = performance.now();
  const elapsedMs = () => performance.now() - startedMs;
  const seen = new Map(names.map((name) => [name, new Map<string, SummarySeen>()] as const));
  await register("eu", ...endpoints);
  for (let round = 0; elapsedMs() < CHURN_MS; round++) {
    // A part of the endpoints leaves and comes back. For some rounds they are well when they come, and then they are not.
    const some = endpoints.filter((_, i) => i % 4 === round % 4);
    await unregister("eu", ...some);
    const health = Math.floor(round / 6) % 2 === 0 ? "HEALTH_STATUS_HEALTHY" : "HEALTH_STATUS_CRITICAL";
    await register("eu", ...some.map((each) => ({ ...each, health })));
    for (const each of await summariesIn(fleet.node("us"), "svc.churn")) seen.get(each.serviceId)?.set(each.version ?? "", each);
  }
  const most = Math.ceil(elapsedMs() / HOLD_DOWN_MS) + 1;
  const found = [...seen].map(([name, versions]) => {
    const told = [...versions.values()].map(({ generatedAt, healthBand }) => ({ atMs: Date.parse(generatedAt), healthBand }));
    const hasTurned = told.some(({ healthBand }, i) => i > 0 && told[i - 1]?.healthBand !== healthBand);
    const isTooSoon = told.some(({ atMs }, i) => i > 0 && atMs - (told[i - 1]?.atMs ?? 0) < HOLD_DOWN_MS - CLOCK_MS);
    // To each of two regions, by one link.
    const isTooOften = Math.max(saidInto("us", name), saidInto("ap", name)) > most;
    return { name, hasTurned, isTooSoon, isTooOften };
  });
  expect(found).toEqual(names.map((name) => ({ name, hasTurned: true, isTooSoon: false, isTooOften: false })));
  expect(Number(/^discovery_summary_hold_downs_total (\d+)$/m.exec(await get(fleet.node("eu"), "/metrics"))?.[1])).toBeGreaterThan(0);
  await unregister("eu", ...endpoints);
});

const PART = ["part-a", "part-b", "part-c"].map((name) => ({ namespace: "svc.part", name, instanceId: "1" }));

/** Connects the region again, and waits until all show the same; returns how often each service was told to it meanwhile. */
async function heal(region: string): Promise<Readonly<Record<string, number>>> {
  const node = fleet.node(region);
  const ups = () => node.command.stderr.split("\n").filter((line) => line.includes('"event":"border_up"')).length;
  const wanted = ups() + REGIONS.length - 1;
  for (const relay of fleet.relaysOf(region)) {
    relay.forget();
    relay.heal();
  }
  await until(`the links of ${region} are back`, () => ups() >= wanted);
  const upMs = performance.now();
  await until("all regions show the same", allShowTheSame);
  expect(performance.now() - upMs).toBeLessThan(5000);
  return Object.fromEntries(PART.map(({ name }) => [name, saidInto(region, name)]));
}

async function allShowTheSame(): Promise<readonly string[]> {
  const all = await Promise.all(REGIONS.map(async (each) => linesOf(await summariesIn(fleet.node(each)))));
  return all.filter((each) => each !== all[0]);
}

function linesOf(summaries: readonly SummarySeen[]): string {
  const lines = summaries.map(({ sourceCluster, serviceId, version, stale = false }) =>
    [sourceCluster, serviceId, version, stale].join(" "),
  );
  return lines.toSorted().join(", ");
}

test("a region that is cut off ends a window in time, and shows the others as stale; when it is back, one summary comes for each service that changed", async () => {
  await register("eu", ...PART);
  for (const { namespace, name } of PART) await showEverywhere(namespace, name, "eu1 fresh");
  const [openMs, endsAtMs] = [Date.now() - 60_000, Date.now() + WINDOW_MS];
  const window = { startsAt: new Date(openMs).toISOString(), endsAt: new Date(endsAtMs).toISOString() };
  await applyPolicy("eu", [{ namespace: "svc.sale", owners: ["eu"], allowSummaries: true, cutoverWindows: [window] }]);
  await register("eu", { namespace: "svc.sale", name: "sale", instanceId: "1" });
  await showEverywhere("svc.sale", "sale", "eu1 fresh");
  for (const relay of fleet.relaysOf("ap")) relay.cut();
  await showEverywhere("svc.sale", "sale", "absent", ["ap"]);
  expect(Date.now() - endsAtMs).toBeGreaterThan(-CLOCK_MS);
  expect(Date.now() - endsAtMs).toBeLessThan(1000);
  const versionOfA = async () => (await summariesIn(fleet.node("eu"), "svc.part")).find(({ serviceId }) => serviceId === "part-a")?.version;
  const before = await versionOfA();
  for (const health of ["HEALTH_STATUS_CRITICAL", "HEALTH_STATUS_HEALTHY", "HEALTH_STATUS_CRITICAL"])
    await register("eu", ...PART.slice(0, 1).map((each) => ({ ...each, health })));
  // Three changes in a row may wait for a hold-down, and the region may be stale before that.
  await until("eu tells a new version of part-a", async () => (await versionOfA()) !== before);
  await showEverywhere("svc.part", "part-b", "eu1 stale", ["ap"]);
  expect(await heal("ap")).toEqual({ "part-a": 1, "part-b": 0, "part-c": 0 });
});

test("a region that is cut off for longer drops what the others export, as they do with what it exports; when it is back, one summary comes for each service", async () => {
  await register("ap", { namespace: "svc.part", name: "of-ap", instanceId: "1" });
  await showEverywhere("svc.part", "of-ap", "ap1 fresh");
  for (const relay of fleet.relaysOf("ap")) relay.cut();
  await Promise.all([
    showEverywhere("svc.part", "part-b", "absent", ["ap"]),
    showEverywhere("svc.part", "of-ap", "ap1 stale", ["eu", "us"]).then(() => showEverywhere("svc.part", "of-ap", "absent", ["eu", "us"])),
  ]);
  expect([await shown("ap", "svc.part", "of-ap"), await shown("us", "svc.part", "part-b")]).toEqual(["ap1 fresh", "eu1 fresh"]);
  expect(await heal("ap")).toEqual({ "part-a": 1, "part-b": 1, "part-c": 1 });
});

test("a node that has a policy and holds summaries starts again, and all regions show what they showed", async () => {
  const shownIn = async () => linesOf(await summariesIn(fleet.node("eu"), "svc.part")).replaceAll(/ \d+ /g, " ");
  const before = await shownIn();
  expect(before).toContain("part-a");
  await fleet.restart("eu");
  await until("it shows the same", async () => [await shownIn()].filter((each) => each !== before));
  await until("all regions show the same", allShowTheSame);
});
