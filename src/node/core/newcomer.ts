/** A node that is to join others and has not met them yet. They may have a policy that this node lacks (semantics.md, Policy). */
import { wantsPeers } from "../../config/exposure.ts";
import type { Settings } from "../../config/settings.ts";
import type { Fabric } from "../../fabric/fabric.ts";
import type { Time } from "../../lib/machine.ts";

/** Whether the settings name nodes to join. */
export function hasSeeds({ fabric }: Pick<Settings, "fabric">): boolean {
  return fabric.enabled !== false && fabric.seeds.length > 0;
}

/**
 * Whether a node without a policy shows nothing, because it joins others for the first time and the policy of its cluster may hide something. A
 * node that was up to date with others before knows whether there was a policy.
 */
export function awaitsPolicy(settings: Pick<Settings, "fabric">, wasUpToDate: boolean): boolean {
  return hasSeeds(settings) && !wasUpToDate;
}

/** Whether there may be other nodes with a policy that this one lacks: it is not ready yet, or it serves alone although it is to join others. */
export function mayBeOthers(
  settings: Settings,
  { isReady, fabric }: { readonly isReady: boolean; readonly fabric: Pick<Fabric, "readiness"> | undefined },
  time: Time,
): boolean {
  return !isReady || (wantsPeers(settings) && fabric?.readiness(time).reason === "alone");
}
