/** Implements `follow`: a watch that survives broken streams, restarts and the loss of a server. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { DurationSchema, durationMs } from "@bufbuild/protobuf/wkt";
import type { ServiceSummary } from "../../gen/waymark/catalog/v1/summary_pb.js";
import { type CatalogWatchRequestSchema, DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import type { SummaryWatchRequestSchema } from "../../gen/waymark/discovery/v1/summary_pb.js";
import {
  type FollowEvent,
  type PayloadReader,
  readEntryPayload,
  readSummaryPayload,
  WatchFollower,
  type WatchMessage,
} from "../consumer/watch-follower.ts";
import { later, pause } from "../lib/stall-aware-time.io.ts";
import type { ClientCalls } from "./calls.ts";
import { checkOptions, FLAG, FUNCTION, type OptionRules, SIGNAL, TIMEOUT } from "./option-rules.ts";
import { isPassing, RequestError } from "./request-error.ts";

/** Options of `follow` and `followSummaries`. */
export interface FollowOptions {
  /** Ends the iteration. */
  readonly signal: AbortSignal;
  /** Called for logging when a stream has broken or was rejected because the server is full. The next attempt is made after `waitMs`. */
  readonly onBreak?: (error: Error, waitMs: number) => void;
  /** Returns a uniform random number in [0, 1), for jitter. */
  readonly chance?: () => number;
  /**
   * Whether to keep trying if the client's only known server cannot be reached at the first attempt. By default, `follow` throws in this case. If
   * several servers are known, it always tries the next one.
   */
  readonly waitsForServer?: boolean;
  /** Whether to report removals of keys that were never reported, or were already removed. Default: false. */
  readonly tellsUnknown?: boolean;
  /**
   * Time without a message after which a stream that has been up to date is replaced, in ms. Defaults to five bookmark intervals, but at least 10 s.
   * For a stream that is not up to date yet, the time is 90 s, because a server that lacks changes included in the cursor waits up to 60 s for them.
   */
  readonly silentMs?: number;
}

const RULES: OptionRules<FollowOptions> = {
  signal: SIGNAL,
  onBreak: FUNCTION,
  chance: FUNCTION,
  waitsForServer: FLAG,
  tellsUnknown: FLAG,
  silentMs: TIMEOUT,
};

/** Number of bookmark intervals without a message after which a stream is replaced. A server sends at least one message per interval. */
const SILENT_INTERVALS = 5;
const LEAST_SILENT_MS = 10_000;
/** The server's default bookmark interval. */
const DEFAULT_BOOKMARK_MS = 10_000;
/**
 * A server that lacks changes included in the cursor waits up to 60 s for them, and does not send any messages in the meantime (semantics.md, Watch
 * 3).
 */
const CATCHING_UP_MS = 90_000;

/**
 * Yields every change to the matching entries, starting with the current entries. Each change is reported once. After a stream breaks, the watch
 * resumes from its cursor, on the next server if the current one is unavailable. If a server is full, only this watch moves to another server. Throws
 * a `RequestError` if the watch is rejected, or a TypeError or RangeError that names an invalid option.
 */
export function follow(
  client: ClientCalls,
  request: MessageInitShape<typeof CatalogWatchRequestSchema>,
  options: FollowOptions,
): AsyncIterable<FollowEvent> {
  const { catalogWatch } = DiscoveryService.method;
  const open = ({ server, cursor, signal }: StreamStart) => client.streamAt(server, catalogWatch, { ...request, cursor }, { signal });
  return following(client, () => itemStream({ name: "follow", request, open, seen: readEntryPayload }, options), options);
}

/** Yields the current service summaries, followed by every change, including the loss and return of a summary's source. */
export function followSummaries(
  client: ClientCalls,
  request: MessageInitShape<typeof SummaryWatchRequestSchema>,
  options: FollowOptions,
): AsyncIterable<FollowEvent<ServiceSummary>> {
  const { summaryWatch } = DiscoveryService.method;
  const open = ({ server, cursor, signal }: StreamStart) => client.streamAt(server, summaryWatch, { ...request, cursor }, { signal });
  return following(client, () => itemStream({ name: "followSummaries", request, open, seen: readSummaryPayload }, options), options);
}

/** Where a stream of items starts. */
interface StreamStart {
  readonly server: string;
  readonly cursor: string;
  readonly signal: AbortSignal;
}

interface ItemStream<Item> {
  /** Name of the called function, used in errors about its options. */
  readonly name: string;
  readonly request: { readonly cursor?: string; readonly bookmarkInterval?: MessageInitShape<typeof DurationSchema> | undefined };
  readonly open: (opening: StreamStart) => AsyncIterable<WatchMessage>;
  readonly seen: PayloadReader<Item>;
}

function itemStream<Item>(
  { name, request, open, seen }: ItemStream<Item>,
  options: FollowOptions,
): FollowedStream<WatchMessage, FollowEvent<Item>> {
  checkOptions(name, options, RULES);
  const { tellsUnknown = false } = options;
  const reader = new WatchFollower(request.cursor ?? "", { tellsUnknown, seen });
  return {
    use: "read",
    open: (server, signal) => open({ server, cursor: reader.open(server), signal }),
    reader,
    silentMs: silentMsOf(request),
    catchingUpMs: CATCHING_UP_MS,
  };
}

