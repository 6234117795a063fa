/** DNS over HTTP at real nodes: both versions of HTTP, what callers with and without a credential see, how long answers may be kept, and bad input. */
import { execFile, spawnSync } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import type { IncomingHttpHeaders, IncomingMessage } from "node:http";
import { connect } from "node:http2";
import { request } from "node:https";
import { buffer, text } from "node:stream/consumers";
import { connect as connectTls } from "node:tls";
import { promisify } from "node:util";
import { afterAll, expect, test } from "vitest";
import { sha256Hex } from "../../src/lib/crypto.ts";
import { newAuthority, serverFiles } from "../fakes/certificate.ts";
import { queryBytes, responseText, subnetQuery } from "../fakes/dns-text.ts";
import { some } from "../fakes/effort.ts";
import { filesAbout } from "../fakes/given-files.ts";
import { type Finished, type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

const areKdigAndCurlThere = ["kdig", "curl"].every((command) => spawnSync(command, ["-V"], { stdio: "ignore" }).error === undefined);
const file = filesAbout("dns-https");

const certificates = serverFiles();
const { authority } = certificates;
const RULES = ["red", "blue"].map((tenant) => ({ namespace: `svc.${tenant}`, visibility_tenants: [tenant] }));
const POLICY = JSON.stringify({ version: "v1", default_allow: true, rules: RULES });
const TOKEN = "the-token-of-red";
/** An address of the loopback network with a view over HTTP, and one with a view that does not name HTTP. */
const [BLUE, SILENT] = ["127.0.3.1", "127.0.4.1"];
const TYPE = "application/dns-message";

async function start({ more = "", tenants = "", dns = "", flags = [] as readonly string[] } = {}): Promise<NodeProcess> {
  const toml = `
${more}
[tls]
cert_file = "${certificates.certFile}"
key_file = "${certificates.keyFile}"
ca_file = "${certificates.caFile}"
[dns]
${dns}
[[dns.views]]
prefixes = ["127.0.3.0/24"]
listener = "doh"
tenant = "blue"
[[dns.views]]
prefixes = ["127.0.4.0/24"]
tenant = "blue"
[tenants]
${tenants}
[[tenants.certificates]]
principal = "*.admin.example"
tenant = "red"
roles = ["mesh.admin"]
[[tenants.credentials]]
scheme = "bearer"
token_sha256 = "${sha256Hex(TOKEN)}"
tenant = "red"
`;
  const node = await startNodeProcess(["--ephemeral", "--policy", file("json", POLICY), "--config", file("toml", toml), ...flags]);
  for (const namespace of ["svc.all", "svc.red", "svc.blue"]) {
    const what = ["--namespace", namespace, "--name", "web", "--target", "10.0.0.1:80", "--instance", "1"];
    expect(await asAdmin(node, ["register", ...what])).toMatchObject({ exit: 0 });
  }
  return node;
}

function asAdmin(node: NodeProcess, argv: readonly string[]): Promise<Finished> {
  const { cert, key } = authority.issue("one.admin.example");
  return node.run([...argv, "--ca", certificates.caFile, "--cert", file("pem", cert), "--key", file("key", key)]);
}

interface Sent {
  readonly method?: string;
  readonly path?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array | undefined;
  readonly from?: string;
  readonly isHttp2?: boolean;
}

interface Got {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

async function send(
  node: NodeProcess,
  { method = "GET", path = "/dns-query", headers = {}, body, from = "127.0.0.1", isHttp2 }: Sent,
): Promise<Got> {
  const [host = "", port] = (node.listeners["http"] ?? "").split(":");
  if (isHttp2 === true) {
    const at = { host, port: Number(port), ca: authority.cert, localAddress: from };
    const open = () => connectTls({ ...at, ALPNProtocols: ["h2"] });
    const session = connect(`https://${host}:${port}`, { createConnection: open });
    const stream = session.request({ ":method": method, ":path": path, ...headers });
    stream.end(body);
    const [answer] = (await once(stream, "response", { signal: AbortSignal.timeout(20_000) })) as [IncomingHttpHeaders];
    const got = { status: Number(answer[":status"]), headers: answer, body: await buffer(stream) };
    session.destroy();
    return got;
  }
  const call = request({ host, port, path, method, headers, localAddress: from, ca: authority.cert, agent: false });
  call.end(body);
  const [answer] = (await once(call, "response", { signal: AbortSignal.timeout(20_000) })) as [IncomingMessage];
  return { status: answer.statusCode ?? 0, headers: answer.headers, body: await buffer(answer) };
}

const get = (query: Uint8Array): Pick<Sent, "path"> => ({ path: `/dns-query?dns=${Buffer.from(query).toString("base64url")}` });
const post = (body: Uint8Array): Sent => ({ method: "POST", headers: { "content-type": TYPE }, body });
const QUESTION = queryBytes({ name: "web.svc.all.waymark", type: "A", id: 4711 });

/** The answer codes for the names in three namespaces: of all, of red and of blue. */
async function seen(node: NodeProcess, by: Sent = {}): Promise<readonly (string | undefined)[]> {
  const codes = [];
  for (const namespace of ["all", "red", "blue"]) {
    const got = await send(node, { ...by, ...get(queryBytes({ name: `web.svc.${namespace}.waymark`, type: "A" })) });
    codes.push(got.status === 200 ? responseText(got.body).split(/\s/)[0] : String(got.status));
  }
  return codes;
}

const ABSENT = "NXDOMAIN";
const RED = { headers: { authorization: `Bearer ${TOKEN}` } };
/** Connections that reach both workers, but for one run in a thousand. */
const TIMES = 10;

test.each(
  some([
    { where: "the node", given: {} },
    { where: "read workers", given: { flags: ["--workers", "2"] } },
    { where: "a node with DNS processes", given: { dns: "processes = 1" } },
  ]),
)(
  "answered by $where: a credential gives its view, else the address does where a view names HTTP; a wrong credential is 401",
  async ({ given }) => {
    await using node = await start(given);
    await until("all of them show what was registered", async () => {
      for (let i = 0; i < TIMES; i++) if ((await seen(node, RED)).join() !== `NOERROR,NOERROR,${ABSENT}`) return false;
      return true;
    });
    expect({
      nobody: await seen(node),
      red: await seen(node, RED),
      redAtBlue: await seen(node, { ...RED, from: BLUE }),
      blue: await seen(node, { from: BLUE }),
      noViewOverHttp: await seen(node, { from: SILENT }),
      wrong: await seen(node, { headers: { authorization: "Bearer other" } }),
    }).toEqual({
      nobody: ["NOERROR", ABSENT, ABSENT],
      red: ["NOERROR", "NOERROR", ABSENT],
      redAtBlue: ["NOERROR", "NOERROR", ABSENT],
      blue: ["NOERROR", ABSENT, "NOERROR"],
      noViewOverHttp: ["NOERROR", ABSENT, ABSENT],
      wrong: ["401", "401", "401"],
    });
  },
);

test("GET and POST over both versions of HTTP give one answer with the id of the question; it may be kept for its least TTL, a denial for that of its SOA", async () => {
  await using node = await start({ dns: 'negative_ttl = "7s"' });
  for (const isHttp2 of [false, true]) {
    for (const sent of [
      get(QUESTION),
      post(QUESTION),
      { ...post(QUESTION), headers: { "content-type": "Application/DNS-Message; x=1" } },
    ]) {
      const { status, headers, body } = await send(node, { ...sent, isHttp2 });
      expect([status, headers["content-type"], headers["cache-control"], headers.vary]).toEqual([
        200,
        TYPE,
        "private, max-age=30",
        "authorization, x-api-key",
      ]);
      expect([body.readUInt16BE(0), responseText(body)]).toEqual([4711, "NOERROR aa\nanswer     web.svc.all.waymark. 30 A 10.0.0.1"]);
    }
    const head = await send(node, { ...get(QUESTION), method: "HEAD", isHttp2 });
    expect([head.status, head.headers["content-length"], head.body.length]).toEqual([
      200,
      `${(await send(node, get(QUESTION))).body.length}`,
      0,
    ]);
  }
  const kept = async (name: string, type: string) => (await send(node, post(queryBytes({ name, type })))).headers["cache-control"];
  expect([await kept("nope.svc.all.waymark", "A"), await kept("web.svc.all.waymark", "AAAA")]).toEqual(
    Array.from({ length: 2 }, () => "private, max-age=7"),
  );
  expect(await kept("example.com", "A")).toBe("no-store");
  const metrics = (await send(node, { path: "/metrics" })).body.toString();
  expect(metrics).toMatch(/^dns_queries_total\{[^}]*transport="doh"[^}]*\} \d+$/m);
  expect(metrics).toMatch(/^waymark_http_requests_total\{route="\/dns-query",status="2xx"\} \d+$/m);
});

