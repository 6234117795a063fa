/**
 * The entries that a watch tells, as a map that is whole at all times: a snapshot shows only when it is complete, and entries that vanish all at once are
 * held for a while (`consumer/mass-loss-guard.ts`). Nothing here waits; `watch.io.ts` opens the streams.
 */
import { type Entry, type EntryKey, type EntryKind, HealthStatus } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { GUARD_DEFAULTS, type GuardOptions, MassLossGuard } from "../../consumer/mass-loss-guard.ts";
import { entryKeyText, type FollowEvent, type RemovalCause, type UnreachableSample } from "../../consumer/watch-follower.ts";
import type { Time } from "../../lib/machine.ts";
import { NamedEntries, type NameStats } from "./named-entries.ts";

export type LiveChange =
  /** The entry is new or has changed. A held entry is told with health ORPHANED, or MAINTENANCE if it had that. */
  | { readonly kind: "put"; readonly isNew: boolean; readonly entry: Entry }
  /** The entry is gone; as it was last. */
  | { readonly kind: "remove"; readonly cause: RemovalCause; readonly entry: Entry };

export interface Freshness {
  /** Upper bound of the age of what the map shows, in ms. Infinite before the first snapshot is complete, and where the server names no age. */
  readonly ageMs: number;
  /** No bookmark came for three bookmark intervals, the server reports its data as stale, no snapshot is complete yet, or entries are held. */
  readonly isStale: boolean;
  /**
   * Nodes that `ageMs` does not include: the server considers them dead, but they may still accept writes that the map lacks. Undefined when there are none, and
   * before the first snapshot is complete.
   */
  readonly unreachable: UnreachableSample | undefined;
  /** Entries that are still shown, as ORPHANED or in MAINTENANCE, because they vanished with most others of their name. */
  readonly heldCount: number;
  /** The node or resolver that spoke last. */
  readonly servedBy: string;
}

export interface LiveEntriesOptions {
  /** After so long a silence of the server what shows is stale. */
  readonly staleAfterMs: number;
  readonly guard?: GuardOptions;
  /** So many entries may be held or remembered as lost, or as many as were there at once if that was more. Above it the oldest of them go. */
  readonly minKept?: number;
}

type SyncedEvent = Extract<FollowEvent, { readonly kind: "synced" }>;
type EntryEvent = Exclude<FollowEvent, SyncedEvent>;

/** So many entries may be held or remembered as lost where a map never showed as many; else as many as it showed. */
const MIN_KEPT = 10_000;
/** Causes for which an entry may be gone although its instance lives. */
const DOUBTFUL: ReadonlySet<RemovalCause> = new Set(["expired", "absent"]);

/** What was counted of a name: choices, those made by load, and the calls that the program reported. */
export interface CountsOfName extends NameStats {
  readonly namespace: string;
  readonly name: string;
  readonly kind: EntryKind;
}

export class LiveEntries {
  /** Namespace to name to the groups of the name, one a kind. Names of one kind are the rule. */
  readonly #names = new Map<string, Map<string, NamedEntries>>();
  readonly #guard: MassLossGuard<Entry>;
  readonly #staleAfterMs: number;
  /** Told by a snapshot that is not complete yet, by key. Nothing of it shows. */
  readonly #staged = new Map<string, EntryEvent>();
  readonly #minKept: number;
  #size = 0;
  /** The most entries that were there at once, without held ones. */
  #peak = 0;
  #said: (Pick<SyncedEvent, "ageMs" | "isStale" | "servedBy" | "unreachable"> & { readonly atMonoMs: number }) | undefined;
  #changes = new Map<string, LiveChange>();

  constructor({ staleAfterMs, guard = GUARD_DEFAULTS, minKept = MIN_KEPT }: LiveEntriesOptions) {
    this.#staleAfterMs = staleAfterMs;
    this.#minKept = minKept;
    this.#guard = new MassLossGuard(guard);
  }

  /** Entries that show, held ones included. */
  get size(): number {
    return this.#size;
  }

  /** Whether a snapshot was complete once. Before that an empty map says nothing. */
  get isReady(): boolean {
    return this.#said !== undefined;
  }

  /** Takes what a watch told. Returns what changed of what shows, at most one change a key. */
  take(event: FollowEvent, time: Time): readonly LiveChange[] {
    if (event.kind !== "synced") {
      const key = entryKeyText(event.key);
      if (event.isStaged || this.#said === undefined) {
        // Set anew, so that the order is that of the last word on each key.
        this.#staged.delete(key);
        this.#staged.set(key, event);
        return [];
      }
      this.#staged.delete(key);
      this.#apply(key, event, time);
    } else {
      for (const [key, told] of this.#staged) this.#apply(key, told, time);
      this.#staged.clear();
      const { ageMs, isStale, servedBy, unreachable } = event;
      this.#said = { ageMs, isStale, atMonoMs: time.monoMs, servedBy, unreachable };
    }
    return this.#takeChanges();
  }

  /** Lets held entries go whose time is over. */
  tick({ monoMs }: Time): readonly LiveChange[] {
    for (const { key, entry } of this.#guard.tick(monoMs)) this.#forget(key, entry.key, "expired");
    return this.#takeChanges();
  }

  /** When the next held entry goes. */
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
    const said = this.#said;
    if (said === undefined) return { ageMs: Number.POSITIVE_INFINITY, isStale: true, unreachable: undefined, heldCount, servedBy: "" };
    const silentMs = monoMs - said.atMonoMs;
    const isStale = said.isStale || heldCount > 0 || silentMs > this.#staleAfterMs;
    const { servedBy, unreachable } = said;
    return { ageMs: said.ageMs + silentMs, isStale, unreachable, heldCount, servedBy };
  }

  /** What was counted of each name that is there now: namespace, name and numbers. */
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
    // What was taken out of traffic stays so.
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
