/** What a client shows to other clusters by TLS, and to whom: only to a server whose certificate names the cluster. */
import dns from "node:dns";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { createServer } from "node:tls";
import { create } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { ServerCredentials } from "@grpc/grpc-js";
import { afterAll, afterEach, describe, expect, test, vi } from "vitest";
import { type ClusterAccess, type ConnectOptions, connect, EntryKind, EntrySchema, RequestError } from "../../../src/client/index.ts";
import { newAuthority } from "../../fakes/certificate.ts";
import { FakeDiscovery } from "../../fakes/discovery-server.ts";

const authority = newAuthority();
const ca = Buffer.from(authority.cert);
const own = authority.issue("a program");
const files = { ca, cert: Buffer.from(own.cert), key: Buffer.from(own.key) };
const nodeOf = (cluster: string) => authority.issue("node", { uris: [`spiffe://prod.example/waymark/cluster/${cluster}/node/a`] });

/** A server with TLS that takes whoever comes, and notes which certificates it was shown. In TLS 1.2 a client shows its own before it can judge the server's. */
async function witness(issued: { readonly cert: string; readonly key: string }) {
  const shown: string[] = [];
  const names: unknown[] = [];
  const options = { ...issued, requestCert: true, rejectUnauthorized: false, ALPNProtocols: ["h2"], maxVersion: "TLSv1.2" as const };
  const server = createServer(options, (socket) => {
    const { subject } = socket.getPeerCertificate() as { readonly subject?: { readonly CN?: string } };
    shown.push(String(subject?.CN));
    names.push(Reflect.get(socket, "servername"));
    // Clients leave by themselves.
    socket.on("error", () => {});
  });
  server.on("tlsClientError", () => {});
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return { url: `grpc://127.0.0.1:${(server.address() as AddressInfo).port}`, shown, names, close: () => server.close() };
}

function secured(issued: { readonly cert: string; readonly key: string }): ServerCredentials {
  return ServerCredentials.createSsl(ca, [{ cert_chain: Buffer.from(issued.cert), private_key: Buffer.from(issued.key) }], true);
}

function open(issued: { readonly cert: string; readonly key: string }): ServerCredentials {
  // oxlint-disable-next-line unicorn/no-null -- grpc-js wants null
  return ServerCredentials.createSsl(null, [{ cert_chain: Buffer.from(issued.cert), private_key: Buffer.from(issued.key) }], false);
}

const [plain, us, home, open1, liar, bare] = [
  new FakeDiscovery("eu1"),
  new FakeDiscovery("us1"),
  new FakeDiscovery("eu1"),
  new FakeDiscovery("us1"),
  new FakeDiscovery("us1"),
  new FakeDiscovery("us1"),
];
const all = [plain, us, home, open1, liar, bare];
await Promise.all([
  plain.start(),
  us.start(0, secured(nodeOf("us1"))),
  home.start(0, open(authority.issue("localhost"))),
  open1.start(0, open(nodeOf("us1"))),
  liar.start(0, open(nodeOf("ap1"))),
  bare.start(),
]);
const strangers = await Promise.all(
  [
    nodeOf("ap1"),
    newAuthority("another").issue("node", { uris: ["spiffe://prod.example/waymark/cluster/us1/node/a"] }),
    authority.issue("localhost"),
  ].map(witness),
);
const key = { kind: EntryKind.SERVICE, namespace: "svc", name: "web", instanceId: "us" };
for (const server of [us, open1, bare]) server.entries.set("us", create(EntrySchema, { key }));
afterAll(() => {
  for (const server of all) server.stop();
  for (const { close } of strangers) close();
});

/** What comes of a lookup that is redirected to these urls. */
async function lookedUp(from: FakeDiscovery, urls: readonly string[], options: Partial<ConnectOptions>): Promise<string> {
  for (const server of all) server.calls.length = 0;
  from.redirect = ({ visitedClusters }) =>
    visitedClusters.includes("us1") ? undefined : { clusterId: "us1", urls: [...urls], ttl: durationFromMs(1000) };
  const client = connect({ servers: [from.address], findServers: false, autoSummaryRedirect: true, token: "of-home", ...options });
  try {
    return String((await client.resolve("svc", "web"))?.entry.key?.instanceId);
  } catch (error) {
    if (error instanceof RequestError) return error.message;
    throw error;
  } finally {
    client.close();
  }
}

const tokensAt = (server: FakeDiscovery) => [...new Set(server.calls.map(({ authorization }) => authorization))];
const urlOf = ({ address }: FakeDiscovery) => `grpc://${address}`;
const access: ClusterAccess = { tls: files, token: "of-us1" };

