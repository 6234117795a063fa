/** What callers without a credential may do: nothing, read, or all; through gRPC, HTTP and DNS of real nodes. */
import { createHash } from "node:crypto";
import { Resolver } from "node:dns/promises";
import { once } from "node:events";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { type IncomingMessage, request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { some } from "../fakes/effort.ts";
import { type NodeProcess, startNodeProcess, waymarkProcess } from "../fakes/node-process.ts";

const HOME = mkdtempSync(join(tmpdir(), "waymark-anonymous-"));
afterAll(() => rmSync(HOME, { recursive: true, force: true }));
const TOKEN = "a-token-of-the-anonymous-tests";
const KEY = { tenant: "blue", token_sha256: createHash("sha256").update(TOKEN).digest("hex"), roles: ["mesh.admin"] };
const REGISTER = ["register", "--namespace", "svc.market", "--name", "web", "--target", "10.0.0.1:80/http", "--instance", "web-1"];
const QUERY = ["discovery", "query", "--prefix", "svc", "-o", "json"];

let files = 0;
function config(settings: object): string {
  const path = join(HOME, `config-${files++}.json`);
  writeFileSync(path, JSON.stringify({ ...settings, observability: { log_level: "warn" } }));
  return path;
}

async function start(tenants: object, ...flags: readonly string[]): Promise<NodeProcess> {
  return startNodeProcess(["--ephemeral", "--config", config({ tenants }), ...flags]);
}

async function status(node: NodeProcess, path: string): Promise<number> {
  return (await fetch(`http://${node.listeners["http"]}${path}`)).status;
}

async function sendJson(node: NodeProcess, rpc: string, body: object): Promise<string> {
  const url = `http://${node.listeners["http"]}/waymark.discovery.v1.DiscoveryService/${rpc}`;
  const reply = await fetch(url, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
  return `${reply.status} ${await reply.text()}`;
}

test.each(
  some([
    // The gate plays only every fourth row. This one is first because no other test of the gate has a node with that setting.
    { what: "with anonymous = none", tenants: { credentials: [KEY], anonymous: "none" }, flags: [], writes: false, reads: false },
    { what: "where a credential is configured", tenants: { credentials: [KEY] }, flags: [], writes: false, reads: true },
    { what: "beyond loopback, on a trusted network", tenants: {}, flags: ["--host", "0.0.0.0", "--insecure"], writes: false, reads: true },
    {
      what: "with anonymous = all beside credentials",
      tenants: { credentials: [KEY], anonymous: "all" },
      flags: [],
      writes: true,
      reads: true,
    },
    { what: "with anonymous = read on loopback", tenants: { anonymous: "read" }, flags: [], writes: false, reads: true },
    { what: "on loopback without credentials", tenants: {}, flags: [], writes: true, reads: true },
  ]),
)(
  "$what a caller without a credential writes: $writes, reads: $reads; it is told by which setting, and health is spared",
  async ({ tenants, flags, writes, reads }) => {
    await using node = await start(tenants, ...flags);
    const local = node.grpc.replace("0.0.0.0", "127.0.0.1");
    const run = (argv: readonly string[]) => waymarkProcess([...argv, "--server", local]);
    const [registered, queried] = [await run(REGISTER), await run(QUERY)];
    expect([registered.exit === 0, queried.exit === 0]).toEqual([writes, reads]);
    const at = { listeners: { http: (node.listeners["http"] ?? "").replace("0.0.0.0", "127.0.0.1") } } as unknown as NodeProcess;
    const entries = [{ key: { namespace: "svc.market", name: "db", instanceId: "1" } }];
    const overHttp = [
      await sendJson(at, "Register", { entries, staticLease: true }),
      await sendJson(at, "CatalogQuery", { namespacePrefix: "svc" }),
    ];
    expect(overHttp.map((said) => said.startsWith("200"))).toEqual([writes, reads]);
    for (const said of [registered.stderr, overHttp[0]]) if (!writes) expect(said).toContain("tenants.anonymous");
    expect([await status(at, "/healthz"), await status(at, "/readyz")]).toEqual([200, 200]);
    expect([await status(at, "/sd/prometheus"), await status(at, "/metrics")]).toEqual(reads ? [200, 200] : [401, 401]);
    if (tenants.credentials !== undefined) expect((await run([...REGISTER, "--token", TOKEN])).exit).toBe(0);
  },
);

test.each(
  some([
    { what: "anonymous = read", tenants: { anonymous: "read" }, want: [403, 403] },
    { what: "anonymous = none", tenants: { anonymous: "none" }, want: [401, 200] },
    // A page can send the header, and its browser may have a trusted address.
    {
      what: "anonymous = none and a trusted header",
      tenants: { anonymous: "none", trusted_header: { name: "x-tenant", from: ["127.0.0.1/32"] } },
      want: [403, 403],
    },
  ]),
)("with $what a plain edge answers any Host only where a credential is needed", async ({ tenants, want }) => {
  await using node = await start({ credentials: [KEY], ...tenants });
  const over = (headers: Record<string, string>) =>
    new Promise<number>((resolve, reject) => {
      const asked = request(
        `http://${node.listeners["http"]}/sd/prometheus`,
        { headers: { host: "mesh.example", ...headers } },
        (reply) => {
          reply.resume();
          resolve(reply.statusCode ?? 0);
        },
      );
      asked.on("error", reject).end();
    });
  expect([await over({}), await over({ authorization: `Bearer ${TOKEN}` })]).toEqual(want);
});

/** The status of a read by a page whose own name points to the node. */
async function rebound(node: NodeProcess): Promise<number | undefined> {
  const path = "/waymark.discovery.v1.DiscoveryService/CatalogQuery";
  const headers = { host: "evil.example", "content-type": "application/json", "x-tenant": "blue" };
  const asking = request(`http://${node.listeners["http"]}${path}`, { method: "POST", headers });
  asking.end("{}");
  const [answer] = (await once(asking, "response")) as [IncomingMessage];
  answer.resume();
  return answer.statusCode;
}

test("where callers need a credential any host name is taken, unless a header is trusted that a web page can send", {
  tags: ["night"],
}, async () => {
  await using closed = await start({ credentials: [KEY], anonymous: "none" });
  expect(await rebound(closed)).toBe(401);
  const trusted = { name: "x-tenant", from: ["127.0.0.0/8"] };
  await using trusting = await start({ credentials: [KEY], anonymous: "none", trusted_header: trusted });
  expect(await rebound(trusting)).toBe(403);
});

test("DNS answers nobody with anonymous = none, unless a view names the source; and it has its own switch", {
  tags: ["night"],
}, async () => {
  const tenants = { credentials: [KEY], anonymous: "none" } as const;
  const resolver = new Resolver();
  const find = () => resolver.resolveSrv("_svc._tcp.web.svc.market.waymark");
  await using node = await start(tenants);
  expect((await node.run([...REGISTER, "--token", TOKEN])).exit).toBe(0);
  resolver.setServers([node.listeners["dns"] ?? ""]);
  await expect(find()).rejects.toMatchObject({ code: "EREFUSED" });
  const flags = ["--ephemeral", "--config", config({ tenants, dns: { views: [{ prefixes: ["127.0.0.0/8"] }] } })];
  await using viewed = await startNodeProcess(flags);
  expect((await viewed.run([...REGISTER, "--token", TOKEN])).exit).toBe(0);
  resolver.setServers([viewed.listeners["dns"] ?? ""]);
  expect(await find()).toHaveLength(1);
  await using silent = await startNodeProcess(["--ephemeral", "--config", config({ dns: { enabled: false } })]);
  expect(silent.listeners["dns"]).toBeUndefined();
});

test("what settings leave open is said in one line each, by config validate and by the start; what is refused at the start is invalid", async () => {
  const token = join(HOME, "short.token");
  writeFileSync(token, "too-short\n");
  chmodSync(token, 0o644);
  const open = {
    listen: { host: "0.0.0.0", insecure: true },
    tenants: { anonymous: "all", credentials: [{ tenant: "t", token_file: token }] },
  };
  const path = config(open);
  const checked = await waymarkProcess(["config", "validate", path]);
  const lines = [
    /tenants\.anonymous = "all" on 0\.0\.0\.0/,
    /credentials\[0\]\.token_file: \S+ is readable by every user.*chmod 600/,
    /fewer than 16 characters/,
  ];
  expect(checked.exit).toBe(0);
  for (const line of lines) expect(checked.stderr).toMatch(line);
  expect(checked.stderr).not.toContain("too-short");
  await using node = await startNodeProcess(["--ephemeral", "--config", path]);
  for (const line of [/tenants\.anonymous = /, ...lines.slice(1)]) await node.command.errorLine(line);
  const refused = await waymarkProcess(["config", "validate", config({ listen: { host: "0.0.0.0" } })]);
  expect([refused.exit, refused.stderr]).toEqual([2, expect.stringContaining("refusing to listen on 0.0.0.0")]);
});
