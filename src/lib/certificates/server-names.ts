/** TLS server names that select a cluster at a fabric listener: a border link requests `….border.waymark`, and a newcomer `….issuer.waymark`. */

/** Length of a label. DNS limits a label to 63 characters. */
const LABEL_CHARS = 60;
const SERVER_NAME = /^([0-9a-f]{1,60}(?:\.[0-9a-f]{1,60}){0,3})\.(border|issuer)\.waymark$/;
const CLUSTER = /^[A-Za-z0-9._:/@+-]{1,64}$/;

export type ServerNameKind = "border" | "issuer";

/** Returns the server name. It contains the id of the cluster in hexadecimal digits. */
export function serverNameOf(clusterId: string, kind: ServerNameKind): string {
  const hex = Buffer.from(clusterId).toString("hex");
  const labels = hex.match(new RegExp(`.{1,${LABEL_CHARS}}`, "g")) ?? [];
  return `${labels.join(".")}.${kind}.waymark`;
}

/** Returns the cluster in a server name. Undefined for other names. */
export function clusterOfServerName(serverName: string, kind: ServerNameKind): string | undefined {
  const [, labels, found] = SERVER_NAME.exec(serverName) ?? [];
  if (labels === undefined || found !== kind) return undefined;
  const clusterId = Buffer.from(labels.replaceAll(".", ""), "hex").toString("latin1");
  return CLUSTER.test(clusterId) ? clusterId : undefined;
}
