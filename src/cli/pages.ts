/** Lists as the command line reads them: as many pages as `--limit` needs, because a server answers at most 1000 of anything at a time. */
import type { Flags } from "./flags.ts";

/** The largest page a server gives; a larger limit is cut to it without a word (the contract of lists). */
export const MAX_PAGE = 1000;
/** What a request can say; a limit beyond it is refused. */
const MAX_COUNT = 2_147_483_647;

interface Page {
  nextPageToken: string;
}

export interface Paging<P extends Page> {
  read(page: { readonly limit: number; readonly pageToken: string }): Promise<P>;
  /** Adds what a page has to those before it; its token is taken over already. */
  join(all: P, next: P): void;
  /** How many a page has. */
  count(page: P): number;
}

/** `--limit`; undefined when it was not given. */
export function limitOf(flags: Flags): number | undefined {
  return flags.count("limit", MAX_COUNT);
}

/**
 * The first `--limit` of a list, from `--page-token` on. Without a limit: the one page of the token; without either, what `whenNeither`
 * says: all there is, or the one page that the server gives unasked. The first page's facts (revision, cursor) stand for the whole:
 * what changed since is what a watch from there tells.
 */
export async function readPages<P extends Page>(flags: Flags, paging: Paging<P>, whenNeither: "all" | "page" = "all"): Promise<P> {
  const limit = limitOf(flags);
  const pageToken = flags.text("pageToken");
  const wanted = limit ?? (pageToken === undefined && whenNeither === "all" ? Infinity : 0);
  const all = await paging.read({ limit: Math.min(wanted, MAX_PAGE), pageToken: pageToken ?? "" });
  // A page may be short and still have a next one.
  for (let left = wanted - paging.count(all); all.nextPageToken !== "" && left > 0; left = wanted - paging.count(all)) {
    const next = await paging.read({ limit: Math.min(left, MAX_PAGE), pageToken: all.nextPageToken });
    all.nextPageToken = next.nextPageToken;
    paging.join(all, next);
  }
  return all;
}
