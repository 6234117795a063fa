/** The identity of a peer, as proved by its socket. */
import { X509Certificate } from "node:crypto";
import type { Socket } from "node:net";
import { TLSSocket } from "node:tls";
import { hostPort, isLoopbackHost, withoutMapping } from "../../lib/addresses.ts";
import { nodeOfCertificate } from "../links/peer-auth.ts";
import type { PeerIdentity } from "../wire/messages.ts";
import { type BorderAuthority, clusterAtGate } from "./border-gate.ts";

/** Contents of the certificate files, in PEM. */
export interface FabricTls {
  readonly cert: Uint8Array;
  readonly key: Uint8Array;
  /** CA of all nodes of the fabric. Both ends must present a certificate signed by it. */
  readonly clientCa: Uint8Array;
  /** CAs of the nodes of other regions. They are valid for border links only. */
  readonly borders?: readonly BorderAuthority[];
}

/** Returns the trust domain of the node in a certificate (SPIFFE-ID, section 2.1). Throws if it does not name a node. */
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
 * Returns the identity, or why the connection must not be used. With a `trustDomain`, the other end must have presented a certificate of a
 * node in it. TLS has already verified the certificate: with the border's CA if `border` is given.
 */
export function peerIdentityOf(
  socket: Socket,
  trustDomain: string | undefined,
  border?: BorderAuthority,
): PeerIdentity | { readonly refused: string } {
  const host = withoutMapping(socket.remoteAddress ?? "");
  const plain = { address: hostPort(host, socket.remotePort ?? 0), isLoopback: isLoopbackHost(host), clusterToken: "" };
  if (trustDomain === undefined) return { ...plain, certificate: undefined };
  if (!(socket instanceof TLSSocket) || !socket.authorized) return { refused: "presented no certificate signed by the expected CA" };
  // With TLS 1.2 a resumed session need not name the gate of the first connection. Nodes never resume sessions.
  if (socket.isSessionReused()) return { refused: "resumed a TLS session, which nodes never do" };
  const node = nodeOfCertificate(socket.getPeerX509Certificate()?.subjectAltName ?? "");
  if (node === undefined) return { refused: "its certificate does not name a node" };
  const wanted = border?.trustDomain ?? trustDomain;
  if (node.trustDomain !== wanted) return { refused: `its certificate is from another trust domain: ${node.trustDomain}` };
  const certificate = { nodeId: node.nodeId, clusterId: node.clusterId };
  return { ...plain, certificate, ...(border !== undefined && { border: border.clusterId }) };
}

/** The border whose gate a connection came through. Undefined if it came through none and was verified as a member's. */
export function borderOf(socket: Socket, borders: readonly BorderAuthority[]): BorderAuthority | undefined {
  const serverName: unknown = socket instanceof TLSSocket ? Reflect.get(socket, "servername") : undefined;
  return typeof serverName === "string" ? borderAtGate(serverName, borders) : undefined;
}

/** Finds the border of a gate. `unknown` is called with the cluster of a gate that belongs to none of these borders. */
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
