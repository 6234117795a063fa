/** The keys of one cluster: configured keys, and keys that other keys of the cluster announced (docs/design/summaries.md, Keys). */
import { Ed25519PublicKey, equalBytes } from "../lib/crypto.ts";
import { type KeyAnnouncement, readAnnouncement } from "./codec.ts";
import { isSoundPublicKey } from "./public-key.ts";
import { CONTEXT, isSignedBy, keyIdOf, type SignedBytes } from "./signer.ts";

/** A configured public key of a cluster. */
export interface ClusterKey {
  readonly cluster: string;
  /** Region of the cluster, which is the same for all of the cluster's keys. */
  readonly region: string;
  /** 32 bytes. */
  readonly publicKey: Uint8Array;
}

/** The reason why this node does not accept an announcement. */
export type KeyRefusal = "unsigned" | "unknown_key" | "bad_signature" | "stale" | "conflict" | "limit";

export interface KeyBounds {
  /** Maximum number of verified announcements per cluster. */
  readonly maxAnnounced: number;
  /**
   * Maximum number of pending announcements per cluster. Pending announcements are not verified, and may become valid, for example when their signer
   * becomes known.
   */
  readonly maxWaiting: number;
  /** Maximum number of announcements between a key and a configured key. */
  readonly maxDepth: number;
  readonly maxAnnouncementBytes: number;
}

export const KEY_BOUNDS: KeyBounds = { maxAnnounced: 16, maxWaiting: 8, maxDepth: 4, maxAnnouncementBytes: 1024 };

/** An announcement, with its original bytes. */
export interface KeyClaim extends KeyAnnouncement {
  readonly sealed: SignedBytes;
}

/** A claim whose signature is valid. */
interface VerifiedClaim extends KeyClaim {
  /** The announced key, which is parsed only once. */
  readonly key: Ed25519PublicKey;
}

/** A key that may be valid, and the number of announcements between this key and a configured key. */
interface TrustedKey {
  readonly key: Ed25519PublicKey;
  readonly depth: number;
}

/** Whether a key ID belongs to another cluster. */
type IsForeign = (keyId: string) => boolean;

export class ClusterKeys {
  region = "";
  readonly #bounds: KeyBounds;
  #configured: ReadonlyMap<string, Ed25519PublicKey> = new Map();
  /** Verified claims; each one follows the claims of its signer. */
  #rooted: VerifiedClaim[] = [];
  /** Pending claims, oldest first. */
  #waiting: KeyClaim[] = [];
  /**
   * For each verified claim, the key with which its signature was verified. The key is stored because pending claims are checked again with each
   * announcement, and a signature check costs 70 µs.
   */
  readonly #verified = new WeakMap<KeyClaim, Ed25519PublicKey>();

  constructor(bounds: KeyBounds) {
    this.#bounds = bounds;
  }

  /**
   * Replaces the configured keys. If a key is no longer configured, announcements that it signed become pending again, as if they had not been
   * verified. `isForeign` returns whether a key ID is configured for another cluster.
   */
  configure(keys: readonly ClusterKey[], isForeign: IsForeign): void {
    this.region = keys[0]?.region ?? "";
    this.#configured = new Map(keys.map(({ publicKey }) => [keyIdOf(publicKey), new Ed25519PublicKey(publicKey)]));
    const before = this.#rooted;
    const waiting = this.#waiting;
    this.#rooted = [];
    this.#waiting = [];
    const lost = this.#rootedAgain(before.filter(({ keyId }) => !isForeign(keyId)));
    for (const claim of [...before.filter(({ keyId }) => isForeign(keyId)), ...lost, ...waiting]) this.#wait(claim);
  }

  /** The configured keys, by ID. */
  configured(): ReadonlyMap<string, Ed25519PublicKey> {
    return this.#configured;
  }

  /** Whether a verified announcement of this cluster announces this key. */
  hasAnnounced(keyId: string): boolean {
    return this.#rooted.some((claim) => claim.keyId === keyId);
  }

