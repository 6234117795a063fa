/**
 * Entries that a resolver holds, beside a page of a query that it passed on: what its upstream says of the namespaces that are followed here lacks them
 * (semantics.md, Resolver 16).
 */
import type { Entry } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import type { EntryIndex } from "../../catalog/query/entry-index.ts";
import type { EntryFilter } from "../../catalog/query/filter.ts";
import { type QueryOptions, queryPage } from "../../catalog/query/query.ts";
import { SOURCE } from "../discovery/answer-age.ts";
import type { DiscoveryBytes } from "../discovery/response-bytes.ts";

/** An entry of a page. */
export interface ShownEntry {
  /** Its key as one text, in the order of which pages are. */
  readonly key: string;
  readonly entry: Entry;
  readonly encoded: Uint8Array;
}

/** The next entries after some key, in the order of their keys. */
export interface PagePart {
  readonly shown: readonly ShownEntry[];
  /** Whether there may be more behind them. */
  readonly isMore: boolean;
}

/** A page with entries of both, at most `limit`. What the upstream shows counts for a key that both have. */
export function withRetained(upstream: PagePart, held: PagePart, limit: number): PagePart & { readonly hasHeld: boolean } {
  if (held.shown.length === 0) return { ...upstream, hasHeld: false };
  // Behind the last entry of a part that is not whole, nothing is known of it.
  const ends = [upstream, held].flatMap(({ shown, isMore }) => (isMore ? [shown.at(-1)?.key ?? ""] : []));
  const isKnown = ({ key }: ShownEntry) => ends.every((end) => key <= end);
  const isTheirs = new Set(upstream.shown.map(({ key }) => key));
  const ours = new Set(held.shown.filter((one) => isKnown(one) && !isTheirs.has(one.key)));
  const all = [...upstream.shown.filter(isKnown), ...ours].toSorted((a, b) => (a.key < b.key ? -1 : 1));
  const shown = all.slice(0, limit);
  return { shown, isMore: ends.length > 0 || all.length > limit, hasHeld: shown.some((one) => ours.has(one)) };
}

/** What of a query's answer is held, as a message of an upstream. Undefined: nothing. */
export interface RetainedPage {
  readonly bytes: Uint8Array;
  readonly isMore: boolean;
}

/** The next of what is held and matches. The caller of the query may see nothing in a namespace that is not `allowed`. */
export function retainedPage(
  held: EntryIndex,
  filter: EntryFilter,
  options: Pick<QueryOptions, "afterKey" | "allowed" | "limit" | "open" | "self" | "test">,
  bytes: Pick<DiscoveryBytes, "query">,
): RetainedPage | undefined {
  // Nearly always.
  if (held.size === 0) return undefined;
  const { records, nextKey } = queryPage(held, filter, { ...options, explain: false });
  if (records.length === 0) return undefined;
  const nothing = { nextToken: "", revision: 0, cursor: "", servedBy: "", generatedWallMs: 0, explanations: [] };
  const age = { ageMs: 0, isStale: true, source: SOURCE.FOLLOWED };
  return { bytes: bytes.query({ ...nothing, records, age }), isMore: nextKey !== undefined };
}
