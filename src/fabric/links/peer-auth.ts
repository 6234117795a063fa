/** Whether a node may talk to us: what it claims against what its connection proves. */
import { equalSecrets } from "../../lib/crypto.ts";
import { uriNames } from "../../policy/identity/certificates.ts";
import { isListed } from "../membership/members.ts";
import type { StartStanding } from "../membership/node-starts.ts";
import type { CallRequest, CallResponse, Goodbye, Hello, MemberUpdate, PeerIdentity } from "../wire/messages.ts";
import type { Foreigners } from "./foreigners.ts";

/** Fabric protocol versions this program speaks, ascending. */
export const PROTOCOL_VERSIONS: readonly number[] = [1];

// Trust domain as in the SPIFFE-ID specification, section 2.1; the names are ours (semantics.md, Names and bounds), which SPIFFE's charset narrows.
const NODE_ID = /^spiffe:\/\/[a-z0-9._-]{1,255}\/waymark\/cluster\/([A-Za-z0-9._-]{1,64})\/node\/([A-Za-z0-9._-]{1,64})$/;

export interface PeerAuthFacts {
  readonly nodeId: string;
  readonly clusterId: string;
  readonly region: string;
  /** Shared by all nodes that may link without certificates; empty: none is asked for. */
  readonly clusterToken: string;
  /** Taken from others as well, while the token is changed; never shown. */
  readonly otherToken?: string | undefined;
  /** Plain connections from other machines are taken too. */
  readonly isInsecure: boolean;
  /** Closed, nobody is talked to any more: there is something to protect here, and peers would prove nothing. */
  readonly seal?: { readonly isClosed: boolean };
  /** Whom this node has nothing to do with, whatever they prove. */
  readonly foreigners: Foreigners;
}

/** What nodes without certificates show each other. */
export interface ClusterTokens {
  /** The one this node shows; empty: none, and none is asked for. */
  readonly clusterToken: string;
  readonly otherToken?: string | undefined;
}

/** Why a peer is refused: what it is told, and what an operator is. */
export interface Refusal {
  readonly reason: Goodbye;
  readonly detail: string;
}

/** The node and cluster a certificate's alternative names speak for; undefined when they name none, or more than one. */
export function nodeOfCertificate(alternativeNames: string): { readonly nodeId: string; readonly clusterId: string } | undefined {
  const [uri, ...others] = uriNames(alternativeNames);
  const [, clusterId, nodeId] = NODE_ID.exec(uri ?? "") ?? [];
  return nodeId === undefined || clusterId === undefined || others.length > 0 ? undefined : { nodeId, clusterId };
}

/** Whether a plain connection proves enough: it is of this machine itself, or the operator trusts the network (`--insecure`). */
export function isPlainEnough({ isLoopback }: Pick<PeerIdentity, "isLoopback">, isInsecure: boolean): boolean {
  return isLoopback || isInsecure;
}

/** The token to show: only where no certificate says who this node is. */
export function tokenToShow(hasCertificate: boolean, clusterToken: string): string {
  return hasCertificate ? "" : clusterToken;
}

/** A node answered under the certificate of another, and how; undefined when it did not, or showed none. */
export function wrongAnswerer(response: CallResponse, { certificate }: PeerIdentity): string | undefined {
  if (response.kind === "probeIndirect" || certificate === undefined) return undefined;
  const { nodeId, clusterId } = certificate;
  const { from } = response;
  if (nodeId === from.nodeId && (from.clusterId ?? clusterId) === clusterId) return undefined;
  return `${from.nodeId} of ${from.clusterId ?? "no cluster"} answered with the certificate of ${nodeId} of ${clusterId}`;
}

/** What a connection proves before anything is said on it. Our own token is shown to nobody whom this refuses. */
export function refusalByIdentity(identity: PeerIdentity, facts: PeerAuthFacts): Refusal | undefined {
  if (facts.seal?.isClosed === true)
    return { reason: "wrong_token", detail: "a policy is in force, and the fabric has neither token nor certificates" };
  if (identity.certificate !== undefined || isPlainEnough(identity, facts.isInsecure)) return undefined;
  return { reason: "wrong_identity", detail: "a plain connection from another machine proves nothing" };
}

/** A hello against what the connection proves; undefined when the peer may stay. */
export function refusalOfHello(hello: Hello, identity: PeerIdentity, facts: PeerAuthFacts): Refusal | undefined {
  const refused = refusalByIdentity(identity, facts) ?? refusalOfIdentity(hello, identity) ?? refusalOfToken(hello, identity, facts);
  if (refused !== undefined) return refused;
  if (hello.nodeId === facts.nodeId)
    return { reason: "duplicate_node", detail: `two nodes call themselves ${facts.nodeId}; the other is at ${hello.address}` };
  const foreign = facts.foreigners.refusalOf(hello);
  if (foreign !== undefined) return foreign;
  if (commonVersion(PROTOCOL_VERSIONS, hello.protocolVersions) === undefined)
    return { reason: "incompatible", detail: `speaks ${hello.protocolVersions.join(", ")}, not ${PROTOCOL_VERSIONS.join(", ")}` };
  return undefined;
}

