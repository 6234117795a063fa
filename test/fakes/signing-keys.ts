/** Signing keys of clusters, made from a number, so that tests and goldens always have the same. */
import { createHash } from "node:crypto";
import { ed25519PrivateKey } from "../../src/lib/crypto.ts";
import { type SigningKey, signerOf } from "../../src/seal/signer.ts";

/** A private key of 32 bytes, in hexadecimal digits, as PEM (RFC 8410). */
export function ed25519Pem(secret: string): string {
  const der = Buffer.from(`302e020100300506032b657004220420${secret}`, "hex");
  return `-----BEGIN PRIVATE KEY-----\n${der.toString("base64")}\n-----END PRIVATE KEY-----\n`;
}

export function signingKey(number: number): SigningKey {
  const secret = createHash("sha256").update(`signing key ${number}`).digest("hex");
  const key = ed25519PrivateKey(ed25519Pem(secret));
  if (key === undefined) throw new Error("OpenSSL does not take the key");
  return signerOf(key);
}
