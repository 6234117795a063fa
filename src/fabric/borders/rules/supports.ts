/** By cluster what neighbours let through to it, as it is in use: more at once, less after a while, and both at a pace. */
import { TokenBucket } from "../../../lib/buckets/token-bucket.ts";
import { type BorderOptions } from "../options.ts";
import { type Counting, type HeardSince, letThrough, type Past } from "./heard-rules.ts";
import { Support, through } from "./reach.ts";
import { MAX_REMEMBERED } from "./remembered-rules.ts";

/** What one neighbour exports no more another one may still have, and the word of that may come a little later, over other nodes. */
const WAIT_MS = 3000;

export class Supports {
  /** What is not known any more stays in use: a neighbour that is merely away changes nothing. */
  #inUse: ReadonlyMap<string, Support> = new Map();
  /** What was let through when this was looked at last. */
  readonly #summed = new Map<string, { readonly text: string; readonly support: Support | undefined }>();
  /** Since when what is let through to a cluster is less than what is in use. */
  readonly #lessMonoMs = new Map<string, number>();
  readonly #uses: TokenBucket;
  #usedText = "[]";
  /** A rule that is past let in what is not let through any more. */
  #isLeftover = false;

  constructor({ heardBurst, heardEveryMs }: Pick<BorderOptions, "heardBurst" | "heardEveryMs">) {
    this.#uses = new TokenBucket(heardBurst, heardEveryMs);
  }

  /** What a cluster was told on its links counts no more. What it let in meanwhile is looked at again. */
  ended(cluster: string, past: readonly Past[]): void {
    const inUse = this.#inUse.get(cluster);
    if (inUse !== undefined) this.#isLeftover ||= past.some(({ told }) => !inUse.includes(new Support(through(told))));
  }

  /**
   * Follows what the nodes of clusters heard. Returns the clusters to which not all of these regions is let through, when that is to be used from now on; undefined
   * while what is in use stays.
   */
  follow(
    countings: ReadonlyMap<string, Counting>,
    regions: ReadonlySet<string>,
    since: HeardSince,
    monoMs: number,
  ): readonly (readonly [string, Support])[] | undefined {
    const supports = this.#next(countings, since, monoMs);
    const restricted = [...supports].filter(([, support]) => !support.isOpenTo(regions));
    const text = JSON.stringify(restricted.map(([cluster, support]) => [cluster, support.text]));
    const isToUse = text !== this.#usedText || this.#isLeftover;
    if (isToUse && !this.#uses.has(monoMs)) return undefined;
    this.#inUse = supports;
    if (!isToUse) return undefined;
    this.#uses.take(monoMs);
    this.#usedText = text;
    this.#isLeftover = false;
    return restricted;
  }

  #next(countings: ReadonlyMap<string, Counting>, since: HeardSince, monoMs: number): ReadonlyMap<string, Support> {
    const supports = new Map(this.#inUse);
    for (const cluster of this.#summed.keys()) if (!countings.has(cluster)) this.#summed.delete(cluster);
    for (const [cluster, counting] of countings) {
      const support = this.#supportOf(cluster, counting, since);
      if (support !== undefined) supports.set(cluster, this.#inTime(cluster, support, counting, monoMs));
    }
    // What their nodes took is taken over by others, or forgotten.
    const gone = [...supports.keys()].filter((cluster) => !countings.has(cluster));
    for (const cluster of gone.slice(0, Math.max(0, gone.length - MAX_REMEMBERED))) {
      supports.delete(cluster);
      this.#lessMonoMs.delete(cluster);
    }
    return supports;
  }

  /** Summed anew only when something else was heard: members are looked at twice a second, and each of them may tell much. */
  #supportOf(cluster: string, counting: Counting, since: HeardSince): Support | undefined {
    const text = JSON.stringify([since, counting]);
    const last = this.#summed.get(cluster);
    if (last?.text === text) return last.support;
    const support = letThrough(counting, since);
    this.#summed.set(cluster, { text, support });
    return support;
  }

  /** What is less than what is in use waits a little where it is not one neighbour alone that decides, and till then both count. */
  #inTime(cluster: string, support: Support, { rules }: Counting, monoMs: number): Support {
    const before = this.#inUse.get(cluster);
    const isOneWord = new Set(rules.map(({ region }) => region)).size === 1 && rules.every(({ reached }) => reached === undefined);
    if (before === undefined || support === before || support.includes(before) || (isOneWord && before.isOneWord)) {
      this.#lessMonoMs.delete(cluster);
      return support;
    }
    const sinceMonoMs = this.#lessMonoMs.get(cluster) ?? monoMs;
    this.#lessMonoMs.set(cluster, sinceMonoMs);
    if (monoMs >= sinceMonoMs + WAIT_MS) return support;
    return before.includes(support) ? before : new Support([...before.held, ...support.held]);
  }
}
