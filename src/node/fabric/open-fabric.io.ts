/** What the data directory says of other nodes, for the rules of an open fabric (`core/open-fabric.ts`). */
import type { Settings } from "../../config/settings.ts";
import { chooseFabric, type FabricChoice, hasAdopted } from "../core/open-fabric.ts";
import type { NodeCore } from "../rooms.io.ts";
import { isOthersInSnapshot } from "../snapshot-file.io.ts";
import { isMarked } from "./peer-mark.io.ts";

/** Rejects when the fabric would be a way past what protects this node, and other nodes are or were there. */
export async function decideFabric(settings: Settings, core: Pick<NodeCore, "identity" | "policies">): Promise<FabricChoice> {
  const choice = chooseFabric(settings, core.policies);
  if (choice.kind === "alone" && choice.fault !== undefined && (await hadPeers(settings, core))) throw new Error(choice.fault);
  return choice;
}

/** Whether this node was ever a member beside others. A data directory from before the mark shows it by what it holds of others. */
export async function hadPeers(settings: Settings, { identity, policies }: Pick<NodeCore, "identity" | "policies">): Promise<boolean> {
  const { dataDir, ephemeral } = settings.persistence;
  if (ephemeral) return false;
  const { nodeId } = identity;
  return isMarked(settings) || hasAdopted(policies, nodeId) || (await isOthersInSnapshot(dataDir, nodeId));
}