test.each<{ what: string; sent: Sent; status: number; says: RegExp }>([
  {
    what: "no message",
    sent: {},
    status: 400,
    says: /dns: must be set exactly once in a GET request, as a DNS message in base64url, but is set 0 times/,
  },
  { what: "an empty one", sent: { path: "/dns-query?dns=" }, status: 400, says: /must be base64url/ },
  { what: "two", sent: { path: "/dns-query?dns=AAAA&dns=AAAA" }, status: 400, says: /2 times/ },
  { what: "base64 of another alphabet", sent: { path: "/dns-query?dns=a%2Bb%2F" }, status: 400, says: /must be base64url/ },
  { what: "padding", sent: { path: "/dns-query?dns=AAA%3D" }, status: 400, says: /must be base64url/ },
  { what: "bits left over", sent: { path: "/dns-query?dns=AAB" }, status: 400, says: /must be base64url/ },
  { what: "less than a header", sent: get(QUESTION.subarray(0, 11)), status: 400, says: /not a DNS query/ },
  { what: "a response", sent: post(QUESTION.with(2, 0x80)), status: 400, says: /not a DNS query/ },
  { what: "an empty body", sent: post(new Uint8Array()), status: 400, says: /not a DNS query/ },
  { what: "a long parameter", sent: { path: `/dns-query?dns=${"A".repeat(5464)}` }, status: 414, says: /at most 4096 bytes/ },
  { what: "a long body", sent: post(new Uint8Array(4097)), status: 413, says: /at most 4096 bytes/ },
  {
    what: "a longer body of unknown length",
    sent: { ...post(new Uint8Array(100_000)), headers: { "content-type": TYPE, "transfer-encoding": "chunked" } },
    status: 413,
    says: /at most 4096/,
  },
  {
    what: "another media type",
    sent: { ...post(QUESTION), headers: { "content-type": "application/json" } },
    status: 415,
    says: /application\/dns-message/,
  },
  { what: "no media type", sent: { method: "POST", body: QUESTION }, status: 415, says: /is missing/ },
  {
    what: "a compressed body",
    sent: { ...post(QUESTION), headers: { "content-type": TYPE, "content-encoding": "gzip" } },
    status: 415,
    says: /content-encoding/,
  },
  { what: "another method", sent: { ...post(QUESTION), method: "PUT" }, status: 405, says: /GET, HEAD, POST/ },
])("bad input: $what is $status", async ({ sent, status, says }) => {
  const node = await plain();
  for (const isHttp2 of [false, true]) {
    if (isHttp2 && sent.headers?.["transfer-encoding"] !== undefined) continue;
    const got = await send(node, { ...sent, isHttp2 });
    expect([got.status, got.body.toString()]).toEqual([status, expect.stringMatching(says)]);
    expect(got.headers["cache-control"]).toBe("no-store");
  }
  // It goes on.
  expect((await send(node, get(QUESTION))).status).toBe(200);
});

