/**
 * The interface of a `ControlStore`, a key-value store for values that must be the same for all readers (policies, leaders, sessions).
 *
 * - Order: every change has a revision. Revisions grow, and no number is used for two changes of one key. There can be gaps between them, because other
 *   programs may write to the same store. An item's version is the revision of its last change, so one version of a key always has the same content.
 * - Atomicity: a transaction happens completely or not at all, and only if each condition holds. Each page of a list shows one point in time, but
 *   different pages may show different points in time.
 * - Durability: an acknowledged change is on disk. If a request fails with `store_unavailable`, it has possibly happened nevertheless, or can still
 *   happen, so read first. A late request does no harm if its conditions name versions.
 * - A watch reports the newest change of each key, ordered by revision, and reports a change only when it is durable. It may omit earlier
 *   changes of the same key. The changes of one transaction can be in two steps only if `isCurrent` is false in the first of them. A watch never
 *   resumes at a revision, because a store that was replaced meanwhile can have reached this revision with other changes.
 */

import { POLICY_BOUNDS } from "../../lib/bounds.ts";
import { invalid, WaymarkError } from "../../lib/errors.ts";

/** Keys are printable ASCII, so that every store orders them the same way, by their bytes. */
export const MAX_KEY_LENGTH = 512;
/** Maximum size of a value in the store of one node, which is large enough for one version of a policy. */
export const MAX_VALUE_BYTES = POLICY_BOUNDS.maxVersionBytes;
/** Maximum number of conditions of a transaction, and of its changes. */
export const MAX_TRANSACTION_ITEMS = 100;
/** Maximum number of items on a page of a list, and of changes in one step of a watch. */
export const MAX_PAGE_ITEMS = 1000;
/** A page ends early when the size of its values reaches this limit. A page contains at least one item. */
export const MAX_PAGE_BYTES = 16 * 1024 * 1024;

export interface StoreBounds {
  readonly maxItems: number;
  /** Maximum size of all keys and values together. */
  readonly maxTotalBytes: number;
}

export const STORE_BOUNDS: StoreBounds = { maxItems: 100_000, maxTotalBytes: 1024 * 1024 * 1024 };

export interface StoreItem {
  readonly key: string;
  /** Opaque bytes. Neither the store nor the caller changes them after they have been passed. */
  readonly value: Uint8Array;
  readonly version: number;
}

/** The result of a `compareAndSwap`. */
export type SwapResult =
  /** `version` is the item's new version, or the revision of its removal. */
  | { readonly isSwapped: true; readonly version: number }
  /** Nothing has changed, because the item has this version instead of the expected one; 0 if there is no item. */
  | { readonly isSwapped: false; readonly version: number };

/** Holds if the item's version is `version`, or for 0 if there is no item. */
export interface StoreCondition {
  readonly key: string;
  readonly version: number;
}

/** Puts `value`, or removes the item if `value` is undefined. Removing an absent item has no effect. */
export interface StoreWrite {
  readonly key: string;
  readonly value: Uint8Array | undefined;
}

/** The result of a `transact`. `revision` is the revision of the store after the transaction, or at the time of the refusal. */
export type TransactResult =
  /** `versions` has the new version of each changed item, in the order of the changes; 0 for the removal of an absent item. */
  | { readonly isCommitted: true; readonly revision: number; readonly versions: readonly number[] }
  /** Nothing has changed. `versions` has the version of each item in the conditions, in their order; 0 if there is no item. */
  | { readonly isCommitted: false; readonly revision: number; readonly versions: readonly number[] };

export interface StorePage {
  /** By key, ascending. */
  readonly items: readonly StoreItem[];
  /** Revision of the point in time that the page shows. */
  readonly revision: number;
  /** The key after which the next page starts. Undefined if this is the last page. */
  readonly nextAfter: string | undefined;
}

/** The newest change of a key. `item` is undefined if the key was removed. */
export interface StoreChange {
  readonly key: string;
  readonly version: number;
  readonly item: StoreItem | undefined;
}

/** Selects a page of a list: the items after the key `after`, at most `limit` (1 to 1000, default 1000). */
export interface StorePageRequest {
  readonly after?: string;
  readonly limit?: number;
}

/** One step of a watch. */
export interface StoreChanges {
  /** Whether the reader must discard its items. All items follow, in this step and the next steps. */
  readonly isReset: boolean;
  /** Ordered by version. Empty if there are no items, or if the remaining ones have been removed meanwhile. */
  readonly changes: readonly StoreChange[];
  /** The revision of the store that the reader has reached after this step, if `isCurrent` is true. */
  readonly revision: number;
  /** False if the store already has later changes: after a reset, the reader has all items only when this is true. */
  readonly isCurrent: boolean;
}

export interface StoreWatch extends Disposable {
  /**
   * Returns the next changes as soon as there are any. Returns undefined when the watch is closed. Only one call can be in progress. Rejects with
   * `store_unavailable` like `get`; the next call then starts over, or continues if no change can have been missed.
   */
  next(): Promise<StoreChanges | undefined>;
  close(): void;
}

