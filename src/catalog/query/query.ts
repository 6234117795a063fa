/** Pages of the catalog in key order, read from the smallest list that contains the answer (semantics.md, Scopes; P2). */

import { decodeBase64url } from "../../lib/crypto.ts";
import { invalid } from "../../lib/errors.ts";
import { fnv64 } from "../../lib/hash64.ts";
import { SCOPE } from "../entry/scope.ts";
import { type CatalogRecord, type KeyText, KIND, viewHealth } from "../record/record.ts";
import type { EntryIndex } from "./entry-index.ts";
import {
  coversNamespace,
  dropDetail,
  type EntryFilter,
  type ExclusionReason,
  type NodeLocality,
  namespacesAbove,
  namespacesStart,
  whyNot,
} from "./filter.ts";
import { MergeCursor } from "./merge.ts";
import type { Postings } from "./ordered-records.ts";
import { ListCursor, type RecordCursor } from "./ordered-records.ts";

/** Maximum number of records that a page examines. If this limit is reached, the page ends early and contains the key from which to continue. */
export const SCAN_BUDGET = 10_000;
/** Replaces `SCAN_BUDGET` if the entry of each matching record must be decoded. */
const TEST_BUDGET = 2000;
/** Maximum number of records for which a page gives an explanation. */
const MAX_CONSIDERED = 1000;

const DEFAULT_LIMIT = 100;
/** The largest effective `limit` of a list. */
export const MAX_LIMIT = 1000;
/** A list with at most this many records is used without searching for a shorter one. */
const SHORT = 64;

/**
 * A further check of records that match the filter. It returns the reason to exclude the record, if any, and the additional cost of the check,
 * measured in examined records. The check may decode the entry.
 */
export type EntryTest = (record: CatalogRecord) => {
  readonly fault?: { readonly reason: "subject"; readonly detail: string };
  readonly cost: number;
};

export interface QueryOptions {
  /** Maximum number of records on the page, at least 1; see `pageLimit`. */
  readonly limit: number;
  /** The page contains only records after this key. Empty for the first page. */
  readonly afterKey: string;
  readonly self: NodeLocality;
  /**
   * Whether the reader may see a namespace. Called once for each sequence of records in the same namespace. A hidden namespace is treated as absent.
   */
  readonly allowed: (namespace: string) => boolean;
  /**
   * Whether to explain why each considered record was kept or dropped. If set, the page reads only the lists of names or namespaces, so that it
   * includes records that the other conditions exclude.
   */
  readonly explain: boolean;
  readonly scanBudget?: number;
  readonly test?: EntryTest | undefined;
  /**
   * Opens a list of all matches that the reader may see, which is used instead of a list from the index. The conditions of this list are not part of
   * the filter.
   */
  readonly open?: ((start: PageStart) => RecordCursor) | undefined;
}

/** The start of a page. */
export type PageStart = Pick<QueryOptions, "afterKey" | "allowed">;

export interface ConsideredEntry {
  readonly key: KeyText;
  readonly kept: boolean;
  readonly reason: "kept" | "after_page" | ExclusionReason | NonNullable<ReturnType<EntryTest>["fault"]>["reason"];
  readonly detail: string;
}

export interface QueryPage {
  readonly records: readonly CatalogRecord[];
  /** The next page starts after this key. Undefined on the last page. There may be a next page even if this page is not full. */
  readonly nextKey: KeyText | undefined;
  /** Present if `explain` is set; at most MAX_CONSIDERED. */
  readonly considered: readonly ConsideredEntry[] | undefined;
}

/** Returns the effective `limit` of a list request, which is not negative: 0 means 100, and values above 1000 mean 1000. */
export function pageLimit(limit: number): number {
  return limit === 0 ? DEFAULT_LIMIT : Math.min(limit, MAX_LIMIT);
}

/** Returns one page of the matching records. Cost: the records examined in the smallest matching list, but at most the scan budget. */
export function queryPage(lookup: EntryIndex, filter: EntryFilter, options: QueryOptions): QueryPage {
  const { limit, self, allowed, afterKey, test } = options;
  const scanBudget = options.scanBudget ?? (test === undefined ? SCAN_BUDGET : TEST_BUDGET);
  const records: CatalogRecord[] = [];
  const considered: ConsideredEntry[] | undefined = options.explain ? [] : undefined;
  const source = options.open === undefined ? openSource(lookup, filter, options.explain) : options.open(options);
  if (source === undefined) return { records, nextKey: undefined, considered };
  const start = startKey(filter);
  source.seek(afterKey > start ? afterKey : start);

  let namespace: string | undefined;
  let lastKey: KeyText | undefined;
  let examinedCount = 0;
  for (let record = source.next(); record !== undefined; record = source.next()) {
    // HOT: most pages are first pages. Comparing a key reads its text, which is not next to the record in memory.
    if (afterKey !== "" && record.key === afterKey) continue;
    if (record.namespace !== namespace) {
      if (!coversNamespace(filter, record.namespace) || !allowed(record.namespace)) {
        const next = nextNamespace(lookup, filter, allowed, record.namespace);
        if (next === undefined) break;
        source.seek(`${next}\0`);
        continue;
      }
      namespace = record.namespace;
    }
    const reason = whyNot(filter, record, self, viewHealth(record));
    const tested = reason === undefined ? test?.(record) : undefined;
    const fault = tested?.fault;
    if (fault !== undefined) {
      note(considered, record, fault.reason, fault.detail);
    } else if (reason === undefined && records.length === limit) {
      note(considered, record, "after_page", "the page is full");
      return { records, nextKey: lastKey, considered };
    } else if (reason === undefined) {
      records.push(record);
      note(considered, record, "kept", "");
    } else if (considered !== undefined && !isSecret(filter, record)) {
      note(considered, record, reason, dropDetail(filter, record, reason));
    }
    lastKey = record.key;
    examinedCount += 1 + (tested?.cost ?? 0);
    if (examinedCount >= scanBudget) return { records, nextKey: lastKey, considered };
  }
  return { records, nextKey: undefined, considered };
}

