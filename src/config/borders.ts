/** Settings for the clusters of other regions with which this cluster exchanges summaries: `fabric.borders` in `fabric.ts`. */
import { isLoopbackHost, splitHostPort } from "../lib/addresses.ts";
import { RECORD_BOUNDS } from "../lib/bounds.ts";
import { MINUTE_MS } from "../lib/duration.ts";
import { ADDRESS, ID, int, LABEL, list, ms, PUBLIC_KEY, RELOADED_FILE, text } from "./field.ts";
import { requiredTable, rows, type ValueOf } from "./field-table.ts";

/**
 * Maximum number of clusters in other regions, and of the regions to which they belong. A node reports each such region to the other nodes of its own
 * region.
 */
const MAX_BORDERS = 64;
const MAX_BORDER_REGIONS = 32;

/** The same limit as for the pattern in a policy rule. */
const MAX_PATTERN = RECORD_BOUNDS.maxNamespaceLength + ".*".length;
const NAMESPACES = {
  pattern: new RegExp(`^(?=.{1,${MAX_PATTERN}}$)${LABEL}(?:\\.${LABEL})*(?:\\.\\*)?$`),
  what: "a namespace (which includes all namespaces below it), or a namespace followed by .* (only the namespaces below it)",
  default: [],
} as const;
/** Cluster ids that can occur in a certificate (SPIFFE-ID, section 2.2). */
const IN_CERTIFICATE = /^(?!\.{1,2}$)[A-Za-z0-9._-]+$/;

const TRUST = requiredTable({
  doc: "How the other cluster's nodes must prove their identity: with certificates (a CA and a trust domain), or with a token (on loopback only).",
  fields: {
    caFile: text({
      ...RELOADED_FILE,
      doc: "PEM file with the CAs that issue the certificates of the other cluster's nodes. These CAs are trusted only for links of this border. The file is reread on SIGHUP.",
    }),
    trustDomain: text({
      pattern: /^[a-z0-9._-]{1,255}$/,
      what: "a SPIFFE trust domain",
      doc: "Trust domain of the other cluster's certificates (`spiffe://<trust domain>/waymark/cluster/<cluster_id>/node/<node>`). Defaults to the trust domain of fabric.cert_file.",
    }),
    tokenFile: text({
      ...RELOADED_FILE,
      doc: "File with a token that both sides present instead of certificates (on loopback only). The file has one line, as fabric.cluster_token_file does, and a second line during a token change. The file is reread on SIGHUP.",
    }),
  },
  required: [],
  check: ({ caFile, trustDomain, tokenFile }) => {
    if ((caFile === undefined) === (tokenFile === undefined))
      return "needs either ca_file or token_file to authenticate the nodes of the other cluster";
    return tokenFile !== undefined && trustDomain !== undefined ? "trust_domain needs ca_file" : undefined;
  },
});

