/** `watch`: a live map of the entries of a filter, which goes on through lost servers, and the choice among its entries. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs, durationMs } from "@bufbuild/protobuf/wkt";
import { type Entry, type EntryKey, EntryKind } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { CatalogWatchRequestSchema } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { isCalledAtNode } from "../../consumer/hosting.ts";
import type { ZoneLocality } from "../../consumer/levels.ts";
import type { Time } from "../../lib/machine.ts";
import { later } from "../../lib/stall-aware-time.io.ts";
import type { ClientCalls } from "../calls.ts";
import { follow, isFull } from "../follow.io.ts";
import { checkOptions, FLAG, FUNCTION, type OptionRules, SIGNAL, TIMEOUT } from "../option-rules.ts";
import { closedFailure, lateFailure } from "../request-error.ts";
import { type Choice, checkResolveOptions, chosenFrom, kindIn, NODES_NAMESPACE, type NodesOf, type ResolveOptions } from "./choice.ts";
import { type CountsOfName, type Freshness, type LiveChange, LiveEntries } from "./live-entries.ts";

export interface WatchOptions {
  /** Waits for a server that cannot be reached at first, or asks to come later. By default `watch` gives up after the client's `timeoutMs`. */
  readonly waitsForServer?: boolean;
  /** Closes the map. */
  readonly signal?: AbortSignal;
  /** Time without a message after which an up-to-date stream is replaced by another one; see `FollowOptions`. By default five bookmark intervals, at least 10 s. */
  readonly silentMs?: number;
  /** Told of changes, in groups as they show together. It must not throw. */
  readonly onChange?: (changes: readonly LiveChange[]) => void;
  /** Told when a stream broke and another one follows after `waitMs`. It must not throw. */
  readonly onBreak?: (error: Error, waitMs: number) => void;
}

const RULES: OptionRules<WatchOptions> = { waitsForServer: FLAG, signal: SIGNAL, silentMs: TIMEOUT, onChange: FUNCTION, onBreak: FUNCTION };

/** Time between two bookmarks when the request has none: how often an idle server says that nothing is missing. */
const BOOKMARK_MS = 3000;
/** After this many bookmark intervals of silence the map is stale. */
const SILENT_INTERVALS = 3;
const NO_OPTIONS: ResolveOptions = {};

export type WatchRequest = Omit<MessageInitShape<typeof CatalogWatchRequestSchema>, "cursor" | "$typeName">;

/** What `watch` uses of a client. */
export interface WatchingCalls extends ClientCalls {
  /** Where the program runs, when that is known. */
  readonly place: ZoneLocality | undefined;
}

/**
 * Opens a live map, and resolves when its first snapshot is complete. Throws a `RequestError` when the watch is refused, all servers have no room for it, or no server is there in time, and a TypeError or
 * RangeError that names an option which is wrong.
 */
