/**
 * Holds a name's entries when most of them vanish at the same time (semantics.md, Resolver 16). If a name loses more than half of its entries within
 * a short time, because they expired or a snapshot does not list them, it is more likely that its registry has failed than that its instances have
 * failed. The caller shows held entries as ORPHANED. Resolvers and clients follow the same rule.
 */
import { NEVER } from "../lib/machine.ts";

export interface GuardOptions {
  /** A name with fewer entries is not guarded, because it is not unusual for two of two entries to end at the same time. */
  readonly minEntries: number;
  /** Losses within a window of this length are counted together. */
  readonly windowMs: number;
  /** Time for which an entry is held. */
  readonly holdMs: number;
}

export const GUARD_DEFAULTS: GuardOptions = { minEntries: 3, windowMs: 30_000, holdMs: 300_000 };

/** An entry that a name has lost, or an entry that is no longer held. */
export interface GuardedEntry<E> {
  /** Identifies the entries of one service: kind, namespace and name as one string. */
  readonly name: string;
  readonly key: string;
  readonly entry: E;
}

interface LostEntry<E> {
  /** Undefined if the entry was released for lack of room. The loss is still counted. */
  entry: E | undefined;
  readonly atMonoMs: number;
}

interface GuardedName<E> {
  /** Losses within the window that may be false, by key. Held entries are counted together with later losses. */
  readonly lost: Map<string, LostEntry<E>>;
  /** The entries of `lost` that are not held yet, but will be if too many losses follow. */
  readonly waiting: Map<string, LostEntry<E>>;
  /** Held entries by key. `atMonoMs` is the start of the hold. */
  readonly held: Map<string, LostEntry<E>>;
  /** Number of entries that certainly ended within the window. They are included in the former size of the name. */
  endedCount: number;
}

/** An item with an expiry time. All items of a queue have the same lifetime, so the queue is ordered by time. */
interface DueExpiry {
  readonly name: string;
  /** Undefined for an entry that has certainly ended. */
  readonly key: string | undefined;
  readonly atMonoMs: number;
}

/**
 * The guard has no size limit of its own. Held entries existed before, so the memory that they used is available. If the owner needs that memory, it
 * calls `releaseOldest`.
 */
export class MassLossGuard<E> {
  readonly #options: GuardOptions;
  readonly #onForgotten: (entry: E) => void;
  readonly #names = new Map<string, GuardedName<E>>();
  readonly #windows = new Fifo<DueExpiry>();
  /** The items of `#windows` whose entries may still be waiting. */
  readonly #waiting = new Fifo<DueExpiry>();
  readonly #holds = new Fifo<DueExpiry>();
  #keptCount = 0;
  #heldCount = 0;
  #unheldCount = 0;

  /** `onForgotten` is called once for each entry passed to `noteLoss`, when the entry is no longer kept. */
  constructor(options: GuardOptions = GUARD_DEFAULTS, onForgotten: (entry: E) => void = () => {}) {
    this.#options = options;
    this.#onForgotten = onForgotten;
  }

  /** Number of entries that are held or are remembered because they may have to be held. */
  get keptCount(): number {
    return this.#keptCount;
  }

  /** Number of entries that are held now. */
  get heldCount(): number {
    return this.#heldCount;
  }

  /** Number of entries that should have been held, but were released early for lack of room. */
  get unheldCount(): number {
    return this.#unheldCount;
  }

