/**
 * The side that exports asks, now and then, whether the other side holds what it exports: by a digest, then by those of buckets, then by lists of the
 * buckets that differ. What the other side lacks is given to it (docs/design/summaries.md, What crosses a border). All of this is bounded, whatever the
 * other side says.
 */
import { type KeyText, keyParts } from "../../catalog/record/record.ts";
import { NEVER, type Time } from "../../lib/machine.ts";
import { BUCKETS } from "../../summary/hashes.ts";
import type { BorderFrame } from "../wire/messages.ts";
import { Allowance, type BorderCounts, type BorderOptions } from "./options.ts";
import type { Outbox } from "./outbox.ts";
import type { BorderSummaries, Digest, DigestFilter, Listed } from "./ports.ts";
import type { Given, Terms } from "./terms.ts";

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
  /** What is held here of the buckets that differ is being listed. */
  | {
      readonly kind: "listing";
      readonly buckets: ReadonlySet<number>;
      readonly work: Generator<void, readonly Listed[]>;
      readonly pair: string;
      readonly isEmptyThere: boolean;
    }
  /** The question is to be sent, or its answers come. */
  | {
      readonly kind: "asking";
      isSent: boolean;
      readonly left: Set<number>;
      /** By bucket, so that a frame that completes one costs no look at the others. */
      readonly mine: Map<number, Map<bigint, Mine>>;
      readonly lacking: Listed[];
      /** What the other side knows better. */
      readonly better: bigint[];
      readonly pair: string;
    };

interface Mine {
  readonly listed: Listed;
  /** The other side has an older version. */
  isOlderThere: boolean;
}

