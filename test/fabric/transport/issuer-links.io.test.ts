/** The listener of an issuer serves newcomers under the issuers' server name only, and links accept certificates of the issuers of their cluster only. */
import { once } from "node:events";
import type { AddressInfo, Socket } from "node:net";
import { type ConnectionOptions, connect, createServer, TLSSocket } from "node:tls";
import { afterEach, expect, test } from "vitest";
import { gateOf } from "../../../src/fabric/transport/border-gate.ts";
import type { FabricTls } from "../../../src/fabric/transport/peer-identity.io.ts";
import { signCertificate } from "../../../src/lib/certificates/certificate.ts";
import { issuerKeyOf } from "../../../src/lib/certificates/revocations.ts";
import { serverNameOf } from "../../../src/lib/certificates/server-names.ts";
import { spiffeIdOf } from "../../../src/lib/certificates/spiffe.ts";
import { openTestTransport } from "../../fakes/fabric-transport.ts";
import { greetingOf } from "../../fakes/fabric-world.ts";
import { certificateOf, TestKey, TestRoot, TRUST_DOMAIN } from "../../fakes/identity.ts";
import { until } from "../../fakes/until.ts";

const HOUR_MS = 3_600_000;
const root = new TestRoot();
const ISSUER_NAME = serverNameOf("eu", "issuer");

/** The certificate of a node, which an issuer of the cluster `by` has made. It names the same cluster, or the cluster `names`. */
function tlsOf(name: string, { by = "eu", names = "", endsInMs = HOUR_MS } = {}): FabricTls & { readonly pem: string } {
  const clusterId = names || by;
  const key = new TestKey();
  const issuing = new TestKey();
  const issuer = root.issuer(`${by}-1`, by, { key: issuing });
  const facts = certificateOf({
    subject: { unit: clusterId, name },
    publicKey: key.publicKey,
    uri: spiffeIdOf({ trustDomain: TRUST_DOMAIN, clusterId, role: "node", name }),
    notAfterWallMs: Date.now() + endsInMs,
  });
  const cert =
    signCertificate(facts, {
      subject: { unit: by, name: `${by}-1`, serial: issuerKeyOf(issuing.signing.publicKey) },
      key: issuing.signing,
    }) + issuer.facts.certificate;
  return { cert: Buffer.from(cert), key: Buffer.from(key.pem), clientCa: Buffer.from(root.certificate), pem: key.pem };
}

type Machine = Awaited<ReturnType<typeof openTestTransport>>;
const opened: Machine[] = [];
afterEach(async () => {
  for (const { transport } of opened.splice(0)) await transport.stop(0);
});

async function open(tls: FabricTls): Promise<Machine> {
  const machine = await openTestTransport({ tls });
  opened.push(machine);
  return machine;
}

/** An issuer, and the connections that its join endpoint got. */
async function openIssuer() {
  const newcomers: Socket[] = [];
  const joinEndpoint = {
    serverName: ISSUER_NAME,
    accept: (socket: Socket) => void newcomers.push(socket.on("error", () => {})),
    drain: () => {},
    stop: () => {
      for (const socket of newcomers) socket.destroy();
    },
  };
  const machine = await openTestTransport({ tls: tlsOf("eu-1"), joinEndpoint });
  opened.push(machine);
  return { machine, newcomers };
}

/** Connects, and waits until the join endpoint got the connection or the listener refused it. Returns the refusal, or `newcomer`. */
async function arrived({ transport, refusals }: Machine, newcomers: readonly Socket[], options: ConnectionOptions): Promise<string> {
  const [accepted, refused] = [newcomers.length, refusals.length];
  const socket = connect({ host: "127.0.0.1", port: transport.port, rejectUnauthorized: false, ALPNProtocols: ["h2"], ...options });
  socket.on("error", () => {});
  await until("the connection is served or refused", () => newcomers.length > accepted || refusals.length > refused);
  socket.destroy();
  return newcomers.length > accepted ? "newcomer" : (refusals.at(-1) ?? "");
}

