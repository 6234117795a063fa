/**
 * Defines how DNS looks up entries that a resolver does not watch: names that it fetches on demand, and upstream entries that own an alias or are
 * below a name. A node has the complete catalog and needs no such lookup.
 */
import type { EntryView } from "../../catalog/entry/view.ts";
import type { InstanceName } from "../../catalog/query/instances.ts";
import type { ParsedAliasClaim } from "../../discovery/alias-claim.ts";
import type { NameView } from "../../discovery/dns-names.ts";
import { WaymarkError } from "../../lib/errors.ts";
import type { Caller } from "../../policy/identity/caller.ts";

/** Thrown when a question cannot be answered until a fetch completes. A caller that does not wait responds with SERVFAIL. */
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

/** How a question was answered. `unknown` means that the question could not be answered. */
export interface LookupOutcome {
  readonly outcome: "found" | "absent" | "unknown";
  readonly hasWaited: boolean;
}

/** The remote lookups that one plan depends on. Each key has a mark that changes when the lookup result changes. */
export interface RemoteDependencies {
  readonly names: readonly (readonly [name: InstanceName, mark: number | undefined])[];
  /** Keys of the names for which alias owners were looked up. */
  readonly aliasOwners: readonly (readonly [key: string, mark: number | undefined])[];
  /** The plan is rebuilt at this time, so that its TTL counts down with the remaining lifetime of the data. */
  readonly untilMonoMs: number;
  /** The version at which all marks were last verified. */
  seenVersion: number;
}

/** An entry that owns an alias. */
export interface AliasOwner {
  readonly entry: EntryView;
  /** The entry's alias claim, without the alias name. */
  readonly claim: Omit<ParsedAliasClaim, "name">;
}

/**
 * Each lookup throws when the result is not known: `PendingNameError` while the result is being fetched, otherwise `not_ready`. Callers look up only
 * names that the viewer may see, so that hidden names never cause a fetch.
 */
export interface RemoteLookup {
  /**
   * Starts the lookups for one question in the current event-loop turn. On a retry, `waited` is the fetch that the question waited for. `mayWait` is
   * called before each fetch; when it returns false, nothing is fetched.
   */
  begin(waited: PendingNameError | undefined, mayWait: () => boolean): void;
  /** Counts a question once, as answered or unanswered. */
  answered(outcome: LookupOutcome): void;
  /** Increases whenever a result arrives. Never decreases. */
  readonly version: number;
  /** Returns the lookups performed since the last call. */
  takeDependencies(): RemoteDependencies;
  /** Returns whether these lookups would still give the same results and have not expired. HOT: runs per question. */
  isCurrent(told: RemoteDependencies): boolean;
  /** Whether remote lookups are never needed because the resolver watches all namespaces. */
  readonly isEmpty: boolean;
  /** Whether no upstream is reachable. Fetched data may then be stale. */
  readonly isCutOff: boolean;
  /**
   * Returns whether the resolver watches a namespace and all namespaces below it and has all of their entries. The empty string means all namespaces.
   */
  isFollowed(namespace: string): boolean;
  /** Throws unless the entries of this name are in the cache. */
  require(name: InstanceName): void;
  /**
   * Returns the entries in unwatched namespaces that own the alias `name` in the zone. `hasOwn` is true when entries in watched namespaces also own
   * the alias.
   */
  findAlias(name: string, zone: string, view: NameView, hasOwn: boolean): readonly AliasOwner[];
  /** Like `DnsCatalog.hasNameUnder`, for unwatched namespaces. */
  hasNameUnder(suffix: string, zone: string, view: NameView): boolean;
  /**
   * Returns for how long the results since the last call remain valid, in ms. This time limits the TTL. It is 0 if some result may be stale.
   * It is infinity if all results are from watched namespaces.
   */
  takeRemainingMs(): number;
  /** The same lookups, answered only from the cache, without fetching. */
  readonly held: RemoteLookup;
}

/** The remote lookups, separate for each class of viewers because upstream results contain only data that these viewers may see. */
export interface RemoteLookups {
  /**
   * Returns the lookups for a caller's class. Classes without a configured view share a bounded cache, from which the least recently used class is
   * evicted.
   */
  of(caller: Pick<Caller, "cluster" | "tenant">): RemoteLookup;
}
