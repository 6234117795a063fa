/**
 * Entries of this node that a mark hides, because the node was away for so long that tombstones for them are gone (semantics.md, Orphans).
 * An entry with a live lease is put again at the next renewal, because a client then still wants it.
 */
import { isOfNodes } from "../../catalog/entry/rules.ts";
import { BODY, type KeyText, keyParts } from "../../catalog/record/record.ts";
import type { Replica } from "../../catalog/replica/replica.ts";
import { isMarked } from "../../catalog/replica/view.ts";
import type { Time } from "../../lib/machine.ts";
import type { UndoLog } from "./undo-log.ts";

interface LostEntriesParts {
  readonly replica: Pick<Replica, "own">;
  readonly undo: UndoLog;
  /** Puts a live own record unchanged under a new number and stamp. */
  readonly putAgain: (key: KeyText, time: Time) => void;
}

export class LostEntries {
  readonly #parts: LostEntriesParts;
  readonly #leaseIds = new Set<string>();

  constructor(parts: LostEntriesParts) {
    this.#parts = parts;
  }

  /** Whether an own record that a mark hides is kept: the node's own entry is put again at once, a client's entry at its next renewal. */
  keeps(key: KeyText, lease: { readonly id: string; readonly isStatic: boolean }, time: Time): boolean {
    if (isOfNodes(keyParts(key).namespace)) this.#parts.putAgain(key, time);
    else if (lease.isStatic) return false;
    else this.#leaseIds.add(lease.id);
    return true;
  }

  /** Whether a renewal of the lease has records to put again. */
  // HOT: once a renewal.
  has(leaseId: string): boolean {
    return this.#leaseIds.size > 0 && this.#leaseIds.has(leaseId);
  }

  /** The lease was renewed. */
  renewed(leaseId: string, keys: readonly KeyText[], time: Time): void {
    this.#leaseIds.delete(leaseId);
    this.#parts.undo.push(() => this.#leaseIds.add(leaseId));
    for (const key of keys) {
      const own = this.#parts.replica.own(key);
      if (own !== undefined && own.body === BODY.ENTRY && isMarked(own)) this.#parts.putAgain(key, time);
    }
  }

  ended(leaseId: string): void {
    this.#leaseIds.delete(leaseId);
  }
}