/** Keeps the state of a reader over the streams that it reads. */
export interface StreamReader<Message, Event> {
  /** Applies one message, and appends the events for the reader to `out`. */
  message(message: Message, out: Event[]): void;
  /** Whether the stream must be opened again, because the reader has entries that are unknown to this server. */
  readonly hasUnconfirmed?: boolean;
  /** Records that the stream has ended or failed. Returns the delay before the next attempt, in ms. */
  broken(chance: number, options: { readonly retryMs?: number | undefined; readonly isAway: boolean }): number;
}

export interface FollowedStream<Message, Event> {
  /** Which servers serve the stream: all servers, or only those that accept writes. */
  readonly use: "read" | "write";
  /** Opens a stream that continues where the reader is. */
  readonly open: (server: string, signal: AbortSignal) => AsyncIterable<Message>;
  readonly reader: StreamReader<Message, Event>;
  /** Time without a message after which a stream is replaced, in ms. */
  readonly silentMs: number;
  /** The same time for a stream that has not been up to date yet. */
  readonly catchingUpMs: number;
}

/**
 * Reads streams, one after the other, and yields the events of their reader, as `follow` does. `begin` is called at the first iteration. A stream that
 * only nodes serve (`use` is "write") also switches to another server if the current one is full.
 */
export async function* following<Message, Event extends { readonly kind: string }>(
  client: ClientCalls,
  begin: () => FollowedStream<Message, Event>,
  options: FollowOptions,
): AsyncIterable<Event> {
  const { use, open, reader, silentMs: defaultSilentMs, catchingUpMs } = begin();
  const { signal, onBreak, chance = Math.random, waitsForServer = false, silentMs = defaultSilentMs } = options;
  let hasOpened = false;
  /** Servers that are full for this watch. These servers still serve other calls, so only the watch moves to another server. */
  const full = new Set<string>();
  while (!signal.aborted) {
    const server = use === "write" ? client.writeServer : serverFor(client, full);
    let failure: Error = new Error("the server ended the stream");
    const silence = new SilenceTimeout(signal);
    silence.await(catchingUpMs);
    let isSynced = false;
    try {
      for await (const message of open(server, silence.signal)) {
        silence.end();
        hasOpened = true;
        full.clear();
        const events: Event[] = [];
        reader.message(message, events);
        isSynced ||= events.some(({ kind }) => kind === "synced");
        yield* events;
        if (reader.hasUnconfirmed === true) break;
        silence.await(isSynced ? silentMs : catchingUpMs);
      }
      if (reader.hasUnconfirmed === true) continue;
    } catch (thrown) {
      if (signal.aborted) return;
      const error = silence.isTooLong ? silenceFailure(server) : thrown;
      if (!(error instanceof RequestError && isPassing(error))) throw error;
      if (!hasOpened && !waitsForServer && client.servers.length === 1) throw error;
      failure = error;
    } finally {
      silence.close();
    }
    if (signal.aborted) return;
    if (use === "read" && isFull(failure)) full.add(server);
    else {
      client.failOver(server, failure);
      full.clear();
    }
    const error = failure instanceof RequestError ? failure : undefined;
    const waitMs = reader.broken(chance(), { retryMs: error?.facts.retryMs, isAway: error?.isAway ?? true });
    onBreak?.(failure, waitMs);
    await pause(waitMs, signal);
  }
}

/**
 * Returns the client's current server, or another server if the current one is full for the watch. If all servers are full, starts again with the
 * client's server.
 */
function serverFor(client: ClientCalls, full: Set<string>): string {
  const { server } = client;
  if (!full.has(server)) return server;
  const other = client.serverBeside(full);
  if (other === undefined) full.clear();
  return other ?? server;
}

/** Whether the server is available but has no room for another watch, or for another watch by this caller. */
export function isFull(error: unknown): error is RequestError {
  return error instanceof RequestError && error.facts.code === "RESOURCE_EXHAUSTED";
}

/** Ends a stream when its server is silent for too long. The time that the reader needs to process messages is not counted. */
class SilenceTimeout {
  readonly #given: AbortSignal;
  readonly #abort = new AbortController();
  readonly #onAbort = (): void => this.#abort.abort();
  #cancel: () => void = () => {};
  /** Whether silence ended the stream. */
  isTooLong = false;

  constructor(given: AbortSignal) {
    this.#given = given;
    given.addEventListener("abort", this.#onAbort, { once: true });
    if (given.aborted) this.#abort.abort();
  }

  /** Aborted when the server has been silent for too long, or when the given signal is aborted. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** Starts the timeout for the next message. */
  await(withinMs: number): void {
    this.#cancel = later(() => {
      this.isTooLong = true;
      this.#abort.abort();
    }, withinMs);
  }

  /** Stops the timeout, because a message has arrived. */
  end(): void {
    this.#cancel();
  }

  close(): void {
    this.#cancel();
    this.#given.removeEventListener("abort", this.#onAbort);
  }
}

function silentMsOf({ bookmarkInterval: interval }: ItemStream<unknown>["request"]): number {
  const bookmarkInterval = interval && create(DurationSchema, interval);
  return Math.max(
    LEAST_SILENT_MS,
    SILENT_INTERVALS * (bookmarkInterval === undefined ? DEFAULT_BOOKMARK_MS : durationMs(bookmarkInterval)),
  );
}

function silenceFailure(server: string): RequestError {
  const facts = {
    code: "DEADLINE_EXCEEDED",
    reason: undefined,
    violations: [],
    retryMs: undefined,
    metadata: {},
    isReachable: false,
    isSent: true,
    server,
  };
  return new RequestError("the server was silent for too long", facts);
}
