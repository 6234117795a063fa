/** Decides whether a node may talk to this one: compares what the node claims with what its connection proves. */

import { nodeOfSpiffeId, readAlternativeNames, type SpiffeNode } from "../../lib/certificates/spiffe.ts";
import { equalSecrets } from "../../lib/crypto.ts";
import { isListed } from "../membership/members.ts";
import type { InstanceStatus } from "../membership/process-instances.ts";
import type { FabricCallRequest, FabricCallResponse, Goodbye, Hello, MemberUpdate, PeerIdentity } from "../wire/messages.ts";
import type { ForeignPeers } from "./foreign-peers.ts";

/** Fabric protocol versions this program speaks, ascending. 1 is everything before the first release (decision 31). */
export const PROTOCOL_VERSIONS: readonly number[] = [2];

export interface PeerAuthFacts {
  readonly nodeId: string;
  readonly clusterId: string;
  readonly region: string;
  /** The token that all nodes without certificates share. Empty means that no token is needed. */
  readonly clusterToken: string;
  /** A second token that other nodes may show, while the token is being changed. This node never shows it. */
  readonly otherToken?: string | undefined;
  /** Whether plain connections from other machines are accepted. */
  readonly isInsecure: boolean;
  /** While it is closed this node talks to nobody: a policy protects its entries, and peers could prove nothing. */
  readonly seal?: { readonly isClosed: boolean };
  /** The nodes that this node refuses whatever they prove. */
  readonly foreignPeers: ForeignPeers;
}

/** The tokens that nodes without certificates show each other. */
export interface ClusterTokens {
  /** The token that this node shows. Empty means that it shows none and asks for none. */
  readonly clusterToken: string;
  readonly otherToken?: string | undefined;
}

/** Why a peer is refused: the reason of the goodbye, and a sentence for the peer and the operator. */
export interface PeerRefusal {
  readonly reason: Goodbye;
  readonly detail: string;
}

/** The node and cluster that the alternative names of a certificate name. Undefined when they name none, or more than one. */
export function nodeOfCertificate(alternativeNames: string): SpiffeNode | undefined {
  const [uri, ...others] = readAlternativeNames(alternativeNames)?.uris ?? [];
  return uri === undefined || others.length > 0 ? undefined : nodeOfSpiffeId(uri);
}

/** Whether a plain connection is accepted: it comes from this machine, or the operator trusts the network (`--insecure`). */
export function isPlaintextAllowed({ isLoopback }: Pick<PeerIdentity, "isLoopback">, isInsecure: boolean): boolean {
  return isLoopback || isInsecure;
}

/** The token that this node shows to a peer. A node with a certificate shows none. */
export function tokenToShow(hasCertificate: boolean, clusterToken: string): string {
  return hasCertificate ? "" : clusterToken;
}

/** A text for people when a node answered with the certificate of another node. Undefined when the certificate is its own, or there is none. */
export function wrongAnswerer(response: FabricCallResponse, { certificate }: PeerIdentity): string | undefined {
  if (response.kind === "probeIndirect" || certificate === undefined) return undefined;
  const { nodeId, clusterId } = certificate;
  const { from } = response;
  if (nodeId === from.nodeId && from.clusterId === clusterId) return undefined;
  return `${from.nodeId} of ${from.clusterId} answered with the certificate of ${nodeId} of ${clusterId}`;
}

/** Why a connection is refused before anything is said on it. This node shows its own token only on connections that pass. */
export function refusalByIdentity(identity: PeerIdentity, facts: PeerAuthFacts): PeerRefusal | undefined {
  if (facts.seal?.isClosed === true)
    return { reason: "wrong_token", detail: "a policy is in force, and the fabric has neither token nor certificates" };
  if (identity.border !== undefined)
    return {
      reason: "wrong_identity",
      detail: `its certificate is of the authority of border ${identity.border}, and counts for border links only`,
    };
  if (identity.certificate !== undefined || isPlaintextAllowed(identity, facts.isInsecure)) return undefined;
  return { reason: "wrong_identity", detail: "a plain connection from another machine proves nothing" };
}

/** Why a peer is refused for its hello and its connection. Undefined when the link may stay. */
export function refusalOfHello(hello: Hello, identity: PeerIdentity, facts: PeerAuthFacts): PeerRefusal | undefined {
  const refused = refusalByIdentity(identity, facts) ?? refusalOfIdentity(hello, identity) ?? refusalOfToken(hello, identity, facts);
  if (refused !== undefined) return refused;
  if (hello.nodeId === facts.nodeId)
    return { reason: "duplicate_node", detail: `two nodes call themselves ${facts.nodeId}; the other is at ${hello.address}` };
  const foreign = facts.foreignPeers.refusalOf(hello);
  if (foreign !== undefined) return foreign;
  if (commonVersion(PROTOCOL_VERSIONS, hello.protocolVersions) === undefined)
    return { reason: "incompatible", detail: `speaks ${hello.protocolVersions.join(", ")}, not ${PROTOCOL_VERSIONS.join(", ")}` };
  return undefined;
}

