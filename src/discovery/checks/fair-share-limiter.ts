/**
 * Shares a fixed number of places among owners. Waiting items get places in round robin over their owners, and one owner has at most a quarter of the
 * places while another owner waits, so that an owner with thousands of items delays only itself.
 */
import { assert } from "../../lib/errors.ts";

/** One owner may have this share of the places while another owner waits. */
const SHARE = 0.25;

export interface FairShareOptions {
  readonly slotCount: number;
  /**
   * Places that an owner with a whole share leaves free while there is another owner. For work that cannot be stopped: without free places an owner that
   * begins to wait would wait for the end of such work. Zero where `preemptible` can be stopped instead.
   */
  readonly reservedCount: number;
}

/** The places, items and memberships of one owner. */
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
  /** Shares with more places than `#maxShare`; fewer than `1 / SHARE` of them fit. */
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

  /** Items of this owner exist, so other owners leave the reserved places free. Ends with `part`. */
  register(owner: string): void {
    this.#shareOf(owner).registeredCount += 1;
  }

  unregister(owner: string): void {
    const share = this.#shareOf(owner);
    assert(share.registeredCount > 0, "an owner parts as often as it joined", { owner });
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

  /** The item no longer waits, if it did. */
  cancel(owner: string, item: Item): void {
    const share = this.#shares.get(owner);
    if (share?.waiting.delete(item) !== true) return;
    this.#waitingCount -= 1;
    if (share.waiting.size === 0) this.#turns.delete(share);
    this.#forget(share);
  }

  /**
   * The next item that gets a place, which its owner gives back with `leave`. Undefined when no item may have one now. `isReady` passes over owners whose
   * items cannot use a place now.
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

  /** Takes a place for an item that waits elsewhere. Returns false when its owner may have none now. */
  tryAcquire(owner: string): boolean {
    const share = this.#shareOf(owner);
    const canAcquire = this.#canAcquire(share);
    if (canAcquire) this.#occupy(share);
    this.#forget(share);
    return canAcquire;
  }

  release(owner: string): void {
    const share = this.#shareOf(owner);
    assert(share.usedCount > 0, "an owner leaves only places that it took", { owner });
    share.usedCount -= 1;
    if (share.usedCount <= this.#maxShare) this.#large.delete(share);
    this.#usedCount -= 1;
    this.#forget(share);
  }

  /** No place is free, and no owner has more than its share. */
  get isExhausted(): boolean {
    return this.#freeCount === 0 && this.#large.size === 0;
  }

  /** The owner that should give up a place because none is free for a waiting owner below its share. Undefined when there is no such need. */
  get preemptible(): string | undefined {
    if (this.#freeCount > 0 || this.#large.size === 0) return undefined;
    // At most `1 / SHARE` shares are passed over.
    for (const share of this.#turns) if (share.usedCount < this.#maxShare) return this.#largest;
    return undefined;
  }

  /** As `preemptible`, for an item of this owner that waits elsewhere. */
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

  /** Whether a claim succeeds. */
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
