/** Whom a change concerns: watchers by the namespace, prefix or everything they follow, and who of them is to be woken. */

import type { Reader } from "../catalog/watch/reader.ts";

/** One open stream, as the fan-out sees it. */
export interface Watcher {
  /** Exactly this namespace; empty when not exact. */
  readonly namespace: string;
  /** This namespace and those below it; empty when none. */
  readonly prefix: string;
  /** Monotonic ms at which it wants to be woken though nothing changed. */
  readonly dueMonoMs: number;
  /** How many changes of this node it has not been told of. */
  readonly lagRevisions: number;
  /** Up to here it was told of every key. */
  readonly settledRevision: number;
  readonly reader: Reader;
  /** Whether it is to be woken; only the fan-out writes it. */
  isReady: boolean;
  wake(): void;
  /** Notes that the verdict on these namespaces changed for it, or that nobody can say on which. */
  refresh(namespaces: readonly string[] | "all"): void;
  /** Whether it is in a snapshot, and so has not been told yet what another policy changed. */
  readonly isTelling: boolean;
  /** Notes that it is to end: when it is woken it gives the last place to resume from, and then the end. */
  stop(): void;
}

export class Fanout {
  readonly #exact = new Map<string, Set<Watcher>>();
  readonly #prefix = new Map<string, Set<Watcher>>();
  readonly #everything = new Set<Watcher>();
  readonly #watchers = new Set<Watcher>();
  /**
   * In the order of waking; a watcher is in it once however much changes. HOT: bench/watch.ts; one Set instead, which to take
   * the first of passes all that were taken before, cost a quarter of the fan-out.
   */
  #ready: Watcher[] = [];
  /** Those being woken, and how many of them were. */
  #waking: Watcher[] = [];
  #wokenCount = 0;

  get size(): number {
    return this.#watchers.size;
  }

  get readyCount(): number {
    return this.#ready.length + this.#waking.length - this.#wokenCount;
  }

  add(watcher: Watcher): void {
    this.#watchers.add(watcher);
    if (watcher.namespace !== "") join(this.#exact, watcher.namespace, watcher);
    else if (watcher.prefix !== "") join(this.#prefix, watcher.prefix, watcher);
    else this.#everything.add(watcher);
  }

  remove(watcher: Watcher): void {
    this.#watchers.delete(watcher);
    watcher.isReady = false;
    this.#everything.delete(watcher);
    leave(this.#exact, watcher.namespace, watcher);
    leave(this.#prefix, watcher.prefix, watcher);
  }

  /** Something in these namespaces changed. Cost: the watchers concerned, not those that exist. */
  changed(namespaces: Iterable<string>): void {
    for (const namespace of namespaces) {
      this.#readyAll(this.#exact.get(namespace));
      if (this.#prefix.size === 0) continue;
      for (let dot = namespace.indexOf("."); dot >= 0; dot = namespace.indexOf(".", dot + 1))
        this.#readyAll(this.#prefix.get(namespace.slice(0, dot)));
      this.#readyAll(this.#prefix.get(namespace));
    }
    this.#readyAll(this.#everything);
  }

  /** Readies those whose bookmark is due. Cost: one comparison a watcher, so call it a few times a second at most. */
  due(monoMs: number): void {
    for (const watcher of this.#watchers) if (watcher.dueMonoMs <= monoMs) this.#readyOne(watcher);
  }

  /** Everybody: the node's readiness changed. */
  all(): void {
    this.#readyAll(this.#watchers);
  }

  /** Told of it; whoever wakes sets it. */
  onAgain: () => void = () => undefined;

  /** Everybody is to end: with a place to resume from, at another node. */
  end(): void {
    for (const watcher of this.#watchers) {
      watcher.stop();
      this.#readyOne(watcher);
    }
    this.onAgain();
  }

  /** It has not looked at everything yet, or has noted something to tell. */
  again(watcher: Watcher): void {
    if (!this.#watchers.has(watcher)) return;
    this.#readyOne(watcher);
    this.onAgain();
  }

  /** The next to wake, taken out. */
  take(): Watcher | undefined {
    while (this.readyCount > 0) {
      if (this.#wokenCount === this.#waking.length) {
        this.#waking = this.#ready;
        this.#ready = [];
        this.#wokenCount = 0;
      }
      const watcher = this.#waking[this.#wokenCount++];
      // Removed meanwhile.
      if (watcher?.isReady !== true) continue;
      watcher.isReady = false;
      return watcher;
    }
    this.#waking = [];
    this.#wokenCount = 0;
    return undefined;
  }

  watchers(): Iterable<Watcher> {
    return this.#watchers;
  }

  #readyAll(watchers: ReadonlySet<Watcher> | undefined): void {
    if (watchers !== undefined) for (const watcher of watchers) this.#readyOne(watcher);
  }

  #readyOne(watcher: Watcher): void {
    if (watcher.isReady) return;
    watcher.isReady = true;
    this.#ready.push(watcher);
  }
}

function join(map: Map<string, Set<Watcher>>, key: string, watcher: Watcher): void {
  const set = map.get(key);
  if (set === undefined) map.set(key, new Set([watcher]));
  else set.add(watcher);
}

function leave(map: Map<string, Set<Watcher>>, key: string, watcher: Watcher): void {
  const set = map.get(key);
  if (set?.delete(watcher) === true && set.size === 0) map.delete(key);
}
