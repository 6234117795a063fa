/** What becomes of policy versions that come from other nodes (semantics.md, Policy). */
import type { Fabric } from "../../fabric/fabric.ts";
import type { PolicyHead } from "../../fabric/wire/messages.ts";
import { isNewer, type PolicyVia } from "../../policy/versions/version.ts";
import type { NodeHandlers, NodePart, NodePartList } from "../core-io.ts";

export class RemotePolicy implements NodePart {
  readonly #list: Pick<NodePartList, "deliver">;
  /** The last version of another node that could not be stored here, and why, for people. Undefined when the last one was stored. */
  #fault: { readonly head: PolicyHead; readonly told: string } | undefined;

  readonly handle: NodeHandlers = {
    policyAdopted: ({ head, via, outcome }, time, out) => {
      if ("notKept" in outcome) {
        // It is not refused, so that it is tried again.
        this.#fault = { head, told: told(head, via, `it cannot be kept here: ${outcome.notKept}`) };
        return;
      }
      this.#fault = undefined;
      if (!outcome.isAdopted && outcome.fault !== "") this.#list.deliver({ kind: "policyRefused", head, detail: outcome.fault }, time, out);
    },
  };

  constructor(list: Pick<NodePartList, "deliver">) {
    this.#list = list;
  }

  /** For people: a newer version that peers have, and why it is not taken. Empty when there is none. */
  notTaken({ policy }: Pick<Fabric, "policy">): string {
    // It may be in force before the store answers, and one that was applied here meanwhile wins over it.
    if (this.#fault !== undefined && isNewer(this.#fault.head, policy.head)) return this.#fault.told;
    const { notTaken } = policy;
    if (notTaken === undefined) return "";
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
