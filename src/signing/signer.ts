/** Seals: bytes with the signature of a cluster's key (docs/design/summaries.md, Keys). */
import { type Ed25519PrivateKey, type Ed25519PublicKey, sha256Hex } from "../lib/crypto.ts";

/** What a signature is about. It is signed along, so that the signature of a beacon is none of a summary. */
export const CONTEXT = {
  SUMMARY: "waymark.summary.v1",
  BEACON: "waymark.beacon.v1",
  KEY: "waymark.key.v1",
  /** What is signed is told to nobody: only a number comes of it (`opaqueTag`). */
  TAG: "waymark.tag.v1",
  /** The holder of a key lets a cluster announce it. */
  KEY_HOLDER: "waymark.key-holder.v1",
} as const;
export type SignatureContext = (typeof CONTEXT)[keyof typeof CONTEXT];

/** Hexadecimal digits of a key id. */
const KEY_ID_DIGITS = 16;
const TAG_DIGITS = 16;
const utf8 = new TextEncoder();

/** Bytes as they were made, and a signature over them. */
export interface SignedBytes {
  readonly signed: Uint8Array;
  /** 64 bytes of Ed25519. Empty when it is not signed. */
  readonly signature: Uint8Array;
}

/** Signs as a cluster. */
export interface ClusterSigner {
  readonly keyId: string;
  /** The 64 bytes of the signature. Cost: some 25 µs. */
  sign(context: SignatureContext, bytes: Uint8Array): Uint8Array;
}

/** A key with its secret. */
export interface SigningKey extends ClusterSigner {
  readonly publicKey: Ed25519PublicKey;
}

/** The name of a public key: the first digits of the SHA-256 of its bytes. */
export function keyIdOf(publicKey: Uint8Array): string {
  return sha256Hex(publicKey).slice(0, KEY_ID_DIGITS);
}

export function signerOf(key: Ed25519PrivateKey): SigningKey {
  const { publicKey } = key;
  return { keyId: keyIdOf(publicKey.raw), publicKey, sign: (context, bytes) => key.sign(inContext(context, bytes)) };
}

/**
 * A number that stands for a text and tells nothing of it: who does not have the key cannot make it, so nobody can try what the text may be. The same for
 * the same key, because signatures of Ed25519 are. 64 bits, never 0. A cluster that signs nothing has no secret, so anybody can make its numbers.
 */
export function opaqueTag(signer: ClusterSigner | undefined, text: string): bigint {
  const bytes = utf8.encode(text);
  const digits = sha256Hex(signer?.sign(CONTEXT.TAG, bytes) ?? inContext(CONTEXT.TAG, bytes)).slice(0, TAG_DIGITS);
  return BigInt(`0x${digits}`) || 1n;
}

/** Whether the key signed the bytes in this context. Cost: some 70 µs. */
export function isSignedBy(publicKey: Ed25519PublicKey, context: SignatureContext, { signed, signature }: SignedBytes): boolean {
  return publicKey.verify(inContext(context, signed), signature);
}

/**
 * What is signed: the context, a zero byte, the bytes. No context holds a zero byte, so what was signed in one context is valid in no other. Not Ed25519ctx
 * of RFC 8032, which node:crypto does not offer.
 */
function inContext(context: SignatureContext, bytes: Uint8Array): Uint8Array {
  const text = new Uint8Array(context.length + 1 + bytes.length);
  utf8.encodeInto(context, text);
  text.set(bytes, context.length + 1);
  return text;
}
