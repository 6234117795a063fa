/** Decides whether a node may connect to this node, by comparing the node's claims with the proof that its connection provides. */

import { nodeOfSpiffeId, readAlternativeNames, type SpiffeNode } from "../../lib/certificates/spiffe.ts";
import { equalSecrets } from "../../lib/crypto.ts";
import { isListed } from "../membership/members.ts";
import type { InstanceStatus } from "../membership/process-instances.ts";
import type { FabricCallRequest, FabricCallResponse, Goodbye, Hello, MemberUpdate, PeerIdentity } from "../wire/messages.ts";
import type { ForeignPeers } from "./foreign-peers.ts";

/** Fabric protocol versions that this program supports, ascending. Version 1 covers everything before the first release (decision 31). */
export const PROTOCOL_VERSIONS: readonly number[] = [2];

export interface PeerAuthFacts {
  readonly nodeId: string;
  readonly clusterId: string;
  readonly region: string;
  /** The token that is shared by all nodes without certificates. Empty means that no token is needed. */
  readonly clusterToken: string;
  /** A second token that other nodes may present while the token is being changed. This node never presents it. */
  readonly otherToken?: string | undefined;
  /** Whether plaintext connections from other machines are accepted. */
  readonly isInsecure: boolean;
  /** While `isClosed` is true, this node does not connect to any other node, because a policy protects its entries and peers could not prove anything. */
  readonly seal?: { readonly isClosed: boolean };
  /** The nodes that this node refuses regardless of the proof that they present. */
  readonly foreignPeers: ForeignPeers;
}

/** The tokens that nodes without certificates present to each other. */
export interface ClusterTokens {
  /** The token that this node presents. If it is empty, this node presents no token and requires none. */
  readonly clusterToken: string;
  readonly otherToken?: string | undefined;
}

/** Why a peer is refused: the reason in the goodbye, and a text for the peer and the operator. */
export interface PeerRefusal {
  readonly reason: Goodbye;
  readonly detail: string;
}

/**
 * Returns the node and cluster from the alternative names of a certificate. Undefined when the names contain no node and cluster, or more than one.
 */
export function nodeOfCertificate(alternativeNames: string): SpiffeNode | undefined {
  const [uri, ...others] = readAlternativeNames(alternativeNames)?.uris ?? [];
  return uri === undefined || others.length > 0 ? undefined : nodeOfSpiffeId(uri);
}

/**
 * Returns whether a plaintext connection is accepted, either because it comes from this machine or because the operator trusts the network
 * (`--insecure`).
 */
export function isPlaintextAllowed({ isLoopback }: Pick<PeerIdentity, "isLoopback">, isInsecure: boolean): boolean {
  return isLoopback || isInsecure;
}

/** Returns the token that this node presents to a peer. A node with a certificate presents none. */
export function tokenToShow(hasCertificate: boolean, clusterToken: string): string {
  return hasCertificate ? "" : clusterToken;
}

/**
 * Returns an error text if a node answered with the certificate of another node. Undefined if the certificate is the node's own, or if there is no
 * certificate.
 */
export function wrongAnswerer(response: FabricCallResponse, { certificate }: PeerIdentity): string | undefined {
  if (response.kind === "probeIndirect" || certificate === undefined) return undefined;
  const { nodeId, clusterId } = certificate;
  const { from } = response;
  if (nodeId === from.nodeId && from.clusterId === clusterId) return undefined;
  return `node ${from.nodeId} of cluster ${from.clusterId} answered with the certificate of node ${nodeId} of cluster ${clusterId}`;
}

/** Returns why a connection is refused before any frame is sent on it. This node presents its own token only on connections that pass this check. */
export function refusalByIdentity(identity: PeerIdentity, facts: PeerAuthFacts): PeerRefusal | undefined {
  if (facts.seal?.isClosed === true)
    return { reason: "wrong_token", detail: "a policy is in force on this node, but its fabric has neither a token nor certificates" };
  if (identity.border !== undefined)
    return {
      reason: "wrong_identity",
      detail: `the peer's certificate is signed by the CA of border ${identity.border}, which is valid for border links only`,
    };
  if (identity.certificate !== undefined || isPlaintextAllowed(identity, facts.isInsecure)) return undefined;
  return {
    reason: "wrong_identity",
    detail: "a connection from another machine needs a certificate, unless this node is started with --insecure",
  };
}

/** Returns why a peer is refused because of its hello and its connection. Undefined when the peer is accepted. */
export function refusalOfHello(hello: Hello, identity: PeerIdentity, facts: PeerAuthFacts): PeerRefusal | undefined {
  const refused = refusalByIdentity(identity, facts) ?? refusalOfIdentity(hello, identity) ?? refusalOfToken(hello, identity, facts);
  if (refused !== undefined) return refused;
  if (hello.nodeId === facts.nodeId)
    return { reason: "duplicate_node", detail: `two nodes have the id ${facts.nodeId}; the other node is at ${hello.address}` };
  const foreign = facts.foreignPeers.refusalOf(hello);
  if (foreign !== undefined) return foreign;
  if (commonVersion(PROTOCOL_VERSIONS, hello.protocolVersions) === undefined)
    return {
      reason: "incompatible",
      detail: `the peer supports protocol version ${hello.protocolVersions.join(", ")}, but this node supports ${PROTOCOL_VERSIONS.join(", ")}`,
    };
  return undefined;
}

