/** What DNS processes ask their resolver, and what it sends them, beside the feed of what it follows: plain values, which can be cloned to another process. */
import type { InstanceName } from "../../catalog/query/instances.ts";
import type { Caller } from "../../policy/identity/caller.ts";

export interface SentEntry {
  /** As stored. */
  readonly bytes: Uint8Array;
  readonly isOrphaned: boolean;
  readonly nodeId: string;
}

/** The entries of a name. */
export interface SentName {
  readonly entries: readonly SentEntry[];
  readonly ageMs: number;
  /** How long they stay fresh; 0 or less when that is over, infinite for what is followed. */
  readonly leftMs: number;
}

/** The entries that have a name in DNS, as an alias or at or below it. */
export interface SentCarriers {
  readonly entries: readonly Uint8Array[];
  readonly isMore: boolean;
}

/** What the answers of a resolver depend on beside its entries. */
export interface FollowedFacts {
  /** Namespaces that are here with all below them. */
  readonly prefixes: readonly string[];
  /** Namespaces in which entries are held that the upstream called gone. */
  readonly doubted: readonly string[];
  readonly isCutOff: boolean;
  readonly letGoCount: number;
}

/** What a process asks for. */
export type ProcessQuestion =
  | {
      readonly kind: "fetch";
      readonly name: InstanceName;
      /** As in `Asked`. */
      readonly isFurther: boolean;
      /** Whether the name is only to count as asked for. */
      readonly isReminder: boolean;
    }
  | { readonly kind: "carriers"; readonly name: string; readonly zone: string; readonly viewer: Pick<Caller, "cluster" | "tenant"> };

/** Undefined: it is not known, and nobody can be asked. */
export type ProcessAnswer = { readonly name?: SentName | undefined; readonly carriers?: SentCarriers | undefined };
