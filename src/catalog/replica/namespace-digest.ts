/**
 * Count and digest of the visible entries of each namespace. The digest is the sum modulo 2^64 of the first 8 bytes, big-endian, of SHA-256(delta_id)
 * (semantics.md, Watch 9). After a reader has requested a sum for the first time, the sum is kept up to date. The cost of a bookmark therefore
 * depends only on the namespaces that it covers, and a node without such readers hashes nothing.
 */

import { BoundedMap } from "../../lib/bounded-map.ts";
import { sha256Halves } from "../../lib/crypto.ts";
import { Sum64 } from "../../lib/hash64.ts";
import { SCOPE } from "../entry/scope.ts";
import { KeyShards } from "../key-shards.ts";
import { type CatalogRecord, deltaId as idOf, type SharedTraits } from "../record/record.ts";

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

/** The sums for one namespace. */
class NamespaceSums {
  readonly all = new DigestSum();
  /** Sum over the LOCAL entries, which no other node has. Most namespaces have no LOCAL entries. */
  local: DigestSum | undefined;

  add(counted: string): void {
    this.all.add(deltaOf(counted));
    if (isLocal(counted)) (this.local ??= new DigestSum()).add(deltaOf(counted));
  }

  subtract(counted: string): void {
    this.all.subtract(deltaOf(counted));
    if (isLocal(counted)) this.local?.subtract(deltaOf(counted));
  }

  /** Returns count and sum; if `isShared` is set, without LOCAL entries. */
  view(isShared: boolean): ViewDigest {
    const { all, local } = this;
    if (!isShared || local === undefined) return { count: all.count, digest: all.value };
    return { count: all.count - local.count, digest: BigInt.asUintN(64, all.value - local.value) };
  }
}

/** Prefix that marks the delta id of a LOCAL entry. No node id begins with this prefix. */
const LOCAL_MARK = "\0";

function isLocal(counted: string): boolean {
  return counted.startsWith(LOCAL_MARK);
}

function deltaOf(counted: string): string {
  return isLocal(counted) ? counted.slice(LOCAL_MARK.length) : counted;
}

/** Returns the delta id of an entry, with the prefix if the entry is LOCAL. */
function countedOf(entry: DigestEntry): string {
  return entry.scope === SCOPE.LOCAL ? `${LOCAL_MARK}${idOf(entry)}` : idOf(entry);
}

/** A namespace whose first summation is in progress. */
interface PendingSum {
  readonly sums: NamespaceSums;
  /** The sum includes all keys up to this key, and is kept up to date for them. */
  upTo: string;
}

type DigestEntry = Pick<CatalogRecord, "key" | "origin" | "scope" | "seq">;

/** Sums by namespace. A namespace with entries is tracked after its first summation, which may take several turns of the event loop. */
export class NamespaceDigests {
  readonly #sums = new Map<string, NamespaceSums>();
  readonly #filling = new Map<string, PendingSum>();

  /**
   * Adds at most `maxCount` more entries of an untracked namespace to its sum. `after` returns the visible entries after a key, in key
   * order. Returns the number of added entries.
   */
  fill(namespace: string, maxCount: number, after: (key: string) => () => DigestEntry | undefined): number {
    const filling = this.#filling.get(namespace) ?? { sums: new NamespaceSums(), upTo: namespace };
    const next = after(filling.upTo);
    for (let count = 0; count < maxCount; count++) {
      const entry = next();
      if (entry === undefined) {
        this.#filling.delete(namespace);
        // Clients may request nonexistent namespaces, so the sum of a namespace without entries is not kept; computing it again costs nothing.
        if (filling.sums.all.count > 0) this.#sums.set(namespace, filling.sums);
        return count;
      }
      filling.sums.add(countedOf(entry));
      filling.upTo = entry.key;
    }
    this.#filling.set(namespace, filling);
    return maxCount;
  }

  /** Drops all sums, because the delta ids have changed. The next reader starts a new summation. */
  forget(): void {
    this.#sums.clear();
    this.#filling.clear();
  }

  /** Returns count and sum for the namespace. Undefined if the namespace is not tracked. If `isShared` is set, LOCAL entries are excluded. */
  find(namespace: string, isShared = false): ViewDigest | undefined {
    return this.#sums.get(namespace)?.view(isShared);
  }

  isTracked(namespace: string): boolean {
    return this.#sums.has(namespace);
  }

  /** Whether the summation for this namespace is still in progress. */
  isFilling(namespace: string): boolean {
    return this.#filling.has(namespace);
  }

