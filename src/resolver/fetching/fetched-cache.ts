/**
 * The answers that a resolver fetched by namespace and name, for all kinds of entries, bounded in size. It stores the entries for lookups and the
 * quality of each answer (semantics.md, Resolver 12).
 */

import type { EntryStamper, StoredEntry } from "../../catalog/entry/codec.ts";
import { SCOPE, type Scope } from "../../catalog/entry/scope.ts";
import type { LoadView } from "../../catalog/entry/view.ts";
import { readShown } from "../../catalog/entry/view.ts";
import { EntryIndex } from "../../catalog/query/entry-index.ts";
import type { QueriedName, WholeName } from "../../catalog/query/instances.ts";
import type { NamespacePrefixes } from "../../catalog/query/prefixes.ts";
import { BODY, type CatalogRecord, type KeyText, type Kind, type OriginRef, type OriginStatus } from "../../catalog/record/record.ts";
import type { Slab } from "../../catalog/record/slab.ts";
import type { UnreachableNodes } from "../../catalog/unreachable-nodes.ts";
import type { AnswerState } from "../../consumer/answer-state.ts";
import { equalBytes } from "../../lib/crypto.ts";
import type { WaymarkError } from "../../lib/errors.ts";
import { NEVER, type Time } from "../../lib/machine.ts";
import { misplaced } from "../../lib/protowire.ts";
import type { BoundedCache } from "../cache/bounded-cache.ts";
import type { FetchedPage } from "../codec.ts";
import type { UpstreamEntry, WatchedNews } from "../watching/watched-catalog.ts";
import { type FetchOutcome, type FetchTtls, SharedFetches } from "./shared-fetches.ts";

/** The answer to one name. */
export interface FetchedName {
  /** Sequence number among all received answers. */
  readonly number: number;
  readonly namespace: string;
  readonly content: readonly CatalogRecord[];
  /** The narrowest entry scope for each kind that has entries. */
  readonly scopes: ReadonlyMap<Kind, Scope>;
  /** The narrowest scope among all entries. Undefined if there are no entries. */
  readonly narrowest: Scope | undefined;
  /** Age on arrival, as reported by the server, in ms. */
  readonly ageMs: number;
  readonly arrivedMonoMs: number;
  isOutdated: boolean;
  /** Whether the server marked its answer as stale. */
  readonly isStale: boolean;
  /** Nodes that are excluded from the age, as reported by the server. */
  readonly unreachable: UnreachableNodes | undefined;
  /** Number of policy changes that preceded the answer. */
  readonly policyCount: number;
}

/** The cached state of a name. `miss` means that there is no answer that can be served. */
export type CachedName =
  | { readonly state: "miss" }
  | { readonly state: Exclude<AnswerState, "miss">; readonly name: FetchedName; readonly ageMs: number; readonly isNegative: boolean };

export interface FetchedParts {
  /** The slab of the followed entries, because answers are built from one slab. */
  readonly slab: Slab;
  readonly stamper: Pick<EntryStamper, "entryOfStored">;
  /** Stores the names. The caller passes evicted names to `evicted`. */
  readonly cache: BoundedCache<FetchedName>;
  readonly ttls: FetchTtls;
  /** 0 means no limit. */
  readonly maxStaleMs: number;
}

/** Size of a record and its references in the lookup, in bytes, excluding the entry itself. */
export const RECORD_BYTES = 600;
const MISS: CachedName = { state: "miss" };
/** How long an answer that did not fit into the cache remains available to the callers that waited for it, and the maximum number of such answers. */
const PASSING_MS = 1000;
const MAX_PASSING = 1000;

export class FetchedCache implements WatchedNews {
  /** The entries of all cached answers, for lookups. */
  readonly lookup = new EntryIndex();
  readonly loads = new Map<KeyText, LoadView>();
  /** Monotonic time at which the oldest entry was current, as determined by the last `prune`. `NEVER` if there were no entries. */
  oldestMonoMs = NEVER;
  readonly #parts: FetchedParts;
  readonly #fetches: SharedFetches<readonly CatalogRecord[]>;
  #policyCount = 0;
  #arrivalCount = 0;
  /** The answer that is being delivered to waiting callers. Callers must use it within the callback, because there may be no room to store it. */
  #arriving: { readonly key: string; readonly answer: FetchedName } | undefined;
  /** Answers that did not fit into the cache and are kept only for the callers that waited for them, oldest first. */
  readonly #passing = new Map<string, FetchedName>();

