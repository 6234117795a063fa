/** Opens watches on one replica of entries or summaries. A watch starts from its cursor and has the rights of its viewer. */
import type { Duration } from "@bufbuild/protobuf/wkt";
import type { EntryFilter } from "../../catalog/query/filter.ts";
import { parseCursor, type WatchCursor } from "../../catalog/watch/cursor.ts";
import type { CursorSource } from "../../catalog/watch/cursor-gap.ts";
import { WatchFeed } from "../../catalog/watch/feed.ts";
import { type FeedMessage, SNAPSHOT, type WatchReader } from "../../catalog/watch/reader.ts";
import { isAhead } from "../../catalog/watch/resume.ts";
import type { Fanout, WatchStream } from "../../discovery/fanout.ts";
import type { CatalogReads } from "../../discovery/reads.ts";
import { invalid, WaymarkError } from "../../lib/errors.ts";
import { hlcWallMs } from "../../lib/hlc.ts";
import type { Time } from "../../lib/machine.ts";
import type { Histogram, MetricSeries } from "../../lib/metrics/metrics.ts";
import { type Caller, type RequestedViewer, viewerOf } from "../../policy/identity/caller.ts";
import { bookmarkMs } from "../contract.ts";
import { DeferredStream } from "../deferred-stream.ts";
import type { CallContext, StreamSource } from "../service.ts";
import type { AnswerAge, PeerDirectory } from "./answer-age.ts";
import { type DiscoveryBytes, type ResolvedMark, withHiddenBy } from "./response-bytes.ts";

/** Slightly longer than the time between two checks for due bookmarks. */
const BOOKMARK_SLACK_MS = 250;

export interface WatchOpenerParts {
  readonly reads: CatalogReads;
  readonly identity: { readonly boot: string };
  readonly mesh: Pick<PeerDirectory, "hasPeers">;
  readonly isReady: () => boolean;
  /** As in `ReadParts`. */
  readonly caughtUp: (() => Promise<void>) | undefined;
  readonly now: () => Time;
  readonly allowsViewerOverride: boolean;
  /** As in `ReadParts`. */
  readonly resumes?: Pick<CursorSource, "gap"> | undefined;
}

/** The parameters of a watch, without its caller. */
export interface RequestedWatch {
  readonly filter: EntryFilter;
  /** If the cursor is empty, the watch starts with a snapshot. */
  readonly cursor: string;
  readonly bookmarkInterval: Duration | undefined;
  readonly viewer: RequestedViewer | undefined;
  readonly isNamesOnly: boolean;
  readonly withDigest: boolean;
}

type ParsedWatch = Omit<RequestedWatch, "bookmarkInterval" | "cursor"> & {
  readonly bookmarkIntervalMs: number;
  readonly cursor: WatchCursor | undefined;
};

export class WatchOpener {
  readonly #parts: WatchOpenerParts;
  readonly #ports: WatchPorts;

  constructor(parts: WatchOpenerParts, ports: WatchPorts) {
    this.#parts = parts;
    this.#ports = ports;
  }

