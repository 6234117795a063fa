/** What a socket proves of the node at its other end. */
import { X509Certificate } from "node:crypto";
import type { Socket } from "node:net";
import { TLSSocket } from "node:tls";
import { hostPort, isLoopbackHost, withoutMapping } from "../../lib/addresses.ts";
import { nodeOfCertificate } from "../links/peer-auth.ts";
import type { PeerIdentity } from "../wire/messages.ts";

/** PEM, already read: what a node shows, and whose signature it believes. */
export interface FabricTls {
  readonly cert: Uint8Array;
  readonly key: Uint8Array;
  /** Of every node of the fabric; both ends show a certificate it signed. */
  readonly clientCa: Uint8Array;
}

/** Trust domain of the node a certificate names (SPIFFE-ID, section 2.1); throws for one that names no node. */
export function trustDomainOf(cert: Uint8Array): string {
  const names = new X509Certificate(cert).subjectAltName ?? "";
  const domain = domainIn(names);
  if (domain === undefined)
    throw new Error(
      `the fabric's certificate names no node: it must have one URI, spiffe://<trust domain>/waymark/cluster/<cluster>/node/<node>, and has ${names}`,
    );
  return domain;
}

function domainIn(alternativeNames: string): string | undefined {
  if (nodeOfCertificate(alternativeNames) === undefined) return undefined;
  return /URI:spiffe:\/\/([^/]+)\//.exec(alternativeNames)?.[1];
}

/**
 * The proof, or why the connection is not to be used. With a `trustDomain` the other end must have shown a certificate of
 * a node of it, which TLS has already verified.
 */
export function peerIdentityOf(socket: Socket, trustDomain: string | undefined): PeerIdentity | { readonly refused: string } {
  const host = withoutMapping(socket.remoteAddress ?? "");
  const plain = { address: hostPort(host, socket.remotePort ?? 0), isLoopback: isLoopbackHost(host), clusterToken: "" };
  if (trustDomain === undefined) return { ...plain, certificate: undefined };
  if (!(socket instanceof TLSSocket) || !socket.authorized) return { refused: "showed no certificate of ours" };
  const names = socket.getPeerX509Certificate()?.subjectAltName ?? "";
  const certificate = nodeOfCertificate(names);
  if (certificate === undefined) return { refused: "its certificate names no node" };
  const domain = domainIn(names);
  if (domain !== trustDomain) return { refused: `its certificate is of another trust domain, ${domain ?? ""}` };
  return { ...plain, certificate };
}
