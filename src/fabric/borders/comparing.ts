/**
 * The side that exports asks, now and then, whether the other side holds what it exports: by a digest, then by those of buckets, then by lists of the
 * buckets that differ. What the other side lacks is given to it (docs/design/summaries.md, What crosses a border). All of this is bounded, whatever the
 * other side says.
 */
import { type KeyText, keyParts } from "../../catalog/record/record.ts";
import { NEVER, type Time } from "../../lib/machine.ts";
import type { Digest, DigestFilter, Listed } from "../../summary/held/digests.ts";
import { BUCKETS, bucketOfNumber } from "../../summary/held/digests.ts";
import { MAX_HOPS } from "../../summary/summary.ts";
import type { BorderFrame } from "../wire/messages.ts";
import type { BorderSummaries } from "./options.ts";
import { type BorderCounts, type BorderOptions, LOOKED_A_SLICE } from "./options.ts";
import type { Outbox } from "./outbox.ts";
import type { Terms } from "./terms.ts";

export interface ComparingParts {
  readonly summaries: BorderSummaries;
  readonly options: BorderOptions;
  readonly counts: BorderCounts;
  readonly outbox: Outbox;
  /** What this side exports to the other's region. */
  readonly filter: DigestFilter;
  /** The cluster of this node. */
  readonly ownCluster: string;
  /** After the link came up. */
  readonly staggerMs: number;
  /** Whether the key changed here just now, so that it may be on its way to the other side. */
  readonly isYoung: (key: KeyText) => boolean;
  readonly terms: Pick<Terms, "comparing" | "given">;
}

type DigestFrame = Extract<BorderFrame, { readonly kind: "borderDigest" }>;
type HaveFrame = Extract<BorderFrame, { readonly kind: "borderHave" }>;

/** How far a comparison has come. */
type State =
  | { readonly kind: "idle" }
  /** The digest was sent. No answer means that the two are equal. */
  | { readonly kind: "sent" }
  /** What is held here of the buckets that differ is being listed, or what the other side lacks of it is being given. */
  | { readonly kind: "working"; readonly work: Generator<void, State> }
  /** The question is to be sent, or its answers come. */
  | {
      readonly kind: "asking";
      isSent: boolean;
      readonly left: Set<number>;
      /** What is held here, without what the other side has too. */
      readonly mine: ByBucket;
      /** What the other side knows better. */
      readonly better: bigint[];
      readonly compared: Compared;
    };

interface Compared {
  /** The two digests. */
  readonly pair: string;
  /** Of what is held here, when the listing began. */
  readonly revision: number;
}

const IDLE: State = { kind: "idle" };

/** By the bucket of the hash: one map of all grows in steps of 10 ms. */
type ByBucket = Map<number, Map<bigint, Mine>>;

interface Mine {
  readonly listed: Listed;
  /** The other side has an older version. */
  isOlderThere: boolean;
}

export class Comparing {
  readonly #parts: ComparingParts;
  readonly #openMonoMs: number;
  #state: State = IDLE;
  #digestMonoMs: number;
  /** A digest goes by then, though something waits to be sent, because on a busy link something always does. */
  #lateMonoMs: number;
  /** Something waited to be sent when the last digest went, and so what the other side lacks may be on its way. */
  #isBusy = false;
  /** The others' sources are compared once more, when they may be given. */
  #othersMonoMs: number;
  /** Two digests that differ though nothing was lacking. */
  #fruitless = "";
  /** Hashes of what the other side knows better, to be asked for. */
  #wanted: bigint[] = [];
  #sentMonoMs = 0;
  /** The same, and for how long this node stood still before an answer could have come and been read. */
  #readMonoMs = 0;
  /** When the last digest was sent that the other side did not contradict. */
  equalMonoMs: number | undefined;
  /** When the last digest was sent after which all that was found lacking was given. */
  #givenMonoMs: number | undefined;