export async function watch(client: WatchingCalls, request: WatchRequest, options: WatchOptions = {}): Promise<LiveMap> {
  checkOptions("watch", options, RULES);
  const refusal = Promise.withResolvers<void>();
  const full = new Set<string>();
  const onBreak = (error: Error, waitMs: number): void => {
    options.onBreak?.(error, waitMs);
    if (!isFull(error)) return;
    full.add(error.facts.server);
    // Servers are there, and waiting gives none of them room: each would have said how long.
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
  /** HOT: one object for all choices. */
  readonly #here: { place: ZoneLocality | undefined; readonly now: () => Time; readonly nodesOf: NodesOf } = {
    place: undefined,
    now: sharedNow,
    nodesOf: (nodeId) => this.#nodes?.named(NODES_NAMESPACE, nodeId, EntryKind.NODE) ?? [],
  };
  /** The nodes, followed from when the map first shows an entry that is called at its node. */
  #nodes: LiveMap | undefined;
  /** Resolves when those are known, or when waiting longer for them makes no sense. */
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
    // Who asks for `ready` gets the error; nobody has to.
    this.ready.catch(() => {});
    options.signal?.addEventListener("abort", this.#onAbort, { once: true });
    if (options.signal?.aborted === true) this.#abort.abort();
    this.#following = this.#follow({ ...request, bookmarkInterval });
  }

  /** Entries that show, held ones included. */
  get size(): number {
    return this.#entries.size;
  }

  /** Whether the first snapshot is complete. */
  get isReady(): boolean {
    return this.#entries.isReady;
  }

  /** Why the map is no longer kept up to date; it shows what it had. Undefined while it is kept, and after `close`. */
  get error(): Error | undefined {
    return this.#error;
  }

  get freshness(): Freshness {
    return this.#entries.freshness(now());
  }

  /** The entry with exactly this key, cluster id included. */
  get(key: EntryKey): Entry | undefined {
    return this.#entries.get(key);
  }

  /** All entries, in no particular order. Entries that vanished all at once have health ORPHANED, or MAINTENANCE if they had that. */
  entries(): Iterable<Entry> {
    return this.#entries.entries();
  }

  /** The entries of one name; of kind SERVICE unless another one is given. */
  named(namespace: string, name: string, kind: EntryKind = EntryKind.SERVICE): readonly Entry[] {
    return [...(this.#entries.named(namespace, name, kind)?.entries() ?? [])];
  }

  /**
   * Chooses an entry of the name and one of its ports, from what the map shows; it asks no server. Undefined when there is none, when all are in MAINTENANCE,
   * or when all were tried. HOT: at most 1 µs (bench/resolve.ts).
   */
  resolve(namespace: string, name: string, options: ResolveOptions = NO_OPTIONS): Choice | undefined {
    if (options !== NO_OPTIONS) checkResolveOptions(options);
    const group = this.#entries.named(namespace, name, kindIn(options));
    if (group === undefined) return undefined;
    this.#here.place = this.#client.place;
    return chosenFrom(group, options, this.#here);
  }

  /** Counts of each name that is there: choices, those by load, calls and their latencies as the program reported them. */
  stats(): readonly CountsOfName[] {
    return this.#entries.stats();
  }

  /**
   * Each group of changes from now on. A slow reader gets several changes of a key as one. The iteration ends when the map is closed, and throws when
   * the map is no longer kept up to date.
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

  /** Ends the watch. The map shows what it had. */
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
        this.#tell(changes);
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

  /** A server that refuses this watch, or does not answer in time, leaves choices of such entries without a target. */
  #followNodes(): void {
    const known = Promise.withResolvers<void>();
    const cancel = later(known.resolve, this.#client.timeoutMs);
    const options = { waitsForServer: true, onBreak: () => known.resolve() };
    this.#nodes = new LiveMap(this.#client, { namespace: NODES_NAMESPACE, kinds: [EntryKind.NODE] }, options);
    this.#nodes.ready.then(known.resolve, known.resolve);
    this.#nodesKnown = known.promise.finally(cancel);
  }

  #tell(changes: readonly LiveChange[]): void {
    this.#cancelTick();
    this.#cancelTick = later(() => this.#tell(this.#entries.tick(now())), this.#entries.nextDeadlineMs() - performance.now());
    if (changes.length === 0) return;
    this.#options.onChange?.(changes);
    for (const queue of this.#queues) queue.push(changes);
  }
}

/** Changes that a reader has not taken yet: one a key. */
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
      // What came and went between two looks is no news.
      if (change.kind === "remove" && isNew) continue;
      this.#waiting.set(text, change.kind === "put" && before !== undefined ? { ...change, isNew } : change);
    }
    this.#wake();
  }

  wake(): void {
    this.#wake();
  }

  /** The changes since the last time. Waits for some; empty after `wake`. */
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
/** The wall clock dates reports of load, which count for minutes, so a choice does not need it anew each time. */
const WALL_FOR_MS = 100;
let wallReadMonoMs = Number.NEGATIVE_INFINITY;

/** HOT: the same object each time, for a caller that looks at it at once. A look at a clock costs 40 ns. */
function sharedNow(): Time {
  const monoMs = performance.now();
  TIME.monoMs = monoMs;
  if (monoMs - wallReadMonoMs >= WALL_FOR_MS) {
    wallReadMonoMs = monoMs;
    TIME.wallMs = Date.now();
  }
  return TIME;
}
