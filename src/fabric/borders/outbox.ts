/**
 * What is to be sent on one border link: the newest unsent version of each key, what the other side was found to lack, beacons and announcements of keys.
 * It holds keys and no seals, so a change that is followed by another one is never sent (docs/design/summaries.md, What crosses a border).
 */
import { SCOPE } from "../../catalog/entry/scope.ts";
import { type KeyText, keyParts } from "../../catalog/record/record.ts";
import { NEVER, type Time } from "../../lib/machine.ts";
import type { DigestFilter } from "../../summary/held/digests.ts";
import type { HeldSeal, Via } from "../../summary/held/options.ts";
import { MAX_HOPS, type Sealed } from "../../summary/summary.ts";
import type { BorderFrame } from "../wire/messages.ts";
import type { BorderCounts, BorderOptions, BorderSummaries } from "./options.ts";

export interface OutboxParts {
  readonly summaries: BorderSummaries;
  readonly options: BorderOptions;
  readonly counts: BorderCounts;
  /** The other side. */
  readonly via: Via;
  /** What the export rule of this side lets out to the other's region. */
  readonly filter: DigestFilter;
  readonly batchIntervalMs: number;
  /** 0: no bound. */
  readonly bytesPerSecond: number;
  readonly priorityOf: (namespace: string) => number;
}

type Batch = Extract<BorderFrame, { readonly kind: "borderBatch" }>;

export class Outbox {
  readonly #parts: OutboxParts;
  /** All changes up to this revision were looked at. */
  #revision: number;
  /** As many wait as may, and later changes are not looked at yet. Beacons are looked at from then on all the same. */
  #aheadMonoMs = NEVER;
  /** Changed keys, and since when they wait. Withdrawals wait for no window. */
  readonly #changed = new Map<KeyText, number>();
  readonly #urgent = new Map<KeyText, number>();
  /** What the other side was found to lack, by its priority. What changed since waits with the changes: it is in `#owing` no more. */
  readonly #owed = new Map<number, Set<KeyText>>();
  readonly #owing = new Set<KeyText>();
  #owedSinceMs = 0;
  /** The last batch had no room for it after what changed, so it goes before that now: a link may never be done with changes. */
  #isOwedFirst = false;
  /** Keys that were sent not long ago. */
  #sent = new Set<KeyText>();
  #sentBefore = new Set<KeyText>();
  #sentTurnMonoMs = 0;
  /** The beacons that were sent last, by source. */
  readonly #sentBeacons = new Map<string, SentBeacon>();
  readonly #beacons = new Set<KeyText>();
  /** Beacons of the other side's own cluster that it must go above. */
  readonly #echoed = new Set<KeyText>();
  #announced: readonly Sealed[] | undefined;
  #keys: Sealed[] = [];
  /** Marks of seals that came over this link, or were sent on it. */
  #echoes = new Set<bigint>();
  #oldEchoes = new Set<bigint>();
  /** Sources that the other side hears directly. */
  #direct: ReadonlySet<string> = new Set();
  /** No batch leaves before, because of the bytes that were sent. */
  #pacedMonoMs = 0;
  /** Since when something is due that is not taken. */
  #dueSinceMs: number | undefined;
  /** The list was dropped, and only a comparison finds what was in it. */
  isDropped = false;
  /** A beacon was sent of a source that the other side may have lost, and of which it then refused what came before. */
  isResumed = false;

  constructor(parts: OutboxParts) {
    this.#parts = parts;
    this.#revision = parts.summaries.revision;
  }

  /** Whether nothing waits to be sent. */
  get isEmpty(): boolean {
    return this.waitingCount + this.#beacons.size + this.#echoed.size + this.#keys.length === 0;
  }

  /** Summaries that wait to be sent. */
  get waitingCount(): number {
    return this.#changed.size + this.#urgent.size + this.#owing.size;
  }

  /** What the other side was found to lack and is not sent yet. */
  get owedCount(): number {
    return this.#owing.size;
  }

