/**
 * Scenario 6 in two clusters of real nodes: a service and functions of `svc.prod.us-east` as DNS shows them to a viewer who may see part of them, at nodes
 * of both clusters and at a resolver, and what clients find while a gateway is killed.
 * @module-tag night
 */
import { createHash } from "node:crypto";
import { createSocket } from "node:dgram";
import { Resolver } from "node:dns/promises";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { type Client, connect } from "../../src/client/index.ts";
import { queryBytes, responseText } from "../fakes/dns-text.ts";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

const HOME = mkdtempSync(join(tmpdir(), "waymark-dns-scenario-"));
const SPACE = "svc.prod.us-east";
/** Of the loopback network, so that a socket can be bound to them: a bank's network, and anybody's. */
const BANK = "127.0.2.1";
const ANYBODY = "127.0.9.1";
const ROLES = { resolver: ["mesh.resolve"], admin: ["mesh.admin"], bank: [], shop: [] } as const;
type Who = keyof typeof ROLES;
const WHO = ["resolver", "admin", "bank", "shop"] as const;
const tokenOf = (who: Who): string => `token-of-${who}`;

function file(name: string, text: string): string {
  const path = join(HOME, name);
  writeFileSync(path, text, { mode: 0o600 });
  return path;
}
const fabricToken = file("fabric.token", "a-token-of-the-fabric\n");
const resolverToken = file("resolver.token", tokenOf("resolver"));

function settings(name: string, more: object = {}): readonly string[] {
  const credentials = WHO.map((who) => ({
    tenant: who,
    token_sha256: createHash("sha256").update(tokenOf(who)).digest("hex"),
    roles: ROLES[who],
  }));
  const all = {
    tenants: { mode: true, credentials },
    observability: { log_level: "warn" },
    dns: { min_ttl: "8m", max_ttl: "15m", views: [{ prefixes: ["127.0.2.0/24"], tenant: "bank" }] },
    ...more,
  };
  return ["--node-id", name, "--ephemeral", "--config", file(`${name}.json`, JSON.stringify(all))];
}

function startNode(name: string, cluster: "east" | "west", ...seeds: readonly NodeProcess[]): Promise<NodeProcess> {
  const times = { interval: "400ms", ping_timeout: "250ms", join_timeout: "20s" };
  const fabric = { trust: "explicit", clusters: ["east", "west"], cluster_token_file: fabricToken, ...times };
  const own = settings(name, { fabric, policy: { accept_from: ["east"] } });
  const joins = seeds.length === 0 ? [] : ["--join", seeds.map(({ listeners }) => listeners["fabric"] ?? "").join()];
  return startNodeProcess(["--cluster-id", cluster, ...own, ...joins]);
}

let first: NodeProcess;
let second: NodeProcess;
let other: NodeProcess;
let resolver: NodeProcess;

async function as(who: Who, node: NodeProcess, ...argv: readonly string[]): Promise<void> {
  expect(await node.run([...argv, "--token", tokenOf(who)])).toMatchObject({ exit: 0 });
}

interface Registered {
  readonly target: string;
  readonly namespace?: string;
  readonly instance?: string;
  readonly kind?: "function" | "service";
  readonly ttl?: string;
  readonly aliases?: readonly string[];
}

/** With an entry that other clusters are told of. */
function register(name: string, { target, namespace = SPACE, instance = "1", kind = "service", ttl, aliases = [] }: Registered) {
  const key = ["--kind", kind, "--namespace", namespace, "--name", name, "--instance", instance, "--scope", "global"];
  const more = [...(ttl === undefined ? [] : ["--ttl", ttl]), ...aliases.flatMap((alias) => ["--alias", alias])];
  return ["register", ...key, "--target", target, ...more];
}

const portOf = (node: NodeProcess): number => Number((node.listeners["dns"] ?? "").split(":").at(-1));