/**
 * Returns one page of the union of several lists that share no keys. The page of each list is complete up to its end, so the joined page is complete
 * up to the earliest of these ends. Cost: one `queryPage` for each list.
 */
export function joinedPage(lookups: readonly EntryIndex[], filter: EntryFilter, options: QueryOptions): QueryPage {
  const [first] = lookups;
  if (first !== undefined && lookups.length === 1) return queryPage(first, filter, options);
  const pages = lookups.map((lookup) => queryPage(lookup, filter, options));
  const ends = pages.flatMap(({ nextKey }) => (nextKey === undefined ? [] : [nextKey]));
  const end = ends.toSorted()[0];
  const known = pages.flatMap(({ records }) => records).filter(({ key }) => end === undefined || key <= end);
  const records = known.toSorted((a, b) => (a.key < b.key ? -1 : 1)).slice(0, options.limit);
  const nextKey = records.length < known.length ? records.at(-1)?.key : end;
  const considered = options.explain ? pages.flatMap((page) => page.considered ?? []).slice(0, MAX_CONSIDERED) : undefined;
  return { records, nextKey, considered };
}

/**
 * Whether an explanation must not mention a record. A resolver receives no information about LOCAL entries, not even that they were omitted.
 */
function isSecret({ resolved }: EntryFilter, { scope }: CatalogRecord): boolean {
  return resolved !== undefined && scope === SCOPE.LOCAL;
}

function note(considered: ConsideredEntry[] | undefined, record: CatalogRecord, reason: ConsideredEntry["reason"], detail: string): void {
  if (considered === undefined || considered.length >= MAX_CONSIDERED) return;
  considered.push({ key: record.key, kept: reason === "kept", reason, detail });
}

/**
 * Returns the next namespace that the filter covers and the reader may see. Each hidden namespace costs one call of `allowed` but uses no scan
 * budget, because a page that ended among hidden namespaces would reveal one of them in its token.
 */
function nextNamespace(
  lookup: EntryIndex,
  filter: EntryFilter,
  allowed: (namespace: string) => boolean,
  after: string,
): string | undefined {
  if (filter.namespace !== "") return undefined;
  let start: string | undefined = after;
  while (start !== undefined) {
    let next: string | undefined;
    for (const namespace of lookup.namespaces.from(start)) {
      if (namespace === after) continue;
      if (coversNamespace(filter, namespace)) {
        if (allowed(namespace)) return namespace;
      } else {
        next = namespacesAbove(filter, namespace);
        break;
      }
    }
    start = next;
  }
  return undefined;
}

/** Returns a lower bound for all matching keys. */
function startKey(filter: EntryFilter): string {
  if (filter.namespace !== "") return `${filter.namespace}\0`;
  return namespacesStart(filter) ?? filter.prefix;
}

/** Opens the smallest list that contains every match. Undefined if no record can match. */
function openSource(lookup: EntryIndex, filter: EntryFilter, isExplaining: boolean): RecordCursor | undefined {
  const namesCount = filter.names.length === 0 ? Infinity : sum(filter.names, (name) => lookup.names.count(name));
  if (namesCount <= SHORT || (isExplaining && namesCount < Infinity)) return openNames(lookup, filter.names);
  if (isExplaining) return lookup.cursor();
  return openSmallest(lookup, filter);
}

