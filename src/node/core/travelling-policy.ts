/** What becomes of policy versions that come from other nodes (semantics.md, Policy). */
import type { Fabric } from "../../fabric/fabric.ts";
import type { FabricInput } from "../../fabric/io-types.ts";
import type { PolicyHead } from "../../fabric/wire/messages.ts";
import type { Adopted } from "../../policy/versions/policy-store.ts";
import type { PolicyVia } from "../../policy/versions/version.ts";

/** What became of a version of another node: the answer of the policy store, or why the version could not be stored. */
export type AdoptOutcome = Adopted | { readonly notKept: string };

export class TravellingPolicy {
  /** For people: the last version of another node that could not be stored here, and why. Empty when the last one was stored. */
  #fault = "";

  /** Returns the input for the fabric. A version that could not be stored is not refused, so that it is tried again. */
  adopted(head: PolicyHead, via: PolicyVia, outcome: AdoptOutcome): FabricInput | undefined {
    if ("notKept" in outcome) {
      this.#fault = told(head, via, `it cannot be kept here: ${outcome.notKept}`);
      return undefined;
    }
    this.#fault = "";
    return outcome.isAdopted || outcome.fault === "" ? undefined : { kind: "policyRefused", head, detail: outcome.fault };
  }

  /** For people: a newer version that peers have, and why it is not taken. Empty when there is none. */
  notTaken({ policy }: Pick<Fabric, "policy">): string {
    const { notTaken } = policy;
    if (this.#fault !== "" || notTaken === undefined) return this.#fault;
    const { head, peer, why } = notTaken;
    return told(head, peer, why);
  }
}

function told(head: PolicyHead, by: PolicyVia, why: string): string {
  return `version ${head.number} of node ${head.nodeId}, told by node ${by.nodeId} of cluster ${by.clusterId}: ${why}`;
}

/** Whether a policy applied here comes into force in a cluster, as far as linked nodes tell. */
export function isPolicyTaken(fabric: Fabric, clusterId: string): boolean {
  const up = fabric.links().flatMap(({ state, hello }) => (state === "up" && hello !== undefined ? [hello] : []));
  return fabric.policySources.reaches(clusterId, up);
}
