/** Changes from one policy to the next: touches the records whose visibility changed, then every watch is told what it may see now. */

import { BODY, keyParts } from "../catalog/record/record.ts";
import type { Origin, StoredRecord } from "../catalog/record/stored-record.ts";
import type { Policy, Source } from "../policy/set/verdict.ts";
import { mayBeSeen } from "../policy/set/visibility.ts";
import { type PolicyChange, PolicyTelling, type TellingParts } from "./policy-telling.ts";

export interface SwitchParts extends TellingParts {
  /** This node's cluster. */
  readonly clusterId: string;
}

/** Whether a policy lets a record be seen: the cluster of its origin must be an owner of its namespace. */
export function isAdmitted(policy: Policy, stored: StoredRecord, clusterId: string): boolean {
  return mayBeSeen(policy, stored, sourceOf(stored), clusterId);
}

/** The source of a record. A received tombstone has only its key and its origin. */
function sourceOf({ body, traits, key, origin }: StoredRecord): Source {
  if (body === BODY.ENTRY) return traits;
  return origin.clusterId === "" ? { clusterId: keyParts(key).clusterId, region: origin.region } : origin;
}

/** One change of policy, done in slices: call `step` until it returns true. */
export class PolicySwitch {
  readonly #parts: SwitchParts;
  readonly #change: PolicyChange;
  readonly #telling: PolicyTelling;
  /**
   * The origins to touch, each up to its number at the start of the change: later records already follow the new policy. Undefined for a copy, whose
   * records are touched by the replica that it follows.
   */
  readonly #origins: { readonly origin: Origin; readonly until: number; after: number }[] | undefined;

  /** The replica's admission must already follow `after`. */
  constructor(parts: SwitchParts, change: PolicyChange, isCopy = false) {
    this.#parts = parts;
    this.#change = change;
    this.#telling = new PolicyTelling(parts, change);
    const origins = () => [...parts.replica.origins.values()].map((origin) => ({ origin, until: origin.log.lastOrder, after: 0 }));
    this.#origins = isCopy ? undefined : origins();
  }

  /** Whether all records follow the new policy, and readers are shown what it allows. */
  get isShown(): boolean {
    return this.#telling.isShown;
  }

  /** Whether a copy must wait for `show`. */
  get isWaiting(): boolean {
    return this.#origins === undefined && !this.isShown;
  }

  /** All records follow the new policy. */
  show(): void {
    this.#telling.show();
  }

  /** Looks at about `maxCount` records, or at watches of the same cost. Returns whether everything is done. */
  step(maxCount: number): boolean {
    if (this.isShown) return this.#telling.step(maxCount);
    if (this.isWaiting) return false;
    if (this.#touchSome(maxCount)) this.show();
    return false;
  }

  /** Returns whether all records follow the new policy. */
  #touchSome(maxCount: number): boolean {
    const { replica, clusterId } = this.#parts;
    const { before, after } = this.#change;
    const [place] = this.#origins ?? [];
    if (place === undefined) return true;
    const changed: StoredRecord[] = [];
    let left = maxCount;
    place.origin.log.forEachSince(place.after, (stored, seq) => {
      if (seq > place.until) return false;
      place.after = seq;
      if (stored.body === BODY.ENTRY && isAdmitted(before, stored, clusterId) !== isAdmitted(after, stored, clusterId))
        changed.push(stored);
      left -= 1;
      return left > 0;
    });
    for (const stored of changed) replica.touch(stored);
    if (left > 0) this.#origins?.shift();
    return false;
  }
}
