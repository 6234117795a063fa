/**
 * The watches by which a resolver follows its namespaces: one for all of them, so that an idle namespace costs its upstream nothing. A namespace that is
 * followed anew comes first by a watch of its own; when its snapshot is there, one watch goes on for both (semantics.md, Resolver 14).
 */

import { NamespacePrefixes } from "../../catalog/query/prefixes.ts";
import { SNAPSHOT } from "../../catalog/watch/reader.ts";
import { assert } from "../../lib/errors.ts";

import { NEVER, type Time } from "../../lib/machine.ts";
import type { UpstreamWatchMessage } from "../codec.ts";
import { earlierOf, type WatchBookmarks } from "./bookmarks.ts";
import { WatchPace } from "./watch-pace.ts";
import { UpstreamWatch, type WatchedCatalog } from "./watched-catalog.ts";

/** A stream of an upstream, by its number: streams that were closed may still say something. */
export type StreamNumber = number;

export type WatchOrder =
  | {
      readonly kind: "open";
      readonly stream: StreamNumber;
      readonly upstream: string;
      readonly prefixes: readonly string[];
      /** Empty for a snapshot. */
      readonly cursor: string;
      /** Whether bookmarks are to have count and digest. */
      readonly withDigest: boolean;
    }
  | { readonly kind: "close"; readonly stream: StreamNumber };

/** A list of orders, to which these are appended. */
export interface WatchOrders {
  push(...orders: readonly WatchOrder[]): unknown;
}

interface OpenWatch {
  readonly watch: UpstreamWatch;
  readonly stream: StreamNumber;
}

const NOTHING = new NamespacePrefixes([]);

export interface UpstreamWatchesOptions {
  /** Is told of each snapshot that nobody asked for, and of what: because a policy changed, or because the upstream cannot go on from where we are. */
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
  /** Of what is followed anew, until its snapshot is there. */
  #extra: OpenWatch | undefined;
  #streamCount = 0;
  readonly #pace: WatchPace;
  /** How often something that was followed and there was let go. */
  releaseCount = 0;
  /** Whether `#extra` fetches again what `#main` follows. */
  #isRefetch = false;
  /** What was held when the last upstream was lost. */
  #left: UpstreamWatch | undefined;
  /** Prefixes that are to be fetched again. */
  #asked: readonly string[] = [];
  /** The watch that begins anew because everything was to be fetched again, and the snapshots that it had before. */
  #anew: { readonly watch: UpstreamWatch; readonly snapshotCount: number } | undefined;

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