  /**
   * Records that an entry has expired or that a full snapshot does not list it. `remainingCount` is the number of entries that the name still has,
   * excluding held entries. Returns the name's entries that are held from now on: either none, or all losses within the window.
   */
  noteLoss({ name, key, entry }: GuardedEntry<E>, remainingCount: number, monoMs: number): readonly GuardedEntry<E>[] {
    this.#closeWindows(monoMs);
    const group = this.#group(name);
    this.#drop(group, key);
    const lost: LostEntry<E> = { entry, atMonoMs: monoMs };
    group.lost.set(key, lost);
    group.waiting.set(key, lost);
    this.#keptCount += 1;
    const due = { name, key, atMonoMs: monoMs };
    this.#windows.push(due);
    this.#waiting.push(due);
    const lostCount = group.lost.size;
    const hadCount = remainingCount + lostCount + group.endedCount;
    if (hadCount < this.#options.minEntries || 2 * lostCount <= hadCount) return [];
    return this.#hold(name, group, monoMs);
  }

  /**
   * Continues an entry's hold from an earlier run. The caller passes each key once, ordered by `untilMonoMs`, which is at most `holdMs` from now.
   */
  resumeHold({ name, key, entry }: GuardedEntry<E>, untilMonoMs: number): void {
    const atMonoMs = untilMonoMs - this.#options.holdMs;
    this.#group(name).held.set(key, { entry, atMonoMs });
    this.#holds.push({ name, key, atMonoMs });
    this.#keptCount += 1;
    this.#heldCount += 1;
  }

  /** Records that the entry exists again. Returns whether it was held. */
  noteReturn(name: string, key: string): boolean {
    const group = this.#names.get(name);
    return group !== undefined && this.#forget(name, group, key);
  }

  /** Records that the entry has certainly ended: it was unregistered, or the policy hides it. Returns whether it was held. */
  noteEnd(name: string, key: string, monoMs: number): boolean {
    this.#closeWindows(monoMs);
    const group = this.#group(name);
    const wasHeld = this.#drop(group, key);
    group.endedCount += 1;
    this.#windows.push({ name, key: undefined, atMonoMs: monoMs });
    return wasHeld;
  }

  /** Whether the entry was lost within the window, or is held. */
  has(name: string, key: string): boolean {
    const group = this.#names.get(name);
    return group !== undefined && (group.lost.has(key) || group.held.has(key));
  }

  /** Removes expired items, and returns the entries that are no longer held. */
  tick(monoMs: number): readonly GuardedEntry<E>[] {
    this.#closeWindows(monoMs);
    const released: GuardedEntry<E>[] = [];
    for (let due = this.#holds.first; due !== undefined && due.atMonoMs + this.#options.holdMs <= monoMs; due = this.#holds.first) {
      this.#holds.shift();
      const { name, key = "" } = due;
      const group = this.#names.get(name);
      const held = group?.held.get(key);
      if (group === undefined || held?.entry === undefined || held.atMonoMs !== due.atMonoMs) continue;
      this.#forget(name, group, key);
      released.push({ name, key, entry: held.entry });
    }
    return released;
  }

  /** Time at which the next hold ends. */
  nextDeadlineMs(): number {
    const first = this.#holds.first;
    return first === undefined ? NEVER : first.atMonoMs + this.#options.holdMs;
  }

  /**
   * Releases and returns the entry that has been held or remembered for the longest time, because its memory is needed. Its loss is still counted for
   * the other entries of its name. Returns undefined if no entries are kept.
   */
  releaseOldest(): GuardedEntry<E> | undefined {
    const waiting = this.#firstOf(this.#waiting, "waiting");
    const held = this.#firstOf(this.#holds, "held");
    if (waiting !== undefined && (held === undefined || waiting.lost.atMonoMs <= held.lost.atMonoMs)) {
      const { entry } = waiting;
      waiting.lost.entry = undefined;
      this.#release(entry);
      return waiting;
    }
    if (held === undefined) return undefined;
    const { name, key, group } = held;
    const lost = group.lost.get(key);
    if (lost !== undefined) lost.entry = undefined;
    group.held.delete(key);
    this.#heldCount -= 1;
    this.#unheldCount += 1;
    this.#release(held.entry);
    this.#dropEmpty(name, group);
    return held;
  }

  /** Returns the first item in a queue that is still in the given state, and removes the items before it. */
  #firstOf(queue: Fifo<DueExpiry>, how: "waiting" | "held") {
    for (let due = queue.first; due !== undefined; due = queue.first) {
      const { name, key = "", atMonoMs } = due;
      const group = this.#names.get(name);
      const lost = group?.[how].get(key);
      if (group !== undefined && lost?.entry !== undefined && lost.atMonoMs === atMonoMs)
        return { name, key, group, lost, entry: lost.entry };
      queue.shift();
    }
    return undefined;
  }

  /** Holds the losses within the window that are not held yet. */
  #hold(name: string, group: GuardedName<E>, monoMs: number): readonly GuardedEntry<E>[] {
    const held: GuardedEntry<E>[] = [];
    for (const [key, { entry }] of group.waiting) {
      if (entry === undefined) {
        this.#unheldCount += 1;
        continue;
      }
      group.held.set(key, { entry, atMonoMs: monoMs });
      this.#holds.push({ name, key, atMonoMs: monoMs });
      held.push({ name, key, entry });
    }
    group.waiting.clear();
    this.#heldCount += held.length;
    return held;
  }

  #closeWindows(monoMs: number): void {
    const untilMonoMs = monoMs - this.#options.windowMs;
    for (let due = this.#waiting.first; due !== undefined && due.atMonoMs <= untilMonoMs; due = this.#waiting.first) this.#waiting.shift();
    for (let due = this.#windows.first; due !== undefined && due.atMonoMs <= untilMonoMs; due = this.#windows.first) {
      this.#windows.shift();
      const { name, key } = due;
      const group = this.#names.get(name);
      if (group === undefined) continue;
      if (key === undefined) group.endedCount -= 1;
      else if (group.lost.get(key)?.atMonoMs === due.atMonoMs) this.#forgetLost(group, key);
      this.#dropEmpty(name, group);
    }
  }

  #group(name: string): GuardedName<E> {
    let group = this.#names.get(name);
    if (group === undefined) {
      group = { lost: new Map(), waiting: new Map(), held: new Map(), endedCount: 0 };
      this.#names.set(name, group);
    }
    return group;
  }

  #forget(name: string, group: GuardedName<E>, key: string): boolean {
    const wasHeld = this.#drop(group, key);
    this.#dropEmpty(name, group);
    return wasHeld;
  }

  /** Removes all state for the key. Returns whether it was held. */
  #drop(group: GuardedName<E>, key: string): boolean {
    this.#forgetLost(group, key);
    const held = group.held.get(key);
    if (held === undefined) return false;
    group.held.delete(key);
    this.#heldCount -= 1;
    this.#release(held.entry);
    return true;
  }

  #forgetLost(group: GuardedName<E>, key: string): void {
    const waiting = group.waiting.get(key);
    group.lost.delete(key);
    group.waiting.delete(key);
    this.#release(waiting?.entry);
  }

  #release(entry: E | undefined): void {
    if (entry === undefined) return;
    this.#keptCount -= 1;
    this.#onForgotten(entry);
  }

  #dropEmpty(name: string, group: GuardedName<E>): void {
    if (group.lost.size === 0 && group.held.size === 0 && group.endedCount === 0) this.#names.delete(name);
  }
}

/** A FIFO queue that does not move the remaining items when one is removed. */
class Fifo<T> {
  #items: T[] = [];
  #start = 0;

  get first(): T | undefined {
    return this.#items[this.#start];
  }

  push(item: T): void {
    this.#items.push(item);
  }

  shift(): void {
    this.#start += 1;
    if (this.#start < 1000 || 2 * this.#start < this.#items.length) return;
    this.#items = this.#items.slice(this.#start);
    this.#start = 0;
  }
}
