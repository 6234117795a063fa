/** Opens watches of one replica, of entries or of summaries: each from its cursor, as its viewer. */
import type { Duration } from "@bufbuild/protobuf/wkt";
import type { Filter } from "../../catalog/query/filter.ts";
import { type Cursor, parseCursor } from "../../catalog/watch/cursor.ts";
import { Feed } from "../../catalog/watch/feed.ts";
import type { Places } from "../../catalog/watch/gap.ts";
import { isAhead } from "../../catalog/watch/resume.ts";
import type { Reads } from "../../discovery/reads.ts";
import { invalid } from "../../lib/errors.ts";
import type { Time } from "../../lib/machine.ts";
import { type AskedViewer, type Caller, viewerOf } from "../../policy/identity/caller.ts";
import { LateSource } from "../late-source.ts";
import { bookmarkMs } from "../request-checks.ts";
import type { CallContext, StreamSource } from "../service.ts";
import type { PeerDirectory } from "./age.ts";
import { type WatchPorts, WatchSource } from "./watch-source.ts";

/** A little more than the time between two looks for due bookmarks. */
const BOOKMARK_SLACK_MS = 250;

export interface WatchOpenerParts {
  readonly reads: Reads;
  readonly identity: { readonly boot: string };
  readonly mesh: Pick<PeerDirectory, "hasPeers">;
  readonly isReady: () => boolean;
  /** As in `ReadParts`. */
  readonly caughtUp: (() => Promise<void>) | undefined;
  readonly now: () => Time;
  readonly allowsViewerOverride: boolean;
  /** As in `ReadParts`. */
  readonly resumes?: Pick<Places, "gap"> | undefined;
}

/** What a watch asks for, apart from who asks. */
export interface AskedWatch {
  readonly filter: Filter;
  /** Empty starts with a snapshot. */
  readonly cursor: string;
  readonly bookmarkInterval: Duration | undefined;
  readonly viewer: AskedViewer | undefined;
  readonly isNamesOnly: boolean;
  readonly withDigest: boolean;
}

type Placed = Omit<AskedWatch, "bookmarkInterval" | "cursor"> & {
  readonly bookmarkIntervalMs: number;
  readonly cursor: Cursor | undefined;
};

export class WatchOpener {
  readonly #parts: WatchOpenerParts;
  readonly #ports: WatchPorts;

  constructor(parts: WatchOpenerParts, ports: WatchPorts) {
    this.#parts = parts;
    this.#ports = ports;
  }

  /** Throws `invalid_argument` for a cursor that is none of ours, and `discovery_access_denied` for exactly one namespace that the viewer may not see. */
  open(request: AskedWatch, { caller, time }: CallContext): StreamSource {
    const { caughtUp, now } = this.#parts;
    const bookmarkIntervalMs = bookmarkMs(request.bookmarkInterval);
    const cursor = request.cursor === "" ? undefined : parseCursor(request.cursor);
    const asked = { ...request, bookmarkIntervalMs, cursor };
    if (caughtUp === undefined || cursor === undefined || !this.#isAhead(cursor)) return this.#open(asked, caller, time);
    return new LateSource(caughtUp().then(() => this.#open(asked, caller, now())));
  }

  #open({ filter, viewer, isNamesOnly, withDigest, bookmarkIntervalMs, cursor }: Placed, by: Caller, time: Time): StreamSource {
    const { reads, allowsViewerOverride } = this.#parts;
    const from = cursor === undefined ? undefined : this.#from(cursor);
    const caller = viewerOf(by, viewer, allowsViewerOverride);
    reads.checkWatch(caller, filter.namespace);
    const reader = reads.reader(caller, { filter, isNamesOnly, withDigest });
    // Due bookmarks are found in ticks. The feed makes them due a little early, so that they are never late.
    const intervalMs = bookmarkIntervalMs - BOOKMARK_SLACK_MS;
    const feed = new Feed(reader, { from, bookmarkIntervalMs: intervalMs, places: this.#parts.resumes }, time);
    return new WatchSource(feed, this.#ports);
  }

  /** The cursor to start from. Undefined leads to a snapshot. Throws for a short cursor of this process with a future revision: it was forged. */
  #from(cursor: Cursor): Cursor | undefined {
    const { reads, mesh, isReady } = this.#parts;
    if (cursor.kind === "portable") {
      reads.checkResume();
      // A node that came back without its disk and has no peers can never catch up with this cursor. While it still looks for its peers,
      // one of them may help it to catch up.
      const isAlone = isReady() && !mesh.hasPeers();
      return isAlone && this.#isAhead(cursor) ? undefined : reads.placed(cursor);
    }
    if (this.#isAhead(cursor)) throw invalid("cursor", "is not a cursor this service gave out");
    return reads.placed(cursor);
  }

  /** Whether the cursor knows of changes that are not here. A short cursor tells it only of the process that gave it out. */
  #isAhead(cursor: Cursor): boolean {
    const { reads, identity } = this.#parts;
    if (cursor.kind === "portable") return isAhead(cursor, reads.replica);
    return cursor.holder.startsWith(identity.boot) && cursor.revision > reads.replica.revision;
  }
}
