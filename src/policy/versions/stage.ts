/** Stages of a version: on which nodes it is put in force first (semantics.md, Policy). */
import { invalid } from "../../lib/errors.ts";
import { fnv64, hashFraction } from "../../lib/fnv.ts";
import type { Stage, VersionFacts } from "./facts.ts";

/** Throws `invalid_argument` for a stage that reaches nobody, or that cannot be. */
export function checkStage(stage: Stage | undefined): void {
  if (stage?.by === "percent" && (!Number.isInteger(stage.percent) || stage.percent < 1 || stage.percent > 100))
    throw invalid("stage.percent", `${stage.percent} must be 1 to 100`);
  if (stage?.by === "clusters" && stage.clusterIds.length === 0)
    throw invalid("stage.clusters.cluster_ids", "is empty: name at least one cluster, or leave the stage out");
}

/** Whether a version's stage has a node in it. The share goes by content: a wider stage of the same rules keeps the nodes it had. */
export function isStaged(
  { stage, checksum }: Pick<VersionFacts, "stage" | "checksum">,
  node: { readonly nodeId: string; readonly clusterId: string },
): boolean {
  if (stage === undefined) return true;
  if (stage.by === "clusters") return stage.clusterIds.includes(node.clusterId);
  return hashFraction(fnv64(`${node.nodeId}\0${checksum}`)) * 100 < stage.percent;
}
