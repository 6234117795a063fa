/** ListPeers and ClusterMap at a node that hears clusters of other regions. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import fc from "fast-check";
import { expect, test } from "vitest";
import { Scope } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { PeerStatus } from "../../../gen/waymark/catalog/v1/peer_pb.js";
import { ClusterMapRequestSchema, ListPeersRequestSchema } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { EntryStamper } from "../../../src/catalog/entry/codec.ts";
import { PROTOCOL_BOUNDS } from "../../../src/catalog/entry/names.ts";
import { SCOPE } from "../../../src/catalog/entry/scope.ts";
import { TraitsPool } from "../../../src/catalog/record/traits.ts";
import { CatalogReads } from "../../../src/discovery/reads.ts";
import { NO_POLICY, PENDING_POLICY } from "../../../src/policy/set/verdict.ts";
import { lonePeerDirectory } from "../../../src/services/discovery/answer-age.ts";
import { clusterMap, listPeers, type NodeListParts } from "../../../src/services/discovery/nodes.ts";
import { DiscoveryBytes } from "../../../src/services/discovery/response-bytes.ts";
import { nodeEntry } from "../../../src/services/node-entry.ts";
import type { RemoteCluster } from "../../../src/services/regions/remote-nodes.ts";
import { at, caller, Registry } from "../../fakes/registry.ts";

const HERE = { nodeId: "n1", clusterId: "c1", region: "r1", boot: "b1" };
const CONTEXT = { caller: caller("ann"), time: at(0), requestId: "r" };
const node = (url: string, ...capabilities: string[]) => ({ urls: [url], scope: SCOPE.REGION, capabilities, tags: ["t"] });
const US: RemoteCluster = {
  clusterId: "us1",
  region: "us",
  heardWallMs: 5000.5,
  ingress: [node("grpc://us-a:1", "gpu"), node("grpc://us-b:1")],
};
const AP: RemoteCluster = { clusterId: "ap1", region: "ap", heardWallMs: 6000, ingress: [node("grpc://ap-a:1")] };

function partsOf(clusters: readonly RemoteCluster[], nodeCount = 3): NodeListParts {
  const r = new Registry();
  const stamper = new EntryStamper({ bounds: PROTOCOL_BOUNDS, traits: new TraitsPool() });
  const nodes = Array.from({ length: nodeCount }, (_, i) => {
    const facts = { nodeId: `n${i + 1}`, name: undefined, roles: ["gpu"], resources: [], labels: {}, dnsZones: [], listeners: {} };
    const place = { nodeId: facts.nodeId, clusterId: "c1", region: "r1", zone: "z1", tenantId: "", receivedWallMs: 0 };
    return stamper.entryOfNode(nodeEntry(facts), place);
  });
  r.register("ann", nodes, at(0), { isStatic: true });
  return {
    reads: new CatalogReads(r.replica, HERE, { policies: { policy: NO_POLICY }, onDenied: () => {} }),
    bytes: new DiscoveryBytes(r.replica.slab, { of: () => undefined }),
    identity: HERE,
    mesh: { ...lonePeerDirectory("n1"), presence: () => ({ status: "alive", lastSeenWallMs: 1 }) },
    loads: { of: () => undefined },
    ingress: () => clusters,
  };
}

const peers = (parts: NodeListParts, init: MessageInitShape<typeof ListPeersRequestSchema> = {}) =>
  listPeers(parts, create(ListPeersRequestSchema, init), CONTEXT);
const map = (parts: NodeListParts, init: MessageInitShape<typeof ClusterMapRequestSchema> = {}) =>
  clusterMap(parts, create(ClusterMapRequestSchema, init), CONTEXT);
const urlsOf = (answer: ReturnType<typeof listPeers>) => answer.peers.map(({ nodeId, urls }) => nodeId || urls.join());

const FAR = ["grpc://ap-a:1", "grpc://us-a:1", "grpc://us-b:1"];

test("nodes of other regions come behind all others, and are no members", () => {
  const { peers: listed } = peers(partsOf([US, AP]));
  expect(listed.slice(0, 2)).toMatchObject([
    { nodeId: "n2", scope: Scope.ZONE, status: PeerStatus.ALIVE },
    { nodeId: "n3", scope: Scope.ZONE },
  ]);
  const isNone = { nodeId: "", scope: Scope.GLOBAL, status: PeerStatus.UNSPECIFIED };
  expect(listed.slice(2)).toMatchObject([
    { ...isNone, clusterId: "ap1", region: "ap", urls: ["grpc://ap-a:1"], lastSeen: timestampFromMs(6000) },
    { ...isNone, clusterId: "us1", region: "us", urls: ["grpc://us-a:1"], lastSeen: timestampFromMs(5001) },
    { ...isNone, urls: ["grpc://us-b:1"] },
  ]);
  const { nodes } = map(partsOf([US, AP]));
  expect(nodes.map(({ key, nodeId, scope }) => `${key?.clusterId}/${key?.name} ${nodeId} ${scope}`)).toEqual([
    ...["n1", "n2", "n3"].map((name) => `c1/${name} ${name} ${Scope.REGION}`),
    ...["ap1/ingress-1", "us1/ingress-1", "us1/ingress-2"].map((name) => `${name}  ${Scope.GLOBAL}`),
  ]);
  expect(nodes[4]).toMatchObject({
    region: "us",
    capabilities: ["gpu"],
    tags: ["t"],
    detail: { value: { advertisedUrls: ["grpc://us-a:1"] } },
  });
});

test.each([
  { asked: { scope: Scope.GLOBAL }, want: FAR },
  { asked: { region: "us" }, want: FAR.slice(1) },
  { asked: { region: "r1" }, want: ["n2", "n3"] },
  { asked: { scope: Scope.ZONE }, want: ["n2", "n3"] },
  { asked: { scope: Scope.REGION }, want: [] },
])("peers by $asked", ({ asked, want }) => {
  expect(urlsOf(peers(partsOf([US, AP]), asked))).toEqual(want);
});

test.each([
  { asked: { scope: Scope.REGION }, want: 0 },
  { asked: { scope: Scope.GLOBAL }, want: 3 },
  { asked: { capabilities: ["gpu"] }, want: 1 },
  // Nobody here knows what they have.
  { asked: { resources: ["disk"] }, want: 0 },
  { asked: { namespaceFilter: "svc" }, want: 0 },
])("the map by $asked names $want nodes of other regions", ({ asked, want }) => {
  expect(map(partsOf([US, AP]), asked).nodes.filter(({ nodeId }) => nodeId === "")).toHaveLength(want);
});

test("who may not see nodes sees none of other regions, and a token goes with its filter", () => {
  const parts = partsOf([US, AP]);
  const { reads } = partsOf([]);
  Object.assign(reads, { verdict: () => PENDING_POLICY.viewer("svc", { clusterId: "c1", tenant: "" }) });
  expect(urlsOf(peers({ ...parts, reads }))).toEqual(["n2", "n3"]);
  const { nextPageToken } = peers(parts, { limit: 4 });
  expect(urlsOf(peers(parts, { limit: 4, pageToken: nextPageToken }))).toEqual(FAR.slice(1));
  for (const call of [
    () => peers(parts, { pageToken: nextPageToken, region: "us" }),
    () => map(parts, { pageToken: nextPageToken }),
    () => peers(parts, { pageToken: ".x" }),
  ])
    expect(call).toThrow("page_token");
});

test("pages of any size go through all of them, once each", () => {
  const cluster = fc.record({ clusterId: fc.constantFrom("a", "b", "zz"), count: fc.nat(4) });
  const clusters = fc.uniqueArray(cluster, { selector: ({ clusterId }) => clusterId });
  fc.assert(
    fc.property(clusters, fc.nat(4), fc.integer({ min: 1, max: 9 }), (told, nodeCount, limit) => {
      const ingressOf = (clusterId: string, count: number) => Array.from({ length: count }, (_, i) => node(`grpc://${clusterId}:${i}`));
      const parts = partsOf(
        told.map(({ clusterId, count }) => ({ clusterId, region: "x", heardWallMs: 0, ingress: ingressOf(clusterId, count) })),
        nodeCount,
      );
      const all = urlsOf(peers(parts, { limit: 1000 }));
      const paged: string[] = [];
      let pageToken = "";
      do {
        const answer = peers(parts, { limit, pageToken });
        expect(answer.peers.length).toBeLessThanOrEqual(limit);
        paged.push(...urlsOf(answer));
        pageToken = answer.nextPageToken;
      } while (pageToken !== "");
      expect(paged).toEqual(all);
      expect(all).toHaveLength(Math.max(0, nodeCount - 1) + told.reduce((sum, { count }) => sum + count, 0));
    }),
  );
});
