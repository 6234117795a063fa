/**
 * Tracks the dependencies of cached plans. A dependency ("fact") is a part of the catalog, such as the entries of one name. When a fact changes, each
 * plan that depends on it becomes invalid. Changes that do not affect any plan have no cost.
 */
import { NODES_NAMESPACE } from "../../catalog/entry/names.ts";
import type { Kind } from "../../catalog/record/record.ts";
import type { NameObserver } from "../../discovery/dns-names.ts";

export interface PlanDependency {
  readonly key: string;
  /** Number of plans that depend on this fact. */
  planCount: number;
  isOver: boolean;
}

/** Memory of a fact and its index entry, without the characters of the key. Measured on Node 24 and rounded up. */
const DEPENDENCY_BYTES = 128;
const OF_NODES = `${NODES_NAMESPACE}\0`;
/** The fact that changes whenever any other fact changes. A plan depends on this fact when its own list of facts would use too much memory. */
const ANY = "*";

/** Returns the key for the entries of a name. */
export function entryDependency(kind: Kind, namespace: string, name: string): string {
  return namedDependency(`${namespace}\0${name}\0${kind}`);
}

/** Returns the key for the entries of a name in `nameOfKey` form. */
export function namedDependency(name: string): string {
  return `=${name}`;
}

/** The key for the entries of all nodes and the liveness of nodes. */
export const NODES_DEPENDENCY = "nodes";

/** Returns the key for the entries of a namespace. */
export function namespaceDependency(namespace: string): string {
  return `/${namespace}`;
}

/** Returns the key for the entries that own an alias and the contents of these entries. */
export function aliasDependency(alias: string): string {
  return `@${alias}`;
}

/** Returns the key for the entries that have a target at an address. */
export function addressDependency(address: string): string {
  return `^${address}`;
}

/** Returns the key for the names that exist at or below a name. */
export function belowDependency(suffix: string): string {
  return `.${suffix}`;
}

/** Returns the key for the liveness of a node whose entries are shown. */
export function originDependency(id: string): string {
  return `#${id}`;
}

/** Returns the memory that facts use, in bytes. */
export function sizeOfDependencies(keys: Iterable<string>): number {
  let bytes = 0;
  for (const key of keys) bytes += DEPENDENCY_BYTES + key.length;
  return bytes;
}

export class DependencyIndex implements NameObserver {
  readonly #byKey = new Map<string, PlanDependency>();
  /** Memory of the facts on which at least one plan depends, in bytes. Shared facts are counted once. */
  sizeBytes = 0;
  /** Increases when a fact on which a plan depends changes. */
  version = 0;
  /** Set when changes may have been missed, so that cached plans can no longer be trusted. */
  isUnknown = false;

  /** Adds one plan to the current facts of these keys. When the keys would use more than `maxBytes`, the plan depends on every change instead. */
  take(keys: ReadonlySet<string>, maxBytes: number): readonly PlanDependency[] {
    return [...(sizeOfDependencies(keys) > maxBytes ? [ANY] : keys)].map((key) => {
      const fact = this.#byKey.get(key) ?? this.#add(key);
      fact.planCount += 1;
      return fact;
    });
  }

  #add(text: string): PlanDependency {
    // The copy prevents V8 from retaining the concatenated strings and the names that they are slices of.
    const key = Buffer.from(text).toString();
    const fact = { key, planCount: 0, isOver: false };
    this.#byKey.set(key, fact);
    this.sizeBytes += DEPENDENCY_BYTES + key.length;
    return fact;
  }

  /** Removes one plan from the facts that it depended on. */
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
