/**
 * Prefixes that the upstream refuses to tell of, though it tells of others. A refused watch of several is tried again in halves, until the one that is refused stands
 * alone; that one is left alone for a while, and the rest goes on (semantics.md, Resolver 14).
 */
import { NamespacePrefixes } from "../../catalog/query/prefixes.ts";
import { backoffMs } from "../../lib/backoff.ts";
import { NEVER } from "../../lib/machine.ts";

/** `access`: the upstream says that this resolver may not read it; it may mean these prefixes, or all. */
export type WatchRefusal = "access" | "prefix";

interface RefusalGroup {
  readonly prefixes: readonly string[];
  /** When it is tried again, at the earliest. */
  readonly dueMonoMs: number;
}

const RETRY = { baseMs: 1000, maxMs: 60_000 } as const;
/** So many refusals come at once: enough to find one prefix among all that may be followed. */
const AT_ONCE = 20;
/** After so many refusals of access in a row the upstream refuses everything. One refused prefix among others gives two. */
const MAX_ACCESS = 6;

export class PrefixRefusals {
  readonly #random: () => number;
  /** What is not followed now, in the order in which it is tried. */
  #groups: RefusalGroup[] = [];
  /** How often each prefix was refused alone. */
  readonly #attempts = new Map<string, number>();
  #count = 0;
  #accessCount = 0;
  #allowed: { readonly of: NamespacePrefixes; readonly prefixes: NamespacePrefixes } | undefined;

  constructor(random: () => number) {
    this.#random = random;
  }

  /** Whether nothing is refused. */
  get isEmpty(): boolean {
    return this.#groups.length === 0;
  }

  /** Another upstream is used, which has refused nothing yet. */
  clear(): void {
    this.#groups = [];
    this.#attempts.clear();
    this.#count = 0;
    this.#accessCount = 0;
    this.#allowed = undefined;
  }

  /** A watch was refused. Returns whether the upstream refuses everything, so that it is to be left. */
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
    // What nobody tried yet comes first: it may be well, and then the rest can be told from an upstream that refuses everything.
    const isFirst = !this.#groups.some(({ dueMonoMs }) => dueMonoMs <= monoMs);
    this.#groups.push(...(isFirst && pauseMs === 0 ? halves.slice(1) : halves));
    return this.#accessCount >= MAX_ACCESS;
  }

  /** A watch of the upstream speaks. */
  accepted(): void {
    this.#accessCount = 0;
  }

  /** Tries one more group. To be called while no other one is tried. Returns false if none is due. */
  release(monoMs: number): boolean {
    const at = this.#groups.findIndex(({ dueMonoMs }) => dueMonoMs <= monoMs);
    if (at < 0) return false;
    this.#groups.splice(at, 1);
    this.#allowed = undefined;
    return true;
  }

  /** Of what is to be followed, what the upstream may be asked for now. HOT: once a message of the upstream. */
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
