/**
 * The fabric listener's gates for border links. A node that opens a border link sends the name of its own cluster in the TLS handshake (as the server
 * name). Its certificate is then verified only with the CA of the border with that cluster. Without that name, the certificate is verified only with
 * the fabric's own CA.
 */
import type { PeerIdentity } from "../wire/messages.ts";

/** Verifies the certificates of a border's nodes. */
export interface BorderAuthority {
  readonly clusterId: string;
  /** PEM. */
  readonly ca: Uint8Array;
  /** The trust domain in the nodes' certificates. */
  readonly trustDomain: string;
}

const SUFFIX = ".border.waymark";
/** Length of a label. DNS limits a label to 63 characters. */
const LABEL_CHARS = 60;
const GATE = /^([0-9a-f]{1,60}(?:\.[0-9a-f]{1,60}){0,3})\.border\.waymark$/;
const CLUSTER = /^[A-Za-z0-9._:/@+-]{1,64}$/;

/** Returns the server name that a node of the cluster requests on a border link. */
export function gateOf(clusterId: string): string {
  const hex = Buffer.from(clusterId).toString("hex");
  const labels = hex.match(new RegExp(`.{1,${LABEL_CHARS}}`, "g")) ?? [];
  return `${labels.join(".")}${SUFFIX}`;
}

/** Returns the cluster that is encoded in this server name. Undefined for other names. */
export function clusterAtGate(serverName: string): string | undefined {
  const [, labels] = GATE.exec(serverName) ?? [];
  if (labels === undefined) return undefined;
  const clusterId = Buffer.from(labels.replaceAll(".", ""), "hex").toString("latin1");
  return CLUSTER.test(clusterId) ? clusterId : undefined;
}

/**
 * The cluster whose quota a connection or link through a border's gate uses. Empty for nodes that use the gate of another cluster, which is possible
 * if several borders share a CA. Undefined for connections that did not use a gate.
 */
export function placesOf({ certificate, border }: Pick<PeerIdentity, "border" | "certificate">): string | undefined {
  return border === undefined || certificate === undefined || certificate.clusterId === border ? border : "";
}
