/** The keys that the settings name (`summary.keys[]`, `fabric.borders[].keys`), parsed, with what is wrong with them. */
import { counted } from "../lib/text/visible-text.ts";
import type { ClusterKey } from "./cluster-keys.ts";
import { isSoundPublicKey } from "./public-key.ts";

/** A row of the settings. */
export interface KeyRow {
  readonly clusterId?: string;
  readonly region?: string;
  /** Base64 of the 32 bytes. */
  readonly publicKey?: string;
}

/** A border of the settings, with the keys of its cluster. */
export interface RemoteClusterKeys {
  readonly clusterId: string;
  readonly region: string;
  /** Each in base64. */
  readonly keys: readonly string[];
}

/** Clusters that a node knows keys of: as many as sources. */
export const MAX_KEY_CLUSTERS = 256;
/** Keys of a cluster in the settings: enough for one that changes its key. */
export const MAX_KEYS_A_CLUSTER = 8;

export interface NamedKey extends ClusterKey {
  /** The path of the setting that names it. */
  readonly path: string;
}

export interface ParsedKeys {
  readonly keys: readonly NamedKey[];
  /** The path of a setting, and what is wrong with it. */
  readonly problems: readonly (readonly [path: string, message: string])[];
}

interface KeySettings {
  readonly keys: readonly KeyRow[];
  readonly borders?: readonly RemoteClusterKeys[];
}

/** A key of the settings, with the path of each word about it. */
interface NamedKeySetting {
  readonly cluster: string;
  readonly region: string;
  readonly text: string;
  readonly isOfBorder: boolean;
  readonly at: { readonly key: string; readonly cluster: string; readonly region: string; readonly text: string };
}

/** `own` is the cluster and the region of this node. A key of a border may stand in `summary.keys` too, for the same cluster. */
export function clusterKeys(settings: KeySettings, own: { readonly clusterId: string; readonly region: string }): ParsedKeys {
  const problems: [string, string][] = [];
  const first = new Map<string, NamedKeySetting>();
  const regions = new Map([[own.clusterId, { region: own.region, where: "node.region" }]]);
  const counts = new Map<string, number>();
  const keys = namedIn(settings).flatMap((named): readonly NamedKey[] => {
    const { cluster, region, text, at, isOfBorder } = named;
    const before = problems.length;
    const refuse = (path: string, message: string) => problems.push([path, message]);
    const other = first.get(text);
    if (isOfBorder && other?.cluster === cluster) return [];
    const count = (counts.get(cluster) ?? 0) + 1;
    counts.set(cluster, count);
    if (cluster === "") refuse(at.cluster, "names no cluster");
    else if (count === MAX_KEYS_A_CLUSTER + 1) refuse(at.cluster, `${cluster} has more than ${MAX_KEYS_A_CLUSTER} keys, the most allowed`);
    else if (counts.size === MAX_KEY_CLUSTERS + 1 && count === 1)
      refuse(at.cluster, `is of one cluster more than ${counted(MAX_KEY_CLUSTERS, "cluster")}, the most allowed`);
    const told = regions.get(cluster);
    if (region === "") refuse(at.region, "names no region");
    else if (told === undefined) regions.set(cluster, { region, where: at.region });
    else if (told.region !== region) refuse(at.region, `is ${region}, but ${told.where} says that ${cluster} is in ${told.region}`);
    const publicKey = Buffer.from(text, "base64");
    first.set(text, named);
    if (publicKey.length !== 32 || publicKey.toString("base64") !== text)
      refuse(at.text, "is not the base64 of 32 bytes; print it with: openssl pkey -in FILE -pubout -outform DER | tail -c 32 | base64");
    else if (other !== undefined) refuse(at.text, `is the key of ${other.at.key} too; a key belongs to one cluster, once`);
    else if (!isSoundPublicKey(publicKey)) refuse(at.text, "is no public key of Ed25519, or one for which anybody can sign");
    return problems.length === before ? [{ cluster, region, publicKey, path: at.key }] : [];
  });
  return { keys, problems };
}

function namedIn({ keys, borders = [] }: KeySettings): readonly NamedKeySetting[] {
  const rows = keys.map(({ clusterId: cluster = "", region = "", publicKey: text = "" }, i): NamedKeySetting => {
    const key = `summary.keys[${i}]`;
    const at = { key, cluster: `${key}.cluster_id`, region: `${key}.region`, text: `${key}.public_key` };
    return { cluster, region, text, isOfBorder: false, at };
  });
  const ofBorders = borders.flatMap(({ clusterId: cluster, region, keys: texts }, i) => {
    const border = `fabric.borders[${i}]`;
    return texts.map((text, k): NamedKeySetting => {
      const key = `${border}.keys[${k}]`;
      const at = { key, cluster: `${border}.cluster_id`, region: `${border}.region`, text: key };
      return { cluster, region, text, isOfBorder: true, at };
    });
  });
  return [...rows, ...ofBorders];
}
