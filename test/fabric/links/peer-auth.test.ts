/** Who may talk to us: claims against proofs. */
import { expect, test } from "vitest";
import { ForeignPeers } from "../../../src/fabric/links/foreign-peers.ts";
import {
  commonVersion,
  hostOfPeer,
  isOwnLaterGeneration,
  nodeOfCertificate,
  type PeerAuthFacts,
  refusalByIdentity,
  refusalOfCall,
  refusalOfHello,
} from "../../../src/fabric/links/peer-auth.ts";

import type { FabricCallRequest, PeerIdentity } from "../../../src/fabric/wire/messages.ts";
import { nodeRef, updateOf } from "../../fakes/fabric-values.ts";
import { greetingOf } from "../../fakes/fabric-world.ts";

const HERE = { clusterId: "c1", region: "r1" };
const foreignPeers = new ForeignPeers(HERE, { mode: "explicit", clusters: ["c2"], hasCertificates: false }, () => false);
const US: PeerAuthFacts = { nodeId: "a", ...HERE, clusterToken: "secret", isInsecure: false, foreignPeers };
const PROBE: FabricCallRequest = { kind: "probe", from: nodeRef("b", 1, "r1"), targetNodeId: "a", updates: [] };
const LOCAL: PeerIdentity = { address: "127.0.0.1:5", isLoopback: true, certificate: undefined, clusterToken: "" };
const FAR: PeerIdentity = { ...LOCAL, address: "10.0.0.9:5", isLoopback: false };
const PROVEN: PeerIdentity = { ...FAR, certificate: { nodeId: "b", clusterId: "c1" } };
const TOLD = greetingOf("b");

test.each([
  ["the token, on loopback", TOLD, LOCAL, US, undefined],
  ["the token that came with the call", greetingOf("b", { clusterToken: "" }), { ...LOCAL, clusterToken: "secret" }, US, undefined],
  ["a certificate, without a token", greetingOf("b", { clusterToken: "" }), PROVEN, US, undefined],
  ["another cluster of the region", greetingOf("b", { clusterId: "c2", clusterToken: "secret" }), LOCAL, US, undefined],
  ["no token, none asked for", greetingOf("b", { clusterToken: "" }), LOCAL, { ...US, clusterToken: "" }, undefined],
  ["a plain connection from afar where that is allowed", TOLD, FAR, { ...US, isInsecure: true }, undefined],
  ["a newer peer that still speaks ours", greetingOf("b", { clusterToken: "secret", protocolVersions: [2, 3] }), LOCAL, US, undefined],
  ["a wrong token", greetingOf("b", { clusterToken: "guess" }), LOCAL, US, "wrong_token"],
  ["a prefix of the token", greetingOf("b", { clusterToken: "secre" }), LOCAL, US, "wrong_token"],
  ["no token", greetingOf("b", { clusterToken: "" }), LOCAL, US, "wrong_token"],
  [
    "a wrong token in the hello, the right one with the call",
    greetingOf("b", { clusterToken: "x" }),
    { ...LOCAL, clusterToken: "secret" },
    US,
    "wrong_token",
  ],
  ["a plain connection from afar, whatever the token", TOLD, FAR, US, "wrong_identity"],
  ["the token, at a node that is sealed", TOLD, LOCAL, { ...US, seal: { isClosed: true } }, "wrong_token"],
  ["the certificate of another node", greetingOf("c", { clusterToken: "secret" }), PROVEN, US, "wrong_identity"],
  ["the certificate of another cluster", greetingOf("b", { clusterId: "c2", clusterToken: "secret" }), PROVEN, US, "wrong_identity"],
  ["our own id", greetingOf("a", { clusterToken: "secret" }), LOCAL, US, "duplicate_node"],
  ["our cluster in another region", greetingOf("b", { region: "us", clusterToken: "secret" }), LOCAL, US, "wrong_cluster"],
  ["another region", greetingOf("b", { region: "us", clusterId: "c9", clusterToken: "secret" }), LOCAL, US, "other_region"],
  ["a cluster that is not listed", greetingOf("b", { clusterId: "c9", clusterToken: "secret" }), LOCAL, US, "wrong_cluster"],
  ["a protocol without ours", greetingOf("b", { clusterToken: "secret", protocolVersions: [1, 3] }), LOCAL, US, "incompatible"],
  ["no protocol", greetingOf("b", { clusterToken: "secret", protocolVersions: [] }), LOCAL, US, "incompatible"],
] as const)("a hello with %s", (_what, hello, identity, facts, reason) => {
  expect(refusalOfHello(hello, identity, facts)?.reason).toBe(reason);
});

