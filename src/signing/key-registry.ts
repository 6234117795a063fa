/**
 * The valid keys of each cluster: configured keys, and keys that these announced (docs/design/summaries.md, Keys). The result depends only on the
 * settings, the received announcements, and the given time.
 */
import { BoundedMap } from "../lib/bounded-map.ts";
import { assert } from "../lib/errors.ts";
import type { Time } from "../lib/machine.ts";
import { type ClusterKey, ClusterKeys, claimOf, type KeyBounds, type KeyClaim, type KeyRefusal } from "./cluster-keys.ts";
import { isSignedBy, keyIdOf, type SignatureContext, type SignedBytes } from "./signer.ts";

/** Maximum number of removed clusters whose changes are remembered. If an older version is requested, all clusters are considered changed. */
const MAX_CHANGED_CLUSTERS = 1024;

/** A key in the list for operators. */
export interface ListedKey {
  readonly cluster: string;
  readonly region: string;
  readonly keyId: string;
  /** 32 bytes. */
  readonly publicKey: Uint8Array;
  readonly counts: boolean;
  /** The announcement that makes the key valid. Undefined for a configured key. */
  readonly announced: Pick<KeyClaim, "signedBy" | "notBeforeWallMs" | "notAfterWallMs"> | undefined;
}

/** A period in which no key becomes valid or expires. */
interface StablePeriod {
  readonly fromWallMs: number;
  readonly untilWallMs: number;
}

interface CountedKeys extends StablePeriod {
  /** Describes the cluster's region, its valid keys and its published announcements. */
  readonly text: string;
}

