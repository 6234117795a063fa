/**
 * The leases of this node: holders, keys, deadlines and renewals (semantics.md, Leases and life). `discovery/registrar/registrar.ts` decides which
 * callers may renew a lease.
 */
import { assert } from "../lib/errors.ts";
import { DeadlineHeap } from "../lib/heap.ts";
import { NEVER } from "../lib/machine.ts";
import { LeaseKeys } from "./lease-keys.ts";
import type { KeyText } from "./record/record.ts";

export interface LeaseTerms {
  /** Time for which the lease lives after each renewal. Undefined for a static lease, which never expires. */
  readonly ttlMs: number | undefined;
  /** The principal that may renew the lease and add keys to it. Empty for anonymous. */
  readonly principal: string;
}

export interface Lease extends LeaseTerms {
  readonly id: string;
  /** Time at which the lease expires without a renewal. Undefined for a static lease, which does not expire. */
  readonly deadlineMonoMs: number | undefined;
  readonly keyCount: number;
}

/**
 * Maximum number of deadlines that one `expire` examines. This limit keeps each turn of the event loop short, even if a million leases were renewed
 * at the same moment.
 */
const EXPIRE_STEPS = 4096;

/**
 * Grants, renews and ends leases, and finds the lease of each key. A renewal only writes the new deadline; the heap is updated when the
 * old deadline is due, at most once per ttl. A lease uses about 90 B (measured with 1M leases), not including its id string; for the memory used by
 * keys, see `LeaseKeys`.
 */
export class Leases {
  readonly #slotOf = new Map<string, number>();
  // These lists are indexed by slot; a free slot has the id "".
  readonly #ids: string[] = [];
  readonly #principals: string[] = [];
  #ttlsMs = new Float64Array(16);
  #deadlinesMs = new Float64Array(16);
  #marks = new Uint32Array(16);
  readonly #freeSlots: number[] = [];
  /** Ids of leases that will expire and can no longer be renewed. */
  readonly #lost = new Set<string>();
  // Contains a deadline for each lease that can expire. The heap's deadline is never later than the true deadline.
  readonly #heap = new DeadlineHeap();
  readonly #keys: LeaseKeys;

  /** `hashSeed` is passed to `LeaseKeys`: it is random in production and fixed in simulations. */
  constructor(hashSeed = 0) {
    this.#keys = new LeaseKeys(hashSeed);
  }

  /** Number of leases, including static leases. */
  get size(): number {
    return this.#slotOf.size;
  }

  /** Grants a lease with one full ttl from now. Also used to restore leases after a restart. The id must not be in use. */
  grant(id: string, terms: LeaseTerms, monoMs: number): void {
    assert(id !== "" && !this.#slotOf.has(id), "lease id is empty or was already granted", { id });
    const slot = this.#freeSlots.pop() ?? this.#ids.length;
    this.#slotOf.set(id, slot);
    this.#ids[slot] = id;
    this.#principals[slot] = terms.principal;
    if (slot >= this.#ttlsMs.length) this.#grow();
    this.#marks[slot] = 0;
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
    const marks = new Uint32Array(this.#marks.length * 2);
    marks.set(this.#marks);
    this.#marks = marks;
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
   * Renews the lease for one full ttl from now. Renewing a lease never makes its deadline earlier. Returns the ttl: Infinity for a static lease,
   * undefined for an unknown lease. A lease past its deadline remains known until `expire` returns it and `end` removes it. O(1).
   */
  renew(id: string, monoMs: number): number | undefined {
    const slot = this.#slotOf.get(id);
    if (slot === undefined || this.#lost.has(id)) return undefined;
    const ttlMs = this.#ttlsMs[slot] ?? NEVER;
    const deadlineMs = monoMs + ttlMs;
    if (deadlineMs > (this.#deadlinesMs[slot] ?? 0)) this.#deadlinesMs[slot] = deadlineMs;
    return ttlMs;
  }

  /**
   * Prevents further renewals of a lease. The client gets an error when it next renews the lease, and the lease's keys remain until the lease
   * expires.
   */
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

  /** Moves the key to an existing lease. Returns the id of the key's previous lease, if any. */
  attach(id: string, key: KeyText): string | undefined {
    const slot = this.#slotOf.get(id);
    assert(slot !== undefined, "a key was attached to an unknown lease", { id, key });
    const before = this.#keys.attach(key, slot);
    if (before !== slot) this.#marks[slot] = 0;
    return before === undefined || before === slot ? undefined : this.#ids[before];
  }

  /** Stores a positive number for the current keys of a lease. The number is deleted when another key is added to the lease. */
  mark(id: string, mark: number): void {
    const slot = this.#slotOf.get(id);
    if (slot !== undefined) this.#marks[slot] = mark;
  }

  /** Returns the number that `mark` stored; 0 if there is none. */
  markOf(id: string): number {
    const slot = this.#slotOf.get(id);
    return slot === undefined ? 0 : (this.#marks[slot] ?? 0);
  }

  /** Removes the key from its lease. Does nothing if the key has no lease. The lease remains even when it has no more keys. */
  detach(key: KeyText): void {
    this.#keys.detach(key);
  }

  /** Returns the id of the key's lease. */
  leaseOf(key: KeyText): string | undefined {
    const slot = this.#keys.ownerOf(key);
    return slot === undefined ? undefined : this.#ids[slot];
  }

  /** Returns the principal of a lease. Undefined for an unknown lease. */
  principalOfLease(id: string): string | undefined {
    const slot = this.#slotOf.get(id);
    return slot === undefined ? undefined : this.#principals[slot];
  }

  /** Returns the keys of a lease. Their order is deterministic, but callers must not rely on it. Empty for an unknown lease. */
  keysOf(id: string): readonly KeyText[] {
    const slot = this.#slotOf.get(id);
    return slot === undefined ? [] : this.#keys.listOf(slot);
  }

  /** Returns the ids of all leases, in the order in which the leases were granted. */
  ids(): Iterable<string> {
    return this.#slotOf.keys();
  }

  /** Ends the lease, detaches its keys and returns these keys. Returns an empty list for an unknown lease. */
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
   * Returns at most `maxCount` leases whose deadline is at or before `monoMs`, in order of the known deadlines. These leases still exist: the caller
   * must get their keys and call `end` for each of them before the next call, or else that call returns them again. The work of each call is bounded,
   * so the caller must repeat the call until `nextDeadlineMs` is in the future.
   */
  expire(monoMs: number, maxCount: number): readonly string[] {
    const expired: string[] = [];
    const slots: number[] = [];
    for (let step = 0; step < EXPIRE_STEPS + maxCount && expired.length < maxCount; step += 1) {
      const slot = this.#heap.nextId();
      if (slot === undefined || this.#heap.nextDeadlineMs() > monoMs) break;
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

  /** Time at which `expire` must be called next. The time may be too early, but is never too late. NEVER if no lease can expire. */
  nextDeadlineMs(): number {
    return this.#heap.nextDeadlineMs();
  }
}
