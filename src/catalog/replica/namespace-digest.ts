/**
 * Count and digest of the visible entries of each namespace: the sum modulo 2^64 of the first 8 bytes, big-endian, of SHA-256(delta_id)
 * (semantics.md, Watch 9). A sum is kept up to date once a reader has asked for it. So a bookmark costs only the namespaces that it covers,
 * and a node without such readers hashes nothing.
 */
import { sha256Halves } from "../../lib/crypto.ts";
import { Sum64 } from "../../lib/hash64.ts";
import { SCOPE } from "../entry/scope.ts";
import { type CatalogRecord, deltaId as idOf } from "../record/record.ts";

export interface ViewDigest {
  readonly count: number;
  readonly digest: bigint;
}

/** The sum over a set of entries, and their number. */
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

/** The sums of one namespace. */
class NamespaceSums {
  readonly all = new DigestSum();
  /** Of LOCAL entries, which no other node has. Most namespaces have none. */
  local: DigestSum | undefined;

  add(counted: string): void {
    this.all.add(deltaOf(counted));
    if (isLocal(counted)) (this.local ??= new DigestSum()).add(deltaOf(counted));
  }

  subtract(counted: string): void {
    this.all.subtract(deltaOf(counted));
    if (isLocal(counted)) this.local?.subtract(deltaOf(counted));
  }

  /** Count and sum; `isShared`: without LOCAL entries. */
  view(isShared: boolean): ViewDigest {
    const { all, local } = this;
    if (!isShared || local === undefined) return { count: all.count, digest: all.value };
    return { count: all.count - local.count, digest: BigInt.asUintN(64, all.value - local.value) };
  }
}

/** Marks the delta id of a LOCAL entry. No node id begins with it. */
const LOCAL_MARK = "\0";

function isLocal(counted: string): boolean {
  return counted.startsWith(LOCAL_MARK);
}

function deltaOf(counted: string): string {
  return isLocal(counted) ? counted.slice(LOCAL_MARK.length) : counted;
}

/** The delta id of an entry, with a mark if it is LOCAL. */
function countedOf(entry: Entry): string {
  return entry.scope === SCOPE.LOCAL ? `${LOCAL_MARK}${idOf(entry)}` : idOf(entry);
}

/** A namespace that is being summed for the first time. */
interface Filling {
  readonly sums: NamespaceSums;
  /** Keys up to this one are in the sum, which is kept up to date for them. */
  upTo: string;
}

type Entry = Pick<CatalogRecord, "key" | "origin" | "scope" | "seq">;

/** Sums by namespace. A namespace with entries is tracked after its first summing, which may take many turns. */
export class NamespaceDigests {
  readonly #sums = new Map<string, NamespaceSums>();
  readonly #filling = new Map<string, Filling>();

  /**
   * Sums at most `maxCount` more entries of an untracked namespace. `after` gives the visible entries after a key, in key order. Returns
   * the number of summed entries.
   */
  fill(namespace: string, maxCount: number, after: (key: string) => () => Entry | undefined): number {
    const filling = this.#filling.get(namespace) ?? { sums: new NamespaceSums(), upTo: namespace };
    const next = after(filling.upTo);
    for (let count = 0; count < maxCount; count++) {
      const entry = next();
      if (entry === undefined) {
        this.#filling.delete(namespace);
        // Strangers may ask for any name, so a name without entries is not kept; summing it again costs nothing.
        if (filling.sums.all.count > 0) this.#sums.set(namespace, filling.sums);
        return count;
      }
      filling.sums.add(countedOf(entry));
      filling.upTo = entry.key;
    }
    this.#filling.set(namespace, filling);
    return maxCount;
  }

  /** The delta ids have changed. The next reader has everything summed anew. */
  forget(): void {
    this.#sums.clear();
    this.#filling.clear();
  }

  /** Count and sum of the namespace; undefined when it is not tracked. `isShared`: without LOCAL entries. */
  find(namespace: string, isShared = false): ViewDigest | undefined {
    return this.#sums.get(namespace)?.view(isShared);
  }

  isTracked(namespace: string): boolean {
    return this.#sums.has(namespace);
  }

  /** Whether the sum is still incomplete. */
  isFilling(namespace: string): boolean {
    return this.#filling.has(namespace);
  }

  /** A record as the sums count it: to be given to `viewChanged`. Undefined if no reader has asked for its namespace. */
  trackedDelta(record: CatalogRecord | undefined): string | undefined {
    return record !== undefined && this.#isFollowed(record.namespace) ? countedOf(record) : undefined;
  }

  /** Whether a reader has asked for the sum, which may still be incomplete. */
  #isFollowed(namespace: string): boolean {
    return this.isTracked(namespace) || this.isFilling(namespace);
  }

  /** The view of a key changed from one record to another, each as `trackedDelta` gave it. Either may be absent. */
  viewChanged({ namespace, key }: Pick<CatalogRecord, "namespace" | "key">, before: string | undefined, after: string | undefined): void {
    if (before === after) return;
    const filling = this.#filling.get(namespace);
    // Later keys are summed in their turn, as they are then.
    const sums = filling === undefined || key > filling.upTo ? this.#sums.get(namespace) : filling.sums;
    if (sums === undefined) return;
    if (before !== undefined) sums.subtract(before);
    if (after !== undefined) sums.add(after);
    if (sums.all.count > 0) return;
    this.#sums.delete(namespace);
    this.#filling.delete(namespace);
  }
}
