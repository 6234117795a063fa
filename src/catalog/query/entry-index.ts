/** The visible records, one for each key, and the lists from which a query can start. */

import { LAST_KIND } from "../entry/kinds.ts";
import { SCOPE, type Scope } from "../entry/scope.ts";
import type { CatalogRecord, Kind } from "../record/record.ts";
import { type NamespaceUsage, UsageTable } from "../replica/namespace-digest.ts";
import { ListCursor, OrderedRecords, Postings } from "./ordered-records.ts";
import { SortedNames } from "./sorted-blocks.ts";

/** The fields that, together with the key, determine the lists and sums to which a record belongs. A `CatalogRecord` has all of these fields. */
export type IndexFields = Pick<CatalogRecord, "traits" | "scope" | "contentBytes">;

const KIND_COUNT = LAST_KIND + 1;
const SCOPE_COUNT = SCOPE.GLOBAL + 1;

/**
 * Index of the visible records by key, kind, name, tag, capability and resource. The index stores references, not copies. Code that changes a
 * record's traits or scope in place must pass the previous values. Health, load and revision are not indexed and may change freely.
 */
export class EntryIndex {
  /** Every record, in key order. */
  readonly all = new OrderedRecords();
  readonly #kinds: readonly OrderedRecords[] = Array.from({ length: KIND_COUNT }, () => new OrderedRecords());
  readonly names = new Postings();
  readonly tags = new Postings();
  readonly capabilities = new Postings();
  readonly resources = new Postings();
  readonly #usage = new UsageTable();
  readonly #namespaces = new SortedNames();
  readonly #counts = new Int32Array(KIND_COUNT * SCOPE_COUNT);

  /** Number of visible records. */
  get size(): number {
    return this.all.size;
  }

  /** Returns the records of one kind, in key order. */
  ofKind(kind: Kind): OrderedRecords {
    return this.#kinds[kind] ?? this.all;
  }

  /** Returns the record shown for this key, if any. O(log n). */
  find(key: string): CatalogRecord | undefined {
    return this.all.find(key);
  }

  /** Returns a cursor over all records in key order. */
  cursor(): ListCursor {
    return new ListCursor(this.all);
  }

  /** The namespaces with at least one record. */
  get namespaces(): Pick<SortedNames, "from" | "list"> {
    return this.#namespaces;
  }

  /** Returns the number of records in this namespace, excluding the namespaces below it. */
  namespaceCount(namespace: string): number {
    return this.#usage.ofNamespace(namespace).entries;
  }

  /** Returns the number and the content bytes of the records in exactly this namespace. */
  namespaceUsage(namespace: string): NamespaceUsage {
    return this.#usage.ofNamespace(namespace);
  }

  /** Returns the number and content bytes of the records that callers of this tenant registered. */
  tenantUsage(tenant: string): NamespaceUsage {
    return this.#usage.ofTenant(tenant);
  }

  /** Returns the number of records with this kind and scope. */
  count(kind: Kind, scope: Scope): number {
    return this.#counts[kind * SCOPE_COUNT + scope] ?? 0;
  }

  /**
   * Makes this record visible for its key, replacing the currently visible record, if any. `before` contains the fields that were indexed at the last
   * call for this key; it is needed only if the shown object has been changed in place since then.
   */
  put(record: CatalogRecord, before?: IndexFields): void {
    const old = this.all.find(record.key);
    if (old === undefined) {
      this.#add(record);
    } else if (old === record) {
      if (before !== undefined) this.update(record, before);
    } else {
      this.#replace(old, record, before ?? old);
    }
  }

  /**
   * Updates the lists after the visible record was changed in place. `before` contains the record's previous fields. Only the lists that are affected
   * are updated.
   */
  update(record: CatalogRecord, before: IndexFields): void {
    if (before.scope !== record.scope) {
      this.#count(record.kind, before.scope, -1);
      this.#count(record.kind, record.scope, 1);
    }
    const { traits, contentBytes } = record;
    if (before.traits.tenantId !== traits.tenantId || before.contentBytes !== contentBytes) {
      this.#usage.leave(record.namespace, before);
      this.#usage.enter(record.namespace, record);
    }
    if (before.traits === traits) return;
    repost(this.tags, record, before.traits.tags, traits.tags);
    repost(this.capabilities, record, before.traits.capabilities, traits.capabilities);
    repost(this.resources, record, before.traits.resources, traits.resources);
  }

  /**
   * Removes the visible record of this key. `before` has the same meaning as in `put`. Unknown keys are ignored. Returns the number of remaining
   * records in the namespace.
   */
  remove(record: CatalogRecord, before: IndexFields = record): number {
    if (this.all.remove(record.key) === "absent") return this.namespaceCount(record.namespace);
    this.#kinds[record.kind]?.remove(record.key);
    this.names.remove(record.name, record);
    for (const tag of before.traits.tags) this.tags.remove(tag, record);
    for (const capability of before.traits.capabilities) this.capabilities.remove(capability, record);
    for (const resource of before.traits.resources) this.resources.remove(resource, record);
    this.#count(record.kind, before.scope, -1);
    return this.#leaveNamespace(record.namespace, before);
  }

  #add(record: CatalogRecord): void {
    this.#point(record);
    this.#count(record.kind, record.scope, 1);
    this.#enterNamespace(record);
  }

  #replace(old: CatalogRecord, record: CatalogRecord, before: IndexFields): void {
    // Equal keys have the same kind and name, so only removed terms have to be deleted.
    removeGone(this.tags, old, before.traits.tags, record.traits.tags);
    removeGone(this.capabilities, old, before.traits.capabilities, record.traits.capabilities);
    removeGone(this.resources, old, before.traits.resources, record.traits.resources);
    this.#point(record);
    this.#count(record.kind, before.scope, -1);
    this.#count(record.kind, record.scope, 1);
    this.#usage.leave(record.namespace, before);
    this.#usage.enter(record.namespace, record);
  }

  /** Replaces the stored object with this one in every list that contains the record. */
  #point(record: CatalogRecord): void {
    this.all.put(record);
    this.#kinds[record.kind]?.put(record);
    this.names.put(record.name, record);
    for (const tag of record.traits.tags) this.tags.put(tag, record);
    for (const capability of record.traits.capabilities) this.capabilities.put(capability, record);
    for (const resource of record.traits.resources) this.resources.put(resource, record);
  }

  #count(kind: Kind, scope: Scope, change: number): void {
    const slot = kind * SCOPE_COUNT + scope;
    this.#counts[slot] = (this.#counts[slot] ?? 0) + change;
  }

  #enterNamespace(record: CatalogRecord): void {
    const { namespace } = record;
    this.#usage.enter(namespace, record);
    if (this.namespaceCount(namespace) === 1) this.#namespaces.add(namespace);
  }

  #leaveNamespace(namespace: string, before: IndexFields): number {
    this.#usage.leave(namespace, before);
    const left = this.namespaceCount(namespace);
    if (left === 0) this.#namespaces.remove(namespace);
    return left;
  }
}

function repost(postings: Postings, record: CatalogRecord, before: readonly string[], after: readonly string[]): void {
  removeGone(postings, record, before, after);
  for (const term of after) if (!before.includes(term)) postings.put(term, record);
}

function removeGone(postings: Postings, record: CatalogRecord, before: readonly string[], after: readonly string[]): void {
  for (const term of before) if (!after.includes(term)) postings.remove(term, record);
}
