/** The summaries of a region as a map, for tests of borders: an honest and slow `BorderSummaries`, which believes every seal of a known cluster. */
import { SCOPE } from "../../../src/catalog/entry/scope.ts";
import { type KeyText, KIND } from "../../../src/catalog/record/record.ts";
import type { BorderSummaries } from "../../../src/fabric/borders/options.ts";
import { fnv64, type Hash64, Sum64 } from "../../../src/lib/hash64.ts";
import type { Time } from "../../../src/lib/machine.ts";
import type { Digest, DigestFilter, Listed } from "../../../src/summary/held/digests.ts";
import { BUCKETS, bucketOf, contribution } from "../../../src/summary/held/digests.ts";
import type { HeldBeacon, HeldSeal, Taken, Via } from "../../../src/summary/held/options.ts";
import { beaconKey, recordKey, summaryKeyOf } from "../../../src/summary/keys.ts";
import { type Channel, MAX_HOPS, type Sealed, type SummaryRefusal } from "../../../src/summary/summary.ts";

/** What a test says of a service; its seal is this as JSON. */
interface Said {
  readonly source: string;
  readonly version: number;
  readonly namespace?: string;
  readonly name?: string;
  readonly channel?: Channel;
  readonly isWithdrawn?: boolean;
}

export type Saying = Partial<Omit<Said, "source" | "version" | "name">>;

interface Row extends HeldSeal {
  readonly sealed: Sealed;
  readonly hash: Hash64;
  receiptMs: number;
  hops: number;
}

const TEXT = { coder: new TextEncoder(), decoder: new TextDecoder() };
/** These have no tags. */
const keyHash = (key: string): Hash64 => fnv64(key);
/** About as long as a summary. */
const SIGNED_BYTES = 240;

export function sealOf(said: Said, hops = 0): Sealed {
  const signed = TEXT.coder.encode(JSON.stringify(said).padEnd(SIGNED_BYTES));
  const signature = new Uint8Array(64);
  const hash = keyHash(TEXT.decoder.decode(signed));
  new DataView(signature.buffer).setUint32(0, hash.high);
  new DataView(signature.buffer).setUint32(4, hash.low);
  return { signed, signature, hops };
}

export class HeldMap implements BorderSummaries {
  readonly rows = new Map<KeyText, Row>();
  /** Those of them that are beacons. */
  readonly #beacons = new Map<KeyText, Row>();
  /** The regions of the clusters whose keys are configured. */
  readonly #regions: ReadonlyMap<string, string>;
  readonly #cluster: string;
  /** Keys in the order of their last change; a key that changed again leaves a hole. */
  readonly #log: (KeyText | undefined)[] = [];
  readonly #places = new Map<KeyText, number>();
  #announced: readonly Sealed[] = [];
  /** Own keys of which others know more. */
  readonly exceeded = new Map<KeyText, number>();
  /** How often a summary came, by its key and version. */
  readonly copies = new Map<string, number>();
  refuse: SummaryRefusal | undefined;
  /** Only these, for want of room. */
  refuses: (said: Said) => boolean = () => false;

  constructor(cluster: string, regions: ReadonlyMap<string, string>) {
    this.#cluster = cluster;
    this.#regions = regions;
  }

  /** Sources are lost here when a test says so. */
  resumedCount = 0;

  get revision(): number {
    return this.#log.length;
  }

  /** The cluster of this node says something. */
  say(said: Omit<Said, "source">, time: Time): void {
    this.#put(sealOf({ ...said, source: this.#cluster }), time.monoMs);
  }

  beat(version: number, time: Time): void {
    this.#put(sealOf({ source: this.#cluster, version }), time.monoMs);
  }

  /** What is not gone, with its name. */
  live(): readonly { readonly source: string; readonly name: string; readonly version: number }[] {
    const live = [...this.rows.values()].filter(({ isBeacon, isWithdrawn }) => !isBeacon && !isWithdrawn);
    return live.map(({ key, source, version }) => ({ source, version, name: summaryKeyOf(key)?.serviceId ?? "" }));
  }

  changesSince(revision: number, visit: (held: HeldSeal, revision: number) => boolean): void {
    for (let at = revision; at < this.#log.length; at++) {
      const key = this.#log[at];
      const row = key === undefined ? undefined : this.rows.get(key);
      if (row !== undefined && !visit(row, at + 1)) return;
    }
  }

  find(key: KeyText): HeldSeal | undefined {
    return this.rows.get(key);
  }

