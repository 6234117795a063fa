/**
 * Shares a fixed number of slots among owners. The waiting owner with the fewest slots gets the next slot; owners with the same number of slots take
 * turns. While another owner waits, one owner has at most a quarter of the slots, so that an owner with thousands of items delays only itself.
 */
import { assert } from "../../lib/errors.ts";

/** Fraction of the slots that one owner may have while another owner waits. */
const SHARE = 0.25;

export interface FairShareOptions {
  readonly slotCount: number;
  /**
   * Slots that an owner with a full share leaves free while there is another owner, for work that cannot be stopped. Without a free slot, an owner
   * that begins to wait would have to wait until such work ends. Zero if the work of the `preemptible` owner can be stopped instead.
   */
  readonly reservedCount: number;
}

/** One owner's used slots, waiting items and registrations. */
interface OwnerShare<Item> {
  readonly owner: string;
  readonly waiting: Set<Item>;
  usedCount: number;
  registeredCount: number;
}

export class FairShareLimiter<Item> {
  readonly #options: FairShareOptions;
  readonly #maxShare: number;
  readonly #shares = new Map<string, OwnerShare<Item>>();
  /** Owners' shares with waiting items, in the order of their turns. */
  readonly #turns = new Set<OwnerShare<Item>>();
  /** One of the shares with the most slots. Undefined if it must be computed again. */
  #largest: OwnerShare<Item> | undefined;
  #usedCount = 0;
  #waitingCount = 0;

  constructor(options: FairShareOptions) {
    this.#options = options;
    this.#maxShare = Math.max(1, Math.floor(options.slotCount * SHARE));
  }

  get usedCount(): number {
    return this.#usedCount;
  }

  get waitingCount(): number {
    return this.#waitingCount;
  }

  /** Registers an item of this owner: other owners leave the reserved slots free until `unregister`. */
  register(owner: string): void {
    this.#shareOf(owner).registeredCount += 1;
  }

  unregister(owner: string): void {
    const share = this.#shareOf(owner);
    assert(share.registeredCount > 0, "the owner has no registration to remove", { owner });
    share.registeredCount -= 1;
    this.#forget(share);
  }

  enqueue(owner: string, item: Item): void {
    const share = this.#shareOf(owner);
    if (share.waiting.has(item)) return;
    share.waiting.add(item);
    this.#turns.add(share);
    this.#waitingCount += 1;
  }

  /** Removes the item from the queue if it is in the queue. */
  cancel(owner: string, item: Item): void {
    const share = this.#shares.get(owner);
    if (share?.waiting.delete(item) !== true) return;
    this.#waitingCount -= 1;
    if (share.waiting.size === 0) this.#turns.delete(share);
    this.#forget(share);
  }

  /**
   * Assigns a slot to the next item and returns the item. The item's owner frees the slot with `release`. Returns undefined if no item can have a
   * slot now. `isReady` returns false for owners whose items cannot use a slot now.
   */
  acquireNext(isReady: (owner: string) => boolean = () => true): Item | undefined {
    let next: OwnerShare<Item> | undefined;
    for (const share of this.#turns) {
      if (next !== undefined && share.usedCount >= next.usedCount) continue;
      if (!this.#canAcquire(share) || !isReady(share.owner)) continue;
      next = share;
      if (share.usedCount === 0) break;
    }
    if (next === undefined) return undefined;
    const [item] = next.waiting;
    assert(item !== undefined, "a share in the queue has no waiting item", { owner: next.owner });
    next.waiting.delete(item);
    this.#waitingCount -= 1;
    this.#turns.delete(next);
    if (next.waiting.size > 0) this.#turns.add(next);
    this.#occupy(next);
    return item;
  }

  /** Acquires a slot for an item that is not in the queue. Returns false if the item's owner must not get another slot now. */
  tryAcquire(owner: string): boolean {
    const share = this.#shareOf(owner);
    const canAcquire = this.#canAcquire(share);
    if (canAcquire) this.#occupy(share);
    this.#forget(share);
    return canAcquire;
  }

  release(owner: string): void {
    const share = this.#shareOf(owner);
    assert(share.usedCount > 0, "the owner has no slot to release", { owner });
    share.usedCount -= 1;
    this.#usedCount -= 1;
    this.#largest = undefined;
    // Owners that have been waiting since this owner got the slot have priority.
    if (this.#turns.delete(share)) this.#turns.add(share);
    this.#forget(share);
  }

  /** Whether all slots are in use and none can be freed for any owner. */
  get isExhausted(): boolean {
    return this.#preemptibleFor(0) === undefined && this.#freeCount === 0;
  }

  /**
   * The owner with the most slots, if it should release one because no slot is free and a waiting owner has at least two fewer. Each release evens
   * out the numbers of slots, so the releases eventually stop. Undefined if no release is needed.
   */
  get preemptible(): string | undefined {
    for (const { usedCount } of this.#turns) {
      const from = this.#preemptibleFor(usedCount);
      if (from !== undefined) return from;
    }
    return undefined;
  }

  /** Like `preemptible`, but for an item of this owner that is not in the queue. */
  preemptibleFor(owner: string): string | undefined {
    return this.#preemptibleFor(this.#shares.get(owner)?.usedCount ?? 0);
  }

  #preemptibleFor(usedCount: number): string | undefined {
    if (this.#freeCount > 0 || usedCount >= this.#maxShare) return undefined;
    const largest = this.#findLargest();
    return largest !== undefined && largest.usedCount > usedCount + 1 ? largest.owner : undefined;
  }

  #findLargest(): OwnerShare<Item> | undefined {
    if (this.#largest === undefined)
      for (const share of this.#shares.values()) if (share.usedCount > (this.#largest?.usedCount ?? 0)) this.#largest = share;
    return this.#largest;
  }

  get #freeCount(): number {
    return this.#options.slotCount - this.#usedCount;
  }

  /** Whether `tryAcquire` would succeed. */
  canAcquire(owner: string): boolean {
    const share = this.#shares.get(owner);
    return share === undefined ? this.#freeCount > 0 : this.#canAcquire(share);
  }

  #canAcquire(share: OwnerShare<Item>): boolean {
    if (share.usedCount < this.#maxShare) return this.#freeCount > 0;
    const isAloneInTurn = this.#turns.size === (share.waiting.size > 0 ? 1 : 0);
    const isOnlyOwner = this.#shares.size === 1;
    return isAloneInTurn && this.#freeCount > (isOnlyOwner ? 0 : this.#options.reservedCount);
  }

  #occupy(share: OwnerShare<Item>): void {
    share.usedCount += 1;
    this.#usedCount += 1;
    this.#largest = undefined;
  }

  #shareOf(owner: string): OwnerShare<Item> {
    let share = this.#shares.get(owner);
    if (share === undefined) {
      share = { owner, waiting: new Set(), usedCount: 0, registeredCount: 0 };
      this.#shares.set(owner, share);
    }
    return share;
  }

  #forget(share: OwnerShare<Item>): void {
    if (share.registeredCount === 0 && share.usedCount === 0 && share.waiting.size === 0) this.#shares.delete(share.owner);
  }
}