  constructor(parts: FetchedParts) {
    this.#parts = parts;
    this.#fetches = new SharedFetches(parts.ttls, parts.maxStaleMs);
  }

  /** Whether the limit on running fetches has been reached. */
  get isBusy(): boolean {
    return this.#fetches.isFull;
  }

  /** Records that no upstream has sent a message since this time. See `SharedFetches`. */
  onSilence(sinceMonoMs: number, { monoMs }: Time): void {
    this.#fetches.onSilence(sinceMonoMs, monoMs);
  }

  /** Returns the cached state of a name for a caller that may see its namespace. Counts as a request. */
  ask(name: QueriedName, time: Time, cutOffMonoMs: number | undefined): CachedName {
    return this.#known(this.#parts.cache.ask(textOf(name)), name.kind, time, cutOffMonoMs);
  }

  /**
   * Returns the cached state of a name for a caller that waited for it, including an answer that did not fit into the cache. The call is not counted
   * as a request.
   */
  look(name: QueriedName, time: Time, cutOffMonoMs: number | undefined): CachedName {
    return this.#known(this.#peek(name), name.kind, time, cutOffMonoMs);
  }

  #known(answer: FetchedName | undefined, kind: Kind | undefined, { monoMs }: Time, cutOffMonoMs: number | undefined): CachedName {
    if (answer === undefined) return MISS;
    if (answer.policyCount !== this.#policyCount) answer.isOutdated = true;
    const scope = scopeOf(answer, kind);
    const state = this.#fetches.stateOf(answer, scope, monoMs, cutOffMonoMs);
    if (state === "miss") return MISS;
    return { state, name: answer, ageMs: answer.ageMs + monoMs - answer.arrivedMonoMs, isNegative: scope === undefined };
  }

  /** Returns whether there is an answer for a name, regardless of its age. */
  has(name: WholeName): boolean {
    return this.#peek(name) !== undefined;
  }

