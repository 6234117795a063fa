/** The events of leadership, made from the reports of the store's watches, so that all nodes report the same events. */
import type { StoreChanges } from "../../store/control/store.ts";
import { StoreCopy } from "./copy.ts";
import type { LeadershipEvent } from "./io-types.ts";
import { decodeLeader, LEADERS, type LeaderRecord } from "./records.ts";

/** Number of events that a node keeps for readers that resume. */
const MAX_EVENTS = 1024;

export class LeaderEvents {
  readonly #leaders = new StoreCopy<LeaderRecord>(decodeLeader);
  readonly #recent: LeadershipEvent[] = [];
  /** Readers that have seen less than this revision must begin with a snapshot. */
  #sinceRevision = 0;
  #revision = 0;
  #isStartingOver = false;

  /** The leaders at the time of the last event, by scope. */
  *current(): Generator<readonly [string, LeaderRecord]> {
    for (const [key, { value }] of this.#leaders.items) if (value !== undefined) yield [key.slice(LEADERS.length), value];
  }

  /** Whether this node has read all leaders. */
  get isComplete(): boolean {
    return this.#leaders.isComplete;
  }

  /** The revision up to which all events are known. */
  get revision(): number {
    return this.#revision;
  }

  /** The events after a revision. Undefined if some of them are forgotten, or if this node has not seen that revision. */
  after(revision: number): readonly LeadershipEvent[] | undefined {
    if (revision < this.#sinceRevision || revision > this.#revision) return undefined;
    return this.#recent.filter((event) => event.revision > revision);
  }

  /** Applies a step of the watch on the leaders. Returns its events. After the watch has started over, all readers must begin with a snapshot. */
  leadersChanged(changes: StoreChanges, monoMs: number): readonly LeadershipEvent[] {
    const isFirst = !this.#leaders.isComplete;
    const taken = this.#leaders.take(changes, monoMs);
    const events = taken.flatMap(({ key, before, after, revision }) => {
      const isUnreadable = after !== undefined && after.value === undefined;
      const event = isUnreadable ? undefined : eventOf(before?.value, after?.value);
      return event === undefined ? [] : [{ ...event, scope: key.slice(LEADERS.length), revision }];
    });
    this.#isStartingOver ||= changes.isReset;
    if (!this.#isStartingOver) return this.#keep(events, changes.revision);
    if (!changes.isCurrent) return [];
    this.#isStartingOver = false;
    this.#recent.length = 0;
    this.#revision = changes.revision;
    this.#sinceRevision = changes.revision;
    return isFirst ? [] : events;
  }

  /**
   * Returns an event for each scope whose leader has this session. The events are not kept: other nodes do not know them, and the watches of leaders
   * and sessions are not in order, so that a reader that has seen a later leader would never receive them.
   */
  ofSession(kind: "expired" | "renewed", session: string): readonly LeadershipEvent[] {
    const leaders = [...this.current()].filter(([, leader]) => leader.session === session);
    return leaders.map(([scope, leader]) => ({ kind, scope, leader, revision: 0 }));
  }

  #keep(events: readonly LeadershipEvent[], upTo: number): readonly LeadershipEvent[] {
    this.#revision = Math.max(this.#revision, upTo);
    this.#recent.push(...events);
    for (const { revision } of this.#recent.splice(0, this.#recent.length - MAX_EVENTS))
      this.#sinceRevision = Math.max(this.#sinceRevision, revision);
    return events;
  }
}

/** The event of a record that has changed. */
function eventOf(before: LeaderRecord | undefined, after: LeaderRecord | undefined): Pick<LeadershipEvent, "kind" | "leader"> | undefined {
  const isHeld = after !== undefined && after.session !== "";
  if (isHeld && (after.session !== before?.session || after.fence.number !== before.fence.number))
    return { kind: "elected", leader: after };
  if (!isHeld && before !== undefined && before.session !== "") return { kind: "stepped_down", leader: after ?? before };
  return undefined;
}