export class Comparing {
  readonly #parts: ComparingParts;
  readonly #openMonoMs: number;
  #state: State = { kind: "idle" };
  #digestMonoMs: number;
  /** A digest goes by then, though something waits to be sent, because on a busy link something always does. */
  #lateMonoMs: number;
  /** Something waited to be sent when the last digest went, and so what the other side lacks may be on its way. */
  #isBusy = false;
  /** The others' sources are compared once more, when they may be given. */
  #othersMonoMs: number;
  /** When what is tried was sent last. */
  #triedMonoMs = Number.NEGATIVE_INFINITY;
  /** Two digests that differ though nothing was lacking. */
  #fruitless = "";
  /** Hashes of what the other side knows better, to be asked for. */
  #wanted: bigint[] = [];
  #sentMonoMs = 0;
  #concludedMonoMs = 0;
  /** When the last digest was sent that the other side did not contradict. */
  equalMonoMs: number | undefined;

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
    const { outbox, counts, options } = this.#parts;
    if (time.monoMs < this.#triedMonoMs + options.digestIntervalMs || !this.#isDigestDue(time)) return;
    this.#triedMonoMs = time.monoMs;
    const tried = [...this.#given.values()].flatMap((given) => given.tried);
    if (tried.length > 0) counts.given += outbox.owe(tried.slice(0, options.maxTried), time);
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
    if (this.#state.kind === "listing") return 0;
    return this.#parts.outbox.isEmpty ? Math.min(this.#digestMonoMs, this.#othersMonoMs) : this.#lateMonoMs;
  }

  /** Lists some more. */
  step(time: Time): void {
    const state = this.#state;
    if (state.kind !== "listing") return;
    const step = state.work.next();
    if (step.done !== true) return;
    const mine = new Map<number, Map<bigint, Mine>>();
    for (const listed of step.value) {
      const bucket = bucketOf(listed.hash);
      const own = mine.get(bucket) ?? new Map<bigint, Mine>();
      mine.set(bucket, own);
      own.set(listed.hash, { listed, isOlderThere: false });
    }
    const asking = {
      kind: "asking" as const,
      isSent: false,
      left: new Set(state.buckets),
      mine,
      lacking: [],
      better: [],
      pair: state.pair,
    };
    this.#state = asking;
    if (state.isEmptyThere) {
      asking.left.clear();
      this.#conclude(
        step.value.filter(({ isWithdrawn }) => !isWithdrawn),
        state.pair,
        time,
      );
    }
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
    if (this.#state.kind !== "sent" || frame.buckets.length !== BUCKETS || !terms.comparing.isLeft(time.monoMs)) {
      counts.ignored += 1;
      return;
    }
    terms.comparing.take(time.monoMs);
    this.#state = { kind: "idle" };
    const own = summaries.digest(filter);
    if (own === undefined) return;
    const pair = `${own.digest} ${frame.digest}`;
    const buckets = new Set(own.buckets.flatMap((sum, bucket) => (sum === frame.buckets[bucket] ? [] : [bucket])));
    if (buckets.size === 0 || pair === this.#fruitless) return;
    const isEmptyThere = frame.count === 0 && own.count <= options.maxOwed;
    this.#state = { kind: "listing", buckets, work: summaries.list(filter, buckets), pair, isEmptyThere };
    this.step(time);
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
    const done = buckets.filter((bucket) => state.left.delete(bucket));
    if (done.length === 0) return;
    for (const bucket of done) {
      // A side that never had it need not hear that it is gone.
      for (const { listed, isOlderThere } of state.mine.get(bucket)?.values() ?? [])
        if (isOlderThere || !listed.isWithdrawn) state.lacking.push(listed);
      state.mine.delete(bucket);
    }
    if (state.left.size > 0) return;
    this.#wanted = state.better;
    this.#conclude(state.lacking, state.pair, time);
  }

  #compare({ mine, better }: Extract<State, { kind: "asking" }>, hash: bigint, version: number): void {
    const ofBucket = mine.get(bucketOf(hash));
    const own = ofBucket?.get(hash);
    if (own !== undefined && version < own.listed.version) {
      own.isOlderThere = true;
      return;
    }
    ofBucket?.delete(hash);
    // It may be one of this cluster's own, from before it lost its disks.
    if (own === undefined || version > own.listed.version) if (better.length < this.#parts.options.maxWanted) better.push(hash);
  }

  #isDigestDue({ monoMs }: Time): boolean {
    const { outbox, summaries, filter } = this.#parts;
    const dueMonoMs = outbox.isEmpty ? Math.min(this.#digestMonoMs, this.#othersMonoMs) : this.#lateMonoMs;
    if (dueMonoMs > monoMs || this.#state.kind === "listing") return false;
    return summaries.digest(filter) !== undefined;
  }

  #digest({ monoMs }: Time): DigestFrame | undefined {
    const { summaries, filter, options, outbox, terms } = this.#parts;
    const own: Digest | undefined = summaries.digest(filter);
    if (own === undefined) return undefined;
    outbox.isDropped = false;
    this.#isBusy = !outbox.isEmpty;
    // Nobody contradicted for so long: nothing is lacking.
    if (monoMs >= this.#concludedMonoMs + FORGOTTEN_MS) for (const given of this.#given.values()) given.tried = [];
    if (this.#othersMonoMs <= monoMs) this.#othersMonoMs = NEVER;
    this.#digestMonoMs = monoMs + options.digestIntervalMs;
    this.#lateMonoMs = this.#othersMonoMs === NEVER ? monoMs + options.comparisonEveryMs : this.#othersMonoMs + options.busyMs;
    // The other side answers as often as may be compared here, and then its silence says nothing.
    if (this.#state.kind === "sent" && terms.comparing.isLeft(this.#sentMonoMs)) this.equalMonoMs = this.#sentMonoMs;
    this.#sentMonoMs = monoMs;
    // A comparison that has not come to its end by now is given up.
    this.#state = { kind: "sent" };
    return { kind: "borderDigest", digest: own.digest, count: own.count, isAnswer: false, buckets: [] };
  }

  /** Sources that the other side lacked when they were compared last, and that were given. */
  get #given(): Map<string, Given> {
    return this.#parts.terms.given;
  }

  #conclude(found: readonly Listed[], pair: string, time: Time): void {
    const { outbox, counts } = this.#parts;
    this.#state = { kind: "idle" };
    this.#concludedMonoMs = time.monoMs;
    this.#judgeTried(found, time);
    const lacking = this.#isBusy ? found.filter(({ key }) => !outbox.isOnItsWay(key)) : found;
    for (const [source, { againMonoMs }] of this.#given) if (time.monoMs >= againMonoMs + FORGIVEN_MS) this.#given.delete(source);
    const bySource = Map.groupBy(lacking, ({ key }) => keyParts(key).clusterId);
    const keys = [...bySource].flatMap(([source, listed]) => (this.#mayGive(source, time) ? this.#ofSource(source, listed, time) : []));
    if (found.length === 0) this.#fruitless = pair;
    else if (keys.length > 0) counts.given += outbox.owe(keys, time);
  }

  /** What was tried and is lacking no more was taken, so the reason is gone for which the source was refused. */
  #judgeTried(found: readonly Listed[], { monoMs }: Time): void {
    const { summaries, options } = this.#parts;
    const lacking = new Set(found.map(({ key }) => key));
    const isTaken = (key: KeyText) => !lacking.has(key) && summaries.find(key)?.isWithdrawn === false;
    const bySource = Map.groupBy(lacking, (key) => keyParts(key).clusterId);
    for (const [source, given] of this.#given) {
      const keys = bySource.get(source) ?? [];
      if (keys.length > 0 && given.tried.some(isTaken) && given.early.isLeft(monoMs)) {
        given.early.take(monoMs);
        given.againMonoMs = monoMs;
      }
      // Others each time: some of them may be refused for a reason of their own.
      const from = (given.turn++ * options.triedOfSource) % Math.max(1, keys.length);
      given.tried = keys.slice(from, from + options.triedOfSource);
    }
  }

  #ofSource(source: string, listed: readonly Listed[], time: Time): readonly KeyText[] {
    const { outbox, isYoung } = this.#parts;
    const keys = listed.map(({ key }) => key);
    const due = outbox.isDirect(source) ? keys.filter((key) => !isYoung(key)) : keys;
    const given = due.slice(0, this.#given.get(source)?.most);
    if (given.length > 0) this.#giving(source, given.length, time);
    return given;
  }

  /** Others than this cluster wait, so that what comes from the source itself is not given twice. */
  #mayGive(source: string, { monoMs }: Time): boolean {
    const { ownCluster, options } = this.#parts;
    if (source !== ownCluster && monoMs < this.#openMonoMs + options.othersAfterMs) return false;
    return monoMs >= (this.#given.get(source)?.againMonoMs ?? 0);
  }

  #giving(source: string, size: number, { monoMs }: Time): void {
    const { giveAgainMs, maxGiveAgainMs } = this.#parts.options;
    const given = this.#given.get(source) ?? {
      count: 0,
      againMonoMs: 0,
      size,
      most: Number.POSITIVE_INFINITY,
      tried: [],
      turn: 0,
      early: new Allowance(EARLY_BURST, FORGIVEN_MS),
    };
    this.#given.set(source, given);
    Object.assign(given, { size, most: Number.POSITIVE_INFINITY });
    given.againMonoMs = monoMs + Math.min(giveAgainMs * 3 ** given.count, maxGiveAgainMs);
    given.count += 1;
  }
}

/** A source that was given so long ago is given again without delay. */
const FORGIVEN_MS = 600_000;
/** A source is given early so often at once, and then once in the time above. */
const EARLY_BURST = 3;
/** What was tried is tried no more when the other side has contradicted no digest for so long. */
const FORGOTTEN_MS = 120_000;
/** After something happened by which the two may differ. */
const HURRY_MS = 100;

function bucketOf(hash: bigint): number {
  return Number(hash >> 56n);
}