  /** See `fetchedMark` of the machine. */
  markOf(name: WholeName): number | undefined {
    const known = this.#peek(name);
    return known && (known.isOutdated || known.policyCount !== this.#policyCount ? 0 : known.number);
  }

  /**
   * Returns the time for which the answer remains fresh, in ms, or a value of 0 or less once it is stale. Returns undefined if there is no answer.
   */
  leftMs(name: QueriedName, { monoMs }: Time): number | undefined {
    const known = this.#peek(name);
    if (known === undefined) return undefined;
    if (known.isOutdated || known.policyCount !== this.#policyCount) return 0;
    return this.#fetches.ttlMs(scopeOf(known, name.kind)) - (monoMs - known.arrivedMonoMs);
  }

  /** Registers a caller that waits for a name. Returns whether the caller must start the fetch. Throws `not_ready` if too many fetches are running. */
  wait(name: WholeName, onOutcome: (outcome: FetchOutcome<readonly CatalogRecord[]>) => void): boolean {
    return this.#fetches.wait(textOf(name), onOutcome);
  }

  /**
   * Stores the encoded entries of a name as sent by the server. Throws `invalid_argument` for malformed entries; the caller must then report the
   * fetch as failed.
   */
  arrived(
    name: WholeName,
    entries: readonly Uint8Array[],
    { ageMs, isStale, unreachable }: Pick<FetchedPage, "ageMs" | "isStale" | "unreachable">,
    { monoMs }: Time,
  ): void {
    const key = textOf(name);
    const shown = entries.map((bytes) => this.#read(name, bytes));
    this.#release(this.#parts.cache.take(key));
    this.#dropPassing(key);
    this.#dropPassingBefore(monoMs - PASSING_MS);
    const scopes = new Map<Kind, Scope>();
    const origins = new Map<string, OriginRef>();
    let narrowest: Scope | undefined;
    let bytes = 0;
    const content = shown.map(({ entry, stored, life, load }) => {
      const { kind, scope, traits } = entry;
      scopes.set(kind, narrower(scopes.get(kind), scope));
      narrowest = narrower(narrowest, scope);
      bytes += stored.length + RECORD_BYTES;
      const whose = `${life} ${traits.nodeId}`;
      const origin = origins.get(whose) ?? { id: `${traits.nodeId}/0`, nodeId: traits.nodeId, generation: 0, life };
      origins.set(whose, origin);
      const record = recordOf(entry, { origin, at: this.#parts.slab.put(stored), sizeBytes: stored.length });
      this.lookup.put(record);
      if (load !== undefined) this.loads.set(entry.key, load);
      return record;
    });
    const answer = { content, scopes, narrowest, ageMs, arrivedMonoMs: monoMs };
    this.#arrivalCount += 1;
    const kept: FetchedName = {
      ...answer,
      number: this.#arrivalCount,
      namespace: name.namespace,
      isStale,
      unreachable,
      isOutdated: this.#fetches.hasChanged(key),
      policyCount: this.#policyCount,
    };
    this.#arriving = { key, answer: kept };
    this.#fetches.ended(key, { answer });
    this.#arriving = undefined;
    if (!this.#parts.cache.put(key, kept, { entries: content.length, bytes })) this.#passing.set(key, kept);
  }

  failed(name: WholeName, error: WaymarkError): void {
    this.#fetches.ended(textOf(name), { error });
  }

  /**
   * Records the current entry of a key, as received from a watch. A fetched answer that contradicts this entry becomes outdated, because the resolver
   * may stop following the namespace while the answer is still fresh.
   */
  told(key: KeyText, entry: UpstreamEntry | undefined): void {
    // HOT: runs per change of a followed entry. Only a few of these entries were also fetched.
    const name = textOfKey(key);
    this.#fetches.changed(name);
    const known = this.#parts.cache.peek(name);
    if (known !== undefined && !this.#has(known, key, entry)) known.isOutdated = true;
  }

  /** Records all keys of some namespaces, as received from a watch. */
  listed(isIn: (namespace: string) => boolean, keys: ReadonlySet<KeyText>): void {
    for (const [, known] of this.#parts.cache.items())
      if (isIn(known.namespace) && !known.content.every(({ key }) => keys.has(key))) known.isOutdated = true;
    this.#fetches.changedIn((key) => isIn(namespaceOf(key)));
  }

  /**
   * Marks all fetched answers and running fetches as outdated, because a different policy may show different entries. The cost is proportional to the
   * number of running fetches.
   */
  outdate(): void {
    this.#policyCount += 1;
    this.#fetches.changedIn(() => true);
  }

  /** Marks answers and running fetches below these prefixes as outdated. */
  outdateBelow(prefixes: NamespacePrefixes): void {
    for (const [, known] of this.#parts.cache.items()) if (prefixes.covers(known.namespace)) known.isOutdated = true;
    this.#fetches.changedIn((key) => prefixes.covers(namespaceOf(key)));
  }

  /** Removes the answers below these prefixes. Returns the number of removed entries. */
  drop(prefixes: NamespacePrefixes): number {
    let entryCount = 0;
    for (const [key, known] of this.#parts.cache.items().toArray()) {
      if (!prefixes.covers(known.namespace)) continue;
      entryCount += known.content.length;
      this.#release(this.#parts.cache.take(key));
    }
    for (const [key, known] of this.#passing) if (prefixes.covers(known.namespace)) this.#dropPassing(key);
    return entryCount;
  }

  /** Must be called when the cache evicts a name. */
  evicted(name: FetchedName): void {
    this.#release(name);
  }

  /** Removes answers that must no longer be served. */
  prune({ monoMs }: Time, cutOffMonoMs: number | undefined): void {
    this.#dropPassingBefore(monoMs - PASSING_MS);
    this.oldestMonoMs = NEVER;
    for (const [key, known] of this.#parts.cache.items().toArray())
      if (this.#fetches.stateOf(known, scopeOf(known, undefined), monoMs, cutOffMonoMs) === "miss")
        this.#release(this.#parts.cache.take(key));
      else if (known.content.length > 0) this.oldestMonoMs = Math.min(this.oldestMonoMs, known.arrivedMonoMs - known.ageMs);
  }

  /** Removes temporary answers that arrived before this time. */
  #dropPassingBefore(monoMs: number): void {
    for (const [key, { arrivedMonoMs }] of this.#passing)
      if (arrivedMonoMs < monoMs || this.#passing.size > MAX_PASSING) this.#dropPassing(key);
      else break;
  }

  #dropPassing(key: string): void {
    this.#release(this.#passing.get(key));
    this.#passing.delete(key);
  }

  #peek(name: WholeName): FetchedName | undefined {
    const key = textOf(name);
    return this.#arriving?.key === key ? this.#arriving.answer : this.#parts.cache.peek(key);
  }

  /** Returns whether an answer contains exactly this entry for a key, or no entry if `entry` is undefined. */
  #has({ content }: FetchedName, key: KeyText, entry: UpstreamEntry | undefined): boolean {
    const record = content.find((one) => one.key === key);
    if (record === undefined || entry === undefined) return record === undefined && entry === undefined;
    const isSameLife = (record.origin.life === "orphaned") === entry.isOrphaned;
    return isSameLife && equalBytes(this.#parts.slab.view(record.at, record.sizeBytes), entry.bytes);
  }

  #release(name: FetchedName | undefined): void {
    for (const record of name?.content ?? []) {
      this.lookup.remove(record);
      this.loads.delete(record.key);
      this.#parts.slab.free(record.at, record.sizeBytes);
    }
  }

  #read(name: WholeName, bytes: Uint8Array) {
    const { storedBytes, isOrphaned, load } = readShown(bytes);
    const stored = bytes.subarray(0, storedBytes);
    const entry = this.#parts.stamper.entryOfStored(stored);
    if (entry.namespace !== name.namespace || entry.name !== name.name || entry.scope === SCOPE.LOCAL)
      throw misplaced(`entry ${entry.namespace} ${entry.name} has scope LOCAL or was not requested`);
    const life: OriginStatus = isOrphaned ? "orphaned" : "live";
    return { entry, stored, life, load };
  }
}

/**
 * Builds the record for a fetched entry, which has no numbers or stamps. One object literal gives all records the same hidden class in V8, so that
 * queries read their fields quickly.
 */
function recordOf(entry: StoredEntry, place: Pick<CatalogRecord, "at" | "origin" | "sizeBytes">): CatalogRecord {
  return {
    key: entry.key,
    namespace: entry.namespace,
    name: entry.name,
    kind: entry.kind,
    scope: entry.scope,
    reach: entry.scope,
    health: entry.health,
    traits: entry.traits,
    contentBytes: entry.contentBytes,
    origin: place.origin,
    at: place.at,
    sizeBytes: place.sizeBytes,
    body: BODY.ENTRY,
    seq: 0,
    hlc: 0,
    firstSeq: 0,
    filterSeq: 0,
    revision: 0,
    principal: "",
  };
}

/** Returns the narrowest scope among the entries of one kind or of all kinds. Undefined without entries. */
function scopeOf({ scopes, narrowest }: FetchedName, kind: Kind | undefined): Scope | undefined {
  return kind === undefined ? narrowest : scopes.get(kind);
}

function narrower(a: Scope | undefined, b: Scope): Scope {
  return a === undefined || b < a ? b : a;
}

/** Encodes a name as `namespace \0 name`, which is the prefix of the text of each of its keys. */
function textOf({ namespace, name }: WholeName): string {
  return `${namespace}\0${name}`;
}

/** Returns `textOf` for the name of a key. HOT: runs per change of a followed entry. */
function textOfKey(key: KeyText): string {
  return key.slice(0, key.indexOf("\0", key.indexOf("\0") + 1));
}

/** Returns the namespace of a key or name. */
function namespaceOf(key: string): string {
  return key.slice(0, key.indexOf("\0"));
}
