/** Settings of the clusters of other regions with which this cluster exchanges summaries: `fabric.borders` in `fabric.ts`. */
import { isLoopbackHost, splitHostPort } from "../lib/addresses.ts";
import { RECORD_BOUNDS } from "../lib/bounds.ts";
import { MINUTE_MS } from "../lib/duration.ts";
import { ADDRESS, ID, int, list, ms, PATH, PUBLIC_KEY, text } from "./field.ts";
import { requiredTable, rows, type ValueOf } from "./field-table.ts";

/** Most clusters of other regions, and most regions of them: a node reports each region to the other nodes of its own region. */
const MAX_BORDERS = 64;
const MAX_BORDER_REGIONS = 32;

const LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?";
/** The same length limit as for the pattern of a policy rule. */
const MAX_PATTERN = RECORD_BOUNDS.maxNamespaceLength + ".*".length;
const NAMESPACES = {
  pattern: new RegExp(`^(?=.{1,${MAX_PATTERN}}$)${LABEL}(?:\\.${LABEL})*(?:\\.\\*)?$`),
  what: "a namespace (with all namespaces below it), or a namespace with .* at its end (only the ones below it)",
  default: [],
} as const;
/** The cluster names that a certificate can contain (SPIFFE-ID, section 2.2). */
const IN_CERTIFICATE = /^(?!\.{1,2}$)[A-Za-z0-9._-]+$/;

const TRUST = requiredTable({
  doc: "What its nodes must prove: an authority and the name of their certificates, or, on loopback only, a token.",
  fields: {
    caFile: text({
      ...PATH,
      doc: "PEM file with the authorities of its nodes' certificates. They count for links of this border, and for nothing else. Read again on SIGHUP.",
    }),
    trustDomain: text({
      pattern: /^[a-z0-9._-]{1,255}$/,
      what: "a trust domain of SPIFFE",
      doc: "Trust domain that these certificates name, `spiffe://<trust domain>/waymark/cluster/<cluster_id>/node/<node>`; that of fabric.cert_file when absent.",
    }),
    tokenFile: text({
      ...PATH,
      doc: "File with a token that both sides show, in place of certificates and on loopback only: one line as in fabric.cluster_token_file, and a second one while it is changed. Read again on SIGHUP.",
    }),
  },
  required: [],
  check: ({ caFile, trustDomain, tokenFile }) => {
    if ((caFile === undefined) === (tokenFile === undefined))
      return "needs either ca_file or token_file, to authenticate the nodes of the other cluster";
    return tokenFile !== undefined && trustDomain !== undefined ? "trust_domain needs ca_file" : undefined;
  },
});

export const BORDERS = rows({
  doc: "Clusters of other regions with which this one exchanges summaries of services. Both sides must name each other, and all nodes of a cluster that have borders should have the same.",
  maxItems: MAX_BORDERS,
  fields: {
    clusterId: text({ ...ID, default: "", doc: "The other cluster." }),
    region: text({ ...ID, default: "", doc: "Its region. Whatever names the cluster with another region is refused." }),
    addresses: list({
      pattern: ADDRESS,
      what: 'an address such as "10.0.0.1:17421" or "[fd00::1]:17421"',
      maxItems: 32,
      default: [],
      doc: "Fabric addresses (host:port) of its nodes. Without any, only the other side opens links.",
    }),
    trust: TRUST,
    keys: list({
      ...PUBLIC_KEY,
      default: [],
      doc: "Ed25519 public keys with which the cluster signs, each as in summary.keys[].public_key. They count beside those that summary.keys names for it.",
    }),
    import: list({ ...NAMESPACES, doc: "Namespaces whose summaries from this border are shown here; all when empty." }),
    export: list({ ...NAMESPACES, doc: "Namespaces whose summaries are sent there, of those that policy lets out; all when empty." }),
    batchIntervalMs: ms({
      default: 200,
      min: 0,
      max: MINUTE_MS,
      doc: "How long a changed summary waits for others. Beacons and withdrawals do not wait.",
    }),
    bytesPerSecond: int({
      default: 0,
      min: 0,
      max: 1_000_000_000,
      doc: "Most bytes of summaries that a link carries each second; 0 means no such bound.",
    }),
  },
  required: ["clusterId", "region", "trust"],
  check: ({ clusterId, trust: { caFile, tokenFile }, addresses }) => {
    if (caFile !== undefined && !IN_CERTIFICATE.test(clusterId))
      return `${clusterId} cannot be named in a certificate: allowed characters are A–Z, a–z, 0–9, '.', '_' and '-'`;
    const remote = tokenFile === undefined ? undefined : addresses.find((address) => !isLoopbackHost(splitHostPort(address).host));
    return remote === undefined
      ? undefined
      : `trust.token_file is allowed only on loopback, and ${remote} is not a loopback address; use trust.ca_file`;
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

/** Returns the errors in the borders of a node, each with its path below `fabric.borders`. */
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
    problems.push(["", `there are ${regions.size} regions, more than ${MAX_BORDER_REGIONS}, the most allowed`]);
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
  if (twin !== undefined) return [".cluster_id", `${clusterId} is also the cluster of [${twin}]; a cluster has one border`];
  const key = here.keys.findIndex((row) => row.clusterId === clusterId && row.region !== region);
  if (key >= 0) return [".region", `is ${region}, but summary.keys[${key}].region is ${here.keys[key]?.region} for ${clusterId}`];
  if ((caFile !== undefined) === here.hasCertificate) return undefined;
  return here.hasCertificate
    ? [".trust.token_file", "is for a fabric without certificates; use ca_file, because this node has fabric.cert_file"]
    : [".trust.ca_file", "needs fabric.cert_file, fabric.key_file and fabric.ca_file: both sides present certificates"];
}