/**
 * Returns why a hello is refused because of the process instance that sent it: either this node has accepted another instance under the node id, or
 * it must first check whether the last instance is still running.
 */
export function refusalOfStart({ nodeId, address }: Pick<Hello, "nodeId" | "address">, start: InstanceStatus): PeerRefusal | undefined {
  if (start.verdict === "stranger") {
    const detail = `the process at ${address} is not a successor of the last accepted process instance of ${nodeId}`;
    const isSure = start.standing === "lasting" || start.standing === "two";
    return { reason: isSure ? "duplicate_node" : "not_needed", detail };
  }
  if (start.verdict !== "follows" || !start.isElsewhere) return undefined;
  return { reason: "not_needed", detail: `the last process instance of ${nodeId} is listed at another address and must be probed first` };
}

/**
 * Returns why a link ends after another process instance of its node was accepted. The hello was valid when it was sent, so the peer is not at fault.
 */
export function anotherStart({ nodeId }: Pick<Hello, "nodeId">): PeerRefusal {
  return { reason: "not_needed", detail: `another process instance of ${nodeId} was accepted after this link came up` };
}

/** Returns why a call is refused because of its connection and headers, before its message is read. Undefined when the message may be read. */
export function refusalOfCaller(identity: PeerIdentity, facts: PeerAuthFacts): PeerRefusal | undefined {
  return refusalByIdentity(identity, facts) ?? refusalOfToken({ clusterToken: "" }, identity, facts);
}

/**
 * Returns why a call is refused because of its sender's claims and the proof that its connection provides. Undefined when the call may be answered.
 */
export function refusalOfCall(request: FabricCallRequest, identity: PeerIdentity, facts: PeerAuthFacts): PeerRefusal | undefined {
  const refused = refusalOfCaller(identity, facts) ?? refusalOfIdentity(request.from, identity);
  return refused ?? refusalOfSender(request.from, facts);
}

/** Returns why an answer is ignored, which is the case if the node that answered is foreign. Undefined when the answer is accepted. */
export function refusalOfAnswer(response: FabricCallResponse, facts: PeerAuthFacts): PeerRefusal | undefined {
  return response.kind === "probeIndirect" ? undefined : refusalOfSender(response.from, facts);
}

/** Returns why the sender is refused because of its cluster or region. */
function refusalOfSender({ nodeId, ...place }: FabricCallRequest["from"], { foreignPeers }: PeerAuthFacts): PeerRefusal | undefined {
  const refusal = foreignPeers.refusalOf(place);
  if (refusal !== undefined) foreignPeers.note(nodeId, place);
  return refusal;
}

/**
 * Returns whether other nodes know a later generation of this node itself: one that has ended, or one with this node's address. If so, this node's
 * journal was restored from an old copy, and the node needs a generation above the known one (semantics.md, Durability). A higher generation that is
 * alive at another address is a second node with this node's id.
 */
export function isOwnLaterGeneration(
  { generation, address, status }: MemberUpdate,
  self: { readonly address: string; readonly generation: number },
): boolean {
  return generation > self.generation && (address === self.address || !isListed(status));
}

/** Returns the host under which refusals are counted. It does not include a port, because a peer connects from a new port at each retry. */
export function hostOfPeer(identity: PeerIdentity | undefined): string {
  return identity === undefined ? "" : identity.address.replace(/:\d+$/, "");
}

/** Returns the highest protocol version that both nodes support. Undefined when there is none. */
export function commonVersion(ours: readonly number[], theirs: readonly number[]): number | undefined {
  const common = ours.filter((version) => theirs.includes(version));
  return common.length === 0 ? undefined : Math.max(...common);
}

/** Compares a node's claimed id and cluster with its certificate. */
function refusalOfIdentity(
  { nodeId, clusterId }: { readonly nodeId: string; readonly clusterId: string },
  { certificate }: PeerIdentity,
): PeerRefusal | undefined {
  if (certificate === undefined) return undefined;
  if (certificate.nodeId !== nodeId)
    return {
      reason: "wrong_identity",
      detail: `the peer claims to be node ${nodeId}, but its certificate is for node ${certificate.nodeId}`,
    };
  if (certificate.clusterId === clusterId) return undefined;
  return {
    reason: "wrong_identity",
    detail: `the peer claims to be in cluster ${clusterId}, but its certificate is for cluster ${certificate.clusterId}`,
  };
}

/** Returns why a peer without a certificate is refused because of its token. The token may be in the hello or in the headers of the call. */
function refusalOfToken(
  hello: Pick<Hello, "clusterToken">,
  identity: PeerIdentity,
  { clusterToken, otherToken }: PeerAuthFacts,
): PeerRefusal | undefined {
  if (identity.certificate !== undefined || clusterToken === "") return undefined;
  const shown = hello.clusterToken === "" ? identity.clusterToken : hello.clusterToken;
  const isOther = otherToken !== undefined && equalSecrets(shown, otherToken);
  return equalSecrets(shown, clusterToken) || isOther ? undefined : { reason: "wrong_token", detail: "wrong or missing cluster token" };
}
