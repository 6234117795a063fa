/**
 * Counts the open watches of a node whose calls arrive on several threads. The main thread counts them, so that the limits apply exactly to all
 * threads together: a worker requests permission before it opens a watch, and reports when the watch ends.
 */
import { receivedError, type SentError, sentError, WaymarkError } from "../../lib/errors.ts";
import type { Caller } from "../identity/caller.ts";

/** A message from a worker to the main thread. */
export type WatchNews =
  /**
   * The worker requests permission to open a watch. `namespace` is empty if the watch does not count toward any namespace. The worker never uses an
   * id twice.
   */
  | { readonly kind: "open"; readonly id: number; readonly caller: Caller; readonly namespace: string }
  | { readonly kind: "close"; readonly id: number };

/** The main thread's response to the worker that sent the request. */
export interface WatchVerdict {
  readonly id: number;
  /** The reason why the watch cannot be opened. Undefined if the watch is now counted. */
  readonly refused: SentError | undefined;
}

/** Counts, in the main thread, the open watches of all workers. */
export class HostWatches {
  readonly #open: (caller: Caller, namespace: string) => () => void;
  /** The functions that stop counting each open watch, by worker and id. */
  readonly #workers = new Map<number, Map<number, () => void>>();

  /** `open` counts a watch until the returned function is called, or throws WaymarkError if the watch cannot be opened. */
  constructor(open: (caller: Caller, namespace: string) => () => void) {
    this.#open = open;
  }

  /** Number of the workers' watches that are counted. */
  get size(): number {
    return this.#workers.values().reduce((sum, open) => sum + open.size, 0);
  }

  /** Processes a message from a worker. Returns the response if there is one. */
  take(worker: number, news: WatchNews): WatchVerdict | undefined {
    const { id } = news;
    if (news.kind === "open") return { id, refused: this.#refusal(worker, news) };
    const open = this.#workers.get(worker);
    open?.get(id)?.();
    open?.delete(id);
    return undefined;
  }

  /** Stops counting a worker's watches, because the worker has ended. */
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

/** Requests permission from the main thread before a watch is opened. Used in a worker. */
export class WorkerWatches {
  readonly #send: (news: WatchNews) => void;
  readonly #asked = new Map<number, PendingWatch>();
  #lastId = 0;

  constructor(send: (news: WatchNews) => void) {
    this.#send = send;
  }

  /** Number of watches that are waiting for a response. */
  get size(): number {
    return this.#asked.size;
  }

  /**
   * Counts a watch. The promise resolves to a function that stops counting the watch. It rejects with the main thread's error if the watch is refused.
   */
  open(caller: Caller, namespace: string): Promise<() => void> {
    this.#lastId += 1;
    const id = this.#lastId;
    this.#send({ kind: "open", id, caller, namespace });
    return new Promise((resolve, reject) => this.#asked.set(id, { resolve, reject }));
  }

  /** Processes a response from the main thread. */
  take({ id, refused }: WatchVerdict): void {
    const asked = this.#asked.get(id);
    this.#asked.delete(id);
    if (refused !== undefined) asked?.reject(receivedError(refused));
    else asked?.resolve(() => this.#send({ kind: "close", id }));
  }
}
