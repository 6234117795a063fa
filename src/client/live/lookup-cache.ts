/**
 * The cache of one-off lookups. An answer is fresh until its TTL has passed. For twice that time afterwards, the cached answer is still used, and
 * refreshed in the background. Later lookups wait for a new answer. While no server answers, no entries are dropped. This module does not perform
 * I/O; `lookups.io.ts` sends the queries.
 */
import { create } from "@bufbuild/protobuf";
import { type Entry, EntryKeySchema, type EntryKind } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { type AnswerState, answerState } from "../../consumer/answer-state.ts";
import { entryKeyText } from "../../consumer/watch-follower.ts";
import type { Time } from "../../lib/machine.ts";
import { type CountsOfName, LiveEntries } from "./live-entries.ts";
import type { NamedEntries } from "./named-entries.ts";

export interface LookupName {
  readonly namespace: string;
  readonly name: string;
  readonly kind: EntryKind;
}

interface KnownLookup {
  readonly name: LookupName;
  readonly fetchedMonoMs: number;
  /** Nodes through which the name's entries are called. */
  readonly nodes: readonly Entry[];
}

export class LookupCache {
  readonly #ttlMs: number;
  readonly #maxNames: number;
  readonly #entries = new LiveEntries({ staleAfterMs: Number.POSITIVE_INFINITY });
  /** Lookups by name, with the least recently used first. */
  readonly #known = new Map<string, KnownLookup>();

  constructor({ ttlMs, maxNames, time }: { readonly ttlMs: number; readonly maxNames: number; readonly time: Time }) {
    this.#ttlMs = ttlMs;
    this.#maxNames = maxNames;
    // There is no initial snapshot, because the answer for each name is complete by itself.
    this.#entries.take(
      { kind: "synced", isSnapshot: true, cursor: "", revision: 0n, heldCount: 0, ageMs: 0, isStale: false, servedBy: "" },
      time,
    );
  }

  get size(): number {
    return this.#known.size;
  }

  /** Returns the statistics for each cached name. */
  stats(): readonly CountsOfName[] {
    return this.#entries.stats();
  }

  state(name: LookupName, { monoMs }: Time): AnswerState {
    const id = idOf(name);
    const known = this.#known.get(id);
    if (known === undefined) return "miss";
    this.#known.delete(id);
    this.#known.set(id, known);
    return answerState(monoMs - known.fetchedMonoMs, this.#ttlMs);
  }

  /** Whether the name has ever been looked up successfully. */
  isKnown(name: LookupName): boolean {
    return this.#known.has(idOf(name));
  }

  /** Returns the entries of a name from the last answer. Returns undefined if there are none. */
  found(name: LookupName): NamedEntries | undefined {
    return this.#entries.named(name.namespace, name.name, name.kind);
  }

  /** Returns the nodes that were found together with a name. */
  nodesOf(name: LookupName, nodeId: string): readonly Entry[] {
    return this.#known.get(idOf(name))?.nodes.filter(({ key }) => key?.name === nodeId) ?? [];
  }

  /**
   * Stores a complete answer for a name, with the nodes through which its hosted entries are called. As after a snapshot, entries that are missing
   * from the answer may be held for some time.
   */
  take(name: LookupName, { items, nodes = [] }: { readonly items: readonly Entry[]; readonly nodes?: readonly Entry[] }, time: Time): void {
    this.#entries.tick(time);
    const id = idOf(name);
    const keys = new Set<string>();
    for (const entry of items) {
      const { key } = entry;
      if (key === undefined) continue;
      keys.add(entryKeyText(key));
      this.#entries.take({ kind: "put", isNew: true, isStaged: false, key, entry, deltaId: "", revision: 0n }, time);
    }
    for (const entry of this.found(name)?.live.values().toArray() ?? [])
      if (entry.key !== undefined && !keys.has(entryKeyText(entry.key))) this.#remove(entry, "absent", time);
    this.#known.delete(id);
    this.#known.set(id, { name, fetchedMonoMs: time.monoMs, nodes });
    const [oldest] = this.#known;
    if (this.#known.size > this.#maxNames && oldest !== undefined) this.#drop(oldest[0], oldest[1].name, time);
  }

  #drop(id: string, name: LookupName, time: Time): void {
    this.#known.delete(id);
    for (const entry of Array.from(this.found(name)?.entries() ?? [])) this.#remove(entry, "withdrawn", time);
  }

  #remove({ key = create(EntryKeySchema) }: Entry, cause: "absent" | "withdrawn", time: Time): void {
    this.#entries.take({ kind: "remove", cause, isStaged: false, key, deltaId: "", revision: 0n }, time);
  }
}

function idOf({ namespace, name, kind }: LookupName): string {
  return `${kind}\0${namespace}\0${name}`;
}
