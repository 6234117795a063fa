/**
 * Which keys count, and for which cluster: those that the settings name, and those that were announced under them (docs/design/summaries.md, Keys). It
 * decides alone by the settings, the announcements that it was shown, and the time that it is asked about.
 */
import { BoundedMap } from "../lib/bounded-map.ts";
import { assert } from "../lib/errors.ts";
import type { Time } from "../lib/machine.ts";
import { type ClusterKey, ClusterKeys, claimOf, type KeyBounds, type KeyClaim, type KeyRefusal } from "./cluster-keys.ts";
import { isSignedBy, keyIdOf, type SignatureContext, type SignedBytes } from "./signer.ts";

/** Changes of removed clusters that are remembered; before them, everything may have changed. */
const MAX_CHANGED_CLUSTERS = 1024;

/** A key as people see it. */
export interface ListedKey {
  readonly cluster: string;
  readonly region: string;
  readonly keyId: string;
  /** 32 bytes. */
  readonly publicKey: Uint8Array;
  readonly counts: boolean;
  /** The announcement that makes it count. Undefined for a key of the settings. */
  readonly announced: Pick<KeyClaim, "signedBy" | "notBeforeWallMs" | "notAfterWallMs"> | undefined;
}

/** Between these times no key begins or ends. */
interface StablePeriod {
  readonly fromWallMs: number;
  readonly untilWallMs: number;
}

interface CountedKeys extends StablePeriod {
  /** Its region, the keys that count and what is told of them. */
  readonly text: string;
}

export class KeyRegistry {
  readonly #bounds: KeyBounds;
  #clusters: ReadonlyMap<string, ClusterKeys> = new Map();
  /** Of each key id that the settings name, its cluster. */
  #configured: ReadonlyMap<string, string> = new Map();
  /** Of each cluster what was found when it was looked at last. */
  readonly #counted = new Map<string, CountedKeys>();
  /** The clusters whose keys changed, each with the version of its last change; the oldest change first. */
  readonly #changedAt = new BoundedMap<string, number>(MAX_CHANGED_CLUSTERS, (_cluster, version) => {
    this.#forgotten = version;
  });
  /** Changes up to this version are forgotten. */
  #forgotten = 0;
  #version = 0;
  /** Between these times no key begins or ends. */
  #steady: StablePeriod = { fromWallMs: Number.NEGATIVE_INFINITY, untilWallMs: Number.POSITIVE_INFINITY };

  constructor(bounds: KeyBounds) {
    this.#bounds = bounds;
  }

  /** Takes the keys of the settings, in place of those before. Each key is of one cluster, and the keys of a cluster name one region (`clusterKeys`). */
  configure(keys: readonly ClusterKey[], { wallMs }: Pick<Time, "wallMs">): void {
    const owners = new Map<string, string>();
    for (const { cluster, publicKey } of keys) {
      const keyId = keyIdOf(publicKey);
      assert(!owners.has(keyId), "a key is configured twice", { cluster, keyId });
      owners.set(keyId, cluster);
    }
    this.#configured = owners;
    const byCluster = Map.groupBy(keys, ({ cluster }) => cluster);
    const before = this.#clusters;
    // What a cluster without a key announced is forgotten.
    this.#clusters = new Map([...byCluster.keys()].map((cluster) => [cluster, before.get(cluster) ?? new ClusterKeys(this.#bounds)]));
    for (const [cluster, its] of this.#clusters)
      its.configure(byCluster.get(cluster) ?? [], (keyId) => (owners.get(keyId) ?? cluster) !== cluster);
    for (const [cluster, its] of this.#clusters) its.rouse(this.#foreignTo(cluster));
    for (const cluster of new Set([...before.keys(), ...this.#clusters.keys()])) this.#look(cluster, wallMs);
    this.#noteSteady();
  }

  /** The region of a cluster, as the settings have it. Undefined for a cluster without a key there. */
  regionOf(cluster: string): string | undefined {
    return this.#clusters.get(cluster)?.region;
  }

  /** The regions of all clusters with a key in the settings. */
  allRegions(): Iterable<string> {
    return this.#clusters.values().map(({ region }) => region);
  }

  /** Whether the settings name a key of the cluster. */
  hasKeys(cluster: string): boolean {
    return this.#clusters.has(cluster);
  }

  /** Whether the key is one of the cluster that counts at this time. */
  counts(cluster: string, keyId: string, wallMs: number): boolean {
    return this.#clusters.get(cluster)?.keyAt(keyId, wallMs) !== undefined;
  }

  /** Why the signature does not count. Undefined: it is by a key of that cluster that counts at this time. Cost: some 70 µs for a key that counts. */
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
   * Keeps an announcement whose signature is by a key of its cluster, which the settings name or which was announced itself. One whose signer is not known
   * yet is `unknown_key`, and waits for that signer if the settings name its cluster.
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

  /** What is to be told to others of these clusters, or of all: the announcements that are verified and not over, as they came, each behind that of its signer. */
  announcements(wallMs: number, of: Iterable<string> = this.#clusters.keys()): readonly SignedBytes[] {
    return [...of]
      .flatMap((cluster) => this.#clusters.get(cluster)?.claims() ?? [])
      .filter(({ notAfterWallMs }) => notAfterWallMs > wallMs)
      .map(({ sealed }) => sealed);
  }

  /** Notes what changed with time. Twice, or too early, it changes nothing. The clock may have been set back. */
  tick({ wallMs }: Pick<Time, "wallMs">): void {
    if (isWithin(wallMs, this.#steady)) return;
    for (const [cluster, counted] of this.#counted) if (!isWithin(wallMs, counted)) this.#look(cluster, wallMs);
    this.#noteSteady();
  }

  /** The number of the last change, for `changedSince`. While it is the same, `announcements` are the same too. */
  version(): number {
    return this.#version;
  }

  /**
   * The clusters of which a key began or ceased to count or to be told after this version, or whose region changed, as `tick`, `announce` and `configure`
   * noted it.
   * Undefined when it is so long ago that it may be any.
   */
  changedSince(version: number): readonly string[] | undefined {
    if (version < this.#forgotten) return undefined;
    return [...this.#changedAt].filter(([, at]) => at > version).map(([cluster]) => cluster);
  }

  /** All keys, by cluster: those of the settings first, then each announcement. */
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

  /** Notes what counts of a cluster, and until when. What one cluster announces costs no look at the others. */
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

/** Around this time, between which times no key of the cluster begins or ends. */
function steadyOf(keys: ClusterKeys, wallMs: number): StablePeriod {
  let [fromWallMs, untilWallMs] = [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY];
  for (const { notBeforeWallMs, notAfterWallMs } of keys.claims())
    for (const end of [notBeforeWallMs, notAfterWallMs]) {
      if (end <= wallMs) fromWallMs = Math.max(fromWallMs, end);
      else untilWallMs = Math.min(untilWallMs, end);
    }
  return { fromWallMs, untilWallMs };
}

/** What counts of a cluster, and what is told of it: keys that others should know before they count here are told too. */
function countedText(keys: ClusterKeys, wallMs: number): string {
  const told = keys.claims().filter(({ notAfterWallMs }) => notAfterWallMs > wallMs);
  const announced = told.map(({ keyId, signedBy, notBeforeWallMs, notAfterWallMs }) =>
    [keyId, signedBy, notBeforeWallMs, notAfterWallMs].join("/"),
  );
  return [keys.region, ...[...keys.countingAt(wallMs).keys()].toSorted(), ...announced].join(" ");
}
