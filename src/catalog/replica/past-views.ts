/**
 * How lately touched keys were seen before each touch: whether a reader that stands at an earlier revision holds a key is asked of it
 * (semantics.md, Watch 2). A ring of the newest touches: what is older is not known any more, and then readers are told more than they need.
 */

import { SCOPE, type Scope } from "../entry/scope.ts";
import { type Filter, type Filtered, type Locality, whyNot } from "../query/filter.ts";
import { type CatalogRecord, HEALTH, type Health, KIND, type Kind, type OriginRef, type Traits, viewHealth } from "../record/record.ts";
import { StoredRecord } from "../record/stored-record.ts";
import { NO_TRAITS } from "../record/traits.ts";

/** Touches remembered; some 120 bytes each. */
const DEFAULT_TOUCHES = 16_384;

/** How what was seen before a touch stands to what is known of it now. `renamed`: it had another generation. */
export type Before = "seen" | "renamed";

/** Several changes followed one another before a record was touched: whoever looked in between may have seen any of what they made of it. */
export const UNSURE = "unsure";

/** A revision after all others. */
export const NEVER = Number.MAX_SAFE_INTEGER;
const NOBODY: OriginRef = { id: "", nodeId: "", generation: 0, life: "live" };

/** What is seen of a key changed at a revision, and it is not touched for that yet (semantics.md, Watch 2). */
export interface Owed {
  /** How what was seen before that stands to what is known of it. */
  readonly before: Before;
  /** That revision; after all others when nothing is owed. */
  readonly since: number;
  /** What is seen since then. */
  readonly between?: CatalogRecord | typeof UNSURE | undefined;
}

export const NOTHING_OWED: Owed = { before: "seen", since: NEVER };

/** Whether anybody may have been told of a key, of which that was seen before what is owed to it. */
export function wasSeen(seen: CatalogRecord | undefined, { between }: Owed): boolean {
  return seen !== undefined || between !== undefined;
}

/** As readers were told of a record: what filters look at. */
type Shown = Filtered & Pick<CatalogRecord, "origin" | "health">;

/** One touch. */
class PastView {
  before: Before | "nothing" = "nothing";
  /** Revision of the touch of this key before this one; 0 for none that anybody could ask for. */
  previous = 0;
  namespace = "";
  name = "";
  kind: Kind = KIND.SERVICE;
  scope: Scope = SCOPE.UNSET;
  traits: Traits = NO_TRAITS;
  origin: OriginRef = NOBODY;
  generation = 0;
  seq = 0;
  /** As readers saw it. */
  health: Health = HEALTH.UNSET;
  /** Whoever looked at this revision or later, before the touch, may have seen it with that health, or something else instead. */
  since = NEVER;
  healthSince: Health = HEALTH.UNSET;
  between: Shown | typeof UNSURE | undefined;
}

/** What one look told: of every key touched last after `from` and up to `to`, as it was seen at `at`. */
export interface Told {
  readonly from: number;
  readonly to: number;
  readonly at: number;
}

/** A reader holds each key as it was seen at some revision from `settled` to `until`. */
export interface Standpoint {
  readonly settled: number;
  readonly until: number;
  /** Looks between the two that are remembered. */
  readonly told?: readonly Told[] | undefined;
}

/** What a reader holds of a key, beside what is seen now; `other` also where only its health is. */
export type Holding = "unknown" | "nothing" | "same" | "other";

export class PastViews {
  readonly #max: number;
  /** By revision, modulo their number. */
  readonly #views: PastView[] = [];
  #last = 0;

  constructor(maxTouches = DEFAULT_TOUCHES) {
    this.#max = maxTouches;
  }

  // HOT: once a record that is taken in (bench/register.ts): what is in the ring is written anew, not made anew.
  /** Before the next touch, `seen` was seen of its key, or what was owed to it by then. Every revision is noted, in order. Returns the revision. */
  note(revision: number, previous: number, seen: CatalogRecord | undefined, { before, since, between }: Owed = NOTHING_OWED): number {
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
    view.healthSince = since === NEVER ? view.health : viewHealth(seen);
    return revision;
  }

  /** After that touch `now` is seen of its key. Where it is the same as before, and as it was in between, it was all the time. */
  touched(revision: number, now: CatalogRecord | undefined, { between }: Owed): void {
    const view = this.#at(revision);
    if (between !== now || view === undefined || (now === undefined) !== (view.before === "nothing")) return;
    const isSame = now === undefined || (now.origin === view.origin && now.seq === view.seq && viewHealth(now) === view.health);
    if (isSame) view.since = NEVER;
  }

  /** What a reader of the filter holds of a key that was last touched at `revision`; `now` is seen of it. */
  holding(revision: number, now: StoredRecord | undefined, place: Standpoint, filter: Filter, self: Locality): Holding {
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

  /** The touch before which it was seen as the reader was told of it last; and whether nothing that decides on it had changed by then. */
  #held(revision: number, { settled, until, told = [] }: Standpoint): { readonly view: PastView; readonly isSure: boolean } | undefined {
    let view = this.#noted(revision);
    let since = view?.since ?? NEVER;
    let lookedAt = settled;
    while (view !== undefined && view.previous > settled) {
      const touch = view.previous;
      if (touch <= until) {
        const look = told.find(({ from, to }) => touch > from && touch <= to);
        // It was seen in several ways, and the reader was told of one of them.
        if (look === undefined) return undefined;
        // Where it had been touched again by then, the look passed it over.
        if (revision > look.at) {
          lookedAt = look.at;
          break;
        }
      }
      revision = touch;
      view = this.#noted(revision);
      since = Math.min(since, view?.since ?? NEVER);
    }
    return view && { view, isSure: lookedAt < since };
  }

  #noted(revision: number): PastView | undefined {
    return revision > this.#last - this.#views.length ? this.#at(revision) : undefined;
  }

  #at(revision: number): PastView | undefined {
    return this.#views[(revision - 1) % this.#max];
  }
}

/** Whether what was seen of it in between matched: in a page still the record of before, elsewhere what is seen after. */
function mayHaveMatched(filter: Filter, view: PastView, self: Locality): boolean {
  const { before, between, healthSince } = view;
  if (before !== "nothing" && whyNot(filter, view, self, healthSince) === undefined) return true;
  return typeof between === "object" && whyNot(filter, between, self, between.health) === undefined;
}

/** A copy: what is seen of the record may be something else by the time that it is asked for. */
function shownOf(record: CatalogRecord): Shown {
  const { namespace, name, kind, scope, traits, origin } = record;
  return { namespace, name, kind, scope, traits, origin, health: viewHealth(record) };
}
