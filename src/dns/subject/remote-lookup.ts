/**
 * What a resolver knows in DNS beside what it follows: names that it fetched, and which of its upstream's entries carry an alias or lie below a name. A node
 * knows everything, and has no such port.
 */
import type { EntryView } from "../../catalog/entry/view.ts";
import type { InstanceName } from "../../catalog/query/instances.ts";
import type { ParsedAliasClaim } from "../../discovery/alias-claim.ts";
import type { NameView } from "../../discovery/dns-names.ts";
import { WaymarkError } from "../../lib/errors.ts";
import type { Caller } from "../../policy/identity/caller.ts";

/** A question cannot be answered yet, because something is being fetched for it. Whoever does not wait says SERVFAIL. */
export class PendingNameError extends WaymarkError {
  /** Distinguishes what is fetched. */
  readonly key: string;
  /** Resolves when what is fetched has arrived, or will not. Never rejects. */
  readonly arrival: Promise<void>;
  /** The namespaces of which the question has asked for names. They go with it through its waits, so that each counts once as asked for. */
  readonly askedIn: Set<string>;

  constructor(key: string, arrival: Promise<void>, askedIn: Set<string>) {
    super("not_ready", "this resolver does not know the name yet, and is asking for it");
    this.key = key;
    this.arrival = arrival;
    this.askedIn = askedIn;
  }
}

/** How a question was answered. `unknown`: not at all. */
export interface LookupOutcome {
  readonly outcome: "found" | "absent" | "unknown";
  readonly hasWaited: boolean;
}

/** What was told for one plan: names with a mark of what was known of each, which changes with that. */
export interface RemoteDependencies {
  readonly names: readonly (readonly [name: InstanceName, mark: number | undefined])[];
  /** Names whose carriers were asked for, by their keys. */
  readonly aliasOwners: readonly (readonly [key: string, mark: number | undefined])[];
  /** A plan is made anew then, so that its TTL goes down with what is left. */
  readonly untilMonoMs: number;
  /** The version in which it was last seen to hold. */
  seenVersion: number;
}

/** An entry that carries an alias. */
export interface AliasOwner {
  readonly entry: EntryView;
  /** Its claim without a name. */
  readonly claim: Omit<ParsedAliasClaim, "name">;
}

/**
 * Each call throws where the answer is not known: `PendingNameError` while it is being fetched, else `not_ready`. It is only asked about what the viewer may know
 * of, so that nothing is fetched for what policy hides.
 */
export interface RemoteLookup {
  /**
   * A question is looked at, in this turn. `waited`: what it has waited for, if it was looked at before. `mayWait` is called before anything is fetched for it: what
   * may not wait causes no fetch.
   */
  begin(waited: PendingNameError | undefined, mayWait: () => boolean): void;
  /** Is told once of each question that was answered from the catalog, or could not be. */
  answered(outcome: LookupOutcome): void;
  /** Only grows, and does so whenever anything arrived. */
  readonly version: number;
  /** What was told since the last call. */
  takeDependencies(): RemoteDependencies;
  /** Whether all of that is still so, and its time is not over. HOT: once a question. */
  isCurrent(told: RemoteDependencies): boolean;
  /** Whether there is nothing elsewhere, because everything is followed. */
  readonly isEmpty: boolean;
  /** Whether no upstream answers. What is told may be old then. */
  readonly isCutOff: boolean;
  /** Whether everything in a namespace, and below it, is here. An empty text stands for all namespaces. */
  isFollowed(namespace: string): boolean;
  /** Returns if the entries of this name are held. */
  require(name: InstanceName): void;
  /** Entries of namespaces that are not followed, and have this name of the zone as an alias. `hasOwn`: whether some that are followed have it. */
  findAlias(name: string, zone: string, view: NameView, hasOwn: boolean): readonly AliasOwner[];
  /** As `DnsCatalog.hasNameUnder`, in what is not followed. */
  hasNameUnder(suffix: string, zone: string, view: NameView): boolean;
  /** For how long all that was told since the last call stays as it is, in ms: clients may keep it so long. 0: it may be old. Infinite for what is followed. */
  takeRemainingMs(): number;
  /** The same, which fetches nothing. */
  readonly held: RemoteLookup;
}

/** What a resolver knows elsewhere, for each class of viewers by itself: what its upstream told of a name is what these viewers may see. */
export interface RemoteLookups {
  /** As a caller may see it. For a caller whose class is in no view of the settings it is kept while it is one of the last that were asked for. */
  of(caller: Pick<Caller, "cluster" | "tenant">): RemoteLookup;
}
