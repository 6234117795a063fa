/** DNS over TLS at real nodes: what clients with and without a certificate see, who is refused, and where it is answered. */
import { execFile, spawnSync } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import type { IncomingMessage } from "node:http";
import { get } from "node:https";
import { connect } from "node:net";
import { text } from "node:stream/consumers";
import { connect as connectTls, type TLSSocket } from "node:tls";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { newAuthority, serverFiles } from "../fakes/certificate.ts";
import { queryBytes, responseText } from "../fakes/dns-text.ts";
import { some } from "../fakes/effort.ts";
import { filesAbout } from "../fakes/given-files.ts";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { SECRET, signedBy } from "../fakes/tsig.ts";
import { until } from "../fakes/until.ts";

const isKdigThere = spawnSync("kdig", ["-V"], { stdio: "ignore" }).error === undefined;
const file = filesAbout("dns-tls");

const certificates = serverFiles();
const { authority } = certificates;
const strangers = newAuthority();
const POLICY = JSON.stringify({
  version: "v1",
  default_allow: true,
  rules: [
    { namespace: "svc.red", visibility_tenants: ["red"] },
    { namespace: "svc.blue", visibility_tenants: ["blue"], visibility: ["far"] },
  ],
});
/** An address of the loopback network that has a view. */
const BLUE = "127.0.3.1";

function settings({ more = "", dns = "" } = {}): string {
  return `
${more}
[tls]
cert_file = "${certificates.certFile}"
key_file = "${certificates.keyFile}"
ca_file = "${certificates.caFile}"
[dns]
tls_port = 0
${dns}
[[dns.views]]
prefixes = ["127.0.3.0/24"]
listener = "dot"
tenant = "blue"
[[tenants.certificates]]
principal = "red.example"
tenant = "red"
[[tenants.certificates]]
principal = "far.example"
cluster = "far"
[[tenants.certificates]]
principal = "*.admin.example"
tenant = "red"
roles = ["mesh.admin"]
`;
}

/** It follows the policy of its upstream. */
function startResolver(flags: readonly string[]): Promise<NodeProcess> {
  return startNodeProcess(["--ephemeral", "--config", file("toml", settings()), ...flags]);
}

async function start({ more = "", dns = "", flags = [] as readonly string[] } = {}): Promise<NodeProcess> {
  const toml = settings({ more, dns });
  const node = await startNodeProcess(["--ephemeral", "--policy", file("json", POLICY), "--config", file("toml", toml), ...flags]);
  const { cert, key } = authority.issue("one.admin.example");
  const admin = ["--ca", certificates.caFile, "--cert", file("pem", cert), "--key", file("key", key)];
  for (const namespace of ["svc.all", "svc.red", "svc.blue"]) {
    const what = ["--namespace", namespace, "--name", "web", "--target", "10.0.0.1:80", "--instance", "1"];
    expect(await node.run(["register", ...what, ...admin])).toMatchObject({ exit: 0 });
  }
  return node;
}

const portOf = (node: NodeProcess): number => Number((node.listeners["dot"] ?? "").split(":").at(-1));

interface Client {
  readonly from?: string;
  readonly leaf?: { readonly cert: string; readonly key: string };
  readonly protocol?: string;
}

async function open(node: NodeProcess, { from = "127.0.0.1", leaf, protocol = "dot" }: Client = {}): Promise<TLSSocket> {
  const at = { host: "127.0.0.1", port: portOf(node), localAddress: from, servername: "localhost" };
  const socket = connectTls({ ...at, ca: authority.cert, ALPNProtocols: [protocol], ...leaf });
  await once(socket, "secureConnect", { signal: AbortSignal.timeout(20_000) });
  return socket;
}

function ask(socket: TLSSocket, name: string, type = "A"): Promise<string> {
  return sent(socket, queryBytes({ name, type }));
}

/** The first message that answers a query. */
async function sent(socket: TLSSocket, query: Uint8Array): Promise<string> {
  socket.write(Buffer.concat([Buffer.from([query.length >> 8, query.length & 255]), query]));
  let got = Buffer.alloc(0);
  while (got.length < 2 || got.length < 2 + got.readUInt16BE(0)) {
    const [chunk] = (await once(socket, "data", { signal: AbortSignal.timeout(20_000) })) as [Buffer];
    got = Buffer.concat([got, chunk]);
  }
  return responseText(got.subarray(2));
}

/** The answer codes for the names in three namespaces: of all, of red and of blue. */
async function seen(node: NodeProcess, client: Client = {}): Promise<readonly (string | undefined)[]> {
  const socket = await open(node, client);
  const codes = [];
  for (const namespace of ["all", "red", "blue"]) codes.push((await ask(socket, `web.svc.${namespace}.waymark`)).split(/\s/)[0]);
  socket.destroy();
  return codes;
}

