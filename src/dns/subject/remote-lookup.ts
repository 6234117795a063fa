/**
 * Defines how DNS looks up entries that a resolver does not watch: names that it fetches on demand, and upstream entries that own an alias or lie below a name.
 * A node has the complete catalog and needs no such lookup.
 */
import type { EntryView } from "../../catalog/entry/view.ts";
import type { InstanceName } from "../../catalog/query/instances.ts";
import type { ParsedAliasClaim } from "../../discovery/alias-claim.ts";
import type { NameView } from "../../discovery/dns-names.ts";
import { WaymarkError } from "../../lib/errors.ts";
import type { Caller } from "../../policy/identity/caller.ts";

/** Thrown when a question cannot be answered until a fetch completes. A caller that does not wait answers SERVFAIL. */
export class PendingNameError extends WaymarkError {
  /** Identifies the fetch. */
  readonly key: string;
  /** Resolves when the fetch succeeds or fails. Never rejects. */
  readonly arrival: Promise<void>;
  /** The namespaces in which this question has requested names. The set stays with the question when it is retried, so that each namespace is counted once. */
  readonly askedIn: Set<string>;

  constructor(key: string, arrival: Promise<void>, askedIn: Set<string>) {
    super("not_ready", "the name is not cached by this resolver yet, and is being fetched from the upstream");
    this.key = key;
    this.arrival = arrival;
    this.askedIn = askedIn;
  }
}

/** How a question was answered. `unknown`: it could not be answered. */
export interface LookupOutcome {
  readonly outcome: "found" | "absent" | "unknown";
  readonly hasWaited: boolean;
}

/** The remote lookups that one plan depends on. Each key has a mark that changes when the result of the lookup changes. */
export interface RemoteDependencies {
  readonly names: readonly (readonly [name: InstanceName, mark: number | undefined])[];
  /** Keys of the names whose alias owners were looked up. */
  readonly aliasOwners: readonly (readonly [key: string, mark: number | undefined])[];
  /** The plan is rebuilt at this time, so that its TTL counts down with the remaining lifetime of the data. */
  readonly untilMonoMs: number;
  /** The version at which all marks were last verified. */
  seenVersion: number;
}

/** An entry that owns an alias. */
export interface AliasOwner {
  readonly entry: EntryView;
  /** The alias claim of the entry, without the alias name. */
  readonly claim: Omit<ParsedAliasClaim, "name">;
}

/**
 * Each lookup throws when the result is not known: `PendingNameError` while it is being fetched, otherwise `not_ready`. Callers look up only names that the viewer
 * may see, so that hidden names cause no fetch.
 */
export interface RemoteLookup {
  /**
   * Starts the lookups of one question in the current event-loop turn. `waited`: the fetch that the question has waited for, if this is a retry. `mayWait` is
   * called before each fetch; when it returns false, nothing is fetched.
   */
  begin(waited: PendingNameError | undefined, mayWait: () => boolean): void;
  /** Counts a question, once, as answered or not answered. */
  answered(outcome: LookupOutcome): void;
  /** Increases whenever a result arrives. Never decreases. */
  readonly version: number;
  /** Returns the lookups made since the last call. */
  takeDependencies(): RemoteDependencies;
  /** Returns whether these lookups would still give the same results and have not expired. HOT: runs per question. */
  isCurrent(told: RemoteDependencies): boolean;
  /** Whether no remote lookup is ever needed, because the resolver watches all namespaces. */
  readonly isEmpty: boolean;
  /** Whether no upstream is reachable. Fetched data may then be stale. */
  readonly isCutOff: boolean;
  /** Returns whether the resolver watches a namespace and all namespaces below it, and has all their entries. The empty string means all namespaces. */
  isFollowed(namespace: string): boolean;
  /** Returns normally when the entries of this name are in the cache; otherwise throws. */
  require(name: InstanceName): void;
  /** Returns the entries in unwatched namespaces that own the alias `name` of the zone. `hasOwn`: whether entries in watched namespaces own it too. */
  findAlias(name: string, zone: string, view: NameView, hasOwn: boolean): readonly AliasOwner[];
  /** Like `DnsCatalog.hasNameUnder`, for unwatched namespaces. */
  hasNameUnder(suffix: string, zone: string, view: NameView): boolean;
  /**
   * Returns for how long the results since the last call remain valid, in ms. It limits the TTL. 0: some result may be stale. Infinity: all results are from
   * watched namespaces.
   */
  takeRemainingMs(): number;
  /** The same lookups, answered from the cache only, without a fetch. */
  readonly held: RemoteLookup;
}

/** The remote lookups, separately for each class of viewers, because upstream results contain only data that these viewers may see. */
export interface RemoteLookups {
  /**
   * Returns the lookups for the class of a caller. Classes that no configured view has share a bounded cache, from which the least recently used one is
   * removed.
   */
  of(caller: Pick<Caller, "cluster" | "tenant">): RemoteLookup;
}
