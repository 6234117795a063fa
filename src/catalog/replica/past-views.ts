/**
 * Remembers the view of recently touched keys before each touch. This shows whether a reader at an earlier revision has a key (semantics.md, Watch
 * 2). The newest touches are kept in a ring. Nothing is known about older touches, so readers then receive more changes than they need.
 */

import { SCOPE, type Scope } from "../entry/scope.ts";
import { type EntryFilter, type FilterFields, type NodeLocality, whyNot } from "../query/filter.ts";
import {
  type CatalogRecord,
  HEALTH,
  type Health,
  KIND,
  type Kind,
  type OriginRef,
  type SharedTraits,
  viewHealth,
} from "../record/record.ts";
import { StoredRecord } from "../record/stored-record.ts";
import { NO_TRAITS } from "../record/traits.ts";

/** Maximum number of touches that are remembered, at about 120 bytes each. */
const DEFAULT_TOUCHES = 16_384;

/** How the view before a touch differs from the current record. `renamed` means that the view had another generation. */
export type PriorView = "seen" | "renamed";

/** Several changes happened before the record was touched. A reader that read during that time may have seen any of the results. */
export const UNSURE = "unsure";

/** A revision that is higher than all others. */
export const NO_REVISION = Number.MAX_SAFE_INTEGER;
const NO_ORIGIN: OriginRef = { id: "", nodeId: "", generation: 0, life: "live" };

/** A change of a key's view whose revision is assigned, although the key has not been touched yet (semantics.md, Watch 2). */
export interface PendingTouch {
  /** How the view before that change differs from the current record. */
  readonly before: PriorView;
  /** The revision of the change; `NO_REVISION` if no touch is pending. */
  readonly since: number;
  /** The view after that change. */
  readonly between?: CatalogRecord | typeof UNSURE | undefined;
}

export const NO_PENDING_TOUCH: PendingTouch = { before: "seen", since: NO_REVISION };

/** Whether a reader may have received the key, given the previous view and the pending touch. */
export function wasSeen(seen: CatalogRecord | undefined, { between }: PendingTouch): boolean {
  return seen !== undefined || between !== undefined;
}

/** The fields of a record that filters use, with the values that readers saw. */
type ShownFields = FilterFields & Pick<CatalogRecord, "origin" | "health">;

/** One touch. */
class PastView {
  before: PriorView | "nothing" = "nothing";
  /** Revision of the previous touch of this key; 0 if it is not needed by any reader. */
  previous = 0;
  namespace = "";
  name = "";
  kind: Kind = KIND.SERVICE;
  scope: Scope = SCOPE.UNSET;
  traits: SharedTraits = NO_TRAITS;
  origin: OriginRef = NO_ORIGIN;
  generation = 0;
  seq = 0;
  /** The health that readers saw. */
  health: Health = HEALTH.UNSET;
  /** A reader that read at this revision or later, but before the touch, may have seen the key with `healthSince` or in another view. */
  since = NO_REVISION;
  healthSince: Health = HEALTH.UNSET;
  between: ShownFields | typeof UNSURE | undefined;
}

/**
 * One read of a reader. The read covered every key whose last touch was after `from` and not after `to`, and returned the key as readers saw it at
 * `at`.
 */
export interface ReadSpan {
  readonly from: number;
  readonly to: number;
  readonly at: number;
}

/** The position of a reader. The reader has each key as it was visible at some revision from `settled` to `until`. */
export interface ReaderPosition {
  readonly settled: number;
  readonly until: number;
  /** The reads that this reader made between the two revisions. */
  readonly reads?: readonly ReadSpan[] | undefined;
}

/** The relation of a reader's view of a key to the current view. `other` includes views in which only the health differs. */
export type ReaderView = "unknown" | "nothing" | "same" | "other";

export class PastViews {
  readonly #max: number;
  /** The remembered touches, indexed by revision modulo their number. */
  readonly #views: PastView[] = [];
  /** The revision immediately before the first remembered touch. */
  #start = 0;
  #last = 0;

  constructor(maxTouches = DEFAULT_TOUCHES) {
    this.#max = maxTouches;
  }

  /** Starts to remember touches after this revision. Nothing is known about earlier touches. */
  startAt(revision: number): void {
    this.#views.length = 0;
    this.#start = revision;
    this.#last = revision;
  }

