/** Throw-away certificates for TLS tests, without a tool: X.509 v3 in DER, ECDSA P-256, valid for loopback for a day. */
import { generateKeyPairSync, type KeyObject, randomBytes, sign } from "node:crypto";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const DAY_MS = 86_400_000;

interface Authority {
  /** PEM of the certificate that signs the others. */
  readonly cert: string;
  /** A certificate signed by it, and its key, as PEM. */
  issue(commonName: string, options?: LeafOptions): { readonly cert: string; readonly key: string };
}

export interface LeafOptions {
  /** URI among the alternative names, such as a SPIFFE id. */
  readonly uris?: readonly string[];
  /** Default: the subject if it is a name with a dot, otherwise localhost. */
  readonly dnsNames?: readonly string[];
  /** From now; a day unless given, negative for one that has expired. */
  readonly endsInMs?: number;
}

/** A new certificate authority, called `issuer`. */
export function newAuthority(issuer = "waymark test authority"): Authority {
  const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  return {
    cert: certificate({ issuer, subject: issuer, publicKey, signer: privateKey, isAuthority: true }),
    issue: (subject, options) => {
      const pair = generateKeyPairSync("ec", { namedCurve: "P-256" });
      const cert = certificate({ issuer, subject, publicKey: pair.publicKey, signer: privateKey, isAuthority: false, ...options });
      return { cert, key: String(pair.privateKey.export({ type: "pkcs8", format: "pem" })) };
    },
  };
}

/** Certificate, key and authority of a server as files, and the authority to make clients with. */
export function serverFiles(): {
  readonly certFile: string;
  readonly keyFile: string;
  readonly caFile: string;
  readonly authority: Authority;
} {
  const directory = mkdtempSync(join(tmpdir(), "waymark-tls-"));
  const authority = newAuthority();
  const { cert, key } = authority.issue("localhost");
  const write = (name: string, text: string) => {
    const path = join(directory, name);
    writeFileSync(path, text);
    return path;
  };
  return { certFile: write("cert.pem", cert), keyFile: write("key.pem", key), caFile: write("ca.pem", authority.cert), authority };
}

interface Request extends LeafOptions {
  readonly issuer: string;
  readonly subject: string;
  readonly publicKey: KeyObject;
  readonly signer: KeyObject;
  readonly isAuthority: boolean;
}

function certificate({ issuer, subject, publicKey, signer, isAuthority, endsInMs = DAY_MS, ...names }: Request): string {
  const algorithm = sequence(oid("2a8648ce3d040302")); // ecdsa-with-SHA256
  const now = Date.now();
  const body = sequence(
    tagged(0xa0, integer(Buffer.of(2))), // v3
    integer(Buffer.concat([Buffer.of(1), randomBytes(15)])),
    algorithm,
    distinguishedName(issuer),
    sequence(utcTime(now - DAY_MS), utcTime(now + endsInMs)),
    distinguishedName(subject),
    publicKey.export({ type: "spki", format: "der" }),
    tagged(0xa3, sequence(isAuthority ? BASIC_CONSTRAINTS_CA : alternativeNames(subject, names))),
  );
  const signature = sign("sha256", body, signer);
  const der = sequence(body, algorithm, tagged(0x03, Buffer.of(0), signature));
  const lines = der.toString("base64").match(/.{1,64}/g) ?? [];
  return `-----BEGIN CERTIFICATE-----\n${lines.join("\n")}\n-----END CERTIFICATE-----\n`;
}

function tagged(tag: number, ...parts: readonly Uint8Array[]): Buffer {
  const content = Buffer.concat(parts);
  const { length } = content;
  const head = length < 128 ? [tag, length] : length < 256 ? [tag, 0x81, length] : [tag, 0x82, length >> 8, length & 255];
  return Buffer.concat([Buffer.from(head), content]);
}

function sequence(...parts: readonly Uint8Array[]): Buffer {
  return tagged(0x30, ...parts);
}

function integer(bytes: Uint8Array): Buffer {
  return tagged(0x02, bytes);
}

function oid(hex: string): Buffer {
  return tagged(0x06, Buffer.from(hex, "hex"));
}

function distinguishedName(commonName: string): Buffer {
  return sequence(tagged(0x31, sequence(oid("550403"), tagged(0x0c, Buffer.from(commonName)))));
}

function utcTime(wallMs: number): Buffer {
  const text = new Date(wallMs).toISOString().replaceAll(/[-:T]/g, "").slice(2, 14);
  return tagged(0x17, Buffer.from(`${text}Z`));
}

const BASIC_CONSTRAINTS_CA = sequence(oid("551d13"), tagged(0x01, Buffer.of(255)), tagged(0x04, sequence(tagged(0x01, Buffer.of(255)))));

/** Includes 127.0.0.1, so that each certificate is also valid for servers. */
function alternativeNames(subject: string, { uris = [], dnsNames = [subject.includes(".") ? subject : "localhost"] }: LeafOptions): Buffer {
  const names = [
    ...dnsNames.map((name) => tagged(0x82, Buffer.from(name))),
    tagged(0x87, Buffer.of(127, 0, 0, 1)),
    ...uris.map((uri) => tagged(0x86, Buffer.from(uri))),
  ];
  return sequence(oid("551d11"), tagged(0x04, sequence(...names)));
}
