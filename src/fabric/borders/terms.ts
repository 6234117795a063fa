/** What the other side of a border link may make this node do. It outlives the link, so that no neighbour gets more of it by connecting anew. */
import type { KeyText } from "../../catalog/record/record.ts";
import type { Time } from "../../lib/machine.ts";
import { MAX_PAIR_LINKS } from "./border.ts";
import { Allowance, type BorderOptions } from "./options.ts";

/** How often in a row a source was given, and when it may be given again. */
export interface Given {
  count: number;
  againMonoMs: number;
  /** Summaries that it was given last. */
  size: number;
  /** How many it may be given next. */
  most: number;
  /** Some of what the other side lacks, which is sent before each digest. If it has any of it then, it takes the rest too. */
  tried: readonly KeyText[];
  turn: number;
  /** How often it may be given early. */
  readonly early: Allowance;
}

export class Terms {
  readonly reading: Allowance;
  readonly rules: Allowance;
  /** Comparisons that the other side causes, of what this side exports and of what it imports. */
  readonly comparing: Allowance;
  readonly comparable: Allowance;
  /** New links that may compare at once, whatever those before them did. */
  readonly anew: Allowance;
  /** Keys of the other side's own cluster of which it was given what is held here, and when it may be given it again. The oldest is first. */
  readonly echoed = new Map<KeyText, number>();
  /** Sources that the other side lacked when they were compared last, and that were given. */
  readonly given = new Map<string, Given>();

  constructor({ readPerSecond, rulesBurst, rulesEveryMs, comparisonBurst, comparisonEveryMs }: BorderOptions) {
    this.reading = new Allowance(readPerSecond, 1000 / readPerSecond);
    this.rules = new Allowance(rulesBurst, rulesEveryMs);
    this.comparing = new Allowance(comparisonBurst, comparisonEveryMs);
    this.comparable = new Allowance(comparisonBurst, comparisonEveryMs);
    this.anew = new Allowance(ANEW_BURST, ANEW_EVERY_MS);
  }

  /** What an honest link lacks that breaks now and then is found at once, and given if it is little. */
  begin(monoMs: number, few: number): void {
    if (!this.anew.isLeft(monoMs)) return;
    this.anew.take(monoMs);
    for (const allowance of [this.comparing, this.comparable]) allowance.take(monoMs, -COMPARED_ANEW);
    for (const given of this.given.values()) {
      if (given.size > few || given.againMonoMs <= monoMs) continue;
      given.againMonoMs = monoMs;
      given.most = few;
    }
  }
}

const ANEW_BURST = 3;
const ANEW_EVERY_MS = 10_000;
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
    const latestMonoMs = monoMs + this.#options.digestIntervalMs;
    for (const given of terms.given.values()) {
      given.tried = [];
      // What a link that ended did not bring is lost with it, and the other side may have started anew, so a source waits for one digest at most. Not each time, or
      // links that end give it each minute what it refuses.
      if (given.againMonoMs <= latestMonoMs) continue;
      if (given.count > 1) {
        if (!given.early.isLeft(monoMs)) continue;
        given.early.take(monoMs);
        given.count = 2;
      }
      given.againMonoMs = latestMonoMs;
    }
    terms.begin(monoMs, this.#options.maxTried);
    return terms;
  }

  keep(clusterId: string, terms: Terms): void {
    const ended = this.#byCluster.get(clusterId) ?? [];
    if (ended.length < MAX_PAIR_LINKS) ended.push(terms);
    this.#byCluster.set(clusterId, ended);
  }
}