  constructor(parts: ComparingParts, { monoMs }: Time) {
    const { options, staggerMs } = parts;
    this.#parts = parts;
    this.#openMonoMs = monoMs;
    this.#digestMonoMs = monoMs + staggerMs;
    this.#lateMonoMs = this.#digestMonoMs + options.busyMs;
    this.#othersMonoMs = monoMs + staggerMs + options.othersAfterMs;
  }

  /** Before a digest goes, some is sent of what the other side refused, so that the comparison shows whether it still does. */
  look(time: Time): void {
    const { outbox, counts, terms } = this.#parts;
    if (!this.#isDigestDue(time)) return;
    const tried = terms.given.try(time.monoMs);
    if (tried.length > 0) counts.given += outbox.owe(tried, time);
  }

  /** All that was due at this time is equal there, was given, or goes with the changes. Silence says so sooner here than to people: it begins no age anew. */
  handedMonoMs({ monoMs }: Time): number | undefined {
    return monoMs >= this.#readMonoMs + SILENT_MS && this.#isUncontradicted(monoMs) ? this.#sentMonoMs : this.#givenMonoMs;
  }

  /** This node stood still for so long until now. An answer may have come meanwhile that it is to read yet. */
  stoodStill(lagMs: number, { monoMs }: Time): void {
    if (monoMs - lagMs < this.#readMonoMs + SILENT_MS) this.#readMonoMs += lagMs;
  }

  /** The other side answers as often as may be compared here, and then its silence says nothing. */
  #isUncontradicted(monoMs: number): boolean {
    const isRead = this.#readMonoMs === this.#sentMonoMs || monoMs >= this.#readMonoMs + SILENT_MS;
    return isRead && this.#state.kind === "sent" && this.#parts.terms.comparing.has(this.#sentMonoMs);
  }

  /** Also what was refused for a while and is gone now. */
  #lackNothing(): void {
    this.#parts.terms.given.lackingOnly(new Map());
  }

  /** A digest is due soon: something happened after which the two may differ. */
  hurry({ monoMs }: Time): void {
    this.#digestMonoMs = Math.min(this.#digestMonoMs, monoMs + HURRY_MS);
    this.#lateMonoMs = Math.min(this.#lateMonoMs, monoMs + this.#parts.options.busyMs);
  }

