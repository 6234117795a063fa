/** Records catalog reads while a plan is built, because the plan depends on the data that was read. */
import type { Kind } from "../../catalog/record/record.ts";
import type { Time } from "../../lib/machine.ts";
import {
  addressDependency,
  aliasDependency,
  belowDependency,
  entryDependency,
  NODES_DEPENDENCY,
  namedDependency,
  namespaceDependency,
  originDependency,
} from "./dependency-index.ts";
import type { RemoteDependencies } from "./remote-lookup.ts";

/** The dependencies of a plan, in addition to its view version. */
export interface PlanDependencies {
  /** Keys of catalog facts, possibly with duplicates. The keys are built during iteration. */
  readonly keys: Iterable<string>;
  /** Namespaces that the resolver fully watched when the plan was built. Only on resolvers. */
  readonly followed: ReadonlySet<string>;
  /** The earliest expiry, by the clock, of the data in the plan. Absent if none of the data expires. */
  readonly ends?: Time | undefined;
  /** The remote lookups of unwatched names. Only on resolvers. */
  readonly remote?: RemoteDependencies | undefined;
}

const NOTHING: ReadonlySet<string> = new Set();

/** HOT: also runs for random nonexistent names. Few plans for such names are cached, so keys are built only for cached plans. */
class RecordedKeys implements Iterable<string> {
  readonly #keys: (() => string)[] = [];

  add(key: () => string): void {
    this.#keys.push(key);
  }

  *[Symbol.iterator](): Generator<string> {
    for (const key of this.#keys) yield key();
  }
}

export class DependencyRecorder {
  #facts = new RecordedKeys();
  #followed: Set<string> | undefined;
  #isAsked = false;
  #ends: Time | undefined;

  entries(kind: Kind, namespace: string, name: string): void {
    this.#facts.add(() => entryDependency(kind, namespace, name));
  }

  /** Records that the plan shows entries of this source node. It shows them only while the node is alive. */
  origin(id: string): void {
    this.#facts.add(() => originDependency(id));
  }

  /** Records a dependency on the entries of all nodes and on the liveness of nodes. */
  nodes(): void {
    this.#facts.add(() => NODES_DEPENDENCY);
  }

  /** Records a dependency on the list of services in the namespace. */
  services(namespace: string): void {
    this.#facts.add(() => namespaceDependency(namespace));
  }

  /** Records a dependency on the owners of an alias. Aliases may be registered as full names, so both spellings are recorded. */
  alias(name: string, zone: string): void {
    this.#facts.add(() => aliasDependency(name));
    this.#facts.add(() => aliasDependency(`${name}.${zone}`));
  }

  /** Records a dependency on the entries with a target at the address, which is in `addressText` form. */
  address(address: string): void {
    this.#facts.add(() => addressDependency(address));
  }

  below(suffix: string, zone: string): void {
    this.#facts.add(() => belowDependency(suffix));
    this.#facts.add(() => belowDependency(`${suffix}.${zone}`));
  }

  followed(namespace: string): void {
    this.#followed ??= new Set();
    this.#followed.add(namespace);
  }

  asked(): void {
    this.#isAsked = true;
  }

  /** Records a dependency on a cluster's heartbeat record, which affects all results from that cluster. `name` is in `nameOfKey` form. */
  beacon(name: string): void {
    this.#facts.add(() => namedDependency(name));
  }

  /** Records that some of the data expires at this time. */
  ends(ends: Time): void {
    this.#ends = earlier(this.#ends, ends);
  }

  /** Returns the reads recorded since the last call. */
  take(takeTold: () => RemoteDependencies | undefined = () => undefined): PlanDependencies {
    const told = this.#isAsked ? takeTold() : undefined;
    const taken = { keys: this.#facts, followed: this.#followed ?? NOTHING, ends: this.#ends, remote: told };
    this.#facts = new RecordedKeys();
    this.#followed = undefined;
    this.#isAsked = false;
    this.#ends = undefined;
    return taken;
  }
}

/** Returns the earlier of two times, separately for each clock. */
export function earlier(a: Time | undefined, b: Time | undefined): Time | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  return { monoMs: Math.min(a.monoMs, b.monoMs), wallMs: Math.min(a.wallMs, b.wallMs) };
}