  /** Returns the string under which the sums include a record, for `viewChanged`. Undefined if no reader has requested the record's namespace. */
  trackedDelta(record: CatalogRecord | undefined): string | undefined {
    return record !== undefined && this.#isFollowed(record.namespace) ? countedOf(record) : undefined;
  }

  /** Whether a reader has requested the sum, which may still be incomplete. */
  #isFollowed(namespace: string): boolean {
    return this.isTracked(namespace) || this.isFilling(namespace);
  }

  /** Updates the sums when the view of a key changes. `before` and `after` come from `trackedDelta`; either may be absent. */
  viewChanged({ namespace, key }: Pick<CatalogRecord, "namespace" | "key">, before: string | undefined, after: string | undefined): void {
    if (before === after) return;
    const filling = this.#filling.get(namespace);
    // The summation in progress adds later keys when it reaches them, in the state that they have then.
    const sums = filling === undefined || key > filling.upTo ? this.#sums.get(namespace) : filling.sums;
    if (sums === undefined) return;
    if (before !== undefined) sums.subtract(before);
    if (after !== undefined) sums.add(after);
    if (sums.all.count > 0) return;
    this.#sums.delete(namespace);
    this.#filling.delete(namespace);
  }
}

// How much each namespace and tenant uses: the number of visible entries, and the bytes of their content. Updated with each change.

/** Number of visible entries, and their bytes, not including load and times. */
export interface NamespaceUsage {
  readonly entries: number;
  readonly bytes: number;
}

interface UsageSum {
  entries: number;
  bytes: number;
}

const NOTHING: NamespaceUsage = { entries: 0, bytes: 0 };

/** The fields of an entry that affect usage. */
interface UsageFields {
  readonly traits: Pick<SharedTraits, "tenantId">;
  readonly contentBytes: number;
}

export class UsageTable {
  readonly #namespaces = new KeyShards<string, UsageSum>();
  readonly #tenants = new KeyShards<string, UsageSum>();

  ofNamespace(namespace: string): NamespaceUsage {
    return this.#namespaces.get(namespace) ?? NOTHING;
  }

  /** Returns how much the entries that callers of this tenant registered use. */
  ofTenant(tenant: string): NamespaceUsage {
    return this.#tenants.get(tenant) ?? NOTHING;
  }

  // HOT: runs for each change; two lookups of interned names are enough.
  enter(namespace: string, { traits, contentBytes }: UsageFields): void {
    add(this.#namespaces, namespace, contentBytes);
    if (traits.tenantId !== "") add(this.#tenants, traits.tenantId, contentBytes);
  }

  /** The fields must be the same as when `enter` was called. */
  leave(namespace: string, { traits, contentBytes }: UsageFields): void {
    subtract(this.#namespaces, namespace, contentBytes);
    if (traits.tenantId !== "") subtract(this.#tenants, traits.tenantId, contentBytes);
  }
}

function add(sums: KeyShards<string, UsageSum>, name: string, bytes: number): void {
  const sum = sums.get(name);
  if (sum === undefined) sums.replace(name, { entries: 1, bytes });
  else {
    sum.entries += 1;
    sum.bytes += bytes;
  }
}

function subtract(sums: KeyShards<string, UsageSum>, name: string, bytes: number): void {
  const sum = sums.get(name);
  if (sum === undefined) return;
  sum.entries -= 1;
  sum.bytes -= bytes;
  if (sum.entries === 0) sums.replace(name, undefined);
}

// Namespaces that lost their last visible entry, and the revision at which this happened. A reader that is behind may still have entries from these
// namespaces.

/** Maximum number of namespaces that are kept. Nothing is known about namespaces that became empty before the oldest one that is kept. */
const MAX_NAMES = 4096;

export class EmptiedNamespaces {
  /** Revisions in the order in which the namespaces became empty. */
  readonly #revisions = new BoundedMap<string, number>(MAX_NAMES, (_namespace, revision) => {
    this.#forgottenRevision = revision;
  });
  #forgottenRevision = 0;

  /** Namespaces that became empty up to this revision may be missing. */
  get forgottenRevision(): number {
    return this.#forgottenRevision;
  }

  /** Starts after a revision. Nothing is known about namespaces that became empty up to this revision. */
  startAt(revision: number): void {
    this.#revisions.clear();
    this.#forgottenRevision = revision;
  }

  note(namespace: string, revision: number): void {
    this.#revisions.set(namespace, revision);
  }

  /** Returns the namespaces that became empty after a revision, whether or not they have entries again. */
  since(revision: number): readonly string[] {
    if (this.#revisions.size === 0) return [];
    return [...this.#revisions].filter(([, at]) => at > revision).map(([namespace]) => namespace);
  }
}