  /** The beacon of a source was sent that the other side may have lost. A young link compares the others' sources anyway. */
  resumed(time: Time): void {
    if (this.#othersMonoMs === NEVER) this.hurry(time);
  }

  hasWork(time: Time): boolean {
    if (this.#state.kind === "asking" && !this.#state.isSent) return true;
    return this.#wanted.length > 0 || this.#isDigestDue(time);
  }

  /** Whether the next frame goes before what waits to be sent. */
  isUrgent(time: Time): boolean {
    if (this.#state.kind === "asking" && !this.#state.isSent) return true;
    return this.#lateMonoMs <= time.monoMs && this.#isDigestDue(time);
  }

  nextDeadlineMs(): number {
    if (this.#state.kind === "working") return 0;
    return this.#parts.outbox.isEmpty ? Math.min(this.#digestMonoMs, this.#othersMonoMs) : this.#lateMonoMs;
  }

  /** Lists or gives some more. */
  step(): void {
    if (this.#state.kind !== "working") return;
    const step = this.#state.work.next();
    if (step.done === true) this.#state = step.value;
  }

  next(time: Time): BorderFrame | undefined {
    const state = this.#state;
    if (state.kind === "asking" && !state.isSent) {
      state.isSent = true;
      return { kind: "borderHave", isAnswer: false, buckets: [...state.left], hashes: [], versions: [] };
    }
    if (this.#wanted.length > 0) {
      const hashes = this.#wanted.splice(0, this.#parts.options.maxListed);
      return { kind: "borderHave", isAnswer: false, buckets: [], hashes, versions: hashes.map(() => 0) };
    }
    return this.#isDigestDue(time) ? this.#digest(time) : undefined;
  }

  /** The other side holds something else. */
  answered(frame: DigestFrame, time: Time): void {
    const { summaries, filter, options, counts, terms } = this.#parts;
    if (this.#state.kind !== "sent" || frame.buckets.length !== BUCKETS || !terms.comparing.has(time.monoMs)) {
      counts.ignored += 1;
      return;
    }
    terms.comparing.take(time.monoMs);
    this.#state = IDLE;
    const own = summaries.digest(filter);
    if (own === undefined) return;
    const pair = `${own.digest} ${frame.digest}`;
    const buckets = new Set(own.buckets.flatMap((sum, bucket) => (sum === frame.buckets[bucket] ? [] : [bucket])));
    if (buckets.size === 0 || pair === this.#fruitless) {
      this.#lackNothing();
      this.#givenMonoMs = this.#sentMonoMs;
      return;
    }
    const isEmptyThere = frame.count === 0 && own.count <= options.maxOwed;
    const compared = { pair, revision: summaries.revision };
    this.#state = { kind: "working", work: this.#list(buckets, compared, isEmptyThere ? time : undefined) };
    this.step();
  }

  /** A part of what the other side holds in the buckets. */
  told({ buckets, hashes, versions }: HaveFrame, time: Time): void {
    const state = this.#state;
    if (state.kind !== "asking" || !state.isSent) {
      this.#parts.counts.ignored += 1;
      return;
    }
    for (const [n, hash] of hashes.entries()) this.#compare(state, hash, versions[n] ?? 0);
    this.#digestMonoMs = Math.max(this.#digestMonoMs, time.monoMs + this.#parts.options.digestIntervalMs);
    for (const bucket of buckets) state.left.delete(bucket);
    if (state.left.size > 0) return;
    this.#wanted = state.better;
    this.#state = { kind: "working", work: this.#conclude(state.mine, state.compared, time) };
    this.step();
  }

  #compare({ mine, better }: Extract<State, { kind: "asking" }>, hash: bigint, version: number): void {
    const ofBucket = mine.get(bucketOfNumber(hash));
    const own = ofBucket?.get(hash);
    if (own !== undefined && version < own.listed.version) {
      own.isOlderThere = true;
      return;
    }
    ofBucket?.delete(hash);
    // It may be one of this cluster's own, from before it lost its disks.
    if (own === undefined || version > own.listed.version) if (better.length < this.#parts.options.maxWanted) better.push(hash);
  }

  /** Lists what is held here. A side that holds nothing is asked for nothing. */
  *#list(buckets: ReadonlySet<number>, compared: Compared, isEmptyThere: Time | undefined): Generator<void, State> {
    const { summaries, filter } = this.#parts;
    const listed = yield* summaries.list(filter, buckets);
    const mine: ByBucket = new Map([...buckets].map((bucket) => [bucket, new Map()]));
    for (const [n, each] of listed.entries()) {
      if (n % LOOKED_A_SLICE === LOOKED_A_SLICE - 1) yield;
      mine.get(bucketOfNumber(each.hash))?.set(each.hash, { listed: each, isOlderThere: false });
    }
    if (isEmptyThere !== undefined) return yield* this.#conclude(mine, compared, isEmptyThere);
    return { kind: "asking", isSent: false, left: new Set(buckets), mine, better: [], compared };
  }

  #isDigestDue({ monoMs }: Time): boolean {
    const { outbox, summaries, filter } = this.#parts;
    const dueMonoMs = outbox.isEmpty ? Math.min(this.#digestMonoMs, this.#othersMonoMs) : this.#lateMonoMs;
    if (dueMonoMs > monoMs || this.#state.kind === "working") return false;
    return summaries.digest(filter) !== undefined;
  }

  #digest({ monoMs }: Time): DigestFrame | undefined {
    const { summaries, filter, options, outbox } = this.#parts;
    const own: Digest | undefined = summaries.digest(filter);
    if (own === undefined) return undefined;
    outbox.isDropped = false;
    this.#isBusy = !outbox.isEmpty;
    if (this.#othersMonoMs <= monoMs) this.#othersMonoMs = NEVER;
    this.#digestMonoMs = monoMs + options.digestIntervalMs;
    this.#lateMonoMs = this.#othersMonoMs === NEVER ? monoMs + options.comparisonEveryMs : this.#othersMonoMs + options.busyMs;
    if (this.#isUncontradicted(monoMs)) {
      this.equalMonoMs = this.#sentMonoMs;
      this.#lackNothing();
    }
    this.#sentMonoMs = monoMs;
    this.#readMonoMs = monoMs;
    // A comparison that has not come to its end by now is given up.
    this.#state = { kind: "sent" };
    return { kind: "borderDigest", digest: own.digest, count: own.count, isAnswer: false, buckets: [] };
  }

  /** Gives what the other side lacks. */
  *#conclude(mine: ByBucket, { pair, revision }: Compared, time: Time): Generator<void, State> {
    const { outbox, counts, isYoung, terms } = this.#parts;
    const bySource = new Map<string, Listed[]>();
    let looked = 0;
    let isSettled = true;
    for (const ofBucket of mine.values()) {
      for (const { listed, isOlderThere } of ofBucket.values()) {
        if (++looked % LOOKED_A_SLICE === 0) yield;
        // A side that never had it need not hear that it is gone.
        if (listed.isWithdrawn && !isOlderThere) continue;
        const source = keyParts(listed.key).clusterId;
        if (this.#isFar(source, listed.key)) {
          // Another node of the region may just have taken it by fewer borders.
          isSettled &&= !isYoung(listed.key);
          continue;
        }
        const lacking = bySource.get(source) ?? [];
        lacking.push(listed);
        bySource.set(source, lacking);
      }
    }
    if (bySource.size === 0 && isSettled) this.#fruitless = pair;
    terms.given.lackingOnly(bySource);
    const sentMonoMs = this.#sentMonoMs;
    for (const [source, lacking] of bySource) {
      const keys = yield* this.#give(source, lacking, revision, time);
      for (let at = 0; at < keys.length; at += LOOKED_A_SLICE) {
        if (keys.length >= LOOKED_A_SLICE) yield;
        counts.given += outbox.owe(keys.slice(at, at + LOOKED_A_SLICE), time);
      }
    }
    if ([...bySource.keys()].every((source) => this.#isGiven(source, time))) this.#givenMonoMs = sentMonoMs;
    return IDLE;
  }

  /** It passed as many borders as it may, so the other side never gets it from here. */
  #isFar(source: string, key: KeyText): boolean {
    return source !== this.#parts.ownCluster && (this.#parts.summaries.find(key)?.hops ?? 0) >= MAX_HOPS;
  }

  *#give(source: string, lacking: readonly Listed[], revision: number, time: Time): Generator<void, readonly KeyText[]> {
    const { summaries, outbox, isYoung, terms } = this.#parts;
    if (!this.#isGiven(source, time)) return [];
    const isDirect = outbox.isDirect(source);
    const isBusy = this.#isBusy;
    const isWaiting = (key: KeyText) => (isDirect && isYoung(key)) || (isBusy && outbox.isOnItsWay(key));
    const isLive = (key: KeyText) => summaries.find(key)?.isWithdrawn === false;
    return yield* terms.given.give(source, { lacking, revision, isWaiting, isLive }, time.monoMs);
  }

  /** Others than this cluster wait, so that what comes from the source itself is not given twice. */
  #isGiven(source: string, { monoMs }: Time): boolean {
    return source === this.#parts.ownCluster || monoMs >= this.#openMonoMs + this.#parts.options.othersAfterMs;
  }
}

/** After something happened by which the two may differ. */
const HURRY_MS = 100;
/** A side that differs has answered by then. */
const SILENT_MS = 2000;
