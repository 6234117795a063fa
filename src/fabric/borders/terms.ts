/** What the other side of a border link may make this node do. It outlives the link, so that no neighbour gets more of it by connecting anew. */

import type { KeyText } from "../../catalog/record/record.ts";
import { TokenBucket } from "../../lib/buckets/token-bucket.ts";
import type { Time } from "../../lib/machine.ts";
import { MAX_PAIR_LINKS } from "./border.ts";
import { Given } from "./given.ts";
import { type BorderOptions } from "./options.ts";

export class Terms {
  readonly reading: TokenBucket;
  readonly rules: TokenBucket;
  /** Comparisons that the other side causes, of what this side exports and of what it imports. */
  readonly comparing: TokenBucket;
  readonly comparable: TokenBucket;
  /** How often it may ask to be told all beacons once more. */
  readonly retold: TokenBucket;
  /** New links that may compare at once, whatever those before them did. */
  readonly anew: TokenBucket;
  /** Keys of the other side's own cluster of which it was given what is held here, and when it may be given it again. The oldest is first. */
  readonly echoed = new Map<KeyText, number>();
  /** What the other side lacked and was given. */
  readonly given: Given;

  constructor(options: BorderOptions) {
    const {
      readPerSecond,
      rulesBurst,
      rulesEveryMs,
      comparisonBurst,
      comparisonEveryMs,
      askedBurst,
      askedEveryMs,
      anewBurst,
      anewEveryMs,
    } = options;
    this.reading = new TokenBucket(readPerSecond, 1000 / readPerSecond);
    this.rules = new TokenBucket(rulesBurst, rulesEveryMs);
    this.comparing = new TokenBucket(comparisonBurst, comparisonEveryMs);
    this.comparable = new TokenBucket(comparisonBurst, comparisonEveryMs);
    this.retold = new TokenBucket(askedBurst, askedEveryMs);
    this.anew = new TokenBucket(anewBurst, anewEveryMs);
    this.given = new Given(options);
  }

  /** A new link. What an honest one lacks that breaks now and then is found at once. */
  begin(monoMs: number): void {
    const isAmongFirst = this.anew.has(monoMs);
    this.given.begin({ isAmongFirst });
    if (!isAmongFirst) return;
    this.anew.take(monoMs);
    for (const allowance of [this.comparing, this.comparable]) allowance.take(monoMs, -COMPARED_ANEW);
  }
}

/** What its own cluster made is compared first, and then the rest. */
const COMPARED_ANEW = 2;

/** The terms of links that ended, by cluster. A neighbour has as many as it had links at once, and two regions have four. */
export class EndedTerms {
  readonly #options: BorderOptions;
  readonly #byCluster = new Map<string, Terms[]>();

  constructor(options: BorderOptions) {
    this.#options = options;
  }

  /** For a new link: those of the link that ended last. */
  take(clusterId: string, { monoMs }: Time): Terms {
    const terms = this.#byCluster.get(clusterId)?.pop() ?? new Terms(this.#options);
    terms.begin(monoMs);
    return terms;
  }

  keep(clusterId: string, terms: Terms): void {
    const ended = this.#byCluster.get(clusterId) ?? [];
    if (ended.length < MAX_PAIR_LINKS) ended.push(terms);
    this.#byCluster.set(clusterId, ended);
  }
}