/** The answer, from an address whose view is asked. */
async function ask(node: NodeProcess, from: string, type: string, name: string): Promise<string> {
  const socket = createSocket("udp4");
  try {
    socket.bind(0, from);
    await once(socket, "listening");
    const answered = once(socket, "message", { signal: AbortSignal.timeout(20_000) });
    socket.send(queryBytes({ name: name === "" ? "waymark" : `${name}.waymark`, type }), portOf(node), "127.0.0.1");
    const [answer] = (await answered) as [Buffer];
    return responseText(answer);
  } finally {
    socket.close();
  }
}

/** Response code and records of the answer, without owner and TTL, in order of their text. */
async function told(node: NodeProcess, from: string, type: string, name: string): Promise<readonly string[]> {
  const [flags = "", ...lines] = (await ask(node, from, type, name)).split("\n");
  const records = lines.filter((line) => line.startsWith("answer")).map((line) => line.slice(11).split(" ").slice(2).join(" "));
  return [flags.split(" ")[0] ?? "", ...records.toSorted()];
}

/** The TTLs of the answer. */
async function ttls(node: NodeProcess, name: string): Promise<readonly number[]> {
  const lines = (await ask(node, ANYBODY, "A", name)).split("\n").filter((line) => line.startsWith("answer"));
  return lines.map((line) => Number(line.slice(11).split(" ")[1]));
}

const addr = (host: string): string => `${host.replaceAll(".", "-")}.addr.node.waymark.`;
const PAY_SRV = [`SRV 0 1 8443 ${addr("192.0.2.21")}`, `SRV 0 1 8443 ${addr("192.0.2.22")}`];
const WEB = ["NOERROR", "A 192.0.2.1", "A 192.0.2.2"];

beforeAll(async () => {
  first = await startNode("east-1", "east");
  [second, other] = await Promise.all([startNode("east-2", "east", first), startNode("west-1", "west", first)]);
  const upstream = ["--mode", "resolver", "--upstream", `${first.grpc},${second.grpc}`, "--namespaces", "svc.none"];
  const place = ["--cluster-id", "east"];
  const started = startNodeProcess([...upstream, ...place, ...settings("edge", { resolver: { token_file: resolverToken } })]);
  const rules = [
    `  - { namespace: ${SPACE}, owners: [east] }`,
    `  - { namespace: ${SPACE}.pay, owners: [east], visibility_tenants: [bank, admin] }`,
  ];
  const policy = file("policy.yaml", `version: v1\ndefault_allow: true\nrules:\n${rules.join("\n")}\n`);
  await as("admin", first, "namespace", "policy", "apply", policy, "--reason", "test");
  const aliases = [`www.${SPACE}`, `a.long.way.to.web.${SPACE}`];
  await as("shop", first, ...register("web", { target: "192.0.2.1:8080", aliases }));
  await as("shop", second, ...register("web", { target: "192.0.2.2:8080", instance: "2" }));
  await as("shop", second, ...register("sum", { target: "192.0.2.11:9000", kind: "function" }));
  await as("bank", first, ...register("card", { target: "192.0.2.21:8443", namespace: `${SPACE}.pay`, aliases: [`card.${SPACE}.pay.x`] }));
  await as("bank", second, ...register("card", { target: "192.0.2.22:8443", namespace: `${SPACE}.pay`, instance: "2" }));
  await as("bank", second, ...register("charge", { target: "192.0.2.31:9000", namespace: `${SPACE}.pay`, kind: "function" }));
  // Names above names: services of namespaces that are called as services are.
  await as("shop", first, ...register("x", { target: "192.0.2.41:80", namespace: `web.${SPACE}` }));
  await as("shop", first, ...register("y", { target: "192.0.2.42:80", namespace: `very.deep.x.web.${SPACE}` }));
  for (const [name, ttl] of [
    // Leases that nobody renews: none ends before the test does.
    ["short", "5m"],
    ["own", "10m"],
    ["long", "1h"],
  ] as const)
    await as("shop", first, ...register(name, { target: "192.0.2.51:80", ttl }));
  resolver = await started;
  const card = `_svc._tcp.card.${SPACE}.pay`;
  for (const node of [first, second, other, resolver]) {
    await until(`${node.nodeId} has heard of everything`, async () => {
      const seen = [
        await told(node, BANK, "SRV", card),
        await told(node, ANYBODY, "A", `web.${SPACE}`),
        await told(node, BANK, "A", `long.${SPACE}`),
      ];
      const wanted = [["NOERROR", ...PAY_SRV], WEB, ["NOERROR", "A 192.0.2.51"]];
      return JSON.stringify(seen) === JSON.stringify(wanted) ? [] : [JSON.stringify(seen)];
    });
  }
});
afterAll(async () => {
  for (const node of [resolver, other, second, first]) await node?.[Symbol.asyncDispose]();
  rmSync(HOME, { recursive: true, force: true });
});

