/** A set of namespaces given by several prefixes, on label boundaries. A resolver watches all of them with one watch. */
import { firstIndex } from "../../lib/bisect.ts";

export class NamespacePrefixes {
  /** In code-unit order. No prefix is below another. */
  readonly list: readonly string[];
  readonly #set = new Set<string>();
  /**
   * The texts at which covered namespaces may begin, in code-unit order: each prefix, and `prefix.`, because `p-x` is between `p` and
   * `p.x`.
   */
  readonly #starts: readonly string[];
  /** The last argument of `covers`: a query checks one namespace several times. */
  #last: string | undefined;
  #isLastCovered = false;

  /** An empty prefix covers all namespaces. */
  constructor(prefixes: Iterable<string>) {
    for (const prefix of [...prefixes].toSorted((a, b) => a.length - b.length)) if (!this.#isBelow(prefix)) this.#set.add(prefix);
    this.list = [...this.#set].toSorted();
    this.#starts = this.list.flatMap((prefix) => (prefix === "" ? [""] : [prefix, `${prefix}.`])).toSorted();
  }

  /** Whether a namespace is one of the prefixes or below one. Cost: O(labels of the namespace). HOT: runs for each change and resolver. */
  covers(namespace: string): boolean {
    if (namespace === this.#last) return this.#isLastCovered;
    const isCovered = this.#isBelow(namespace);
    [this.#last, this.#isLastCovered] = [namespace, isCovered];
    return isCovered;
  }

  /** Whether there may be a covered namespace that is this prefix or below it. Cost: O(labels of the prefix). */
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

  /** Returns the smallest text above a namespace at which covered namespaces may begin. Undefined if there is none. */
  startAbove(namespace: string): string | undefined {
    return this.#starts[firstIndex(this.#starts.length, (index) => (this.#starts[index] ?? "") > namespace)];
  }

  /** The smallest text at which covered namespaces may begin. Undefined if there are no prefixes. */
  get start(): string | undefined {
    return this.#starts[0];
  }
}
