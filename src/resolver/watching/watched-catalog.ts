/**
 * The content of the namespaces that a resolver follows: a replica in which every key has the one record that its upstream shows, with the origin and
 * number that it has everywhere. So queries, watches, names and digests of a node work on it unchanged.
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
 * After so long at silent servers a watch begins with a snapshot: a server says little while it waits for changes that the place names, and those may be lost
 * for ever.
 */
const MAX_SILENT_MS = 30_000;

/** One watch of the upstream, which tells of the namespaces below some prefixes. */
export class UpstreamWatch {
  readonly prefixes: NamespacePrefixes;
  /** What another watch follows: what this one says of it does not count. */
  except: NamespacePrefixes;
  /** Whether `place` stays where it is, because what is excepted is fetched again by another watch. */
  isFrozen = false;
  /** What its first snapshot brought so far; all that it brings where that was counted before. */
  readonly sizes: PrefixSizes;
  /**
   * What becomes of the first snapshot. `counted`: it is not kept, but its size is known when it ends. `whole`: its size is known. `admitted`: its size was known,
   * and there is room for it.
   */
  admission: "kept" | "counted" | "whole" | "admitted" = "kept";
  /** Whether its first snapshot has arrived whole. Before that its namespaces are unknown, not empty. */
  isComplete = false;
  /** Snapshots of everything that arrived whole. */
  snapshotCount = 0;
  /** The snapshot under way: the namespaces that it speaks for, undefined for all, and what it listed. */
  staged: { readonly namespaces: readonly string[] | undefined; readonly seen: Set<KeyText> } | undefined;
  readonly doubts: UnconfirmedKeys;
  /** The place from which the next upstream goes on. Undefined for a snapshot. */
  place: UpstreamWatchMessage["place"];
  /** Whether `place` is of the upstream that is followed now. */
  isPlaced = false;
  /** Whether more is held than at `place`, and only this upstream will tell all of it again. Another one must begin with a snapshot. */
  isAheadOfCheckpoint = false;
  /** Whether something is held that the upstream does not know. Then the watch must be opened again, with a snapshot. */
  isDoubtful = false;
  /** Whether what is held comes from a copy on disk, and no upstream has said yet what became of it. */
  isFromDisk = false;
  /** For how long servers that were left for their silence have said nothing but single changes, since the last one that said more. */
  silentMs = 0;

  constructor(prefixes: NamespacePrefixes, { except = NOTHING, doubts = new UnconfirmedKeys() } = {}) {
    this.prefixes = prefixes;
    this.except = except;
    this.doubts = doubts;
    this.sizes = new PrefixSizes(prefixes);
  }

  /** Whether what arrives is not kept. */
  get isCounting(): boolean {
    return this.admission === "counted" || this.admission === "whole";
  }

  /** A watch that goes on from here for fewer namespaces. */
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

  /** Another watch fetches these prefixes again. From the place of now both go on together. */
  pause(prefixes: NamespacePrefixes): void {
    this.except = prefixes;
    this.isFrozen = true;
  }

  /** The other watch ended before it was whole. What it told is in no place. */
  resume(): void {
    this.except = NOTHING;
    this.isFrozen = false;
    this.isAheadOfCheckpoint = true;
  }

  /** The upstream is lost, and with it what only it could have told again. */
  lose(): void {
    if (this.isAheadOfCheckpoint) this.place = undefined;
    this.isAheadOfCheckpoint = false;
    this.isPlaced = false;
  }

  /** The cursor for another stream. Empty for a snapshot. */
  move(): string {
    this.staged = undefined;
    this.isDoubtful = false;
    if (!this.doubts.switchServer() || this.silentMs >= MAX_SILENT_MS) this.place = undefined;
    return this.place?.text ?? "";
  }
}

/** Is told of each key that is about to change, and of what is seen of it until then. */
export type OnTouch = (key: KeyText, namespace: string, seen: CatalogRecord | undefined) => void;

/** Is told of changes of what is followed. */
export interface WatchedChanges {
  /** An entry goes. It is still there. */
  gone(record: CatalogRecord, cause: ChangeCause, time: Time): void;
  /** A key is told to be gone that is not there. */
  ended(key: KeyText, cause: ChangeCause, time: Time): void;
  /** An entry is there, or was told again. */
  put(key: KeyText): void;
}

/** An entry that an upstream showed, read. */
export interface DecodedEntry {
  /** A view into what was read. */
  readonly entry: Uint8Array;
  readonly stamped: StoredEntry;
  /** Whether its node is away. */
  readonly isOrphaned: boolean;
  /** A report that is newer than the entry. */
  readonly load: LoadView | undefined;
}

/** An entry as its upstream shows it. */
export interface UpstreamEntry {
  readonly bytes: Uint8Array;
  /** Whether its node is away, which its bytes do not say. */
  readonly isOrphaned: boolean;
}

/** Is told what the upstream says there is, whether it is new or not. */
export interface WatchedNews {
  /** What there is of a key. Undefined: nothing. */
  told(key: KeyText, entry: UpstreamEntry | undefined): void;
  /** In these namespaces there is nothing but these keys. */
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
  /** The newest reports beside what entries say of their load. */
  readonly loads = new Map<KeyText, LoadView>();
  /** Set while somebody compares what is held with the upstream. */
  onTouch: OnTouch | undefined;
  readonly #options: WatchedCatalogOptions;
  /** Records come without stamps. Those of this clock stand for the time at which they arrived. */
  readonly #hlc = new Hlc();

  constructor(options: WatchedCatalogOptions) {
    this.#options = options;
  }

