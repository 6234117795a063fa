/** Namespaces below any of several prefixes, on label boundaries. A resolver follows all of them with one watch. */
import { firstIndex } from "../../lib/bisect.ts";

export class NamespacePrefixes {
  /** In code-unit order, and none is below another. */
  readonly list: readonly string[];
  readonly #set = new Set<string>();
  /** Where covered namespaces may begin, in code-unit order: at each prefix, and at `prefix.`, because `p-x` lies between `p` and `p.x`. */
  readonly #starts: readonly string[];
  /** What `covers` was asked last: a query asks for one namespace several times. */
  #asked: string | undefined;
  #isAskedCovered = false;

  /** An empty text stands for all namespaces. */
  constructor(prefixes: Iterable<string>) {
    for (const prefix of [...prefixes].toSorted((a, b) => a.length - b.length)) if (!this.#isBelow(prefix)) this.#set.add(prefix);
    this.list = [...this.#set].toSorted();
    this.#starts = this.list.flatMap((prefix) => (prefix === "" ? [""] : [prefix, `${prefix}.`])).toSorted();
  }

  /** Whether a namespace is one of the prefixes or below one. Cost: the labels of the namespace. HOT: once a change and resolver. */
  covers(namespace: string): boolean {
    if (namespace === this.#asked) return this.#isAskedCovered;
    const isCovered = this.#isBelow(namespace);
    [this.#asked, this.#isAskedCovered] = [namespace, isCovered];
    return isCovered;
  }

  /** Whether a namespace may be covered that is also this prefix or below it. Cost: the labels of the prefix. */
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

  /** The least text above a namespace at which covered namespaces may begin. Undefined if there is none. */
  startAbove(namespace: string): string | undefined {
    return this.#starts[firstIndex(this.#starts.length, (index) => (this.#starts[index] ?? "") > namespace)];
  }

  /** The least text at which covered namespaces may begin. Undefined without prefixes. */
  get start(): string | undefined {
    return this.#starts[0];
  }
}
