/** Reads lists of a control store that may have several pages. */
import type { ControlStore, StoreItem, StorePage } from "./store.ts";

/** Reads all items whose key starts with `prefix`, page by page. Rejects like `list`. */
export async function* allItems(store: Pick<ControlStore, "list">, prefix: string): AsyncGenerator<StoreItem> {
  for (let after: string | undefined = ""; after !== undefined; ) {
    const page: StorePage = await store.list(prefix, { after });
    yield* page.items;
    after = page.nextAfter;
  }
}
