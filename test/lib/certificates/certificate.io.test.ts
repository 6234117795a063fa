/** Certificates as openssl, `X509Certificate` and TLS of Node read them. */
import { execFileSync } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect, createServer, type TLSSocket } from "node:tls";
import { afterAll, expect, test } from "vitest";
import { signCertificate } from "../../../src/lib/certificates/certificate.ts";
import { issuerKeyOf } from "../../../src/lib/certificates/revocations.ts";
import { spiffeIdOf } from "../../../src/lib/certificates/spiffe.ts";
import { certificateOf, TestKey, TestRoot, TRUST_DOMAIN } from "../../fakes/identity.ts";

const folder = mkdtempSync(join(tmpdir(), "waymark-certificates-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const root = new TestRoot();
const issuerKey = new TestKey();
const issuer = root.issuer("eu-1", "eu", { key: issuerKey });
const intermediate = issuer.facts.certificate;

/** A leaf for `localhost`, and its key. */
function leaf(name: string) {
  const key = new TestKey();
  const madeWallMs = Math.floor(Date.now() / 1000) * 1000;
  const expiresWallMs = madeWallMs + 3_600_000;
  const chain = issuer.certify({ role: "node", name, publicKey: key.publicKey, dnsNames: ["localhost"], madeWallMs, expiresWallMs });
  return { chain, key, madeWallMs, expiresWallMs };
}

/** Verifies the first certificate of `pem`. Returns the answer of openssl. */
function verified(pem: string, untrusted: readonly string[], trusted = root.certificate): string {
  const file = (name: string, text: string) => {
    const path = join(folder, name);
    writeFileSync(path, text);
    return path;
  };
  const between = untrusted.length === 0 ? [] : ["-untrusted", file("untrusted.pem", untrusted.join(""))];
  const args = ["verify", "-x509_strict", "-CAfile", file("trusted.pem", trusted), ...between, file("verified.pem", pem)];
  try {
    return execFileSync("openssl", args, { encoding: "utf8", stdio: "pipe" });
  } catch (error) {
    return error instanceof Error ? `${error.message} ${String(Reflect.get(error, "stderr"))}` : String(error);
  }
}

test("a root, an intermediate and a leaf satisfy the strict rules of openssl", () => {
  const { chain } = leaf("eu-2");
  expect(verified(root.certificate, [])).toMatch(/: OK\n$/);
  expect(verified(intermediate, [])).toMatch(/: OK\n$/);
  expect(verified(chain, [intermediate])).toMatch(/: OK\n$/);
  expect(verified(chain, [])).toMatch(/unable to get local issuer certificate/);
  expect(verified(chain, [intermediate], new TestRoot().certificate)).not.toMatch(/: OK\n$/);
});

test("a leaf has the names, the times and the issuer that it was made with", () => {
  const { chain, key, madeWallMs, expiresWallMs } = leaf("eu-2");
  const read = new X509Certificate(chain);
  const uri = spiffeIdOf({ trustDomain: TRUST_DOMAIN, clusterId: "eu", role: "node", name: "eu-2" });
  expect(read).toMatchObject({
    subject: "O=Waymark\nOU=eu\nCN=eu-2",
    issuer: expect.stringMatching(/^O=Waymark\nOU=eu\nCN=eu-1/) as string,
    subjectAltName: `URI:${uri}, DNS:localhost`,
    ca: false,
    keyUsage: ["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"],
  });
  // A leaf starts earlier by 5 min, for programs whose clocks are late.
  expect([read.validFromDate.getTime(), read.validToDate.getTime()]).toEqual([madeWallMs - 300_000, expiresWallMs]);
  expect(read.publicKey.export({ format: "der", type: "spki" })).toEqual(Buffer.from(key.publicKey));
  expect(read.verify(new X509Certificate(intermediate).publicKey)).toBe(true);
  expect(chain.endsWith(intermediate)).toBe(true);
});

test("an authority says that it is one, and names its trust domain", () => {
  const [own, issuing] = [new X509Certificate(root.certificate), new X509Certificate(intermediate)];
  expect(own).toMatchObject({
    ca: true,
    subject: "O=Waymark\nCN=root",
    issuer: "O=Waymark\nCN=root",
    subjectAltName: `URI:spiffe://${TRUST_DOMAIN}`,
  });
  expect(issuing).toMatchObject({
    ca: true,
    subject: expect.stringMatching(/^O=Waymark\nOU=eu\nCN=eu-1/) as string,
    issuer: "O=Waymark\nCN=root",
  });
  expect([own.verify(own.publicKey), issuing.verify(own.publicKey), issuing.checkIssued(own)]).toEqual([true, true, true]);
});

test("certificates that end after 2049 are valid too", () => {
  const notAfterWallMs = Date.parse("2062-01-02T03:04:05Z");
  const far = root.sign({ kind: "intermediate", subject: { unit: "eu", name: "far" }, publicKey: issuerKey.publicKey, notAfterWallMs });
  expect(new X509Certificate(far).validToDate.getTime()).toBe(notAfterWallMs);
  expect(verified(far, [])).toMatch(/: OK\n$/);
});

test("an intermediate cannot make another authority that counts", () => {
  const below = new TestKey();
  const subject = { unit: "us", name: "us-1" };
  const by = { subject: { unit: "eu", name: "eu-1", serial: issuerKeyOf(issuerKey.publicKey) }, key: issuerKey.signing };
  const second = signCertificate(certificateOf({ kind: "intermediate", subject, publicKey: below.publicKey }), by);
  const facts = certificateOf({ subject: { unit: "us", name: "us-2" }, publicKey: new TestKey().publicKey });
  const made = signCertificate(facts, { subject, key: below.signing });
  expect(verified(made, [second, intermediate])).toMatch(/path length constraint exceeded/);
});

test("a leaf cannot make a certificate that counts", () => {
  const { chain, key } = leaf("eu-2");
  const facts = certificateOf({ subject: { unit: "eu", name: "eu-3" }, publicKey: new TestKey().publicKey });
  const made = signCertificate(facts, { subject: { unit: "eu", name: "eu-2" }, key: key.signing });
  expect(verified(made, [chain, intermediate])).toMatch(/invalid CA certificate/);
});

test("a server and a client with such certificates accept each other with TLS 1.3", async () => {
  const [server, client] = [leaf("eu-2"), leaf("eu-3")];
  const shared = { ca: root.certificate, minVersion: "TLSv1.3" } as const;
  const listener = createServer({ ...shared, cert: server.chain, key: server.key.pem, requestCert: true, rejectUnauthorized: true });
  listener.listen(0, "127.0.0.1");
  await once(listener, "listening");
  const { port } = listener.address() as AddressInfo;
  const accepted = once(listener, "secureConnection") as Promise<[TLSSocket]>;
  const socket = connect({ ...shared, port, host: "127.0.0.1", servername: "localhost", cert: client.chain, key: client.key.pem });
  try {
    const [[there]] = await Promise.all([accepted, once(socket, "secureConnect")]);
    expect([socket.authorized, there.authorized, socket.getProtocol()]).toEqual([true, true, "TLSv1.3"]);
    expect(there.getPeerX509Certificate()?.subject).toBe("O=Waymark\nOU=eu\nCN=eu-3");
    expect(socket.getPeerX509Certificate()?.subject).toBe("O=Waymark\nOU=eu\nCN=eu-2");
  } finally {
    socket.destroy();
    listener.close();
  }
});