  beacons({ monoMs }: Time): readonly HeldBeacon[] {
    return [...this.#beacons.values()].map((row) => ({ ...row, ageMs: monoMs - row.receiptMs }));
  }

  regionOf(source: string): string | undefined {
    return this.#regions.get(source);
  }

  /** Filters of which a node would keep sums, and how many it would have summed. */
  readonly summed = new Set<DigestFilter>();
  summedCount = 0;
  /** What was summed last of each filter, and of what. */
  readonly #digests = new WeakMap<DigestFilter, { readonly of: string; readonly digest: Digest }>();

  letGo(filter: DigestFilter): void {
    this.summed.delete(filter);
  }

  digest(filter: DigestFilter): Digest {
    if (!this.summed.has(filter)) this.summedCount += 1;
    this.summed.add(filter);
    // Tests take rows out behind the log, and add clusters, which filters look up.
    const of = `${this.revision} ${this.rows.size} ${this.#regions.size}`;
    const before = this.#digests.get(filter);
    if (before?.of === of) return before.digest;
    const digest = this.#sum(filter);
    this.#digests.set(filter, { of, digest });
    return digest;
  }

  #sum(filter: DigestFilter): Digest {
    const buckets = Array.from({ length: BUCKETS }, () => new Sum64());
    const all = new Sum64();
    const live = this.#passing(filter).filter(({ isWithdrawn }) => !isWithdrawn);
    for (const { hash, version } of live) {
      const one = contribution(hash, version);
      all.add(one);
      buckets[bucketOf(hash)]?.add(one);
    }
    return { digest: all.value, count: live.length, buckets: buckets.map(({ value }) => value) };
  }

  *list(filter: DigestFilter, buckets: ReadonlySet<number>): Generator<void, readonly Listed[]> {
    yield;
    return this.#passing(filter).flatMap(({ key, hash, version, isWithdrawn }) => {
      if (!buckets.has(bucketOf(hash))) return [];
      const number = (BigInt(hash.high) << 32n) | BigInt(hash.low);
      return [{ key, hash: number, version, isWithdrawn, order: (this.#places.get(key) ?? -1) + 1 }];
    });
  }

  take(sealed: Sealed, via: Via, time: Time): Taken {
    const { key, version } = this.#read(sealed);
    this.copies.set(`${key} ${version}`, (this.copies.get(`${key} ${version}`) ?? 0) + 1);
    return this.#take(sealed, via, time.monoMs);
  }

  takeBeacon(sealed: Sealed, via: Via, { monoMs }: Time, ageMs: number): Taken {
    return this.#take(sealed, via, monoMs - ageMs);
  }

  announce(sealed: Sealed): SummaryRefusal | undefined {
    const isKnown = this.#announced.some(({ signature }) => signature.join() === sealed.signature.join());
    if (!isKnown) this.#announced = [...this.#announced, sealed];
    return undefined;
  }

  announcements(): readonly Sealed[] {
    return this.#announced;
  }

  #passing(filter: DigestFilter): readonly Row[] {
    return [...this.rows.values()].filter(
      ({ isBeacon, channel, source, namespace }) => !isBeacon && channel === SCOPE.GLOBAL && filter.passes(source, namespace),
    );
  }

  #take(sealed: Sealed, via: Via, receiptMs: number): Taken {
    const { key, source, version } = this.#read(sealed);
    if (this.refuses(JSON.parse(TEXT.decoder.decode(sealed.signed)) as Said)) return { kind: "refused", why: "limit" };
    if (this.refuse !== undefined) return { kind: "refused", why: this.refuse };
    if (!this.#regions.has(source)) return { kind: "refused", why: "unknown_key" };
    const held = this.rows.get(key)?.version ?? 0;
    if (source === this.#cluster) {
      if (version > held) this.exceeded.set(key, version);
      return { kind: "refused", why: "echo" };
    }
    if (version <= held) return version === held ? { kind: "known" } : { kind: "refused", why: "older", olderThan: key };
    const hops = source === via.cluster ? 1 : Math.max(2, sealed.hops + 1);
    if (hops > MAX_HOPS) return { kind: "refused", why: "limit" };
    this.#put({ ...sealed, hops }, receiptMs);
    return { kind: "taken" };
  }

  /** Another node of the region holds it too. */
  copyTo(other: HeldMap): void {
    for (const { key, version, hops, sealed, receiptMs } of this.rows.values()) {
      const there = other.rows.get(key);
      if (version > (there?.version ?? 0)) other.#put(sealed, receiptMs);
      else if (there !== undefined && version === there.version) there.hops = Math.min(hops, there.hops);
    }
  }

  #put(sealed: Sealed, receiptMs: number): void {
    const { key, ...facts } = this.#read(sealed);
    const place = this.#places.get(key);
    if (place !== undefined) this.#log[place] = undefined;
    this.#places.set(key, this.#log.push(key) - 1);
    const hash = this.rows.get(key)?.hash ?? keyHash(key);
    const row = { key, ...facts, hash, sealed, receiptMs, hops: sealed.hops, seal: () => sealed };
    this.rows.set(key, row);
    if (facts.isBeacon) this.#beacons.set(key, row);
  }

  #read({ signed }: Sealed): Omit<HeldSeal, "seal" | "hops"> {
    const {
      source,
      version,
      namespace,
      name,
      channel = SCOPE.GLOBAL,
      isWithdrawn = false,
    } = JSON.parse(TEXT.decoder.decode(signed)) as Said;
    const isBeacon = name === undefined;
    const serviceId = name ?? "";
    const key = isBeacon ? beaconKey(source) : recordKey({ source, kind: KIND.SERVICE, namespace: namespace ?? "svc", serviceId, channel });
    return { key, source, version, namespace: namespace ?? "svc", channel, isBeacon, isWithdrawn };
  }
}
