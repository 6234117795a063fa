/** What the other nodes of a cluster are told of its neighbours, as members: each change at once, until there are many. */
import { TokenBucket } from "../../../lib/buckets/token-bucket.ts";
import type { HeardRule } from "../../wire/messages.ts";
import { type BorderOptions } from "../options.ts";
import { prunedBy } from "./heard-rules.ts";
import { areRulesShort } from "./lengths.ts";

type ToldOptions = Pick<BorderOptions, "heardBurst" | "heardEveryMs" | "heardReachBurst">;

export class ToldRules {
  /** As they are told. */
  rows: readonly HeardRule[] = [];
  readonly #options: ToldOptions;
  /** By neighbour, so that none of them puts off what is told of another one. */
  readonly #allowed = new Map<string, { readonly rule: TokenBucket; readonly reach: TokenBucket }>();

  constructor(options: ToldOptions) {
    this.#options = options;
  }

  /** Follows what this node hears now, beside what other nodes of its cluster tell. Returns whether they are to be told something else. */
  follow(now: readonly HeardRule[], ofOthers: readonly HeardRule[], monoMs: number): boolean {
    const before = new Map(this.rows.map((row) => [row.clusterId, row]));
    const rules = now.map((row) => this.#either(row, before.get(row.clusterId), "rule", monoMs));
    // Others know what they are told, so that decides what of a reach they need not hear.
    const near = [...rules, ...ofOthers];
    const rows = prunedBy(near, rules).map((row) => this.#either(row, before.get(row.clusterId), "reach", monoMs));
    // Some of before and some of now may be too long together.
    const told = areRulesShort(rows) ? rows : prunedBy(near, now);
    if (isSame(told, this.rows)) return false;
    this.rows = told;
    return true;
  }

  /** Of a neighbour what is so now, or as long as that may not be told what was told before. */
  #either(now: HeardRule, before: HeardRule | undefined, what: "rule" | "reach", monoMs: number): HeardRule {
    const isEqual =
      what === "rule" ? isSame(withReach(now, undefined), before && withReach(before, undefined)) : isSame(now.reached, before?.reached);
    if (isEqual) return now;
    const allowed = this.#allowedOf(now.clusterId)[what];
    if (allowed.has(monoMs)) {
      allowed.take(monoMs);
      return now;
    }
    if (before === undefined) return now;
    return what === "rule" ? withReach(before, now.reached) : withReach(now, before.reached);
  }

  #allowedOf(neighbour: string): { readonly rule: TokenBucket; readonly reach: TokenBucket } {
    const known = this.#allowed.get(neighbour);
    if (known !== undefined) return known;
    const { heardBurst, heardReachBurst, heardEveryMs } = this.#options;
    const made = { rule: new TokenBucket(heardBurst, heardEveryMs), reach: new TokenBucket(heardReachBurst, heardEveryMs) };
    this.#allowed.set(neighbour, made);
    return made;
  }
}

function withReach(row: HeardRule, reached: HeardRule["reached"]): HeardRule {
  const { reached: _, ...rule } = row;
  return reached === undefined ? rule : { ...rule, reached };
}

function isSame(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
