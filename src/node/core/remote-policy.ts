/** Handles policy versions from other nodes (semantics.md, Policy). */
import type { Fabric } from "../../fabric/fabric.ts";
import type { PolicyHead } from "../../fabric/wire/messages.ts";
import { isNewer, type PolicyVia } from "../../policy/versions/version.ts";
import type { NodeHandlers, NodePart, NodePartList } from "../core-io.ts";

export class RemotePolicy implements NodePart {
  readonly #list: Pick<NodePartList, "deliver">;
  /**
   * The last version from another node that could not be stored on this node, with a text for operators. Undefined if the last version was stored.
   */
  #fault: { readonly head: PolicyHead; readonly text: string } | undefined;

  readonly handle: NodeHandlers = {
    policyAdopted: ({ head, via, outcome }, time, out) => {
      if ("notKept" in outcome) {
        // The version is not refused, so it will be tried again.
        this.#fault = { head, text: faultText(head, via, `not stored here: ${outcome.notKept}`) };
        return;
      }
      this.#fault = undefined;
      if (!outcome.isAdopted && outcome.fault !== "") this.#list.deliver({ kind: "policyRefused", head, detail: outcome.fault }, time, out);
    },
  };

  constructor(list: Pick<NodePartList, "deliver">) {
    this.#list = list;
  }

  /** For operators: a newer version that peers have, and why it is not applied. Empty if there is none. */
  notTaken({ policy }: Pick<Fabric, "policy">): string {
    // The version may be in force before the store answers. A version that was applied on this node since then takes precedence.
    if (this.#fault !== undefined && isNewer(this.#fault.head, policy.head)) return this.#fault.text;
    const { notTaken } = policy;
    if (notTaken === undefined) return "";
    const { head, peer, why } = notTaken;
    return faultText(head, peer, why);
  }
}

function faultText(head: PolicyHead, by: PolicyVia, why: string): string {
  return `version ${head.number} of node ${head.nodeId}, received from node ${by.nodeId} of cluster ${by.clusterId}: ${why}`;
}

/** Whether a policy that is applied on this node comes into force in the cluster, as reported by the linked nodes. */
export function isPolicyTaken(fabric: Fabric, clusterId: string): boolean {
  const up = fabric.links().flatMap(({ state, hello }) => (state === "up" && hello !== undefined ? [hello] : []));
  return fabric.policySources.reaches(clusterId, up);
}
