/**
 * A resolver's watches on its upstream. One watch follows all prefixes, so that an idle namespace has no cost for the upstream. A new prefix is first
 * followed by a second watch. When its snapshot is complete, a single watch continues both (semantics.md, Resolver 14).
 */

import { NamespacePrefixes } from "../../catalog/query/prefixes.ts";
import { SNAPSHOT } from "../../catalog/watch/reader.ts";
import { assert } from "../../lib/errors.ts";

import { NEVER, type Time } from "../../lib/machine.ts";
import type { UpstreamWatchMessage } from "../codec.ts";
import { earlierOf, type WatchBookmarks } from "./bookmarks.ts";
import { WatchPace } from "./watch-pace.ts";
import { UpstreamWatch, type WatchedCatalog } from "./watched-catalog.ts";

/** Number of a stream. Messages from a closed stream may still arrive. The stream number identifies them. */
export type StreamNumber = number;

export type WatchOrder =
  | {
      readonly kind: "open";
      readonly stream: StreamNumber;
      readonly upstream: string;
      readonly prefixes: readonly string[];
      /** Empty if the watch begins with a snapshot. */
      readonly cursor: string;
      /** Whether bookmarks include count and digest. */
      readonly withDigest: boolean;
    }
  | { readonly kind: "close"; readonly stream: StreamNumber };

/** A list to which orders are appended. */
export interface WatchOrders {
  push(...orders: readonly WatchOrder[]): unknown;
}

interface OpenWatch {
  readonly watch: UpstreamWatch;
  readonly stream: StreamNumber;
}

const NOTHING = new NamespacePrefixes([]);

export interface UpstreamWatchesOptions {
  /**
   * Called with the reason and the prefixes of each snapshot that the resolver did not request. `policy` means that the upstream's policy changed.
   * `gap` means that the upstream could not resume from the cursor.
   */
  readonly onSnapshot?: (why: "policy" | "gap", prefixes: readonly string[]) => void;
  readonly pace?: WatchPace;
}

export class UpstreamWatches {
  readonly #followed: WatchedCatalog;
  readonly #bookmarks: WatchBookmarks;
  readonly #onSnapshot: NonNullable<UpstreamWatchesOptions["onSnapshot"]>;
  #wanted = NOTHING;
  #upstream: string | undefined;
  #main: OpenWatch | undefined;
  /** The watch for prefixes that are new or fetched again, until their snapshot is complete. */
  #extra: OpenWatch | undefined;
  #streamCount = 0;
  readonly #pace: WatchPace;
  /** Number of times complete prefixes stopped being followed. */
  releaseCount = 0;
  /** Whether `#extra` fetches prefixes of `#main` again. */
  #isRefetch = false;
  /** State of the main watch when the last upstream was lost. */
  #detached: UpstreamWatch | undefined;
  /** Prefixes that are waiting to be fetched again. */
  #refetchQueue: readonly string[] = [];
  /** The watch that is restarted with a snapshot because all its prefixes are fetched again, and its previous number of snapshots. */
  #restarted: { readonly watch: UpstreamWatch; readonly snapshotCount: number } | undefined;

  constructor(
    followed: WatchedCatalog,
    bookmarks: WatchBookmarks,
    { onSnapshot = () => {}, pace = new WatchPace() }: UpstreamWatchesOptions = {},
  ) {
    this.#pace = pace;
    this.#followed = followed;
    this.#bookmarks = bookmarks;
    this.#onSnapshot = onSnapshot;
  }