function openSmallest(lookup: EntryIndex, filter: EntryFilter): RecordCursor | undefined {
  const [from, to] = bounds(filter);
  let least = filter.namespace === "" ? lookup.all.estimateRange(from, to) : lookup.namespaceCount(filter.namespace);
  let open: () => RecordCursor = () => lookup.cursor();
  if (filter.names.length > 0) {
    const count = sum(filter.names, (name) => lookup.names.estimateRange(name, from, to));
    if (count <= least) {
      least = count;
      open = () => openNames(lookup, filter.names);
    }
  }
  const kinds = filter.kindMask === 0 ? [] : Object.values(KIND).filter((kind) => (filter.kindMask & (1 << kind)) !== 0);
  if (kinds.length > 0) {
    const count = sum(kinds, (kind) => lookup.ofKind(kind).estimateRange(from, to));
    if (count < least) {
      least = count;
      open = () => merged(kinds.map((kind) => new ListCursor(lookup.ofKind(kind))));
    }
  }
  const fields: readonly (readonly [Postings, readonly string[]])[] = [
    [lookup.tags, filter.tags],
    [lookup.capabilities, filter.capabilities],
    [lookup.resources, filter.resources],
  ];
  for (const [postings, wanted] of fields) {
    for (const term of wanted) {
      const count = postings.estimateRange(term, from, to);
      if (count < least) {
        least = count;
        open = () => postings.cursor(term);
      }
    }
  }
  return least === 0 ? undefined : open();
}

/**
 * Returns the range [from, to) that contains every matching key. With a prefix, this range includes keys such as `p-x`, which are
 * skipped.
 */
function bounds(filter: EntryFilter): readonly [string, string] {
  if (filter.namespace !== "") return [`${filter.namespace}\0`, `${filter.namespace}\u0001`];
  return filter.prefix === "" ? ["", "\uffff"] : [filter.prefix, `${filter.prefix}/`];
}

function openNames(lookup: EntryIndex, names: readonly string[]): RecordCursor {
  const [first] = names;
  if (first !== undefined && names.length === 1) return lookup.names.cursor(first);
  return merged([...new Set(names)].map((name) => lookup.names.cursor(name)));
}

function merged(cursors: readonly ListCursor[]): RecordCursor {
  const [first] = cursors;
  return first !== undefined && cursors.length === 1 ? first : new MergeCursor(cursors);
}

function sum<T>(items: readonly T[], count: (item: T) => number): number {
  let total = 0;
  for (const item of items) total += count(item);
  return total;
}

// Opaque page tokens for all lists. A token contains the last key of a page and a hash of the page's filter.

/** Maximum length of an accepted token, as in the proto. A token for the longest key has half this length. */
export const MAX_TOKEN_LENGTH = 8192;

const VERSION = 1;
const HASH_BYTES = 8;
const HEADER_BYTES = 1 + HASH_BYTES;
const CHECK_BYTES = 4;

/** Separates the token's version from the hash of its filter. */
const PART = "\u0001";

/**
 * Returns the token for the page after `lastKey`. Keys are ASCII and bounded by `names.ts`. HOT: runs for each page that has a next page.
 */
export function encodePageToken(lastKey: string, hash: string): string {
  const bytes = new Uint8Array(HEADER_BYTES + lastKey.length + CHECK_BYTES);
  bytes[0] = VERSION;
  writeUint32(bytes, 1, Number.parseInt(hash.slice(0, 8), 16));
  writeUint32(bytes, 5, Number.parseInt(hash.slice(8), 16));
  for (let i = 0; i < lastKey.length; i += 1) bytes[HEADER_BYTES + i] = lastKey.charCodeAt(i);
  writeUint32(bytes, HEADER_BYTES + lastKey.length, checksum(hash, lastKey));
  return Buffer.from(bytes.buffer).toString("base64url");
}

/** The most significant byte comes first. */
function writeUint32(bytes: Uint8Array, at: number, value: number): void {
  for (let i = 0; i < 4; i += 1) bytes[at + i] = value >>> (24 - i * 8);
}

/**
 * Returns the key after which a page starts; empty for an empty token. Throws `invalid_argument` on `page_token` for a token that belongs to another
 * filter, and for a string that is not a token of this version. A forged token can only choose another starting key, and reveals nothing that a query
 * would not return.
 */
export function decodePageToken(token: string, hash: string): string {
  if (token === "") return "";
  if (token.length > MAX_TOKEN_LENGTH) throw invalid("page_token", `must have at most ${MAX_TOKEN_LENGTH} characters, got ${token.length}`);
  const bytes = decodeBase64url(token);
  if (bytes === undefined || bytes.length <= HEADER_BYTES + CHECK_BYTES || bytes[0] !== VERSION) throw unreadableToken();
  const keyEnd = bytes.length - CHECK_BYTES;
  const tokenHash = [...bytes.subarray(1, HEADER_BYTES)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  let key = "";
  for (const byte of bytes.subarray(HEADER_BYTES, keyEnd)) {
    if (byte > 0x7f) throw unreadableToken();
    key += String.fromCharCode(byte);
  }
  let check = 0;
  for (const byte of bytes.subarray(keyEnd)) check = (check << 8) | byte;
  if (check >>> 0 !== checksum(tokenHash, key)) throw unreadableToken();
  if (tokenHash !== hash) throw invalid("page_token", "was issued for a different filter; start again without a token");
  return key;
}

function checksum(hash: string, key: string): number {
  const { high, low } = fnv64(key, fnv64(`${VERSION}${PART}${hash}`));
  return (high ^ low) >>> 0;
}

/** Returns the error for a string that is not a token of this version. */
export function unreadableToken(): Error {
  return invalid("page_token", "is not a valid page token; pass next_page_token unchanged, or start again without a token");
}
