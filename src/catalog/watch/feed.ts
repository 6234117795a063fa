/**
 * One watch stream. It has a cursor, a reader, and the work that precedes deltas: a snapshot, a scoped snapshot, or the difference to a portable
 * cursor (semantics.md, Watch). The stream has no queue; it reads from the replica when the next message is requested.
 */
import type { Time } from "../../lib/machine.ts";
import { queryPage } from "../query/query.ts";
import type { KeyText } from "../record/record.ts";
import type { StoredRecord } from "../record/stored-record.ts";
import type { ReaderPosition, ReadSpan } from "../replica/past-views.ts";
import type { WatchCursor } from "./cursor.ts";
import type { CursorGap, CursorSource } from "./cursor-gap.ts";
import { ACTION, type FeedMessage, SNAPSHOT, type WatchChange, type WatchReader } from "./reader.ts";
import { isOfReader, ResumeGap } from "./resume.ts";
import { SentPages } from "./sent-pages.ts";

export interface FeedStart {
  /** The position from which the stream continues. Without a cursor, or with the cursor of another reader, the stream starts with a snapshot. */
  readonly from: WatchCursor | undefined;
  readonly bookmarkIntervalMs: number;
  /** Computes the difference for a reader whose cursor comes from another server. Absent on a node. */
  readonly places?: Pick<CursorSource, "gap"> | undefined;
}

type FeedPhase =
  | { readonly kind: "live" }
  /** Sends the pages of a snapshot; a scoped snapshot has `scopes`. `after` is the last key that was sent. */
  | {
      readonly kind: "pages";
      readonly scopes: readonly string[] | undefined;
      scope: number;
      after: KeyText | undefined;
      isBegun: boolean;
      readonly sent: SentPages;
    }
  /** All pages have been sent. Changes since BEGIN that the pages did not include are sent next, and then END. */
  | { readonly kind: "closing"; readonly scopes: readonly string[] | undefined; readonly sent: SentPages }
  /** Sends the records in which this replica differs from a portable cursor, origin by origin. */
  | { readonly kind: "gap"; readonly gap: CursorGap }
  /** A snapshot is due, but this node is behind the reader's cursor, so the snapshot could restore removed keys. */
  | { readonly kind: "waiting"; readonly gap: CursorGap };

/** Maximum total length of the namespaces in one message (semantics.md, Watch 10). If the total is longer, the stream sends a full snapshot. */
export const MAX_SCOPES_LENGTH = 4096;
/** A string that sorts after every key. */
const LAST_KEY = "\u{10FFFF}";
/** Maximum number of entries that are examined for one page of a snapshot. */
const PAGE_ENTRIES = 256;
/** Maximum number of reads that are remembered for a reader that lags behind. */
const MAX_LOOKS = 64;
/**
 * Maximum time by which a resolver may send a bookmark earlier or later, in order to include a cursor that is valid everywhere. The upstream of a
 * resolver sends a bookmark every second.
 */
const [MAX_EARLY_MS, MAX_LATE_MS] = [500, 1250];
const NO_LOOKS: readonly ReadSpan[] = [];

export class WatchFeed {
  readonly reader: WatchReader;
  readonly #bookmarkIntervalMs: number;
  #phase: FeedPhase;
  /** All messages up to this revision have been sent. */
  #revision: number;
  /** Every key's changes up to this revision have been sent. */
  #settled: number;
  /**
   * The reader has each key as it was visible at some revision from `#settled` up to this one. Infinity if another node may have sent the reader a
   * later change.
   */
  #until: number;
  /** The reads that were made between `#settled` and `#until`. */
  #reads = NO_LOOKS;
  #bookmarkDueMonoMs: number;
  /** Namespaces that must be sent again. Undefined if no namespace must be sent again. */
  #scopes: Set<string> | undefined;
  /** Total length of the names in `#scopes`. If it exceeds the bound, everything is sent again. */
  #scopesLength = 0;
  /** Present while this node is behind the reader's cursor: the records that must not be sent, and the keys to check again. */
  #behind: CursorGap | undefined;
  /**
   * Whether `next` returned nothing although it has not examined everything. If so, the caller must call it again after it has served the other
   * streams.
   */
  isUnfinished = false;
  /** Number of times that this stream was too old for deltas and started again with a snapshot. */
  restartCount = 0;

