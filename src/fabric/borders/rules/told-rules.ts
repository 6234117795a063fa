/** What the other nodes of a cluster are told of its neighbours, as members: each change at once, until there are many. */
import type { HeardRule } from "../../wire/messages.ts";
import { Allowance } from "../options.ts";
import { areRulesShort, prunedBy } from "./heard-rules.ts";

/** Other nodes are told so many changes at once, and then one in this time. All that is held is looked at for them, so a rule that flaps must cost little. */
export const CHANGES_BURST = 3;
export const CHANGES_EVERY_MS = 20_000;
/** Of what neighbours hold of others more are told at once: where words go in a circle, each is told a few times with another distance before it ends. */
const REACH_BURST = 16;

export class ToldRules {
  /** As they are told. */
  rows: readonly HeardRule[] = [];
  /** By neighbour, so that none of them puts off what is told of another one. */
  readonly #allowed = new Map<string, { readonly rule: Allowance; readonly reach: Allowance }>();

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
    if (allowed.isLeft(monoMs)) {
      allowed.take(monoMs);
      return now;
    }
    if (before === undefined) return now;
    return what === "rule" ? withReach(before, now.reached) : withReach(now, before.reached);
  }

  #allowedOf(neighbour: string): { readonly rule: Allowance; readonly reach: Allowance } {
    const known = this.#allowed.get(neighbour);
    if (known !== undefined) return known;
    const made = { rule: new Allowance(CHANGES_BURST, CHANGES_EVERY_MS), reach: new Allowance(REACH_BURST, CHANGES_EVERY_MS) };
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