  /** Whether all that a namespace has is held. Before that it is unknown, not empty. */
  isComplete(namespace: string): boolean {
    // HOT: several times a query.
    const isHeld = (watch: UpstreamWatch | undefined) => watch?.isComplete === true && watch.prefixes.covers(namespace);
    return isHeld(this.#main?.watch) || isHeld(this.#extra?.watch) || isHeld(this.#left);
  }

  /** Whether anything is followed now, so that the upstream has something to say. */
  get isOpen(): boolean {
    return this.#main !== undefined;
  }

  /**
   * Whether all that is held is as the upstream's, where it has just said on this stream that nothing is missing: this is the one watch that is open, its snapshot is whole,
   * and the upstream has told again what the one before told.
   */
  isInStep(stream: StreamNumber): boolean {
    const watch = this.#extra === undefined && this.#main?.stream === stream ? this.#main.watch : undefined;
    return watch !== undefined && watch.isComplete && watch.staged === undefined && !watch.isFrozen && !watch.doubts.hasUnconfirmed;
  }

  /** Whether everything that is wanted is held. */
  get isWhole(): boolean {
    return this.#wanted.list.every((prefix) => this.isComplete(prefix));
  }

  /** Whether any of what is held comes from a copy on disk, and no upstream has said yet what became of it. */
  get isFromDisk(): boolean {
    // HOT: once a query.
    return this.#main?.watch.isFromDisk === true || this.#extra?.watch.isFromDisk === true || this.#left?.isFromDisk === true;
  }

  /**
   * The watch of what is held whole and would be followed further at another upstream. Undefined if there is none, and while a part is fetched again: what
   * arrives of it is in no place.
   */
  get held(): UpstreamWatch | undefined {
    if (this.#isRefetch) return undefined;
    const watch = this.#main?.watch ?? this.#left;
    return watch?.isComplete === true ? watch : undefined;
  }

  /** What is held comes from a copy on disk. The first upstream goes on from there. To be called before there is one. */
  restore(watch: UpstreamWatch): void {
    assert(this.#upstream === undefined && this.#main === undefined, "a copy is restored before anything is followed");
    this.#left = watch;
  }

  /** Monotonic ms at which more may be changed of what is followed. */
  nextDeadlineMs(): number {
    return this.#upstream === undefined ? NEVER : this.#pace.dueMonoMs;
  }

  /** What is wanted no more is let go soon. Otherwise it stays for some seconds, because it may be wanted again. */
  release(): void {
    this.#pace.scheduleSoon();
  }

  /** Number of the next stream. Others, who open streams of their own, take theirs here. */
  takeStream(): StreamNumber {
    this.#streamCount += 1;
    return this.#streamCount;
  }

  /** The place up to which everything is held that is followed. Undefined while there is none, or not at the upstream that is used now. */
  get place(): UpstreamWatchMessage["place"] {
    const watch = this.#extra === undefined ? this.#main?.watch : undefined;
    return watch?.isPlaced === true && watch.staged === undefined ? watch.place : undefined;
  }

  /**
   * Fetches whole again what is followed below these prefixes. Until all of it is there, what is held stays. Nothing comes of it when the upstream is lost
   * before that: the caller asks again.
   */
  fetchAgain(prefixes: readonly string[], time: Time, out: WatchOrders): void {
    // Without a watch nothing is followed, or no upstream answers.
    if (this.#main === undefined) return;
    this.#asked = [...this.#asked, ...prefixes];
    this.#adjust(time, out);
  }

  /** The watch of something new whose first snapshot arrives. Undefined if there is none. */
  get arriving(): UpstreamWatch | undefined {
    if (this.#isRefetch) return undefined;
    const watch = this.#extra?.watch ?? this.#main?.watch;
    return watch?.isComplete === false ? watch : undefined;
  }

  /** There is no free room for what arrives: it is only counted, from its begin to its end, and what is here of it is let go. */
  count(time: Time): void {
    const watch = this.arriving;
    if (watch === undefined) return;
    watch.admission = "counted";
    watch.staged?.seen.clear();
    this.#followed.drop(watch.prefixes, watch === this.#main?.watch ? NOTHING : (this.#main?.watch.prefixes ?? NOTHING), time);
  }

  /** There is room for what was counted: it is fetched now. */
  admit(out: WatchOrders): void {
    const open = this.#extra ?? this.#main;
    if (open === undefined) return;
    open.watch.admission = "admitted";
    this.#again(open, out);
  }

  /** Whether something that is held is being fetched again: what arrives takes its place, and until it is whole nothing can be let go. */
  get isReplacing(): boolean {
    return this.#isAnew || (this.#extra !== undefined && this.#isRefetch);
  }

  /** Whether something is to be fetched again that is not there yet. */
  get isFetchingAgain(): boolean {
    return this.#asked.length > 0 || this.isReplacing;
  }

  /** Follows these prefixes from now on. */
  want(prefixes: NamespacePrefixes, time: Time, out: WatchOrders): void {
    this.#wanted = prefixes;
    if (this.#upstream !== undefined && this.#main === undefined && this.#left !== undefined) this.#narrowLeft(this.#left, time);
    const [main, extra] = [this.#main, this.#extra];
    if (extra !== undefined && !this.#isRefetch && extra.watch.prefixes.list.some((prefix) => !prefixes.covers(prefix))) {
      out.push({ kind: "close", stream: extra.stream });
      this.#drop(extra.watch, main?.watch.prefixes ?? NOTHING, time);
      this.#extra = undefined;
    }
    this.#adjust(time, out);
  }

  /** There is no room for what was wanted: these are followed now, and a first snapshot of more than them begins anew. */
  wantLess(prefixes: NamespacePrefixes, time: Time, out: WatchOrders): void {
    const main = this.#main;
    if (main?.watch.isComplete === false) {
      out.push({ kind: "close", stream: main.stream });
      this.#drop(main.watch, NOTHING, time);
      this.#main = undefined;
    }
    this.want(prefixes, time, out);
    // What is followed anew does not keep the rest from going.
    if (this.#main !== undefined && this.#extra !== undefined && !this.#isRefetch) this.#narrow(this.#main, time, out);
  }

  /** Keys that are noted of snapshots and doubts. */
  get notedCount(): number {
    return this.#watches().reduce((count, { doubts, staged }) => count + doubts.size + (staged?.seen.size ?? 0), 0);
  }

  /** Follows at another upstream from now on, from where the last one left off. Undefined if there is none. */
  use(upstream: string | undefined, time: Time, out: WatchOrders): void {
    if (upstream === this.#upstream) return;
    this.#leave(time, out);
    this.#upstream = upstream;
    this.#adjust(time, out);
  }

  /**
   * An upstream sent a message. Returns whether it was of a watch that is open. Throws `invalid_argument` for a message that no server of ours can have sent:
   * the stream is then to be told as ended.
   */
  hear(stream: StreamNumber, message: UpstreamWatchMessage, time: Time, out: WatchOrders): boolean {
    const open = [this.#main, this.#extra].find((one) => one?.stream === stream);
    if (open === undefined) return false;
    if (message.snapshot === SNAPSHOT.BEGIN) this.#countSnapshot(open, message);
    this.#followed.hear(open.watch, message, time);
    if (open.watch.isDoubtful) this.#again(open, out);
    else this.#adjust(time, out);
    return true;
  }

  /** Opens all streams again at the same upstream, each from its place. */
  reopen(out: WatchOrders): void {
    for (const open of [this.#main, this.#extra]) if (open !== undefined) this.#again(open, out);
  }

  /** The upstream is about to be left because it is silent. For so long it has said nothing but single changes. */
  onSilence(forMs: number): void {
    for (const watch of this.#watches()) watch.silentMs += forMs;
  }

  /** A stream ended or failed. The caller decides which upstream is used from now on, and tells it with `use`. Returns whether it was one that is open. */
  ended(stream: StreamNumber, time: Time, out: WatchOrders): boolean {
    if (this.#main?.stream !== stream && this.#extra?.stream !== stream) return false;
    this.#leave(time, out, stream);
    this.#upstream = undefined;
    return true;
  }

  /**
   * The upstream refused a stream; the others of it go on. What the refused one told of is followed no more, unless `want` names it again. Returns its prefixes: none
   * for one that only fetched again what is followed. Undefined if no such stream is open.
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
    // The place may be what is refused.
    if (!main.watch.isPlaced) main.watch.place = undefined;
    this.#leave(time, out, stream);
    return main.watch.prefixes.list;
  }

  /** Whether something is wanted of which no snapshot is there yet. */
  get isOpening(): boolean {
    return this.#upstream !== undefined && (this.#extra !== undefined || !this.isWhole);
  }

  get #isAnew(): boolean {
    return this.#anew !== undefined && this.#anew.snapshotCount === this.#anew.watch.snapshotCount;
  }

  #watches(): readonly UpstreamWatch[] {
    return [this.#main?.watch, this.#extra?.watch, this.#left].filter((watch) => watch !== undefined);
  }

  /** Closes all streams. What was held whole stays, and the next upstream goes on from there. */
  #leave(time: Time, out: WatchOrders, ended?: StreamNumber): void {
    for (const open of [this.#main, this.#extra])
      if (open !== undefined && open.stream !== ended) out.push({ kind: "close", stream: open.stream });
    const [main, extra] = [this.#main?.watch ?? this.#left, this.#extra?.watch];
    if (extra !== undefined && this.#isRefetch) main?.resume();
    this.#asked = [];
    this.#anew = undefined;
    this.#left = main?.isComplete === true ? main : undefined;
    this.#left?.lose();
    if (main !== this.#left && main !== undefined) this.#drop(main, NOTHING, time);
    if (extra !== undefined) this.#drop(extra, this.#left?.prefixes ?? NOTHING, time);
    this.#main = undefined;
    this.#extra = undefined;
    this.#isRefetch = false;
  }

  /** Brings what is open in line with what is wanted. */
  #adjust(time: Time, out: WatchOrders): void {
    this.#pace.dueMonoMs = NEVER;
    if (this.#upstream === undefined) return;
    const isBeginning = this.#main === undefined && (this.#left !== undefined || this.#wanted.list.length > 0);
    if (isBeginning && this.#pace.take(time.monoMs)) {
      this.#main = this.#begin(this.#left ?? new UpstreamWatch(this.#wanted), out);
      this.#left = undefined;
    }
    const [main, extra] = [this.#main, this.#extra];
    // Places of two upstreams cannot be compared.
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
    else if (watch.isComplete && !this.#isAnew) this.#onSnapshot("gap", watch.prefixes.list);
  }

  /** Changes the prefixes of the one watch that is open, whose first snapshot is there. */
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

  /** Lets go what is not wanted any more. */
  #narrow({ watch, stream }: OpenWatch, time: Time, out: WatchOrders): void {
    if (watch.prefixes.list.every((prefix) => this.#wanted.covers(prefix))) return;
    const kept = new NamespacePrefixes(this.#wanted.list.filter((prefix) => watch.prefixes.covers(prefix)));
    if (kept.list.length === 0 && this.#extra !== undefined) return;
    this.#drop(watch, kept, time);
    out.push({ kind: "close", stream });
    if (kept.list.length > 0) this.#main = this.#replace(watch.narrowed(kept), out);
    else {
      this.#asked = [];
      this.#anew = undefined;
      this.#main = this.#wanted.list.length > 0 ? this.#begin(new UpstreamWatch(this.#wanted), out) : undefined;
    }
  }

  /** What is left of a refused watch goes on with what is still wanted of it. */
  #narrowLeft(left: UpstreamWatch, time: Time): void {
    if (left.prefixes.list.every((prefix) => this.#wanted.covers(prefix))) return;
    const kept = new NamespacePrefixes(this.#wanted.list.filter((prefix) => left.prefixes.covers(prefix)));
    this.#drop(left, kept, time);
    this.#left = kept.list.length > 0 ? left.narrowed(kept) : undefined;
  }

  /** Of what a watch follows only `kept` stays. */
  #drop({ prefixes, isComplete }: UpstreamWatch, kept: NamespacePrefixes, time: Time): void {
    if (isComplete) this.releaseCount += 1;
    this.#followed.drop(prefixes, kept, time);
  }

  /** The one watch becomes another one, which also begins anew if it did. */
  #replace(watch: UpstreamWatch, out: WatchOrders): OpenWatch {
    if (this.#isAnew) this.#anew = { watch, snapshotCount: watch.snapshotCount };
    return this.#begin(watch, out);
  }

  /** Fetches again what is asked for, once there is a place from which the one watch goes on. */
  #refetch(open: OpenWatch, out: WatchOrders): void {
    const { watch } = open;
    if (this.#asked.length === 0 || !watch.isPlaced || watch.staged !== undefined) return;
    const asked = new NamespacePrefixes(this.#asked);
    const list = [
      ...watch.prefixes.list.filter((prefix) => asked.covers(prefix)),
      ...asked.list.filter((prefix) => watch.prefixes.covers(prefix)),
    ];
    this.#asked = [];
    if (list.length === 0) return;
    const part = new NamespacePrefixes(list);
    if (watch.prefixes.list.every((prefix) => part.covers(prefix))) {
      watch.place = undefined;
      this.#anew = { watch, snapshotCount: watch.snapshotCount };
      this.#again(open, out);
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

  /** Begins a watch anew: from its place, or with a snapshot where it has none. */
  #again(open: OpenWatch, out: WatchOrders): void {
    out.push({ kind: "close", stream: open.stream });
    const again = this.#begin(open.watch, out);
    if (open === this.#main) this.#main = again;
    else this.#extra = again;
  }
}

/**
 * One watch of what two held. It goes on from the earlier of their places; which one that is the order of their messages does not say. Until its first
 * bookmark it holds more than at that place, of which it does not know what.
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
