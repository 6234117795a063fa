/** The real fabric in a simulated process: its parts, its settings for short worlds, and what the shell does for it. */

import { Fabric } from "../../src/fabric/fabric.ts";
import { type FabricOptions } from "../../src/fabric/options.ts";
import type { MemberFacts } from "../../src/fabric/wire/messages.ts";
import { ageOf, resumeLives } from "../../src/node/core/warm-start.ts";
import type { NodeOutput } from "../../src/node/core-io.ts";
import { BOUNDS, FABRIC_OPTIONS } from "../fakes/options.ts";
import type { SimProcess } from "./sim-node.ts";

/** Short graces, so that a minute sees all of an origin's lives; and small slices, so that everybody meets what is half done. */
export const SIM_FABRIC: FabricOptions = {
  ...FABRIC_OPTIONS,
  lifecycle: { ...FABRIC_OPTIONS.lifecycle, orphanGraceMs: 25_000, originForgetMs: 900_000, maxTouches: 1 },
  // What was refused is tried again within a plan.
  replication: { ...FABRIC_OPTIONS.replication, partialRetryMs: 15_000 },
};

/** What a stop in a plan has for handing over. */
export const HAND_OVER_MS = 1000;

/** A fabric and what its shell does. */
export class SimFabric {
  readonly fabric: Fabric;
  readonly #process: SimProcess;
  readonly self: MemberFacts;

  constructor(process: SimProcess) {
    const { options, parts, address, clusterToken } = process.node;
    const { nodeId, clusterId, region, zone, seeds } = options;
    const { replica, stamper, hlc, warm } = process;
    this.#process = process;
    const self: MemberFacts = {
      nodeId,
      generation: replica.self.generation,
      address,
      clusterId,
      region,
      zone,
      version: "0.0.0",
      protocolVersions: [1],
      transports: ["h2"],
      roles: [],
      labels: {},
      healthScore: 0,
    };
    this.self = self;
    const rng = parts.rng.fork(`fabric ${process.node.life}`);
    const given = {
      self,
      replica,
      stamper,
      bounds: BOUNDS,
      hlc,
      rng,
      seeds,
      clusterToken,
      policyFrom: ["c1", "c2", "c3", "c4"],
      isInsecure: false,
      startAgeMs: warm === undefined ? undefined : ageOf(warm, process.time()),
      remembered: process.remembered,
    };
    const { maxOriginRecords = options.fabric.replication.maxOriginRecords } = process.node;
    this.fabric = new Fabric({ ...options.fabric, replication: { ...options.fabric.replication, maxOriginRecords } }, given);
    if (warm !== undefined) resumeLives(this.fabric, warm, options.fabric.readiness.joinTimeoutMs, process.time());
  }

  /** Origins that it says it does not hold whole. */
  notWhole(): readonly string[] {
    return this.fabric.replication.notWhole().map(({ id }) => id);
  }

  /** `node/generation` of everybody it takes for alive. */
  aliveMembers(): readonly string[] {
    const members = this.fabric.membership.members().filter(({ status }) => status === "alive");
    return members.map(({ nodeId, generation }) => `${nodeId}/${generation}`);
  }

  /** As `aliveMembers`, with those that it suspects. */
  listedMembers(): readonly string[] {
    const members = this.fabric.membership.members().filter(({ status }) => status === "alive" || status === "suspect");
    return members.map(({ nodeId, generation }) => `${nodeId}/${generation}`);
  }

  /** Whether it takes the node for a member: alive, or suspected. */
  lists(nodeId: string): boolean {
    const status = this.fabric.membership.find(nodeId)?.status;
    return status === "alive" || status === "suspect";
  }

  /** What the policy asks for. */
  carryOut(output: Extract<NodeOutput, { kind: "readPolicy" | "adoptPolicy" }>): void {
    const process = this.#process;
    switch (output.kind) {
      case "readPolicy":
        process.tasks.read(output.number);
        return;
      case "adoptPolicy":
        process.tasks.adopt(output);
    }
  }
}