  /** Throws `invalid_argument` for an invalid cursor, and `discovery_access_denied` if the watch names exactly one namespace that the viewer may not see. */
  open(request: RequestedWatch, { caller, time }: CallContext): StreamSource {
    const { caughtUp, now } = this.#parts;
    const bookmarkIntervalMs = bookmarkMs(request.bookmarkInterval);
    const cursor = request.cursor === "" ? undefined : parseCursor(request.cursor);
    const asked = { ...request, bookmarkIntervalMs, cursor };
    if (caughtUp === undefined || cursor === undefined || !this.#isAhead(cursor)) return this.#open(asked, caller, time);
    return new DeferredStream(caughtUp().then(() => this.#open(asked, caller, now())));
  }

  #open({ filter, viewer, isNamesOnly, withDigest, bookmarkIntervalMs, cursor }: ParsedWatch, by: Caller, time: Time): StreamSource {
    const { reads, allowsViewerOverride } = this.#parts;
    const from = cursor === undefined ? undefined : this.#from(cursor);
    const caller = viewerOf(by, viewer, allowsViewerOverride);
    reads.checkWatch(caller, filter.namespace);
    const reader = reads.reader(caller, { filter, isNamesOnly, withDigest });
    // Due bookmarks are checked at every tick. The feed marks them as due slightly early, so that they are never late.
    const intervalMs = bookmarkIntervalMs - BOOKMARK_SLACK_MS;
    const feed = new WatchFeed(reader, { from, bookmarkIntervalMs: intervalMs, places: this.#parts.resumes }, time);
    return new WatchSource(feed, this.#ports);
  }

  /**
   * Returns the cursor from which to start. Undefined if a snapshot is needed. Throws for a short cursor from this process with a future revision,
   * because such a cursor is forged.
   */
  #from(cursor: WatchCursor): WatchCursor | undefined {
    const { reads, mesh, isReady } = this.#parts;
    if (cursor.kind === "portable") {
      reads.checkResume();
      // A node that restarted without its disk and has no peers can never catch up with this cursor. While it is still searching for peers, it may
      // still catch up from one of them.
      const isAlone = isReady() && !mesh.hasPeers();
      return isAlone && this.#isAhead(cursor) ? undefined : reads.placed(cursor);
    }
    if (this.#isAhead(cursor)) throw invalid("cursor", "is not a cursor that this service issued; omit it to start with a snapshot");
    return reads.placed(cursor);
  }

  /** Returns whether the cursor covers changes that this replica lacks. For a short cursor, only the process that issued the cursor knows this. */
  #isAhead(cursor: WatchCursor): boolean {
    const { reads, identity } = this.#parts;
    if (cursor.kind === "portable") return isAhead(cursor, reads.replica);
    return cursor.holder.startsWith(identity.boot) && cursor.revision > reads.replica.revision;
  }
}

// One CatalogWatch stream: its feed, its registration in the fan-out, and the encoding of its messages.

/** Approximate size of one message in bytes. Larger messages would fill the socket buffers of readers that stall. */
const MESSAGE_BYTES = 16 * 1024 - 512;
/** Time over which the reconnects of streams are spread when this node stops. */
const RECONNECT_SPREAD_MS = 5000;

interface WatchPorts {
  readonly fanout: Fanout;
  readonly bytes: Pick<DiscoveryBytes, "watch">;
  readonly nodeId: string;
  isReady(): boolean;
  /** On a resolver: whether watches must currently send nothing. Watches are woken when the pause ends. */
  readonly isPaused?: (() => boolean) | undefined;
  readonly ageOf: (time: Time) => AnswerAge;
  /** Returns the resolvers through which the data passes, nearest first. Empty on a node. */
  readonly via: () => readonly string[];
  /** Identifies the policy in force, for resolvers. */
  readonly policyEpoch: () => string;
  /** As in `ResolvedMark`. Present for watches on summaries. */
  readonly heard?: ((time: Time) => Uint8Array) | undefined;
  now(): Time;
  /** Returns a number from 0 to below 1, which spreads reconnects. */
  random(): number;
  release(reader: WatchReader): void;
  /** Time from the timestamp of a change until its delta is encoded, in ms. */
  readonly deltaLag: Pick<Histogram, "observe">;
  /** Counts streams that get a snapshot because they are too far behind for deltas. */
  readonly dropped: Pick<MetricSeries, "inc">;
}

export class WatchSource implements StreamSource, WatchStream {
  readonly feed: WatchFeed;
  readonly #ports: WatchPorts;
  #wake: (() => void) | undefined;
  #end: ((error: WaymarkError | undefined) => void) | undefined;
  isReady = false;
  isDrained = false;
  #isStopping = false;
  /** Whether the fan-out knows that this stream needs only changes from now on. */
  #isNarrow = false;
  #isOver = false;

  constructor(feed: WatchFeed, ports: WatchPorts) {
    this.feed = feed;
    this.#ports = ports;
  }

  attach(wake: () => void, end: (error: WaymarkError | undefined) => void): void {
    this.#wake = wake;
    this.#end = end;
    this.#ports.fanout.add(this);
  }

  wake(): void {
    this.#wake?.();
  }

  /** Stops the stream: the next pull returns the final cursor, and the pull after it ends the stream. */
  stop(): void {
    this.#isStopping = true;
  }

  // HOT: runs once per message and stream; see bench/watch.ts. Equal streams at the same position share the encoded bytes.
  pull(time: Time): Buffer | undefined {
    if (this.#ports.isPaused?.() === true && !this.#isStopping) return undefined;
    const message = this.#next(time);
    this.isDrained = this.feed.isCurrent && !this.#isStopping;
    if (this.isDrained && !this.#isNarrow) {
      this.#isNarrow = true;
      this.#ports.fanout.narrow(this);
    }
    if (message === undefined) return undefined;
    message.encoded ??= this.#encoded(message, time);
    return message.encoded;
  }

  #encoded(message: FeedMessage, time: Time): Buffer {
    const { isNamesOnly, filter, hiddenBy } = this.feed.reader.options;
    const age = this.#ports.ageOf(time);
    const newest = message.snapshot === SNAPSHOT.NONE ? message.changes.at(-1) : undefined;
    if (newest !== undefined) this.#ports.deltaLag.observe(Math.max(0, time.wallMs - hlcWallMs(newest.record.hlc)));
    const resolved = filter.resolved === undefined ? undefined : this.#resolvedAt(time);
    const options = { isNamesOnly, sentWallMs: time.wallMs, servedBy: this.#ports.nodeId, age, resolved };
    return withHiddenBy(this.#ports.bytes.watch(message, options), hiddenBy?.(message.changes.map(({ record }) => record)));
  }

  #resolvedAt(time: Time): ResolvedMark {
    return { policyEpoch: this.#ports.policyEpoch(), via: this.#ports.via(), heard: this.#ports.heard?.(time) };
  }

  close(): void {
    this.#ports.fanout.remove(this);
    this.#ports.release(this.feed.reader);
  }

  #next(time: Time): FeedMessage | undefined {
    if (this.#isOver) return undefined;
    const isReady = this.#ports.isReady();
    const { restartCount } = this.feed;
    const message = this.feed.next(time, MESSAGE_BYTES, isReady);
    if (this.feed.restartCount > restartCount) this.#ports.dropped.inc();
    if (this.feed.isUnfinished && !this.#isStopping) {
      this.#ports.fanout.again(this);
      return undefined;
    }
    if (!this.#isStopping || message !== undefined) return message;
    this.#isOver = true;
    const farewell = this.feed.farewell(time, isReady);
    const retryMs = Math.ceil(this.#ports.random() * RECONNECT_SPREAD_MS);
    this.#end?.(new WaymarkError("draining", "this node is draining: resume on another node with the portable cursor", { retryMs }));
    return farewell;
  }
}
