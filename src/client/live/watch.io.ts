/** Implements `watch`: a live map of the entries that match a filter. The map survives lost servers, and chooses entries for calls. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs, durationMs } from "@bufbuild/protobuf/wkt";
import { type Entry, type EntryKey, EntryKind } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { CatalogWatchRequestSchema } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { isCalledAtNode } from "../../consumer/hosting.ts";
import type { ZoneLocality } from "../../consumer/locality-levels.ts";
import type { Time } from "../../lib/machine.ts";
import { later } from "../../lib/stall-aware-time.io.ts";
import type { ClientCalls } from "../calls.ts";
import { follow, isFull } from "../follow.io.ts";
import { checkOptions, FLAG, FUNCTION, type OptionRules, SIGNAL, TIMEOUT } from "../option-rules.ts";
import { closedFailure, lateFailure } from "../request-error.ts";
import { type Choice, checkResolveOptions, chosenFrom, kindIn, NODES_NAMESPACE, type NodesOf, type ResolveOptions } from "./choice.ts";
import { type CountsOfName, type Freshness, type LiveChange, LiveEntries } from "./live-entries.ts";

/** Options of `watch`. */
export interface WatchOptions {
  /**
   * Whether to wait for a server that is initially unreachable or requests a later retry. By default, `watch` gives up after the client's
   * `timeoutMs`.
   */
  readonly waitsForServer?: boolean;
  /** Closes the map. */
  readonly signal?: AbortSignal;
  /** Time without a message after which a stream is replaced, in ms (see `follow`). Defaults to five bookmark intervals, but at least 10 s. */
  readonly silentMs?: number;
  /** Called with each group of changes that became visible at the same time. It must not throw. */
  readonly onChange?: (changes: readonly LiveChange[]) => void;
  /** Called when a stream breaks. Another stream is opened after `waitMs`. It must not throw. */
  readonly onBreak?: (error: Error, waitMs: number) => void;
}

const RULES: OptionRules<WatchOptions> = { waitsForServer: FLAG, signal: SIGNAL, silentMs: TIMEOUT, onChange: FUNCTION, onBreak: FUNCTION };

/** Bookmark interval if the request does not contain one. Once per interval, an idle server confirms that no changes are missing. */
const BOOKMARK_MS = 3000;
/** Number of bookmark intervals without a message after which the map is stale. */
const SILENT_INTERVALS = 3;
const NO_OPTIONS: ResolveOptions = {};

/** The filter of a watch. */
export type WatchRequest = Omit<MessageInitShape<typeof CatalogWatchRequestSchema>, "cursor" | "$typeName">;

/** The client methods that `watch` uses. */
export interface WatchingCalls extends ClientCalls {
  /** The location of the program, if it is known. */
  readonly place: ZoneLocality | undefined;
}

/**
 * Opens a live map, and resolves when its first snapshot is complete. Throws a `RequestError` if the watch is rejected, all servers are full, or no
 * server answers in time. Throws a TypeError or RangeError that names an invalid option.
 */
export async function watch(client: WatchingCalls, request: WatchRequest, options: WatchOptions = {}): Promise<LiveMap> {
  checkOptions("watch", options, RULES);
  const refusal = Promise.withResolvers<void>();
  const full = new Set<string>();
  const onBreak = (error: Error, waitMs: number): void => {
    options.onBreak?.(error, waitMs);
    if (!isFull(error)) return;
    full.add(error.facts.server);
    // All servers have answered that they are full, and none has suggested a retry time, so waiting does not help.
    if (error.facts.retryMs === undefined && client.serverBeside(full) === undefined) refusal.reject(error);
  };
  const map = new LiveMap(client, request, { ...options, onBreak });
  try {
    await Promise.race([map.ready, refusal.promise]);
  } catch (error) {
    await map.close();
    throw error;
  }
  return map;
}

/**
 * A live map of the entries that match a filter. Lookups in the map do not send requests. While no server answers, they use the last known entries.
 */
