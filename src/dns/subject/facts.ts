/**
 * What plans rest on: facts of the catalog, each of which holds until it changes. A plan keeps the facts that it was made from, and is over as soon as one of them is. What
 * no plan rests on costs nothing.
 */
import { NODES_NAMESPACE } from "../../catalog/entry/names.ts";
import type { Kind } from "../../catalog/record/record.ts";
import type { NameObserver } from "../../discovery/dns-names.ts";

export interface Fact {
  readonly key: string;
  /** Plans that rest on it. */
  planCount: number;
  isOver: boolean;
}

/** Memory of a fact besides the characters of its key, with its place in the index. Measured on Node 24 and rounded up. */
const FACT_BYTES = 128;
const OF_NODES = `${NODES_NAMESPACE}\0`;
/** Rests on everything: for a plan that read more than can be kept of it. */
const ANY = "*";

/** The entries of a name. */
export function entryFact(kind: Kind, namespace: string, name: string): string {
  return namedFact(`${namespace}\0${name}\0${kind}`);
}

/** The same, by a name as in `nameOfKey`. */
export function namedFact(name: string): string {
  return `=${name}`;
}

/** The entries of all nodes, and which of them live. */
export const NODES_FACT = "nodes";

/** The entries of a namespace. */
export function namespaceFact(namespace: string): string {
  return `/${namespace}`;
}

/** Who carries an alias, and what their entries say. */
export function aliasFact(alias: string): string {
  return `@${alias}`;
}

/** Who has a target at an address. */
export function addressFact(address: string): string {
  return `^${address}`;
}

/** What exists at or below a name. */
export function belowFact(suffix: string): string {
  return `.${suffix}`;
}

/** Whether a node lives whose entries were shown. */
export function originFact(id: string): string {
  return `#${id}`;
}

/** Memory of facts. */
export function factBytes(keys: Iterable<string>): number {
  let bytes = 0;
  for (const key of keys) bytes += FACT_BYTES + key.length;
  return bytes;
}

export class Facts implements NameObserver {
  readonly #byKey = new Map<string, Fact>();
  /** Memory of the facts on which a plan rests, each once. */
  sizeBytes = 0;
  /** Grows whenever a fact is over on which a plan rests. */
  edition = 0;
  /** Whether nobody knows any more which facts hold. Then no plan may be kept. */
  isUnknown = false;

  /** Facts that hold now, for one more plan. Where they take more memory than this, the plan rests on everything instead. */
  take(keys: ReadonlySet<string>, maxBytes: number): readonly Fact[] {
    return [...(factBytes(keys) > maxBytes ? [ANY] : keys)].map((key) => {
      const fact = this.#byKey.get(key) ?? this.#add(key);
      fact.planCount += 1;
      return fact;
    });
  }

  #add(text: string): Fact {
    // V8 would keep each of the parts that the text was put together from, and the names that those are cut from.
    const key = Buffer.from(text).toString();
    const fact = { key, planCount: 0, isOver: false };
    this.#byKey.set(key, fact);
    this.sizeBytes += FACT_BYTES + key.length;
    return fact;
  }

  /** A plan that rested on them is kept no longer. */
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
