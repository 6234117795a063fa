/**
 * Tracks the dependencies of cached plans. A dependency ("fact") is a part of the catalog, such as the entries of one name. When it changes, each plan that
 * depends on it becomes invalid. Changes on which no plan depends cost nothing.
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
/** The fact that changes with every other fact. A plan depends on it when its own list of facts would take too much memory. */
const ANY = "*";

/** Returns the key for the entries of a name. */
export function entryDependency(kind: Kind, namespace: string, name: string): string {
  return namedDependency(`${namespace}\0${name}\0${kind}`);
}

/** Returns the key for the entries of a name given as in `nameOfKey`. */
export function namedDependency(name: string): string {
  return `=${name}`;
}

/** The key for the entries of all nodes, and for which nodes are alive. */
export const NODES_DEPENDENCY = "nodes";

/** Returns the key for the entries of a namespace. */
export function namespaceDependency(namespace: string): string {
  return `/${namespace}`;
}

/** Returns the key for the entries that own an alias, and their contents. */
export function aliasDependency(alias: string): string {
  return `@${alias}`;
}

/** Returns the key for the entries with a target at an address. */
export function addressDependency(address: string): string {
  return `^${address}`;
}

/** Returns the key for the names that exist at or below a name. */
export function belowDependency(suffix: string): string {
  return `.${suffix}`;
}

/** Returns the key for the liveness of the source node of entries that are shown. */
export function originDependency(id: string): string {
  return `#${id}`;
}

/** Returns the memory that facts take, in bytes. */
export function sizeOfDependencies(keys: Iterable<string>): number {
  let bytes = 0;
  for (const key of keys) bytes += DEPENDENCY_BYTES + key.length;
  return bytes;
}

export class DependencyIndex implements NameObserver {
  readonly #byKey = new Map<string, PlanDependency>();
  /** Memory of the facts on which at least one plan depends, in bytes. Shared facts count once. */
  sizeBytes = 0;
  /** Increases when a fact on which a plan depends changes. */
  version = 0;
  /** Set when changes may have been missed, so that no cached plan can be trusted any more. */
  isUnknown = false;

  /** Adds one plan to the current facts of these keys. When the keys would take more than `maxBytes`, the plan depends on every change instead. */
  take(keys: ReadonlySet<string>, maxBytes: number): readonly PlanDependency[] {
    return [...(sizeOfDependencies(keys) > maxBytes ? [ANY] : keys)].map((key) => {
      const fact = this.#byKey.get(key) ?? this.#add(key);
      fact.planCount += 1;
      return fact;
    });
  }

  #add(text: string): PlanDependency {
    // The copy stops V8 from keeping the strings that this text was concatenated from, and the names that they are slices of.
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