  /**
   * Stores an announcement of this cluster, or returns the reason for its rejection. An announcement that may become valid stays pending until its
   * signer is known, its key ID is free, or there is room.
   */
  announce(claim: KeyClaim, wallMs: number, isForeign: IsForeign): KeyRefusal | undefined {
    const isSame = ({ sealed }: KeyClaim) =>
      equalBytes(sealed.signed, claim.sealed.signed) && equalBytes(sealed.signature, claim.sealed.signature);
    if (this.#rooted.some(isSame)) return undefined;
    this.#waiting = this.#waiting.filter((other) => !isSame(other));
    if (this.#rooted.length >= this.#bounds.maxAnnounced)
      this.#rooted = this.#rooted.filter(({ notAfterWallMs }) => notAfterWallMs > wallMs);
    const refused = this.#root(claim, isForeign);
    if (mayWait(refused)) this.#wait(claim);
    if (refused === undefined) this.retryPending(isForeign);
    return refused;
  }

  /** Checks the pending announcements again, until their number no longer changes. */
  retryPending(isForeign: IsForeign): void {
    for (let before = -1; before !== this.#waiting.length; ) {
      before = this.#waiting.length;
      this.#waiting = this.#waiting.filter((claim) => {
        return mayWait(this.#root(claim, isForeign));
      });
    }
  }

  /** Returns the keys that are valid at this time, by ID. Configured keys come first, and every other key follows the key that announced it. */
  countingAt(wallMs: number): ReadonlyMap<string, Ed25519PublicKey> {
    const active = this.#rooted.filter((claim) => claim.notBeforeWallMs <= wallMs && wallMs < claim.notAfterWallMs);
    const known = this.#knownBy(active);
    return new Map([...known].map(([keyId, { key }]) => [keyId, key]));
  }

  keyAt(keyId: string, wallMs: number): Ed25519PublicKey | undefined {
    return this.#configured.get(keyId) ?? (this.#rooted.length === 0 ? undefined : this.countingAt(wallMs).get(keyId));
  }

  /** Verified announcements; each one follows the announcements of its signer. */
  claims(): readonly KeyClaim[] {
    return this.#rooted;
  }

  /** Whether this announcement makes its key valid at this time. */
  countsBy({ signedBy, notBeforeWallMs, notAfterWallMs }: KeyClaim, wallMs: number): boolean {
    return notBeforeWallMs <= wallMs && wallMs < notAfterWallMs && this.keyAt(signedBy, wallMs) !== undefined;
  }

  #wait(claim: KeyClaim): void {
    this.#waiting.push(claim);
    if (this.#waiting.length > this.#bounds.maxWaiting) this.#waiting.shift();
  }

  /**
   * Returns the configured keys and the keys that these announcements add, through at most `maxDepth` announcements. Announcements that form a cycle
   * add no key.
   */
  #knownBy(claims: readonly VerifiedClaim[]): ReadonlyMap<string, TrustedKey> {
    const known = new Map<string, TrustedKey>();
    for (const [keyId, key] of this.#configured) known.set(keyId, { key, depth: 0 });
    for (let depth = 1; depth <= this.#bounds.maxDepth; depth++)
      for (const { keyId, key, signedBy } of claims)
        if (!known.has(keyId) && known.get(signedBy)?.depth === depth - 1) known.set(keyId, { key, depth });
    return known;
  }

  /** Stores a claim if its signature is valid. */
  #root(claim: KeyClaim, isForeign: IsForeign): KeyRefusal | undefined {
    const known = this.#knownBy(this.#rooted);
    const signer = known.get(claim.signedBy);
    if (signer === undefined || signer.depth >= this.#bounds.maxDepth) return "unknown_key";
    if (this.#rooted.length >= this.#bounds.maxAnnounced) return "limit";
    if (!this.#isSigned(claim, signer.key)) return "bad_signature";
    if (isForeign(claim.keyId)) return "conflict";
    const key = known.get(claim.keyId)?.key ?? announcedKey(claim);
    if (key === undefined) return "bad_signature";
    // The two keys have the same ID. An attacker who creates both needs 2^32 attempts to find two keys with the same ID.
    if (!equalBytes(key.raw, claim.publicKey)) return "conflict";
    this.#rooted.push({ ...claim, key });
    return undefined;
  }

  #isSigned(claim: KeyClaim, key: Ed25519PublicKey): boolean {
    if (this.#verified.get(claim) === key) return true;
    if (!isSignedBy(key, CONTEXT.KEY, claim.sealed)) return false;
    this.#verified.set(claim, key);
    return true;
  }

  /** Stores the claims whose signer is still known, without checking signatures again. Returns the rest. */
  #rootedAgain(claims: readonly VerifiedClaim[]): readonly KeyClaim[] {
    let rest = claims;
    for (let before = -1; before !== rest.length; ) {
      before = rest.length;
      const known = this.#knownBy(this.#rooted);
      rest = rest.filter((claim) => {
        const isKnown = (known.get(claim.signedBy)?.depth ?? this.#bounds.maxDepth) < this.#bounds.maxDepth;
        if (isKnown) this.#rooted.push(claim);
        return !isKnown;
      });
    }
    return rest;
  }
}

/** Whether a rejected announcement may become valid after a later announcement, after a reload, or with time. */
function mayWait(refused: KeyRefusal | undefined): boolean {
  return refused !== undefined && refused !== "bad_signature";
}

/** Returns the announced key if it is acceptable and its holder has signed the announcement. */
function announcedKey({ publicKey, holder }: KeyClaim): Ed25519PublicKey | undefined {
  if (!isSoundPublicKey(publicKey)) return undefined;
  const key = new Ed25519PublicKey(publicKey);
  return isSignedBy(key, CONTEXT.KEY_HOLDER, holder) ? key : undefined;
}

/**
 * Decodes the claim from signed bytes. Undefined if the bytes are not an announcement. The bytes are copied, because they may be part of a frame
 * (`slice` of a Buffer copies nothing).
 */
export function claimOf({ signed, signature }: SignedBytes): KeyClaim | undefined {
  const copy = new Uint8Array(signed);
  const announcement = readAnnouncement(copy);
  return announcement && { ...announcement, sealed: { signed: copy, signature: new Uint8Array(signature) } };
}
