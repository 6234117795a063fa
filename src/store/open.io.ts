/** Which `Store` a node uses. */
import { MemoryStore } from "./control/memory.ts";
import { openSqliteStore } from "./control/sqlite.io.ts";
import type { Store } from "./control/store.ts";

export type StoreKind =
  | { readonly kind: "memory" }
  | { readonly kind: "sqlite"; readonly directory: string; readonly takesAsItIs?: boolean };

/** Rejects with `store_unavailable` when it cannot be had. */
export function openStore(store: StoreKind): Promise<Store> {
  switch (store.kind) {
    case "memory":
      return Promise.resolve(new MemoryStore());
    case "sqlite":
      return openSqliteStore(store.directory, { takesAsItIs: store.takesAsItIs === true });
  }
}
