/**
 * Open watches of a node whose calls arrive at several threads. The main thread counts them, so that their bounds hold exactly for all threads
 * together: a worker asks before it opens a watch, and tells when that ends.
 */
import { receivedError, type SentError, sentError, WaymarkError } from "../../lib/errors.ts";
import type { Caller } from "../identity/caller.ts";

/** From a worker to the main thread. */
export type WatchNews =
  /** Asks for an open watch. `namespace` is empty if the watch counts for none. The worker never uses an id twice. */
  | { readonly kind: "open"; readonly id: number; readonly caller: Caller; readonly namespace: string }
  | { readonly kind: "close"; readonly id: number };

/** From the main thread to the worker that asked. */
export interface WatchVerdict {
  readonly id: number;
  /** Why the watch may not open; undefined if it is counted now. */
  readonly refused: SentError | undefined;
}

/** Counts, in the main thread, the watches that workers have open. */
export class HostWatches {
  readonly #open: (caller: Caller, namespace: string) => () => void;
  /** What ends the count of each open watch, by worker and id. */
  readonly #workers = new Map<number, Map<number, () => void>>();

  /** `open` counts a watch until what it returns is called, or throws WaymarkError to refuse it. */
  constructor(open: (caller: Caller, namespace: string) => () => void) {
    this.#open = open;
  }

  /** How many watches of workers are counted now. */
  get size(): number {
    return this.#workers.values().reduce((sum, open) => sum + open.size, 0);
  }

  /** What a worker says; returns the answer to it, if it wants one. */
  take(worker: number, news: WatchNews): WatchVerdict | undefined {
    const { id } = news;
    if (news.kind === "open") return { id, refused: this.#refusal(worker, news) };
    const open = this.#workers.get(worker);
    open?.get(id)?.();
    open?.delete(id);
    return undefined;
  }

  /** The worker ended, and its watches with it. */
  forget(worker: number): void {
    for (const close of this.#workers.get(worker)?.values() ?? []) close();
    this.#workers.delete(worker);
  }

  #refusal(worker: number, { id, caller, namespace }: Extract<WatchNews, { kind: "open" }>): SentError | undefined {
    try {
      const close = this.#open(caller, namespace);
      const open = this.#workers.get(worker) ?? new Map<number, () => void>();
      this.#workers.set(worker, open.set(id, close));
      return undefined;
    } catch (error) {
      if (!(error instanceof WaymarkError)) throw error;
      return sentError(error);
    }
  }
}

interface PendingWatch {
  readonly resolve: (close: () => void) => void;
  readonly reject: (error: WaymarkError) => void;
}

/** Asks, in a worker, for each watch that is to open. */
export class WorkerWatches {
  readonly #send: (news: WatchNews) => void;
  readonly #asked = new Map<number, PendingWatch>();
  #lastId = 0;

  constructor(send: (news: WatchNews) => void) {
    this.#send = send;
  }

  /** How many watches wait for an answer. */
  get size(): number {
    return this.#asked.size;
  }

  /** Resolves, once the watch is counted, to what ends the count. Rejects with the main thread's refusal. */
  open(caller: Caller, namespace: string): Promise<() => void> {
    this.#lastId += 1;
    const id = this.#lastId;
    this.#send({ kind: "open", id, caller, namespace });
    return new Promise((resolve, reject) => this.#asked.set(id, { resolve, reject }));
  }

  /** What the main thread answers. */
  take({ id, refused }: WatchVerdict): void {
    const asked = this.#asked.get(id);
    this.#asked.delete(id);
    if (refused !== undefined) asked?.reject(receivedError(refused));
    else asked?.resolve(() => this.#send({ kind: "close", id }));
  }
}