  constructor(reader: WatchReader, start: FeedStart, time: Time) {
    this.reader = reader;
    this.#bookmarkIntervalMs = start.bookmarkIntervalMs;
    this.#bookmarkDueMonoMs = time.monoMs + start.bookmarkIntervalMs;
    this.#revision = reader.replica.revision;
    this.#settled = this.#revision;
    this.#until = this.#revision;
    this.#phase = this.#startPhase(start, time);
  }

  /** The revision up to which everything has been sent. The stream's lag is measured from this revision. */
  get revision(): number {
    return this.#quietThrough();
  }

  /**
   * Every key's changes have been sent to the reader up to this revision. This revision is below `revision` until all pending keys have been sent.
   */
  get settledRevision(): number {
    return this.#settled === this.#revision ? this.#quietThrough() : this.#settled;
  }

  /** Monotonic ms at which `next` returns a bookmark even if nothing has changed. */
  get bookmarkDueMonoMs(): number {
    return this.#bookmarkDueMonoMs;
  }

  /** Handles a change in which namespaces the policy shows: their entries are sent again, or withdrawn (semantics.md, Watch 5). */
  refresh(namespaces: readonly string[] | "all"): void {
    // The snapshot in progress will send all entries in their state at that time.
    if (this.#phase.kind === "pages" && this.#phase.scopes === undefined && !this.#phase.isBegun) return;
    if (namespaces === "all") {
      this.#scopes ??= new Set();
      this.#scopesLength = Number.POSITIVE_INFINITY;
      return;
    }
    for (const namespace of namespaces) {
      if (this.#scopesLength > MAX_SCOPES_LENGTH) return;
      if (!this.reader.mayHoldNamespace(namespace) || this.#scopes?.has(namespace) === true) continue;
      this.#scopes ??= new Set();
      this.#scopes.add(namespace);
      this.#scopesLength += namespace.length;
    }
  }

  /** Whether a snapshot that a policy change caused is due, is in progress, or would start again. */
  get isTelling(): boolean {
    const { kind } = this.#phase;
    return this.#scopes !== undefined || kind === "closing" || (kind === "pages" && this.#phase.isBegun);
  }

  /** Whether `next` can only return bookmarks until the replica or the policy changes. */
  get isCurrent(): boolean {
    return (
      this.#revision === this.reader.replica.revision &&
      this.#phase.kind === "live" &&
      this.#behind === undefined &&
      this.#scopes === undefined
    );
  }

  /** Returns the next message, or undefined if there is currently nothing to send. `isReady` means that this node has caught up with a peer. */
  next(time: Time, budgetBytes: number, isReady: boolean): FeedMessage | undefined {
    this.isUnfinished = false;
    this.#skipQuiet();
    // Tombstones that this stream still needs may have been collected, so a snapshot is needed.
    const isTooOld = this.#quietThrough() < this.reader.replica.collectedRevision && isPlaced(this.#phase);
    if (isTooOld) this.#restart(time, isReady);
    else if (this.#scopes !== undefined) this.#openScopes(this.#scopes);
    const phase = this.#phase;
    switch (phase.kind) {
      case "pages":
        return this.#page(phase, budgetBytes);
      case "closing":
        return this.#close(phase, time, budgetBytes, isReady);
      case "gap":
        return this.#fillGap(phase.gap, time, budgetBytes, isReady);
      case "waiting":
        if (phase.gap.coverage(time, isReady) === "behind") return undefined;
        this.#phase = snapshotPhase();
        return this.next(time, budgetBytes, isReady);
      case "live":
        return this.#behind === undefined
          ? this.#live(time, budgetBytes, isReady)
          : this.#catchUp(this.#behind, time, budgetBytes, isReady);
    }
  }

  /**
   * Returns the last message before the server stops, with a cursor that is valid on another node. Undefined if no such cursor can express the
   * stream's position.
   */
  farewell(time: Time, isReady: boolean): FeedMessage | undefined {
    const isLive = this.#phase.kind === "live" && this.#behind === undefined && this.#scopes === undefined;
    const isPlace = isLive && isReady && !this.reader.isOwed && this.#revision === this.reader.replica.revision;
    return isPlace && this.reader.prepareDigest() ? this.#bookmark(time) : undefined;
  }

  #startPhase({ from: cursor, places }: FeedStart, time: Time): FeedPhase {
    if (cursor === undefined || !isOfReader(cursor, this.reader)) return snapshotPhase();
    if (cursor.kind === "short") {
      if (cursor.revision < this.reader.replica.collectedRevision) return snapshotPhase();
      this.#revision = cursor.revision;
      this.#settled = cursor.settled;
      return { kind: "live" };
    }
    this.#until = Number.POSITIVE_INFINITY;
    const gap = places === undefined ? new ResumeGap(cursor, this.reader, time) : places.gap(cursor, this.reader, time);
    this.#revision = gap.from;
    this.#settled = gap.from;
    return { kind: gap.isTellable() ? "gap" : "waiting", gap };
  }

  /** Starts a snapshot as soon as this node knows everything that the reader's cursor covers. */
  #restart(time: Time, isReady: boolean): void {
    this.restartCount += 1;
    const gap = this.#phase.kind === "gap" ? this.#phase.gap : this.#behind;
    this.#behind = undefined;
    this.#phase = gap?.coverage(time, isReady) === "behind" ? { kind: "waiting", gap } : snapshotPhase();
  }

  /**
   * Starts a scoped snapshot after the policy's verdict on a namespace has changed. A snapshot in progress may already be wrong, so it is started
   * again.
   */
  #openScopes(changed: ReadonlySet<string>): void {
    const phase = this.#phase;
    const isSnapshot = phase.kind === "pages" || phase.kind === "closing";
    if (!isSnapshot && (phase.kind !== "live" || this.#behind !== undefined)) return;
    const isWhole = isSnapshot && phase.scopes === undefined;
    const scopes = [...new Set([...((isSnapshot && phase.scopes) || []), ...changed])].toSorted();
    const isAll = this.#scopesLength > MAX_SCOPES_LENGTH || lengthOf(scopes) > MAX_SCOPES_LENGTH;
    this.#scopes = undefined;
    this.#scopesLength = 0;
    this.#phase = snapshotPhase(isWhole || isAll ? undefined : scopes);
  }

  get #place(): ReaderPosition {
    return { settled: this.#settled, until: this.#until, reads: this.#reads };
  }

  /** Sets the position: everything up to that revision has been sent. */
  #moveTo(revision: number): void {
    const [from, at] = [this.#revision, this.reader.replica.revision];
    this.#revision = revision;
    if (revision === at) {
      this.#settled = revision;
      this.#reads = NO_LOOKS;
    } else if (revision > from) this.#reads = [...this.#reads.slice(1 - MAX_LOOKS), { from, to: revision, at }];
    if (this.#until <= this.reader.replica.revision) this.#until = Math.max(this.#until, revision);
  }

  /** Returns the stream's position, or a later one if nothing relevant to the reader has happened in between. */
  #quietThrough(): number {
    return this.#isPlain ? this.reader.quietThrough(this.#revision) : this.#revision;
  }

  get #isPlain(): boolean {
    return this.#phase.kind === "live" && this.#behind === undefined && this.#settled === this.#revision;
  }

  #skipQuiet(): void {
    const through = this.#isPlain ? (this.reader.touches?.skipThrough(this.#revision) ?? 0) : 0;
    if (through <= this.#revision) return;
    this.#revision = through;
    this.#settled = through;
    if (this.#until <= this.reader.replica.revision) this.#until = Math.max(this.#until, through);
  }

  /** Sets the position for a reader whose state equals a query result at the current revision. */
  #stand(): void {
    this.#until = this.#revision;
  }

  #page(phase: FeedPhase & { kind: "pages" }, budgetBytes: number): FeedMessage {
    const { reader } = this;
    const snapshot = phase.isBegun ? SNAPSHOT.CONTINUE : SNAPSHOT.BEGIN;
    const { revision } = reader.replica;
    if (!phase.isBegun && phase.scopes === undefined) {
      this.#moveTo(revision);
      this.#stand();
    }
    const changes: WatchChange[] = [];
    const isDone =
      phase.scopes === undefined
        ? this.#fillPage(phase, "", changes, budgetBytes)
        : this.#fillScopes(phase, phase.scopes, changes, phase.isBegun ? budgetBytes : budgetBytes - lengthOf(phase.scopes));
    const replaces = phase.isBegun || phase.scopes === undefined ? [] : phase.scopes;
    phase.isBegun = true;
    phase.sent.add(isDone ? LAST_KEY : (phase.after ?? `${phase.scopes?.[phase.scope] ?? ""}\0`), revision);
    if (isDone) this.#phase = { kind: "closing", scopes: phase.scopes, sent: phase.sent };
    return reader.message({ changes, revision: this.#revision, snapshot, replaces });
  }

  #fillScopes(phase: FeedPhase & { kind: "pages" }, scopes: readonly string[], changes: WatchChange[], budgetBytes: number): boolean {
    for (; phase.scope < scopes.length; phase.scope++, phase.after = undefined) {
      if (!this.#fillPage(phase, scopes[phase.scope] ?? "", changes, budgetBytes)) return false;
    }
    return true;
  }

  /** Adds entries after `phase.after`; if a namespace is given, only entries from that namespace. Returns whether all entries have been added. */
  #fillPage(phase: FeedPhase & { kind: "pages" }, namespace: string, changes: WatchChange[], budgetBytes: number): boolean {
    const { reader } = this;
    const { filter, allowed } = reader.options;
    if (namespace !== "" && !reader.mayHoldNamespace(namespace)) return true;
    const page = queryPage(reader.replica.lookup, namespace === "" ? filter : { ...filter, namespace, prefix: "" }, {
      limit: PAGE_ENTRIES,
      afterKey: phase.after ?? "",
      self: reader.node,
      allowed,
      explain: false,
    });
    let left = budgetBytes - changes.reduce((sum, change) => sum + reader.sizeOf(change), 0);
    for (const record of page.records) {
      const change: WatchChange = { action: ACTION.CREATE, record, revision: record.revision };
      left -= reader.sizeOf(change);
      if (left < 0 && changes.length > 0) return false;
      changes.push(change);
      phase.after = record.key;
    }
    if (page.nextKey !== undefined) phase.after = page.nextKey;
    return page.nextKey === undefined;
  }

  #close(phase: FeedPhase & { kind: "closing" }, time: Time, budgetBytes: number, isReady: boolean): FeedMessage | undefined {
    const { reader } = this;
    const scopes = phase.scopes === undefined ? undefined : new Set(phase.scopes);
    const place = { from: this.#revision, ...this.#place };
    // Changes made before this page, while the reader could not see the namespace, are not relevant to the reader.
    const pageOf = (stored: StoredRecord) => (scopes?.has(stored.namespace) === false ? undefined : phase.sent.of(stored.key, place));
    const { changes, to, isShort } = reader.scan(this.#revision, budgetBytes, { ...this.#place, pageOf });
    this.#moveTo(to);
    this.isUnfinished = isShort && changes.length === 0;
    const mayEnd = isReady && to === reader.replica.revision && !reader.isOwed;
    const isEnd = mayEnd && reader.prepareDigest();
    if (mayEnd && !isEnd) this.isUnfinished = changes.length === 0;
    if (!isEnd) return changes.length === 0 ? undefined : reader.message({ changes, revision: to, snapshot: SNAPSHOT.CONTINUE });
    this.#phase = { kind: "live" };
    this.#stand();
    this.#bookmarkDueMonoMs = time.monoMs + this.#bookmarkIntervalMs;
    return reader.message({
      changes,
      revision: to,
      snapshot: SNAPSHOT.END,
      cursor: reader.shortCursor(to),
      portableCursor: reader.portableCursor(),
      digest: reader.digest(),
    });
  }

  #fillGap(gap: CursorGap, time: Time, budgetBytes: number, isReady: boolean): FeedMessage | undefined {
    // Records were collected or forgotten before they were sent, or are no longer known on any node.
    if (!gap.isTellable() || gap.coverage(time, isReady) === "lost") {
      this.#restart(time, isReady);
      return this.next(time, budgetBytes, isReady);
    }
    const changes = gap.take(budgetBytes);
    if (gap.isFilled) {
      this.#phase = { kind: "live" };
      this.#behind = gap;
    }
    if (changes.length > 0) return this.reader.message({ changes, revision: this.#revision });
    return gap.isFilled ? this.next(time, budgetBytes, isReady) : undefined;
  }

  /**
   * Sends deltas while this node is behind the reader's cursor. These deltas have no cursor or bookmark, and omit keys for which the reader may have
   * a newer state.
   */
  #catchUp(gap: CursorGap, time: Time, budgetBytes: number, isReady: boolean): FeedMessage | undefined {
    const { reader } = this;
    const standing = gap.coverage(time, isReady);
    // The reader may have a namespace that must be withdrawn, but that this node does not know yet.
    if (standing === "lost" || !gap.isOfPolicy || (standing === "covered" && gap.held.isOverflown)) {
      this.#restart(time, isReady);
      return this.next(time, budgetBytes, isReady);
    }
    const { changes, to, isShort } = reader.scan(this.#revision, budgetBytes, { ...this.#place, isAhead: true });
    this.#moveTo(to);
    const sendable = changes.filter((change) => gap.maySend(change));
    this.isUnfinished = isShort && sendable.length === 0;
    if (sendable.length === 0 && standing === "covered" && to === reader.replica.revision) {
      sendable.push(...gap.held.take(budgetBytes));
      if (sendable.length === 0) {
        this.#behind = undefined;
        // A bookmark is due immediately, to inform the reader that it has caught up, and to give it a cursor from this node.
        this.#bookmarkDueMonoMs = Number.NEGATIVE_INFINITY;
        return this.next(time, budgetBytes, isReady);
      }
    }
    return sendable.length === 0 ? undefined : reader.message({ changes: sendable, revision: to });
  }

  #live(time: Time, budgetBytes: number, isReady: boolean): FeedMessage | undefined {
    const { reader } = this;
    const { message, to, isShort } = reader.live(this.#revision, budgetBytes, this.#place);
    this.#moveTo(to);
    this.isUnfinished = isShort && message === undefined;
    if (!isReady || to !== reader.replica.revision || !this.#isBookmarkDue(time) || reader.isOwed) return message;
    if (!reader.prepareDigest()) {
      this.isUnfinished = message === undefined;
      return message;
    }
    return this.#bookmark(time, message?.changes);
  }

  /**
   * Whether a bookmark is due. A resolver has a cursor that is valid everywhere only between a bookmark from its upstream and the next change. It
   * therefore sends its own bookmark during that time, even if that is a little early or late.
   */
  #isBookmarkDue({ monoMs }: Time): boolean {
    const { isAtPlace } = this.reader.options;
    if (isAtPlace === undefined) return monoMs >= this.#bookmarkDueMonoMs;
    const earlyMs = Math.min(MAX_EARLY_MS, this.#bookmarkIntervalMs / 2);
    return monoMs >= this.#bookmarkDueMonoMs + (isAtPlace() ? -earlyMs : MAX_LATE_MS);
  }

  #bookmark(time: Time, changes: readonly WatchChange[] = []): FeedMessage {
    const { reader } = this;
    this.#stand();
    this.#bookmarkDueMonoMs = time.monoMs + this.#bookmarkIntervalMs;
    return reader.message({
      changes,
      revision: this.#revision,
      cursor: reader.shortCursor(this.#revision),
      portableCursor: reader.portableCursor(),
      isBookmark: true,
      digest: reader.digest(),
    });
  }
}

/** Whether the phase continues from a revision and therefore needs every tombstone since that revision. */
function isPlaced(phase: FeedPhase): boolean {
  return phase.kind !== "pages" && phase.kind !== "waiting";
}

function lengthOf(names: readonly string[]): number {
  return names.reduce((sum, { length }) => sum + length, 0);
}

/** Returns the first state of a snapshot, which is either full or limited to these namespaces. */
function snapshotPhase(scopes?: readonly string[]): FeedPhase {
  return { kind: "pages", scopes, scope: 0, after: undefined, isBegun: false, sent: new SentPages() };
}
