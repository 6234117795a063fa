/** The thread that owns the control store's file: a slow fsync stops this thread and no stream. */
import { assert } from "../../lib/errors.ts";
import { type Served, serveThread } from "../thread-calls.io.ts";
import { ControlFile } from "./file.io.ts";
import type { ControlAnswer, ControlRequest } from "./thread.ts";

let file: ControlFile | undefined;

function opened(): ControlFile {
  assert(file !== undefined, "the control store was asked before it was open");
  return file;
}

function serve(request: ControlRequest): Served<ControlAnswer> {
  switch (request.kind) {
    case "open":
      file = new ControlFile(request.directory, request.bounds, request);
      return { answer: { kind: "opened", revision: file.revision, items: file.items } };
    case "get": {
      const item = opened().get(request.key);
      return { answer: { kind: "item", item }, transfer: buffersOf([item]) };
    }
    case "list": {
      const page = opened().list(request.prefix, request);
      return { answer: { kind: "page", page }, transfer: buffersOf(page.items) };
    }
    case "swap":
      return { answer: { kind: "swapped", swap: opened().compareAndSwap(request.key, request.expectedVersion, request.value) } };
    case "changes": {
      const found = opened().changesSince(request.prefix, request.position);
      return { answer: { kind: "found", found }, transfer: buffersOf(found.changes.map(({ item }) => item)) };
    }
    case "close":
      file?.close();
      return { answer: { kind: "closed" }, isLast: true };
  }
}

/** Moved to the other thread: SQLite gives each value a buffer of its own. */
function buffersOf(items: readonly ({ readonly value: Uint8Array } | undefined)[]): readonly ArrayBuffer[] {
  return items.flatMap((item) => (item?.value.buffer instanceof ArrayBuffer ? [item.value.buffer] : []));
}

serveThread(serve);