  /** Entries that are held, also those that the owners' rules hide. */
  get entryCount(): number {
    const { recordCount, tombstoneCount } = this.#options.replica;
    return recordCount - tombstoneCount;
  }

  /** Takes in a message of a watch. Throws `invalid_argument` for what no server of ours can have sent; what it said before that stays. */
  hear(watch: UpstreamWatch, message: UpstreamWatchMessage, time: Time): void {
    const { snapshot, deltas, replaces, place, ageMs } = message;
    // Not for single changes: a server that waits for what the place names tells others meanwhile.
    if (snapshot !== SNAPSHOT.NONE || ageMs !== undefined) watch.silentMs = 0;
    if (snapshot === SNAPSHOT.BEGIN) {
      watch.staged = { namespaces: replaces.length === 0 ? undefined : replaces, seen: new Set() };
      this.#options.bookmarks.clear();
      if (watch.admission !== "admitted") watch.sizes.clear();
    } else if (snapshot !== SNAPSHOT.NONE && watch.staged === undefined) throw misplaced("a snapshot that goes on before it began");
    for (const delta of deltas) this.#change(watch, delta, time);
    if (watch.isCounting) {
      if (snapshot === SNAPSHOT.END) watch.admission = "whole";
      return;
    }
    if (snapshot === SNAPSHOT.END) this.#end(watch, time);
    if (watch.staged !== undefined || watch.isFrozen) return;
    // Nothing is missing up to here, also where the upstream, a resolver, names no place.
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

  /** Reads an entry as an upstream shows it. Throws `invalid_argument` for what no server of ours can have sent. */
  read(shown: Uint8Array): DecodedEntry {
    const { stamper } = this.#options;
    const { storedBytes, isOrphaned, load } = stamper.isSealed === true ? asSealed(shown) : readShown(shown);
    const entry = shown.subarray(0, storedBytes);
    const stamped = stamper.entryOfStored(entry);
    if (stamped.scope === SCOPE.LOCAL) throw misplaced("a LOCAL entry");
    return { entry, stamped, isOrphaned, load };
  }

  /** Of the namespaces that were followed only these are followed from now on. What is not held must not be taken for absent. */
  drop(followed: NamespacePrefixes, kept: NamespacePrefixes, time: Time): void {
    const { replica, bookmarks } = this.#options;
    for (const stored of this.#entries((namespace) => followed.covers(namespace) && !kept.covers(namespace))) {
      this.#touch(stored);
      this.loads.delete(stored.key);
      replica.withdraw(stored, time);
    }
    bookmarks.clear();
  }

  /** How much is held of these namespaces. Cost: all that is held. */
  sizeOf(isIn: (namespace: string) => boolean): CacheWeight {
    const known = new Map<string, boolean>();
    const entries = this.#entries((namespace) => {
      const is = known.get(namespace) ?? isIn(namespace);
      known.set(namespace, is);
      return is;
    });
    return { entries: entries.length, bytes: entries.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0) };
  }

  /** Lets the entries of these keys go, of which nobody was told. */
  forget(keys: ReadonlySet<string>, time: Time): void {
    for (const stored of this.#entries(() => true)) {
      if (!keys.has(stored.key)) continue;
      this.loads.delete(stored.key);
      this.#options.replica.withdraw(stored, time);
    }
  }

  #touch({ key, namespace }: Pick<CatalogRecord, "key" | "namespace">): void {
    // HOT: once a change of the upstream; nearly always nobody compares.
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
    if (!watch.prefixes.covers(stamped.namespace)) throw misplaced(`an entry of ${stamped.namespace}, which this watch does not ask for`);
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
    if (!watch.prefixes.covers(key.namespace)) throw misplaced(`a key of ${key.namespace}, which this watch does not ask for`);
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

  /** The end of a snapshot: what it speaks for and did not list is gone. */
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

  /** The entries of these namespaces, also those that the owners' rules hide. Cost: all that are held. */
  #entries(isIn: (namespace: string) => boolean): readonly StoredRecord[] {
    // One that was told again under its number has a place in the log for each time.
    const entries = new Set<StoredRecord>();
    for (const { log } of this.#options.replica.origins.values())
      log.forEachSince(0, (stored) => {
        if (stored.body === BODY.ENTRY && isIn(stored.namespace)) entries.add(stored);
        return true;
      });
    return [...entries];
  }

  /** A sealed record is stamped with its version. */
  #head(seq: number, scope: StoredRecord["scope"], { wallMs }: Time, version = this.#hlc.stamp(wallMs)) {
    return { seq, hlc: version, firstSeq: seq, filterSeq: seq, reach: scope, principal: "", unregisteredHlc: undefined };
  }
}

/** To what is sealed nothing is added when it is shown. */
function asSealed({ length }: Uint8Array): ReturnType<typeof readShown> {
  return { storedBytes: length, isOrphaned: false, load: undefined };
}

// How much a first snapshot brings, for each of the prefixes that it is asked for. It is known before what arrives is kept, and also where that is not kept.

const NONE: CacheWeight = { entries: 0, bytes: 0 };

class PrefixSizes {
  readonly #prefixes: readonly string[];
  readonly #byPrefix = new Map<string, { entries: number; bytes: number }>();
  /** The namespace that was counted last: a snapshot comes one namespace after the other. */
  #last = { namespace: "", prefix: "" };

  constructor({ list }: NamespacePrefixes) {
    this.#prefixes = list;
  }

  /** Counts an entry of a namespace below one of the prefixes. HOT: once an entry of a first snapshot. */
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

  /** What arrived below a prefix. */
  of(prefix: string): CacheWeight {
    return this.#byPrefix.get(prefix) ?? NONE;
  }

  clear(): void {
    this.#byPrefix.clear();
  }
}