const everywhere = (): readonly NodeProcess[] => [first, second, other, resolver];

test("a viewer without permission is told nothing of what is restricted, and one with permission is told all of it, in both clusters and at a resolver", async () => {
  for (const node of everywhere()) {
    for (const from of [BANK, ANYBODY]) {
      expect(await told(node, from, "A", `web.${SPACE}`)).toEqual(WEB);
      expect(await told(node, from, "SRV", `_svc._tcp.web.${SPACE}`)).toEqual([
        "NOERROR",
        `SRV 0 1 8080 ${addr("192.0.2.1")}`,
        `SRV 0 1 8080 ${addr("192.0.2.2")}`,
      ]);
      expect(await told(node, from, "SRV", `_rpc._tcp.sum.${SPACE}`)).toEqual(["NOERROR", `SRV 0 1 9000 ${addr("192.0.2.11")}`]);
    }
    expect(await told(node, BANK, "SRV", `_svc._tcp.card.${SPACE}.pay`)).toEqual(["NOERROR", ...PAY_SRV]);
    expect(await told(node, BANK, "SRV", `_rpc._tcp.charge.${SPACE}.pay`)).toEqual(["NOERROR", `SRV 0 1 9000 ${addr("192.0.2.31")}`]);
    for (const hidden of [
      `_svc._tcp.card.${SPACE}.pay`,
      `_rpc._tcp.charge.${SPACE}.pay`,
      `card.${SPACE}.pay`,
      `card.${SPACE}.pay.x`,
      `${SPACE}.pay`,
    ])
      for (const type of ["SRV", "A", "TXT"]) expect([hidden, ...(await told(node, ANYBODY, type, hidden))]).toEqual([hidden, "NXDOMAIN"]);
    // An address that is shown by nobody's name is not theirs to list either.
    expect(await ask(node, ANYBODY, "PTR", `_services._dns-sd._udp.${SPACE}.pay`)).toMatch(/^(NXDOMAIN|SERVFAIL)/);
  }
});

test("the TTL is what the entry says, within the bounds of the gateway", async () => {
  for (const node of [first, second, other]) {
    const [short, own, long] = [await ttls(node, `short.${SPACE}`), await ttls(node, `own.${SPACE}`), await ttls(node, `long.${SPACE}`)];
    expect({ short, own, long }).toEqual({ short: [480], own: [600], long: [900] });
  }
  // What a resolver fetched it tells for what is left of its time, and no longer than a node would.
  const [ofOwn, ofLong] = [await ttls(resolver, `own.${SPACE}`), await ttls(resolver, `long.${SPACE}`)];
  const isWithin = (seen: readonly number[], most: number) => seen.length > 0 && seen.every((ttl) => ttl > 0 && ttl <= most);
  expect([isWithin(ofOwn, 600), isWithin(ofLong, 900)], `${ofOwn.join()} and ${ofLong.join()}`).toEqual([true, true]);
});

