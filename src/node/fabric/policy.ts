/** Joins the policy of a node to the fabric: what is newest here is told, and what others have is put in force. */
import type { Fabric } from "../../fabric/fabric.ts";
import type { FabricInput, FabricOutput } from "../../fabric/io-types.ts";
import type { PolicyHead } from "../../fabric/wire/messages.ts";
import { rethrowBroken } from "../../lib/errors.ts";
import type { Log } from "../../lib/log.io.ts";
import type { Adopted } from "../../policy/versions/policy-store.ts";
import type { PolicyVia } from "../../policy/versions/version.ts";

/** The policy as the fabric asks for it; `node/policy.ts` has it. */
export interface TravellingPolicy {
  readonly head: PolicyHead;
  encoded(number: number): Promise<Uint8Array | undefined>;
  adopt(head: PolicyHead, bytes: Uint8Array, via: PolicyVia): Promise<Adopted>;
  /** Called with each change of what is newest here. */
  onHead(listener: (head: PolicyHead) => void): void;
}

/** What the fabric is told of the policy. */
type PolicyInput = Extract<FabricInput, { readonly kind: "policy" | "policyRead" | "policyRefused" }>;

export class FabricPolicy {
  /** For people: the last version of another node that could not be kept here, and why; empty when the last one could. */
  fault = "";
  readonly #policy: TravellingPolicy;
  readonly #input: (input: PolicyInput) => void;
  readonly #log: Log;

  constructor(policy: TravellingPolicy, input: (input: PolicyInput) => void, log: Log) {
    this.#policy = policy;
    this.#input = input;
    this.#log = log;
  }

  /** From now on the fabric knows what is newest here. */
  open(): void {
    this.#policy.onHead((head) => this.#input({ kind: "policy", head }));
    this.#input({ kind: "policy", head: this.#policy.head });
  }

  async read(number: number): Promise<void> {
    const bytes = await this.#policy.encoded(number).catch(() => undefined);
    this.#input({ kind: "policyRead", number, bytes });
  }

  async adopt({ head, bytes, via }: Extract<FabricOutput, { kind: "adoptPolicy" }>): Promise<void> {
    try {
      const adopted = await this.#policy.adopt(head, bytes, via);
      this.fault = "";
      if (!adopted.isAdopted && adopted.fault !== "") this.#input({ kind: "policyRefused", head, detail: adopted.fault });
    } catch (error) {
      rethrowBroken(error);
      this.fault = told(head, via, `it cannot be kept here: ${error instanceof Error ? error.message : String(error)}`);
      this.#log.error({ err: error, number: head.number, nodeId: head.nodeId }, "policy of another node not adopted");
    }
  }
}

/** For people: a newer version that peers have, and why it is not taken; empty when there is none. */
export function notTakenText({ policy }: Pick<Fabric, "policy">): string {
  const { notTaken } = policy;
  if (notTaken === undefined) return "";
  const { head, peer, why } = notTaken;
  return told(head, peer, why);
}

function told(head: PolicyHead, by: PolicyVia, why: string): string {
  return `version ${head.number} of node ${head.nodeId}, told by node ${by.nodeId} of cluster ${by.clusterId}: ${why}`;
}

/** Whether a policy applied here comes into force in a cluster, as far as linked nodes tell. */
export function isPolicyTaken(fabric: Fabric, clusterId: string): boolean {
  const up = fabric.links().flatMap(({ state, hello }) => (state === "up" && hello !== undefined ? [hello] : []));
  return fabric.policySources.reaches(clusterId, up);
}
