/**
 * Count and digest of what is visible in each namespace: sum mod 2^64 of the first 8 bytes, big-endian, of
 * SHA-256(delta_id) (semantics.md, Watch 9). Kept incrementally once somebody asked, so that a bookmark costs the
 * namespaces it covers, and a node nobody asks hashes nothing.
 */
import { sha256Halves } from "../lib/crypto.ts";
import { Sum64 } from "../lib/sum64.ts";
import { type CatalogRecord, deltaId as idOf } from "./record.ts";

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

/** Sums by namespace; one that has entries is tracked from the first time it is asked for. */
export class NamespaceDigests {
  readonly #sums = new Map<string, DigestSum>();

  /** The namespace's sum; `fill` lists the delta ids visible now and is called only the first time. */
  of(namespace: string, fill: (add: (deltaId: string) => void) => void): DigestSum {
    let sum = this.#sums.get(namespace);
    if (sum === undefined) {
      const fresh = new DigestSum();
      fill((deltaId) => fresh.add(deltaId));
      // Strangers may ask for any name; one without entries would be refilled from nothing.
      if (fresh.count > 0) this.#sums.set(namespace, fresh);
      sum = fresh;
    }
    return sum;
  }

  isTracked(namespace: string): boolean {
    return this.#sums.has(namespace);
  }

  /** What a sum was or is to be told of a record; undefined where nobody asked for one. */
  trackedDelta(record: CatalogRecord | undefined): string | undefined {
    return record !== undefined && this.isTracked(record.namespace) ? idOf(record) : undefined;
  }

  /** The view of a key changed from one record to another; either may be absent. */
  viewChanged(namespace: string, before: string | undefined, after: string | undefined): void {
    const sum = this.#sums.get(namespace);
    if (sum === undefined || before === after) return;
    if (before !== undefined) sum.subtract(before);
    if (after !== undefined) sum.add(after);
    if (sum.count === 0) this.#sums.delete(namespace);
  }
}