const ABSENT = "NXDOMAIN";
/** Connections that reach both workers or processes, but for one run in a thousand. */
const TIMES = 10;
test.each(
  some([
    { where: "the node", given: {} },
    { where: "read workers", given: { flags: ["--workers", "2"] } },
    { where: "DNS processes", given: { dns: "processes = 2" } },
  ]),
)(
  "answered by $where: a certificate of a tenant or of another cluster gives its view, else the address does; one that does not count is refused",
  async ({ given }) => {
    await using node = await start(given);
    const isShown = async () => {
      for (let i = 0; i < TIMES; i++) {
        const [red, blue] = [await seen(node, { leaf: authority.issue("red.example") }), await seen(node, { from: BLUE })];
        if (red[0] !== "NOERROR" || red[1] !== "NOERROR" || blue[2] !== "NOERROR") return false;
      }
      return true;
    };
    await until("all of them show what was registered", isShown);
    expect({
      nobody: await seen(node),
      red: await seen(node, { leaf: authority.issue("red.example") }),
      redAtBlue: await seen(node, { leaf: authority.issue("red.example"), from: BLUE }),
      blue: await seen(node, { from: BLUE }),
      noTenant: await seen(node, { leaf: authority.issue("other.example"), from: BLUE }),
      far: await seen(node, { leaf: authority.issue("far.example") }),
      strange: await seen(node, { leaf: strangers.issue("red.example") }),
    }).toEqual({
      nobody: ["NOERROR", ABSENT, ABSENT],
      red: ["NOERROR", "NOERROR", ABSENT],
      redAtBlue: ["NOERROR", "NOERROR", ABSENT],
      blue: ["NOERROR", ABSENT, "NOERROR"],
      noTenant: ["NOERROR", ABSENT, "NOERROR"],
      far: ["NOERROR", ABSENT, "NOERROR"],
      strange: ["REFUSED", "REFUSED", "REFUSED"],
    });
    const [mine, others] = [await open(node, { leaf: authority.issue("red.example") }), await open(node)];
    expect(await ask(mine, "waymark", "SOA")).toBe(await ask(others, "waymark", "SOA"));
    for (const socket of [mine, others]) socket.destroy();
  },
);

test("where callers without a credential may see nothing, a certificate is a credential, with a tenant or without; a key counts before it; each has an allowance", {
  tags: ["night"],
}, async () => {
  const key = `[[dns.transfer_keys]]\nname = "k.example"\nsecret_file = "${file("key", SECRET.toString("base64"))}"\n`;
  await using node = await start({ more: '[tenants]\nanonymous = "none"\n[limits]\nreads_per_minute = 20', dns: key });
  expect([await seen(node), await seen(node, { leaf: authority.issue("other.example") })]).toEqual([
    ["REFUSED", "REFUSED", "REFUSED"],
    ["NOERROR", ABSENT, ABSENT],
  ]);
  // The key is nobody's tenant, and sees what everybody sees.
  const red = await open(node, { leaf: authority.issue("red.example") });
  const bySigned = async (query: Uint8Array) =>
    (await sent(red, signedBy({ key: "k.example", atSeconds: Math.floor(Date.now() / 1000) }, query).bytes)).split(/\s/)[0];
  const byKey = [];
  for (const namespace of ["all", "red"]) byKey.push(await bySigned(queryBytes({ name: `web.svc.${namespace}.waymark`, type: "A" })));
  expect([byKey, (await ask(red, "web.svc.red.waymark")).split(/\s/)[0]]).toEqual([["NOERROR", ABSENT], "NOERROR"]);
  expect(await bySigned(queryBytes({ name: "waymark", type: "AXFR" }))).toBe("NOERROR");
  red.destroy();
  // What one has used up is missing to nobody else.
  const eager = await open(node, { leaf: authority.issue("eager.example") });
  const codes = [];
  for (let i = 0; i < 40; i++) codes.push((await ask(eager, "web.svc.all.waymark")).split(/\s/)[0]);
  expect([codes[0], codes.at(-1)]).toEqual(["NOERROR", "REFUSED"]);
  expect((await seen(node, { leaf: authority.issue("red.example") }))[1]).toBe("NOERROR");
  eager.destroy();
});

