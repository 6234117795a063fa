/** Whether the certificate of a server names a cluster, as those of nodes do: `spiffe://<trust domain>/waymark/cluster/<cluster>/node/<node>`. */

const SPIFFE = "spiffe://";
// As in the fabric (docs/guides/clustering.md, Certificates).
const NODE_ID = /^spiffe:\/\/[a-z0-9._-]{1,255}\/waymark\/cluster\/([A-Za-z0-9._-]{1,64})\/node\/[A-Za-z0-9._-]{1,64}$/;

/** What is wrong; undefined when the certificate has one SPIFFE id, and that is of a node of the cluster. `alternativeNames` is as Node writes them. */
export function clusterNameFault(alternativeNames: string, clusterId: string): string | undefined {
  const ids = uriNames(alternativeNames).filter((uri) => uri.startsWith(SPIFFE));
  const named = ids.length === 1 ? NODE_ID.exec(ids[0] ?? "")?.[1] : undefined;
  if (named === clusterId) return undefined;
  const said = named === undefined ? "it names no cluster" : `it names the cluster ${named}`;
  return `the certificate is not that of a node of ${clusterId}: ${said}`;
}

/** The URIs among alternative names. Node writes a name with a comma or a quote as a JSON string (CVE-2021-44532), and no SPIFFE id has one, so those are left as they are. */
function uriNames(alternativeNames: string): readonly string[] {
  const names = alternativeNames.matchAll(/(?:^|, )([^:,"]+):("(?:[^"\\]|\\.)*"|[^,"]*)(?=, |$)/g);
  return Array.from(names).flatMap(([, kind, name = ""]) => (kind === "URI" ? [name] : []));
}
