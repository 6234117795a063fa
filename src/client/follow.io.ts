/** `follow`: a watch that survives breaks, restarts and the loss of a server. */
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

export interface FollowOptions {
  /** Ends the following. */
  readonly signal: AbortSignal;
  /** Called when a stream broke, or was refused for want of room, and another will be tried; for logs. */
  readonly onBreak?: (error: Error, waitMs: number) => void;
  /** Uniform in [0, 1), for jitter. */
  readonly chance?: () => number;
  /** Wait for a server that cannot be reached at the first try. By default that is an error. */
  readonly waitsForServer?: boolean;
  /** Tells removals of keys too that were never told, or are gone already. By default these are left out. */
  readonly tellsUnknown?: boolean;
  /**
   * Time without a message after which an up-to-date stream is replaced by another one. By default five bookmark intervals, at least 10 s. A stream that is not up to
   * date yet has 90 s, because a server that lacks changes of the cursor waits up to 60 s for them without a message.
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

/** Bookmark intervals of silence after which a stream is given up: a server says something in each. */
const SILENT_INTERVALS = 5;
const LEAST_SILENT_MS = 10_000;
/** The interval of a request that names none, by the server. */
const DEFAULT_BOOKMARK_MS = 10_000;
/** A server that lacks changes which the cursor has waits for them for 60 s, and says nothing meanwhile (semantics.md, Watch 3). */
const CATCHING_UP_MS = 90_000;

/**
 * Tells every change of the matching entries, first those that are there now. It resumes by cursor after breaks, at the next server when
 * one is away. Only the watch goes elsewhere when a server has no room for it. Each change is told once. Throws `RequestError` when the watch is refused, and a TypeError or RangeError that names an option which is wrong.
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

/** The same for summaries of services: tells those that are there now, and then every change, also when the source of one is lost or found. */
export function followSummaries(
  client: ClientCalls,
  request: MessageInitShape<typeof SummaryWatchRequestSchema>,
  options: FollowOptions,
): AsyncIterable<FollowEvent<ServiceSummary>> {
  const { summaryWatch } = DiscoveryService.method;
  const open = ({ server, cursor, signal }: StreamStart) => client.streamAt(server, summaryWatch, { ...request, cursor }, { signal });
  return following(client, { name: "followSummaries", request, open, seen: readSummaryPayload }, options);
}

/** Where a stream begins. */
interface StreamStart {
  readonly server: string;
  readonly cursor: string;
  readonly signal: AbortSignal;
}

interface FollowedStream<Item> {
  /** Of the function, for faults in its options. */
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
  /** Servers that have no room for this watch. They serve other calls, so only this one leaves them. */
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

/** The client's server, or another one when that has no room for the watch. When none has, they are asked anew. */
function serverFor(client: ClientCalls, full: Set<string>): string {
  const { server } = client;
  if (!full.has(server)) return server;
  const other = client.serverBeside(full);
  if (other === undefined) full.clear();
  return other ?? server;
}

/** Whether the server is there, and has no room for one more watch, or for one more of this caller. */
export function isFull(error: unknown): error is RequestError {
  return error instanceof RequestError && error.facts.code === "RESOURCE_EXHAUSTED";
}

/** Ends a stream when its server says nothing for too long. The time that the reader takes is not silence of the server. */
class SilenceTimeout {
  readonly #given: AbortSignal;
  readonly #abort = new AbortController();
  readonly #onAbort = (): void => this.#abort.abort();
  #cancel: () => void = () => {};
  /** Whether it ended the stream. */
  isTooLong = false;

  constructor(given: AbortSignal) {
    this.#given = given;
    given.addEventListener("abort", this.#onAbort, { once: true });
    if (given.aborted) this.#abort.abort();
  }

  /** Ends the stream; also when the given signal does. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** The server is to say something within this time. */
  await(withinMs: number): void {
    this.#cancel = later(() => {
      this.isTooLong = true;
      this.#abort.abort();
    }, withinMs);
  }

  /** The server said something. */
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
  return new RequestError("the server said nothing for too long", facts);
}

/** Failures after which another try may help: the server is away, restarts, drains or cut the stream. */
function isPassing(error: unknown): error is RequestError {
  const passing = ["UNKNOWN", "INTERNAL", "CANCELLED", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"];
  return error instanceof RequestError && (error.isAway || passing.includes(error.facts.code));
}
