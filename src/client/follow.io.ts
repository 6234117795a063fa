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
import { RequestError } from "./request-error.ts";

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
  return following(client, { name: "follow", request, open, seen: readEntryPayload }, options);
}

/** Yields the current service summaries, followed by every change, including the loss and return of a summary's source. */
export function followSummaries(
  client: ClientCalls,
  request: MessageInitShape<typeof SummaryWatchRequestSchema>,
  options: FollowOptions,
): AsyncIterable<FollowEvent<ServiceSummary>> {
  const { summaryWatch } = DiscoveryService.method;
  const open = ({ server, cursor, signal }: StreamStart) => client.streamAt(server, summaryWatch, { ...request, cursor }, { signal });
  return following(client, { name: "followSummaries", request, open, seen: readSummaryPayload }, options);
}

/** Where a stream starts. */
interface StreamStart {
  readonly server: string;
  readonly cursor: string;
  readonly signal: AbortSignal;
}

interface FollowedStream<Item> {
  /** Name of the called function, used in errors about its options. */
  readonly name: string;
  readonly request: { readonly cursor?: string; readonly bookmarkInterval?: MessageInitShape<typeof DurationSchema> | undefined };
  readonly open: (opening: StreamStart) => AsyncIterable<WatchMessage>;
  readonly seen: PayloadReader<Item>;
}

async function* following<Item>(
  client: ClientCalls,
  followed: FollowedStream<Item>,
  options: FollowOptions,
): AsyncIterable<FollowEvent<Item>> {
  const { name, request, open, seen } = followed;
  checkOptions(name, options, RULES);
  const { signal, onBreak, chance = Math.random, waitsForServer = false, tellsUnknown = false } = options;
  const { silentMs = silentMsOf(request) } = options;
  const follower = new WatchFollower(request.cursor ?? "", { tellsUnknown, seen });
  let hasOpened = false;
  /** Servers that are full for this watch. These servers still serve other calls, so only the watch moves to another server. */
  const full = new Set<string>();
  while (!signal.aborted) {
    const server = serverFor(client, full);
    let failure: Error = new Error("the server ended the stream");
    const cursor = follower.open(server);
    const silence = new SilenceTimeout(signal);
    silence.await(CATCHING_UP_MS);
    let isSynced = false;
    try {
      for await (const message of open({ server, cursor, signal: silence.signal })) {
        silence.end();
        hasOpened = true;
        full.clear();
        const events: FollowEvent<Item>[] = [];
        follower.message(message, events);
        isSynced ||= events.some(({ kind }) => kind === "synced");
        yield* events;
        if (follower.hasUnconfirmed) break;
        silence.await(isSynced ? silentMs : CATCHING_UP_MS);
      }
      if (follower.hasUnconfirmed) continue;
    } catch (thrown) {
      if (signal.aborted) return;
      const error = silence.isTooLong ? silenceFailure(server) : thrown;
      if (!isPassing(error) || (!hasOpened && !waitsForServer && client.servers.length === 1)) throw error;
      failure = error;
    } finally {
      silence.close();
    }
    if (signal.aborted) return;
    if (isFull(failure)) full.add(server);
    else {
      client.failOver(server);
      full.clear();
    }
    const error = failure instanceof RequestError ? failure : undefined;
    const waitMs = follower.broken(chance(), { retryMs: error?.facts.retryMs, isAway: error?.isAway ?? true });
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

function silentMsOf({ bookmarkInterval: interval }: FollowedStream<unknown>["request"]): number {
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

/** Whether a retry may help: the server is unavailable, is restarting or draining, or has closed the stream. */
function isPassing(error: unknown): error is RequestError {
  const passing = ["UNKNOWN", "INTERNAL", "CANCELLED", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"];
  return error instanceof RequestError && (error.isAway || passing.includes(error.facts.code));
}
