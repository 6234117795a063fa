/**
 * One stream: a cursor, a reader and what is owed before deltas go on: a snapshot, a scoped snapshot, or the difference to
 * a portable cursor (semantics.md, Watch). It holds no queue: what it sends is read from the replica when it is asked.
 */
import type { Time } from "../lib/machine.ts";
import type { PortableCursor } from "./cursor.ts";
import { queryPage } from "./query.ts";
import { ACTION, type Change, type FeedMessage, type Reader, SNAPSHOT } from "./reader.ts";
import type { KeyText } from "./record.ts";
import { ResumeGap, resumable } from "./resume.ts";

export interface FeedStart {
  /** Where to go on; undefined starts with a snapshot. */
  readonly from:
    | { readonly kind: "revision"; readonly revision: number }
    | { readonly kind: "portable"; readonly cursor: PortableCursor }
    | undefined;
  readonly bookmarkIntervalMs: number;
}

type Phase =
  | { readonly kind: "live" }
  /** Pages of a snapshot; of `scopes` only when it is a scoped one. `after` is the last key sent. */
  | { readonly kind: "pages"; readonly scopes: readonly string[] | undefined; scope: number; after: KeyText | undefined; isBegun: boolean }
  /** The pages are out; changes since BEGIN follow until none is left, then END. */
  | { readonly kind: "closing" }
  /** The difference between a portable cursor and what is held here, origin by origin. */
  | { readonly kind: "gap"; readonly gap: ResumeGap };

/** Entries looked at for one page of a snapshot. */
const PAGE_ENTRIES = 256;

export class Feed {
  readonly reader: Reader;
  readonly #bookmarkIntervalMs: number;
  #phase: Phase;
  /** Everything up to this revision has been sent. */
  #revision: number;
  #bookmarkDueMonoMs: number;
  readonly #scopes: string[] = [];
  /** While this node is behind the reader's cursor: what must not be sent, and what to look at again. */
  #behind: ResumeGap | undefined;
  /** Times that this stream was too old for deltas and began anew. */
  restartCount = 0;

  constructor(reader: Reader, start: FeedStart, time: Time) {
    this.reader = reader;
    this.#bookmarkIntervalMs = start.bookmarkIntervalMs;
    this.#bookmarkDueMonoMs = time.monoMs + start.bookmarkIntervalMs;
    this.#revision = reader.replica.revision;
    this.#phase = this.#startPhase(start);
  }

  /** The revision up to which everything has been sent: what lag is measured from. */
  get revision(): number {
    return this.#revision;
  }

  /** Monotonic ms at which `next` has a bookmark to give even when nothing changed. */
  get bookmarkDueMonoMs(): number {
    return this.#bookmarkDueMonoMs;
  }

  /** The verdict on these namespaces changed: their content is sent anew, or withdrawn (semantics.md, Watch 5). */
  refresh(namespaces: readonly string[]): void {
    for (const namespace of namespaces) if (!this.#scopes.includes(namespace)) this.#scopes.push(namespace);
  }

  /** The next message, or undefined when there is nothing to say now. `isReady`: this node has caught up with a peer. */
  next(time: Time, budgetBytes: number, isReady: boolean): FeedMessage | undefined {
    // What was removed since this stream's place may have been collected: only a snapshot can tell.
    const isTooOld = this.#revision < this.reader.replica.collectedRevision && this.#phase.kind !== "pages";
    if (isTooOld) this.#restart();
    const phase = this.#phase;
    switch (phase.kind) {
      case "pages":
        return this.#page(phase, budgetBytes);
      case "closing":
        return this.#close(time, budgetBytes, isReady);
      case "gap":
        return this.#fillGap(phase.gap, budgetBytes);
      case "live":
        if (this.#scopes.length > 0) {
          this.#phase = { kind: "pages", scopes: this.#scopes.splice(0).toSorted(), scope: 0, after: undefined, isBegun: false };
          return this.next(time, budgetBytes, isReady);
        }
        return this.#behind === undefined ? this.#live(time, budgetBytes, isReady) : this.#catchUp(this.#behind, budgetBytes);
    }
  }

  /** The last message before a stop: where another node goes on. Undefined when the stream stands at no such place. */
  farewell(time: Time, isReady: boolean): FeedMessage | undefined {
    const isWhole = this.#phase.kind === "live" && this.#behind === undefined && this.#revision === this.reader.replica.revision;
    return isWhole && isReady ? this.#bookmark(time) : undefined;
  }

  #startPhase(start: FeedStart): Phase {
    const snapshot = snapshotPhase();
    const { replica } = this.reader;
    if (start.from === undefined) return snapshot;
    if (start.from.kind === "revision") {
      if (start.from.revision < replica.collectedRevision) return snapshot;
      this.#revision = start.from.revision;
      return { kind: "live" };
    }
    if (!resumable(start.from.cursor, this.reader)) return snapshot;
    return { kind: "gap", gap: new ResumeGap(start.from.cursor, this.reader) };
  }