/** A greeting of a start that does not go under its node's id here, or not yet; undefined when there is nothing against it. */
export function refusalOfStart({ nodeId, address }: Pick<Hello, "nodeId" | "address">, start: StartStanding): Refusal | undefined {
  if (start.verdict === "stranger") {
    const detail = `the one at ${address} does not follow the start of ${nodeId} that was accepted last`;
    const isSure = start.standing === "lasting" || start.standing === "two";
    return { reason: isSure ? "duplicate_node" : "not_needed", detail };
  }
  if (start.verdict !== "follows" || !start.isElsewhere) return undefined;
  return { reason: "not_needed", detail: `the last start of ${nodeId} is listed elsewhere, and looked for first` };
}

/** Why a link ends whose start does not go under its node's id any more: the words of its greeting are old, and accuse nobody. */
export function anotherStart({ nodeId }: Pick<Hello, "nodeId">): Refusal {
  return { reason: "not_needed", detail: `another start of ${nodeId} was accepted since this link came up` };
}

/** What a call's connection and headers prove, before anything is read of it; undefined when that is enough to be heard. */
export function refusalOfCaller(identity: PeerIdentity, facts: PeerAuthFacts): Refusal | undefined {
  return refusalByIdentity(identity, facts) ?? refusalOfToken({ clusterToken: "" }, identity, facts);
}

/** A call's asker against what its connection proves; undefined when it may ask. */
export function refusalOfCall(request: CallRequest, identity: PeerIdentity, facts: PeerAuthFacts): Refusal | undefined {
  const { nodeId } = request.from;
  const { clusterId, region } = placeOfSpeaker(request);
  const refused = refusalOfCaller(identity, facts) ?? refusalOfIdentity({ nodeId, clusterId }, identity);
  return refused ?? refusalOfSpeaker(nodeId, { clusterId: identity.certificate?.clusterId ?? clusterId, region }, facts);
}

/** Whether who answered a call is foreign here: then nothing that it says is heard. */
export function refusalOfAnswer(response: CallResponse, facts: PeerAuthFacts): Refusal | undefined {
  return response.kind === "probeIndirect" ? undefined : refusalOfSpeaker(response.from.nodeId, placeOfSpeaker(response), facts);
}

interface SpeakerPlace {
  readonly clusterId: string | undefined;
  readonly region: string | undefined;
}

/** As it says itself; an older node says so in its table only. */
function placeOfSpeaker(said: CallRequest | Exclude<CallResponse, { kind: "probeIndirect" }>): SpeakerPlace {
  const { from } = said;
  const own = said.kind === "pushPull" ? said.members.find(({ nodeId }) => nodeId === from.nodeId) : undefined;
  return { clusterId: from.clusterId ?? own?.clusterId, region: from.region ?? own?.region };
}

/** An older node that does not say where it is: only if others said that it is foreign. */
function refusalOfSpeaker(
  nodeId: string,
  { clusterId, region }: SpeakerPlace,
  { foreigners, ...here }: PeerAuthFacts,
): Refusal | undefined {
  const place = { clusterId: clusterId ?? here.clusterId, region: region ?? here.region };
  const refusal = foreigners.refusalOf(place);
  if (refusal !== undefined) foreigners.note(nodeId, place);
  if (refusal !== undefined || clusterId !== undefined || !foreigners.has(nodeId)) return refusal;
  return { reason: "wrong_cluster", detail: `node ${nodeId} is of a cluster or region that is foreign to cluster ${here.clusterId}` };
}

/**
 * Whether what others know under this node's id is a later life of its own: one that is over, or at its own address. Then the journal is an old
 * one that was put back, and needs a generation above it (semantics.md, Durability). One that lives at another address is a second node of our name.
 */
export function isOwnLaterLife(
  { generation, address, status }: MemberUpdate,
  self: { readonly address: string; readonly generation: number },
): boolean {
  return generation > self.generation && (address === self.address || !isListed(status));
}

/** Whom to count refusals by. Without the port: who tries again and again comes from another one each time. */
export function hostOf(identity: PeerIdentity | undefined): string {
  return identity === undefined ? "" : identity.address.replace(/:\d+$/, "");
}

/** The highest protocol version both speak. */
export function commonVersion(ours: readonly number[], theirs: readonly number[]): number | undefined {
  const common = ours.filter((version) => theirs.includes(version));
  return common.length === 0 ? undefined : Math.max(...common);
}

/** A node's name for itself against its certificate. An older node does not name its cluster in a call. */
function refusalOfIdentity(
  { nodeId, clusterId }: { readonly nodeId: string; readonly clusterId: string | undefined },
  { certificate }: PeerIdentity,
): Refusal | undefined {
  if (certificate === undefined) return undefined;
  if (certificate.nodeId !== nodeId)
    return { reason: "wrong_identity", detail: `claims to be ${nodeId}; its certificate is of ${certificate.nodeId}` };
  if (clusterId === undefined || certificate.clusterId === clusterId) return undefined;
  return { reason: "wrong_identity", detail: `claims cluster ${clusterId}; its certificate is of ${certificate.clusterId}` };
}

/** A certificate is proof enough; without one the token is, wherever it came. */
function refusalOfToken(
  hello: Pick<Hello, "clusterToken">,
  identity: PeerIdentity,
  { clusterToken, otherToken }: PeerAuthFacts,
): Refusal | undefined {
  if (identity.certificate !== undefined || clusterToken === "") return undefined;
  const shown = hello.clusterToken === "" ? identity.clusterToken : hello.clusterToken;
  const isOther = otherToken !== undefined && equalSecrets(shown, otherToken);
  return equalSecrets(shown, clusterToken) || isOther ? undefined : { reason: "wrong_token", detail: "another cluster token, or none" };
}
