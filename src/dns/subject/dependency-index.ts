/**
 * What plans rest on: facts of the catalog, each of which holds until it changes. A plan keeps the facts that it was made from, and is over as soon as one of them is. What
 * no plan rests on costs nothing.
 */
import { NODES_NAMESPACE } from "../../catalog/entry/names.ts";
import type { Kind } from "../../catalog/record/record.ts";
import type { NameObserver } from "../../discovery/dns-names.ts";

export interface PlanDependency {
  readonly key: string;
  /** Plans that rest on it. */
  planCount: number;
  isOver: boolean;
}

/** Memory of a fact besides the characters of its key, with its place in the index. Measured on Node 24 and rounded up. */
const DEPENDENCY_BYTES = 128;
const OF_NODES = `${NODES_NAMESPACE}\0`;
/** Rests on everything: for a plan that read more than can be kept of it. */
const ANY = "*";

/** The entries of a name. */
export function entryDependency(kind: Kind, namespace: string, name: string): string {
  return namedDependency(`${namespace}\0${name}\0${kind}`);
}

/** The same, by a name as in `nameOfKey`. */
export function namedDependency(name: string): string {
  return `=${name}`;
}

/** The entries of all nodes, and which of them live. */
export const NODES_DEPENDENCY = "nodes";

/** The entries of a namespace. */
export function namespaceDependency(namespace: string): string {
  return `/${namespace}`;
}

/** Who carries an alias, and what their entries say. */
export function aliasDependency(alias: string): string {
  return `@${alias}`;
}

/** Who has a target at an address. */
export function addressDependency(address: string): string {
  return `^${address}`;
}

/** What exists at or below a name. */
export function belowDependency(suffix: string): string {
  return `.${suffix}`;
}

/** Whether a node lives whose entries were shown. */
export function originDependency(id: string): string {
  return `#${id}`;
}

/** Memory of facts. */
export function sizeOfDependencies(keys: Iterable<string>): number {
  let bytes = 0;
  for (const key of keys) bytes += DEPENDENCY_BYTES + key.length;
  return bytes;
}

export class DependencyIndex implements NameObserver {
  readonly #byKey = new Map<string, PlanDependency>();
  /** Memory of the facts on which a plan rests, each once. */
  sizeBytes = 0;
  /** Grows whenever a fact is over on which a plan rests. */
  version = 0;
  /** Whether nobody knows any more which facts hold. Then no plan may be kept. */
  isUnknown = false;

  /** Facts that hold now, for one more plan. Where they take more memory than this, the plan rests on everything instead. */
  take(keys: ReadonlySet<string>, maxBytes: number): readonly PlanDependency[] {
    return [...(sizeOfDependencies(keys) > maxBytes ? [ANY] : keys)].map((key) => {
      const fact = this.#byKey.get(key) ?? this.#add(key);
      fact.planCount += 1;
      return fact;
    });
  }

  #add(text: string): PlanDependency {
    // V8 would keep each of the parts that the text was put together from, and the names that those are cut from.
    const key = Buffer.from(text).toString();
    const fact = { key, planCount: 0, isOver: false };
    this.#byKey.set(key, fact);
    this.sizeBytes += DEPENDENCY_BYTES + key.length;
    return fact;
  }

  /** A plan that rested on them is kept no longer. */
  release(facts: readonly PlanDependency[]): void {
    for (const fact of facts) {
      fact.planCount -= 1;
      if (fact.planCount > 0) continue;
      this.sizeBytes -= DEPENDENCY_BYTES + fact.key.length;
      if (!fact.isOver) this.#byKey.delete(fact.key);
    }
  }

  entryChanged(name: string): void {
    this.#over(`=${name}`);
    if (this.#byKey.size > 0) this.#over(namespaceDependency(name.slice(0, name.indexOf("\0"))));
    if (name.startsWith(OF_NODES)) this.#over(NODES_DEPENDENCY);
  }

  aliasChanged(alias: string): void {
    this.#over(aliasDependency(alias));
  }

  addressChanged(address: string): void {
    this.#over(addressDependency(address));
  }

  belowChanged(suffix: string): void {
    this.#over(belowDependency(suffix));
  }

  originChanged(id: string): void {
    this.#over(originDependency(id));
    this.#over(NODES_DEPENDENCY);
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
      this.version += 1;
    }
  }
}
