/** From one policy to the next: touches the records whose visibility changed, then tells every watch what it now sees. */
import type { Cell, Origin } from "../catalog/cell.ts";
import type { Reader } from "../catalog/reader.ts";
import { BODY, keyParts } from "../catalog/record.ts";
import type { Replica } from "../catalog/replica.ts";
import { mayBeSeen } from "../policy/eyes.ts";
import type { Policy, Source } from "../policy/verdict.ts";
import type { Fanout, Watcher } from "./fanout.ts";
import type { Reads } from "./reads.ts";

export interface SwitchParts {
  readonly replica: Replica;
  readonly reads: Reads;
  readonly fanout: Fanout;
  /** This node's cluster. */
  readonly clusterId: string;
}

/** Whether a record may be seen under a policy: its origin's cluster against the owners of its namespace. */
export function isAdmitted(policy: Policy, cell: Cell, clusterId: string): boolean {
  if (policy.set === undefined) return true;
  return mayBeSeen(policy, cell, sourceOf(cell), clusterId);
}

/** Where a record comes from. A tombstone that was received says nothing of itself but its key and its origin. */
function sourceOf({ body, traits, key, origin }: Cell): Source {
  if (body === BODY.ENTRY) return traits;
  return origin.clusterId === "" ? { clusterId: keyParts(key).clusterId, region: origin.region } : origin;
}

/** One change of policy, done in slices: `step` until it returns true. */
export class PolicySwitch {
  readonly #parts: SwitchParts;
  readonly #before: Policy;
  readonly #after: Policy;
  readonly #origins: Origin[];
  #afterSeq = 0;
  #watchers: Watcher[] | undefined;
  /** Namespaces with entries that could be seen. */
  readonly #seenBefore = new Set<string>();
  readonly #changedByReader = new Map<Reader, readonly string[]>();

  /** The replica's admission must follow `after` already. */
  constructor(parts: SwitchParts, change: { readonly before: Policy; readonly after: Policy }) {
    this.#parts = parts;
    this.#before = change.before;
    this.#after = change.after;
    this.#origins = [...parts.replica.origins.values()];
  }

  /** Looks at about `maxCount` records or watches; returns whether all is done. */
  step(maxCount: number): boolean {
    const { reads, fanout } = this.#parts;
    const origin = this.#origins[0];
    if (origin !== undefined) {
      this.#touchSome(origin, maxCount);
      return false;
    }
    if (this.#watchers === undefined) {
      reads.show(this.#after);
      this.#watchers = [...fanout.watchers()];
    }
    for (const watcher of this.#watchers.splice(0, maxCount)) watcher.refresh(this.#changedFor(watcher));
    if (this.#watchers.length > 0) return false;
    reads.settle(this.#after);
    return true;
  }

  #touchSome(origin: Origin, maxCount: number): void {
    const { replica, clusterId } = this.#parts;
    const changed: Cell[] = [];
    let left = maxCount;
    origin.log.forEachSince(this.#afterSeq, (cell, seq) => {
      this.#afterSeq = seq;
      if (cell.body === BODY.ENTRY) {
        const wasSeen = isAdmitted(this.#before, cell, clusterId);
        if (wasSeen) this.#seenBefore.add(cell.namespace);
        if (wasSeen !== isAdmitted(this.#after, cell, clusterId)) changed.push(cell);
      }
      left -= 1;
      return left > 0;
    });
    for (const cell of changed) replica.touch(cell);
    if (left > 0) {
      this.#origins.shift();
      this.#afterSeq = 0;
    }
  }

  /**
   * Also namespaces that are empty by now, when the watch has not been told of that yet: what it gained is told anew as a
   * whole, so that no removal from before reaches it; what it lost is told of only where it can have held something.
   */
  #changedFor(watcher: Watcher): readonly string[] {
    const { replica, reads, clusterId } = this.#parts;
    const { reader } = watcher;
    let known = this.#changedByReader.get(reader);
    if (known === undefined) {
      known = this.#changedOf(reader, [...replica.lookup.namespaces(), ...this.#seenBefore], this.#seenBefore);
      this.#changedByReader.set(reader, known);
    }
    if (watcher.lagRevisions === 0) return known;
    const pending = new Set<string>();
    const place = replica.revision - watcher.lagRevisions;
    const past = reads.policiesSince(place);
    replica.changesSince(place, (cell) => {
      // Also what owner rules hid since then, by a policy that came between: the watch may hold it still, if it ever saw it.
      const mayHold = (policy: Policy) => isAdmitted(policy, cell, clusterId) && reads.couldSee(reader, policy, cell.namespace);
      if (isAdmitted(this.#before, cell, clusterId) || past.some(mayHold)) pending.add(cell.namespace);
      return true;
    });
    return [...known, ...this.#changedOf(reader, pending, pending)];
  }

  #changedOf(reader: Reader, gainable: Iterable<string>, losable: Iterable<string>): readonly string[] {
    const { reads } = this.#parts;
    const gained = reads.changedFor(reader, this.#before, "gained", gainable);
    return [...gained, ...reads.changedFor(reader, this.#before, "lost", losable)];
  }
}
