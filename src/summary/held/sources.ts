/** The clusters of which summaries are held: how many, and when each was last heard of (docs/design/summaries.md, Sources). */

import type { KeyText } from "../../catalog/record/record.ts";
import { BoundedMap } from "../../lib/bounded-map.ts";
import { NEVER, type Time } from "../../lib/machine.ts";
import type { Beacon, SummaryRefusal } from "../summary.ts";
import { type Fact, Known, NOTHING } from "./known.ts";
import { type HeldOptions, type SourceAge, type SourceStatus, withdrawalMemoryMs } from "./options.ts";

/** Fresh for a ttl from the receipt of the last beacon, then stale, and in the end dropped. */
type SourceState = SourceStatus["state"];

const MAX_OF_SOURCE = 20_000;
const MAX_IN_ALL = 200_000;
const MAX_SOURCES = 256;
/** A full source is tried again after this time. */
const RETRY_MS = 60_000;
/**
 * A receipt that is told moves a known one by no less, or a quarter of the time between two beacons. Two nodes that tell each other theirs would otherwise
 * move both by the time that it takes.
 */
const MAX_SLACK_MS = 5000;
const SLACKS_A_TTL = 12;
/**
 * No source turns stale sooner than after this part of this node's own ttl. Each turn looks at all that is held of the source, and a beacon may claim a ttl
 * of 1 ms.
 */
const LEAST_OF_TTL = 1 / 12;
/** Stands for the version of the beacon of a source of which none was received. */
const UNHEARD = 0;
/** Beacons that are not proven here yet of which an age is kept. */
const MAX_PENDING = 8;
/** Keys of a source that are remembered: more than a cluster can have. A resolver without keys believes any. */
const MAX_SIGNERS = 64;
const NO_AGES: readonly SourceAge[] = [];
const NO_SOURCES: readonly Source[] = [];

interface Pending {
  readonly version: number;
  readonly receiptMonoMs: number;
}

export class Source {
  readonly id: string;
  readonly keys = new Known();
  /** Number of keys of which something is proven. */
  count = 0;
  /** Of the highest beacon that is proven; 0 before. */
  beaconVersion = 0;
  /** The keys that signed what is proven, and of each the version of its highest beacon, or 0. */
  readonly signers = new BoundedMap<string, number>(MAX_SIGNERS);
  /** The beacon that counts, as it was read last, and what was held of it then. */
  read: { readonly beacon: Beacon | undefined; readonly held: string } | undefined;
  /** Of the beacon that border links were told of last. */
  toldBeacon = 0;
  generatedWallMs = 0;
  ttlMs: number;
  receiptMonoMs: number;
  /** False: the receipt stands for that of nothing, so that the source is stale at best. */
  isHeard = false;
  state: SourceState = "stale";
  /** What this node put up to this number was held when the source was dropped last. */
  lostSeq = 0;
  /** Its beacons took back more than its keys were looked at for, which is done from then on. */
  isToldMore = false;
  findToldMonoMs = Number.NEGATIVE_INFINITY;
  /** What this node took of it and does not count any more, because a key is gone, is asked once more then, and ends. */
  endHiddenMonoMs = NEVER;
  /** There is such, as of when all of it was asked last. */
  isAnyHidden = false;
  /** Since then its highest beacon is held here, if that was news here: what is told of it from a border may still make it younger. */
  newsMonoMs = Number.NEGATIVE_INFINITY;
  /** The receipts that were told of beacons that are not proven here yet, by version. Of each the latest counts, whoever else told another one. */
  readonly pending = new Map<number, number>();
  /** How often something that claims to be of it was refused, or counted as one that might be, by reason. */
  readonly refused = new Map<SummaryRefusal, number>();
  /** Its new keys are refused until then, because there is no room for them. */
  fullUntilMonoMs = 0;

  constructor(id: string, ttlMs: number, monoMs: number) {
    this.id = id;
    this.ttlMs = ttlMs;
    this.receiptMonoMs = monoMs - ttlMs;
  }
}

