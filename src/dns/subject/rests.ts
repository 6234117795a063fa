/** Notes what is read while a plan is made, because the plan rests on it. */
import type { Kind } from "../../catalog/record/record.ts";
import type { Told } from "./elsewhere.ts";
import { addressFact, aliasFact, belowFact, entryFact, NODES_FACT, namespaceFact, originFact } from "./facts.ts";

/** What a plan rests on beside the edition of its view. */
export interface Rests {
  /** Keys of facts of the catalog, some more than once. They are made while they are read. */
  readonly facts: Iterable<string>;
  /** Namespaces of which everything was taken to be here. Only of a resolver. */
  readonly followed: ReadonlySet<string>;
  /** What was told that is neither in the catalog nor followed. Only of a resolver. */
  readonly told?: Told | undefined;
}

const NOTHING: ReadonlySet<string> = new Set();

/** HOT: for each name that somebody makes up. Few of their plans are kept, so keys are made only for those that are. */
class NotedFacts implements Iterable<string> {
  readonly #keys: (() => string)[] = [];

  add(key: () => string): void {
    this.#keys.push(key);
  }

  *[Symbol.iterator](): Generator<string> {
    for (const key of this.#keys) yield key();
  }
}

export class RestsNotes {
  #facts = new NotedFacts();
  #followed: Set<string> | undefined;
  #isAsked = false;

  entries(kind: Kind, namespace: string, name: string): void {
    this.#facts.add(() => entryFact(kind, namespace, name));
  }

  /** The entries of this origin are told as long as its node lives. */
  origin(id: string): void {
    this.#facts.add(() => originFact(id));
  }

  /** The entries of all nodes, and which of them live. */
  nodes(): void {
    this.#facts.add(() => NODES_FACT);
  }

  /** Which services the namespace has. */
  services(namespace: string): void {
    this.#facts.add(() => namespaceFact(namespace));
  }

  /** Names may be registered in full. */
  alias(name: string, zone: string): void {
    this.#facts.add(() => aliasFact(name));
    this.#facts.add(() => aliasFact(`${name}.${zone}`));
  }

  /** Who has a target at the address, as `addressText` gives it. */
  address(address: string): void {
    this.#facts.add(() => addressFact(address));
  }

  below(suffix: string, zone: string): void {
    this.#facts.add(() => belowFact(suffix));
    this.#facts.add(() => belowFact(`${suffix}.${zone}`));
  }

  followed(namespace: string): void {
    this.#followed ??= new Set();
    this.#followed.add(namespace);
  }

  asked(): void {
    this.#isAsked = true;
  }

  /** What was read since the last call. */
  take(takeTold: () => Told | undefined = () => undefined): Rests {
    const taken = { facts: this.#facts, followed: this.#followed ?? NOTHING, told: this.#isAsked ? takeTold() : undefined };
    this.#facts = new NotedFacts();
    this.#followed = undefined;
    this.#isAsked = false;
    return taken;
  }
}
