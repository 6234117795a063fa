/** Notes what is read while a plan is made, because the plan rests on it. */
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

/** What a plan rests on beside the version of its view. */
export interface PlanDependencies {
  /** Keys of facts of the catalog, some more than once. They are made while they are read. */
  readonly keys: Iterable<string>;
  /** Namespaces of which everything was taken to be here. Only of a resolver. */
  readonly followed: ReadonlySet<string>;
  /** When something of it ends by a clock. Absent: nothing does. */
  readonly ends?: Time | undefined;
  /** What was told that is neither in the catalog nor followed. Only of a resolver. */
  readonly remote?: RemoteDependencies | undefined;
}

const NOTHING: ReadonlySet<string> = new Set();

/** HOT: for each name that somebody makes up. Few of their plans are kept, so keys are made only for those that are. */
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

  /** The entries of this origin are told as long as its node lives. */
  origin(id: string): void {
    this.#facts.add(() => originDependency(id));
  }

  /** The entries of all nodes, and which of them live. */
  nodes(): void {
    this.#facts.add(() => NODES_DEPENDENCY);
  }

  /** Which services the namespace has. */
  services(namespace: string): void {
    this.#facts.add(() => namespaceDependency(namespace));
  }

  /** Names may be registered in full. */
  alias(name: string, zone: string): void {
    this.#facts.add(() => aliasDependency(name));
    this.#facts.add(() => aliasDependency(`${name}.${zone}`));
  }

  /** Who has a target at the address, as `addressText` gives it. */
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

  /** What is told of other clusters rests on their beacons, and on whether they are heard of. `name`: as in `nameOfKey`. */
  beacon(name: string): void {
    this.#facts.add(() => namedDependency(name));
  }

  /** Something that is told ends then. */
  ends(ends: Time): void {
    this.#ends = earlier(this.#ends, ends);
  }

  /** What was read since the last call. */
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

/** The earlier end, by each clock. */
export function earlier(a: Time | undefined, b: Time | undefined): Time | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  return { monoMs: Math.min(a.monoMs, b.monoMs), wallMs: Math.min(a.wallMs, b.wallMs) };
}
