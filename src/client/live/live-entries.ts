/**
 * The entries of a watch, as a map that is complete at all times. A snapshot becomes visible only when it is complete. If most entries of a name
 * vanish at the same time, they are held for some time (`consumer/mass-loss-guard.ts`). This module does not perform I/O or wait; `watch.io.ts` opens
 * the streams.
 */
import { type Entry, type EntryKey, type EntryKind, HealthStatus } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { GUARD_DEFAULTS, type GuardOptions, MassLossGuard } from "../../consumer/mass-loss-guard.ts";
import { entryKeyText, type FollowEvent, type RemovalCause, type UnreachableSample } from "../../consumer/watch-follower.ts";
import type { Time } from "../../lib/machine.ts";
import { NamedEntries, type NameStats } from "./named-entries.ts";

/** A visible change of a live map. */
export type LiveChange =
  /** The entry is new or has changed. A held entry has the health ORPHANED, or MAINTENANCE if it was in maintenance before. */
  | { readonly kind: "put"; readonly isNew: boolean; readonly entry: Entry }
  /** The entry was removed. `entry` is the entry's last state. */
  | { readonly kind: "remove"; readonly cause: RemovalCause; readonly entry: Entry };

/** Describes how current a live map is. */
export interface Freshness {
  /**
   * Upper bound on the age of the map's entries, in ms. Infinite before the first snapshot is complete, or if the server does not report an age.
   */
  readonly ageMs: number;
  /**
   * True if no bookmark or END has arrived for too long, the server reports stale data, no snapshot is complete yet, or entries are held.
   */
  readonly isStale: boolean;
  /**
   * Nodes that `ageMs` does not cover. The server considers them dead, but they may still accept writes that are missing from the map. Undefined if
   * there are none, or before the first snapshot is complete.
   */
  readonly unreachable: UnreachableSample | undefined;
  /** Number of entries that are kept as ORPHANED or in MAINTENANCE, because they vanished at the same time as most entries of their name. */
  readonly heldCount: number;
  /** The node or resolver that sent the last message. */
  readonly servedBy: string;
}

export interface LiveEntriesOptions {
  /** How long the server can be silent before the map is considered stale, in ms. */
  readonly staleAfterMs: number;
  readonly guard?: GuardOptions;
  /**
   * Maximum number of entries that can be held or remembered as lost. If the map's largest size so far is greater, that size applies instead. Above
   * the limit, the oldest entries are dropped.
   */
  readonly minKept?: number;
}

type SyncedEvent = Extract<FollowEvent, { readonly kind: "synced" }>;
type EntryEvent = Exclude<FollowEvent, SyncedEvent>;

/** Default of `minKept`. */
const MIN_KEPT = 10_000;
/** Reasons for removal after which an entry's instance may still be running. */
const DOUBTFUL: ReadonlySet<RemovalCause> = new Set(["expired", "absent"]);

/** Statistics for a name: choices, choices based on load, and the calls that the program reported. */
export interface CountsOfName extends NameStats {
  readonly namespace: string;
  readonly name: string;
  readonly kind: EntryKind;
}

export class LiveEntries {
  /** The entry groups of each name, one per kind, indexed by namespace and name. Most names have only one kind. */
  readonly #names = new Map<string, Map<string, NamedEntries>>();
  readonly #guard: MassLossGuard<Entry>;
  readonly #staleAfterMs: number;
  /** Events of a snapshot that is not complete yet, by key. These events are not visible. */
  readonly #staged = new Map<string, EntryEvent>();
  readonly #minKept: number;
  #size = 0;
  /** The largest number of entries so far, not including held entries. */
  #peak = 0;
  #lastSync: (Pick<SyncedEvent, "ageMs" | "isStale" | "servedBy" | "unreachable"> & { readonly atMonoMs: number }) | undefined;
  #changes = new Map<string, LiveChange>();

  constructor({ staleAfterMs, guard = GUARD_DEFAULTS, minKept = MIN_KEPT }: LiveEntriesOptions) {
    this.#staleAfterMs = staleAfterMs;
    this.#minKept = minKept;
    this.#guard = new MassLossGuard(guard);
  }

  /** Number of visible entries, including held ones. */
  get size(): number {
    return this.#size;
  }

  /** Whether a snapshot has been completed. Before that, an empty map does not mean that there are no entries. */
  get isReady(): boolean {
    return this.#lastSync !== undefined;
  }

