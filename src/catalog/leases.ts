/** Leases of this node: who holds which keys until when (semantics.md, Leases and life). */
import { assert } from "../lib/errors.ts";
import { DeadlineHeap } from "../lib/heap.ts";
import { LeaseKeys } from "./lease-keys.ts";
import type { KeyText } from "./record/record.ts";

export interface LeaseTerms {
  /** Time to live of each renewal; undefined for a static lease, which never expires. */
  readonly ttlMs: number | undefined;
  /** Who may renew and add to it; empty for anonymous. */
  readonly principal: string;
}

export interface Lease extends LeaseTerms {
  readonly id: string;
  /** When it expires unless renewed; undefined for a static lease. */
  readonly deadlineMonoMs: number | undefined;
  readonly keyCount: number;
}

/** Deadlines looked at in one `expire`, so that a million leases renewed in one instant never stop the node at once. */
const EXPIRE_STEPS = 4096;
const NEVER = Number.POSITIVE_INFINITY;

/**
 * Grants, renews and ends leases, and knows which key is under which. A renewal only writes the new deadline; the heap learns of it when
 * the old one comes up, at most once a ttl. Costs about 85 B a lease and 28–45 B a key, besides the id and key strings (measured at 1M).
 */
export class Leases {
  readonly #slotOf = new Map<string, number>();
  // By slot; a free slot has the id "".
  readonly #ids: string[] = [];
  readonly #principals: string[] = [];
  #ttlsMs = new Float64Array(16);
  #deadlinesMs = new Float64Array(16);
  readonly #freeSlots: number[] = [];
  /** Ids of leases that run out and are not renewed any more. */
  readonly #lost = new Set<string>();
  // Holds for each expiring lease a deadline that is not after its true one.
  readonly #heap = new DeadlineHeap();
  readonly #keys: LeaseKeys;

  /** `hashSeed` as in `LeaseKeys`: random in production, fixed in simulations. */
  constructor(hashSeed = 0) {
    this.#keys = new LeaseKeys(hashSeed);
  }

  /** Number of leases, static ones included. */
  get size(): number {
    return this.#slotOf.size;
  }

  /** Number of keys under any lease. */
  get keyCount(): number {
    return this.#keys.size;
  }

