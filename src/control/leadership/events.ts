/** The events of leadership, made from the reports of the store's watch, so that all nodes report the same events. */
import type { CopiedItem, CopyChange, CopyStep } from "./copy.ts";
import type { LeadershipEvent } from "./io-types.ts";
import { LEADERS, type LeaderRecord } from "./records.ts";

/** Number of events that a node keeps for readers that resume. */
const MAX_EVENTS = 1024;

export class LeaderEvents {
  readonly #leaders: ReadonlyMap<string, CopiedItem<LeaderRecord>>;
  #recent: readonly LeadershipEvent[] = [];
  /** Readers that have seen less than this revision must begin with a snapshot. */
  #sinceRevision = 0;
  #revision: number | undefined;

  /** `leaders` contains the items of the copy whose steps are passed to `take`. */
  constructor(leaders: ReadonlyMap<string, CopiedItem<LeaderRecord>>) {
    this.#leaders = leaders;
  }

  /** The leaders at the time of the last event, by scope. An unreadable record is undefined. */
  *current(): Generator<readonly [string, LeaderRecord | undefined]> {
    for (const [key, { value }] of this.#leaders) yield [key.slice(LEADERS.length), value];
  }

  /** The revision up to which all events are known. Undefined until this node has read all leaders. */
  get revision(): number | undefined {
    return this.#revision;
  }

  /** The events after a revision. Undefined if some of them are forgotten, or if this node has not seen that revision. */
  after(revision: number): readonly LeadershipEvent[] | undefined {
    if (revision < this.#sinceRevision || revision > (this.#revision ?? 0)) return undefined;
    return this.#recent.filter((event) => event.revision > revision);
  }

  /** Returns the events of a step, and keeps them. After the watch has started over, all readers must begin with a snapshot. */
  take({ isReset, changes }: CopyStep<LeaderRecord>, revision: number): readonly LeadershipEvent[] {
    const isFirst = this.#revision === undefined;
    const events = changes.flatMap(eventsOf);
    const kept = isReset ? [] : [...this.#recent, ...events];
    this.#recent = kept.slice(-MAX_EVENTS);
    this.#revision = revision;
    this.#sinceRevision = isReset ? revision : (kept.at(-MAX_EVENTS - 1)?.revision ?? this.#sinceRevision);
    return isFirst ? [] : events;
  }
}

/** Returns the event of a record that has changed. A record that cannot be read causes no event. */
function eventsOf({ key, before, after, revision }: CopyChange<LeaderRecord>): readonly LeadershipEvent[] {
  const [was, is] = [before?.value, after?.value];
  if (after !== undefined && is === undefined) return [];
  const scope = key.slice(LEADERS.length);
  const isHeld = is !== undefined && is.session !== "";
  if (isHeld && (is.session !== was?.session || is.fence.number !== was.fence.number))
    return [{ kind: "elected", scope, leader: is, revision }];
  const last = is ?? (was && { ...was, reason: was.resign ?? "the program or its node gave up the scope" });
  if (!isHeld && last !== undefined && was !== undefined && was.session !== "")
    return [{ kind: "stepped_down", scope, leader: last, revision }];
  return [];
}
