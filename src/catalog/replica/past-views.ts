/**
 * Remembers how recently touched keys were seen before each touch, to find out whether a reader at an earlier revision holds a key
 * (semantics.md, Watch 2). It is a ring of the newest touches. About older ones nothing is known, and readers are then told more than they
 * need.
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

/** Most touches that are remembered, some 120 bytes each. */
const DEFAULT_TOUCHES = 16_384;

/** How the view before a touch relates to the record as it is now. `renamed`: it had another generation. */
export type PriorView = "seen" | "renamed";

/** Several changes happened before the record was touched. A reader that looked in between may have seen any of their results. */
export const UNSURE = "unsure";

/** A revision after all others. */
export const NO_REVISION = Number.MAX_SAFE_INTEGER;
const NOBODY: OriginRef = { id: "", nodeId: "", generation: 0, life: "live" };

/** The view of a key changed at a revision, and the key is not touched for that yet (semantics.md, Watch 2). */
export interface PendingTouch {
  /** How the view before that change relates to the record as it is now. */
  readonly before: PriorView;
  /** The revision of the change. After all others if nothing is owed. */
  readonly since: number;
  /** The view since then. */
  readonly between?: CatalogRecord | typeof UNSURE | undefined;
}

export const NOTHING_OWED: PendingTouch = { before: "seen", since: NO_REVISION };

/** Whether a reader may have been told of a key, given the view before and the owed change. */
export function wasSeen(seen: CatalogRecord | undefined, { between }: PendingTouch): boolean {
  return seen !== undefined || between !== undefined;
}

/** The fields of a record that filters use, as readers were told. */
type ShownFields = FilterFields & Pick<CatalogRecord, "origin" | "health">;

/** One touch. */
class PastView {
  before: PriorView | "nothing" = "nothing";
  /** Revision of the touch of this key before this one. 0 if no reader could ask for it. */
  previous = 0;
  namespace = "";
  name = "";
  kind: Kind = KIND.SERVICE;
  scope: Scope = SCOPE.UNSET;
  traits: SharedTraits = NO_TRAITS;
  origin: OriginRef = NOBODY;
  generation = 0;
  seq = 0;
  /** The health that readers saw. */
  health: Health = HEALTH.UNSET;
  /** A reader that looked at this revision or later, before the touch, may have seen the key with that health, or another view. */
  since = NO_REVISION;
  healthSince: Health = HEALTH.UNSET;
  between: ShownFields | typeof UNSURE | undefined;
}

/** One look of a reader: it told every key whose last touch was after `from` and up to `to`, as it was seen at `at`. */
export interface ReadSpan {
  readonly from: number;
  readonly to: number;
  readonly at: number;
}

/** A reader holds each key as it was seen at some revision from `settled` to `until`. */
export interface ReaderPosition {
  readonly settled: number;
  readonly until: number;
  /** The reader's looks between these two revisions. */
  readonly told?: readonly ReadSpan[] | undefined;
}

/** What a reader holds of a key, compared with the current view. `other` also if only the health differs. */
export type ReaderView = "unknown" | "nothing" | "same" | "other";

export class PastViews {
  readonly #max: number;
  /** The remembered touches, by revision modulo their number. */
  readonly #views: PastView[] = [];
  /** The revision before the first. */
  #start = 0;
  #last = 0;

  constructor(maxTouches = DEFAULT_TOUCHES) {
    this.#max = maxTouches;
  }

  /** The next touch has the revision after this one. Nothing is known of those before. */
  startAt(revision: number): void {
    this.#views.length = 0;
    this.#start = revision;
    this.#last = revision;
  }

  // HOT: once for each received record (bench/register.ts): objects of the ring are reused.
  /**
   * Before the next touch: `seen` is the view of the key, with what was owed to it. Every revision is noted, in order. Returns the
   * revision.
   */
  note(
    revision: number,
    previous: number,
    seen: CatalogRecord | undefined,
    { before, since, between }: PendingTouch = NOTHING_OWED,
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

  /** After that touch `now` is the view of the key. If it equals the view before and in between, the key was seen all the time. */
  touched(revision: number, now: CatalogRecord | undefined, { between }: PendingTouch): void {
    const view = this.#at(revision);
    if (between !== now || view === undefined || (now === undefined) !== (view.before === "nothing")) return;
    const isSame = now === undefined || (now.origin === view.origin && now.seq === view.seq && viewHealth(now) === view.health);
    if (isSame) view.since = NO_REVISION;
  }

  /** What a reader of the filter holds of a key whose last touch is `revision`. `now` is its current view. */
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

  /** The touch before which the reader was last told of the key, and whether nothing that decides on its visibility had changed by then. */
  #held(
    revision: number,
    { settled, until, told = [] }: ReaderPosition,
  ): { readonly view: PastView; readonly isSure: boolean } | undefined {
    let view = this.#noted(revision);
    let since = view?.since ?? NO_REVISION;
    let lookedAt = settled;
    while (view !== undefined && view.previous > settled) {
      const touch = view.previous;
      if (touch <= until) {
        const look = told.find(({ from, to }) => touch > from && touch <= to);
        // The key had several views, and the reader was told one of them.
        if (look === undefined) return undefined;
        // The look skipped the key if it had been touched again by then.
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

  #noted(revision: number): PastView | undefined {
    return revision > this.#last - this.#views.length ? this.#at(revision) : undefined;
  }

  #at(revision: number): PastView | undefined {
    return this.#views[(revision - 1 - this.#start) % this.#max];
  }
}

/** Whether the view in between matched: in a page the record before, elsewhere the view after. */
function mayHaveMatched(filter: EntryFilter, view: PastView, self: NodeLocality): boolean {
  const { before, between, healthSince } = view;
  if (before !== "nothing" && whyNot(filter, view, self, healthSince) === undefined) return true;
  return typeof between === "object" && whyNot(filter, between, self, between.health) === undefined;
}

/** A copy, because the view of the record may change before it is needed. */
function shownOf(record: CatalogRecord): ShownFields {
  const { namespace, name, kind, scope, traits, origin } = record;
  return { namespace, name, kind, scope, traits, origin, health: viewHealth(record) };
}
