/**
 * The entries of the namespaces that a resolver follows. They are stored in a replica in which every key has only the record sent by the upstream,
 * with its original source node and sequence number. A node's queries, watches, names and digests therefore work on this replica unchanged.
 */
import type { StoredEntry } from "../../catalog/entry/codec.ts";
import { namespaceCovers } from "../../catalog/entry/names.ts";
import { SCOPE } from "../../catalog/entry/scope.ts";
import type { LoadView } from "../../catalog/entry/view.ts";
import { readShown } from "../../catalog/entry/view.ts";
import { NamespacePrefixes } from "../../catalog/query/prefixes.ts";
import { BODY, type CatalogRecord, HEALTH, type KeyText } from "../../catalog/record/record.ts";
import { entryFields, type Origin, StoredRecord } from "../../catalog/record/stored-record.ts";
import { NO_TRAITS } from "../../catalog/record/traits.ts";
import type { EntryReader } from "../../catalog/replica/frames.ts";
import type { Replica } from "../../catalog/replica/replica.ts";
import { CAUSE, type ChangeCause } from "../../catalog/watch/change-cause.ts";
import { SNAPSHOT } from "../../catalog/watch/reader.ts";
import { UnconfirmedKeys } from "../../consumer/unconfirmed-keys.ts";
import { Hlc } from "../../lib/hlc.ts";
import type { Time } from "../../lib/machine.ts";
import { misplaced } from "../../lib/protowire.ts";
import type { CacheWeight } from "../cache/bounded-cache.ts";
import type { UpstreamWatchMessage, WatchDelta } from "../codec.ts";
import type { WatchBookmarks } from "./bookmarks.ts";

const NOTHING = new NamespacePrefixes([]);
/**
 * After servers have been silent for this long in total, a watch begins with a snapshot instead of resuming. A server sends few messages while it
 * waits for changes that the cursor includes, and those changes may be lost permanently.
 */
const MAX_SILENT_MS = 30_000;

/** State of one upstream watch, for the namespaces below some prefixes. */
export class UpstreamWatch {
  readonly prefixes: NamespacePrefixes;
  /** Prefixes followed by another watch. This watch ignores changes below these prefixes. */
  except: NamespacePrefixes;
  /** Whether `place` is not updated, because another watch fetches the excluded prefixes again. */
  isFrozen = false;
  /** Number and size of the entries received in the first snapshot so far, by prefix. The numbers are complete if the snapshot was counted before. */
  readonly sizes: PrefixSizes;
  /**
   * How the first snapshot is handled. `kept` means that it is stored as it arrives. `counted` means that it is not stored and its size is known at
   * its end. `whole` means that its size is known. `admitted` means that its size is known and it is stored because there is room.
   */
  admission: "kept" | "counted" | "whole" | "admitted" = "kept";
  /** Whether the first snapshot is complete. Until then, the content of the namespaces is unknown, not empty. */
  isComplete = false;
  /** Number of complete snapshots of all prefixes. */
  snapshotCount = 0;
  /** The snapshot that is being received: its namespaces (undefined for all) and the keys that it has listed so far. */
  staged: { readonly namespaces: readonly string[] | undefined; readonly seen: Set<KeyText> } | undefined;
  readonly doubts: UnconfirmedKeys;
  /** The cursor from which the next stream resumes. Undefined for a snapshot. */
  place: UpstreamWatchMessage["place"];
  /** Whether the current upstream issued `place`. */
  isPlaced = false;
  /**
   * Whether changes after `place` were received that only this upstream can send again. In this case, another upstream must begin with a snapshot.
   */
  isAheadOfCheckpoint = false;
  /** Whether a received change is unknown to the upstream, so that the watch must be reopened with a snapshot. */
  isDoubtful = false;
  /** Whether the entries come from a copy on disk and no upstream has confirmed them yet. */
  isFromDisk = false;
  /** For how long, in ms, silent servers have sent only single changes, since a server last sent other messages. */
  silentMs = 0;

