/** The paging of the lists of a mesh: members, origins, keys and leaders. */
import { decodePageToken, encodePageToken, pageLimit } from "../catalog/query/query.ts";
import { invalid } from "../lib/errors.ts";
import type { RouteParameters } from "./service.ts";

export interface PageRequest {
  readonly limit: number;
  readonly pageToken: string;
}

/** Query parameters of a list. */
export const PAGE = ["limit", "page_token"] as const;

/** Returns the requested page of the rows, sorted by `placeOf`. `hash` identifies the filter of the list. */
export function paged<T>(
  rows: readonly T[],
  placeOf: (row: T) => string,
  { limit, pageToken, hash }: PageRequest & { readonly hash: string },
) {
  const after = decodePageToken(pageToken, hash);
  const rest = rows
    .map((row) => ({ row, place: placeOf(row) }))
    .filter(({ place }) => place > after)
    .toSorted((a, b) => (a.place < b.place ? -1 : 1));
  const page = rest.slice(0, pageLimit(limit));
  const last = page.at(-1);
  const nextPageToken = last === undefined || page.length === rest.length ? "" : encodePageToken(last.place, hash);
  return { page: page.map(({ row }) => row), nextPageToken };
}

/** Reads the page parameters of a GET request. */
export function pageOf({ limit = "0", page_token: pageToken = "" }: RouteParameters): PageRequest {
  if (!/^\d{1,6}$/.test(limit))
    throw invalid("limit", `must be a whole number from 0 to 999999, got ${JSON.stringify(limit.slice(0, 64))}`);
  return { limit: Number(limit), pageToken };
}
