/**
 * The side that imports answers: its own digest where that differs, lists of what it holds, and what the other side wants back of its own region. It does
 * so only so often, whatever it is asked.
 */
import type { KeyText } from "../../catalog/record/record.ts";
import { NEVER, type Time } from "../../lib/machine.ts";
import type { BorderFrame } from "../wire/messages.ts";
import type { BorderCounts, BorderOptions } from "./options.ts";
import type { Outbox } from "./outbox.ts";
import type { BorderSummaries, DigestFilter, Listed, Via } from "./ports.ts";
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

/** What is being listed, and for what. */
interface Listing {
  readonly work: Generator<void, readonly Listed[]>;
  readonly buckets: readonly number[];
  /** Undefined: the list itself is sent. */
  readonly wanted: ReadonlySet<bigint> | undefined;
}

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
  #listing: Listing | undefined;
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
    if (this.#listing !== undefined) return 0;
    return this.#asked === undefined || this.#filter === undefined ? NEVER : this.#lookedMonoMs + SUMMING_MS;
  }

  /** Lists some more. */
  step(time: Time): void {
    const listing = this.#listing;
    const step = listing?.work.next();
    if (listing === undefined || step?.done !== true) return;
    this.#listing = undefined;
    if (listing.wanted === undefined) this.#list(listing.buckets, step.value);
    else this.#giveBack(listing.wanted, step.value, time);
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
  asked({ buckets, hashes }: HaveFrame): void {
    const { summaries, counts } = this.#parts;
    const isWant = buckets.length === 0;
    const isAllowed = isWant ? this.#wants > 0 : this.#questions > 0;
    if (this.#filter === undefined || !isAllowed || this.#listing !== undefined) {
      counts.ignored += 1;
      return;
    }
    if (isWant) this.#wants -= 1;
    else this.#questions -= 1;
    const asked = isWant ? hashes.map((hash) => Number(hash >> 56n)) : buckets;
    const set = new Set(asked);
    this.#listing = { work: summaries.list(this.#filter, set), buckets: [...set], wanted: isWant ? new Set(hashes) : undefined };
  }

  /** Looks at the digest that came, as soon as this side's is summed. */
  #look({ monoMs }: Time): void {
    const { summaries, counts, terms } = this.#parts;
    const asked = this.#asked;
    this.#lookedMonoMs = monoMs;
    if (asked === undefined || this.#filter === undefined) return;
    const own = summaries.digest(this.#filter);
    if (own === undefined) return;
    this.#asked = undefined;
    if (own.digest === asked.digest) {
      this.equalMonoMs = monoMs;
      return;
    }
    if (this.#isAnswering || this.#listing !== undefined || this.#lists.length > 0) return;
    if (!terms.comparable.isLeft(monoMs)) {
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

  #list(buckets: readonly number[], listed: readonly Listed[]): void {
    const byBucket = Map.groupBy(
      listed.filter(({ isWithdrawn }) => !isWithdrawn),
      ({ hash }) => Number(hash >> 56n),
    );
    this.#parts.counts.lists += 1;
    this.#lists = buckets.map((bucket) => [bucket, byBucket.get(bucket) ?? []]);
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
  #giveBack(wanted: ReadonlySet<bigint>, listed: readonly Listed[], time: Time): void {
    const { summaries, via, outbox, counts } = this.#parts;
    const keys = listed.flatMap(({ hash, key }): readonly KeyText[] => {
      if (!wanted.has(hash)) return [];
      const source = summaries.find(key)?.source ?? "";
      return summaries.regionOf(source) === via.region ? [key] : [];
    });
    counts.given += outbox.owe(keys, time);
  }
}

/** A digest that came is looked at again so soon while this side's is being summed. */
const SUMMING_MS = 50;