test("at a resolver, what the upstream tells of an alias is told to whom it may be shown, whoever asked first", {
  tags: ["night"],
}, async () => {
  const policy = file("json", POLICY);
  const config = file("toml", "[tenants]\nmode = false\n");
  await using upstream = await startNodeProcess(["--ephemeral", "--policy", policy, "--config", config]);
  for (const tenant of ["red", "blue"]) {
    const what = ["--namespace", `svc.${tenant}`, "--name", "web", "--target", "10.0.0.1:80", "--instance", "1"];
    expect(await upstream.run(["register", ...what, "--alias", `${tenant}.shop.example`])).toMatchObject({ exit: 0 });
  }
  const flags = ["--mode", "resolver", "--upstream", upstream.grpc, "--namespaces", "svc.market"];
  await using resolver = await startResolver(flags);
  const codes = async (client: Client) => {
    const socket = await open(resolver, client);
    const answers = [];
    for (const name of ["red.shop.example", "blue.shop.example", "web.svc.red", "web.svc.blue"])
      answers.push((await ask(socket, `${name}.waymark`)).split(/\s/)[0]);
    socket.destroy();
    return answers;
  };
  const red = { leaf: authority.issue("red.example") };
  const [ofNobody, ofRed, ofBlue] = [
    [ABSENT, ABSENT, ABSENT, ABSENT],
    ["NOERROR", ABSENT, "NOERROR", ABSENT],
    [ABSENT, "NOERROR", ABSENT, "NOERROR"],
  ];
  expect(await codes({})).toEqual(ofNobody);
  expect(await codes(red)).toEqual(ofRed);
  expect(await codes({ from: BLUE })).toEqual(ofBlue);
  expect(await codes({})).toEqual(ofNobody);
  expect(await codes(red)).toEqual(ofRed);
});

/** The sum over the series of a metric that have these labels. */
async function counted(node: NodeProcess, name: string, label: string): Promise<number> {
  const call = get(`https://${node.listeners["http"]}/metrics`, { ca: authority.cert, agent: false });
  const [answer] = (await once(call, "response")) as [IncomingMessage];
  const rows = [...(await text(answer)).matchAll(new RegExp(`^${name}\\{[^}]*${label}[^}]*\\} (\\d+)$`, "gm"))];
  return rows.reduce((sum, [, value]) => sum + Number(value), 0);
}

test.skipIf(!isKdigThere)(
  `kdig is answered over TLS, padded${isKdigThere ? "" : " (skipped: needs kdig)"}`,
  { tags: ["night"] },
  async () => {
    await using node = await start();
    const words = ["@127.0.0.1", "-p", `${portOf(node)}`, `+tls-ca=${certificates.caFile}`, "+tls-hostname=localhost", "+padding=128"];
    const { stdout } = await promisify(execFile)("kdig", [...words, "web.svc.all.waymark", "A"]);
    expect(stdout).toMatch(/^web\.svc\.all\.waymark\.\s+\d+\s+IN\s+A\s+10\.0\.0\.1$/m);
    expect(stdout).toMatch(/^;; Received 468 B$/m);
  },
);

test("ALPN knows dot alone; silent clients of one address do not keep others out; a renewed certificate is shown", {
  tags: ["night"],
}, async () => {
  await using node = await start();
  const port = portOf(node);
  const socket = await open(node);
  expect(socket.alpnProtocol).toBe("dot");
  await expect(open(node, { protocol: "h2" })).rejects.toThrow(/no application protocol|ECONNRESET/i);
  const silent = Array.from({ length: 64 }, () => connect({ port, host: "127.0.0.1", localAddress: "127.0.9.1" }));
  let closedCount = 0;
  for (const each of silent) each.on("error", () => {}).on("close", () => closedCount++);
  await until("those beyond the bound are closed", () => closedCount === 32);
  const before = await counted(node, "dns_queries_total", 'transport="dot"');
  expect(await seen(node)).toEqual(["NOERROR", ABSENT, ABSENT]);
  expect(await counted(node, "dns_queries_total", 'transport="dot"')).toBe(before + 3);
  expect(await counted(node, "dns_dropped_total", 'reason="overload"')).toBe(32);
  expect(await counted(node, "dns_dropped_total", 'reason="handshake"')).toBeGreaterThan(0);
  for (const each of silent) each.destroy();

  const subject = async () => {
    const next = await open(node);
    const { CN } = next.getPeerCertificate().subject;
    next.destroy();
    return String(CN);
  };
  expect(await subject()).toBe("localhost");
  const renewed = authority.issue("renewed");
  writeFileSync(certificates.certFile, renewed.cert);
  writeFileSync(certificates.keyFile, renewed.key);
  process.kill(node.command.pid, "SIGHUP");
  await until("the new one is shown", async () => (await subject()) === "renewed");
  expect(await ask(socket, "web.svc.all.waymark")).toContain("10.0.0.1");
  socket.destroy();
});
