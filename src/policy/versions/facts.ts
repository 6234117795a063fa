/** What is known of a version of the policy, beside its rules. */
import type { RuleChange } from "../set/diff.ts";
import type { PolicySet } from "../set/rules.ts";
import type { VersionPlace } from "./order.ts";

/** Where a version is put in force first. */
export type Stage =
  /** On this share of the nodes, 1 to 100. */
  { readonly by: "percent"; readonly percent: number } | { readonly by: "clusters"; readonly clusterIds: readonly string[] };

/** A version that another one follows. */
interface Ancestor {
  readonly number: number;
  readonly checksum: string;
}

/**
 * What is known of a version without its rules. Its number is 1, 2, 3, …, assigned by the server; where two nodes give the same
 * one, order.ts decides. Stamp and node are of who applied it; 0 and empty of versions from before they were kept.
 */
export interface VersionFacts extends VersionPlace {
  /** The author's label. */
  readonly version: string;
  readonly defaultAllow: boolean;
  readonly ruleCount: number;
  readonly appliedWallMs: number;
  readonly principal: string;
  readonly reason: string;
  readonly changeTicket: string;
  /** The versions it follows, newest first; at most `MAX_LINEAGE`. */
  readonly lineage: readonly Ancestor[];
  /** Undefined: everywhere. */
  readonly stage: Stage | undefined;
  /** How it differs from the version before; at most 200 rules. */
  readonly changes: readonly RuleChange[];
  readonly changesLeftOut: number;
}

export interface PolicyVersion extends VersionFacts {
  readonly set: PolicySet;
}

/** A version as the store has it. */
export interface VersionRow {
  readonly number: number;
  readonly bytes: Uint8Array;
}