test("the audit names nobody for what is hidden from a question without a credential, also after one with a credential", {
  tags: ["night"],
}, async () => {
  const node = await plain();
  const question = queryBytes({ name: "web.svc.blue.waymark", type: "A" });
  const tenants = async () => {
    const { stdout } = await asAdmin(node, [
      "discovery",
      "access-audit",
      "--namespace",
      "svc.blue",
      "--reason",
      "viewer_denied",
      "-o",
      "json",
    ]);
    const { records = [] } = JSON.parse(stdout) as { records?: readonly { readonly tenant?: string; readonly detail?: string }[] };
    return records.filter(({ detail = "" }) => detail.startsWith("dns")).map(({ tenant = "" }) => tenant);
  };
  await send(node, { ...RED, ...get(question) });
  await until("the one with a credential is there", async () => (await tenants()).includes("red"));
  const before = await tenants();
  const socket = createSocket("udp4");
  socket.send(question, Number((node.listeners["dns"] ?? "").split(":").at(-1)), "127.0.0.1");
  await once(socket, "message", { signal: AbortSignal.timeout(20_000) });
  socket.close();
  let after = before;
  await until("one more is there", async () => (after = await tenants()).length > before.length);
  expect(after.toSorted()).toEqual(["", ...before].toSorted());
});