test("while the token is changed another is taken as well, and no third", () => {
  const both = { ...US, otherToken: "next" };
  const shown = ["secret", "next", "third", ""].map((clusterToken) => refusalOfCall(PROBE, { ...LOCAL, clusterToken }, both)?.reason);
  expect(shown).toEqual([undefined, undefined, "wrong_token", "wrong_token"]);
});

test("nothing is said on a connection that cannot prove anything: our token is not shown", () => {
  expect(refusalByIdentity(FAR, US)?.reason).toBe("wrong_identity");
  expect(refusalByIdentity(LOCAL, US)).toBeUndefined();
});

test.each([
  ["the token", { ...LOCAL, clusterToken: "secret" }, undefined],
  ["no token", LOCAL, "wrong_token"],
  ["its certificate", PROVEN, undefined],
  ["another's certificate", { ...PROVEN, certificate: { nodeId: "c", clusterId: "c1" } }, "wrong_identity"],
  ["a plain connection from afar", { ...FAR, clusterToken: "secret" }, "wrong_identity"],
] as const)("a call with %s", (_what, identity, reason) => {
  expect(refusalOfCall(PROBE, identity, US)?.reason).toBe(reason);
});

test.each([
  ["URI:spiffe://mesh.example/waymark/cluster/c1/node/n-1", { trustDomain: "mesh.example", clusterId: "c1", nodeId: "n-1" }],
  ["DNS:n1.example, URI:spiffe://m/waymark/cluster/c1/node/n1", { trustDomain: "m", clusterId: "c1", nodeId: "n1" }],
  // A DNS name that looks like a URI gives neither a node nor a trust domain.
  ['DNS:"a, URI:spiffe://x/, b", URI:spiffe://m/waymark/cluster/c1/node/n1', { trustDomain: "m", clusterId: "c1", nodeId: "n1" }],
  ['DNS:"a, URI:spiffe://m/waymark/cluster/c1/node/n1, b"', undefined],
  ["URI:spiffe://m/waymark/cluster/../node/n1", undefined],
  ["URI:spiffe://m/waymark/cluster/c1/node/.", undefined],
  ["URI:spiffe://m/waymark/cluster/c1/node/n1, URI:spiffe://m/waymark/cluster/c1/node/n2", undefined],
  ["URI:spiffe://m/waymark/cluster/c1/node/n1/extra", undefined],
  ["URI:spiffe://m/waymark/cluster/c1/node/", undefined],
  ["URI:spiffe://m/other/cluster/c1/node/n1", undefined],
  ["URI:https://m/waymark/cluster/c1/node/n1", undefined],
  ['URI:"spiffe://m/waymark/cluster/c1/node/n1, x"', undefined],
  ["DNS:n1", undefined],
  ["", undefined],
])("a certificate with %s", (names, node) => {
  expect(nodeOfCertificate(names)).toEqual(node);
});

test("of several protocol versions the highest that both speak", () => {
  expect(commonVersion([1, 2, 3], [2, 3, 4])).toBe(3);
  expect(commonVersion([1], [2])).toBeUndefined();
});

test.each([
  ["at our own address", { address: "a:1" }, true],
  ["elsewhere, and dead", { status: "dead" }, true],
  ["elsewhere, and left", { status: "left" }, true],
  ["alive elsewhere", {}, false],
  ["suspect elsewhere", { status: "suspect" }, false],
  ["of our own generation", { address: "a:1", generation: 4 }, false],
] as const)("Why: a life of our id %s is our own later one, known to a journal that was put back: %j %s", (_what, more, want) => {
  const told = updateOf("a", { generation: 5, address: "b:1", ...more });
  expect(isOwnLaterGeneration(told, { address: "a:1", generation: 4 })).toBe(want);
});

test.each([
  ["10.0.0.1:5555", "10.0.0.1"],
  ["[::1]:5555", "[::1]"],
  ["", ""],
])("the host of %s", (address, host) => {
  expect(hostOfPeer({ ...FAR, address })).toBe(host);
});
