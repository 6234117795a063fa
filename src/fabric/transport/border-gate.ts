/**
 * The gates of the fabric listener: a node that opens a border link names its own cluster in the TLS greeting (as the server name), and its
 * certificate is then verified with the authority of the border with that cluster, and with no other. Without that name it is verified
 * with the fabric's own authority alone.
 */
import type { PeerIdentity } from "../wire/messages.ts";

/** What verifies the nodes of a border. */
export interface BorderAuthority {
  readonly clusterId: string;
  /** PEM. */
  readonly ca: Uint8Array;
  /** The trust domain that their certificates name. */
  readonly trustDomain: string;
}

const SUFFIX = ".border.waymark";
/** A label of a name has at most 63 characters. */
const LABEL_CHARS = 60;
const GATE = /^([0-9a-f]{1,60}(?:\.[0-9a-f]{1,60}){0,3})\.border\.waymark$/;
const CLUSTER = /^[A-Za-z0-9._:/@+-]{1,64}$/;

/** The server name for which a node of the cluster asks on a border link. */
export function gateOf(clusterId: string): string {
  const hex = Buffer.from(clusterId).toString("hex");
  const labels = hex.match(new RegExp(`.{1,${LABEL_CHARS}}`, "g")) ?? [];
  return `${labels.join(".")}${SUFFIX}`;
}

/** The cluster of which a node says that it is by this server name. Undefined for other names. */
export function clusterAtGate(serverName: string): string | undefined {
  const [, labels] = GATE.exec(serverName) ?? [];
  if (labels === undefined) return undefined;
  const clusterId = Buffer.from(labels.replaceAll(".", ""), "hex").toString("latin1");
  return CLUSTER.test(clusterId) ? clusterId : undefined;
}

/**
 * The cluster whose places a connection or link by a border's gate takes; empty for all that come by a gate of another cluster, as they can where several borders
 * have one authority. Undefined: none came by a gate.
 */
export function placesOf({ certificate, border }: Pick<PeerIdentity, "border" | "certificate">): string | undefined {
  return border === undefined || certificate === undefined || certificate.clusterId === border ? border : "";
}