  constructor(prefixes: NamespacePrefixes, { except = NOTHING, doubts = new UnconfirmedKeys() } = {}) {
    this.prefixes = prefixes;
    this.except = except;
    this.doubts = doubts;
    this.sizes = new PrefixSizes(prefixes);
  }

  /** Whether received entries are only counted. */
  get isCounting(): boolean {
    return this.admission === "counted" || this.admission === "whole";
  }

  /** Returns a watch that has this state for fewer namespaces. */
  narrowed(prefixes: NamespacePrefixes): UpstreamWatch {
    const watch = new UpstreamWatch(prefixes, { doubts: this.doubts });
    watch.isComplete = this.isComplete;
    watch.place = this.place;
    watch.isAheadOfCheckpoint = this.isAheadOfCheckpoint;
    watch.isPlaced = this.isPlaced;
    watch.isFromDisk = this.isFromDisk;
    watch.doubts.drop((key) => !prefixes.covers(key.slice(0, key.indexOf("\0"))));
    return watch;
  }

  /**
   * Stops updating the cursor and excludes these prefixes, because another watch fetches them again. Both watches are later joined, starting from
   * this cursor.
   */
  pause(prefixes: NamespacePrefixes): void {
    this.except = prefixes;
    this.isFrozen = true;
  }

  /**
   * Resumes updating the cursor after the other watch ended before its snapshot was complete. The cursor does not cover the changes received by the
   * other watch.
   */
  resume(): void {
    this.except = NOTHING;
    this.isFrozen = false;
    this.isAheadOfCheckpoint = true;
  }

  /** Records that the upstream was lost, and with it the changes that only this upstream could send again. */
  lose(): void {
    if (this.isAheadOfCheckpoint) this.place = undefined;
    this.isAheadOfCheckpoint = false;
    this.isPlaced = false;
  }

  /** Prepares for another stream and returns its cursor, which is empty for a snapshot. */
  move(): string {
    this.staged = undefined;
    this.isDoubtful = false;
    if (!this.doubts.switchServer() || this.silentMs >= MAX_SILENT_MS) this.place = undefined;
    return this.place?.text ?? "";
  }
}

/** Called before each change of a key, with the record that is visible before the change. */
export type OnTouch = (key: KeyText, namespace: string, seen: CatalogRecord | undefined) => void;

/** Receives the changes of the followed entries. */
export interface WatchedChanges {
  /** Called before an entry is removed. */
  gone(record: CatalogRecord, cause: ChangeCause, time: Time): void;
  /** Called when the upstream reports the end of an entry that is not present. */
  ended(key: KeyText, cause: ChangeCause, time: Time): void;
  /** Called when an entry was stored, even if it was resent without changes. */
  put(key: KeyText): void;
}

/** A decoded entry from an upstream. */
export interface DecodedEntry {
  /** A view into the bytes that were read. */
  readonly entry: Uint8Array;
  readonly stamped: StoredEntry;
  /** Whether the source node is unreachable. */
  readonly isOrphaned: boolean;
  /** A load report that is newer than the entry. */
  readonly load: LoadView | undefined;
}

/** An entry as sent by the upstream. */
export interface UpstreamEntry {
  readonly bytes: Uint8Array;
  /** Whether the source node is unreachable. The bytes do not contain this state. */
  readonly isOrphaned: boolean;
}

/** Receives all data sent by the upstream, regardless of whether it caused a change. */
export interface WatchedNews {
  /** Called with the current entry of a key, or undefined if there is no entry. */
  told(key: KeyText, entry: UpstreamEntry | undefined): void;
  /** Called with all keys of some namespaces. */
  listed(isIn: (namespace: string) => boolean, keys: ReadonlySet<KeyText>): void;
}

