/** Decides whether a node is ready: it must serve callers, have caught up with its peers, if any, and show the policy in force. */
import type { Fanout } from "../../../discovery/fanout.ts";
import type { Fabric } from "../../../fabric/fabric.ts";
import { assert } from "../../../lib/errors.ts";
import type { Time } from "../../../lib/machine.ts";
import type { PolicyEngine } from "../../../policy/versions/engine.ts";
import type { NodeHandlers, NodeOutput, NodePart } from "../../core-io.ts";
import type { WriteEligibility } from "../write-eligibility.ts";

export interface NodeReadinessParts {
  readonly fanout: Fanout;
  readonly policies: Pick<PolicyEngine, "isAwaiting">;
  readonly writeEligibility: WriteEligibility;
  /** Undefined on a standalone node. */
  readonly fabric: () => Pick<Fabric, "isWhole" | "readiness"> | undefined;
}

export class NodeReadiness implements NodePart {
  readonly #parts: NodeReadinessParts;
  state: "starting" | "served" | "caughtUp" | "ready" = "starting";
  isDraining = false;
  #wasServing = false;
  #wasWhole = false;

  constructor(parts: NodeReadinessParts) {
    this.#parts = parts;
  }

  readonly handle: NodeHandlers = {
    serve: () => {
      this.state = "served";
    },
    policyShown: (_, _time, out) => {
      assert(this.state === "caughtUp", "the node became ready before it had caught up");
      this.state = "ready";
      out.push({ kind: "ready" });
    },
  };

  /** Whether the node has been ready once. After that it stays ready, and later gaps show in the age of its data. */
  get isReady(): boolean {
    return this.state === "ready";
  }

  /** Whether this node may inform readers that their snapshot is complete. */
  get isWhole(): boolean {
    return this.isReady && this.#parts.fabric()?.isWhole !== false;
  }

  /**
   * Whether a DNS answer may state that a name does not exist: the node is ready, or would be if it were not stopping. A DNS answer cannot show the
   * age of its data.
   */
  get isSound(): boolean {
    return this.isReady && this.#parts.writeEligibility.fault === "";
  }

  /** Whether callers should use this node: see `serving`. */
  get isServing(): boolean {
    return this.isSound && !this.isDraining;
  }

  drain(_time: Time, out: NodeOutput[]): void {
    this.isDraining = true;
    this.endWatches(out);
  }

  endWatches(out: NodeOutput[]): void {
    this.#parts.fanout.end();
    out.push({ kind: "wake" });
  }

  look(_time: Time, out: NodeOutput[]): void {
    const { fanout, policies, writeEligibility, fabric } = this.#parts;
    const joined = fabric();
    const hasCaughtUp = joined === undefined || (joined.readiness.isReady && !writeEligibility.isWaiting);
    if (this.state === "served" && hasCaughtUp) {
      this.state = "caughtUp";
      policies.isAwaiting = false;
      out.push({ kind: "caughtUp" });
    }
    const { isWhole, isServing } = this;
    // Wakes the readers that wait for the end of their snapshot.
    if (isWhole && !this.#wasWhole) {
      fanout.all();
      out.push({ kind: "wake" });
    }
    this.#wasWhole = isWhole;
    if (isServing !== this.#wasServing) out.push({ kind: "serving", isServing });
    this.#wasServing = isServing;
  }
}