export const BORDERS = rows({
  doc: "Clusters in other regions with which this cluster exchanges service summaries. Each side must configure the other side. All nodes of a cluster on which borders are configured should have the same borders.",
  maxItems: MAX_BORDERS,
  fields: {
    clusterId: text({ ...ID, default: "", doc: "Id of the other cluster." }),
    region: text({
      ...ID,
      default: "",
      doc: "Region of the other cluster. Nodes and messages that claim another region for the cluster are refused.",
    }),
    addresses: list({
      pattern: ADDRESS,
      what: 'an address such as "10.0.0.1:17421" or "[fd00::1]:17421"',
      maxItems: 32,
      default: [],
      doc: "Fabric addresses (host:port) of the other cluster's nodes. When empty, only the other side opens links.",
    }),
    trust: TRUST,
    keys: list({
      ...PUBLIC_KEY,
      default: [],
      doc: "Ed25519 public keys that verify the other cluster's signatures, each as in summary.keys[].public_key. These keys are used in addition to the cluster's keys in summary.keys.",
    }),
    import: list({
      ...NAMESPACES,
      doc: "Namespaces whose summaries, when received over this border, are shown on this cluster's nodes. Empty means all.",
    }),
    export: list({ ...NAMESPACES, doc: "Namespaces whose summaries are sent over this border, if policy exports them. Empty means all." }),
    batchIntervalMs: ms({
      default: 200,
      min: 0,
      max: MINUTE_MS,
      doc: "Delay before a changed summary is sent, so that several can be sent in one batch. Beacons and withdrawals are not delayed.",
    }),
    bytesPerSecond: int({
      default: 0,
      min: 0,
      max: 1_000_000_000,
      doc: "Maximum rate of summaries on one link, in bytes per second; 0 means no limit.",
    }),
  },
  required: ["clusterId", "region", "trust"],
  check: ({ clusterId, trust: { caFile, tokenFile }, addresses }) => {
    if (caFile !== undefined && !IN_CERTIFICATE.test(clusterId))
      return `${clusterId} is not valid in a certificate, so its nodes could not authenticate; use A-Z a-z 0-9 . _ -`;
    const remote = tokenFile === undefined ? undefined : addresses.find((address) => !isLoopbackHost(splitHostPort(address).host));
    return remote === undefined ? undefined : `trust.token_file is for loopback only, and ${remote} is not on loopback; use trust.ca_file`;
  },
});

export type BorderSettings = ValueOf<typeof BORDERS>[number];

export interface BorderPlace {
  readonly clusterId: string;
  readonly region: string;
  readonly hasCertificate: boolean;
  readonly hasFabric: boolean;
  /** The rows of `summary.keys`. */
  readonly keys: readonly { readonly clusterId: string; readonly region: string }[];
}

/** Errors in the borders of a node in this cluster and region, each with its path below `fabric.borders`. */
export function borderProblems(
  borders: readonly BorderSettings[],
  here: BorderPlace,
): readonly (readonly [path: string, message: string])[] {
  const seen = new Map<string, number>();
  const problems: (readonly [string, string])[] = [];
  for (const [i, border] of borders.entries()) {
    const problem = problemOf(border, here, seen.get(border.clusterId));
    if (problem !== undefined) problems.push([`[${i}]${problem[0]}`, problem[1]]);
    seen.set(border.clusterId, i);
  }
  const regions = new Set(borders.map(({ region }) => region));
  if (regions.size > MAX_BORDER_REGIONS)
    problems.push(["", `there are ${regions.size} regions, more than the maximum of ${MAX_BORDER_REGIONS}`]);
  return problems;
}

function problemOf(
  { clusterId, region, trust: { caFile } }: BorderSettings,
  here: BorderPlace,
  twin: number | undefined,
): readonly [field: string, message: string] | undefined {
  if (!here.hasFabric) return ["", "needs fabric.enabled"];
  if (clusterId === here.clusterId) return [".cluster_id", `${clusterId} is this cluster itself (node.cluster_id)`];
  if (region === here.region)
    return [
      ".region",
      `${region} is this node's own region (node.region); use fabric.trust and fabric.clusters for clusters of the same region`,
    ];
  if (twin !== undefined) return [".cluster_id", `${clusterId} is also the cluster of [${twin}]; a cluster can have only one border`];
  const key = here.keys.findIndex((row) => row.clusterId === clusterId && row.region !== region);
  if (key >= 0)
    return [".region", `is ${region}, but summary.keys[${key}].region is ${here.keys[key]?.region} for the same cluster ${clusterId}`];
  if ((caFile !== undefined) === here.hasCertificate) return undefined;
  return here.hasCertificate
    ? [".trust.token_file", "requires a fabric without certificates, but this node has fabric.cert_file; use ca_file"]
    : [".trust.ca_file", "needs fabric.cert_file, fabric.key_file and fabric.ca_file, because both sides present certificates"];
}