test("aliases, names above names, and services of namespaces that are called as services are found everywhere", async () => {
  for (const node of everywhere()) {
    for (const alias of [`www.${SPACE}`, `a.long.way.to.web.${SPACE}`])
      expect(await told(node, ANYBODY, "A", alias)).toEqual(["NOERROR", "A 192.0.2.1", "A 192.0.2.2", `CNAME web.${SPACE}.waymark.`]);
    expect(await told(node, ANYBODY, "A", `x.web.${SPACE}`)).toEqual(["NOERROR", "A 192.0.2.41"]);
    expect(await told(node, ANYBODY, "A", `y.very.deep.x.web.${SPACE}`)).toEqual(["NOERROR", "A 192.0.2.42"]);
    // Nothing is there itself, but something is below, so that nobody may say that there is no such name (RFC 8020).
    const above = ["us-east", "prod.us-east", SPACE, `deep.x.web.${SPACE}`, `very.deep.x.web.${SPACE}`, `way.to.web.${SPACE}`];
    for (const name of above) expect([name, ...(await told(node, ANYBODY, "A", name))]).toEqual([name, "NOERROR"]);
    expect(await told(node, ANYBODY, "A", `none.x.web.${SPACE}`)).toEqual(["NXDOMAIN"]);
  }
});

/** A client of DNS with these name servers, as the C library's resolver is set up. */
function clientOf(...nodes: readonly NodeProcess[]): Resolver {
  const client = new Resolver({ timeout: 250, tries: 4 });
  client.setServers(nodes.map((node) => `127.0.0.1:${portOf(node)}`));
  client.setLocalAddress(BANK);
  return client;
}

/** What clients find now, by DNS and by gRPC. */
async function found(dns: Resolver, grpc: Client) {
  const [web, alias, card, charge, endpoints] = await Promise.all([
    dns.resolve4(`web.${SPACE}.waymark`),
    dns.resolve4(`www.${SPACE}.waymark`),
    dns.resolveSrv(`_svc._tcp.card.${SPACE}.pay.waymark`),
    dns.resolveSrv(`_rpc._tcp.charge.${SPACE}.pay.waymark`),
    grpc.call(DiscoveryService.method.catalogQuery, { namespacePrefix: SPACE }),
  ]);
  const ports = (records: readonly { readonly name: string; readonly port: number }[]) =>
    records.map(({ name, port }) => `${name}:${port}`).toSorted();
  const names = endpoints.items.map(({ key }) => `${key?.name} ${key?.instanceId}`).toSorted();
  return { web: web.toSorted(), alias: alias.toSorted(), card: ports(card), charge: ports(charge), names };
}

test("while a gateway is killed, clients with two name servers and clients of discovery go on finding everything", async () => {
  const grpc = connect({ servers: [first.grpc, second.grpc], token: tokenOf("bank") });
  const clients = [clientOf(first, second), clientOf(first, other), clientOf(first, resolver)];
  try {
    const all = await found(clientOf(second), grpc);
    expect(all).toMatchObject({ web: WEB.slice(1).map((record) => record.slice(2)), names: { length: 9 } });
    for (const client of clients) expect(await found(client, grpc)).toEqual(all);
    const { web, alias, ...others } = all;
    const healthy = web.slice(1);
    first.command.kill("SIGKILL");
    const look = async () => {
      for (const each of await Promise.all(clients.map((client) => found(client, grpc)))) {
        // As soon as a gateway knows that the node is gone, it shows the address of an instance that lives alone.
        for (const shown of [each.web, each.alias]) expect([web, healthy]).toContainEqual(shown);
        expect(each).toMatchObject(others);
      }
    };
    for (let round = 0; round < 10; round++) await look();
    await until("a name that only the node that is gone had is not kept for long", async () => {
      const [seconds = 0] = await ttls(second, `long.${SPACE}`);
      return seconds <= 5 ? [] : [`${seconds} s`];
    });
    await look();
    expect((await found(clientOf(second), grpc)).web).toEqual(healthy);
    expect(alias).toEqual(web);
  } finally {
    grpc.close();
  }
});
