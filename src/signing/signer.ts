/** Signs and verifies bytes with the key of a cluster (docs/design/summaries.md, Keys). */
import { type Ed25519PrivateKey, type Ed25519PublicKey, sha256Hex } from "../lib/crypto.ts";

/**
 * The purpose of a signature. The purpose is part of the signed bytes, so that, for example, the signature of a heartbeat is not valid for a summary.
 */
export const CONTEXT = {
  SUMMARY: "waymark.summary.v1",
  BEACON: "waymark.beacon.v1",
  KEY: "waymark.key.v1",
  /** The signature is never published. This signature is only used to compute a number (`opaqueTag`). */
  TAG: "waymark.tag.v1",
  /** The holder of a key permits a cluster to announce the key. */
  KEY_HOLDER: "waymark.key-holder.v1",
} as const;
export type SignatureContext = (typeof CONTEXT)[keyof typeof CONTEXT];

/** Number of hexadecimal digits in a key ID. */
const KEY_ID_DIGITS = 16;
const TAG_DIGITS = 16;
const utf8 = new TextEncoder();

/** The original bytes, and a signature over them. */
export interface SignedBytes {
  readonly signed: Uint8Array;
  /** 64 bytes of Ed25519. Empty if the bytes are not signed. */
  readonly signature: Uint8Array;
}

/** A key that signs for a cluster. */
export interface ClusterSigner {
  readonly keyId: string;
  /** Returns the signature, 64 bytes. Costs about 25 µs. */
  sign(context: SignatureContext, bytes: Uint8Array): Uint8Array;
}

/** A signing key, including its secret. */
export interface SigningKey extends ClusterSigner {
  readonly publicKey: Ed25519PublicKey;
}

/** Returns the ID of a public key: the first digits of the SHA-256 of its bytes. */
export function keyIdOf(publicKey: Uint8Array): string {
  return sha256Hex(publicKey).slice(0, KEY_ID_DIGITS);
}

export function signerOf(key: Ed25519PrivateKey): SigningKey {
  const { publicKey } = key;
  return { keyId: keyIdOf(publicKey.raw), publicKey, sign: (context, bytes) => key.sign(inContext(context, bytes)) };
}

/**
 * Returns a number that represents a string without revealing it. Only the owner of the key can compute the number, so no one else can test guesses.
 * With the same key the number is always the same, because Ed25519 signatures are deterministic. It has 64 bits and is never 0. A cluster without a
 * signing key has no secret, so the numbers that it uses can be computed by anyone.
 */
export function opaqueTag(signer: ClusterSigner | undefined, text: string): bigint {
  const bytes = utf8.encode(text);
  const digits = sha256Hex(signer?.sign(CONTEXT.TAG, bytes) ?? inContext(CONTEXT.TAG, bytes)).slice(0, TAG_DIGITS);
  return BigInt(`0x${digits}`) || 1n;
}

/** Whether the key signed the bytes in this context. Costs about 70 µs. */
export function isSignedBy(publicKey: Ed25519PublicKey, context: SignatureContext, { signed, signature }: SignedBytes): boolean {
  return publicKey.verify(inContext(context, signed), signature);
}

/**
 * Returns the bytes to sign: the context, a zero byte, and the given bytes. No context contains a zero byte, so a signature made in one context is
 * not valid in another. Ed25519ctx of RFC 8032 is not used, because node:crypto does not offer it.
 */
function inContext(context: SignatureContext, bytes: Uint8Array): Uint8Array {
  const text = new Uint8Array(context.length + 1 + bytes.length);
  utf8.encodeInto(context, text);
  text.set(bytes, context.length + 1);
  return text;
}
