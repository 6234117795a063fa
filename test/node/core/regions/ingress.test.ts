/** Which nodes of a cluster its beacon names. */
import { expect, test } from "vitest";
import { ingressNodes } from "../../../../src/node/core/regions/ingress.ts";
import { nodeEntry } from "../../../../src/services/node-entry.ts";
import { at, Registry, WIDEST_STAMPER } from "../../../fakes/registry.ts";

const BORDERS = [{ region: "us", links: 1 }];

interface Node {
  readonly nodeId: string;
  readonly roles?: readonly string[];
  readonly hasBorder?: boolean;
  /** Its entry is not there. */
  readonly isUnknown?: boolean;
}

/** The URLs that are told, in their order. */
function told(nodes: readonly Node[]): readonly string[] {
  const registry = new Registry();
  for (const { nodeId, roles = [], isUnknown } of nodes) {
    if (isUnknown === true) continue;
    const listeners = { grpc: { host: nodeId, port: 1 }, fabric: { host: nodeId, port: 2 }, dns: { host: nodeId, port: 3 } };
    const entry = nodeEntry({ nodeId, name: undefined, roles, resources: [], labels: {}, dnsZones: [], listeners });
    const place = { nodeId, clusterId: "c1", region: "r1", zone: "z1", tenantId: "", receivedWallMs: 0 };
    registry.register("ann", [WIDEST_STAMPER.entryOfNode(entry, place)], at(0), { isStatic: true });
  }
  const members = nodes.map(({ nodeId, roles = [], hasBorder }) => ({ nodeId, roles, ...(hasBorder === true && { borders: BORDERS }) }));
  return ingressNodes(registry.replica, "c1", members).flatMap(({ urls }) => urls);
}

test.each<{ readonly where: string; readonly nodes: readonly Node[]; readonly want: readonly string[] }>([
  {
    where: "some have the role, those and no border node",
    nodes: [
      { nodeId: "b", hasBorder: true },
      { nodeId: "d", roles: ["ingress"] },
      { nodeId: "c", roles: ["edge", "ingress"] },
      { nodeId: "a" },
    ],
    want: ["grpc://c:1", "grpc://d:1"],
  },
  {
    where: "a node with the role has no entry, no border node in its place",
    nodes: [
      { nodeId: "b", hasBorder: true },
      { nodeId: "c", roles: ["ingress"], isUnknown: true },
    ],
    want: [],
  },
  {
    where: "none has the role, the border nodes",
    nodes: [{ nodeId: "b", hasBorder: true }, { nodeId: "a", hasBorder: true, roles: ["edge"] }, { nodeId: "c" }],
    want: ["grpc://a:1", "grpc://b:1"],
  },
  { where: "there is neither, none", nodes: [{ nodeId: "a" }], want: [] },
  {
    where: "more have the role than are told, the first 32",
    nodes: Array.from({ length: 40 }, (_, n) => ({ nodeId: `n${10 + n}`, roles: ["ingress"] })),
    want: Array.from({ length: 32 }, (_, n) => `grpc://n${10 + n}:1`),
  },
])("where $where are told", ({ nodes, want }) => {
  expect(told(nodes)).toEqual(want);
});