export class KeyRegistry {
  readonly #bounds: KeyBounds;
  #clusters: ReadonlyMap<string, ClusterKeys> = new Map();
  /** The cluster of each configured key, by key ID. */
  #configured: ReadonlyMap<string, string> = new Map();
  /** The result of the last evaluation for each cluster. */
  readonly #counted = new Map<string, CountedKeys>();
  /** The clusters whose keys changed, each with the version of its last change, in order of these versions. */
  readonly #changedAt = new BoundedMap<string, number>(MAX_CHANGED_CLUSTERS, (_cluster, version) => {
    this.#forgotten = version;
  });
  /** Changes up to this version have been forgotten. */
  #forgotten = 0;
  #version = 0;
  /** A period in which no key becomes valid or expires. */
  #steady: StablePeriod = { fromWallMs: Number.NEGATIVE_INFINITY, untilWallMs: Number.POSITIVE_INFINITY };

  constructor(bounds: KeyBounds) {
    this.#bounds = bounds;
  }

  /** Replaces the configured keys. Each key belongs to one cluster, and all keys of a cluster have the same region (`clusterKeys`). */
  configure(keys: readonly ClusterKey[], { wallMs }: Pick<Time, "wallMs">): void {
    const owners = new Map<string, string>();
    for (const { cluster, publicKey } of keys) {
      const keyId = keyIdOf(publicKey);
      assert(!owners.has(keyId), "a key was configured twice", { cluster, keyId });
      owners.set(keyId, cluster);
    }
    this.#configured = owners;
    const byCluster = Map.groupBy(keys, ({ cluster }) => cluster);
    const before = this.#clusters;
    // The announcements of a cluster without a configured key are dropped.
    this.#clusters = new Map([...byCluster.keys()].map((cluster) => [cluster, before.get(cluster) ?? new ClusterKeys(this.#bounds)]));
    for (const [cluster, its] of this.#clusters)
      its.configure(byCluster.get(cluster) ?? [], (keyId) => (owners.get(keyId) ?? cluster) !== cluster);
    for (const [cluster, its] of this.#clusters) its.retryPending(this.#foreignTo(cluster));
    for (const cluster of new Set([...before.keys(), ...this.#clusters.keys()])) this.#look(cluster, wallMs);
    this.#noteSteady();
  }

  /** Returns the configured region of a cluster. Undefined for a cluster without a configured key. */
  regionOf(cluster: string): string | undefined {
    return this.#clusters.get(cluster)?.region;
  }

  /** The regions of all clusters with a configured key. */
  allRegions(): Iterable<string> {
    return this.#clusters.values().map(({ region }) => region);
  }

  /** Whether the cluster has a configured key. */
  hasKeys(cluster: string): boolean {
    return this.#clusters.has(cluster);
  }

  /** Whether the key is valid for the cluster at this time. */
  counts(cluster: string, keyId: string, wallMs: number): boolean {
    return this.#clusters.get(cluster)?.keyAt(keyId, wallMs) !== undefined;
  }

  /**
   * Returns the reason why the signature is not valid. Undefined if it was made with a key of that cluster that is valid at this time. Cost: about 70
   * µs for a valid key.
   */
  refusal(
    cluster: string,
    keyId: string,
    context: SignatureContext,
    signed: Uint8Array,
    signature: Uint8Array,
    wallMs: number,
  ): "unknown_key" | "bad_signature" | undefined {
    const key = this.#clusters.get(cluster)?.keyAt(keyId, wallMs);
    if (key === undefined) return "unknown_key";
    return isSignedBy(key, context, { signed, signature }) ? undefined : "bad_signature";
  }

  /**
   * Stores an announcement that is signed by a configured or announced key of its cluster. If the signer is not known yet, the result is
   * `unknown_key`. The announcement then stays pending if its cluster has a configured key.
   */
  announce({ signed, signature }: SignedBytes, { wallMs }: Pick<Time, "wallMs">): KeyRefusal | undefined {
    if (signature.length === 0) return "unsigned";
    if (signed.length > this.#bounds.maxAnnouncementBytes) return "limit";
    const claim = claimOf({ signed, signature });
    if (claim === undefined) return "bad_signature";
    const keys = this.#clusters.get(claim.cluster);
    if (keys === undefined) return "unknown_key";
    if (claim.notAfterWallMs <= wallMs) return "stale";
    const refused = keys.announce(claim, wallMs, this.#foreignTo(claim.cluster));
    if (refused !== undefined) return refused;
    this.#look(claim.cluster, wallMs);
    this.#noteSteady();
    return undefined;
  }

  /**
   * Returns the announcements to publish, for these clusters or for all. They are verified and have not expired, are encoded as received, and follow
   * the announcement of their signer.
   */
  announcements(wallMs: number, of: Iterable<string> = this.#clusters.keys()): readonly SignedBytes[] {
    return [...of]
      .flatMap((cluster) => this.#clusters.get(cluster)?.claims() ?? [])
      .filter(({ notAfterWallMs }) => notAfterWallMs > wallMs)
      .map(({ sealed }) => sealed);
  }

  /** Records the changes that result from the passing of time. Repeated or early calls have no effect. The clock may also have been set back. */
  tick({ wallMs }: Pick<Time, "wallMs">): void {
    if (isWithin(wallMs, this.#steady)) return;
    for (const [cluster, counted] of this.#counted) if (!isWithin(wallMs, counted)) this.#look(cluster, wallMs);
    this.#noteSteady();
  }

  /** The number of the last change, for `changedSince`. While this number is the same, `announcements` returns the same result. */
  version(): number {
    return this.#version;
  }

  /**
   * Returns the clusters that changed after this version, as recorded by `tick`, `announce` and `configure`: a key became valid or expired, an
   * announcement was added or expired, or the region changed. Undefined if the version is so old that every cluster may have changed.
   */
  changedSince(version: number): readonly string[] | undefined {
    if (version < this.#forgotten) return undefined;
    return [...this.#changedAt].filter(([, at]) => at > version).map(([cluster]) => cluster);
  }

  /** Lists all keys by cluster: first the configured keys, then each announced key. */
  list(wallMs: number): readonly ListedKey[] {
    return [...this.#clusters].flatMap(([cluster, keys]) => {
      const { region } = keys;
      const configured = [...keys.configured()].map(([keyId, { raw }]) => ({ keyId, publicKey: raw, counts: true, announced: undefined }));
      const announced = keys.claims().map((claim) => {
        const { keyId, publicKey } = claim;
        return { keyId, publicKey, counts: keys.countsBy(claim, wallMs), announced: claim };
      });
      return [...configured, ...announced].map((key) => ({ cluster, region, ...key }));
    });
  }

  #foreignTo(cluster: string): (keyId: string) => boolean {
    return (keyId) => {
      const owner = this.#configured.get(keyId);
      if (owner !== undefined) return owner !== cluster;
      return [...this.#clusters].some(([other, keys]) => other !== cluster && keys.hasAnnounced(keyId));
    };
  }

  /**
   * Evaluates the keys of one cluster, and the time until which the result is valid. An announcement for one cluster does not cause other clusters to
   * be evaluated.
   */
  #look(cluster: string, wallMs: number): void {
    const keys = this.#clusters.get(cluster);
    const text = keys === undefined ? undefined : countedText(keys, wallMs);
    if (this.#counted.get(cluster)?.text !== text) this.#note(cluster);
    if (keys === undefined || text === undefined) this.#counted.delete(cluster);
    else this.#counted.set(cluster, { text, ...steadyOf(keys, wallMs) });
  }

  #noteSteady(): void {
    let [fromWallMs, untilWallMs] = [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY];
    for (const counted of this.#counted.values()) {
      fromWallMs = Math.max(fromWallMs, counted.fromWallMs);
      untilWallMs = Math.min(untilWallMs, counted.untilWallMs);
    }
    this.#steady = { fromWallMs, untilWallMs };
  }

  #note(cluster: string): void {
    this.#version += 1;
    this.#changedAt.set(cluster, this.#version);
  }
}

function isWithin(wallMs: number, { fromWallMs, untilWallMs }: StablePeriod): boolean {
  return fromWallMs <= wallMs && wallMs < untilWallMs;
}

/** Returns the period around this time in which no key of the cluster becomes valid or expires. */
function steadyOf(keys: ClusterKeys, wallMs: number): StablePeriod {
  let [fromWallMs, untilWallMs] = [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY];
  for (const { notBeforeWallMs, notAfterWallMs } of keys.claims())
    for (const end of [notBeforeWallMs, notAfterWallMs]) {
      if (end <= wallMs) fromWallMs = Math.max(fromWallMs, end);
      else untilWallMs = Math.min(untilWallMs, end);
    }
  return { fromWallMs, untilWallMs };
}

/**
 * The valid keys of a cluster and its published announcements. Announcements are published even before their keys are valid here, so that other
 * clusters know the keys early.
 */
function countedText(keys: ClusterKeys, wallMs: number): string {
  const published = keys.claims().filter(({ notAfterWallMs }) => notAfterWallMs > wallMs);
  const announced = published.map(({ keyId, signedBy, notBeforeWallMs, notAfterWallMs }) =>
    [keyId, signedBy, notBeforeWallMs, notAfterWallMs].join("/"),
  );
  return [keys.region, ...[...keys.countingAt(wallMs).keys()].toSorted(), ...announced].join(" ");
}
