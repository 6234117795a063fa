/** The thread that owns the control store's file: a slow fsync stops this thread and no stream. */
import { assert } from "../../lib/errors.ts";
import { type Move, serveThread } from "../thread.io.ts";
import { ControlFile } from "./file.io.ts";
import type { StoreBounds } from "./store.ts";
import type { WatchPosition } from "./watches.ts";

interface OpenRequest {
  readonly directory: string;
  readonly bounds: StoreBounds;
  /** Whether a file that has lost its log is used as it is. */
  readonly takesAsItIs: boolean;
}

interface SwapRequest {
  readonly key: string;
  readonly expectedVersion: number;
  readonly value: Uint8Array | undefined;
}

let file: ControlFile | undefined;

function opened(): ControlFile {
  assert(file !== undefined, "the control store was asked before it was open");
  return file;
}

/** SQLite gives each value a buffer of its own, which can be moved. */
function moveValues(items: readonly ({ readonly value: Uint8Array } | undefined)[], move: Move): void {
  for (const item of items) move(item?.value.buffer);
}

const methods = {
  open(request: OpenRequest) {
    file = new ControlFile(request.directory, request.bounds, request);
  },
  get(key: string, move: Move) {
    const item = opened().get(key);
    moveValues([item], move);
    return item;
  },
  list({ prefix, ...page }: { readonly prefix: string; readonly after: string; readonly limit: number }, move: Move) {
    const found = opened().list(prefix, page);
    moveValues(found.items, move);
    return found;
  },
  swap({ key, expectedVersion, value }: SwapRequest) {
    return opened().compareAndSwap(key, expectedVersion, value);
  },
  changes({ prefix, position }: { readonly prefix: string; readonly position: WatchPosition }, move: Move) {
    const found = opened().changesSince(prefix, position);
    moveValues(
      found.changes.map(({ item }) => item),
      move,
    );
    return found;
  },
  close() {
    file?.close();
  },
};

export type ControlMethods = typeof methods;

serveThread(methods);