test("the token and the certificate for a cluster go to the server that is of the cluster, after others were tried that are not", async () => {
  const urls = [...strangers.map(({ url }) => url), urlOf(us)];
  expect(await lookedUp(plain, urls, { clusters: { us1: access } })).toBe("us");
  expect(tokensAt(us)).toEqual(["Bearer of-us1"]);
  expect(tokensAt(plain)).toEqual(["Bearer of-home"]);
  // A certificate that is shown has a name.
  expect(strangers.flatMap(({ shown }) => shown).filter((name) => name !== "undefined")).toEqual([]);
});

test.each([
  { at: 0, says: "the certificate does not belong to a node of us1: it identifies a node of ap1" },
  { at: 2, says: "the certificate does not belong to a node of us1: it does not identify a cluster" },
  { at: 1, says: "self-signed certificate in certificate chain|unable to" },
])("stranger $at is told apart: $says", async ({ at, says }) => {
  expect(await lookedUp(plain, [strangers[at]?.url ?? ""], { clusters: { us1: access } })).toMatch(
    new RegExp(`^cluster us1: .*(?:${says})`),
  );
});

test("a token goes to no server of another cluster, also where no certificate is shown", async () => {
  const tokenOnly = { clusters: { us1: { tls: { ca }, token: "of-us1" } } };
  expect(await lookedUp(plain, [urlOf(liar)], tokenOnly)).toContain("it identifies a node of ap1");
  expect(liar.calls).toEqual([]);
  expect(await lookedUp(plain, [urlOf(open1)], tokenOnly)).toBe("us");
  expect(tokensAt(open1)).toEqual(["Bearer of-us1"]);
});

test("a program may say which DNS name the certificates of a cluster have instead", async () => {
  const named = (serverName: string) => ({ clusters: { us1: { ...access, serverName } } });
  expect(await lookedUp(plain, [urlOf(us)], named("localhost"))).toBe("us");
  expect(await lookedUp(plain, [urlOf(us)], named("us1.example"))).toContain("us1.example");
});

test("credentials for one cluster are for no other, and a plain connection carries none", async () => {
  expect(await lookedUp(plain, [urlOf(us)], { clusters: { ap1: access } })).toContain("cluster us1: ");
  expect(us.calls).toEqual([]);
});

test("who calls home by TLS calls a cluster without credentials by TLS too, with nothing but the authorities", async () => {
  expect(await lookedUp(home, [strangers[0]?.url ?? "", urlOf(open1)], { tls: files })).toBe("us");
  expect([tokensAt(open1), tokensAt(home)]).toEqual([[undefined], ["Bearer of-home"]]);
  expect(strangers[0]?.shown.filter((name) => name !== "undefined")).toEqual([]);
  expect(await lookedUp(home, [urlOf(plain)], { tls: files })).toContain("does not speak TLS");
});

describe("a name of which another address is told a moment later", () => {
  const { lookup } = dns.promises;
  const told: string[] = [];
  /** What was told of it, one after the other; in the end an address at which nobody is. */
  const tell = (...addresses: readonly string[]) => {
    told.length = 0;
    const next = () => {
      const address = addresses[told.length] ?? "127.77.77.77";
      told.push(address);
      return Promise.resolve([{ address, family: address.includes(":") ? 6 : 4 }]);
    };
    vi.spyOn(dns.promises, "lookup").mockImplementation(((host: string, asked: dns.LookupOptions) =>
      host === "us1.test" ? next() : lookup(host, asked)) as typeof lookup);
  };
  const named = (url: string) => `grpc://us1.test:${new URL(url).port}`;
  afterEach(() => void vi.restoreAllMocks());

  test.each([
    { how: "in plain text", to: bare, options: {} },
    { how: "by TLS", to: us, options: { clusters: { us1: access } } },
  ])("is called at the one that was looked at, $how", async ({ to, options }) => {
    tell("127.0.0.1");
    expect(await lookedUp(plain, [named(urlOf(to))], options)).toBe("us");
    expect(told).toEqual(["127.0.0.1"]);
  });

  test("is what TLS asks for there, and what the certificate is compared with", async () => {
    const there = await witness(nodeOf("us1"));
    tell("127.0.0.1");
    await lookedUp(plain, [named(there.url)], { clusters: { us1: access } });
    there.close();
    expect(there.shown).toEqual(expect.arrayContaining(["a program"]));
    expect(new Set(there.names)).toEqual(new Set(["us1.test"]));
  });

  test("and has none, is not called", async () => {
    vi.spyOn(dns.promises, "lookup").mockRejectedValueOnce(new Error("ENOTFOUND"));
    expect(await lookedUp(plain, [named(urlOf(bare))], {})).toBe("cluster us1: us1.test has no address");
  });
});
