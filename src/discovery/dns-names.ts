/**
 * The index that DNS needs in addition to entries: which names have descendants, and which entries have an alias. The validity of an alias is
 * determined for each question under the current policy (`alias-claim.ts`).
 */

import { decodeEntry } from "../catalog/entry/codec.ts";
import type { EntryIndex } from "../catalog/query/entry-index.ts";
import { type NameSampling, sampleOf } from "../catalog/query/instances.ts";
import { isAtOrBelow, isEndBefore, SortedBlocks, suffixesOf } from "../catalog/query/sorted-blocks.ts";
import { type CatalogRecord, type KeyText, KIND, nameOfKey, type OriginStatus } from "../catalog/record/record.ts";
import { StoredRecord } from "../catalog/record/stored-record.ts";
import type { Replica } from "../catalog/replica/replica.ts";
import type { AddressBlock, IpAddress } from "../lib/addresses.ts";
import { hasField } from "../lib/protowire.ts";
import { AddressNames } from "./address-names.ts";
import { claimantOf, claimOf, isSingleLabel, namesOf, type ParsedAliasClaim, readClaimant } from "./alias-claim.ts";
import { AliasIndex, type AliasRun, isRunBefore, namespaceOfRun } from "./alias-index.ts";
import { type ViewerClass, VisibleNames } from "./visible-names.ts";

/** Field number of Entry.aliases. */
const ALIASES = 9;
/** Maximum number of aliases below one name that are checked. If there are more, the name is assumed to exist. */
const MAX_CLAIMS = 256;

/** Number of hidden namespaces and claims that a search skips before it creates a list of the visible ones. */
const MAX_SKIPPED = 8;

/**
 * Maximum number of services that an answer includes for one alias. The first service in key order has precedence, unless its name cannot be
 * expressed in DNS.
 */
const MAX_ALIAS_SERVICES = 4;

/** The part of the catalog that is visible to the client that asked the question. */
export interface NameView {
  readonly sees: (namespace: string) => boolean;
  readonly counts: (claim: ParsedAliasClaim) => boolean;
  /** Whether an alias with this name is visible, regardless of which entry has it. Undefined if every alias is visible. */
  readonly seesName?: (name: string) => boolean;
  /**
   * The class of the viewer, so that the time of a search does not depend on entries that are hidden from the viewer. Undefined if no entries are
   * hidden or the time does not matter.
   */
  readonly viewerClass?: ViewerClass | undefined;
}

export interface FoundAlias {
  readonly records: readonly CatalogRecord[];
  /** Whether there are more records, so another `at` may find different ones. */
  readonly isSample: boolean;
}

/**
 * Entries of a resolver that lookups find even though they are not in the replica. Their bytes are in the replica's slab, and none of their keys is
 * visible in the replica.
 */
export interface SupplementaryEntries {
  readonly lookup: EntryIndex;
  /** Whether lookups show entries of a namespace. */
  shows(namespace: string): boolean;
  /** Returns the keys that were added or removed since the last call. */
  takeTouched(): Iterable<KeyText>;
}

/** Receives each change that affects DNS names, immediately after the change. */
export interface NameObserver {
  /** An entry of a name was added, removed or changed. `name`: as in `nameOfKey`. */
  entryChanged(name: string): void;
  /** An entry that has or had this alias was added, removed or changed. `alias`: in plain form. */
  aliasChanged(alias: string): void;
  /**
   * An entry that has or had a target at this address was added, removed or changed. `address`: in `addressText` form. Called only for addresses in
   * reverse zones.
   */
  addressChanged(address: string): void;
  /** A namespace or an alias claim was added or removed at or below this name. `suffix`: in plain form. */
  belowChanged(suffix: string): void;
  /** An origin's node became reachable or unreachable, so the answers for its entries change even though no record has changed. */
  originChanged(id: string): void;
  /** Called if it is unknown which names have changed. */
  everythingChanged(): void;
}

