/**
 * Shares a fixed number of slots among owners. Waiting items get slots in round robin over their owners. While another owner waits, one owner has at most
 * a quarter of the slots, so that an owner with thousands of items delays only itself.
 */
import { assert } from "../../lib/errors.ts";

/** Share of the slots that one owner may have while another owner waits. */
const SHARE = 0.25;

export interface FairShareOptions {
  readonly slotCount: number;
  /**
   * Slots that an owner with a full share leaves free while there is another owner. For work that cannot be stopped: without a free slot, an owner that
   * begins to wait would have to wait until such work ends. Zero if work of the `preemptible` owner can be stopped instead.
   */
  readonly reservedCount: number;
}

/** The used slots, waiting items and registrations of one owner. */
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
  /** Shares with waiting items, in the order of their next turn. */
  readonly #turns = new Set<OwnerShare<Item>>();
  /** Shares that use more than `#maxShare` slots. There are always fewer than `1 / SHARE` of them. */
  readonly #large = new Set<OwnerShare<Item>>();
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

  /** Announces an item of this owner: other owners leave the reserved slots free until `unregister`. */
  register(owner: string): void {
    this.#shareOf(owner).registeredCount += 1;
  }

  unregister(owner: string): void {
    const share = this.#shareOf(owner);
    assert(share.registeredCount > 0, "an owner unregisters only what it registered", { owner });
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

  /** Removes the item from the queue, if it waits. */
  cancel(owner: string, item: Item): void {
    const share = this.#shares.get(owner);
    if (share?.waiting.delete(item) !== true) return;
    this.#waitingCount -= 1;
    if (share.waiting.size === 0) this.#turns.delete(share);
    this.#forget(share);
  }

  /**
   * The next item that gets a slot, which its owner returns with `release`. Undefined if no item may have one now. `isReady` is false for owners whose
   * items cannot use a slot now.
   */
  acquireNext(isReady: (owner: string) => boolean = () => true): Item | undefined {
    for (const share of this.#turns) {
      if (!this.#canAcquire(share) || !isReady(share.owner)) continue;
      const [item] = share.waiting;
      assert(item !== undefined, "a share in turn has waiting items", { owner: share.owner });
      share.waiting.delete(item);
      this.#waitingCount -= 1;
      this.#turns.delete(share);
      if (share.waiting.size > 0) this.#turns.add(share);
      this.#occupy(share);
      return item;
    }
    return undefined;
  }

  /** Acquires a slot for an item that does not wait here. Returns false if its owner may have none now. */
  tryAcquire(owner: string): boolean {
    const share = this.#shareOf(owner);
    const canAcquire = this.#canAcquire(share);
    if (canAcquire) this.#occupy(share);
    this.#forget(share);
    return canAcquire;
  }

  release(owner: string): void {
    const share = this.#shareOf(owner);
    assert(share.usedCount > 0, "an owner releases only slots that it acquired", { owner });
    share.usedCount -= 1;
    if (share.usedCount <= this.#maxShare) this.#large.delete(share);
    this.#usedCount -= 1;
    this.#forget(share);
  }

  /** No slot is free, and no owner has more than its share. */
  get isExhausted(): boolean {
    return this.#freeCount === 0 && this.#large.size === 0;
  }

  /** The owner that should release a slot because none is free for a waiting owner below its share. Undefined if no slot is needed. */
  get preemptible(): string | undefined {
    if (this.#freeCount > 0 || this.#large.size === 0) return undefined;
    // Skips at most `1 / SHARE` shares.
    for (const share of this.#turns) if (share.usedCount < this.#maxShare) return this.#largest;
    return undefined;
  }

  /** Like `preemptible`, for an item of this owner that does not wait here. */
  preemptibleFor(owner: string): string | undefined {
    if (this.#freeCount > 0 || this.#large.size === 0) return undefined;
    return (this.#shares.get(owner)?.usedCount ?? 0) < this.#maxShare ? this.#largest : undefined;
  }

  get #largest(): string | undefined {
    let largest: OwnerShare<Item> | undefined;
    for (const share of this.#large) if (share.usedCount > (largest?.usedCount ?? 0)) largest = share;
    return largest?.owner;
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
    if (share.usedCount > this.#maxShare) this.#large.add(share);
    this.#usedCount += 1;
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
