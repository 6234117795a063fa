/**
 * The fabric listener's gates for border links. A node that opens a border link sends the name of its own cluster in the TLS handshake (as the server
 * name). Its certificate is then verified only with the CA of the border with that cluster. Without that name, the certificate is verified only with
 * the fabric's own CA.
 */
import { clusterOfServerName, serverNameOf } from "../../lib/certificates/server-names.ts";
import type { PeerIdentity } from "../wire/messages.ts";

/** Verifies the certificates of a border's nodes. */
export interface BorderAuthority {
  readonly clusterId: string;
  /** PEM. */
  readonly ca: Uint8Array;
  /** The trust domain in the nodes' certificates. */
  readonly trustDomain: string;
}

/** Returns the server name that a node of the cluster requests on a border link. */
export function gateOf(clusterId: string): string {
  return serverNameOf(clusterId, "border");
}

/** Returns the cluster that is encoded in this server name. Undefined for other names. */
export function clusterAtGate(serverName: string): string | undefined {
  return clusterOfServerName(serverName, "border");
}

/**
 * The cluster whose quota a connection or link through a border's gate uses. Empty for nodes that use the gate of another cluster, which is possible
 * if several borders share a CA. Undefined for connections that did not use a gate.
 */
export function placesOf({ certificate, border }: Pick<PeerIdentity, "border" | "certificate">): string | undefined {
  return border === undefined || certificate === undefined || certificate.clusterId === border ? border : "";
}