export class LiveMap implements AsyncDisposable, AsyncIterable<readonly LiveChange[]> {
  /** Resolves when the first snapshot is complete. */
  readonly ready: Promise<void>;
  readonly #client: WatchingCalls;
  readonly #options: WatchOptions;
  readonly #entries: LiveEntries;
  readonly #abort = new AbortController();
  readonly #first = Promise.withResolvers<void>();
  readonly #queues = new Set<ChangeQueue>();
  readonly #following: Promise<void>;
  /** HOT: the same object is used for all choices. */
  readonly #here: { place: ZoneLocality | undefined; readonly now: () => Time; readonly nodesOf: NodesOf } = {
    place: undefined,
    now: sharedNow,
    nodesOf: (nodeId) => this.#nodes?.named(NODES_NAMESPACE, nodeId, EntryKind.NODE) ?? [],
  };
  /** The nodes. They are watched as soon as the map shows an entry that is called through its node. */
  #nodes: LiveMap | undefined;
  /** Resolves when the nodes are known or further waiting is useless. */
  #nodesKnown: Promise<void> = Promise.resolve();
  #cancelTick: () => void = () => {};
  #cancelFirst: () => void = () => {};
  #error: Error | undefined;

  constructor(client: WatchingCalls, request: WatchRequest, options: WatchOptions) {
    this.#client = client;
    this.#options = options;
    const { bookmarkInterval = durationFromMs(BOOKMARK_MS) } = create(CatalogWatchRequestSchema, request);
    this.#entries = new LiveEntries({ staleAfterMs: SILENT_INTERVALS * durationMs(bookmarkInterval) });
    this.ready = this.#first.promise;
    // The caller of `ready` gets the error. If there is no caller, the rejection must not be reported as unhandled.
    this.ready.catch(() => {});
    options.signal?.addEventListener("abort", this.#onAbort, { once: true });
    if (options.signal?.aborted === true) this.#abort.abort();
    this.#following = this.#follow({ ...request, bookmarkInterval });
  }

  /** Number of visible entries, including held ones. */
  get size(): number {
    return this.#entries.size;
  }

  /** Whether the first snapshot is complete. */
  get isReady(): boolean {
    return this.#entries.isReady;
  }

  /** The reason why the map is no longer updated. The map keeps its last entries. Undefined while the map is being updated, or after `close`. */
  get error(): Error | undefined {
    return this.#error;
  }

  /** The maximum age of the entries, and the server that sent them. */
  get freshness(): Freshness {
    return this.#entries.freshness(now());
  }

  /** Returns the entry with exactly this key, including the cluster ID. */
  get(key: EntryKey): Entry | undefined {
    return this.#entries.get(key);
  }

  /**
   * Returns all entries, in no particular order. Entries that vanished at the same time have the health ORPHANED, or MAINTENANCE if they were in
   * maintenance before.
   */
  entries(): Iterable<Entry> {
    return this.#entries.entries();
  }

  /** Returns the entries of one name. Default kind: SERVICE. */
  named(namespace: string, name: string, kind: EntryKind = EntryKind.SERVICE): readonly Entry[] {
    return [...(this.#entries.named(namespace, name, kind)?.entries() ?? [])];
  }

  /**
   * Chooses one of the name's entries in the map and one of its ports, without sending a request. Returns undefined if there are no entries, all are
   * in MAINTENANCE, or all have been tried. HOT: at most 1 µs (bench/resolve.ts).
   */
  resolve(namespace: string, name: string, options: ResolveOptions = NO_OPTIONS): Choice | undefined {
    if (options !== NO_OPTIONS) checkResolveOptions(options);
    const group = this.#entries.named(namespace, name, kindIn(options));
    if (group === undefined) return undefined;
    this.#here.place = this.#client.place;
    return chosenFrom(group, options, this.#here);
  }

  /** Returns statistics for each name in the map: choices, choices based on load, and reported calls with their latencies. */
  stats(): readonly CountsOfName[] {
    return this.#entries.stats();
  }

  /**
   * Yields each group of changes from now on. For a slow reader, several changes of a key are merged into one. The iteration ends when the map is
   * closed, and throws if the map is no longer updated.
   */
  async *[Symbol.asyncIterator](): AsyncIterator<readonly LiveChange[]> {
    const queue = new ChangeQueue();
    this.#queues.add(queue);
    try {
      while (!this.#abort.signal.aborted) {
        const changes = await queue.take();
        if (changes.length > 0) yield changes;
        else if (this.#error !== undefined) throw this.#error;
      }
    } finally {
      this.#queues.delete(queue);
    }
  }

  /** Ends the watch. The map keeps its last entries. */
  async close(): Promise<void> {
    this.#options.signal?.removeEventListener("abort", this.#onAbort);
    this.#abort.abort();
    await this.#following;
    await this.#nodes?.close();
    this.#cancelTick();
    this.#cancelFirst();
    for (const queue of this.#queues) queue.wake();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  readonly #onAbort = (): void => {
    void this.close();
  };

  async #follow(request: MessageInitShape<typeof CatalogWatchRequestSchema>): Promise<void> {
    let broken: Error | undefined;
    const { signal } = this.#abort;
    if (this.#options.waitsForServer !== true) {
      const giveUp = (): void => {
        this.#error = broken ?? lateFailure(this.#client.timeoutMs, this.#client.server);
        this.#abort.abort();
      };
      this.#cancelFirst = later(giveUp, this.#client.timeoutMs);
    }
    const onBreak = (error: Error, waitMs: number): void => {
      broken = error;
      this.#options.onBreak?.(error, waitMs);
    };
    const { silentMs } = this.#options;
    const options = { signal, waitsForServer: true, tellsUnknown: true, onBreak, ...(silentMs !== undefined && { silentMs }) };
    try {
      for await (const event of follow(this.#client, request, options)) {
        const changes = this.#entries.take(event, now());
        if (this.#nodes === undefined && changes.some(({ entry }) => isCalledAtNode(entry))) this.#followNodes();
        this.#emit(changes);
        if (event.kind !== "synced") continue;
        this.#cancelFirst();
        void this.#nodesKnown.then(this.#first.resolve);
      }
    } catch (error) {
      this.#error = error instanceof Error ? error : new Error(String(error));
    }
    this.#cancelFirst();
    this.#first.reject(this.#error ?? broken ?? closedFailure("the watch is closed", this.#client.server));
    for (const queue of this.#queues) queue.wake();
  }

  /**
   * Follows the nodes. If a server rejects this watch or does not answer in time, entries that are called through their node are chosen without a
   * target.
   */
  #followNodes(): void {
    const known = Promise.withResolvers<void>();
    const cancel = later(known.resolve, this.#client.timeoutMs);
    const options = { waitsForServer: true, onBreak: () => known.resolve() };
    this.#nodes = new LiveMap(this.#client, { namespace: NODES_NAMESPACE, kinds: [EntryKind.NODE] }, options);
    this.#nodes.ready.then(known.resolve, known.resolve);
    this.#nodesKnown = known.promise.finally(cancel);
  }

  #emit(changes: readonly LiveChange[]): void {
    this.#cancelTick();
    this.#cancelTick = later(() => this.#emit(this.#entries.tick(now())), this.#entries.nextDeadlineMs() - performance.now());
    if (changes.length === 0) return;
    this.#options.onChange?.(changes);
    for (const queue of this.#queues) queue.push(changes);
  }
}

/** Changes that a reader has not read yet, one per key. */
class ChangeQueue {
  #waiting = new Map<string, LiveChange>();
  #wake: () => void = () => {};

  push(changes: readonly LiveChange[]): void {
    for (const change of changes) {
      const { key } = change.entry;
      if (key === undefined) continue;
      const text = [key.namespace, key.name, key.kind, key.instanceId, key.clusterId].join("\0");
      const before = this.#waiting.get(text);
      const isNew = before?.kind === "put" && before.isNew;
      this.#waiting.delete(text);
      // An entry that was added and removed between two reads is not reported.
      if (change.kind === "remove" && isNew) continue;
      this.#waiting.set(text, change.kind === "put" && before !== undefined ? { ...change, isNew } : change);
    }
    this.#wake();
  }

  wake(): void {
    this.#wake();
  }

  /** Returns the changes since the last call. Waits for changes. Returns an empty list after `wake`. */
  async take(): Promise<readonly LiveChange[]> {
    if (this.#waiting.size === 0) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#wake = resolve;
      await promise;
    }
    const changes = [...this.#waiting.values()];
    this.#waiting = new Map();
    return changes;
  }
}

function now(): Time {
  return { monoMs: performance.now(), wallMs: Date.now() };
}

const TIME = { monoMs: 0, wallMs: 0 };
/** The wall clock is used only for the age of load reports, which are valid for minutes, so it is not read for each choice. */
const WALL_FOR_MS = 100;
let wallReadMonoMs = Number.NEGATIVE_INFINITY;

/** HOT: returns the same object each time, because reading a clock costs 40 ns. The caller must use the object immediately. */
function sharedNow(): Time {
  const monoMs = performance.now();
  TIME.monoMs = monoMs;
  if (monoMs - wallReadMonoMs >= WALL_FOR_MS) {
    wallReadMonoMs = monoMs;
    TIME.wallMs = Date.now();
  }
  return TIME;
}