export interface WatchedCatalogOptions {
  readonly replica: Replica;
  readonly bookmarks: WatchBookmarks;
  readonly stamper: EntryReader;
  readonly onChange: WatchedChanges;
  readonly onTold: WatchedNews;
}

export class WatchedCatalog {
  /** Load reports that are newer than the entries. */
  readonly loads = new Map<KeyText, LoadView>();
  /** Set while a digest check compares the entries with the upstream. */
  onTouch: OnTouch | undefined;
  readonly #options: WatchedCatalogOptions;
  /** Received records have no stamps, so they are stamped with this clock when they arrive. */
  readonly #hlc = new Hlc();

  constructor(options: WatchedCatalogOptions) {
    this.#options = options;
  }

  /** Number of entries, including those that owners' rules hide. */
  get entryCount(): number {
    const { recordCount, tombstoneCount } = this.#options.replica;
    return recordCount - tombstoneCount;
  }

  /** Applies a watch message. Throws `invalid_argument` for a malformed message. Changes before the malformed part remain applied. */
  hear(watch: UpstreamWatch, message: UpstreamWatchMessage, time: Time): void {
    const { snapshot, deltas, replaces, place, ageMs } = message;
    // Single changes do not end the silence, because a server that waits for changes included in the cursor still sends other changes.
    if (snapshot !== SNAPSHOT.NONE || ageMs !== undefined) watch.silentMs = 0;
    if (snapshot === SNAPSHOT.BEGIN) {
      watch.staged = { namespaces: replaces.length === 0 ? undefined : replaces, seen: new Set() };
      this.#options.bookmarks.clear();
      if (watch.admission !== "admitted") watch.sizes.clear();
    } else if (snapshot !== SNAPSHOT.NONE && watch.staged === undefined) throw misplaced("snapshot phase without a preceding BEGIN");
    for (const delta of deltas) this.#change(watch, delta, time);
    if (watch.isCounting) {
      if (snapshot === SNAPSHOT.END) watch.admission = "whole";
      return;
    }
    if (snapshot === SNAPSHOT.END) this.#end(watch, time);
    if (watch.staged !== undefined || watch.isFrozen) return;
    // No earlier change is missing, even when an upstream resolver does not send a cursor.
    if (ageMs !== undefined && !watch.doubts.hasUnconfirmed) watch.isFromDisk = false;
    if (place === undefined) return;
    if (watch.doubts.hasUnconfirmed) {
      watch.isDoubtful = true;
      watch.place = undefined;
      return;
    }
    watch.place = place;
    watch.isPlaced = true;
    watch.isAheadOfCheckpoint = false;
    watch.isFromDisk = false;
    watch.doubts.checkpoint();
    this.#options.bookmarks.note(place.cursor);
  }

  /** Decodes an entry from an upstream. Throws `invalid_argument` for a malformed entry. */
  read(shown: Uint8Array): DecodedEntry {
    const { stamper } = this.#options;
    const { storedBytes, isOrphaned, load } = stamper.isSealed === true ? asSealed(shown) : readShown(shown);
    const entry = shown.subarray(0, storedBytes);
    const stamped = stamper.entryOfStored(entry);
    if (stamped.scope === SCOPE.LOCAL) throw misplaced("entry has scope LOCAL");
    return { entry, stamped, isOrphaned, load };
  }

  /** Removes the entries below `followed` that are not below `kept`. Bookmarks are discarded, because removed entries must not look absent. */
  drop(followed: NamespacePrefixes, kept: NamespacePrefixes, time: Time): void {
    const { replica, bookmarks } = this.#options;
    for (const stored of this.#entries((namespace) => followed.covers(namespace) && !kept.covers(namespace))) {
      this.#touch(stored);
      this.loads.delete(stored.key);
      replica.withdraw(stored, time);
    }
    bookmarks.clear();
  }

