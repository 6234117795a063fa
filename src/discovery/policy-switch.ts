/** Changes from one policy to the next: touches the records whose visibility changed, then tells every watch what it may see now. */

import { BODY, keyParts } from "../catalog/record/record.ts";
import type { Origin, StoredRecord } from "../catalog/record/stored-record.ts";
import type { Replica } from "../catalog/replica/replica.ts";
import type { Reader } from "../catalog/watch/reader.ts";
import type { Policy, Source, Viewer } from "../policy/set/verdict.ts";
import { mayBeSeen } from "../policy/set/visibility.ts";
import type { Fanout, Watcher } from "./fanout.ts";
import { coveredIn, PolicyDiff } from "./policy-diff.ts";
import type { Reads } from "./reads.ts";

export interface SwitchParts {
  readonly replica: Replica;
  readonly reads: Reads;
  readonly fanout: Fanout;
  /** This node's cluster. */
  readonly clusterId: string;
}

/** Whether a policy lets a record be seen: the cluster of its origin must be an owner of its namespace. */
export function isAdmitted(policy: Policy, stored: StoredRecord, clusterId: string): boolean {
  if (policy.set === undefined) return true;
  return mayBeSeen(policy, stored, sourceOf(stored), clusterId);
}

/** The source of a record. A received tombstone has only its key and its origin. */
function sourceOf({ body, traits, key, origin }: StoredRecord): Source {
  if (body === BODY.ENTRY) return traits;
  return origin.clusterId === "" ? { clusterId: keyParts(key).clusterId, region: origin.region } : origin;
}

/** Cost of one watch, in records, for the bound of a step. */
const RECORDS_A_WATCH = 16;

/** One change of policy, done in slices: call `step` until it returns true. */
export class PolicySwitch {
  readonly #parts: SwitchParts;
  readonly #before: Policy;
  readonly #after: Policy;
  readonly #diff: PolicyDiff;
  /** The origins to touch, each up to its number at the start of the change: later records already follow the new policy. */
  readonly #origins: { readonly origin: Origin; readonly until: number; after: number }[];
  #stage: "touch" | "group" | "tell" = "touch";
  /** Namespaces with visible entries when the change began, and those that have some once everything allowed is shown; sorted copies. */
  readonly #held: readonly string[];
  #shown: readonly string[] = [];
  /** How many of `#held` and of `#shown` are grouped. */
  readonly #grouped = { held: 0, shown: 0 };
  #watchers: readonly Watcher[] = [];
  #told = 0;
  readonly #changedByReader = new Map<Reader, readonly string[]>();

  /** The replica's admission must already follow `after`. */
  constructor(parts: SwitchParts, change: { readonly before: Policy; readonly after: Policy }) {
    this.#parts = parts;
    this.#before = change.before;
    this.#after = change.after;
    this.#diff = new PolicyDiff(change.before, change.after);
    this.#held = parts.replica.lookup.namespaces.list();
    this.#origins = [...parts.replica.origins.values()].map((origin) => ({ origin, until: origin.log.lastOrder, after: 0 }));
  }

  /** Looks at about `maxCount` records, or at watches of the same cost. Returns whether everything is done. */
  step(maxCount: number): boolean {
    switch (this.#stage) {
      case "touch":
        if (this.#touchSome(maxCount)) this.#show();
        return false;
      case "group":
        if (this.#groupSome(maxCount)) this.#stage = "tell";
        return false;
      case "tell":
        if (!this.#tellSome(maxCount)) return false;
        this.#parts.reads.settle(this.#after);
        return true;
    }
  }

  /** Returns whether all records follow the new policy. */
  #touchSome(maxCount: number): boolean {
    const { replica, clusterId } = this.#parts;
    const [place] = this.#origins;
    if (place === undefined) return true;
    const changed: StoredRecord[] = [];
    let left = maxCount;
    place.origin.log.forEachSince(place.after, (stored, seq) => {
      if (seq > place.until) return false;
      place.after = seq;
      if (stored.body === BODY.ENTRY && isAdmitted(this.#before, stored, clusterId) !== isAdmitted(this.#after, stored, clusterId))
        changed.push(stored);
      left -= 1;
      return left > 0;
    });
    for (const stored of changed) replica.touch(stored);
    if (left > 0) this.#origins.shift();
    return false;
  }

  /** From now on everything allowed is shown, and new watches see it. */
  #show(): void {
    const { replica, reads, fanout } = this.#parts;
    reads.show(this.#after);
    this.#watchers = [...fanout.watchers()];
    this.#shown = replica.lookup.namespaces.list();
    this.#stage = "group";
  }

  #groupSome(maxCount: number): boolean {
    const at = this.#grouped;
    for (let n = 0; n < maxCount; n++) {
      const [held, shown] = [this.#held[at.held], this.#shown[at.shown]];
      if (held !== undefined && (shown === undefined || held <= shown)) {
        this.#diff.add(held, true);
        at.held += 1;
        if (held === shown) at.shown += 1;
      } else if (shown !== undefined) {
        this.#diff.add(shown, false);
        at.shown += 1;
      } else return true;
    }
    return false;
  }

  #tellSome(maxCount: number): boolean {
    const { reads } = this.#parts;
    for (const watcher of this.#watchers.slice(this.#told, this.#told + Math.ceil(maxCount / RECORDS_A_WATCH))) {
      const viewer = reads.viewerOf(watcher.feed.reader);
      const isJudged = viewer === undefined || this.#diff.isJudged(viewer);
      if (!isJudged && !this.#diff.judge(viewer, maxCount)) return false;
      if (viewer !== undefined) this.#tell(watcher, viewer);
      this.#told += 1;
      // One viewer's judgement may use a whole step, so the next viewer waits for its own step.
      if (!isJudged) break;
    }
    return this.#told === this.#watchers.length;
  }

  /**
   * Includes namespaces that became empty without the watch being told. A gained namespace is sent anew as a whole, so that no earlier
   * removal reaches the watch. A lost namespace is sent only if the watch can have entries of it.
   */
  #tell(watcher: Watcher, viewer: Viewer): void {
    const { replica, fanout } = this.#parts;
    const { reader, settledRevision } = watcher.feed;
    let known = this.#changedByReader.get(reader);
    if (known === undefined) {
      const { gained, lost } = this.#diff.of(viewer);
      known = [gained, lost].flatMap((namespaces) => coveredIn(namespaces, reader.options.filter));
      this.#changedByReader.set(reader, known);
    }
    // Which other namespaces it may hold is no longer known.
    const isForgotten = settledRevision < replica.emptied.forgottenRevision;
    const emptied = isForgotten ? [] : replica.emptied.since(settledRevision);
    const isChanged = (namespace: string) => reader.mayHoldNamespace(namespace) && this.#diff.changeOf(namespace, viewer) !== "same";
    const told = isForgotten ? "all" : [...known, ...emptied.filter(isChanged)];
    watcher.feed.refresh(told);
    if (told.length > 0) fanout.again(watcher);
  }
}
