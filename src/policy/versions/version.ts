/**
 * Defines a version of the policy: its facts without the rules, the order of versions, and the nodes on which a version is first put in force
 * (semantics.md, Policy).
 */
import { invalid } from "../../lib/errors.ts";
import { fnv64, hashFraction } from "../../lib/hash64.ts";
import type { RuleChange } from "../set/diff.ts";
import type { PolicySet } from "../set/rules.ts";

/** The position of a version in the order of all versions. */
export interface VersionPlace {
  /**
   * The number of the version, which the server assigns: 1, 2, 3, …; 0 if there is no version. Two nodes may assign the same number to different
   * versions: see `isNewer`.
   */
  readonly number: number;
  /** Stamp that the applying node assigned. 0 in versions that were stored before stamps were introduced. */
  readonly hlc: number;
  /** The node that applied the version. Empty in versions that were stored before this field was introduced. */
  readonly nodeId: string;
  /** SHA-256 of the set's canonical text, in lower-case hex. */
  readonly checksum: string;
}

/** The position before all versions. Every version has precedence over this position. */
export const NO_PLACE: VersionPlace = { number: 0, hlc: 0, nodeId: "", checksum: "" };

/**
 * Whether `a` has precedence over `b`, compared by number, then by stamp, then by node id. The checksum is compared last, and only decides between
 * versions that no correct node creates.
 */
export function isNewer(a: VersionPlace, b: VersionPlace): boolean {
  if (a.number !== b.number) return a.number > b.number;
  if (a.hlc !== b.hlc) return a.hlc > b.hlc;
  if (a.nodeId !== b.nodeId) return a.nodeId > b.nodeId;
  return a.checksum > b.checksum;
}

export function isSamePlace(a: VersionPlace, b: VersionPlace): boolean {
  return a.number === b.number && a.hlc === b.hlc && a.nodeId === b.nodeId && a.checksum === b.checksum;
}

/** The nodes on which a version is first put in force: a share of all nodes (1 to 100 percent), or the nodes of these clusters. */
export type RolloutStage =
  | { readonly by: "percent"; readonly percent: number }
  | { readonly by: "clusters"; readonly clusterIds: readonly string[] };

/** Throws `invalid_argument` for a stage that includes no node or contains a value out of range. */
export function checkStage(stage: RolloutStage | undefined): void {
  if (stage?.by === "percent" && (!Number.isInteger(stage.percent) || stage.percent < 1 || stage.percent > 100))
    throw invalid("stage.percent", `must be from 1 to 100, got ${stage.percent}`);
  if (stage?.by === "clusters" && stage.clusterIds.length === 0)
    throw invalid("stage.clusters.cluster_ids", "must contain at least one cluster; omit the stage to put the set in force everywhere");
}

/**
 * Whether the stage includes the node. The share is also selected by the checksum of the rules, so that a wider stage of the same rules includes all
 * earlier nodes.
 */
export function isStaged(
  { stage, checksum }: Pick<VersionFacts, "stage" | "checksum">,
  node: { readonly nodeId: string; readonly clusterId: string },
): boolean {
  if (stage === undefined) return true;
  if (stage.by === "clusters") return stage.clusterIds.includes(node.clusterId);
  return hashFraction(fnv64(`${node.nodeId}\0${checksum}`)) * 100 < stage.percent;
}

/** The facts of a version without its rules. */
export interface VersionFacts extends VersionPlace {
  /** The author's label. */
  readonly version: string;
  readonly defaultAllow: boolean;
  readonly ruleCount: number;
  readonly appliedWallMs: number;
  readonly principal: string;
  readonly reason: string;
  readonly changeTicket: string;
  /** The versions that precede it, newest first; at most `MAX_LINEAGE`. */
  readonly lineage: readonly Pick<VersionPlace, "number" | "checksum">[];
  /** Undefined if the version is in force everywhere. */
  readonly stage: RolloutStage | undefined;
  /** The differences from the previous version, for at most 200 rules. */
  readonly changes: readonly RuleChange[];
  readonly changesLeftOut: number;
}

/** Maximum number of ancestors in the lineage of a version. Histories that diverged before that can no longer be distinguished. */
export const MAX_LINEAGE = 32;

export interface PolicyVersion extends VersionFacts {
  readonly set: PolicySet;
}

/** The node that sent a version, which may be another node than the one that applied it. */
export interface PolicyVia {
  readonly nodeId: string;
  readonly clusterId: string;
}

/** A version as stored. */
export interface VersionRow {
  readonly number: number;
  readonly bytes: Uint8Array;
}