  /** For how long the oldest summary has waited that is due. 0 when none is. */
  lagMs({ monoMs }: Time): number {
    const [changed = NEVER] = this.#changed.values();
    const [urgent = NEVER] = this.#urgent.values();
    const owed = this.#owing.size > 0 ? this.#owedSinceMs : NEVER;
    return Math.max(0, monoMs - Math.min(changed + this.#parts.batchIntervalMs, urgent, owed));
  }

  /** The other side says which sources it hears directly. Beacons of the others go now. */
  setDirect(sources: readonly string[], time: Time): void {
    this.#direct = new Set(sources);
    for (const beacon of this.#parts.summaries.beacons(time)) this.#addBeacon(beacon);
  }

  /** The other side asks for what it was told of beacons once more. What it has meanwhile is compared then, as after a time without them. */
  tellBeaconsAgain(): void {
    this.#sentBeacons.clear();
  }

  isDirect(source: string): boolean {
    return this.#direct.has(source);
  }

  /** A seal came over this link: it is not sent back. */
  came(sealed: Sealed): void {
    const mark = markOf(sealed);
    if (mark === undefined) return;
    if (this.#echoes.size >= this.#parts.options.maxEchoes / 2) {
      this.#oldEchoes = this.#echoes;
      this.#echoes = new Set();
    }
    this.#echoes.add(mark);
  }

  /** The other side lacks these. What does not fit is found again. Returns how many of them wait now that did not before. */
  owe(keys: readonly KeyText[], { monoMs }: Time): number {
    const { options, priorityOf } = this.#parts;
    const before = this.#owing.size;
    if (before === 0) this.#owedSinceMs = monoMs;
    for (const key of keys) {
      if (this.#owing.size >= options.maxOwed) break;
      if (!this.#isWaiting(key)) this.#owe(key, priorityOf(keyParts(key).namespace));
    }
    return this.#owing.size - before;
  }

  #owe(key: KeyText, priority: number): void {
    const owed = this.#owed.get(priority) ?? new Set();
    this.#owed.set(priority, owed);
    owed.add(key);
    this.#owing.add(key);
  }

  /** Whether the newest version of the key waits here, or was sent so short a time ago that the other side may not have it yet. */
  isOnItsWay(key: KeyText): boolean {
    return this.#isWaiting(key) || this.#sent.has(key) || this.#sentBefore.has(key);
  }

  #isWaiting(key: KeyText): boolean {
    return this.#changed.has(key) || this.#urgent.has(key) || this.#owing.has(key);
  }

  /** What the other side's own cluster said once, and knows no more. It is not sent to it otherwise. */
  giveBack({ key, isBeacon }: HeldSeal, time: Time): void {
    if (isBeacon) this.#echoed.add(key);
    else this.#oweFirst(key, time);
  }

  /** The other side decides how often, so it costs no look at what waits. */
  #oweFirst(key: KeyText, { monoMs }: Time): void {
    if (this.#isWaiting(key) || this.#owing.size >= this.#parts.options.maxOwed) return;
    if (this.#owing.size === 0) this.#owedSinceMs = monoMs;
    this.#owe(key, FIRST);
  }

  /** Looks at what changed. */
  look(time: Time): void {
    this.#gather(time);
    this.#announce();
    this.#drop(time);
    this.#turnSent(time);
  }

  /** Whether a batch can go now. */
  hasBatch(time: Time): boolean {
    const isDue = this.#beacons.size > 0 || this.#echoed.size > 0 || this.#keys.length > 0 || this.#dueMonoMs() <= time.monoMs;
    if (!isDue) this.#dueSinceMs = undefined;
    else this.#dueSinceMs ??= time.monoMs;
    return isDue;
  }

  /** When something is due. */
  nextDeadlineMs(): number {
    const [oldest = NEVER] = this.#changed.values();
    const stalled = this.#dueSinceMs === undefined ? NEVER : this.#dueSinceMs + this.#parts.options.stalledMs;
    return Math.min(
      this.#dueMonoMs(),
      oldest + this.#parts.options.storeForwardMs,
      Math.max(stalled, this.#pacedMonoMs),
      this.#aheadMonoMs,
    );
  }

  /** The next batch. */
  batch(time: Time): Batch | undefined {
    if (!this.hasBatch(time)) return undefined;
    const { options, counts, bytesPerSecond } = this.#parts;
    const room = new Room(options.maxBatchBytes, options.maxBatchSeals);
    const keys = this.#keys;
    this.#keys = keys.splice(room.fitting(keys));
    const { beacons, beaconAgesMs } = this.#takeBeacons(room, time);
    const summaries = this.#dueMonoMs() <= time.monoMs ? this.#takeSummaries(room, time) : [];
    this.#dueSinceMs = undefined;
    if (keys.length + beacons.length + summaries.length === 0) return undefined;
    counts.sentKeys += keys.length;
    counts.sentBeacons += beacons.length;
    counts.sentSummaries += summaries.length;
    counts.sentBytes += room.usedBytes;
    if (bytesPerSecond > 0) this.#pacedMonoMs = Math.max(this.#pacedMonoMs, time.monoMs) + (room.usedBytes / bytesPerSecond) * 1000;
    return { kind: "borderBatch", summaries, beacons, keys, beaconAgesMs };
  }

  /** When summaries are due, by windows and by the bytes that were sent. */
  #dueMonoMs(): number {
    if (this.#urgent.size > 0 || this.#owing.size > 0) return this.#pacedMonoMs;
    const [oldest] = this.#changed.values();
    return oldest === undefined ? NEVER : Math.max(oldest + this.#parts.batchIntervalMs, this.#pacedMonoMs);
  }

  #gather(time: Time): void {
    const { monoMs } = time;
    const { summaries, options } = this.#parts;
    if (this.#revision === summaries.revision) return;
    let isShort = false;
    summaries.changesSince(this.#revision, (held, revision) => {
      if (this.#changed.size + this.#urgent.size >= options.maxGathered) {
        isShort = true;
        return false;
      }
      this.#revision = revision;
      if (held.isBeacon) this.#addBeacon(held);
      else if (this.#passes(held) && !this.#direct.has(held.source)) this.#add(held, monoMs);
      return true;
    });
    if (!isShort) {
      this.#revision = summaries.revision;
      this.#aheadMonoMs = NEVER;
    } else if (this.#aheadMonoMs === NEVER || monoMs >= this.#aheadMonoMs) this.#lookAhead(time);
  }

  /** No source may look lost because a link is slow, so no beacon waits behind summaries. */
  #lookAhead(time: Time): void {
    this.#aheadMonoMs = time.monoMs + AHEAD_MS;
    for (const beacon of this.#parts.summaries.beacons(time)) {
      const sent = this.#sentBeacons.get(beacon.source);
      if (sent === undefined || isNewsAfter(sent, beacon.version, time.monoMs - beacon.ageMs)) this.#addBeacon(beacon);
    }
  }

  /** A key that waits goes on waiting from when it began. */
  #add({ key, isWithdrawn }: HeldSeal, monoMs: number): void {
    this.#owing.delete(key);
    if (isWithdrawn) {
      this.#changed.delete(key);
      this.#urgent.set(key, this.#urgent.get(key) ?? monoMs);
    } else if (!this.#urgent.has(key)) this.#changed.set(key, this.#changed.get(key) ?? monoMs);
  }

  #addBeacon({ key, source }: HeldSeal): void {
    const { summaries, via } = this.#parts;
    const region = summaries.regionOf(source);
    if (region === undefined || region === via.region || this.#direct.has(source)) return;
    this.#beacons.add(key);
  }

  /** Each announcement goes once a link, and not back to where it came from. */
  #announce(): void {
    const list = this.#parts.summaries.announcements();
    if (list === this.#announced) return;
    const told = new Set((this.#announced ?? []).map((sealed) => markOf(sealed)));
    this.#keys = [...this.#keys, ...list.filter((sealed) => !told.has(markOf(sealed)) && !this.#isEcho(sealed))].slice(-MAX_KEYS);
    this.#announced = list;
  }

  #drop(time: Time): void {
    const { monoMs } = time;
    const { options, counts } = this.#parts;
    const [changed = NEVER] = this.#changed.values();
    const [urgent = NEVER] = this.#urgent.values();
    const isOld = monoMs - Math.min(changed, urgent) >= options.storeForwardMs;
    const isStalled = this.#dueSinceMs !== undefined && monoMs - Math.max(this.#dueSinceMs, this.#pacedMonoMs) >= options.stalledMs;
    const isLong = this.#changed.size + this.#urgent.size > options.storeForwardCount;
    if (!isOld && !(isStalled && isLong)) return;
    this.#changed.clear();
    this.#urgent.clear();
    this.#owed.clear();
    this.#owing.clear();
    if (this.#aheadMonoMs !== NEVER) this.#lookAhead(time);
    this.#aheadMonoMs = NEVER;
    this.#revision = this.#parts.summaries.revision;
    this.isDropped = true;
    counts.dropped += 1;
  }

  #turnSent({ monoMs }: Time): void {
    if (monoMs < this.#sentTurnMonoMs && this.#sent.size < MAX_SENT) return;
    this.#sentTurnMonoMs = monoMs + this.#parts.options.youngMs;
    if (this.#sent.size + this.#sentBefore.size === 0) return;
    this.#sentBefore = this.#sent;
    this.#sent = new Set();
  }

  #passes({ source, namespace, channel }: HeldSeal): boolean {
    return channel === SCOPE.GLOBAL && this.#parts.filter.passes(source, namespace);
  }

  #takeBeacons(room: Room, time: Time): { readonly beacons: readonly Sealed[]; readonly beaconAgesMs: readonly number[] } {
    const beacons: Sealed[] = [];
    const beaconAgesMs: number[] = [];
    for (const key of this.#echoed) {
      this.#echoed.delete(key);
      const sealed = this.#parts.summaries.find(key)?.seal();
      if (sealed === undefined || !room.take(sealed)) continue;
      beacons.push(sealed);
      // It is no news of its source.
      beaconAgesMs.push(MAX_AGE_MS);
    }
    if (this.#beacons.size === 0) return { beacons, beaconAgesMs };
    for (const beacon of this.#parts.summaries.beacons(time)) {
      const { key, source, version, ageMs } = beacon;
      if (!this.#beacons.has(key)) continue;
      const sent = this.#sentBeacons.get(source);
      const receiptMonoMs = time.monoMs - ageMs;
      if (sent !== undefined && !isNewsAfter(sent, version, receiptMonoMs)) continue;
      const sealed = beacon.seal();
      const isSendable = sealed.hops < MAX_HOPS && !this.#isEcho(sealed);
      if (isSendable && !room.take(sealed)) return { beacons, beaconAgesMs };
      this.#beacons.delete(key);
      this.#sentBeacons.set(source, { version, receiptMonoMs, sentMonoMs: time.monoMs });
      if (!isSendable) continue;
      this.isResumed ||= time.monoMs - (sent?.sentMonoMs ?? Number.NEGATIVE_INFINITY) > 2 * this.#parts.options.heardMs;
      beacons.push(sealed);
      beaconAgesMs.push(Math.min(Math.round(ageMs), MAX_AGE_MS));
    }
    // Those of lost sources are in no list.
    this.#beacons.clear();
    return { beacons, beaconAgesMs };
  }

  #takeSummaries(room: Room, time: Time): readonly Sealed[] {
    const taken: Sealed[] = [];
    const take = (key: KeyText, isAsked: boolean): boolean => {
      const sealed = this.#parts.summaries.find(key)?.seal();
      if (sealed === undefined || sealed.hops >= MAX_HOPS || (!isAsked && this.#isEcho(sealed))) return true;
      if (!room.take(sealed)) return false;
      taken.push(sealed);
      this.#sent.add(key);
      return true;
    };
    for (const key of this.#urgent.keys()) {
      if (!take(key, false)) return taken;
      this.#urgent.delete(key);
    }
    const isOwedFirst = this.#isOwedFirst;
    this.#isOwedFirst = false;
    if (isOwedFirst) this.#takeOwed(take);
    const isAll = this.#takeChanged(take, time);
    if (isAll) this.#takeOwed(take);
    else this.#isOwedFirst = !isOwedFirst && this.#owing.size > 0;
    return taken;
  }

  /** Those whose window is over. Returns whether all fitted. */
  #takeChanged(take: (key: KeyText, isAsked: boolean) => boolean, { monoMs }: Time): boolean {
    const { batchIntervalMs, priorityOf, summaries } = this.#parts;
    const due = [...this.#changed].filter(([, sinceMs]) => sinceMs + batchIntervalMs <= monoMs);
    const ranked = due.map(([key]) => ({ key, priority: priorityOf(summaries.find(key)?.namespace ?? "") }));
    for (const { key } of ranked.toSorted((a, b) => b.priority - a.priority)) {
      if (!take(key, false)) return false;
      this.#changed.delete(key);
    }
    return true;
  }

  #takeOwed(take: (key: KeyText, isAsked: boolean) => boolean): void {
    for (const [priority, keys] of [...this.#owed].toSorted(([a], [b]) => b - a)) {
      for (const key of keys) {
        if (this.#owing.has(key) && !take(key, true)) return;
        this.#owing.delete(key);
        keys.delete(key);
      }
      this.#owed.delete(priority);
    }
  }

  #isEcho(sealed: Sealed): boolean {
    const mark = markOf(sealed);
    return mark !== undefined && (this.#echoes.has(mark) || this.#oldEchoes.has(mark));
  }
}

interface SentBeacon {
  readonly version: number;
  /** Of the beacon here, as the other side was told. */
  readonly receiptMonoMs: number;
  readonly sentMonoMs: number;
}

/**
 * Whether the other side is to be told. A beacon often comes as a record before its age does, and goes at once because of what it takes back; then it goes again,
 * or each region on its way would add the time between two beacons. A version may be lower too, when the key of a higher one was removed.
 */
function isNewsAfter(sent: SentBeacon, version: number, receiptMonoMs: number): boolean {
  return version !== sent.version || receiptMonoMs > sent.receiptMonoMs + SAME_MS;
}

/** What still fits into a batch. */
class Room {
  usedBytes = 0;
  readonly #maxBytes: number;
  #left: number;

  constructor(maxBytes: number, maxSeals: number) {
    this.#maxBytes = maxBytes;
    this.#left = maxSeals;
  }

  /** One always fits. */
  take({ signed, signature }: Sealed): boolean {
    const sizeBytes = signed.length + signature.length + SEAL_BYTES;
    if (this.#left === 0 || (this.usedBytes > 0 && this.usedBytes + sizeBytes > this.#maxBytes)) return false;
    this.usedBytes += sizeBytes;
    this.#left -= 1;
    return true;
  }

  /** How many of these fit. */
  fitting(seals: readonly Sealed[]): number {
    const count = seals.findIndex((sealed) => !this.take(sealed));
    return count === -1 ? seals.length : count;
  }
}

/** Before all priorities. */
const FIRST = Number.POSITIVE_INFINITY;
/** Tags, lengths and hops of a seal, at most. */
const SEAL_BYTES = 14;
/** While later changes are not looked at, beacons are so often. Each time costs a look at all of them. */
const AHEAD_MS = 1000;
/** A beacon that is younger by less is no news. */
const SAME_MS = 500;
/** Keys that were sent in a short time and are remembered, twice. */
const MAX_SENT = 10_000;
/** Announcements that wait on a link. */
const MAX_KEYS = 256;
/** What fits into the field. */
const MAX_AGE_MS = 2 ** 32 - 1;

/** Stands for a seal. Signatures are even, so eight bytes of one do. Without a signature there is none. */
function markOf({ signature }: Sealed): bigint | undefined {
  if (signature.length < 8) return undefined;
  return new DataView(signature.buffer, signature.byteOffset, signature.length).getBigUint64(0);
}
