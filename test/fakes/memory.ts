/** What a child process holds after a full garbage collection, told to its parent over IPC; the child runs with --expose-gc. */
import type { ChildProcess } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { endNow } from "./end-now.ts";

/** Bytes held, and what is open. */
export interface Held {
  readonly heapBytes: number;
  /** Buffers and what else V8's objects hold outside of its heap. */
  readonly externalBytes: number;
  readonly rssBytes: number;
  /** Open sockets, timers and their kin, of libuv. */
  readonly handles: Readonly<Record<string, number>>;
}

/** Answers each message of the parent with what is held after a full collection. */
export function tellMemory(): void {
  process.on("message", () => void held().then((told) => process.send?.(told)));
  // The parent's channel alone keeps nobody alive.
  process.channel?.unref();
  // Nor does it outlive a parent that ended without a word.
  process.on("disconnect", endNow);
}

/** What this process holds after a full collection; it runs with --expose-gc. */
export async function held(): Promise<Held> {
  // Finalizers of what one collection found free others' memory: a few rounds, with turns of the event loop between.
  for (let i = 0; i < 4; i++) {
    globalThis.gc?.();
    await sleep(20);
  }
  const { heapUsed, external, rss } = process.memoryUsage();
  const handles: Record<string, number> = {};
  for (const kind of process.getActiveResourcesInfo()) handles[kind] = (handles[kind] ?? 0) + 1;
  return { heapBytes: heapUsed, externalBytes: external, rssBytes: rss, handles };
}

/** Asks a child that answers with `tellMemory`. Rejects when it ends instead. */
export function askMemory(child: ChildProcess): Promise<Held> {
  return new Promise((resolve, reject) => {
    const ended = () => reject(new Error(`the child has ended: ${child.signalCode ?? child.exitCode}`));
    child.once("exit", ended);
    child.once("message", (told) => {
      child.off("exit", ended);
      resolve(told as Held);
    });
    child.send("memory", (error) => {
      if (error !== null) ended();
    });
  });
}
