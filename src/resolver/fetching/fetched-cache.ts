/**
 * What a resolver fetched by namespace and name, of all kinds at once, within its bounds: the entries for lookups, and how good each answer is (semantics.md, Resolver 12).
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
  /** Of all answers that arrived. */
  readonly number: number;
  readonly namespace: string;
  readonly content: readonly CatalogRecord[];
  /** The narrowest scope of the entries of each kind that has any. */
  readonly scopes: ReadonlyMap<Kind, Scope>;
  /** The narrowest of them all. Undefined if there are no entries. */
  readonly narrowest: Scope | undefined;
  /** Its age when it arrived, by the account of the server, in ms. */
  readonly ageMs: number;
  readonly arrivedMonoMs: number;
  isOutdated: boolean;
  /** Whether the server called its answer stale. */
  readonly isStale: boolean;
  /** Nodes that the age does not include, as reported by the server. */
  readonly unreachable: UnreachableNodes | undefined;
  /** The number of changes of policy before it arrived. */
  readonly policyCount: number;
}

/** What is known of a name. `miss`: nothing that may be served. */
export type CachedName =
  | { readonly state: "miss" }
  | { readonly state: Exclude<AnswerState, "miss">; readonly name: FetchedName; readonly ageMs: number; readonly isNegative: boolean };

export interface FetchedParts {
  /** The slab of what is followed: answers are made from one. */
  readonly slab: Slab;
  readonly stamper: Pick<EntryStamper, "entryOfStored">;
  /** Holds the names. What it evicts is to be told to `evicted`. */
  readonly cache: BoundedCache<FetchedName>;
  readonly ttls: FetchTtls;
  /** 0 means without end. */
  readonly maxStaleMs: number;
}

/** Bytes of a record with its places in the lookup, beside the bytes of its entry. */
export const RECORD_BYTES = 600;
const MISS: CachedName = { state: "miss" };
/** How long an answer that is not kept stays for those that waited for it, and how many such answers stay at most. */
const PASSING_MS = 1000;
const MAX_PASSING = 1000;

export class FetchedCache implements WatchedNews {
  /** The entries of all answers that are kept, for lookups. */
  readonly lookup = new EntryIndex();
  readonly loads = new Map<KeyText, LoadView>();
  /** When the oldest entry was true, by monotonic ms, as the last `prune` found it. `NEVER` if there was none. */
  oldestMonoMs = NEVER;
  readonly #parts: FetchedParts;
  readonly #fetches: SharedFetches<readonly CatalogRecord[]>;
  #policyCount = 0;
  #arrivalCount = 0;
  /** The answer that whoever waited is told of now. What they make of it they make at once, because there may be no room to keep it. */
  #arriving: { readonly key: string; readonly answer: FetchedName } | undefined;
  /** Answers that found no room, for those that waited for them; the oldest first. Nobody else is served from them. */
  readonly #passing = new Map<string, FetchedName>();

  constructor(parts: FetchedParts) {
    this.#parts = parts;
    this.#fetches = new SharedFetches(parts.ttls, parts.maxStaleMs);
  }

  /** Whether as many names are being fetched as may be. */
  get isBusy(): boolean {
    return this.#fetches.isFull;
  }

  /** No upstream says anything since then; see `SharedFetches`. */
  onSilence(sinceMonoMs: number, { monoMs }: Time): void {
    this.#fetches.onSilence(sinceMonoMs, monoMs);
  }

  /** What is known of a name, for somebody who may see its namespace. It counts as asked for. */
  ask(name: QueriedName, time: Time, cutOffMonoMs: number | undefined): CachedName {
    return this.#known(this.#parts.cache.ask(textOf(name)), name.kind, time, cutOffMonoMs);
  }

  /** The same for somebody who has waited for the name, also for an answer that found no room. It does not count. */
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

  /** Whether the answer to a name is here, however old it is. */
  has(name: WholeName): boolean {
    return this.#peek(name) !== undefined;
  }

