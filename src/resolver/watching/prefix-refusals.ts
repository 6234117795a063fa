/**
 * Finds and avoids the prefixes that the upstream refuses to serve. A refused watch for several prefixes is retried in halves until the refused
 * prefix is isolated. That prefix is retried with a backoff while the others are followed (semantics.md, Resolver 14).
 */
import { NamespacePrefixes } from "../../catalog/query/prefixes.ts";
import { backoffMs } from "../../lib/backoff.ts";
import { NEVER } from "../../lib/machine.ts";

/**
 * `access` means that the upstream denied this resolver access to some or all of the prefixes. `prefix` means that the upstream rejected the prefixes
 * for another reason.
 */
export type WatchRefusal = "access" | "prefix";

interface RefusalGroup {
  readonly prefixes: readonly string[];
  /** Earliest monotonic time of the next attempt. */
  readonly dueMonoMs: number;
}

const RETRY = { baseMs: 1000, maxMs: 60_000 } as const;
/**
 * Number of refusals after which retries of halves are delayed. This is enough to isolate one prefix among the maximum number of followed prefixes.
 */
const AT_ONCE = 20;
/**
 * After this many consecutive `access` refusals, the upstream is assumed to refuse all prefixes. One refused prefix among others causes two such
 * refusals.
 */
const MAX_ACCESS = 6;

export class PrefixRefusals {
  readonly #random: () => number;
  /** Groups of prefixes that are not currently followed, in the order of attempts. */
  #groups: RefusalGroup[] = [];
  /** Number of refusals of each prefix when it was requested alone. */
  readonly #attempts = new Map<string, number>();
  #count = 0;
  #accessCount = 0;
  #allowed: { readonly of: NamespacePrefixes; readonly prefixes: NamespacePrefixes } | undefined;

  constructor(random: () => number) {
    this.#random = random;
  }

  /** Whether no prefix is refused. */
  get isEmpty(): boolean {
    return this.#groups.length === 0;
  }

  /** Discards all refusals, because another upstream is used. */
  clear(): void {
    this.#groups = [];
    this.#attempts.clear();
    this.#count = 0;
    this.#accessCount = 0;
    this.#allowed = undefined;
  }

  /** Records that a watch was refused. Returns whether the upstream refuses all prefixes, so that another upstream should be used. */
  refused(prefixes: readonly string[], refusal: WatchRefusal, monoMs: number): boolean {
    this.#count += 1;
    this.#accessCount = refusal === "access" ? this.#accessCount + 1 : 0;
    this.#allowed = undefined;
    const [prefix = ""] = prefixes;
    if (prefixes.length <= 1) {
      const attempts = this.#attempts.get(prefix) ?? 0;
      this.#attempts.set(prefix, attempts + 1);
      this.#groups.push({ prefixes, dueMonoMs: monoMs + backoffMs(attempts, this.#random(), RETRY) });
      return this.#accessCount >= MAX_ACCESS;
    }
    const pauseMs = this.#count <= AT_ONCE ? 0 : backoffMs(this.#count - AT_ONCE, this.#random(), RETRY);
    const half = Math.ceil(prefixes.length / 2);
    const halves = [prefixes.slice(0, half), prefixes.slice(half)].map((part) => ({ prefixes: part, dueMonoMs: monoMs + pauseMs }));
    // Untried halves are tried first. If the upstream accepts one, it does not refuse all prefixes.
    const isFirst = !this.#groups.some(({ dueMonoMs }) => dueMonoMs <= monoMs);
    this.#groups.push(...(isFirst && pauseMs === 0 ? halves.slice(1) : halves));
    return this.#accessCount >= MAX_ACCESS;
  }

  /** Records that the upstream accepted a watch. */
  accepted(): void {
    this.#accessCount = 0;
  }

  /** Allows one more group to be tried. Must be called only while no other group is being tried. Returns false if no group is due. */
  release(monoMs: number): boolean {
    const at = this.#groups.findIndex(({ dueMonoMs }) => dueMonoMs <= monoMs);
    if (at < 0) return false;
    this.#groups.splice(at, 1);
    this.#allowed = undefined;
    return true;
  }

  /** Returns the wanted prefixes, excluding prefixes that the upstream currently refuses. HOT: runs per upstream message. */
  allowed(wanted: NamespacePrefixes): NamespacePrefixes {
    if (this.#groups.length === 0) return wanted;
    if (this.#allowed?.of === wanted) return this.#allowed.prefixes;
    const isWanted = new Set(wanted.list);
    for (const prefix of this.#attempts.keys()) if (!isWanted.has(prefix)) this.#attempts.delete(prefix);
    this.#groups = this.#groups
      .map(({ prefixes, dueMonoMs }) => ({ prefixes: prefixes.filter((prefix) => isWanted.has(prefix)), dueMonoMs }))
      .filter(({ prefixes }) => prefixes.length > 0);
    const left = new Set(this.#groups.flatMap(({ prefixes }) => prefixes));
    this.#allowed = { of: wanted, prefixes: new NamespacePrefixes(wanted.list.filter((prefix) => !left.has(prefix))) };
    return this.#allowed.prefixes;
  }

  nextDeadlineMs(): number {
    return this.#groups.reduce((least, { dueMonoMs }) => Math.min(least, dueMonoMs), NEVER);
  }
}
