/** The identity of a peer, as proved by its connection. */
import { X509Certificate } from "node:crypto";
import type { Socket } from "node:net";
import { TLSSocket } from "node:tls";
import { hostPort, isLoopbackHost, withoutMapping } from "../../lib/addresses.ts";
import { issuerOf, NO_REVOCATIONS, type Revocations, revocationOf } from "../../lib/certificates/revocations.ts";
import { nodeOfCertificate } from "../links/peer-auth.ts";
import type { PeerIdentity } from "../wire/messages.ts";
import { type BorderAuthority, clusterAtGate } from "./border-gate.ts";

/** Contents of the certificate files, in PEM. */
export interface FabricTls {
  readonly cert: Uint8Array;
  readonly key: Uint8Array;
  /** The CA of all nodes in the fabric. Both sides must present a certificate signed by this CA. */
  readonly clientCa: Uint8Array;
  /** The revocation lists of this CA and its intermediates. */
  readonly crls?: readonly Uint8Array[] | undefined;
  /** The CAs of nodes in other regions. They are valid only for border links. */
  readonly borders?: readonly BorderAuthority[];
  /** The certificates that do not count, although their authority is trusted. */
  readonly revocations?: Revocations | undefined;
}

/** The certificates that this node accepts. */
export interface AcceptedPeers {
  /** Undefined without TLS. Every peer then is accepted as it is. */
  readonly trustDomain: string | undefined;
  readonly revocations: Revocations;
}

/** Throws if this node's certificate does not name a node. */
export function acceptedPeers(tls: FabricTls | undefined): AcceptedPeers {
  return { trustDomain: tls && trustDomainOf(tls.cert), revocations: tls?.revocations ?? NO_REVOCATIONS };
}

/** Returns why the certificate of an open connection does not count. Undefined if it counts. */
export function whyRevoked({ revocable }: PeerIdentity, { revocations }: AcceptedPeers): string | undefined {
  return revocable && revocationOf(revocable, revocations);
}

/** Returns the trust domain of the node that a certificate names (SPIFFE-ID, section 2.1). Throws if the certificate does not name a node. */
export function trustDomainOf(cert: Uint8Array): string {
  const names = new X509Certificate(cert).subjectAltName ?? "";
  const node = nodeOfCertificate(names);
  if (node === undefined)
    throw new Error(
      `the fabric certificate does not name a node: expected one URI spiffe://<trust domain>/waymark/cluster/<cluster>/node/<node>, found "${names}"`,
    );
  return node.trustDomain;
}

/**
 * Returns the identity, or the reason why the connection must not be used. If a trust domain is given, the other side must have presented a
 * certificate of a node in that domain. TLS has already verified the certificate. If `border` is given, it was verified with the border's CA.
 */
export function peerIdentityOf(
  socket: Socket,
  { trustDomain, revocations }: AcceptedPeers,
  border?: BorderAuthority,
): PeerIdentity | { readonly refused: string } {
  const host = withoutMapping(socket.remoteAddress ?? "");
  const plain = { address: hostPort(host, socket.remotePort ?? 0), isLoopback: isLoopbackHost(host), clusterToken: "" };
  if (trustDomain === undefined) return { ...plain, certificate: undefined };
  if (!(socket instanceof TLSSocket) || !socket.authorized) return { refused: "presented no certificate signed by the expected CA" };
  // With TLS 1.2, a resumed session need not name the gate of the first connection. Nodes never resume sessions.
  if (socket.isSessionReused()) return { refused: "resumed a TLS session, which nodes never do" };
  const shown = socket.getPeerX509Certificate();
  const { subjectAltName = "", issuer: issuerName = "" } = shown ?? {};
  const node = nodeOfCertificate(subjectAltName);
  if (node === undefined) return { refused: "its certificate does not name a node" };
  const issuer = issuerOf(issuerName);
  if (issuer !== undefined && issuer.clusterId !== node.clusterId)
    return { refused: `its certificate names the cluster ${node.clusterId}, but an issuer of ${issuer.clusterId} made it` };
  const wanted = border?.trustDomain ?? trustDomain;
  if (node.trustDomain !== wanted) return { refused: `its certificate is from another trust domain: ${node.trustDomain}` };
  const revocable = { subjectAltName, issuer: issuerName, validFromWallMs: shown?.validFromDate.getTime() ?? 0 };
  const revoked = revocationOf(revocable, revocations);
  if (revoked !== undefined) return { refused: revoked };
  const certificate = { nodeId: node.nodeId, clusterId: node.clusterId };
  return { ...plain, certificate, revocable, ...(border !== undefined && { border: border.clusterId }) };
}

/** The border whose gate a connection used. Undefined if the connection did not use a gate and was verified like a member's connection. */
export function borderOf(socket: Socket, borders: readonly BorderAuthority[]): BorderAuthority | undefined {
  return borderAtGate(serverNameOf(socket), borders);
}

/** Returns the server name that the client requested. Empty if it requested none. */
export function serverNameOf(socket: Socket): string {
  const serverName: unknown = socket instanceof TLSSocket ? Reflect.get(socket, "servername") : undefined;
  return typeof serverName === "string" ? serverName : "";
}

/** Finds the border to which a gate belongs. `unknown` is called with the gate's cluster if the gate does not belong to any of these borders. */
export function borderAtGate(
  serverName: string,
  borders: readonly BorderAuthority[],
  unknown: (clusterId: string) => void = () => {},
): BorderAuthority | undefined {
  const clusterId = clusterAtGate(serverName);
  if (clusterId === undefined) return undefined;
  const border = borders.find((each) => each.clusterId === clusterId);
  if (border === undefined) unknown(clusterId);
  return border;
}
