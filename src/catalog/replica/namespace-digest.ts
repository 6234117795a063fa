/**
 * Count and digest of what is visible in each namespace: sum mod 2^64 of the first 8 bytes, big-endian, of
 * SHA-256(delta_id) (semantics.md, Watch 9). Kept incrementally once somebody asked, so that a bookmark costs the
 * namespaces it covers, and a node nobody asks hashes nothing.
 */
import { sha256Halves } from "../../lib/crypto.ts";
import { Sum64 } from "../../lib/hash64.ts";
import { type CatalogRecord, deltaId as idOf } from "../record/record.ts";

export interface ViewDigest {
  readonly count: number;
  readonly digest: bigint;
}

/** The sum over a set of entries, and how many they are. */
export class DigestSum {
  count = 0;
  readonly #sum = new Sum64();

  add(deltaId: string): void {
    this.count += 1;
    this.#sum.add(sha256Halves(deltaId));
  }

  subtract(deltaId: string): void {
    this.count -= 1;
    this.#sum.subtract(sha256Halves(deltaId));
  }

  get value(): bigint {
    return this.#sum.value;
  }
}

/** A namespace that is being summed for the first time. */
interface Filling {
  readonly sum: DigestSum;
  /** What is visible of keys up to here is in the sum, and kept in it. */
  upTo: string;
}

type Entry = Pick<CatalogRecord, "key" | "origin" | "seq">;

/** Sums by namespace; one that has entries is tracked once it was summed for the first time, which may take many turns. */
export class NamespaceDigests {
  readonly #sums = new Map<string, DigestSum>();
  readonly #filling = new Map<string, Filling>();

  /**
   * Sums at most `maxCount` more entries of a namespace that is not tracked; `after` gives those visible now from behind a key on, in the
   * order of their keys. Returns how many it summed.
   */
  fill(namespace: string, maxCount: number, after: (key: string) => () => Entry | undefined): number {
    const filling = this.#filling.get(namespace) ?? { sum: new DigestSum(), upTo: namespace };
    const next = after(filling.upTo);
    for (let count = 0; count < maxCount; count++) {
      const entry = next();
      if (entry === undefined) {
        this.#filling.delete(namespace);
        // Strangers may ask for any name; one without entries would be refilled from nothing.
        if (filling.sum.count > 0) this.#sums.set(namespace, filling.sum);
        return count;
      }
      filling.sum.add(idOf(entry));
      filling.upTo = entry.key;
    }
    this.#filling.set(namespace, filling);
    return maxCount;
  }

  /** What entries are called has changed: whoever asks next has all summed anew. */
  forget(): void {
    this.#sums.clear();
    this.#filling.clear();
  }

  /** The namespace's sum; undefined when it is not tracked. */
  find(namespace: string): DigestSum | undefined {
    return this.#sums.get(namespace);
  }

  isTracked(namespace: string): boolean {
    return this.#sums.has(namespace);
  }

  /** Not all of it is summed yet. */
  isFilling(namespace: string): boolean {
    return this.#filling.has(namespace);
  }

  /** What a sum was or is to be told of a record; undefined where nobody asked for one. */
  trackedDelta(record: CatalogRecord | undefined): string | undefined {
    return record !== undefined && this.#isFollowed(record.namespace) ? idOf(record) : undefined;
  }

  /** Somebody asked for its sum, and perhaps not all of it is summed yet. */
  #isFollowed(namespace: string): boolean {
    return this.isTracked(namespace) || this.isFilling(namespace);
  }

  /** The view of a key changed from one record to another, by their delta ids; either may be absent. */
  viewChanged({ namespace, key }: Pick<CatalogRecord, "namespace" | "key">, before: string | undefined, after: string | undefined): void {
    if (before === after) return;
    const filling = this.#filling.get(namespace);
    // What is behind is summed when its turn comes, as it is then.
    const sum = filling === undefined || key > filling.upTo ? this.#sums.get(namespace) : filling.sum;
    if (sum === undefined) return;
    if (before !== undefined) sum.subtract(before);
    if (after !== undefined) sum.add(after);
    if (sum.count > 0) return;
    this.#sums.delete(namespace);
    this.#filling.delete(namespace);
  }
}
