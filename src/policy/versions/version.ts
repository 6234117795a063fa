/**
 * A version of the policy: its facts without the rules, the order of versions, and the nodes on which a version is put in force first
 * (semantics.md, Policy).
 */
import { invalid } from "../../lib/errors.ts";
import { fnv64, hashFraction } from "../../lib/hash64.ts";
import type { RuleChange } from "../set/diff.ts";
import type { PolicySet } from "../set/rules.ts";

/** The position of a version in the order of versions. */
export interface VersionPlace {
  /** 1, 2, 3, …, assigned by the server; 0 if there is no version. Two nodes may give the same number to two versions: see `isNewer`. */
  readonly number: number;
  /** Stamp of the node that applied it. 0 in versions that were stored before stamps were introduced. */
  readonly hlc: number;
  /** The node that applied it. Empty in versions that were stored before this field was introduced. */
  readonly nodeId: string;
  /** SHA-256 of the set's canonical text, lower-case hex. */
  readonly checksum: string;
}

/** The position before all versions. Every version has precedence over it. */
export const NO_PLACE: VersionPlace = { number: 0, hlc: 0, nodeId: "", checksum: "" };

/**
 * Whether `a` has precedence over `b`: by number, then stamp, then node id. The checksum only decides between versions that no correct
 * node makes.
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

/** The nodes on which a version is put in force first: a share of the nodes (1 to 100 percent), or the nodes of these clusters. */
export type RolloutStage =
  | { readonly by: "percent"; readonly percent: number }
  | { readonly by: "clusters"; readonly clusterIds: readonly string[] };

/** Throws `invalid_argument` for a stage that includes no node or is out of range. */
export function checkStage(stage: RolloutStage | undefined): void {
  if (stage?.by === "percent" && (!Number.isInteger(stage.percent) || stage.percent < 1 || stage.percent > 100))
    throw invalid("stage.percent", `must be from 1 to 100, got ${stage.percent}`);
  if (stage?.by === "clusters" && stage.clusterIds.length === 0)
    throw invalid("stage.clusters.cluster_ids", "must contain at least one cluster; omit the stage to put the set in force everywhere");
}

/**
 * Whether the stage includes the node. The share also depends on the checksum of the rules, so that a wider stage of the same rules keeps
 * its earlier nodes.
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
  /** The versions before it, newest first; at most `MAX_LINEAGE`. */
  readonly lineage: readonly Pick<VersionPlace, "number" | "checksum">[];
  /** Undefined if the version is in force everywhere. */
  readonly stage: RolloutStage | undefined;
  /** The differences from the previous version; at most 200 rules. */
  readonly changes: readonly RuleChange[];
  readonly changesLeftOut: number;
}

/** Maximum number of ancestors in the lineage of a version. Histories that diverged earlier can no longer be distinguished. */
export const MAX_LINEAGE = 32;

export interface PolicyVersion extends VersionFacts {
  readonly set: PolicySet;
}

/** The node that sent a version, which is not necessarily the node that applied it. */
export interface PolicyVia {
  readonly nodeId: string;
  readonly clusterId: string;
}

/** A version as stored. */
export interface VersionRow {
  readonly number: number;
  readonly bytes: Uint8Array;
}
