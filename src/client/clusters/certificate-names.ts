/** Whether the certificate of a server names a cluster, as those of nodes do: `spiffe://<trust domain>/waymark/cluster/<cluster>/node/<node>`. */
import { nodeOfSpiffeId, readAlternativeNames, SPIFFE } from "../../lib/certificates/spiffe.ts";

/** What is wrong; undefined when the certificate has one SPIFFE id, and that is of a node of the cluster. `alternativeNames` is as Node writes them. */
export function clusterNameFault(alternativeNames: string, clusterId: string): string | undefined {
  const ids = (readAlternativeNames(alternativeNames)?.uris ?? []).filter((uri) => uri.startsWith(SPIFFE));
  const named = ids.length === 1 ? nodeOfSpiffeId(ids[0] ?? "")?.clusterId : undefined;
  if (named === clusterId) return undefined;
  const said = named === undefined ? "it names no cluster" : `it names the cluster ${named}`;
  return `the certificate is not that of a node of ${clusterId}: ${said}`;
}