/**
 * Every method rejects with `store_unavailable` if the store is unavailable or closed. It rejects with `invalid_argument` for an invalid key or
 * prefix: keys have 1 to 512 characters of printable ASCII without spaces, and prefixes have 0 to 512.
 */
export interface ControlStore extends AsyncDisposable {
  get(key: string): Promise<StoreItem | undefined>;
  /** Returns the items whose key starts with `prefix`. */
  list(prefix: string, page?: StorePageRequest): Promise<StorePage>;
  /**
   * Makes all changes if each condition holds, or none. A key may be in several conditions, but only in one change. Rejects with `invalid_argument`
   * without a change, for more than 100 conditions or changes, and for a repeated key; and with `quota_exceeded` if a value is too large or the store
   * is full. The values are copied before this method returns.
   */
  transact(conditions: readonly StoreCondition[], changes: readonly StoreWrite[]): Promise<TransactResult>;
  /**
   * A transaction with one condition and one change. Puts `value`, or removes the item if `value` is undefined, provided that the item's version is
   * `expectedVersion` (0 means that there must be no item). Removing an absent item has no effect and returns `isSwapped` with the version 0. Rejects
   * like `transact`.
   */
  compareAndSwap(key: string, expectedVersion: number, value: Uint8Array | undefined): Promise<SwapResult>;
  /** Watches the items whose key starts with `prefix`. The watch starts with all items (`isReset`), and can start over at any time. */
  watch(prefix: string): StoreWatch;
  /** Permits the store to forget all changes up to a revision, so that watches that are further behind start over. A store without history does nothing. */
  compact(revision: number): Promise<void>;
  /** Answers all earlier calls, and then closes the store. Idempotent. */
  close(): Promise<void>;
}

const KEY = /^[\x21-\x7e]*$/;

/** Throws `invalid_argument` for a string that cannot be a key. */
export function checkKey(key: string): void {
  if (key === "") throw invalid("key", "must have 1 to 512 characters");
  checkPrefix(key, "key");
}

/** Throws `invalid_argument` for a string that cannot be the start of a key. */
export function checkPrefix(prefix: string, field = "prefix"): void {
  if (prefix.length > MAX_KEY_LENGTH) throw invalid(field, `must have at most ${MAX_KEY_LENGTH} characters, got ${prefix.length}`);
  if (!KEY.test(prefix))
    throw invalid(field, `invalid value ${JSON.stringify(prefix)}: allowed characters are printable ASCII without spaces`);
}

/** Throws `invalid_argument` for an invalid page size. */
export function checkLimit(limit: number): void {
  if (!Number.isSafeInteger(limit) || limit < 1 || limit > MAX_PAGE_ITEMS)
    throw invalid("limit", `must be from 1 to ${MAX_PAGE_ITEMS}, got ${limit}`);
}

/** The size of a store. */
export interface StoreUse {
  readonly items: number;
  readonly totalBytes: number;
}

/** Throws `quota_exceeded` if a value is too large. */
function checkValue(key: string, value: Uint8Array | undefined, maxBytes: number): void {
  if (value !== undefined && value.length > maxBytes)
    throw new WaymarkError("quota_exceeded", `the value of ${key} has ${value.length} bytes; at most ${maxBytes} are allowed`);
}

/** Throws `invalid_argument` or `quota_exceeded` for a transaction that no store accepts. */
export function checkTransaction(conditions: readonly StoreCondition[], changes: readonly StoreWrite[], maxBytes = MAX_VALUE_BYTES): void {
  if (changes.length === 0) throw invalid("changes", "must have at least one change");
  for (const [field, list] of [["conditions", conditions] as const, ["changes", changes] as const]) {
    if (list.length > MAX_TRANSACTION_ITEMS) throw invalid(field, `must have at most ${MAX_TRANSACTION_ITEMS} items, got ${list.length}`);
    for (const { key } of list) checkKey(key);
  }
  if (new Set(changes.map(({ key }) => key)).size < changes.length) throw invalid("changes", "must not have two changes of one key");
  for (const { key, value } of changes) checkValue(key, value, maxBytes);
}

/** Throws `quota_exceeded` if a transaction makes a store grow above its bounds. */
export function checkRoom(before: StoreUse, after: StoreUse, { maxItems, maxTotalBytes }: StoreBounds): void {
  if (after.items > maxItems && after.items > before.items)
    throw new WaymarkError("quota_exceeded", `the store is full: it would have ${after.items} items; at most ${maxItems} are allowed`);
  if (after.totalBytes > maxTotalBytes && after.totalBytes > before.totalBytes) {
    const message = `the store is full: it would have ${after.totalBytes} bytes; at most ${maxTotalBytes} are allowed`;
    throw new WaymarkError("quota_exceeded", message);
  }
}

/** The result of `compareAndSwap`, from its transaction. */
export function swapResult({ isCommitted, versions: [version = 0] }: TransactResult): SwapResult {
  return { isSwapped: isCommitted, version };
}