  /** Applies an event from the watch. Returns the visible changes, at most one per key. */
  take(event: FollowEvent, time: Time): readonly LiveChange[] {
    if (event.kind !== "synced") {
      const key = entryKeyText(event.key);
      if (event.isStaged || this.#lastSync === undefined) {
        // The key is deleted and set again, so that the events stay in the order of the last event per key.
        this.#staged.delete(key);
        this.#staged.set(key, event);
        return [];
      }
      this.#staged.delete(key);
      this.#apply(key, event, time);
    } else {
      for (const [key, staged] of this.#staged) this.#apply(key, staged, time);
      this.#staged.clear();
      const { ageMs, isStale, servedBy, unreachable } = event;
      this.#lastSync = { ageMs, isStale, atMonoMs: time.monoMs, servedBy, unreachable };
    }
    return this.#takeChanges();
  }

  /** Removes entries whose hold has ended. */
  tick({ monoMs }: Time): readonly LiveChange[] {
    for (const { key, entry } of this.#guard.tick(monoMs)) this.#forget(key, entry.key, "expired");
    return this.#takeChanges();
  }

  /** Time at which the next hold ends. */
  nextDeadlineMs(): number {
    return this.#guard.nextDeadlineMs();
  }

  get(key: EntryKey): Entry | undefined {
    return this.named(key.namespace, key.name, key.kind)?.find(entryKeyText(key));
  }

  named(namespace: string, name: string, kind: EntryKind): NamedEntries | undefined {
    let group = this.#names.get(namespace)?.get(name);
    while (group !== undefined && group.kind !== kind) group = group.next;
    return group;
  }

  *entries(): Iterable<Entry> {
    for (const { group } of this.#groups()) yield* group.entries();
  }

  freshness({ monoMs }: Time): Freshness {
    const { heldCount } = this.#guard;
    const sync = this.#lastSync;
    if (sync === undefined) return { ageMs: Number.POSITIVE_INFINITY, isStale: true, unreachable: undefined, heldCount, servedBy: "" };
    const silentMs = monoMs - sync.atMonoMs;
    const isStale = sync.isStale || heldCount > 0 || silentMs > this.#staleAfterMs;
    const { servedBy, unreachable } = sync;
    return { ageMs: sync.ageMs + silentMs, isStale, unreachable, heldCount, servedBy };
  }

  /** Returns the statistics for each name in the map. */
  stats(): readonly CountsOfName[] {
    return [...this.#groups()].map(({ namespace, name, group }) => ({ namespace, name, kind: group.kind, ...group.stats() }));
  }

  *#groups(): Iterable<{ readonly namespace: string; readonly name: string; readonly group: NamedEntries }> {
    for (const [namespace, names] of this.#names)
      for (const [name, first] of names)
        for (let group: NamedEntries | undefined = first; group !== undefined; group = group.next) yield { namespace, name, group };
  }

  #apply(text: string, event: EntryEvent, { monoMs }: Time): void {
    const { key } = event;
    const name = `${key.kind}\0${key.namespace}\0${key.name}`;
    if (event.kind === "put") {
      this.#guard.noteReturn(name, text);
      this.#show(text, event.entry, event.key);
      return;
    }
    const group = this.named(key.namespace, key.name, key.kind);
    if (!DOUBTFUL.has(event.cause)) {
      this.#guard.noteEnd(name, text, monoMs);
      this.#forget(text, key, event.cause);
      return;
    }
    const entry = group?.live.get(text);
    if (group === undefined || entry === undefined) return;
    const remaining = group.live.size - 1;
    this.#forget(text, key, event.cause);
    for (const lost of this.#guard.noteLoss({ name, key: text, entry }, remaining, monoMs)) this.#hold(lost.key, lost.entry);
    while (this.#guard.keptCount > Math.max(this.#minKept, this.#peak)) {
      const oldest = this.#guard.releaseOldest();
      if (oldest !== undefined) this.#forget(oldest.key, oldest.entry.key, "expired");
    }
  }

  #show(text: string, entry: Entry, key: EntryKey): void {
    const group = this.#groupOf(key);
    const isNew = group.find(text) === undefined;
    if (isNew) this.#size += 1;
    group.put(text, entry);
    this.#peak = Math.max(this.#peak, this.#size - this.#guard.heldCount);
    const wasRemoved = this.#changes.get(text)?.kind === "remove";
    this.#changes.set(text, { kind: "put", isNew: isNew && !wasRemoved, entry });
  }

  #hold(text: string, entry: Entry): void {
    const { key } = entry;
    if (key === undefined) return;
    // An entry in maintenance stays in maintenance, so that it receives no traffic.
    const orphan: Entry = entry.health === HealthStatus.MAINTENANCE ? entry : { ...entry, health: HealthStatus.ORPHANED };
    const group = this.#groupOf(key);
    if (group.find(text) === undefined) this.#size += 1;
    group.hold(text, orphan);
    const wasRemoved = this.#changes.get(text)?.kind === "remove";
    this.#changes.set(text, { kind: "put", isNew: !wasRemoved, entry: orphan });
  }

  #forget(text: string, key: EntryKey | undefined, cause: RemovalCause): void {
    const group = key && this.named(key.namespace, key.name, key.kind);
    const entry = group?.find(text);
    if (key === undefined || group === undefined || entry === undefined) return;
    group.remove(text);
    this.#size -= 1;
    this.#changes.set(text, { kind: "remove", cause, entry });
    if (group.size === 0) this.#dropGroup(key);
  }

  #groupOf({ namespace, name, kind }: EntryKey): NamedEntries {
    const known = this.named(namespace, name, kind);
    if (known !== undefined) return known;
    let names = this.#names.get(namespace);
    if (names === undefined) {
      names = new Map();
      this.#names.set(namespace, names);
    }
    const group = new NamedEntries(kind);
    group.next = names.get(name);
    names.set(name, group);
    return group;
  }

  #dropGroup({ namespace, name }: EntryKey): void {
    const names = this.#names.get(namespace);
    let kept: NamedEntries | undefined;
    let group = names?.get(name);
    while (group !== undefined) {
      const { next } = group;
      if (group.size > 0) {
        group.next = kept;
        kept = group;
      }
      group = next;
    }
    if (kept === undefined) names?.delete(name);
    else names?.set(name, kept);
    if (names?.size === 0) this.#names.delete(namespace);
  }

  #takeChanges(): readonly LiveChange[] {
    if (this.#changes.size === 0) return [];
    const changes = [...this.#changes.values()];
    this.#changes = new Map();
    return changes;
  }
}