  /** Returns whether all entries of a namespace are present. Until then, the content of the namespace is unknown, not empty. */
  isComplete(namespace: string): boolean {
    // HOT: runs several times per query.
    const isHeld = (watch: UpstreamWatch | undefined) => watch?.isComplete === true && watch.prefixes.covers(namespace);
    return isHeld(this.#main?.watch) || isHeld(this.#extra?.watch) || isHeld(this.#detached);
  }

  /** Whether a watch is open, so that messages from the upstream are expected. */
  get isOpen(): boolean {
    return this.#main !== undefined;
  }

  /**
   * Returns whether all followed entries match the upstream after a message on this stream which confirms that no change is missing. This requires
   * that no second watch is open, that the snapshot is complete, and that no change received from the previous upstream is unconfirmed.
   */
  isInStep(stream: StreamNumber): boolean {
    const watch = this.#extra === undefined && this.#main?.stream === stream ? this.#main.watch : undefined;
    return watch !== undefined && watch.isComplete && watch.staged === undefined && !watch.isFrozen && !watch.doubts.hasUnconfirmed;
  }

  /** Whether all wanted prefixes are complete. */
  get isWhole(): boolean {
    return this.#wanted.list.every((prefix) => this.isComplete(prefix));
  }

  /** Whether any followed entry comes from the copy on disk and has not been confirmed by an upstream yet. */
  get isFromDisk(): boolean {
    // HOT: runs per query.
    return this.#main?.watch.isFromDisk === true || this.#extra?.watch.isFromDisk === true || this.#detached?.isFromDisk === true;
  }

  /**
   * State of the complete watch that would be resumed on another upstream. Undefined if there is no such watch, or while a part is being fetched
   * again, because no cursor covers its changes.
   */
  get held(): UpstreamWatch | undefined {
    if (this.#isRefetch) return undefined;
    const watch = this.#main?.watch ?? this.#detached;
    return watch?.isComplete === true ? watch : undefined;
  }

  /** Restores the state of a watch from a copy on disk. The watch resumes on the first upstream. Must be called before an upstream is used. */
  restore(watch: UpstreamWatch): void {
    assert(this.#upstream === undefined && this.#main === undefined, "a watch was restored after an upstream had been used");
    this.#detached = watch;
  }

  /** Returns the monotonic time at which the next prefix change is allowed. */
  nextDeadlineMs(): number {
    return this.#upstream === undefined ? NEVER : this.#pace.dueMonoMs;
  }

  /** Stops following unwanted prefixes with the next change. Otherwise, they remain for some seconds, because they may be wanted again. */
  release(): void {
    this.#pace.scheduleSoon();
  }

  /** Returns the number for a new stream. Other parts that open streams also use this method to get their numbers. */
  takeStream(): StreamNumber {
    this.#streamCount += 1;
    return this.#streamCount;
  }

  /** The cursor up to which all followed entries are present. Undefined until the current upstream has issued such a cursor. */
  get place(): UpstreamWatchMessage["place"] {
    const watch = this.#extra === undefined ? this.#main?.watch : undefined;
    return watch?.isPlaced === true && watch.staged === undefined ? watch.place : undefined;
  }

  /**
   * Fetches all entries below these prefixes again. The current entries are kept until the new snapshot is complete. If the upstream is lost before
   * that, the request is dropped and the caller must repeat it.
   */
  fetchAgain(prefixes: readonly string[], time: Time, out: WatchOrders): void {
    // Without a watch, no prefix is followed or no upstream responds.
    if (this.#main === undefined) return;
    this.#refetchQueue = [...this.#refetchQueue, ...prefixes];
    this.#adjust(time, out);
  }

  /** The watch for new prefixes whose first snapshot is being received. Undefined if there is no such watch. */
  get arriving(): UpstreamWatch | undefined {
    if (this.#isRefetch) return undefined;
    const watch = this.#extra?.watch ?? this.#main?.watch;
    return watch?.isComplete === false ? watch : undefined;
  }

  /**
   * Stops storing the current snapshot, because there is no room for it. The rest of the snapshot is only counted, and the entries received so far
   * are released.
   */
  count(time: Time): void {
    const watch = this.arriving;
    if (watch === undefined) return;
    watch.admission = "counted";
    watch.staged?.seen.clear();
    this.#followed.drop(watch.prefixes, watch === this.#main?.watch ? NOTHING : (this.#main?.watch.prefixes ?? NOTHING), time);
  }

  /** Fetches the counted prefixes, because there is now room for them. */
  admit(out: WatchOrders): void {
    const open = this.#extra ?? this.#main;
    if (open === undefined) return;
    open.watch.admission = "admitted";
    this.#restart(open, out);
  }

  /**
   * Whether followed entries are being fetched again. The new entries replace the current entries, so no entries can be released until the snapshot
   * is complete.
   */
  get isReplacing(): boolean {
    return this.#isRestarting || (this.#extra !== undefined && this.#isRefetch);
  }

  /** Whether a requested fetch of followed prefixes is still running. */
  get isFetchingAgain(): boolean {
    return this.#refetchQueue.length > 0 || this.isReplacing;
  }

  /** Sets the prefixes to follow. */
  want(prefixes: NamespacePrefixes, time: Time, out: WatchOrders): void {
    this.#wanted = prefixes;
    if (this.#upstream !== undefined && this.#main === undefined && this.#detached !== undefined)
      this.#narrowDetached(this.#detached, time);
    const [main, extra] = [this.#main, this.#extra];
    if (extra !== undefined && !this.#isRefetch && extra.watch.prefixes.list.some((prefix) => !prefixes.covers(prefix))) {
      out.push({ kind: "close", stream: extra.stream });
      this.#drop(extra.watch, main?.watch.prefixes ?? NOTHING, time);
      this.#extra = undefined;
    }
    this.#adjust(time, out);
  }

  /** Sets a smaller set of prefixes to follow, because there is no room for the previous one. A first snapshot that contains other prefixes is restarted. */
  wantLess(prefixes: NamespacePrefixes, time: Time, out: WatchOrders): void {
    const main = this.#main;
    if (main?.watch.isComplete === false) {
      out.push({ kind: "close", stream: main.stream });
      this.#drop(main.watch, NOTHING, time);
      this.#main = undefined;
    }
    this.want(prefixes, time, out);
    // A second watch for new prefixes must not delay the release of other prefixes.
    if (this.#main !== undefined && this.#extra !== undefined && !this.#isRefetch) this.#narrow(this.#main, time, out);
  }

  /** Number of keys recorded for snapshots and for unconfirmed changes. */
  get notedCount(): number {
    return this.#watches().reduce((count, { doubts, staged }) => count + doubts.size + (staged?.seen.size ?? 0), 0);
  }

  /** Switches to another upstream and resumes the watches on it. Undefined stops following. */
  use(upstream: string | undefined, time: Time, out: WatchOrders): void {
    if (upstream === this.#upstream) return;
    this.#leave(time, out);
    this.#upstream = upstream;
    this.#adjust(time, out);
  }

  /**
   * Processes a message from an upstream. Returns whether the message belongs to an open watch. Throws `invalid_argument` for a malformed message.
   * The caller must then report the stream as ended.
   */
  receive(stream: StreamNumber, message: UpstreamWatchMessage, time: Time, out: WatchOrders): boolean {
    const open = [this.#main, this.#extra].find((one) => one?.stream === stream);
    if (open === undefined) return false;
    if (message.snapshot === SNAPSHOT.BEGIN) this.#countSnapshot(open, message);
    this.#followed.hear(open.watch, message, time);
    if (open.watch.isDoubtful) this.#restart(open, out);
    else this.#adjust(time, out);
    return true;
  }

  /** Reopens all streams to the same upstream, each from its cursor. */
  reopen(out: WatchOrders): void {
    for (const open of [this.#main, this.#extra]) if (open !== undefined) this.#restart(open, out);
  }

  /** Records that the resolver stops using the upstream because it is silent, and for how long, in ms, the upstream sent only single changes. */
  onSilence(forMs: number): void {
    for (const watch of this.#watches()) watch.silentMs += forMs;
  }

  /** Records that a stream ended or failed. The caller must then call `use` with the next upstream. Returns whether the stream was open. */
  ended(stream: StreamNumber, time: Time, out: WatchOrders): boolean {
    if (this.#main?.stream !== stream && this.#extra?.stream !== stream) return false;
    this.#leave(time, out, stream);
    this.#upstream = undefined;
    return true;
  }

  /**
   * Records that the upstream refused a stream. Its other streams continue. The prefixes of the refused stream are no longer followed unless `want`
   * sets them again. Returns these prefixes, or an empty list if the stream only fetched followed prefixes again. Returns undefined if no such stream
   * is open.
   */
  refused(stream: StreamNumber, time: Time, out: WatchOrders): readonly string[] | undefined {
    const [main, extra] = [this.#main, this.#extra];
    if (extra?.stream === stream) {
      this.#extra = undefined;
      if (!this.#isRefetch) {
        this.#drop(extra.watch, main?.watch.prefixes ?? NOTHING, time);
        return extra.watch.prefixes.list;
      }
      this.#isRefetch = false;
      main?.watch.resume();
      return [];
    }
    if (main?.stream !== stream) return undefined;
    // The upstream may have refused the cursor.
    if (!main.watch.isPlaced) main.watch.place = undefined;
    this.#leave(time, out, stream);
    return main.watch.prefixes.list;
  }

  /** Whether the snapshot of a wanted prefix is still incomplete. */
  get isOpening(): boolean {
    return this.#upstream !== undefined && (this.#extra !== undefined || !this.isWhole);
  }

  get #isRestarting(): boolean {
    return this.#restarted !== undefined && this.#restarted.snapshotCount === this.#restarted.watch.snapshotCount;
  }

  #watches(): readonly UpstreamWatch[] {
    return [this.#main?.watch, this.#extra?.watch, this.#detached].filter((watch) => watch !== undefined);
  }

  /** Closes all streams. Complete prefixes are kept and resumed on the next upstream. */
  #leave(time: Time, out: WatchOrders, ended?: StreamNumber): void {
    for (const open of [this.#main, this.#extra])
      if (open !== undefined && open.stream !== ended) out.push({ kind: "close", stream: open.stream });
    const [main, extra] = [this.#main?.watch ?? this.#detached, this.#extra?.watch];
    if (extra !== undefined && this.#isRefetch) main?.resume();
    this.#refetchQueue = [];
    this.#restarted = undefined;
    this.#detached = main?.isComplete === true ? main : undefined;
    this.#detached?.lose();
    if (main !== this.#detached && main !== undefined) this.#drop(main, NOTHING, time);
    if (extra !== undefined) this.#drop(extra, this.#detached?.prefixes ?? NOTHING, time);
    this.#main = undefined;
    this.#extra = undefined;
    this.#isRefetch = false;
  }

  /** Opens, joins and changes watches so that they cover the wanted prefixes. */
  #adjust(time: Time, out: WatchOrders): void {
    this.#pace.dueMonoMs = NEVER;
    if (this.#upstream === undefined) return;
    const isBeginning = this.#main === undefined && (this.#detached !== undefined || this.#wanted.list.length > 0);
    if (isBeginning && this.#pace.take(time.monoMs)) {
      this.#main = this.#begin(this.#detached ?? new UpstreamWatch(this.#wanted), out);
      this.#detached = undefined;
    }
    const [main, extra] = [this.#main, this.#extra];
    // The main watch needs a cursor from this upstream, because cursors from two upstreams cannot be compared.
    if (main?.watch.isPlaced === true && extra?.watch.isComplete === true) {
      out.push({ kind: "close", stream: main.stream }, { kind: "close", stream: extra.stream });
      this.#extra = undefined;
      this.#isRefetch = false;
      this.#main = this.#replace(joined(main.watch, extra.watch), out);
    } else if (main?.watch.isComplete === true && extra === undefined) this.#change(main, time, out);
    this.#bookmarks.setWhole(this.#extra === undefined);
  }

  #countSnapshot({ watch }: OpenWatch, { replaces }: UpstreamWatchMessage): void {
    if (replaces.length > 0) this.#onSnapshot("policy", replaces);
    else if (watch.isComplete && !this.#isRestarting) this.#onSnapshot("gap", watch.prefixes.list);
  }

  /** Changes the prefixes of the only open watch, whose first snapshot is complete. */
  #change({ watch, stream }: OpenWatch, time: Time, out: WatchOrders): void {
    const { list } = watch.prefixes;
    const added = this.#wanted.list.filter((prefix) => !watch.prefixes.covers(prefix));
    const unwantedCount = list.reduce((count, prefix) => count + Number(!this.#wanted.covers(prefix)), 0);
    const change = this.#pace.next({ followedCount: list.length, unwantedCount, addedCount: added.length }, time.monoMs);
    if (change === "add") {
      this.#extra = this.#begin(new UpstreamWatch(new NamespacePrefixes(added), { except: watch.prefixes }), out);
      return;
    }
    if (change === undefined) this.#refetch({ watch, stream }, out);
    else this.#narrow({ watch, stream }, time, out);
  }

  /** Stops following prefixes that are no longer wanted. */
  #narrow({ watch, stream }: OpenWatch, time: Time, out: WatchOrders): void {
    if (watch.prefixes.list.every((prefix) => this.#wanted.covers(prefix))) return;
    const kept = new NamespacePrefixes(this.#wanted.list.filter((prefix) => watch.prefixes.covers(prefix)));
    if (kept.list.length === 0 && this.#extra !== undefined) return;
    this.#drop(watch, kept, time);
    out.push({ kind: "close", stream });
    if (kept.list.length > 0) this.#main = this.#replace(watch.narrowed(kept), out);
    else {
      this.#refetchQueue = [];
      this.#restarted = undefined;
      this.#main = this.#wanted.list.length > 0 ? this.#begin(new UpstreamWatch(this.#wanted), out) : undefined;
    }
  }

  /** Reduces the state left by a refused watch to the prefixes that are still wanted. */
  #narrowDetached(left: UpstreamWatch, time: Time): void {
    if (left.prefixes.list.every((prefix) => this.#wanted.covers(prefix))) return;
    const kept = new NamespacePrefixes(this.#wanted.list.filter((prefix) => left.prefixes.covers(prefix)));
    this.#drop(left, kept, time);
    this.#detached = kept.list.length > 0 ? left.narrowed(kept) : undefined;
  }

  /** Releases the entries of a watch, except entries below `kept`. */
  #drop({ prefixes, isComplete }: UpstreamWatch, kept: NamespacePrefixes, time: Time): void {
    if (isComplete) this.releaseCount += 1;
    this.#followed.drop(prefixes, kept, time);
  }

  /** Replaces the main watch. If the main watch was restarting with a snapshot, so is the new one. */
  #replace(watch: UpstreamWatch, out: WatchOrders): OpenWatch {
    if (this.#isRestarting) this.#restarted = { watch, snapshotCount: watch.snapshotCount };
    return this.#begin(watch, out);
  }

  /** Fetches the requested prefixes again as soon as the main watch has a cursor from which to continue. */
  #refetch(open: OpenWatch, out: WatchOrders): void {
    const { watch } = open;
    if (this.#refetchQueue.length === 0 || !watch.isPlaced || watch.staged !== undefined) return;
    const asked = new NamespacePrefixes(this.#refetchQueue);
    const list = [
      ...watch.prefixes.list.filter((prefix) => asked.covers(prefix)),
      ...asked.list.filter((prefix) => watch.prefixes.covers(prefix)),
    ];
    this.#refetchQueue = [];
    if (list.length === 0) return;
    const part = new NamespacePrefixes(list);
    if (watch.prefixes.list.every((prefix) => part.covers(prefix))) {
      watch.place = undefined;
      this.#restarted = { watch, snapshotCount: watch.snapshotCount };
      this.#restart(open, out);
      return;
    }
    watch.pause(part);
    this.#isRefetch = true;
    this.#extra = this.#begin(new UpstreamWatch(part), out);
  }

  #begin(watch: UpstreamWatch, out: WatchOrders): OpenWatch {
    const stream = this.takeStream();
    const { list } = watch.prefixes;
    out.push({ kind: "open", stream, upstream: this.#upstream ?? "", prefixes: list, cursor: watch.move(), withDigest: false });
    return { watch, stream };
  }

  /** Reopens a watch from its cursor, or with a snapshot if it has no cursor. */
  #restart(open: OpenWatch, out: WatchOrders): void {
    out.push({ kind: "close", stream: open.stream });
    const again = this.#begin(open.watch, out);
    if (open === this.#main) this.#main = again;
    else this.#extra = again;
  }
}

/**
 * Joins two watches into one, which resumes from the earlier of their cursors. The order of their messages does not show which cursor is earlier.
 * Until its first bookmark, the joined watch has received changes that are newer than that cursor but not recorded.
 */
function joined(first: UpstreamWatch, second: UpstreamWatch): UpstreamWatch {
  const watch = new UpstreamWatch(new NamespacePrefixes([...first.prefixes.list, ...second.prefixes.list]), { doubts: first.doubts });
  watch.isComplete = true;
  watch.isAheadOfCheckpoint = true;
  const [one, other] = [first.place, second.place];
  if (one !== undefined && other !== undefined) {
    const earlier = earlierOf(one.cursor, other.cursor);
    watch.place = earlier === undefined ? undefined : earlier === one.cursor ? one : other;
  }
  return watch;
}