/** The parts of the replica that this index uses. */
export type NamedReplica = Pick<
  Replica,
  "changesSince" | "collectedRevision" | "lookup" | "origins" | "revision" | "slab" | "view" | "winner"
>;

const NO_KEYS: ReadonlySet<KeyText> = new Set();
const NO_RECORDS: FoundAlias = { records: [], isSample: false };

export class DnsNames {
  /** The lists of entries. No key is in more than one list. */
  readonly lookups: readonly EntryIndex[];
  readonly #replica: NamedReplica;
  readonly #supplementary: SupplementaryEntries | undefined;
  /** Everything up to this revision is indexed. */
  #revision = 0;
  readonly #zones: readonly string[];
  /** Namespaces with entries, sorted by suffix. */
  readonly #namespaces = new SortedBlocks<string>(isEndBefore);
  readonly #aliases = new AliasIndex((run, isThere) => this.#seen.setRun(run, isThere));
  readonly #seen = new VisibleNames<AliasRun>({
    isBefore: isRunBefore,
    namespaceOf: namespaceOfRun,
    namesOf: ({ alias }) => namesOf(alias, this.#zones),
  });
  readonly #addresses: AddressNames | undefined;
  readonly #followers = new Set<NameObserver>();
  /** The states of origins, as last reported to observers. */
  readonly #originStates = new Map<string, OriginStatus>();

  /** `zones`: used to recognise single labels; in lower case and without a trailing dot. `blocks`: the address blocks of the reverse zones. */
  constructor(
    replica: NamedReplica,
    zones: readonly string[],
    blocks: readonly AddressBlock[] = NONE,
    supplementary?: SupplementaryEntries,
  ) {
    this.lookups = supplementary === undefined ? [replica.lookup] : [replica.lookup, supplementary.lookup];
    this.#replica = replica;
    this.#supplementary = supplementary;
    this.#zones = zones;
    this.#addresses = blocks.length === 0 ? undefined : new AddressNames(blocks);
  }

  /** Whether an alias is a single label, either as written or without one of the zones. Only admins may register such an alias. */
  isSingleLabel(alias: string): boolean {
    return isSingleLabel(plainName(alias), this.#zones);
  }

  /** Notifies the observer of all changes from now on, for as long as this object exists. */
  follow(follower: NameObserver): void {
    this.#followers.add(follower);
  }

  /** Returns all aliases of all entries, in plain form, whether valid or not. */
  aliases(): Iterable<string> {
    return this.#aliases.aliases();
  }

  /** Returns the claims of all aliases, whether valid or not, once for each name that they match. May contain duplicates. */
  *claims(): Generator<ParsedAliasClaim> {
    for (const { alias, namespace, claimant } of this.#aliases.claims())
      for (const name of namesOf(alias, this.#zones)) yield { ...readClaimant(claimant), namespace, name };
  }

  /** Returns all addresses in reverse zones, in `addressText` form. */
  addresses(): Iterable<string> {
    return this.#addresses?.addresses() ?? [];
  }

  /** Indexes new changes, if any. HOT: once per DNS question. */
  catchUp(): void {
    if (this.#replica.revision !== this.#revision) this.refresh();
  }

  /** Indexes the changes since the last call. Cost: O(changed records). */
  refresh(): void {
    const touched = new Set<string>();
    let touchCount = 0;
    this.#replica.changesSince(this.#revision, (stored) => {
      touchCount += 1;
      touched.add(stored.namespace);
      // HOT: runs for each entry when a node starts, so it makes no closure (bench/restart.ts).
      for (const follower of this.#followers) follower.entryChanged(nameOfKey(stored.key));
      this.#set(stored.key, this.#replica.winner(stored) ?? this.#supplementary?.lookup.find(stored.key));
      return true;
    });
    for (const key of this.#supplementary?.takeTouched() ?? []) {
      touched.add(key.slice(0, key.indexOf("\0")));
      this.#notify((follower) => follower.entryChanged(nameOfKey(key)));
      this.#set(key, this.#known(key));
    }
    // A revision that touched no record indicates a change to an origin, unless a record was touched twice.
    if (this.#followers.size > 0 && touchCount < this.#replica.revision - this.#revision) this.#notifyOrigins();
    // Records that were dropped since the last call, for example because their origin was forgotten, are not included in the changes.
    if (this.#revision < this.#replica.collectedRevision) this.#sweep(touched);
    this.#revision = this.#replica.revision;
    for (const namespace of touched)
      this.#setNamespace(
        namespace,
        this.lookups.some((lookup) => lookup.namespaceCount(namespace) > 0),
      );
  }

  #notify(what: (follower: NameObserver) => void): void {
    // HOT: once per changed record, and nearly always with a single gateway.
    for (const follower of this.#followers) what(follower);
  }

  #notifyOrigins(): void {
    for (const { id, life } of this.#replica.origins.values()) {
      if (this.#originStates.get(id) === life) continue;
      this.#originStates.set(id, life);
      this.#notify((follower) => follower.originChanged(id));
    }
    for (const id of this.#originStates.keys()) if (!this.#replica.origins.has(id)) this.#originStates.delete(id);
  }

  #sweep(touched: Set<string>): void {
    this.#notify((follower) => follower.everythingChanged());
    for (const namespace of this.#namespaces.list()) touched.add(namespace);
    for (const key of this.#aliases.keys()) if (this.#known(key) === undefined) this.#setAliases(key, undefined);
    for (const key of this.#addresses?.keys() ?? []) if (this.#known(key) === undefined) this.#setAddresses(key, undefined);
  }

  /** Whether a visible namespace or alias in that zone is `suffix` or ends in `.suffix`. An alias may include the zone. */
  hasNameUnder(suffix: string, zone: string, view: NameView): boolean {
    return this.#isAbove(suffix, 0, view) || this.#isAbove(`${suffix}.${zone}`, zone.length + 1, view);
  }

  /** `zoneChars`: length of the zone at the end of each alias. */
  #isAbove(suffix: string, zoneChars: number, view: NameView, seen = this.#seen.find(view.viewerClass)): boolean {
    // HOT: once per question for a name that does not exist.
    if (!this.#aliases.hasBelow(suffix, seen?.runs) && (zoneChars > 0 || !this.#hasNamespaceBelow(suffix, seen?.namespaces))) return false;
    const { sees, counts, seesName, viewerClass } = view;
    const isSeen = (namespace: string) => sees(namespace) && this.#hasShown(namespace);
    let skippedCount = 0;
    const made = () => (seen === undefined && ++skippedCount === MAX_SKIPPED ? this.#makeSeen(viewerClass) : undefined);
    if (zoneChars === 0)
      for (const namespace of this.#namespacesBelow(suffix, seen?.namespaces)) {
        if (isSeen(namespace)) return true;
        const seenNow = made();
        if (seenNow !== undefined) return this.#isAbove(suffix, zoneChars, view, seenNow);
      }
    let claims = 0;
    for (const { alias, namespace, claimant } of this.#aliases.claimsBelow(suffix, seen?.runs)) {
      const name = alias.slice(0, alias.length - zoneChars);
      // The name must not be assumed to exist only because there are many hidden names.
      if (!isSeen(namespace) || seesName?.(name) === false) {
        const seenNow = made();
        if (seenNow !== undefined) return this.#isAbove(suffix, zoneChars, view, seenNow);
        continue;
      }
      if (counts({ ...readClaimant(claimant), namespace, name })) return true;
      claims += 1;
      if (claims === MAX_CLAIMS) return true;
    }
    return false;
  }

  /**
   * Returns, in key order, the visible records with a valid alias that equals this name, with or without the zone. If many services have the alias,
   * returns only the first few, plus the services whose own name is the parent of the alias. If a service has many records and `sampling` is given,
   * returns a sample. Cost: O(records with the alias).
   */
  findAlias(name: string, zone: string, view: NameView, sampling?: NameSampling): FoundAlias {
    // HOT: once per question for a name that does not exist.
    const aliases = [name, `${name}.${zone}`].filter((alias) => this.#aliases.has(alias));
    const keys = aliases.length === 0 ? NO_KEYS : this.#keysSeen(aliases, view);
    if (keys.size === 0) return NO_RECORDS;
    const aliasOwners: CatalogRecord[] = [];
    for (const key of keys) {
      const record = this.view(key);
      if (record !== undefined && view.counts(claimOf(record, name)) && view.sees(record.namespace)) aliasOwners.push(record);
    }
    const services = [...Map.groupBy(aliasOwners.toSorted(byKey), serviceOf).values()];
    // The sample of each service may contain a thousand records, and clients may register any number of services.
    const used = services.filter((records, at) => at < MAX_ALIAS_SERVICES || isAliasBelow(name, records));
    const sampled = sampling === undefined ? used : used.map((records) => sampleOf(records, sampling).records);
    const isSample = sampled.some((records, at) => records.length < (used[at]?.length ?? 0));
    return { records: sampled.flat().toSorted(byKey), isSample };
  }

  /** Returns the keys of entries in namespaces that the viewer sees. Also tests a few other namespaces, so that `sees` can report hidden ones. */
  #keysSeen(aliases: readonly string[], view: NameView, seen = this.#seen.find(view.viewerClass)): ReadonlySet<KeyText> {
    const keys = new Set<KeyText>();
    let skippedCount = 0;
    for (const alias of aliases) {
      // For the audit log, one hidden namespace is enough.
      const [first] = seen === undefined ? [] : this.#aliases.runsOf(alias);
      if (first !== undefined) view.sees(namespaceOfRun(first));
      for (const run of this.#aliases.runsOf(alias, seen?.runs)) {
        if (view.sees(namespaceOfRun(run))) for (const key of run.keys) keys.add(key);
        else if (seen === undefined && ++skippedCount === MAX_SKIPPED) {
          const made = this.#makeSeen(view.viewerClass);
          if (made !== undefined) return this.#keysSeen(aliases, view, made);
        }
      }
    }
    return keys;
  }

  #makeSeen(viewerClass: ViewerClass | undefined) {
    return viewerClass && this.#seen.make(viewerClass, { namespaces: this.#namespaces, runs: this.#aliases.runs });
  }

  /** Returns the visible entry of a key. */
  view(key: KeyText): CatalogRecord | undefined {
    const shown = this.#replica.view(key);
    if (shown !== undefined || this.#supplementary === undefined) return shown;
    const record = this.#supplementary.lookup.find(key);
    return record !== undefined && this.#supplementary.shows(record.namespace) ? record : undefined;
  }

  /** Returns the keys of the entries that have this alias, whether visible or not. `alias`: in plain form. */
  keysOf(alias: string): Iterable<KeyText> {
    return this.#aliases.keysOf(alias);
  }

  /** Returns the keys of the services and nodes that have a target at this address, whether visible or not, grouped by name. */
  namesAt(address: IpAddress): Iterable<readonly [name: string, keys: Iterable<KeyText>]> {
    return this.#addresses?.namesAt(address) ?? NONE;
  }

  /**
   * Returns the namespaces with entries and the aliases that are `suffix` or end in `.suffix`. Each alias is returned with the namespaces of its
   * entries. The results are in plain form, and may contain duplicates.
   */
  *namesBelow(suffix: string): Generator<{ readonly namespace: string; readonly alias: string | undefined }> {
    for (const namespace of this.#namespacesBelow(suffix)) yield { namespace, alias: undefined };
    yield* this.#aliases.claimsBelow(suffix);
  }

  #hasNamespaceBelow(suffix: string, among = this.#namespaces): boolean {
    const first = among.first((each) => !isEndBefore(each, suffix));
    return first !== undefined && isAtOrBelow(first, suffix);
  }

  *#namespacesBelow(suffix: string, among = this.#namespaces): Generator<string> {
    for (const namespace of among.from((each) => !isEndBefore(each, suffix))) {
      if (!isAtOrBelow(namespace, suffix)) return;
      yield namespace;
    }
  }

  /** Returns the entry of a key, including a supplementary entry that is not visible now. */
  #known(key: KeyText): CatalogRecord | undefined {
    return this.#replica.view(key) ?? this.#supplementary?.lookup.find(key);
  }

  #hasShown(namespace: string): boolean {
    return this.#supplementary === undefined || this.#replica.lookup.namespaceCount(namespace) > 0 || this.#supplementary.shows(namespace);
  }

  #aliasesIn(record: CatalogRecord): ReadonlySet<string> {
    if (record instanceof StoredRecord && !record.mayHaveAliases) return NO_ALIASES;
    const { slab } = this.#replica;
    const bytes = slab.view(record.at, record.sizeBytes);
    // HOT: once per change, and once per entry at a restart. Few entries have aliases, and decoding all entries took a sixth of the restart time.
    if (!hasField(bytes, ALIASES)) return NO_ALIASES;
    return new Set(decodeEntry(bytes, record.origin.life).read("aliases").map(plainName));
  }

  #set(key: KeyText, shown: CatalogRecord | undefined): void {
    this.#setAliases(key, shown);
    if (this.#addresses !== undefined) this.#setAddresses(key, shown);
  }

  #setAddresses(key: KeyText, shown: CatalogRecord | undefined): void {
    const hasName = shown !== undefined && (shown.kind === KIND.SERVICE || shown.kind === KIND.NODE);
    const entry = hasName ? decodeEntry(this.#replica.slab.view(shown.at, shown.sizeBytes), shown.origin.life) : undefined;
    this.#addresses?.set(key, entry, (address) => this.#notify((follower) => follower.addressChanged(address)));
  }

  #setAliases(key: KeyText, shown: CatalogRecord | undefined): void {
    const aliases = shown === undefined ? NO_ALIASES : this.#aliasesIn(shown);
    const claimant = shown === undefined || aliases.size === 0 ? "" : claimantOf(shown);
    const changed = this.#aliases.set(key, aliases, claimant);
    if (changed.aliases.size === 0) return;
    for (const alias of changed.aliases) this.#notify((follower) => follower.aliasChanged(alias));
    for (const alias of changed.claimed) this.#notifyBelow(alias);
  }

  #setNamespace(namespace: string, isThere: boolean): void {
    const [first] = this.#namespacesBelow(namespace);
    if (isThere === (first === namespace)) return;
    if (isThere) this.#namespaces.add(namespace);
    else this.#namespaces.remove(namespace);
    this.#seen.setNamespace(namespace, isThere);
    this.#notifyBelow(namespace);
  }

  #notifyBelow(name: string): void {
    if (this.#followers.size === 0) return;
    for (const suffix of suffixesOf(name)) this.#notify((follower) => follower.belowChanged(suffix));
  }
}

const NONE: readonly never[] = [];
const NO_ALIASES: ReadonlySet<string> = new Set();

/** Returns a name in the form that is used for comparisons. */
export function plainName(name: string): string {
  return name.toLowerCase().replace(/\.$/, "");
}

function byKey(a: CatalogRecord, b: CatalogRecord): number {
  return a.key < b.key ? -1 : 1;
}

function serviceOf({ kind, namespace, name }: CatalogRecord): string {
  return `${namespace}\0${kind}\0${name}`;
}

/** Whether the alias is one label below the service's own name, and is therefore reserved for the service. */
function isAliasBelow(alias: string, [record]: readonly CatalogRecord[]): boolean {
  return record !== undefined && alias.slice(alias.indexOf(".") + 1) === `${record.name}.${record.namespace}`;
}
