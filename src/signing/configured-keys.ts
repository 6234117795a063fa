/** Parses and checks the keys in the settings (`summary.keys[]`, `fabric.borders[].keys`). */
import { counted } from "../lib/text/visible-text.ts";
import type { ClusterKey } from "./cluster-keys.ts";
import { isSoundPublicKey } from "./public-key.ts";

/** A row of `summary.keys`. */
export interface KeyRow {
  readonly clusterId?: string;
  readonly region?: string;
  /** The 32 bytes of the key, in base64. */
  readonly publicKey?: string;
}

/** A row of `fabric.borders`, with the keys of the remote cluster. */
export interface RemoteClusterKeys {
  readonly clusterId: string;
  readonly region: string;
  /** The public keys, in base64. */
  readonly keys: readonly string[];
}

/** Maximum number of clusters whose keys a node knows. This number equals the maximum number of sources. */
export const MAX_KEY_CLUSTERS = 256;
/** Maximum number of keys per cluster in the settings. This is enough for a key rotation. */
export const MAX_KEYS_A_CLUSTER = 8;

export interface NamedKey extends ClusterKey {
  /** The path of the setting that contains the key. */
  readonly path: string;
}

export interface ParsedKeys {
  readonly keys: readonly NamedKey[];
  /** The path of a setting, and a description of its fault. */
  readonly problems: readonly (readonly [path: string, message: string])[];
}

interface KeySettings {
  readonly keys: readonly KeyRow[];
  readonly borders?: readonly RemoteClusterKeys[];
}

/** A key from the settings, with the path of each of its fields. */
interface NamedKeySetting {
  readonly cluster: string;
  readonly region: string;
  readonly text: string;
  readonly isOfBorder: boolean;
  readonly at: { readonly key: string; readonly cluster: string; readonly region: string; readonly text: string };
}

/** `own` contains the cluster and region of this node. A key in a `fabric.borders` row may also be in `summary.keys`, for the same cluster. */
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
    if (cluster === "") refuse(at.cluster, "must name a cluster");
    else if (count === MAX_KEYS_A_CLUSTER + 1) refuse(at.cluster, `exceeds the limit of ${MAX_KEYS_A_CLUSTER} keys for cluster ${cluster}`);
    else if (counts.size === MAX_KEY_CLUSTERS + 1 && count === 1)
      refuse(at.cluster, `exceeds the limit of ${counted(MAX_KEY_CLUSTERS, "cluster")} with keys`);
    const known = regions.get(cluster);
    if (region === "") refuse(at.region, "must name a region");
    else if (known === undefined) regions.set(cluster, { region, where: at.region });
    else if (known.region !== region) refuse(at.region, `is ${region}, but ${known.where} places cluster ${cluster} in ${known.region}`);
    const publicKey = Buffer.from(text, "base64");
    first.set(text, named);
    if (publicKey.length !== 32 || publicKey.toString("base64") !== text)
      refuse(at.text, "must be 32 bytes in base64; print it with: openssl pkey -in FILE -pubout -outform DER | tail -c 32 | base64");
    else if (other !== undefined)
      refuse(at.text, `is the same key as ${other.at.key}; a key belongs to one cluster, and can be listed only once`);
    else if (!isSoundPublicKey(publicKey)) refuse(at.text, "is not an Ed25519 public key, or is a weak key for which anyone can sign");
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
