/** This node's own records that are not durable yet. They have a seq, but are not visible. */
import { MAX_STAMP } from "../../lib/hlc.ts";
import type { Scope } from "../entry/scope.ts";
import { KeyShards } from "../key-shards.ts";
import type { CatalogRecord, KeyText } from "../record/record.ts";
import type { StoredRecord, StoredRecordFields } from "../record/stored-record.ts";

/** The content of a record of this node before it has a seq. `bytes` contains the encoded entry. */
export interface OwnPut
  extends Omit<StoredRecordFields, "origin" | "seq" | "firstSeq" | "filterSeq" | "body" | "reach" | "at" | "sizeBytes"> {
  readonly bytes: Uint8Array;
  /** Set if the reach must be wider than the put's scope and the stored records require. */
  readonly reach?: Scope;
  /** Whether a filterable field differs from this node's current record for the key. */
  readonly isFilterChange: boolean;
}

/** The fields that a tombstone copies from the record that it ends. */
export type TombstoneFields = Pick<
  CatalogRecord,
  "key" | "namespace" | "name" | "kind" | "scope" | "reach" | "health" | "traits" | "principal"
>;

/** Returns the tombstone that ends the record `of`. */
// HOT: one literal; spreading its parts would cost 1 % of the time needed to add and remove an entry (benchmark `versions`).
export function endOf(
  of: TombstoneFields,
  end: Pick<StoredRecordFields, "origin" | "body" | "reach" | "seq" | "hlc" | "firstSeq" | "unregisteredHlc" | "orders">,
): StoredRecordFields {
  return {
    key: of.key,
    namespace: of.namespace,
    name: of.name,
    kind: of.kind,
    origin: end.origin,
    seq: end.seq,
    hlc: end.hlc,
    firstSeq: end.firstSeq,
    filterSeq: end.seq,
    body: end.body,
    scope: of.scope,
    reach: end.reach,
    health: of.health,
    traits: of.traits,
    principal: of.principal,
    unregisteredHlc: end.unregisteredHlc,
    orders: end.orders,
    at: 0,
    sizeBytes: 0,
    contentBytes: 0,
  };
}

/**
 * Returns the stamp for a record that carries an unregister. The stamp must be above that unregister, because otherwise the record would only narrow
 * the key's scope (`isNarrowing`).
 */
export function stampWith(hlc: number, unregisteredHlc: number | undefined): number {
  return unregisteredHlc === undefined || unregisteredHlc < hlc ? hlc : Math.min(unregisteredHlc + 1, MAX_STAMP);
}

export class RecordStaging {
  #lastSeq: number;
  readonly #storedRecords: StoredRecord[] = [];
  readonly #byKey = new KeyShards<KeyText, StoredRecord>();

  /** Starts after the highest seq that was ever assigned. */
  constructor(lastSeq: number) {
    this.#lastSeq = lastSeq;
  }

  /** The highest assigned seq. The seq of a refused record is not reused. */
  get lastSeq(): number {
    return this.#lastSeq;
  }

  /** The staged records in order of seq, oldest first. */
  get storedRecords(): readonly StoredRecord[] {
    return this.#storedRecords;
  }

  nextSeq(): number {
    this.#lastSeq += 1;
    return this.#lastSeq;
  }

  /** Returns the newest staged record for a key. */
  find(key: KeyText): StoredRecord | undefined {
    return this.#byKey.get(key);
  }

  add(stored: StoredRecord): StoredRecord {
    this.#storedRecords.push(stored);
    this.#byKey.replace(stored.key, stored);
    return stored;
  }

  /**
   * Removes the records with a seq above the given one, because the call that staged them failed. Returns them oldest first. Their seqs are not
   * reused.
   */
  takeAfter(seq: number): readonly StoredRecord[] {
    const after = this.#storedRecords.findIndex((stored) => stored.seq > seq);
    const taken = after < 0 ? [] : this.#storedRecords.splice(after);
    for (const { key } of taken) {
      const before = this.#storedRecords.findLast((stored) => stored.key === key);
      this.#byKey.replace(key, before);
    }
    return taken;
  }

  /** Removes the records up to a seq and returns them, oldest first. */
  take(through: number): readonly StoredRecord[] {
    const after = this.#storedRecords.findIndex((stored) => stored.seq > through);
    const taken = this.#storedRecords.splice(0, after < 0 ? this.#storedRecords.length : after);
    for (const stored of taken) if (this.#byKey.get(stored.key) === stored) this.#byKey.replace(stored.key, undefined);
    return taken;
  }
}