  /** As `fetchedMark` of the machine. */
  markOf(name: WholeName): number | undefined {
    const known = this.#peek(name);
    return known && (known.isOutdated || known.policyCount !== this.#policyCount ? 0 : known.number);
  }

  /** How long the answer to a name stays fresh, in ms; 0 or less when that is over. Undefined if it is not here. */
  leftMs(name: QueriedName, { monoMs }: Time): number | undefined {
    const known = this.#peek(name);
    if (known === undefined) return undefined;
    if (known.isOutdated || known.policyCount !== this.#policyCount) return 0;
    return this.#fetches.ttlMs(scopeOf(known, name.kind)) - (monoMs - known.arrivedMonoMs);
  }

  /** Waits for a name. Returns whether it is to be fetched now. Throws `not_ready` if too many are being fetched. */
  wait(name: WholeName, told: (outcome: FetchOutcome<readonly CatalogRecord[]>) => void): boolean {
    return this.#fetches.wait(textOf(name), told);
  }

  /**
   * The encoded entries of a name arrived, as the server shows them. Throws `invalid_argument` for what no server of ours can have sent; the fetch is then to
   * be told as failed.
   */
  arrived(
    name: WholeName,
    entries: readonly Uint8Array[],
    { ageMs, isStale, unreachable }: Pick<FetchedPage, "ageMs" | "isStale" | "unreachable">,
    { monoMs }: Time,
  ): void {
    const key = textOf(name);
    const shown = entries.map((bytes) => this.#read(name, bytes));
    this.#let(this.#parts.cache.take(key));
    this.#pass(key);
    this.#passUntil(monoMs - PASSING_MS);
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
   * A watch told what there is of a key. The answer to its name that differs is stale, and that nothing exists is not said any more: the namespace may be
   * followed no more while that answer still has its time.
   */
  told(key: KeyText, entry: UpstreamEntry | undefined): void {
    // HOT: once a change of what is followed, of which hardly anything was fetched.
    const name = textOfKey(key);
    this.#fetches.changed(name);
    const known = this.#parts.cache.peek(name);
    if (known !== undefined && !this.#has(known, key, entry)) known.isOutdated = true;
  }

  /** A watch told all that there is in some namespaces. */
  listed(isIn: (namespace: string) => boolean, keys: ReadonlySet<KeyText>): void {
    for (const [, known] of this.#parts.cache.items())
      if (isIn(known.namespace) && !known.content.every(({ key }) => keys.has(key))) known.isOutdated = true;
    this.#fetches.changedIn((key) => isIn(namespaceOf(key)));
  }

  /** Everything that was fetched so far, or is being fetched, is asked for again: another policy may show something else. Cost: that, and the fetches under way. */
  outdate(): void {
    this.#policyCount += 1;
    this.#fetches.changedIn(() => true);
  }

  /** What was fetched below these prefixes, or is being fetched, is asked for again. */
  outdateBelow(prefixes: NamespacePrefixes): void {
    for (const [, known] of this.#parts.cache.items()) if (prefixes.covers(known.namespace)) known.isOutdated = true;
    this.#fetches.changedIn((key) => prefixes.covers(namespaceOf(key)));
  }

  /** Nothing that was fetched below these prefixes is kept. Returns the number of the entries. */
  drop(prefixes: NamespacePrefixes): number {
    let entryCount = 0;
    for (const [key, known] of this.#parts.cache.items().toArray()) {
      if (!prefixes.covers(known.namespace)) continue;
      entryCount += known.content.length;
      this.#let(this.#parts.cache.take(key));
    }
    for (const [key, known] of this.#passing) if (prefixes.covers(known.namespace)) this.#pass(key);
    return entryCount;
  }

  /** The cache let a name go. */
  evicted(name: FetchedName): void {
    this.#let(name);
  }

  /** Drops what may not be served any more. */
  prune({ monoMs }: Time, cutOffMonoMs: number | undefined): void {
    this.#passUntil(monoMs - PASSING_MS);
    this.oldestMonoMs = NEVER;
    for (const [key, known] of this.#parts.cache.items().toArray())
      if (this.#fetches.stateOf(known, scopeOf(known, undefined), monoMs, cutOffMonoMs) === "miss") this.#let(this.#parts.cache.take(key));
      else if (known.content.length > 0) this.oldestMonoMs = Math.min(this.oldestMonoMs, known.arrivedMonoMs - known.ageMs);
  }

  /** Lets go of answers that arrived before then. */
  #passUntil(monoMs: number): void {
    for (const [key, { arrivedMonoMs }] of this.#passing)
      if (arrivedMonoMs < monoMs || this.#passing.size > MAX_PASSING) this.#pass(key);
      else break;
  }

  #pass(key: string): void {
    this.#let(this.#passing.get(key));
    this.#passing.delete(key);
  }

  #peek(name: WholeName): FetchedName | undefined {
    const key = textOf(name);
    return this.#arriving?.key === key ? this.#arriving.answer : this.#parts.cache.peek(key);
  }

  /** Whether the answer to a name says of a key that this is there. */
  #has({ content }: FetchedName, key: KeyText, entry: UpstreamEntry | undefined): boolean {
    const record = content.find((one) => one.key === key);
    if (record === undefined || entry === undefined) return record === undefined && entry === undefined;
    const isSameLife = (record.origin.life === "orphaned") === entry.isOrphaned;
    return isSameLife && equalBytes(this.#parts.slab.view(record.at, record.sizeBytes), entry.bytes);
  }

  #let(name: FetchedName | undefined): void {
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
      throw misplaced(`an entry of ${entry.namespace} ${entry.name}, which was not asked for`);
    const life: OriginStatus = isOrphaned ? "orphaned" : "live";
    return { entry, stored, life, load };
  }
}

/** An answer says nothing of numbers and stamps. One literal makes all records alike to V8, so that a query reads their fields fast. */
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

/** The narrowest scope of the entries of a kind, or of all kinds. Undefined if there are none. */
function scopeOf({ scopes, narrowest }: FetchedName, kind: Kind | undefined): Scope | undefined {
  return kind === undefined ? narrowest : scopes.get(kind);
}

function narrower(a: Scope | undefined, b: Scope): Scope {
  return a === undefined || b < a ? b : a;
}

/** A name as text: `namespace \0 name`, as the text of each of its keys begins. */
function textOf({ namespace, name }: WholeName): string {
  return `${namespace}\0${name}`;
}

/** `textOf` of the name of a key. HOT: once a change of what is followed. */
function textOfKey(key: KeyText): string {
  return key.slice(0, key.indexOf("\0", key.indexOf("\0") + 1));
}

/** The first three parts of the key of an entry. */
function namespaceOf(key: string): string {
  return key.slice(0, key.indexOf("\0"));
}