let plainNode: Promise<NodeProcess> | undefined;
function plain(): Promise<NodeProcess> {
  plainNode ??= start();
  return plainNode;
}
afterAll(async () => (await plainNode)?.[Symbol.asyncDispose]());

test("a malformed question is a fault of DNS: FORMERR with status 200, and not to be kept; a cut one too", async () => {
  const node = await plain();
  for (let end = 12; end < QUESTION.length; end++) {
    const { status, headers, body } = await send(node, post(QUESTION.subarray(0, end)));
    expect([status, headers["cache-control"], responseText(body).split(/\s/)[0]]).toEqual([200, "no-store", "FORMERR"]);
  }
});

test("a body that breaks off, or comes byte by byte, is no harm", async () => {
  const node = await plain();
  const [host = "", port] = (node.listeners["http"] ?? "").split(":");
  const head = `POST /dns-query HTTP/1.1\r\nhost: localhost\r\ncontent-type: ${TYPE}\r\ncontent-length: ${QUESTION.length}\r\nconnection: close\r\n\r\n`;
  const open = async () => {
    const socket = connectTls({ host, port: Number(port), ca: authority.cert, servername: "localhost" });
    await once(socket, "secureConnect");
    socket.write(head);
    return socket;
  };
  const broken = await open();
  broken.write(QUESTION.subarray(0, 20));
  broken.destroy();
  const slow = await open();
  const answer = text(slow);
  for (const byte of QUESTION) await new Promise<unknown>((resolve) => slow.write(Uint8Array.of(byte), resolve));
  expect(await answer).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
});

test("client subnets count from trusted forwarders alone; a denial that one chose is kept by nobody", { tags: ["night"] }, async () => {
  await using node = await start({ dns: 'trusted_forwarders = ["127.0.5.1/32"]' });
  const ask = async (name: string, from: string) => {
    const { headers, body } = await send(node, {
      ...post(subnetQuery({ name, type: "A", address: [127, 0, 3, 0], sourcePrefix: 24, sizeBytes: 1232 })),
      from,
    });
    return [responseText(body).split(/\s/)[0], headers["cache-control"]];
  };
  expect([
    await ask("web.svc.blue.waymark", "127.0.5.1"),
    await ask("web.svc.red.waymark", "127.0.5.1"),
    await ask("web.svc.blue.waymark", "127.0.6.1"),
  ]).toEqual([
    ["NOERROR", "private, max-age=30"],
    [ABSENT, "private, max-age=0"],
    [ABSENT, "private, max-age=5"],
  ]);
});

test("where callers without a credential may see nothing they are refused inside DNS, and a credential or a view lets in", {
  tags: ["night"],
}, async () => {
  await using node = await start({ tenants: 'anonymous = "none"' });
  expect([await seen(node), await seen(node, RED), await seen(node, { from: BLUE })]).toEqual([
    ["REFUSED", "REFUSED", "REFUSED"],
    ["NOERROR", "NOERROR", ABSENT],
    ["NOERROR", ABSENT, "NOERROR"],
  ]);
});

test("questions count against the limits of HTTP requests, and over them are 429", { tags: ["night"] }, async () => {
  await using node = await start({ more: "[limits]\nreads_per_minute = 60" });
  const answers = [];
  for (let i = 0; i < 100; i++) answers.push(await send(node, { ...get(QUESTION), from: "127.0.7.1" }));
  // A later question may be answered again, because the limit lets one in each second.
  const refused = answers.find(({ status }) => status === 429);
  expect([[...new Set(answers.map(({ status }) => status))], Number(refused?.headers["retry-after"]) > 0]).toEqual([[200, 429], true]);
});

