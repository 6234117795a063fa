/** Turns a broken promise into a failure, with the name of the invariant and what was seen. */
import type { Scope } from "../../src/catalog/entry/scope.ts";
import { BODY, type CatalogRecord } from "../../src/catalog/record/record.ts";

/** A record that was seen: its number, its scope, and when it was first seen. */
interface Said {
  readonly seq: number;
  readonly reach: Scope;
  readonly atMs: number;
}

/** The invariants. docs/design/semantics.md names each beside its rule (`test/tidy.test.ts`). */
export const INVARIANTS = [
  "P1",
  "P3",
  "P6",
  "P12",
  "P17",
  "age",
  "copy",
  "digest",
  "disk",
  "forgotten",
  "bounds",
  "generations",
  "guard",
  "in service",
  "kept",
  "lease",
  "load",
  "loop",
  "needless",
  "negative",
  "new generation",
  "one",
  "orders",
  "overtaken",
  "own write",
  "policy falls",
  "policy first",
  "read",
  "readiness",
  "recorded",
  "rest",
  "resurrected",
  "seen",
  "seq",
  "stamp",
  "thawed",
  "stop",
  "traffic",
  "unknown",
  "unreachable",
  "vector",
  "waking",
] as const;

export type Invariant = (typeof INVARIANTS)[number];

/** The name of an invariant, or of an error that a bug threw. */
type Broken = Invariant | `error ${string}`;

export class Violation extends Error {
  readonly invariant: Broken;

  constructor(invariant: Broken, detail: string) {
    super(`${invariant}: ${detail.replaceAll("\0", "|")}`);
    this.invariant = invariant;
  }
}

export class Checks {
  /** Origins part of whose journal was lost: a backup was restored. What they said is taken back. */
  readonly #lost = new Set<string>();
  /** By origin and key, in order. */
  readonly #said = new Map<string, Said[]>();
  count = 0;

  holds(isTrue: boolean, invariant: Invariant, detail: () => string): void {
    this.count += 1;
    if (!isTrue) throw new Violation(invariant, detail());
  }

  /** A record was seen for the first time. */
  say({ origin, key, seq, body, scope, reach }: CatalogRecord, atMs: number): void {
    const id = `${origin.id} ${key}`;
    const said = { seq, reach: body === BODY.ENTRY ? scope : reach, atMs };
    const before = this.#said.get(id);
    if (before === undefined) this.#said.set(id, [said]);
    else before.push(said);
  }

  /** All that an origin ever said of a key. */
  said(originId: string, key: string): readonly Said[] {
    return this.#said.get(`${originId} ${key}`) ?? [];
  }

  lose(originId: string): void {
    this.#lost.add(originId);
  }

  /** Whether any generation of the node lost something. */
  hasLostOf(nodeId: string): boolean {
    return [...this.#lost].some((originId) => originId.startsWith(`${nodeId}/`));
  }

  get hasLost(): boolean {
    return this.#lost.size > 0;
  }

  isLost(originId: string): boolean {
    return this.#lost.has(originId);
  }
}
