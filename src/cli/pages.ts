/** Reads lists page by page, because a server returns at most 1000 items per page. */
import type { Flags } from "./flags.ts";
import type { CommandOutput } from "./output.ts";

/** The largest page of a server. A server silently reduces larger limits to this number. */
export const MAX_PAGE = 1000;
/** The largest limit that a request can contain. */
const MAX_COUNT = 2_147_483_647;

interface ListPage {
  nextPageToken: string;
  readonly hiddenBy?: Record<string, string>;
}

/** Yields a list's pages until the caller leaves the loop. */
export async function* pagesOf<P extends ListPage>(read: (pageToken: string) => Promise<P>): AsyncGenerator<P> {
  let pageToken = "";
  do {
    const page = await read(pageToken);
    yield page;
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
}

/** Prints how to continue an incomplete list. */
export function noteMore(out: CommandOutput, { nextPageToken }: ListPage): void {
  if (nextPageToken !== "" && !out.isMachine) out.note(`more results: continue with --page-token ${nextPageToken}`);
}

/** Returns the value of `--limit`, or undefined if it is absent. */
export function limitOf(flags: Flags): number | undefined {
  return flags.count("limit", MAX_COUNT);
}

/**
 * Reads the first `--limit` items of a list, starting at `--page-token`. With only a token, reads one page. With neither flag, reads `whenNeither`
 * items. The default is all items, and 0 means one page of the server's default size. `lists` contains the names of the page fields that are joined.
 * The first field contains the items. The rules in `hiddenBy` are joined too. All other fields come from the first page, so that a watch from that
 * page's revision or cursor does not miss any changes.
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
  // A page may be short even if another page follows.
  while (all.nextPageToken !== "" && left() > 0) {
    const next = await read({ limit: Math.min(left(), MAX_PAGE), pageToken: all.nextPageToken });
    all.nextPageToken = next.nextPageToken;
    Object.assign(all.hiddenBy ?? {}, next.hiddenBy);
    for (const name of lists) all[name].push(...next[name]);
  }
  return all;
}
