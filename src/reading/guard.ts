/**
 * Keeps the last entries of a name whose entries vanish all at once (semantics.md, Resolver 16). A name that loses more than half of its
 * entries within a short time, because they expired or a snapshot left them out, has probably lost its registry and not its instances. The caller
 * shows held entries as ORPHANED. Resolvers and clients follow the same rule.
 */
import { NEVER } from "../lib/machine.ts";

export interface GuardOptions {
  /** A name with fewer entries is not guarded: two of two may well end together. */
  readonly minEntries: number;
  /** Losses this near to each other count together. */
  readonly windowMs: number;
  /** An entry is held for this long. */
  readonly holdMs: number;
  /** Most entries that are held or remembered as just lost, of all names. Above it lost entries are gone at once, and counted. */
  readonly maxKept: number;
}

export const GUARD_DEFAULTS: GuardOptions = { minEntries: 3, windowMs: 30_000, holdMs: 300_000, maxKept: 1_000_000 };

/** An entry that a name has lost, or one that is held no longer. */
export interface GuardedEntry<E> {
  /** Groups the entries that serve the same: kind, namespace and name as one text. */
  readonly name: string;
  readonly key: string;
  readonly entry: E;
}

interface Lost<E> {
  readonly entry: E;
  readonly atMonoMs: number;
}

interface Name<E> {
  /** Lost for a doubtful reason within the window, by key. Those that are held count with the ones that follow them. */
  readonly lost: Map<string, Lost<E>>;
  /** By key. `atMonoMs` is when the holding began. */
  readonly held: Map<string, Lost<E>>;
  /** Entries that certainly ended within the window. They count among those that the name had. */
  endedCount: number;
}

/** What ends at a time. Each queue has one length of time, so it is in the order of time. */
interface Due {
  readonly name: string;
  /** Undefined for a certain end. */
  readonly key: string | undefined;
  readonly atMonoMs: number;
}

export class Guard<E> {
  readonly #options: GuardOptions;
  readonly #names = new Map<string, Name<E>>();
  readonly #windows = new Fifo<Due>();
  readonly #holds = new Fifo<Due>();
  #lostCount = 0;
  #heldCount = 0;
  #droppedCount = 0;

  constructor(options: GuardOptions = GUARD_DEFAULTS) {
    this.#options = options;
  }

  /** Entries that are remembered, and those that are held. */
  get keptCount(): number {
    return this.#lostCount + this.#heldCount;
  }

  /** Entries that are held now. */
  get heldCount(): number {
    return this.#heldCount;
  }

  /** Entries that were lost and not remembered, because there were too many. */
  get droppedCount(): number {
    return this.#droppedCount;
  }

  /**
   * An entry expired, or a full snapshot left it out. `remainingCount` is how many entries its name still has, without held ones. Returns the entries of the name
   * that are held from now on: none, or those that it lost within the window.
   */
  lost({ name, key, entry }: GuardedEntry<E>, remainingCount: number, monoMs: number): readonly GuardedEntry<E>[] {
    this.#closeWindows(monoMs);
    if (this.#lostCount + this.#heldCount >= this.#options.maxKept) {
      this.#droppedCount += 1;
      return [];
    }
    const group = this.#group(name);
    group.lost.set(key, { entry, atMonoMs: monoMs });
    this.#lostCount += 1;
    this.#windows.push({ name, key, atMonoMs: monoMs });
    const lostCount = group.lost.size;
    const hadCount = remainingCount + lostCount + group.endedCount;
    if (hadCount < this.#options.minEntries || 2 * lostCount <= hadCount) return [];
    const held: GuardedEntry<E>[] = [];
    for (const [lostKey, one] of group.lost) {
      if (group.held.has(lostKey)) continue;
      group.held.set(lostKey, { entry: one.entry, atMonoMs: monoMs });
      this.#holds.push({ name, key: lostKey, atMonoMs: monoMs });
      held.push({ name, key: lostKey, entry: one.entry });
    }
    this.#heldCount += held.length;
    return held;
  }

  /**
   * Holds an entry that an earlier run held, until then. The caller tells each key once, in the order of these times, which are at most `holdMs` from now. Whether
   * there was room.
   */
  resume({ name, key, entry }: GuardedEntry<E>, untilMonoMs: number): boolean {
    if (this.keptCount >= this.#options.maxKept) {
      this.#droppedCount += 1;
      return false;
    }
    const atMonoMs = untilMonoMs - this.#options.holdMs;
    this.#group(name).held.set(key, { entry, atMonoMs });
    this.#holds.push({ name, key, atMonoMs });
    this.#heldCount += 1;
    return true;
  }

  /** The entry is there again. Whether it was held. */
  returned(name: string, key: string): boolean {
    const group = this.#names.get(name);
    return group !== undefined && this.#forget(name, group, key);
  }

  /** The entry has certainly ended: it was unregistered, or the policy hides it. Whether it was held. */
  ended(name: string, key: string, monoMs: number): boolean {
    this.#closeWindows(monoMs);
    const group = this.#group(name);
    const wasHeld = this.#forget(name, group, key);
    this.#names.set(name, group);
    group.endedCount += 1;
    this.#windows.push({ name, key: undefined, atMonoMs: monoMs });
    return wasHeld;
  }

  /** Forgets what is old, and returns the entries that are held no longer. */
  tick(monoMs: number): readonly GuardedEntry<E>[] {
    this.#closeWindows(monoMs);
    const released: GuardedEntry<E>[] = [];
    for (let due = this.#holds.first; due !== undefined && due.atMonoMs + this.#options.holdMs <= monoMs; due = this.#holds.first) {
      this.#holds.shift();
      const { name, key = "" } = due;
      const group = this.#names.get(name);
      const held = group?.held.get(key);
      if (group === undefined || held?.atMonoMs !== due.atMonoMs) continue;
      this.#forget(name, group, key);
      released.push({ name, key, entry: held.entry });
    }
    return released;
  }

  /** When the next entry is held no longer. */
  nextDeadlineMs(): number {
    const first = this.#holds.first;
    return first === undefined ? NEVER : first.atMonoMs + this.#options.holdMs;
  }

  #closeWindows(monoMs: number): void {
    for (let due = this.#windows.first; due !== undefined && due.atMonoMs + this.#options.windowMs <= monoMs; due = this.#windows.first) {
      this.#windows.shift();
      const { name, key } = due;
      const group = this.#names.get(name);
      if (group === undefined) continue;
      if (key === undefined) group.endedCount -= 1;
      else if (group.lost.get(key)?.atMonoMs === due.atMonoMs) this.#forgetLost(group, key);
      this.#dropEmpty(name, group);
    }
  }

  #group(name: string): Name<E> {
    let group = this.#names.get(name);
    if (group === undefined) {
      group = { lost: new Map(), held: new Map(), endedCount: 0 };
      this.#names.set(name, group);
    }
    return group;
  }

  #forget(name: string, group: Name<E>, key: string): boolean {
    this.#forgetLost(group, key);
    const wasHeld = group.held.delete(key);
    if (wasHeld) this.#heldCount -= 1;
    this.#dropEmpty(name, group);
    return wasHeld;
  }

  #forgetLost(group: Name<E>, key: string): void {
    if (group.lost.delete(key)) this.#lostCount -= 1;
  }

  #dropEmpty(name: string, group: Name<E>): void {
    if (group.lost.size === 0 && group.held.size === 0 && group.endedCount === 0) this.#names.delete(name);
  }
}

/** First in, first out, without moving the others. */
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
