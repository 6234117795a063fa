/**
 * The side that imports answers: its own digest where that differs, lists of what it holds, and what the other side wants back of its own region. It does
 * so only so often, whatever it is asked.
 */
import { NEVER, type Time } from "../../lib/machine.ts";
import type { DigestFilter, Listed } from "../../summary/held/digests.ts";
import { bucketOfNumber } from "../../summary/held/digests.ts";
import type { Via } from "../../summary/held/options.ts";
import type { BorderFrame } from "../wire/messages.ts";
import type { BorderSummaries } from "./options.ts";
import { type BorderCounts, type BorderOptions, LOOKED_A_SLICE } from "./options.ts";
import type { Outbox } from "./outbox.ts";
import type { Terms } from "./terms.ts";

export interface ComparableParts {
  readonly summaries: BorderSummaries;
  readonly options: BorderOptions;
  readonly counts: BorderCounts;
  readonly outbox: Outbox;
  readonly via: Via;
  readonly terms: Pick<Terms, "comparable">;
}

type DigestFrame = Extract<BorderFrame, { readonly kind: "borderDigest" }>;
type HaveFrame = Extract<BorderFrame, { readonly kind: "borderHave" }>;

export class Comparable {
  readonly #parts: ComparableParts;
  /** What the other side exports, and this one is to hold; undefined until it has told. */
  #filter: DigestFilter | undefined;
  /** The digest that came last and is not looked at yet. */
  #asked: DigestFrame | undefined;
  #lookedMonoMs = 0;
  /** When a digest came that is that of this side. */
  equalMonoMs: number | undefined;
  #isAnswering = false;
  /** Questions that may still come after an answer: one for lists, and some for what is wanted back. */
  #questions = 0;
  #wants = 0;
  /** The work on questions, one after the other: what the other side wants back comes in several frames at once. */
  readonly #listings: Generator<void, void>[] = [];
  /** Lists to be sent, a bucket each. */
  #lists: (readonly [bucket: number, listed: readonly Listed[]])[] = [];
  #offset = 0;

  constructor(parts: ComparableParts) {
    this.#parts = parts;
  }

  get filter(): DigestFilter | undefined {
    return this.#filter;
  }

  /** Undefined: nothing is compared until there is one again. */
  setFilter(filter: DigestFilter | undefined): void {
    this.#filter = filter;
  }

  hasWork(time: Time): boolean {
    this.#look(time);
    return this.#isAnswering || this.#lists.length > 0;
  }

  nextDeadlineMs(): number {
    if (this.#listings.length > 0) return 0;
    return this.#asked === undefined || this.#filter === undefined ? NEVER : this.#lookedMonoMs + SUMMING_MS;
  }

  /** Lists some more. */
  step(): void {
    if (this.#listings[0]?.next().done === true) this.#listings.shift();
  }

  next(time: Time): BorderFrame | undefined {
    this.#look(time);
    return this.#isAnswering ? this.#answer() : this.#have();
  }

  /** A digest of what the other side exports. */
  compare(frame: DigestFrame, time: Time): void {
    this.#asked = frame;
    this.#look(time);
  }

  /** A question for lists, or for what the other side wants back. */
  asked({ buckets, hashes }: HaveFrame, time: Time): void {
    const { counts } = this.#parts;
    const isWant = buckets.length === 0;
    const isAllowed = isWant ? this.#wants > 0 : this.#questions > 0 && this.#listings.length === 0;
    if (this.#filter === undefined || !isAllowed) {
      counts.ignored += 1;
      return;
    }
    if (isWant) this.#wants -= 1;
    else this.#questions -= 1;
    this.#listings.push(isWant ? this.#giveBack(this.#filter, new Set(hashes), time) : this.#list(this.#filter, new Set(buckets)));
  }

  /** Looks at the digest that came, as soon as this side's is summed. */
  #look({ monoMs }: Time): void {
    const { summaries, counts, terms } = this.#parts;
    const asked = this.#asked;
    this.#lookedMonoMs = monoMs;
    if (asked === undefined || this.#filter === undefined) return;
    // It waits for the answer before it. Silence would count as a word that all was taken.
    if (this.#isAnswering || this.#listings.length > 0 || this.#lists.length > 0) return;
    const own = summaries.digest(this.#filter);
    if (own === undefined) return;
    this.#asked = undefined;
    if (own.digest === asked.digest) {
      this.equalMonoMs = monoMs;
      return;
    }
    if (!terms.comparable.has(monoMs)) {
      counts.ignored += 1;
      return;
    }
    terms.comparable.take(monoMs);
    this.#isAnswering = true;
  }

  #answer(): BorderFrame | undefined {
    const { summaries, counts, options } = this.#parts;
    this.#isAnswering = false;
    const own = this.#filter === undefined ? undefined : summaries.digest(this.#filter);
    if (own === undefined) return this.#have();
    counts.answers += 1;
    this.#questions = 1;
    this.#wants = Math.ceil(options.maxWanted / options.maxListed);
    return { kind: "borderDigest", digest: own.digest, count: own.count, isAnswer: true, buckets: own.buckets };
  }

  *#list(filter: DigestFilter, buckets: ReadonlySet<number>): Generator<void, void> {
    const { summaries, counts } = this.#parts;
    const byBucket = new Map<number, Listed[]>([...buckets].map((bucket) => [bucket, []]));
    let looked = 0;
    for (const listed of yield* summaries.list(filter, buckets)) {
      if (++looked % LOOKED_A_SLICE === 0) yield;
      if (!listed.isWithdrawn) byBucket.get(bucketOfNumber(listed.hash))?.push(listed);
    }
    counts.lists += 1;
    this.#lists = [...byBucket];
    this.#offset = 0;
  }

  /** The next part of the lists. A bucket is named in the frame that completes it. */
  #have(): HaveFrame | undefined {
    if (this.#lists.length === 0) return undefined;
    const buckets: number[] = [];
    const part: Listed[] = [];
    for (let [first] = this.#lists; first !== undefined; [first] = this.#lists) {
      const [bucket, listed] = first;
      const more = listed.slice(this.#offset, this.#offset + this.#parts.options.maxListed - part.length);
      part.push(...more);
      this.#offset += more.length;
      if (this.#offset < listed.length) break;
      buckets.push(bucket);
      this.#lists.shift();
      this.#offset = 0;
    }
    return {
      kind: "borderHave",
      isAnswer: true,
      buckets,
      hashes: part.map(({ hash }) => hash),
      versions: part.map(({ version }) => version),
    };
  }

  /** A cluster of that region asks for what it does not know of itself any more. Nothing else is given in this way. */
  *#giveBack(filter: DigestFilter, wanted: ReadonlySet<bigint>, time: Time): Generator<void, void> {
    const { summaries, via, outbox, counts } = this.#parts;
    const buckets = new Set([...wanted].map((hash) => bucketOfNumber(hash)));
    let looked = 0;
    for (const { hash, key } of yield* summaries.list(filter, buckets)) {
      if (++looked % LOOKED_A_SLICE === 0) yield;
      if (!wanted.has(hash)) continue;
      const source = summaries.find(key)?.source ?? "";
      if (summaries.regionOf(source) === via.region) counts.given += outbox.owe([key], time);
    }
  }
}

/** A digest that came is looked at again so soon while this side's is being summed. */
const SUMMING_MS = 50;
