/** How much a first snapshot brings, for each of the prefixes that it is asked for. It is known before what arrives is kept, and also where that is not kept. */
import { namespaceCovers } from "../../catalog/entry/names.ts";
import type { Prefixes } from "../../catalog/query/prefixes.ts";
import type { Weight } from "../keeping/bounded-cache.ts";

const NONE: Weight = { entries: 0, bytes: 0 };

export class Sizes {
  readonly #prefixes: readonly string[];
  readonly #byPrefix = new Map<string, { entries: number; bytes: number }>();
  /** The namespace that was counted last: a snapshot comes one namespace after the other. */
  #last = { namespace: "", prefix: "" };

  constructor({ list }: Prefixes) {
    this.#prefixes = list;
  }

  /** Counts an entry of a namespace below one of the prefixes. HOT: once an entry of a first snapshot. */
  add(namespace: string, bytes: number): void {
    if (this.#last.namespace !== namespace || this.#byPrefix.size === 0)
      this.#last = { namespace, prefix: this.#prefixes.find((prefix) => namespaceCovers(prefix, namespace)) ?? "" };
    const { prefix } = this.#last;
    const size = this.#byPrefix.get(prefix);
    if (size === undefined) this.#byPrefix.set(prefix, { entries: 1, bytes });
    else {
      size.entries += 1;
      size.bytes += bytes;
    }
  }

  /** What arrived below a prefix. */
  of(prefix: string): Weight {
    return this.#byPrefix.get(prefix) ?? NONE;
  }

  clear(): void {
    this.#byPrefix.clear();
  }
}