  #restart(): void {
    this.restartCount += 1;
    this.#behind = undefined;
    this.#phase = snapshotPhase();
  }

  #page(phase: Phase & { kind: "pages" }, budgetBytes: number): FeedMessage {
    const { reader } = this;
    const snapshot = phase.isBegun ? SNAPSHOT.CONTINUE : SNAPSHOT.BEGIN;
    if (!phase.isBegun && phase.scopes === undefined) this.#revision = reader.replica.revision;
    const changes: Change[] = [];
    const isDone =
      phase.scopes === undefined
        ? this.#fillPage(phase, "", changes, budgetBytes)
        : this.#fillScopes(phase, phase.scopes, changes, budgetBytes);
    const replaces = phase.isBegun || phase.scopes === undefined ? [] : phase.scopes;
    phase.isBegun = true;
    if (isDone) this.#phase = { kind: "closing" };
    return reader.message({ changes, revision: this.#revision, snapshot, replaces });
  }

  #fillScopes(phase: Phase & { kind: "pages" }, scopes: readonly string[], changes: Change[], budgetBytes: number): boolean {
    for (; phase.scope < scopes.length; phase.scope++, phase.after = undefined) {
      if (!this.#fillPage(phase, scopes[phase.scope] ?? "", changes, budgetBytes)) return false;
    }
    return true;
  }

  /** Adds entries after `phase.after`, of one namespace when it is named; returns whether that was all. */
  #fillPage(phase: Phase & { kind: "pages" }, namespace: string, changes: Change[], budgetBytes: number): boolean {
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
      const change: Change = { action: ACTION.CREATE, record, revision: record.revision };
      left -= reader.sizeOf(change);
      if (left < 0 && changes.length > 0) return false;
      changes.push(change);
      phase.after = record.key;
    }
    if (page.nextKey !== undefined) phase.after = page.nextKey;
    return page.nextKey === undefined;
  }

  #close(time: Time, budgetBytes: number, isReady: boolean): FeedMessage | undefined {
    const { reader } = this;
    const { changes, to } = reader.scan(this.#revision, budgetBytes);
    this.#revision = to;
    const isEnd = isReady && to === reader.replica.revision;
    if (!isEnd) return changes.length === 0 ? undefined : reader.message({ changes, revision: to, snapshot: SNAPSHOT.CONTINUE });
    this.#phase = { kind: "live" };
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

  #fillGap(gap: ResumeGap, budgetBytes: number): FeedMessage | undefined {
    const changes = gap.take(budgetBytes);
    if (gap.isFilled) {
      this.#phase = { kind: "live" };
      if (gap.isBehind()) this.#behind = gap;
    }
    return changes.length === 0 ? undefined : this.reader.message({ changes, revision: this.#revision });
  }

  /** Deltas while this node is behind the reader's cursor: no cursor, no bookmark, nothing the reader may have newer. */
  #catchUp(gap: ResumeGap, budgetBytes: number): FeedMessage | undefined {
    const { reader } = this;
    const { changes, to } = reader.scan(this.#revision, budgetBytes);
    this.#revision = to;
    const sendable = changes.filter((change) => gap.maySend(change));
    if (!gap.isBehind() && to === reader.replica.revision) {
      if (gap.isOverflown) this.#restart();
      const held = gap.isOverflown ? [] : gap.takeHeld(budgetBytes);
      if (held.length === 0) this.#behind = undefined;
      sendable.push(...held);
    }
    return sendable.length === 0 ? undefined : reader.message({ changes: sendable, revision: to });
  }

  #live(time: Time, budgetBytes: number, isReady: boolean): FeedMessage | undefined {
    const { reader } = this;
    const { message, to } = reader.live(this.#revision, budgetBytes);
    this.#revision = to;
    const isBookmarkDue = isReady && time.monoMs >= this.#bookmarkDueMonoMs && to === reader.replica.revision;
    if (!isBookmarkDue) return message;
    return this.#bookmark(time, message?.changes);
  }

  #bookmark(time: Time, changes: readonly Change[] = []): FeedMessage {
    const { reader } = this;
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

function snapshotPhase(): Phase {
  return { kind: "pages", scopes: undefined, scope: 0, after: undefined, isBegun: false };
}
