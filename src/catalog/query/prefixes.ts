/** A set of namespaces, defined by several prefixes on label boundaries. A resolver needs only one watch for all of these namespaces. */
import { firstIndex } from "../../lib/bisect.ts";

export class NamespacePrefixes {
  /** In code-unit order. No prefix in this list is below another one. */
  readonly list: readonly string[];
  readonly #set = new Set<string>();
  /**
   * Lower bounds for the ranges of covered namespaces, in code-unit order: each prefix, and `prefix.`, because `p-x` is between `p` and `p.x`.
   */
  readonly #starts: readonly string[];
  /** The last argument of `covers`. It is kept because a query checks the same namespace several times. */
  #last: string | undefined;
  #isLastCovered = false;

  /** An empty prefix covers all namespaces. */
  constructor(prefixes: Iterable<string>) {
    for (const prefix of [...prefixes].toSorted((a, b) => a.length - b.length)) if (!this.#isBelow(prefix)) this.#set.add(prefix);
    this.list = [...this.#set].toSorted();
    this.#starts = this.list.flatMap((prefix) => (prefix === "" ? [""] : [prefix, `${prefix}.`])).toSorted();
  }

  /**
   * Whether a namespace is one of the prefixes or is below one of them. Cost: O(labels of the namespace). HOT: runs for each change and each
   * resolver.
   */
  covers(namespace: string): boolean {
    if (namespace === this.#last) return this.#isLastCovered;
    const isCovered = this.#isBelow(namespace);
    [this.#last, this.#isLastCovered] = [namespace, isCovered];
    return isCovered;
  }

  /** Whether this prefix, or any namespace below it, may be covered. Cost: O(labels of the prefix). */
  meets(prefix: string): boolean {
    if (this.#isBelow(prefix) || prefix === "") return this.list.length > 0;
    const below = `${prefix}.`;
    return this.list[firstIndex(this.list.length, (index) => (this.list[index] ?? "") >= below)]?.startsWith(below) === true;
  }

  #isBelow(namespace: string): boolean {
    if (this.#set.has("") || this.#set.has(namespace)) return true;
    for (let dot = namespace.indexOf("."); dot >= 0; dot = namespace.indexOf(".", dot + 1))
      if (this.#set.has(namespace.slice(0, dot))) return true;
    return false;
  }

  /** Returns a lower bound for the covered namespaces that follow a namespace. Undefined if no covered namespace follows. */
  startAbove(namespace: string): string | undefined {
    return this.#starts[firstIndex(this.#starts.length, (index) => (this.#starts[index] ?? "") > namespace)];
  }

  /** A lower bound for all covered namespaces. Undefined if there are no prefixes. */
  get start(): string | undefined {
    return this.#starts[0];
  }
}
