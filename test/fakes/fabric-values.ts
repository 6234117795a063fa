/** What nodes say to each other, with everything filled in. */
import type { FabricCallRequest, Hello, MemberUpdate } from "../../src/fabric/wire/messages.ts";

/** A node as it names itself in a call. */
export function nodeRef(nodeId: string, generation = 1, region = "eu"): FabricCallRequest["from"] {
  return { nodeId, generation, clusterId: "c1", region };
}

export function helloOf(nodeId: string, more: Partial<Hello> = {}): Hello {
  return {
    nodeId,
    generation: 1,
    clusterId: "c1",
    region: "eu",
    zone: "z1",
    address: "127.0.0.1:17421",
    version: "0.1.0",
    protocolVersions: [2],
    clusterToken: "",
    isReady: false,
    runsChecks: false,
    holdsSummaries: false,
    policyFrom: [],
    ...more,
  };
}

export function updateOf(nodeId: string, more: Partial<MemberUpdate> = {}): MemberUpdate {
  return {
    nodeId,
    generation: 1,
    address: "127.0.0.1:17421",
    clusterId: "c1",
    region: "eu",
    zone: "z1",
    version: "0.1.0",
    protocolVersions: [2],
    transports: ["h2"],
    roles: ["node"],
    labels: { rack: "r1" },
    healthScore: 0,
    status: "alive",
    incarnation: 3,
    accuser: "",
    ...more,
  };
}