  /** Returns the number and size of the entries in these namespaces. The cost is proportional to the number of all entries. */
  sizeOf(isIn: (namespace: string) => boolean): CacheWeight {
    const known = new Map<string, boolean>();
    const entries = this.#entries((namespace) => {
      const is = known.get(namespace) ?? isIn(namespace);
      known.set(namespace, is);
      return is;
    });
    return { entries: entries.length, bytes: entries.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0) };
  }

  /** Removes the entries with these keys without notifying readers, because readers have not seen these entries. */
  forget(keys: ReadonlySet<string>, time: Time): void {
    for (const stored of this.#entries(() => true)) {
      if (!keys.has(stored.key)) continue;
      this.loads.delete(stored.key);
      this.#options.replica.withdraw(stored, time);
    }
  }

  #touch({ key, namespace }: Pick<CatalogRecord, "key" | "namespace">): void {
    // HOT: runs per change. A digest check is rarely running.
    if (this.onTouch !== undefined) this.onTouch(key, namespace, this.#options.replica.view(key));
  }

  #change(watch: UpstreamWatch, delta: WatchDelta, time: Time): void {
    const origin = this.#options.replica.origin(delta.nodeId, delta.generation);
    if ("key" in delta.change) this.#remove(watch, origin, delta, time);
    else this.#put(watch, { origin, seq: delta.seq, shown: delta.change.entry }, time);
  }

  #put(watch: UpstreamWatch, { origin, seq, shown }: { origin: Origin; seq: number; shown: Uint8Array }, time: Time): void {
    const { replica } = this.#options;
    const { entry, stamped, isOrphaned, load } = this.read(shown);
    if (!watch.prefixes.covers(stamped.namespace)) throw misplaced(`entry in namespace ${stamped.namespace}, which was not requested`);
    if (watch.except.covers(stamped.namespace)) return;
    if (!watch.isComplete && watch.admission !== "admitted") watch.sizes.add(stamped.namespace, entry.length);
    if (watch.isCounting) return;
    watch.staged?.seen.add(stamped.key);
    watch.doubts.confirm(stamped.key);
    watch.doubts.noteChange(stamped.key);
    this.#touch(stamped);
    if (load === undefined) this.loads.delete(stamped.key);
    else this.loads.set(stamped.key, load);
    replica.setLife(origin, isOrphaned ? "orphaned" : "live");
    const head = { ...this.#head(seq, stamped.scope, time, stamped.version), entry };
    replica.supersede(new StoredRecord(entryFields(head, stamped, { origin, slab: replica.slab })), time);
    this.#options.onChange.put(stamped.key);
    this.#options.onTold.told(stamped.key, { bytes: entry, isOrphaned });
  }

  #remove(watch: UpstreamWatch, origin: Origin, { seq, change }: WatchDelta, time: Time): void {
    if (!("key" in change)) return;
    const { replica, onChange, onTold } = this.#options;
    const { key, text, cause } = change;
    if (!watch.prefixes.covers(key.namespace)) throw misplaced(`key in namespace ${key.namespace}, which was not requested`);
    if (watch.except.covers(key.namespace) || watch.isCounting) return;
    watch.doubts.confirm(text);
    watch.doubts.noteChange(text);
    this.#touch({ key: text, namespace: key.namespace });
    const gone = replica.view(text);
    if (gone === undefined) onChange.ended(text, cause, time);
    else onChange.gone(gone, cause, time);
    onTold.told(text, undefined);
    this.loads.delete(text);
    const { namespace, name, kind } = key;
    const body = cause === CAUSE.UNREGISTERED ? BODY.UNREGISTERED : BODY.EXPIRED;
    const nothing = { at: 0, sizeBytes: 0, contentBytes: 0, health: HEALTH.HEALTHY, scope: SCOPE.ZONE, traits: NO_TRAITS };
    replica.supersede(
      new StoredRecord({ ...this.#head(seq, SCOPE.ZONE, time), ...nothing, key: text, namespace, name, kind, origin, body }),
      time,
    );
    const [ended] = replica.records(text);
    if (ended !== undefined) replica.causes.set(ended, cause);
  }

  /** Ends a snapshot: removes entries in its namespaces that it did not list. */
  #end(watch: UpstreamWatch, time: Time): void {
    const { staged } = watch;
    watch.staged = undefined;
    if (staged === undefined) return;
    const { namespaces, seen } = staged;
    if (namespaces === undefined) {
      watch.doubts.clear();
      watch.snapshotCount += 1;
    }
    const listed = namespaces === undefined ? undefined : new Set(namespaces);
    const isSpokenFor = (namespace: string) =>
      (listed?.has(namespace) ?? watch.prefixes.covers(namespace)) && !watch.except.covers(namespace);
    const cause = namespaces === undefined ? CAUSE.EXPIRED : CAUSE.NO_MATCH;
    for (const stored of this.#entries((namespace) => isSpokenFor(namespace))) {
      if (seen.has(stored.key)) continue;
      watch.doubts.noteChange(stored.key);
      this.#touch(stored);
      this.#options.onChange.gone(stored, cause, time);
      this.loads.delete(stored.key);
      this.#options.replica.withdraw(stored, time);
      this.#options.replica.causes.set(stored, cause);
    }
    this.#options.onTold.listed(isSpokenFor, seen);
    watch.isComplete = true;
  }

  /** Returns the entries of these namespaces, including those that owners' rules hide. The cost is proportional to the number of all entries. */
  #entries(isIn: (namespace: string) => boolean): readonly StoredRecord[] {
    // A record that was resent with the same number is in the log several times.
    const entries = new Set<StoredRecord>();
    for (const { log } of this.#options.replica.origins.values())
      log.forEachSince(0, (stored) => {
        if (stored.body === BODY.ENTRY && isIn(stored.namespace)) entries.add(stored);
        return true;
      });
    return [...entries];
  }

  /** Returns the numbers and stamps of a record. A signed record is stamped with its version. */
  #head(seq: number, scope: StoredRecord["scope"], { wallMs }: Time, version = this.#hlc.stamp(wallMs)) {
    return { seq, hlc: version, firstSeq: seq, filterSeq: seq, reach: scope, principal: "", unregisteredHlc: undefined };
  }
}

