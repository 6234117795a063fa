/** Lists, page by page: as many pages as `--limit` needs, because a server answers with at most 1000 items at a time. */
import type { Flags } from "./flags.ts";
import type { CommandOutput } from "./output.ts";

/** The largest page of a server. It cuts a larger limit to this one silently (the contract of lists). */
export const MAX_PAGE = 1000;
/** The largest limit that a request can hold. */
const MAX_COUNT = 2_147_483_647;

interface ListPage {
  nextPageToken: string;
}

/** All pages of a list, one after the other. A reader that has enough leaves the loop. */
export async function* pagesOf<P extends ListPage>(read: (pageToken: string) => Promise<P>): AsyncGenerator<P> {
  let pageToken = "";
  do {
    const page = await read(pageToken);
    yield page;
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
}

/** Says that a list goes on, and how to continue. */
export function noteMore(out: CommandOutput, { nextPageToken }: ListPage): void {
  if (nextPageToken !== "" && !out.isMachine) out.note(`there is more; continue with --page-token ${nextPageToken}`);
}

/** `--limit`; undefined when it was not given. */
export function limitOf(flags: Flags): number | undefined {
  return flags.count("limit", MAX_COUNT);
}

/**
 * The first `--limit` items of a list, from `--page-token` on. Without a limit: the one page of the token. Without either: so many items as
 * `whenNeither` says, which are all, or with 0 the one page that the server gives. `lists` are the fields of a page that are joined; the first has
 * the items. Of the other fields those of the first page stand for the whole list: a watch from its revision and cursor tells what changed since.
 */
export async function readPages<K extends string, P extends ListPage & Readonly<Record<K, unknown[]>>>(
  flags: Flags,
  lists: readonly [K, ...K[]],
  read: (page: { readonly limit: number; readonly pageToken: string }) => Promise<P>,
  whenNeither = Infinity,
): Promise<P> {
  const limit = limitOf(flags);
  const pageToken = flags.text("pageToken");
  const wanted = limit ?? (pageToken === undefined ? whenNeither : 0);
  const all = await read({ limit: Math.min(wanted, MAX_PAGE), pageToken: pageToken ?? "" });
  const left = () => wanted - all[lists[0]].length;
  // A page may be short and still have a next one.
  while (all.nextPageToken !== "" && left() > 0) {
    const next = await read({ limit: Math.min(left(), MAX_PAGE), pageToken: all.nextPageToken });
    all.nextPageToken = next.nextPageToken;
    for (const name of lists) all[name].push(...next[name]);
  }
  return all;
}