/** Why a hello is refused for the start that sent it: this node holds another start for the node's id, or looks for the last one first. */
export function refusalOfStart({ nodeId, address }: Pick<Hello, "nodeId" | "address">, start: InstanceStatus): PeerRefusal | undefined {
  if (start.verdict === "stranger") {
    const detail = `the one at ${address} does not follow the start of ${nodeId} that was accepted last`;
    const isSure = start.standing === "lasting" || start.standing === "two";
    return { reason: isSure ? "duplicate_node" : "not_needed", detail };
  }
  if (start.verdict !== "follows" || !start.isElsewhere) return undefined;
  return { reason: "not_needed", detail: `the last start of ${nodeId} is listed elsewhere, and looked for first` };
}

/** Why a link ends when another start of its node was accepted after the greeting. The greeting was right when it was made, so nobody is accused. */
export function anotherStart({ nodeId }: Pick<Hello, "nodeId">): PeerRefusal {
  return { reason: "not_needed", detail: `another start of ${nodeId} was accepted since this link came up` };
}

/** Why a call is refused for its connection and headers, before its message is read. Undefined when it may be read. */
export function refusalOfCaller(identity: PeerIdentity, facts: PeerAuthFacts): PeerRefusal | undefined {
  return refusalByIdentity(identity, facts) ?? refusalOfToken({ clusterToken: "" }, identity, facts);
}

/** Why a call is refused for what its sender claims and its connection proves. Undefined when it may be answered. */
export function refusalOfCall(request: FabricCallRequest, identity: PeerIdentity, facts: PeerAuthFacts): PeerRefusal | undefined {
  const refused = refusalOfCaller(identity, facts) ?? refusalOfIdentity(request.from, identity);
  return refused ?? refusalOfSpeaker(request.from, facts);
}

/** Why an answer is ignored: the node that answered is foreign here. Undefined when it is not. */
export function refusalOfAnswer(response: FabricCallResponse, facts: PeerAuthFacts): PeerRefusal | undefined {
  return response.kind === "probeIndirect" ? undefined : refusalOfSpeaker(response.from, facts);
}

/** Why the sender is refused for the place that it is in. */
function refusalOfSpeaker({ nodeId, ...place }: FabricCallRequest["from"], { foreignPeers }: PeerAuthFacts): PeerRefusal | undefined {
  const refusal = foreignPeers.refusalOf(place);
  if (refusal !== undefined) foreignPeers.note(nodeId, place);
  return refusal;
}

/**
 * Whether other nodes know a later life of this node itself: a higher generation that is over, or that has this node's address. Then the journal
 * here is an old one that was put back, and it needs a generation above that one (semantics.md, Durability). A higher generation that is alive
 * at another address is a second node with this node's id.
 */
export function isOwnLaterIncarnation(
  { generation, address, status }: MemberUpdate,
  self: { readonly address: string; readonly generation: number },
): boolean {
  return generation > self.generation && (address === self.address || !isListed(status));
}

/** The host by which refusals are counted. It has no port, because a peer that tries again comes from another port each time. */
export function hostOfPeer(identity: PeerIdentity | undefined): string {
  return identity === undefined ? "" : identity.address.replace(/:\d+$/, "");
}

/** The highest protocol version that both nodes speak. Undefined when there is none. */
export function commonVersion(ours: readonly number[], theirs: readonly number[]): number | undefined {
  const common = ours.filter((version) => theirs.includes(version));
  return common.length === 0 ? undefined : Math.max(...common);
}

/** A node's name for itself against its certificate. */
function refusalOfIdentity(
  { nodeId, clusterId }: { readonly nodeId: string; readonly clusterId: string },
  { certificate }: PeerIdentity,
): PeerRefusal | undefined {
  if (certificate === undefined) return undefined;
  if (certificate.nodeId !== nodeId)
    return { reason: "wrong_identity", detail: `claims to be ${nodeId}; its certificate is of ${certificate.nodeId}` };
  if (certificate.clusterId === clusterId) return undefined;
  return { reason: "wrong_identity", detail: `claims cluster ${clusterId}; its certificate is of ${certificate.clusterId}` };
}

/** Why a peer without a certificate is refused for its token. The token may be in the hello or in the headers of the call. */
function refusalOfToken(
  hello: Pick<Hello, "clusterToken">,
  identity: PeerIdentity,
  { clusterToken, otherToken }: PeerAuthFacts,
): PeerRefusal | undefined {
  if (identity.certificate !== undefined || clusterToken === "") return undefined;
  const shown = hello.clusterToken === "" ? identity.clusterToken : hello.clusterToken;
  const isOther = otherToken !== undefined && equalSecrets(shown, otherToken);
  return equalSecrets(shown, clusterToken) || isOther ? undefined : { reason: "wrong_token", detail: "another cluster token, or none" };
}