/** Reads a signed record, which has no fields added by the server. */
function asSealed({ length }: Uint8Array): ReturnType<typeof readShown> {
  return { storedBytes: length, isOrphaned: false, load: undefined };
}

// Number and size of the entries of a first snapshot for each requested prefix. They are counted before the entries are stored, and even if the entries are not
// stored.

const NONE: CacheWeight = { entries: 0, bytes: 0 };

class PrefixSizes {
  readonly #prefixes: readonly string[];
  readonly #byPrefix = new Map<string, { entries: number; bytes: number }>();
  /** The namespace that was counted last, cached because a snapshot lists namespaces one after another. */
  #last = { namespace: "", prefix: "" };

  constructor({ list }: NamespacePrefixes) {
    this.#prefixes = list;
  }

  /** Counts an entry in a namespace below one of the prefixes. HOT: runs per entry of a first snapshot. */
  add(namespace: string, bytes: number): void {
    if (this.#last.namespace !== namespace || this.#byPrefix.size === 0)
      this.#last = { namespace, prefix: this.#prefixes.find((prefix) => namespaceCovers(prefix, namespace)) ?? "" };
    const { prefix } = this.#last;
    const size = this.#byPrefix.get(prefix);
    if (size === undefined) this.#byPrefix.set(prefix, { entries: 1, bytes });
    else {
      size.entries += 1;
      size.bytes += bytes;
    }
  }

  /** Returns the number and size of the entries below a prefix. */
  of(prefix: string): CacheWeight {
    return this.#byPrefix.get(prefix) ?? NONE;
  }

  clear(): void {
    this.#byPrefix.clear();
  }
}
