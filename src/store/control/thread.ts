/** The messages between the control store's two threads. */
import type { StoreBounds, StoreItem, StorePage, Swap } from "./store.ts";
import type { FoundChanges, WatchPosition } from "./watches.ts";

export type ControlRequest =
  /** First. */
  | { readonly kind: "open"; readonly directory: string; readonly bounds: StoreBounds; readonly takesAsItIs: boolean }
  | { readonly kind: "get"; readonly key: string }
  | { readonly kind: "list"; readonly prefix: string; readonly after: string; readonly limit: number }
  | { readonly kind: "swap"; readonly key: string; readonly expectedVersion: number; readonly value: Uint8Array | undefined }
  | { readonly kind: "changes"; readonly prefix: string; readonly position: WatchPosition }
  | { readonly kind: "close" };

export type ControlAnswer =
  | { readonly kind: "opened"; readonly revision: number; readonly items: number }
  | { readonly kind: "item"; readonly item: StoreItem | undefined }
  | { readonly kind: "page"; readonly page: StorePage }
  | { readonly kind: "swapped"; readonly swap: Swap }
  | { readonly kind: "found"; readonly found: FoundChanges }
  | { readonly kind: "closed" };