test("a client without a certificate is served under the issuers' server name, and under no other name", async () => {
  const { machine, newcomers } = await openIssuer();
  expect(await arrived(machine, newcomers, { servername: ISSUER_NAME })).toBe("newcomer");
  for (const servername of [undefined, "localhost", gateOf("eu"), serverNameOf("us", "issuer"), `a.${ISSUER_NAME}`])
    expect(await arrived(machine, newcomers, servername === undefined ? {} : { servername })).toMatch(
      /^presented no certificate signed by the expected CA$|fabric.borders does not name that cluster$/,
    );
  expect(newcomers.length).toBe(1);
  expect(machine.incoming()).toEqual([]);
});

test("a program whose certificate has ended can renew it, and cannot link", async () => {
  const { machine, newcomers } = await openIssuer();
  const { cert, pem } = tlsOf("eu-2", { endsInMs: -1000 });
  const shown = { cert: Buffer.from(cert), key: pem };
  expect(await arrived(machine, newcomers, { ...shown, servername: ISSUER_NAME })).toBe("newcomer");
  const [socket] = newcomers;
  expect(socket instanceof TLSSocket && socket.authorized).toBe(false);
  expect(await arrived(machine, newcomers, shown)).toBe("presented no certificate signed by the expected CA");
});

test("a node that is no issuer refuses clients without a certificate in the handshake", async () => {
  const machine = await open(tlsOf("eu-2"));
  for (const servername of [ISSUER_NAME, "localhost"]) expect(await arrived(machine, [], { servername })).toMatch(/^TLS handshake/);
});

/** Opens a link. Returns the node and the cluster that the other side has seen, or why it refused the link. */
async function linked(from: Machine, to: Machine): Promise<string> {
  from.greeting = { kind: "hello", hello: greetingOf("x") };
  from.transport.openLink(-2, to.transport.address, undefined);
  await until("the link is open or refused", () => to.incoming().length > 0 || to.refusals.length > 0 || from.unopened.has(-2));
  const [link] = to.incoming();
  const { nodeId, clusterId } = link?.proof.certificate ?? {};
  return link === undefined ? (to.refusals.at(-1) ?? from.unopened.get(-2) ?? "") : `${nodeId} of ${clusterId}`;
}

test.each([
  { what: "an issuer of its own cluster", choices: {}, want: "eu-2 of eu" },
  { what: "an issuer of its own cluster, in another cluster", choices: { by: "us" }, want: "eu-2 of us" },
  {
    what: "an issuer of another cluster",
    choices: { by: "us", names: "eu" },
    want: "its certificate names the cluster eu, but an issuer of us made it",
  },
])("a node whose certificate is from $what comes as $want", async ({ choices, want }) => {
  const { machine } = await openIssuer();
  expect(await linked(await open(tlsOf("eu-2", choices)), machine)).toBe(want);
});

test("a node does not link to a node whose certificate is from an issuer of another cluster", async () => {
  const from = await open(tlsOf("eu-2"));
  const to = await open(tlsOf("eu-3", { by: "us", names: "eu" }));
  from.transport.openLink(-2, to.transport.address, undefined);
  await until("the link is refused", () => from.unopened.has(-2));
  expect(from.unopened.get(-2)).toMatch(/its certificate names the cluster eu, but an issuer of us made it/);
});

test("listeners refuse TLS 1.2, with and without a join endpoint", async () => {
  const { machine, newcomers } = await openIssuer();
  const member = await open(tlsOf("eu-2"));
  const { cert, pem } = tlsOf("eu-3");
  const shown = { cert: Buffer.from(cert), key: pem, maxVersion: "TLSv1.2" } as const;
  expect(await arrived(machine, newcomers, shown)).toMatch(/^TLS handshake: .*unsupported protocol/i);
  expect(await arrived(machine, newcomers, { maxVersion: "TLSv1.2", servername: ISSUER_NAME })).toMatch(/^TLS handshake/);
  expect(await arrived(member, [], shown)).toMatch(/^TLS handshake/);
});

test("a node does not link to a listener that has only TLS 1.2", async () => {
  const { cert, pem } = tlsOf("eu-3");
  const server = createServer({ cert: Buffer.from(cert), key: pem, maxVersion: "TLSv1.2", ALPNProtocols: ["h2"] });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  try {
    const from = await open(tlsOf("eu-2"));
    from.transport.openLink(-2, `127.0.0.1:${(server.address() as AddressInfo).port}`, undefined);
    await until("the link is refused", () => from.unopened.has(-2));
    expect(from.unopened.get(-2)).toMatch(/protocol version|unsupported protocol/);
  } finally {
    server.close();
  }
});
