/**
 * Tracks the dependencies of cached plans. A dependency ("fact") is a part of the catalog, such as the entries of one name. When it changes, each plan that
 * depends on it becomes invalid. Changes on which no plan depends cost nothing.
 */
import { NODES_NAMESPACE } from "../../catalog/entry/names.ts";
import type { Kind } from "../../catalog/record/record.ts";
import type { NameObserver } from "../../discovery/dns-names.ts";

export interface Fact {
  readonly key: string;
  /** Number of plans that depend on this fact. */
  planCount: number;
  isOver: boolean;
}

/** Memory of a fact and its index entry, without the characters of the key. Measured on Node 24 and rounded up. */
const FACT_BYTES = 128;
const OF_NODES = `${NODES_NAMESPACE}\0`;
/** The fact that changes with every other fact. A plan depends on it when its own list of facts would take too much memory. */
const ANY = "*";

/** The entries of a name. */
export function entryFact(kind: Kind, namespace: string, name: string): string {
  return namedFact(`${namespace}\0${name}\0${kind}`);
}

/** The entries of a name given as in `nameOfKey`. */
export function namedFact(name: string): string {
  return `=${name}`;
}

/** The entries of all nodes, and which nodes are alive. */
export const NODES_FACT = "nodes";

/** The entries of a namespace. */
export function namespaceFact(namespace: string): string {
  return `/${namespace}`;
}

/** The entries that own an alias, and their contents. */
export function aliasFact(alias: string): string {
  return `@${alias}`;
}

/** The entries with a target at an address. */
export function addressFact(address: string): string {
  return `^${address}`;
}

/** The names that exist at or below a name. */
export function belowFact(suffix: string): string {
  return `.${suffix}`;
}

/** Whether the source node of shown entries is alive. */
export function originFact(id: string): string {
  return `#${id}`;
}

/** Returns the memory that facts take, in bytes. */
export function factBytes(keys: Iterable<string>): number {
  let bytes = 0;
  for (const key of keys) bytes += FACT_BYTES + key.length;
  return bytes;
}

export class Facts implements NameObserver {
  readonly #byKey = new Map<string, Fact>();
  /** Memory of the facts on which at least one plan depends, in bytes. Shared facts count once. */
  sizeBytes = 0;
  /** Increases when a fact on which a plan depends changes. */
  edition = 0;
  /** Set when changes may have been missed, so that no cached plan can be trusted any more. */
  isUnknown = false;

  /** Adds one plan to the current facts of these keys. When the keys would take more than `maxBytes`, the plan depends on every change instead. */
  take(keys: ReadonlySet<string>, maxBytes: number): readonly Fact[] {
    return [...(factBytes(keys) > maxBytes ? [ANY] : keys)].map((key) => {
      const fact = this.#byKey.get(key) ?? this.#add(key);
      fact.planCount += 1;
      return fact;
    });
  }

  #add(text: string): Fact {
    // The copy stops V8 from keeping the strings that this text was concatenated from, and the names that they are slices of.
    const key = Buffer.from(text).toString();
    const fact = { key, planCount: 0, isOver: false };
    this.#byKey.set(key, fact);
    this.sizeBytes += FACT_BYTES + key.length;
    return fact;
  }

  /** Removes one plan from the facts that it depended on. */
  release(facts: readonly Fact[]): void {
    for (const fact of facts) {
      fact.planCount -= 1;
      if (fact.planCount > 0) continue;
      this.sizeBytes -= FACT_BYTES + fact.key.length;
      if (!fact.isOver) this.#byKey.delete(fact.key);
    }
  }

  entryChanged(name: string): void {
    this.#over(`=${name}`);
    if (this.#byKey.size > 0) this.#over(namespaceFact(name.slice(0, name.indexOf("\0"))));
    if (name.startsWith(OF_NODES)) this.#over(NODES_FACT);
  }

  aliasChanged(alias: string): void {
    this.#over(aliasFact(alias));
  }

  addressChanged(address: string): void {
    this.#over(addressFact(address));
  }

  belowChanged(suffix: string): void {
    this.#over(belowFact(suffix));
  }

  originChanged(id: string): void {
    this.#over(originFact(id));
    this.#over(NODES_FACT);
  }

  everythingChanged(): void {
    this.isUnknown = true;
  }

  #over(key: string): void {
    if (this.#byKey.size === 0) return;
    for (const each of [key, ANY]) {
      const fact = this.#byKey.get(each);
      if (fact === undefined) continue;
      fact.isOver = true;
      this.#byKey.delete(each);
      this.edition += 1;
    }
  }
}