  // HOT: runs for each received record (bench/register.ts), so the ring reuses its objects.
  /**
   * Records the view of a key before its next touch, and the key's pending touch. Every revision must be recorded, in ascending order. Returns the
   * revision.
   */
  note(
    revision: number,
    previous: number,
    seen: CatalogRecord | undefined,
    { before, since, between }: PendingTouch = NO_PENDING_TOUCH,
  ): number {
    this.#last = revision;
    if (this.#views.length < this.#max) this.#views.push(new PastView());
    const view = this.#at(revision);
    if (view === undefined) return revision;
    view.before = seen === undefined ? "nothing" : before;
    view.previous = previous;
    view.since = since;
    view.between = between === UNSURE ? UNSURE : between && shownOf(between);
    if (seen === undefined) return revision;
    view.namespace = seen.namespace;
    view.name = seen.name;
    view.kind = seen.kind;
    view.scope = seen.scope;
    view.traits = seen.traits;
    view.origin = seen.origin;
    view.generation = seen.origin.generation;
    view.seq = seen.seq;
    view.health = seen instanceof StoredRecord ? seen.shownHealth : viewHealth(seen);
    view.healthSince = since === NO_REVISION ? view.health : viewHealth(seen);
    return revision;
  }

  /** Records `now`, the view after that touch. If `now` equals the views before and in between, readers saw no change of the key. */
  touched(revision: number, now: CatalogRecord | undefined, { between }: PendingTouch): void {
    const view = this.#at(revision);
    if (between !== now || view === undefined || (now === undefined) !== (view.before === "nothing")) return;
    const isSame = now === undefined || (now.origin === view.origin && now.seq === view.seq && viewHealth(now) === view.health);
    if (isSame) view.since = NO_REVISION;
  }

  /** Returns the view that a reader with this filter has of a key whose last touch is at `revision`. `now` is the key's current view. */
  holding(revision: number, now: StoredRecord | undefined, place: ReaderPosition, filter: EntryFilter, self: NodeLocality): ReaderView {
    if (revision <= place.until) return "unknown";
    const held = this.#held(revision, place);
    if (held === undefined) return "unknown";
    const { view, isSure } = held;
    if (!isSure && view.between === UNSURE) return "unknown";
    if (view.before === "nothing" || whyNot(filter, view, self, view.health) !== undefined) {
      return isSure || !mayHaveMatched(filter, view, self) ? "nothing" : "unknown";
    }
    if (view.before === "renamed" || now === undefined) return "other";
    const isId = now.origin === view.origin && now.origin.generation === view.generation && now.seq === view.seq;
    return isId && isSure && viewHealth(now) === view.health ? "same" : "other";
  }

  /**
   * Returns the first touch of the key after the reader last received it, and whether everything that determines the key's visibility was
   * unchanged until then.
   */
  #held(
    revision: number,
    { settled, until, reads = [] }: ReaderPosition,
  ): { readonly view: PastView; readonly isSure: boolean } | undefined {
    let view = this.#noted(revision);
    let since = view?.since ?? NO_REVISION;
    let lookedAt = settled;
    while (view !== undefined && view.previous > settled) {
      const touch = view.previous;
      if (touch <= until) {
        const look = reads.find(({ from, to }) => touch > from && touch <= to);
        // The key had several views, and it is not known which of them the reader received.
        if (look === undefined) return undefined;
        // A read skips a key that has been touched again by that time.
        if (revision > look.at) {
          lookedAt = look.at;
          break;
        }
      }
      revision = touch;
      view = this.#noted(revision);
      since = Math.min(since, view?.since ?? NO_REVISION);
    }
    return view && { view, isSure: lookedAt < since };
  }

  /**
   * Returns the first revision of the changes that were pending before the key's touch at `revision`, or before its earlier touches after `after`.
   * `NO_REVISION` if there were none.
   */
  pendingSince(revision: number, after: number): number {
    let view = this.#noted(revision);
    let since = NO_REVISION;
    for (; view !== undefined; view = view.previous > after ? this.#noted(view.previous) : undefined) since = Math.min(since, view.since);
    return since;
  }

  #noted(revision: number): PastView | undefined {
    return revision > this.#last - this.#views.length ? this.#at(revision) : undefined;
  }

  #at(revision: number): PastView | undefined {
    return this.#views[(revision - 1 - this.#start) % this.#max];
  }
}

/**
 * Whether the intermediate view matched the filter. Both the earlier record with the intermediate health and the view after the change are checked.
 */
function mayHaveMatched(filter: EntryFilter, view: PastView, self: NodeLocality): boolean {
  const { before, between, healthSince } = view;
  if (before !== "nothing" && whyNot(filter, view, self, healthSince) === undefined) return true;
  return typeof between === "object" && whyNot(filter, between, self, between.health) === undefined;
}

/** Returns a copy of the fields, because the view of the record may change before the copy is needed. */
function shownOf(record: CatalogRecord): ShownFields {
  const { namespace, name, kind, scope, traits, origin } = record;
  return { namespace, name, kind, scope, traits, origin, health: viewHealth(record) };
}