test.each(["https = false", "enabled = false"])("with dns.%s there is no such path", { tags: ["night"] }, async (dns) => {
  await using node = await start({ dns });
  expect((await send(node, get(QUESTION))).status).toBe(404);
});

test("pages of other origins read answers only where their origin is listed", { tags: ["night"] }, async () => {
  await using node = await start({ more: '[listen]\ncors_origins = ["https://ui.example"]' });
  const allowed = async (origin: string, method: string) => {
    const preflight = {
      method,
      headers: { origin, "access-control-request-method": "POST", "access-control-request-headers": "content-type" },
    };
    const asked = { ...post(QUESTION), headers: { origin, "content-type": TYPE } };
    const { headers } = await send(node, method === "OPTIONS" ? preflight : asked);
    return headers["access-control-allow-origin"];
  };
  expect([
    await allowed("https://ui.example", "OPTIONS"),
    await allowed("https://ui.example", "POST"),
    await allowed("https://other.example", "POST"),
  ]).toEqual(["https://ui.example", "https://ui.example", undefined]);
  // A cache between must not give the answer for one page to another.
  const { headers } = await send(node, get(QUESTION));
  expect(headers.vary).toBe("origin, authorization, x-api-key");
});

test.skipIf(!areKdigAndCurlThere)(
  `kdig and curl are answered, kdig's questions padded${areKdigAndCurlThere ? "" : " (skipped: needs kdig and curl)"}`,
  async () => {
    const node = await plain();
    const [host = "", port = ""] = (node.listeners["http"] ?? "").split(":");
    for (const how of ["+https", "+https-get"]) {
      const words = [`@${host}`, "-p", port, how, `+tls-ca=${certificates.caFile}`, "+tls-hostname=localhost", "+padding=128"];
      const { stdout } = await promisify(execFile)("kdig", [...words, "web.svc.all.waymark", "A"]);
      expect(stdout).toMatch(/^web\.svc\.all\.waymark\.\s+30\s+IN\s+A\s+10\.0\.0\.1$/m);
      expect(stdout).toMatch(/^;; Received 468 B$/m);
    }
    // The service is not there: curl says which address it found.
    const words = ["-sv", "--doh-url", `https://localhost:${port}/dns-query`, "--cacert", certificates.caFile, "--connect-timeout", "1"];
    const { stderr } = await promisify(execFile)("curl", [...words, "http://web.svc.all.waymark/"]).catch(
      (error: { stderr: string }) => error,
    );
    expect(stderr).toMatch(/Trying 10\.0\.0\.1:80/);
  },
);

test("a stranger's certificate is no credential", async () => {
  const node = await plain();
  const [host, port] = (node.listeners["http"] ?? "").split(":");
  const call = request({ host, port, ...get(QUESTION), ca: authority.cert, agent: false, ...newAuthority().issue("red.example") });
  call.end();
  const [answer] = (await once(call, "response")) as [IncomingMessage];
  answer.resume();
  expect(answer.statusCode).toBe(401);
});

test("a resolver answers too: a question waits for its upstream, and a denial is the upstream's", { tags: ["night"] }, async () => {
  await using upstream = await startNodeProcess(["--ephemeral"]);
  const what = ["--namespace", "svc.all", "--name", "web", "--target", "10.0.0.1:80", "--instance", "1"];
  expect(await upstream.run(["register", ...what])).toMatchObject({ exit: 0 });
  await using resolver = await startNodeProcess(["--mode", "resolver", "--upstream", upstream.listeners["grpc"] ?? "", "--ephemeral"]);
  const codes = ["web", "nope"].map(async (name) => {
    const query = queryBytes({ name: `${name}.svc.all.waymark`, type: "A" });
    const answer = await fetch(`http://${resolver.listeners["http"]}/dns-query?dns=${Buffer.from(query).toString("base64url")}`);
    return responseText(new Uint8Array(await answer.arrayBuffer())).split(/\s/)[0];
  });
  expect(await Promise.all(codes)).toEqual(["NOERROR", ABSENT]);
});
