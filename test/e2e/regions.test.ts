/** Real nodes of two regions: what a cluster exports shows in the other region as a summary, and nothing else of it does. */
import { generateKeyPairSync } from "node:crypto";
import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { JsonObject } from "@bufbuild/protobuf";
import { afterAll, expect, test } from "vitest";
import { connect } from "../../src/client/index.ts";
import { dig, isDigThere } from "../fakes/dig.ts";
import { GrpcDoor } from "../fakes/node.ts";
import { type NodeProcess, startNodeProcess, waymarkProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

const HOME = mkdtempSync(join(tmpdir(), "waymark-regions-"));
afterAll(() => rmSync(HOME, { recursive: true, force: true }));

function file(name: string, content: string): string {
  const path = join(HOME, name);
  writeFileSync(path, content, { mode: 0o600 });
  return path;
}

/** The key of a cluster: the file with the secret, and the row for others. */
function keyOf(clusterId: string, region: string) {
  const { privateKey, publicKey } = generateKeyPairSync("ed25519");
  const signingKeyFile = file(`${clusterId}.key`, privateKey.export({ type: "pkcs8", format: "pem" }).toString());
  const publicText = publicKey.export({ type: "spki", format: "der" }).subarray(-32).toString("base64");
  return { signingKeyFile, row: { cluster_id: clusterId, region, public_key: publicText } };
}

const TOKEN = file("border.token", "a-token-that-both-regions-know\n");
const KEYS = { eu: keyOf("eu1", "eu"), us: keyOf("us1", "us") };

function start(
  clusterId: string,
  region: "eu" | "us",
  border: JsonObject,
  { dns = {}, flags = [] }: { readonly dns?: JsonObject; readonly flags?: readonly string[] } = {},
): Promise<NodeProcess> {
  const fabric = { interval: "400ms", ping_timeout: "250ms", join_timeout: "1s", borders: [{ ...border, trust: { token_file: TOKEN } }] };
  const summary = { signing_key_file: KEYS[region].signingKeyFile, keys: [KEYS.eu.row, KEYS.us.row], hold_down: "500ms" };
  const config = file(`${clusterId}.json`, JSON.stringify({ dns, fabric, summary, observability: { log_level: "info" } }));
  return startNodeProcess([
    "--data-dir",
    join(HOME, clusterId),
    "--on-stop",
    "keep",
    "--node-id",
    `${clusterId}-a`,
    "--cluster-id",
    clusterId,
    "--region",
    region,
    "--config",
    config,
    ...flags,
  ]);
}

/** Source, name and number of endpoints of each GLOBAL summary, sorted. */
async function namesIn(node: NodeProcess): Promise<string> {
  using door = new GrpcDoor(node.grpc);
  const { response } = await door.ask("summaryQuery", { scope: "SCOPE_GLOBAL" });
  const items = (response["items"] ?? []) as { sourceCluster: string; serviceId: string; endpointCount?: number; stale?: boolean }[];
  const words = items.map(({ sourceCluster, serviceId, endpointCount, stale }) =>
    [sourceCluster, serviceId, endpointCount ?? 0, stale === true ? "stale" : "fresh"].join(" "),
  );
  return words.toSorted().join(", ");
}

async function register(node: NodeProcess, name: string, namespace = "svc.market"): Promise<void> {
  using door = new GrpcDoor(node.grpc);
  const entry = { key: { kind: "ENTRY_KIND_SERVICE", namespace, name, instanceId: "1" }, scope: "SCOPE_GLOBAL" };
  expect((await door.ask("register", { entries: [entry], staticLease: true })).code).toBe("OK");
}

/** The file of the next key is beside that of the key; the block goes into the latter, and crosses the border. */
async function announcesItsNextKey(eu: NodeProcess, us: NodeProcess): Promise<void> {
  const [next, { signingKeyFile }] = [keyOf("eu1-next", "eu"), KEYS.eu];
  const keyFiles = ["--key-file", signingKeyFile, "--new-key-file", next.signingKeyFile];
  const { exit, stdout } = await waymarkProcess(["summary", "keys", "announce", "--cluster-id", "eu1", ...keyFiles, "--for", "1h"]);
  expect(exit).toBe(0);
  appendFileSync(signingKeyFile, stdout);
  eu.command.kill("SIGHUP");
  const page = `http://${us.listeners["http"] ?? ""}/control/keys`;
  await until("the other region knows the next key", async () => (await (await fetch(page)).text()).includes(next.row.public_key));
  const listed = await waymarkProcess(["summary", "keys", "list", "-o", "json", "--server", us.grpc]);
  const { keys } = JSON.parse(listed.stdout) as { keys: readonly Record<string, unknown>[] };
  expect(keys.map(({ clusterId, counts, signs }) => [clusterId, counts, signs])).toEqual([
    ["eu1", true, false],
    ["eu1", true, false],
    ["us1", true, true],
  ]);
}

/** The border and every other node of its region are away when it starts again: what it shows comes from its disk, and its source grows no younger. */
async function showsWhatItHeldAlone(eu: NodeProcess, us: NodeProcess): Promise<void> {
  await eu.stop("SIGKILL");
  await us.stop("SIGTERM");
  await using again = await start("us1", "us", { cluster_id: "eu1", region: "eu", import: ["svc.*"] });
  expect(await namesIn(again)).toMatch(/^eu1 quotes 1 (?:fresh|stale), us1 orders 1 fresh$/);
}

interface DnsNames {
  /** What only the other region has, and what is here. */
  readonly other: string;
  readonly own: string;
  /** Of an answer that leads there, in seconds. */
  readonly ttl: RegExp;
}

/** A program that asks DNS at `here` for what only `there` has is led there, and finds what `here` has as ever. */
async function checkDns(here: NodeProcess, there: NodeProcess, { other, own, ttl }: DnsNames): Promise<void> {
  if (!isDigThere()) return;
  const asked = async (...words: readonly string[]) => (await dig(here.listeners["dns"] ?? "", ...words)).trim();
  await until("DNS leads there", async () => (await asked("+short", "A", `${other}.svc.market.waymark`)) === "127.0.0.1");
  const places = (await asked("+short", "SRV", `_svc._tcp.${other}.svc.market.waymark`)).split("\n").toSorted();
  const ports = [there.grpc, there.listeners["http"] ?? ""].map((address) => address.split(":")[1]);
  expect(places).toEqual(ports.map((port) => `0 1 ${port} 127-0-0-1.addr.node.waymark.`).toSorted());
  expect(await asked("A", `${other}.svc.market.waymark`)).toMatch(new RegExp(`\\s${ttl.source}\\s+IN\\s+A\\s+127\\.0\\.0\\.1`));
  expect(await asked("A", "others.svc.market.waymark")).toContain("status: NXDOMAIN");
  // What is here stays as it is, though it has no address.
  expect(await asked("A", `${own}.svc.market.waymark`)).toContain("status: NOERROR");
}

test("a service shows in the other region as a summary, and its entries do not", async () => {
  await using eu = await start("eu1", "eu", { cluster_id: "us1", region: "us" }, { dns: { summary_answers: true } });
  const border = { cluster_id: "eu1", region: "eu", addresses: [eu.listeners["fabric"] ?? ""], import: ["svc.*"] };
  await using us = await start("us1", "us", border, { flags: ["--workers", "2"] });
  await register(eu, "ledger", "internal");
  await register(eu, "quotes");
  await until("the summary is in the other region", async () => (await namesIn(us)) === "eu1 quotes 1 fresh");
  await register(us, "orders");
  const both = "eu1 quotes 1 fresh, us1 orders 1 fresh";
  const atHome = `eu1 ledger 1 fresh, ${both}`;
  await until("both regions show both, and what us1 does not import is shown at home alone", async () => {
    return (await namesIn(eu)) === atHome && (await namesIn(us)) === both;
  });
  await checkDns(eu, us, { other: "orders", own: "quotes", ttl: /60/ });
  using door = new GrpcDoor(us.grpc);
  const { response } = await door.ask("catalogQuery", { namespacePrefix: "svc" });
  expect(((response["items"] ?? []) as { key: { name: string } }[]).map(({ key }) => key.name)).toEqual(["orders"]);
  // Any thread says what its cluster exports.
  const { response: status } = await door.ask("namespaceStatus", { namespace: "svc.market" });
  expect(status).toMatchObject({ summariesExported: "1", exportAllowed: true, exportReason: "policy_disabled" });
  expect(status).toHaveProperty("lastExportAt");
  // A name that only the other region has leads there, also at a read worker.
  const asked = { namespace: "svc.market", name: "quotes" };
  const urls = [`grpc://${eu.grpc}`, `http://${eu.listeners["http"] ?? ""}`];
  await until("callers are sent there", async () => "redirect" in (await door.ask("resolve", asked)).response);
  const { redirect } = (await door.ask("resolve", asked)).response;
  expect(redirect).toMatchObject({ clusterId: "eu1", region: "eu", urls, band: "HEALTH_BAND_HEALTHY" });
  expect((await door.ask("resolve", { ...asked, visitedClusters: ["eu1"] })).code).toBe("NOT_FOUND");
  // The other region's nodes are listed behind those of this one, and are no members.
  const { response: listed } = await door.ask("listPeers", {});
  expect(listed["peers"]).toMatchObject([{ clusterId: "eu1", region: "eu", scope: "SCOPE_GLOBAL", urls }]);
  expect(listed).not.toHaveProperty("peers.0.nodeId");
  const { response: map } = await door.ask("clusterMap", { scope: "SCOPE_GLOBAL" });
  expect(map).toMatchObject({ nodes: [{ nodeId: "us1-a" }, { key: { clusterId: "eu1", name: "ingress-1" }, scope: "SCOPE_GLOBAL" }] });
  // The client follows, and calls the other cluster by its name.
  const client = connect({ servers: [us.grpc], findServers: false, autoSummaryRedirect: true });
  expect((await client.resolve("svc.market", "quotes"))?.entry).toMatchObject({ clusterId: "eu1", key: { instanceId: "1" } });
  expect(await client.callWithSummary("eu1", async (at) => (await at.discovery.serverInfo({})).clusterId)).toBe("eu1");
  client.close();
  const page = await (await fetch(`http://${us.listeners["http"] ?? ""}/discovery/summary?region=eu&include_ingress=true`)).json();
  expect(page).toMatchObject({ items: [{ serviceId: "quotes" }], ingress: { eu1: { urls } } });
  await resolverLeads(us, eu, { asked, redirect, both });
  await announcesItsNextKey(eu, us);
  await showsWhatItHeldAlone(eu, us);
});

interface Told {
  readonly asked: JsonObject;
  readonly redirect: unknown;
  readonly both: string;
}

/** A resolver in the region of the node knows the other region by what the node tells it, and by nothing else. */
async function resolverLeads(us: NodeProcess, eu: NodeProcess, { asked, redirect, both }: Told): Promise<void> {
  const config = file(
    "resolver.json",
    JSON.stringify({ dns: { summary_answers: true }, summary: { resolver_scopes: ["global"], keys: [KEYS.eu.row, KEYS.us.row] } }),
  );
  const place = ["--cluster-id", "us1", "--region", "us", "--node-id", "r-1", "--config", config];
  await using resolver = await startNodeProcess(["--mode", "resolver", "--ephemeral", "--upstream", us.grpc, ...place]);
  await until("the resolver holds what its node holds", async () => (await namesIn(resolver)) === both);
  using door = new GrpcDoor(resolver.grpc);
  const told = (await door.ask("resolve", asked)).response["redirect"];
  const { ttl, ...named } = redirect as JsonObject;
  expect(told).toMatchObject(named);
  expect(ttl).toBeDefined();
  expect((await door.ask("resolve", { ...asked, visitedClusters: ["eu1"] })).code).toBe("NOT_FOUND");
  const page = await (await fetch(`http://${resolver.listeners["http"] ?? ""}/discovery/summary?region=eu&include_ingress=true`)).json();
  expect(page).toMatchObject({ items: [{ serviceId: "quotes" }], source: "SOURCE_FOLLOWED", stale: false, servedBy: "r-1" });
  expect(JSON.stringify((await door.ask("catalogQuery", { namespacePrefix: "svc" })).response)).not.toContain("quotes");
  // A client of the resolver follows.
  const client = connect({ servers: [resolver.grpc], findServers: false, autoSummaryRedirect: true });
  expect((await client.resolve("svc.market", "quotes"))?.entry).toMatchObject({ clusterId: "eu1", key: { instanceId: "1" } });
  client.close();
  await checkDns(resolver, eu, { other: "quotes", own: "orders", ttl: /\d+/ });
}
