/**
 * Adds entries that a resolver retains to a page of a proxied query. The upstream's answer lacks these entries, which are in namespaces that the
 * resolver watches (semantics.md, Resolver 16).
 */
import type { Entry } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import type { EntryIndex } from "../../catalog/query/entry-index.ts";
import type { EntryFilter } from "../../catalog/query/filter.ts";
import { type QueryOptions, queryPage } from "../../catalog/query/query.ts";
import { SOURCE } from "../discovery/answer-age.ts";
import type { DiscoveryBytes } from "../discovery/response-bytes.ts";

/** An entry on a page. */
export interface ShownEntry {
  /** The key as a single text. Pages are sorted by this text. */
  readonly key: string;
  readonly entry: Entry;
  readonly encoded: Uint8Array;
}

/** The next entries after a key, sorted by key. */
export interface PagePart {
  readonly shown: readonly ShownEntry[];
  /** Whether more entries may follow. */
  readonly isMore: boolean;
}

/** Merges the two parts into a page with at most `limit` entries. For a key in both parts, the entry from the upstream is used. */
export function withRetained(upstream: PagePart, held: PagePart, limit: number): PagePart & { readonly hasHeld: boolean } {
  if (held.shown.length === 0) return { ...upstream, hasHeld: false };
  // Entries after the end of an incomplete part are unknown.
  const ends = [upstream, held].flatMap(({ shown, isMore }) => (isMore ? [shown.at(-1)?.key ?? ""] : []));
  const isKnown = ({ key }: ShownEntry) => ends.every((end) => key <= end);
  const isTheirs = new Set(upstream.shown.map(({ key }) => key));
  const ours = new Set(held.shown.filter((one) => isKnown(one) && !isTheirs.has(one.key)));
  const all = [...upstream.shown.filter(isKnown), ...ours].toSorted((a, b) => (a.key < b.key ? -1 : 1));
  const shown = all.slice(0, limit);
  return { shown, isMore: ends.length > 0 || all.length > limit, hasHeld: shown.some((one) => ours.has(one)) };
}

/** The retained entries that match a query, encoded in the same way as an upstream's answer. */
export interface RetainedPage {
  readonly bytes: Uint8Array;
  readonly isMore: boolean;
}

/** Returns the next retained entries that match. Undefined if there are none. `allowed` excludes namespaces that the caller may not see. */
export function retainedPage(
  held: EntryIndex,
  filter: EntryFilter,
  options: Pick<QueryOptions, "afterKey" | "allowed" | "limit" | "open" | "self" | "test">,
  bytes: Pick<DiscoveryBytes, "query">,
): RetainedPage | undefined {
  // Almost always true.
  if (held.size === 0) return undefined;
  const { records, nextKey } = queryPage(held, filter, { ...options, explain: false });
  if (records.length === 0) return undefined;
  const nothing = { nextToken: "", revision: 0, cursor: "", servedBy: "", generatedWallMs: 0, explanations: [] };
  const age = { ageMs: 0, isStale: true, source: SOURCE.FOLLOWED };
  return { bytes: bytes.query({ ...nothing, records, age }), isMore: nextKey !== undefined };
}
