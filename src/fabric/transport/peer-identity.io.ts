/** What a socket proves of the node at its other end. */
import { X509Certificate } from "node:crypto";
import type { Socket } from "node:net";
import { TLSSocket } from "node:tls";
import { hostPort, isLoopbackHost, withoutMapping } from "../../lib/addresses.ts";
import { nodeOfCertificate } from "../links/peer-auth.ts";
import type { PeerIdentity } from "../wire/messages.ts";
import { type BorderAuthority, clusterAtGate } from "./border-gate.ts";

/** PEM, already read: what a node shows, and whose signature it believes. */
export interface FabricTls {
  readonly cert: Uint8Array;
  readonly key: Uint8Array;
  /** Of every node of the fabric; both ends show a certificate it signed. */
  readonly clientCa: Uint8Array;
  /** What verifies the nodes of other regions on border links. It counts for these links alone. */
  readonly borders?: readonly BorderAuthority[];
}

/** Trust domain of the node a certificate names (SPIFFE-ID, section 2.1); throws for one that names no node. */
export function trustDomainOf(cert: Uint8Array): string {
  const names = new X509Certificate(cert).subjectAltName ?? "";
  const node = nodeOfCertificate(names);
  if (node === undefined)
    throw new Error(
      `the fabric's certificate names no node: it must have one URI, spiffe://<trust domain>/waymark/cluster/<cluster>/node/<node>, and has ${names}`,
    );
  return node.trustDomain;
}

/**
 * The proof, or why the connection is not to be used. With a `trustDomain` the other end must have shown a certificate of
 * a node of it, which TLS has already verified: with the authority of the border, where one is given.
 */
export function peerIdentityOf(
  socket: Socket,
  trustDomain: string | undefined,
  border?: BorderAuthority,
): PeerIdentity | { readonly refused: string } {
  const host = withoutMapping(socket.remoteAddress ?? "");
  const plain = { address: hostPort(host, socket.remotePort ?? 0), isLoopback: isLoopbackHost(host), clusterToken: "" };
  if (trustDomain === undefined) return { ...plain, certificate: undefined };
  if (!(socket instanceof TLSSocket) || !socket.authorized) return { refused: "showed no certificate of ours" };
  // A resumed session need not name the gate by which it came first (TLS 1.2), and nodes resume none.
  if (socket.isSessionReused()) return { refused: "resumed a session, as no node does" };
  const node = nodeOfCertificate(socket.getPeerX509Certificate()?.subjectAltName ?? "");
  if (node === undefined) return { refused: "its certificate names no node" };
  const wanted = border?.trustDomain ?? trustDomain;
  if (node.trustDomain !== wanted) return { refused: `its certificate is of another trust domain, ${node.trustDomain}` };
  const certificate = { nodeId: node.nodeId, clusterId: node.clusterId };
  return { ...plain, certificate, ...(border !== undefined && { border: border.clusterId }) };
}

/** The border by whose gate a connection came. Undefined: by none, and its certificate was verified as a member's. */
export function borderOf(socket: Socket, borders: readonly BorderAuthority[]): BorderAuthority | undefined {
  const serverName: unknown = socket instanceof TLSSocket ? Reflect.get(socket, "servername") : undefined;
  return typeof serverName === "string" ? borderAtGate(serverName, borders) : undefined;
}

/** The border at a gate. `unknown` is told of the cluster of a gate that is none of these borders. */
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