export class Sources {
  readonly #options: HeldOptions;
  readonly #isNamed: (id: string) => boolean;
  readonly #byId = new Map<string, Source>();
  /** Sources of which the receipt moved since peers were told. */
  #moved = new Set<Source>();
  /** Sources of which a receipt turned the state since `advance` was called last. */
  readonly #turned = new Set<Source>();
  /** Keys of all sources of which something is proven. */
  total = 0;
  /** How often a source was heard of that was dropped. */
  resumedCount = 0;
  /** It is dropped from now on, or was until now. */
  onLost: (source: Source) => void = () => {};
  /** A receipt moved. */
  onReceipt: (source: Source) => void = () => {};

  /** `isNamed`: whether the settings name the source. */
  constructor(options: HeldOptions, isNamed: (id: string) => boolean) {
    this.#options = options;
    this.#isNamed = isNamed;
  }

  get all(): readonly Source[] {
    return [...this.#byId.values()];
  }

  find(id: string): Source | undefined {
    return this.#byId.get(id);
  }

  /** The source, which is added if there is room. There always is for our own. */
  obtain(id: string, { monoMs }: Time): Source | undefined {
    const known = this.#byId.get(id);
    if (known !== undefined) return known;
    const { maxSources = MAX_SOURCES, clusterId } = this.#options;
    if (this.#byId.size >= maxSources && id !== clusterId && !this.#makesRoomFor(id)) return undefined;
    const source = new Source(id, this.#options.ttlMs, monoMs);
    this.#byId.set(id, source);
    this.#moved.add(source);
    return source;
  }

  /** A source that the settings name takes the place of one that they do not name, and of which nothing is held. */
  #makesRoomFor(id: string): boolean {
    if (!this.#isNamed(id)) return false;
    for (const source of this.#byId.values()) {
      if (source.keys.size > 0 || this.#isNamed(source.id)) continue;
      this.forget(source);
      return true;
    }
    return false;
  }

  // ---- room ----
  /** Notes what is known of a key. Returns what was known before. */
  note(source: Source, key: KeyText, now: Fact | undefined): Fact {
    const before = source.keys.get(key) ?? NOTHING;
    if (now === undefined) source.keys.delete(key);
    else source.keys.set(key, now);
    const more = Number((now ?? NOTHING).version !== 0) - Number(before.version !== 0);
    source.count += more;
    this.total += more;
    return before;
  }

  /** Whether new keys of the source are refused without a look. */
  isFull(source: Source, { monoMs }: Time): boolean {
    return monoMs < source.fullUntilMonoMs;
  }

  /**
   * Room for one more key of the source: "free", or the source of which another key must go for it. Undefined: there is none, and the source is not
   * asked again for a minute.
   */
  roomFor(source: Source, { monoMs }: Time): "free" | Source | undefined {
    const { clusterId, maxOfSource = MAX_OF_SOURCE, maxInAll = MAX_IN_ALL } = this.#options;
    if (source.id !== clusterId && source.count >= maxOfSource) {
      source.fullUntilMonoMs = monoMs + RETRY_MS;
      return undefined;
    }
    if (this.total < maxInAll) return "free";
    let largest: Source | undefined;
    for (const other of this.#byId.values()) if (other.id !== clusterId && other.count > (largest?.count ?? 0)) largest = other;
    if (largest !== undefined) largest.fullUntilMonoMs = monoMs + RETRY_MS;
    if (source.id !== clusterId && (largest === undefined || source.count >= largest.count)) {
      source.fullUntilMonoMs = monoMs + RETRY_MS;
      return undefined;
    }
    return largest ?? "free";
  }

  // ---- receipts ----
  /** The beacon is proven. `ageMs`: this node made it, or took it from a border whose other end has had it for so long. */
  proven(source: Source, { version, generatedWallMs, ttlMs }: Beacon, ageMs: number | undefined, time: Time): void {
    if (version === source.beaconVersion && ageMs !== undefined) this.again(source, ageMs, time);
    if (version <= source.beaconVersion) return;
    // What the first beacon of a source is at a node that starts, others of the region know.
    source.newsMonoMs = ageMs !== undefined || source.beaconVersion > 0 ? time.monoMs : Number.NEGATIVE_INFINITY;
    Object.assign(source, { beaconVersion: version, generatedWallMs, ttlMs: this.#ttlOf(ttlMs) });
    const told = source.pending.get(version);
    for (const each of source.pending.keys()) if (each <= version) source.pending.delete(each);
    if (ageMs !== undefined)
      this.#receive(source, source.isHeard ? Math.max(time.monoMs - ageMs, source.receiptMonoMs) : time.monoMs - ageMs, time);
    else if (told !== undefined) this.#hear(source, told, time);
  }

  /**
   * A border brings the beacon that is held once more, by somebody who has had it for so long. Who brought it first may have been slow, or have lied, so the
   * least age counts. It makes the source no younger than the beacon has been here, and soon nothing: a replay is no news.
   */
  again(source: Source, ageMs: number, time: Time): void {
    const { newsMonoMs, ttlMs } = source;
    if (time.monoMs - newsMonoMs <= ttlMs / 3) this.#hear(source, Math.min(time.monoMs - ageMs, newsMonoMs), time);
  }

  /** No source lives for longer than this node lets one: others forget withdrawals by their own ttl. */
  #ttlOf(toldMs: number): number {
    const { ttlMs } = this.#options;
    return Math.min(Math.max(toldMs, ttlMs * LEAST_OF_TTL), ttlMs);
  }

  /**
   * Another node of the region, or an earlier life of this one, tells its receipt. If that beacon is not proven here yet, it counts as soon as it is.
   * `isHeld`: whether there is a record of that version, proven or not.
   */
  told({ source: id, version, ageMs }: SourceAge, isHeld: (version: number) => boolean, time: Time): void {
    // Ages are not signed. Those of sources that nobody configured must not fill the table.
    if (this.#options.requireSignatures && !this.#isNamed(id)) return;
    const source = this.obtain(id, time);
    const receiptMonoMs = time.monoMs - ageMs;
    if (source === undefined) return;
    if (version === UNHEARD) this.#hearOfNone(source, receiptMonoMs, time);
    else if (version === source.beaconVersion) this.#hear(source, receiptMonoMs, time);
    else if (version > source.beaconVersion) wait(source.pending, { version, receiptMonoMs }, isHeld);
  }

  /** Nobody has heard of it. All are to drop it together, and it stays stale at best. */
  #hearOfNone(source: Source, sinceMonoMs: number, { monoMs }: Time): void {
    const latestMonoMs = Math.min(sinceMonoMs, monoMs - source.ttlMs);
    if (source.isHeard || latestMonoMs <= source.receiptMonoMs + slackMs(source)) return;
    source.receiptMonoMs = latestMonoMs;
    this.#moved.add(source);
  }

  #hear(source: Source, receiptMonoMs: number, time: Time): void {
    const { monoMs, wallMs } = time;
    // Whoever took the beacon did so within the skew of its own clock.
    const receiptWallMs = wallMs - (monoMs - receiptMonoMs);
    if (receiptWallMs > source.generatedWallMs + 2 * this.#options.maxClockSkewMs) return;
    if (!source.isHeard || receiptMonoMs > source.receiptMonoMs + slackMs(source)) this.#receive(source, receiptMonoMs, time);
  }

  /** A source that comes back does so at once, because its summaries may come right behind its beacon. */
  #receive(source: Source, receiptMonoMs: number, time: Time): void {
    // A node that stood still may hear of a source before it looks at what became of it meanwhile.
    if (this.stateAt(source, time) === "dropped") this.#turn(source, time);
    source.receiptMonoMs = receiptMonoMs;
    source.isHeard = true;
    this.#moved.add(source);
    this.onReceipt(source);
    this.#turn(source, time);
  }

  /** The receipts, for peers and for the next start. */
  ages({ monoMs }: Time, of: Iterable<Source> = this.#byId.values()): readonly SourceAge[] {
    return [...of].map(({ id, beaconVersion, isHeard, receiptMonoMs }) => ({
      source: id,
      version: isHeard ? beaconVersion : UNHEARD,
      ageMs: Math.max(0, monoMs - receiptMonoMs),
    }));
  }

  /** Those that moved since the last call. */
  newAges(time: Time): readonly SourceAge[] {
    if (this.#moved.size === 0) return NO_AGES;
    const moved = this.#moved;
    this.#moved = new Set();
    return this.ages(time, moved);
  }

  // ---- keys ----
  /** Something is proven by a key of the source, with this version if it is a beacon. */
  signed({ signers }: Source, keyId: string, beaconVersion: number): void {
    signers.set(keyId, Math.max(beaconVersion, signers.get(keyId) ?? 0));
  }

  /** Some keys count no more, so no beacon that they signed is the last one. Returns whether anything of them was proven. */
  distrust(source: Source, isGone: (keyId: string) => boolean): boolean {
    const { signers } = source;
    const before = signers.size;
    for (const keyId of signers.keys()) if (isGone(keyId)) signers.delete(keyId);
    if (signers.size === before) return false;
    const version = Math.max(0, ...signers.values());
    if (version < source.beaconVersion)
      Object.assign(source, { beaconVersion: version, toldBeacon: version, newsMonoMs: Number.NEGATIVE_INFINITY });
    return true;
  }

  // ---- states ----
  stateAt({ receiptMonoMs, ttlMs }: Source, { monoMs }: Time): SourceState {
    const ageMs = monoMs - receiptMonoMs;
    if (ageMs < ttlMs) return "fresh";
    return ageMs < ttlMs + this.#options.staleKeepMs ? "stale" : "dropped";
  }

  /** Moves all states to this time. Returns the sources that changed theirs. */
  advance(time: Time): readonly Source[] {
    for (const source of this.#byId.values()) this.#turn(source, time);
    if (this.#turned.size === 0) return NO_SOURCES;
    const changed = [...this.#turned];
    this.#turned.clear();
    return changed;
  }

  #turn(source: Source, time: Time): void {
    const state = this.stateAt(source, time);
    if (state === source.state) return;
    if (source.state === "dropped") this.resumedCount += 1;
    source.state = state;
    this.#turned.add(source);
    if (state === "dropped") this.onLost(source);
  }

  /** The source has been away for as long as withdrawals are remembered, and nothing of it is left. */
  isForgotten({ keys, state, receiptMonoMs, id }: Source, { monoMs }: Time): boolean {
    if (state !== "dropped" || keys.size > 0 || id === this.#options.clusterId) return false;
    return monoMs - receiptMonoMs >= withdrawalMemoryMs(this.#options);
  }

  forget(source: Source): void {
    this.#byId.delete(source.id);
    this.#moved.delete(source);
    this.#turned.delete(source);
  }

  /** When the state of a source turns next. */
  nextTurnMonoMs(): number {
    let next = this.#turned.size > 0 ? 0 : NEVER;
    for (const source of this.#byId.values()) {
      const { state, receiptMonoMs, ttlMs } = source;
      if (state === "dropped") continue;
      next = Math.min(next, receiptMonoMs + ttlMs + (state === "fresh" ? 0 : this.#options.staleKeepMs));
    }
    return next;
  }
}

/** Ages come after the records that they are of. So of too many the oldest goes that is of none. */
function wait(pending: Map<number, number>, { version, receiptMonoMs }: Pending, isHeld: (version: number) => boolean): void {
  const latestMonoMs = Math.max(receiptMonoMs, pending.get(version) ?? Number.NEGATIVE_INFINITY);
  pending.delete(version);
  pending.set(version, latestMonoMs);
  if (pending.size <= MAX_PENDING) return;
  const [oldest = version] = pending.keys();
  pending.delete([...pending.keys()].find((each) => !isHeld(each)) ?? oldest);
}

function slackMs({ ttlMs }: Source): number {
  return Math.min(MAX_SLACK_MS, ttlMs / SLACKS_A_TTL);
}