  /** Starts a lease with one full ttl from now; also how a restart restores one. The id must be new. */
  grant(id: string, terms: LeaseTerms, monoMs: number): void {
    assert(id !== "" && !this.#slotOf.has(id), "a lease id is new when granted", { id });
    const slot = this.#freeSlots.pop() ?? this.#ids.length;
    this.#slotOf.set(id, slot);
    this.#ids[slot] = id;
    this.#principals[slot] = terms.principal;
    if (slot >= this.#ttlsMs.length) this.#grow();
    this.#ttlsMs[slot] = terms.ttlMs ?? NEVER;
    const deadlineMs = monoMs + (terms.ttlMs ?? NEVER);
    this.#deadlinesMs[slot] = deadlineMs;
    if (terms.ttlMs !== undefined) this.#heap.set(slot, deadlineMs);
  }

  #grow(): void {
    const ttlsMs = new Float64Array(this.#ttlsMs.length * 2);
    ttlsMs.set(this.#ttlsMs);
    this.#ttlsMs = ttlsMs;
    const deadlinesMs = new Float64Array(this.#deadlinesMs.length * 2);
    deadlinesMs.set(this.#deadlinesMs);
    this.#deadlinesMs = deadlinesMs;
  }

  has(id: string): boolean {
    return this.#slotOf.has(id);
  }

  find(id: string): Lease | undefined {
    const slot = this.#slotOf.get(id);
    if (slot === undefined) return undefined;
    const ttlMs = this.#ttlsMs[slot] ?? NEVER;
    const deadlineMs = this.#deadlinesMs[slot] ?? NEVER;
    return {
      id,
      ttlMs: ttlMs === NEVER ? undefined : ttlMs,
      principal: this.#principals[slot] ?? "",
      deadlineMonoMs: deadlineMs === NEVER ? undefined : deadlineMs,
      keyCount: this.#keys.countOf(slot),
    };
  }

  /**
   * Gives the lease one full ttl from now; a deadline never moves back. Returns the ttl, Infinity for a static lease, undefined for an
   * unknown one (a lease past its deadline is known until `expire` takes it). O(1).
   */
  renew(id: string, monoMs: number): number | undefined {
    const slot = this.#slotOf.get(id);
    if (slot === undefined || this.#lost.has(id)) return undefined;
    const ttlMs = this.#ttlsMs[slot] ?? NEVER;
    const deadlineMs = monoMs + ttlMs;
    if (deadlineMs > (this.#deadlinesMs[slot] ?? 0)) this.#deadlinesMs[slot] = deadlineMs;
    return ttlMs;
  }

  /** The lease is not renewed any more: its client learns that by its next renewal, and what is left under it stands until it runs out. */
  lose(id: string): void {
    this.#lost.add(id);
  }

  /** Undoes `lose`. */
  recover(id: string): void {
    this.#lost.delete(id);
  }

  isLost(id: string): boolean {
    return this.#lost.has(id);
  }

  /** Puts the key under a lease that exists, taking it from another. Returns the id of that other lease, if any. */
  attach(id: string, key: KeyText): string | undefined {
    const slot = this.#slotOf.get(id);
    assert(slot !== undefined, "a key goes under a lease that exists", { id, key });
    const before = this.#keys.attach(key, slot);
    return before === undefined || before === slot ? undefined : this.#ids[before];
  }

  /** Takes the key from its lease; a key under none changes nothing. The lease stays, also with no key left. */
  detach(key: KeyText): void {
    this.#keys.detach(key);
  }

  /** Id of the lease the key is under. */
  leaseOf(key: KeyText): string | undefined {
    const slot = this.#keys.ownerOf(key);
    return slot === undefined ? undefined : this.#ids[slot];
  }

  /** Principal of a lease; undefined when it is unknown. */
  principalOfLease(id: string): string | undefined {
    const slot = this.#slotOf.get(id);
    return slot === undefined ? undefined : this.#principals[slot];
  }

  /** Principal of the lease the key is under. */
  principalOf(key: KeyText): string | undefined {
    const slot = this.#keys.ownerOf(key);
    return slot === undefined ? undefined : this.#principals[slot];
  }

  /** The keys under a lease, in no promised but a deterministic order; empty for an unknown lease. */
  keysOf(id: string): readonly KeyText[] {
    const slot = this.#slotOf.get(id);
    return slot === undefined ? [] : this.#keys.listOf(slot);
  }

  /** Ids of all leases, in the order they were granted. */
  ids(): Iterable<string> {
    return this.#slotOf.keys();
  }

  /** Ends the lease and detaches its keys, which it returns; empty for an unknown lease. */
  end(id: string): readonly KeyText[] {
    const slot = this.#slotOf.get(id);
    if (slot === undefined) return [];
    const keys = this.#keys.clear(slot);
    this.#slotOf.delete(id);
    this.#lost.delete(id);
    this.#heap.remove(slot);
    this.#ids[slot] = "";
    this.#principals[slot] = "";
    this.#freeSlots.push(slot);
    return keys;
  }

  /**
   * At most `maxCount` leases whose deadline is not after `monoMs`, earliest known deadline first. They are still there: take their keys
   * and `end` each before the next call, or it returns them again. Bounded work: call until `nextDeadlineMs` is in the future.
   */
  expire(monoMs: number, maxCount: number): readonly string[] {
    const expired: string[] = [];
    const slots: number[] = [];
    for (let step = 0; step < EXPIRE_STEPS + maxCount && expired.length < maxCount; step += 1) {
      const slot = this.#heap.nextId();
      if (slot === undefined || (this.#heap.nextDeadlineMs() ?? NEVER) > monoMs) break;
      const deadlineMs = this.#deadlinesMs[slot] ?? NEVER;
      if (deadlineMs > monoMs) {
        this.#heap.set(slot, deadlineMs);
      } else {
        this.#heap.remove(slot);
        slots.push(slot);
        expired.push(this.#ids[slot] ?? "");
      }
    }
    for (const slot of slots) this.#heap.set(slot, this.#deadlinesMs[slot] ?? NEVER);
    return expired;
  }

  /** When `expire` should next be called; may be early, never late. Undefined when nothing expires. */
  nextDeadlineMs(): number | undefined {
    return this.#heap.nextDeadlineMs();
  }
}
