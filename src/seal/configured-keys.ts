/** The keys that the settings name (`summary.keys[]`), parsed, with what is wrong with them. */
import { counted } from "../lib/counted.ts";
import type { ClusterKey } from "./cluster-keys.ts";
import { isSoundPublicKey } from "./public-key.ts";

/** A row of the settings. */
export interface KeyRow {
  readonly clusterId?: string;
  readonly region?: string;
  /** Base64 of the 32 bytes. */
  readonly publicKey?: string;
}

/** Clusters that a node knows keys of: as many as sources. */
export const MAX_KEY_CLUSTERS = 256;
/** Keys of a cluster in the settings: enough for one that changes its key. */
export const MAX_KEYS_A_CLUSTER = 8;

export interface ParsedKeys {
  readonly keys: readonly ClusterKey[];
  /** The path of a setting, and what is wrong with it. */
  readonly problems: readonly (readonly [path: string, message: string])[];
}

/** `own` is the cluster and the region of this node. */
export function clusterKeys(rows: readonly KeyRow[], own: { readonly clusterId: string; readonly region: string }): ParsedKeys {
  const problems: [string, string][] = [];
  const rowOfKey = new Map<string, number>();
  const regions = new Map([[own.clusterId, { region: own.region, where: "node.region" }]]);
  const counts = new Map<string, number>();
  const keys = rows.flatMap(({ clusterId: cluster = "", region = "", publicKey: text = "" }, i): readonly ClusterKey[] => {
    const before = problems.length;
    const path = `summary.keys[${i}]`;
    const refuse = (field: string, message: string) => problems.push([`${path}.${field}`, message]);
    const count = (counts.get(cluster) ?? 0) + 1;
    counts.set(cluster, count);
    if (cluster === "") refuse("cluster_id", "names no cluster");
    else if (count === MAX_KEYS_A_CLUSTER + 1)
      refuse("cluster_id", `${cluster} has more than ${MAX_KEYS_A_CLUSTER} keys, the most allowed`);
    else if (counts.size === MAX_KEY_CLUSTERS + 1 && count === 1)
      refuse("cluster_id", `is of one cluster more than ${counted(MAX_KEY_CLUSTERS, "cluster")}, the most allowed`);
    const told = regions.get(cluster);
    if (region === "") refuse("region", "names no region");
    else if (told === undefined) regions.set(cluster, { region, where: `${path}.region` });
    else if (told.region !== region) refuse("region", `is ${region}, but ${told.where} says that ${cluster} is in ${told.region}`);
    const publicKey = Buffer.from(text, "base64");
    const other = rowOfKey.get(text);
    rowOfKey.set(text, i);
    if (publicKey.length !== 32 || publicKey.toString("base64") !== text)
      refuse(
        "public_key",
        "is not the base64 of 32 bytes; print it with: openssl pkey -in FILE -pubout -outform DER | tail -c 32 | base64",
      );
    else if (other !== undefined) refuse("public_key", `is the key of summary.keys[${other}] too; a key belongs to one cluster, once`);
    else if (!isSoundPublicKey(publicKey)) refuse("public_key", "is no public key of Ed25519, or one for which anybody can sign");
    return problems.length === before ? [{ cluster, region, publicKey }] : [];
  });
  return { keys, problems };
}
