/** Hashes and signatures. This is the only pure file that may import node:crypto, because its results depend only on the arguments. */
import { createHmac, createPrivateKey, createPublicKey, hash, type KeyObject, sign, timingSafeEqual, verify } from "node:crypto";
import { assert } from "./errors.ts";
import type { Hash64 } from "./hash64.ts";

/** SHA-256 of UTF-8 text or bytes. */
export function sha256(data: string | Uint8Array): Uint8Array {
  return hash("sha256", data, "buffer");
}

/** SHA-256 of UTF-8 text or bytes, in lower-case hexadecimal digits. */
export function sha256Hex(data: string | Uint8Array): string {
  return hash("sha256", data, "hex");
}

/**
 * First 8 bytes of SHA-256 of UTF-8 text or bytes, big-endian, as two unsigned halves, because arithmetic with such halves is cheaper than with
 * bigints. Costs about 0.5 µs. Node creates a hexadecimal text faster than a buffer.
 */
export function sha256Halves(data: string | Uint8Array): Hash64 {
  const digits = sha256Hex(data);
  return { high: Number.parseInt(digits.slice(0, 8), 16), low: Number.parseInt(digits.slice(8, 16), 16) };
}

/** Whether the bytes are equal. The time depends on the position of the first difference, so this function must not be used for secrets. */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

/** Whether two secrets are equal, in time that does not depend on the position of the first difference. */
export function equalSecrets(a: string | Uint8Array, b: string | Uint8Array): boolean {
  return timingSafeEqual(sha256(a), sha256(b));
}

export type HmacAlgorithm = "hmac-sha256" | "hmac-sha384" | "hmac-sha512";

/** The HMAC of the parts, which are concatenated. */
export function hmac(algorithm: HmacAlgorithm, secret: Uint8Array, parts: readonly Uint8Array[]): Uint8Array {
  const made = createHmac(algorithm.slice("hmac-".length), secret);
  for (const part of parts) made.update(part);
  return made.digest();
}

/** Sizes of Ed25519 (RFC 8032). */
const ED25519_BYTES = { publicKey: 32, signature: 64 } as const;

/** The DER header that precedes the 32 bytes of a public key (RFC 8410). */
const PUBLIC_KEY_PREFIX = Buffer.from("302a300506032b6570032100", "hex");

/** A public key of Ed25519, parsed once. */
export class Ed25519PublicKey {
  /** The 32 bytes of the key. */
  readonly raw: Uint8Array;
  readonly #key: KeyObject;

  /** Accepts any 32 bytes. If the bytes are not a point on the curve, the key does not verify anything. */
  constructor(raw: Uint8Array) {
    assert(raw.length === ED25519_BYTES.publicKey, "an Ed25519 public key does not have 32 bytes", { length: raw.length });
    // `slice` of a Buffer would not copy.
    this.raw = new Uint8Array(raw);
    this.#key = createPublicKey({ key: Buffer.concat([PUBLIC_KEY_PREFIX, raw]), format: "der", type: "spki" });
  }

  /**
   * Whether the key signed the bytes. Each signature has only one valid form (RFC 8032: S is below the order of the group). Costs about 70 µs.
   */
  verify(bytes: Uint8Array, signature: Uint8Array): boolean {
    return signature.length === ED25519_BYTES.signature && verify(undefined, bytes, this.#key, signature);
  }
}

/** A private key of Ed25519. It never appears in printed output. */
export class Ed25519PrivateKey {
  readonly publicKey: Ed25519PublicKey;
  readonly #key: KeyObject;

  constructor(key: KeyObject, publicKey: Ed25519PublicKey) {
    this.publicKey = publicKey;
    this.#key = key;
  }

  /** Returns the 64 bytes of the signature, which are always the same for the same input. Costs about 25 µs. */
  sign(bytes: Uint8Array): Uint8Array {
    return new Uint8Array(sign(undefined, bytes, this.#key));
  }
}

/** The key from a PEM text (PKCS#8, without a password). Undefined if the text does not contain an Ed25519 key. */
export function ed25519PrivateKey(pem: string): Ed25519PrivateKey | undefined {
  try {
    const key = createPrivateKey(pem);
    if (key.asymmetricKeyType !== "ed25519") return undefined;
    const raw = decodeBase64url(key.export({ format: "jwk" }).x ?? "");
    return raw && new Ed25519PrivateKey(key, new Ed25519PublicKey(raw));
  } catch {
    // OpenSSL's message does not help an operator. The caller names the file and its expected content instead.
    return undefined;
  }
}

/** The DER header that precedes the 65 bytes of an uncompressed point on the curve P-256 (RFC 5480). */
const P256_PREFIX = Buffer.from("3059301306072a8648ce3d020106082a8648ce3d030107034200", "hex");
const P256_BYTES = P256_PREFIX.length + 65;

/** A private key on the curve P-256 (FIPS 186-5). It never appears in printed output. */
export class P256PrivateKey {
  /** SubjectPublicKeyInfo in DER. */
  readonly publicKey: Uint8Array;
  readonly #key: KeyObject;

  constructor(key: KeyObject) {
    this.#key = key;
    this.publicKey = new Uint8Array(createPublicKey(key).export({ format: "der", type: "spki" }));
  }

  /** Returns a signature with SHA-256 in DER. It differs each time. */
  sign(bytes: Uint8Array): Uint8Array {
    return new Uint8Array(sign("sha256", bytes, this.#key));
  }
}

/** The key from a PEM text (without a password). Undefined if the text does not contain a key on the curve P-256. */
export function p256PrivateKey(pem: string): P256PrivateKey | undefined {
  try {
    const key = new P256PrivateKey(createPrivateKey(pem));
    return isP256PublicKey(key.publicKey) ? key : undefined;
  } catch {
    return undefined;
  }
}

/** Whether the bytes are the DER of a public key on the curve P-256. */
export function isP256PublicKey(der: Uint8Array): boolean {
  if (der.length !== P256_BYTES || !equalBytes(der.subarray(0, P256_PREFIX.length), P256_PREFIX)) return false;
  try {
    // Throws if the point is not on the curve.
    return createPublicKey({ key: Buffer.from(der), format: "der", type: "spki" }).type === "public";
  } catch {
    return false;
  }
}

/** Whether the owner of a public key has signed the bytes. `isP256PublicKey` must hold for the key. */
export function isSignedBy(publicKey: Uint8Array, bytes: Uint8Array, signature: Uint8Array): boolean {
  return verify("sha256", bytes, createPublicKey({ key: Buffer.from(publicKey), format: "der", type: "spki" }), signature);
}

// Base64 with the URL alphabet and without padding (RFC 4648 §5).

/**
 * Returns the decoded bytes. Returns undefined if encoding them does not produce the same text, because the text uses another alphabet, padding, or
 * spare bits.
 */
export function decodeBase64url(text: string): Uint8Array | undefined {
  const bytes = Buffer.from(text, "base64url");
  return bytes.toString("base64url") === text ? bytes : undefined;
}
