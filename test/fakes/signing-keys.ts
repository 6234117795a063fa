/** Signing keys of clusters, made from a number, so that tests and goldens always have the same. */
import { createHash } from "node:crypto";
import { ed25519PrivateKey } from "../../src/lib/crypto.ts";
import type { ClusterKey } from "../../src/signing/cluster-keys.ts";
import { type NewAnnouncement, signAnnouncement } from "../../src/signing/codec.ts";
import { type SignedBytes, type SigningKey, signerOf } from "../../src/signing/signer.ts";

/** A row of the settings, parsed. */
export type KeyRow = ClusterKey;

/** What a cluster signs to announce a key. */
export function announcedKey(announcing: NewAnnouncement): SignedBytes {
  return signAnnouncement(announcing);
}

/** A private key of 32 bytes, in hexadecimal digits, as PEM (RFC 8410). */
export function ed25519Pem(secret: string): string {
  const der = Buffer.from(`302e020100300506032b657004220420${secret}`, "hex");
  return `-----BEGIN PRIVATE KEY-----\n${der.toString("base64")}\n-----END PRIVATE KEY-----\n`;
}

/** The private key of `signingKey(number)`, as PEM. */
export function signingPem(number: number): string {
  return ed25519Pem(createHash("sha256").update(`signing key ${number}`).digest("hex"));
}

export function signingKey(number: number): SigningKey {
  const key = ed25519PrivateKey(signingPem(number));
  if (key === undefined) throw new Error("OpenSSL does not take the key");
  return signerOf(key);
}
