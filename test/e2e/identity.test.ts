/**
 * Who may call what, over real sockets: every rpc that the descriptors list with every kind of credential, client
 * certificates on both listeners, the other ways to be known, and that no secret is ever shown.
 */
import { createHash, X509Certificate } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, request as requestHttp1 } from "node:http";
import { connect as connectHttp2, type IncomingHttpHeaders } from "node:http2";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect as connectTls } from "node:tls";
import { createFileRegistry, type DescMethod, fromBinary, type JsonObject } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { AuditService } from "../../gen/waymark/control/v1/audit_pb.js";
import { DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { askTarget, type CallerKind, httpTargets, NAMESPACE, promisedVerdicts, requestOf, verdictOf } from "../fakes/access-table.ts";
import {
  AnyClient,
  type ClientTls,
  callHttp,
  callHttps,
  type Headers,
  type Outcome,
  openOverConnect,
  pathOf,
  publicMethods,
  streamOverConnect,
} from "../fakes/any-call.ts";
import { newAuthority } from "../fakes/certificate.ts";
import { AUDIENCE, ISSUER, TestIssuer } from "../fakes/issuer.ts";
import { textOf } from "../fakes/node.ts";
import { type NodeProcess, onFreePorts, startNodeProcess, waymarkProcess } from "../fakes/node-process.ts";

const folder = mkdtempSync(join(tmpdir(), "waymark-identity-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, readFileSync("gen/descriptors.binpb")));
const methods = publicMethods(registry);
const { register, catalogQuery, catalogWatch, keepAlive, serverInfo } = DiscoveryService.method;

function file(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

const sha256 = (text: string) => createHash("sha256").update(text).digest("hex");

// Told apart from all else that a log may hold.
const TOKENS = {
  plain: "tok-plain-5bX",
  read: "tok-read-9Qz",
  operate: "tok-operate-7Lm",
  admin: "tok-admin-3Vt",
  resolve: "tok-resolve-6Gk",
  key: "key-alpha-8Rw",
  filed: "tok-filed-2Np",
};
const issuer = await TestIssuer.create();

function settings(lines: string): string {
  return `
[tenants]
mode = true
${lines}
[tenants.jwt]
issuer = "${ISSUER}"
audience = "${AUDIENCE}"
jwks_file = "${join(folder, "jwks.json")}"
[tenants.trusted_header]
name = "x-tenant"
from = ["10.0.0.0/8"]
${Object.entries({ plain: "", read: '"mesh.read"', operate: '"mesh.operate"', admin: '"mesh.admin"', resolve: '"mesh.resolve"' })
  .map(([name, role]) => credential({ tenant: name, token: TOKENS[name as keyof typeof TOKENS], roles: role }))
  .join("")}
${credential({ tenant: "alpha", token: TOKENS.key, scheme: "api-key" })}
[[tenants.credentials]]
tenant = "filed"
token_file = "${join(folder, "token")}"
`;
}

function credential({
  tenant,
  token,
  roles = "",
  scheme = "bearer",
}: {
  tenant: string;
  token: string;
  roles?: string;
  scheme?: string;
}): string {
  return `[[tenants.credentials]]\ntenant = "${tenant}"\nscheme = "${scheme}"\ntoken_sha256 = "${sha256(token)}"\nroles = [${roles}]\n`;
}

/** Node's types lack that a client may repeat fields. */
const REPEATING = { maxSettings: 32, strictSingleValueFields: false };

/** The HTTP status of a call of ServerInfo with these fields, of gRPC its own status. */
async function overHttp2(authority: string, fields: readonly string[], isGrpc: boolean): Promise<string> {
  const session = connectHttp2(`http://${authority}`, REPEATING);
  const type = isGrpc ? "application/grpc" : "application/json";
  const head = [":method", "POST", ":path", pathOf(serverInfo), ":scheme", "http", ":authority", authority, "content-type", type];
  const stream = session.request([...head, ...fields]);
  stream.end(isGrpc ? Buffer.alloc(5) : "{}");
  const [headers] = (await once(stream, "response")) as [IncomingHttpHeaders & { ":status": number }];
  session.destroy();
  return String(isGrpc ? headers["grpc-status"] : headers[":status"]);
}

async function overHttp1(authority: string, fields: readonly string[]): Promise<string> {
  const headers = ["host", authority, "content-type", "application/json", ...fields];
  const request = requestHttp1(`http://${authority}${pathOf(serverInfo)}`, { method: "POST", headers }).end("{}");
  const [answer] = (await once(request, "response")) as [IncomingMessage];
  answer.resume();
  return String(answer.statusCode);
}

beforeAll(async () => {
  file("jwks.json", await issuer.jwks());
  file("token", `${TOKENS.filed}\n`);
});

function bearer(token: string): Headers {
  return { authorization: `Bearer ${token}` };
}

const ENTRY = {
  key: { kind: "ENTRY_KIND_SERVICE", namespace: "svc.market", name: "web", instanceId: "web-1" },
  targets: [{ host: "10.0.0.1", port: 8080 }],
};

/** Tenant that a registration by this caller is stamped with. */
async function stampedTenant(client: AnyClient, headers: Headers, instanceId: string): Promise<unknown> {
  const entry = { ...ENTRY, key: { ...ENTRY.key, instanceId } };
  const registered = await client.call(register, { entries: [entry], ttl: "30s" }, headers);
  if (registered.code !== "OK") return registered.message;
  const { response } = await client.call(catalogQuery, { namespace: "svc.market" }, bearer(TOKENS.admin));
  const items = response["items"] as readonly JsonObject[];
  return items.find((item) => (item["key"] as JsonObject)["instanceId"] === instanceId)?.["tenantId"];
}

describe("a node with credentials", () => {
  let node: NodeProcess;
  let client: AnyClient;
  let expired: string;
  let roleless: string;
  let headersOf: Readonly<Record<CallerKind, Headers>>;
  let refusedCount = 0;
  beforeAll(async () => {
    node = await startNodeProcess(["--ephemeral", "--log-level", "trace", "--config", file("node.toml", settings(""))]);
    client = new AnyClient(node.grpc);
    expired = await issuer.token({ expiresInS: -120 });
    roleless = await issuer.token({ subject: "nobody-special" });
    const ownerOf = async (namespace: string) =>
      bearer(await issuer.token({ subject: namespace, claims: { roles: [`owner:${namespace}`] } }));
    headersOf = {
      none: {},
      wrong: bearer("tok-wrong-4Kd"),
      expired: bearer(expired),
      plain: bearer(TOKENS.plain),
      roleless: bearer(roleless),
      read: bearer(TOKENS.read),
      operate: bearer(TOKENS.operate),
      admin: bearer(TOKENS.admin),
      resolve: bearer(TOKENS.resolve),
      owner: await ownerOf(NAMESPACE),
      neighbour: await ownerOf("svc.marketing"),
    };
  });
  afterAll(async () => {
    client[Symbol.dispose]();
    await node[Symbol.asyncDispose]();
  });

  /** Makes a call as each kind of caller. Returns the outcomes and the promised ones. The HTTP status is undefined over gRPC. */
  const callAsAll = async (
    method: DescMethod,
    ask: (caller: {
      readonly headers: Headers;
      readonly isRead: boolean;
    }) => Promise<Pick<Outcome, "code" | "message"> & { status?: number }>,
  ) => {
    const isOwners = (kind: CallerKind) => Object.keys(requestOf(method)).length > 0 && (kind === "owner" || kind === "neighbour");
    const outcomes = [...promisedVerdicts(method)].map(async ([kind, want]) => {
      const { code, message, status } = await ask({ headers: headersOf[kind], isRead: want === "served" || isOwners(kind) });
      const verdict = verdictOf(code);
      if (verdict !== "served") refusedCount += 1;
      // A refusal is the same whether or not the namespace and the node exist.
      const isTelling = verdict !== "served" && (message.includes(NAMESPACE) || message.includes(node.nodeId));
      const wantStatus = want === "unauthenticated" ? 401 : want === "denied" ? 403 : status;
      const got = { kind, verdict, message: verdict === want ? "" : message, status, isTelling };
      return { got, want: { kind, verdict: want, message: "", status: status && wantStatus, isTelling: false } };
    });
    const rows = await Promise.all(outcomes);
    return { got: rows.map(({ got }) => got), want: rows.map(({ want }) => want) };
  };

  test.each(methods.map((method) => ({ rpc: pathOf(method), method })))("gRPC $rpc", async ({ method }) => {
    const { got, want } = await callAsAll(method, ({ headers }) => client.call(method, requestOf(method), headers));
    expect(got).toEqual(want);
  });

  test.each(methods.flatMap((method) => httpTargets(method, "{node_id}").map((to) => ({ rpc: method.name, ...to, method }))))(
    "HTTP $verb $target of $rpc",
    async ({ verb, target, method }) => {
      const to = { verb, target: target.replace("{node_id}", node.nodeId) };
      const { got, want } = await callAsAll(method, (caller) => askTarget(`http://${node.listeners["http"]}`, to, { method, ...caller }));
      expect(got).toEqual(want);
    },
  );

  test("the audit has each of these refusals, alone or counted", async () => {
    expect(refusedCount).toBeGreaterThan(500);
    const recorded = async () => {
      const filter = { outcomes: ["AUDIT_OUTCOME_DENIED"], limit: 1000 };
      const { response } = await client.call(AuditService.method.list, filter, bearer(TOKENS.operate));
      const records = response["records"] as readonly JsonObject[];
      return records.reduce((sum, { detail }) => sum + Number(/; (\d+) calls refused$/.exec(textOf(detail))?.[1] ?? 1), 0);
    };
    await expect.poll(recorded, { timeout: 10_000 }).toBe(refusedCount);
  });

  test("each way to be known brings its tenant", async () => {
    const signed = bearer(await issuer.token({ claims: { tenant: "gamma" } }));
    const ways: readonly (readonly [string, Headers])[] = [
      ["plain", bearer(TOKENS.plain)],
      ["alpha", { "x-api-key": TOKENS.key }],
      ["filed", bearer(TOKENS.filed)],
      ["gamma", signed],
    ];
    const stamped = [];
    for (const [name, headers] of ways) stamped.push(await stampedTenant(client, headers, `web-${name}`));
    expect(stamped).toEqual(ways.map(([name]) => name));
  });

  test("nobody but its principal, an owner of the namespace or an admin touches an entry", async () => {
    const keys = [{ ...ENTRY.key, instanceId: "web-mine" }];
    await stampedTenant(client, bearer(TOKENS.plain), "web-mine");
    const unregister = DiscoveryService.method.unregister;
    expect((await client.call(unregister, { keys }, bearer(TOKENS.operate))).code).toBe("PERMISSION_DENIED");
    const neighbour = bearer(await issuer.token({ subject: "n", claims: { roles: ["owner:svc.marketing"] } }));
    expect((await client.call(unregister, { keys }, neighbour)).code).toBe("PERMISSION_DENIED");
    const owner = bearer(await issuer.token({ subject: "o", claims: { roles: ["owner:svc.market"] } }));
    expect((await client.call(unregister, { keys }, owner)).response["removed"]).toBe(1);
  });

  test("who would write what is not theirs stands in the audit, by name and namespace", async () => {
    const signed = async (subject: string, roles: readonly string[] = []) => bearer(await issuer.token({ subject, claims: { roles } }));
    const key = { ...ENTRY.key, instanceId: "web-taken" };
    await stampedTenant(client, bearer(TOKENS.plain), "web-taken");
    const { unregister } = DiscoveryService.method;
    const alias = { ...ENTRY, key: { ...ENTRY.key, instanceId: "web-alias" }, aliases: ["bank"] };
    const { code: registering } = await client.call(register, { entries: [{ ...ENTRY, key }] }, await signed("taker"));
    const { code: ending } = await client.call(unregister, { keys: [key] }, await signed("ender"));
    const { code: naming } = await client.call(register, { entries: [alias] }, await signed("namer"));
    expect([registering, ending, naming]).toEqual(["PERMISSION_DENIED", "PERMISSION_DENIED", "PERMISSION_DENIED"]);
    const audit = await node.run(["discovery", "access-audit", "--namespace", "svc.market", "-o", "json", "--token", TOKENS.operate]);
    const { records } = JSON.parse(audit.stdout) as { readonly records: readonly JsonObject[] };
    const refusal = { namespace: "svc.market", outcome: "AUDIT_OUTCOME_DENIED", reason: "discovery_access_denied" };
    const another = "is registered by another principal";
    for (const [principal, action, what] of [
      ["taker", "register", `permission denied: svc.market/web/web-taken (entries[0].key) ${another}`],
      ["ender", "unregister", `permission denied: svc.market/web/web-taken (keys[0]) ${another}`],
      ["namer", "register", "permission denied: entries[0].aliases[0]: an alias of one label requires the role mesh.admin"],
    ] as const) {
      const detail = `discovery_access_denied: ${what}`;
      expect(records).toContainEqual(expect.objectContaining({ ...refusal, principal, action, detail }));
    }
  });

  test("a web page that may not act here stands in the audit, with what it tried", async () => {
    const page = { ...bearer(TOKENS.admin), "content-type": "application/json", origin: "https://evil.example" };
    const address = `http://${node.listeners["http"]}${pathOf(register)}`;
    expect((await fetch(address, { method: "POST", headers: page, body: "{}" })).status).toBe(403);
    const audit = await node.run(["discovery", "access-audit", "-o", "json", "--token", TOKENS.operate]);
    const { records } = JSON.parse(audit.stdout) as { readonly records: readonly JsonObject[] };
    const told = records.find(({ action }) => action === "DiscoveryService/Register");
    // Nobody looks at what such a page shows.
    expect(told).toMatchObject({ outcome: "AUDIT_OUTCOME_DENIED", reason: "discovery_access_denied", principal: "", source: "127.0.0.1" });
    expect(told?.["detail"]).toContain("evil.example");
  });

  test("not even an admin takes a node's own entry away", async () => {
    const keys = [{ kind: "ENTRY_KIND_NODE", namespace: "discovery.nodes", name: node.nodeId, instanceId: node.nodeId }];
    const { response } = await client.call(catalogQuery, { namespace: "discovery.nodes" }, bearer(TOKENS.admin));
    const [item] = response["items"] as readonly JsonObject[];
    const key = item?.["key"] ?? keys;
    const { code } = await client.call(DiscoveryService.method.unregister, { keys: [key] }, bearer(TOKENS.admin));
    expect(code).not.toBe("OK");
  });

  test("only a resolver registers where resolvers are, under an id that nobody else has, and everybody finds it", async () => {
    const edge = (id: string) => ({
      key: { namespace: "discovery.resolvers", name: id, instanceId: id },
      targets: [{ name: "grpc", host: "192.0.2.1", port: 1 }],
    });
    const registers = async (headers: Headers, entry: JsonObject = edge("edge-1"), more: JsonObject = {}) =>
      (await client.call(register, { entries: [entry], ...more }, headers)).code;
    const other = bearer(await issuer.token({ subject: "other", claims: { roles: ["mesh.resolve"] } }));
    expect(await registers({})).toBe("UNAUTHENTICATED");
    for (const token of [TOKENS.plain, TOKENS.admin]) expect(await registers(bearer(token))).toBe("PERMISSION_DENIED");
    const resolver = bearer(TOKENS.resolve);
    expect(await registers(resolver, edge("edge-1"), { staticLease: true })).toBe("INVALID_ARGUMENT");
    const nodes = { ...edge("edge-1"), key: { namespace: "discovery.nodes", name: "edge-1", instanceId: "edge-1" } };
    expect(await registers(resolver, nodes)).toBe("INVALID_ARGUMENT");
    expect(await registers(resolver)).toBe("OK");
    expect(await registers(other)).toBe("PERMISSION_DENIED");
    const { response } = await client.call(catalogQuery, { namespace: "discovery.resolvers" });
    expect(response["items"]).toMatchObject([{ key: { name: "edge-1", kind: "ENTRY_KIND_SERVICE" }, tenantId: "resolve" }]);
  });

  test("streams of a caller whose token is verified first are served like others, and refused like others", async () => {
    const fresh = async (claims = {}) => bearer(await issuer.token({ claims: { ...claims, jti: crypto.randomUUID() } }));
    expect((await client.call(catalogWatch, { namespace: "svc.empty" }, await fresh())).code).toBe("OK");
    expect((await client.call(keepAlive, { leaseIds: ["unknown"] }, await fresh())).response["expiredLeaseIds"]).toEqual(["unknown"]);
    for (const method of [catalogWatch, keepAlive]) {
      expect((await client.call(method, {}, bearer(`${roleless}x`))).code).toBe("UNAUTHENTICATED");
    }
    using zipped = new AnyClient(node.grpc, { isCompressed: true });
    expect((await zipped.call(catalogWatch, { namespace: "svc.empty" }, await fresh())).code).toBe("OK");
    expect((await zipped.call(keepAlive, { leaseIds: ["unknown"] }, await fresh())).code).toBe("OK");
    expect((await zipped.call(serverInfo, {}, await fresh())).code).toBe("OK");
    expect((await zipped.call(serverInfo, {}, bearer("tok-wrong-4Kd"))).code).toBe("UNAUTHENTICATED");
  });

  test.each([
    { what: "alg none", token: async () => issuer.unsigned(), says: "unauthenticated: token" },
    { what: "another issuer", token: () => issuer.token({ issuer: "https://other.example" }), says: "unexpected issuer" },
    { what: "another audience", token: () => issuer.token({ audience: "other" }), says: "unexpected audience" },
    { what: "not yet valid", token: () => issuer.token({ notBeforeInS: 300 }), says: "not valid yet" },
    { what: "an unknown key", token: () => issuer.token({ kid: "key-9" }), says: "does not publish" },
    { what: "9 KiB", token: async () => "x".repeat(9216), says: "longer than 8192" },
    { what: "bad base64", token: async () => "!!.!!.!!", says: "malformed" },
  ])("a token with $what is refused with a clear reason by both doors", async ({ token, says }) => {
    const headers = bearer(await token());
    const grpc = await client.call(serverInfo, {}, headers);
    const http = await callHttp(`http://${node.listeners["http"]}`, serverInfo, headers);
    expect([grpc.code, http.code]).toEqual(["UNAUTHENTICATED", "UNAUTHENTICATED"]);
    expect([grpc.message, http.message]).toEqual([expect.stringContaining(says), expect.stringContaining(says)]);
  });

  test.each([
    { door: "grpc", over: "HTTP/2", says: "16" },
    { door: "http", over: "HTTP/2", says: "401" },
    { door: "http", over: "HTTP/1.1", says: "401" },
  ])("two credentials in one request are none: $door, $over", async ({ door, over, says }) => {
    const authority = node.listeners[door] ?? "";
    const asked = over === "HTTP/2" ? overHttp2 : overHttp1;
    const [read, admin] = [TOKENS.read, TOKENS.admin].map((token) => ["authorization", `Bearer ${token}`]);
    const answers = [[read], [read, admin], [read, read]].map((pairs) => asked(authority, pairs.flat() as string[], door === "grpc"));
    expect(await Promise.all(answers)).toEqual([expect.not.stringMatching(says), says, says]);
  });

  test.each([
    { door: "grpc", says: "16" },
    { door: "http", says: "401" },
  ])("spaces around a credential over HTTP/2 do not hide it, so that it is not passed over: $door", async ({ door, says }) => {
    const asked = (...values: string[]) =>
      overHttp2(
        node.listeners[door] ?? "",
        values.flatMap((value) => ["authorization", value]),
        door === "grpc",
      );
    const [read, wrong] = [`Bearer ${TOKENS.read}`, "Bearer tok-wrong-4Kd"];
    const answers = [asked(read), asked(read, `${read} `), asked(` ${wrong}`, read), asked(`${wrong} `), asked(`\t${wrong}`)];
    expect(await Promise.all(answers)).toEqual([expect.not.stringMatching(says), says, says, says, says]);
  });

  test("a proxy's header from an address that is no proxy is refused", async () => {
    const { code, message } = await client.call(serverInfo, {}, { "x-tenant": "alpha" });
    expect([code, message]).toEqual(["UNAUTHENTICATED", expect.stringContaining("only from the configured proxies")]);
  });

  test("who was refused for who it is stands in the audit, and nothing of what it showed", async () => {
    const audit = methods.find(({ name }) => name === "AccessAudit");
    if (audit === undefined) throw new Error("no AccessAudit");
    await client.call(serverInfo, {}, bearer("tok-wrong-4Kd"));
    await client.call(audit, {}, bearer(TOKENS.plain));
    const records = async () => {
      const { response } = await client.call(audit, {}, bearer(TOKENS.operate));
      return (response["records"] ?? []) as readonly JsonObject[];
    };
    await expect.poll(records).toContainEqual(expect.objectContaining({ source: "127.0.0.1", reason: "unauthenticated" }));
    const denied = async () => (await records()).find(({ principal }) => principal === "plain");
    await expect.poll(denied).toMatchObject({ reason: "discovery_access_denied", action: "PolicyService/AccessAudit" });
    const text = JSON.stringify(await records());
    for (const secret of [...Object.values(TOKENS), "tok-wrong-4Kd", expired, roleless]) expect(text.includes(secret)).toBe(false);
  });

  test("a stream ends when the token it was opened with does, on both doors", { tags: ["night"] }, async () => {
    // The skew of a minute counts too: 9 s are left, enough for a busy machine to open the streams in.
    const headers = async () => bearer(await issuer.token({ expiresInS: -50, claims: { jti: crypto.randomUUID() } }));
    using zipped = new AnyClient(node.grpc, { isCompressed: true });
    const ends = await Promise.all([
      client.ending(catalogWatch, { namespace: "svc.empty" }, await headers()),
      client.ending(keepAlive, { leaseIds: ["unknown"] }, await headers()),
      zipped.ending(catalogWatch, { namespace: "svc.empty" }, await headers()),
      streamOverConnect(`http://${node.listeners["http"]}`, catalogWatch, await headers()),
    ]);
    expect(ends.map((end) => end.includes("has expired; reopen the stream"))).toEqual([true, true, true, true]);
  });

  test("the GET routes know callers too", async () => {
    const get = (headers: Headers) => fetch(`http://${node.listeners["http"]}/sd/prometheus`, { headers }).then(({ status }) => status);
    expect(await Promise.all([get({}), get(bearer(TOKENS.plain)), get(bearer(roleless)), get(bearer("tok-wrong-4Kd"))])).toEqual([
      200, 200, 200, 401,
    ]);
  });

  test("the command line shows its token", async () => {
    const denied = await node.run(["discovery", "query", "--namespace", "svc.market", "--token", "tok-wrong-4Kd"]);
    expect([denied.exit, denied.stderr]).toEqual([4, expect.stringContaining("unauthenticated")]);
    expect((await node.run(["discovery", "query", "--namespace", "svc.market", "--token", TOKENS.plain])).exit).toBe(0);
  });

  test("no secret is in the log, whatever was sent, nor in the settings shown", async () => {
    const shown = await waymarkProcess(["config", "show", "--config", join(folder, "node.toml"), "-o", "json"]);
    expect(shown.exit).toBe(0);
    // What is logged of the calls before comes before this.
    await client.call(serverInfo, {}, { ...bearer(TOKENS.plain), "x-request-id": "the-last-call" });
    await node.command.errorLine(/the-last-call/);
    const said = node.command.stderr + node.command.stdout + shown.stdout + shown.stderr;
    expect(said).toContain("[secret]");
    for (const secret of [
      ...Object.values(TOKENS),
      ...Object.values(TOKENS).map(sha256),
      "tok-wrong-4Kd",
      expired,
      roleless,
      roleless.split(".")[2] ?? "",
    ])
      expect(said.includes(secret)).toBe(false);
  });
});

describe("a node with TLS", () => {
  const ours = newAuthority();
  const theirs = newAuthority();
  const SPIFFE = "spiffe://prod.example/ns/market/sa/web";
  const server = ours.issue("localhost");
  let node: NodeProcess;
  const open: AnyClient[] = [];

  beforeAll(async () => {
    const toml = `
[tls]
min_version = "1.2"
cert_file = "${file("server.pem", server.cert)}"
key_file = "${file("server.key", server.key)}"
ca_file = "${file("ca.pem", ours.cert)}"
[[tenants.certificates]]
principal = "spiffe://prod.example/ns/market/*"
tenant = "market"
roles = ["mesh.read"]
[[tenants.certificates]]
principal = "ops.example"
tenant = "ops"
roles = ["mesh.admin"]
${credential({ tenant: "admin", token: TOKENS.admin, roles: '"mesh.admin"' })}
`;
    node = await startNodeProcess(["--ephemeral", "--config", file("tls.toml", toml)]);
  });
  afterAll(async () => {
    for (const each of open.splice(0)) each[Symbol.dispose]();
    await node[Symbol.asyncDispose]();
  });

  const dial = (leaf: ClientTls["leaf"], isCompressed = false) => {
    const client = new AnyClient(node.grpc.replace("127.0.0.1", "localhost"), { tls: { ca: ours.cert, leaf }, isCompressed });
    open.push(client);
    return client;
  };

  test("the SPIFFE id, otherwise the DNS name, otherwise the common name is the principal; an additional bearer token is ignored", async () => {
    expect(await stampedTenant(dial(ours.issue("web", { uris: [SPIFFE] })), {}, "by-spiffe")).toBe("market");
    expect(await stampedTenant(dial(ours.issue("web", { dnsNames: ["ops.example"] })), bearer(TOKENS.admin), "by-dns-name")).toBe("ops");
    expect(await stampedTenant(dial(ours.issue("ops.example", { dnsNames: [] })), bearer(TOKENS.admin), "by-common-name")).toBe("ops");
    expect(await stampedTenant(dial(ours.issue("ops.example", { dnsNames: ["localhost"] })), {}, "by-another-name")).toBeUndefined();
    expect(await stampedTenant(dial(undefined), bearer(TOKENS.admin), "by-token")).toBe("admin");
  });

  test("the audit has a part of the fingerprint of the certificate, or of the hash of the token", async () => {
    const leaf = ours.issue("web", { dnsNames: ["ops.example"] });
    await stampedTenant(dial(leaf), {}, "with-certificate");
    await stampedTenant(dial(undefined), bearer(TOKENS.admin), "with-token");
    const tokenIdOf = async (text: string) => {
      const { response } = await dial(leaf).call(AuditService.method.list, { text, limit: 1 });
      return (response["records"] as readonly JsonObject[])[0]?.["tokenId"];
    };
    const fingerprint = new X509Certificate(leaf.cert).fingerprint256.replaceAll(":", "").toLowerCase();
    expect(await tokenIdOf("with-certificate")).toBe(`cert:${fingerprint.slice(0, 16)}`);
    expect(await tokenIdOf("with-token")).toBe(`sha256:${sha256(TOKENS.admin).slice(0, 12)}`);
  });

  test("its roles come with it, on both listeners, over HTTP/1.1 and HTTP/2, and when messages are compressed", async () => {
    const status = methods.find(({ name }) => name === "PolicyStatus");
    const apply = methods.find(({ name }) => name === "ApplyPolicy");
    if (status === undefined || apply === undefined) throw new Error("no PolicyService");
    const leaf = ours.issue("web", { uris: [SPIFFE] });
    for (const client of [dial(leaf), dial(leaf, true)]) {
      expect(verdictOf((await client.call(status)).code)).toBe("served");
      expect(verdictOf((await client.call(apply)).code)).toBe("denied");
      // What a client puts into the header between our parts is not believed.
      expect(verdictOf((await client.call(apply, {}, { "x-waymark-lent-certificate": "1" })).code)).toBe("denied");
    }
    // Nor while a call of a known client is open, whose certificate has a name between our parts then.
    const end = await dial(leaf, true).hold(catalogWatch, { namespace: "svc.market" });
    const codes = [];
    for (let name = 1; name <= 10; name++)
      codes.push((await dial(undefined, true).call(status, {}, { "x-waymark-lent-certificate": String(name) })).code);
    end();
    expect(new Set(codes)).toEqual(new Set(["UNAUTHENTICATED"]));
    const address = (node.listeners["http"] ?? "").replace("127.0.0.1", "localhost");
    for (const version of [1, 2] as const) {
      const ask = async (method: DescMethod, tls: ClientTls) =>
        (await callHttps(address, { path: pathOf(method), tls, version, body: "{}" })).status;
      const tls = { ca: ours.cert, leaf };
      expect(await ask(apply, tls)).toBe(403);
      expect([401, 403]).not.toContain(await ask(status, tls));
      expect(await ask(status, { ca: ours.cert })).toBe(401);
    }
  });

  test.each(["TLSv1.2", "TLSv1.3"] as const)("a connection that resumes a session of %s is still its client's", async (version) => {
    const leaf = ours.issue("web", { uris: [SPIFFE] });
    const [, port = ""] = (node.listeners["http"] ?? "").split(":");
    const method = methods.find(({ name }) => name === "ApplyPolicy");
    const ask = async (session: Buffer | undefined) => {
      const socket = connectTls({ host: "localhost", port: Number(port), ca: ours.cert, ...leaf, session, maxVersion: version });
      let tickets: Buffer | undefined;
      let isReused = false;
      socket.once("secureConnect", () => (isReused = socket.isSessionReused()));
      socket.on("session", (ticket: Buffer) => (tickets = ticket));
      const path = method === undefined ? "" : pathOf(method);
      socket.write(
        `POST ${path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}`,
      );
      let text = "";
      for await (const chunk of socket) text += String(chunk);
      return { status: text.slice(9, 12), isReused, session: tickets };
    };
    const first = await ask(undefined);
    const second = await ask(first.session);
    // Known, so denied; not "401", as for a caller without a certificate.
    expect([first.status, first.isReused, second.status, second.isReused]).toEqual(["403", false, "403", true]);
  });

  test.each([
    { what: "of another authority", leaf: () => theirs.issue("web", { uris: [SPIFFE] }), says: "was not signed by a CA in tls.ca_file" },
    { what: "that has expired", leaf: () => ours.issue("web", { uris: [SPIFFE], endsInMs: -60_000 }), says: "CERT_HAS_EXPIRED" },
    { what: "with two SPIFFE ids", leaf: () => ours.issue("web", { uris: [SPIFFE, `${SPIFFE}2`] }), says: "more than one SPIFFE id" },
    {
      what: "whose common name looks like a SPIFFE id",
      leaf: () => ours.issue(SPIFFE, { dnsNames: [] }),
      says: "no SPIFFE id, no DNS name",
    },
    {
      what: "whose SPIFFE id has a .. segment",
      leaf: () => ours.issue("web", { uris: [`${SPIFFE}/../admin`] }),
      says: "malformed SPIFFE id",
    },
  ])("a certificate $what is refused, also with a good token", async ({ leaf, says }) => {
    const shown = leaf();
    for (const headers of [{}, bearer(TOKENS.admin)]) {
      const { code, message } = await dial(shown).call(serverInfo, {}, headers);
      expect([code, message]).toEqual(["UNAUTHENTICATED", expect.stringContaining(says)]);
    }
  });
});

describe("restricted doors", () => {
  test.each(["authenticated", "off"])("reflection and metrics %s", async (access) => {
    const toml = `${settings("")}[server]\nreflection = "${access}"\n[observability]\nmetrics_access = "${access}"\n`;
    await using node = await startNodeProcess(["--ephemeral", "--config", file(`doors-${access}.toml`, toml)]);
    const get = (path: string, headers: Headers) =>
      fetch(`http://${node.listeners["http"]}${path}`, { headers }).then(({ status }) => status);
    const [nobody, known] = access === "off" ? [404, 404] : [401, 200];
    for (const path of ["/metrics", "/metrics/persistence", "/sd/prometheus", "/openapi.json"]) {
      expect([await get(path, {}), await get(path, bearer(TOKENS.plain))]).toEqual([nobody, known]);
    }
    expect(await get("/healthz", {})).toBe(200);
    using client = new AnyClient(node.grpc);
    const reflect = registry.getService("grpc.reflection.v1.ServerReflection")?.methods[0];
    const check = registry.getService("grpc.health.v1.Health")?.methods.find(({ name }) => name === "Check");
    if (reflect === undefined || check === undefined) throw new Error("no reflection in the descriptors");
    const codes = [];
    for (const headers of [{}, bearer("tok-wrong-4Kd"), bearer(TOKENS.plain), bearer(await issuer.token())])
      codes.push((await client.call(reflect, { listServices: "*" }, headers)).code);
    const refused = "UNAUTHENTICATED";
    expect(codes).toEqual(access === "off" ? Array.from({ length: 4 }, () => "UNIMPLEMENTED") : [refused, refused, "OK", "OK"]);
    expect((await client.call(check)).code).toBe("OK");
  });
});

describe("a node without credentials", () => {
  test("on loopback everybody may do everything, and no header is looked at", async () => {
    await using node = await startNodeProcess(["--ephemeral"]);
    using client = new AnyClient(node.grpc);
    for (const method of methods) expect(verdictOf((await client.call(method, {}, bearer("anything"))).code)).toBe("served");
  });

  test("on other addresses it refuses to start, and says what to do", async () => {
    const { exit, stderr } = await waymarkProcess(["serve", ...onFreePorts(["--ephemeral", "--host", "0.0.0.0"])]);
    expect(exit).toBe(2);
    expect(stderr).toMatch(
      /refusing to listen on 0\.0\.0\.0 \(listen\.host\): neither TLS nor a credential.*tls\.cert_file.*tenants\.credentials.*--insecure/,
    );
  });

  test("nor does it answer DNS there while the rest is on loopback", { tags: ["night"] }, async () => {
    const dns = file("dns.toml", '[dns]\nhost = "0.0.0.0"\n');
    const { exit, stderr } = await waymarkProcess(["serve", ...onFreePorts(["--ephemeral", "--config", dns])]);
    expect(exit).toBe(2);
    expect(stderr).toContain("refusing to listen on 0.0.0.0");
    await using insecure = await startNodeProcess(["--ephemeral", "--config", dns, "--insecure"]);
    expect([insecure.grpc, insecure.listeners["dns"]]).toEqual([expect.stringMatching(/^127/), expect.stringMatching(/^0\.0\.0\.0:/)]);
  });

  test("unless it is told that the network is trusted, or it has a credential", { tags: ["night"] }, async () => {
    await using insecure = await startNodeProcess(["--ephemeral", "--host", "0.0.0.0", "--insecure"]);
    expect(insecure.grpc).toMatch(/^0\.0\.0\.0:/);
    await using guarded = await startNodeProcess(["--ephemeral", "--host", "0.0.0.0", "--config", file("any.toml", settings(""))]);
    expect(guarded.grpc).toMatch(/^0\.0\.0\.0:/);
  });
});

test("a token file that was replaced counts after SIGHUP, a short one with a warning as at the start, and a bad one leaves what was", async () => {
  const token = file("rotating", "tok-old-1Hy-long-enough\n");
  const toml = `[[tenants.credentials]]\ntenant = "t"\ntoken_file = "${token}"\nroles = ["mesh.read"]\n`;
  let keys = await issuer.jwks();
  await using issuing = createServer((_request, response) => void response.end(keys)).listen(0, "127.0.0.1");
  await once(issuing, "listening");
  const url = `http://127.0.0.1:${(issuing.address() as AddressInfo).port}/jwks`;
  const signed = `[tenants.jwt]\nissuer = "${ISSUER}"\naudience = "${AUDIENCE}"\njwks_url = "${url}"\n`;
  await using node = await startNodeProcess(["--ephemeral", "--config", file("rotating.toml", toml + signed)]);
  using client = new AnyClient(node.grpc);
  const jwt = await issuer.token();
  expect((await client.call(catalogWatch, {}, bearer(jwt))).code).toBe("OK");
  const edge = await openOverConnect(`http://${node.listeners["http"]}`, catalogWatch, bearer("tok-old-1Hy-long-enough"));
  const known = [bearer("tok-old-1Hy-long-enough"), bearer(jwt)].map((headers) => client.ending(catalogWatch, {}, headers));
  const watching = [...known, edge.text()];
  const code = async (text: string) => (await client.call(serverInfo, {}, bearer(text))).code;
  expect([await code("tok-old-1Hy-long-enough"), await code("tok-new-6Gb")]).toEqual(["OK", "UNAUTHENTICATED"]);
  file("rotating", "two words\n");
  node.command.kill("SIGHUP");
  await node.command.errorLine(/credential reload failed/);
  expect([await code("tok-old-1Hy-long-enough"), node.command.stderr.includes("two words")]).toEqual(["OK", false]);
  file("rotating", "tok-new-6Gb\n");
  keys = await (await TestIssuer.create("ES256", "key-next")).jwks();
  node.command.kill("SIGHUP");
  await node.command.errorLine(/token_file: the token in \S+ has fewer than 16 characters/);
  await expect.poll(() => code("tok-new-6Gb")).toBe("OK");
  expect(await code("tok-old-1Hy-long-enough")).toBe("UNAUTHENTICATED");
  // What was opened with what counts no more ends too.
  for (const ended of watching) expect(await ended).toContain("the credential of this stream was revoked or changed");
});
