/** Judges the keys of clusters: the rows of `summary.keys` and the file of the signing key. `config validate` and a start ask the same. */
import type { Settings } from "../../config/settings.ts";
import { clusterKeys } from "../../seal/configured-keys.ts";
import { readSigningKeys, type SigningKeys } from "../../seal/key-file.io.ts";

/** Each fault is one line that names the setting, and the file where it is about one. */
export function keyFaults(settings: Settings): readonly string[] {
  const { signingKeyFile } = settings.summary;
  const { problems } = namedKeys(settings);
  return [
    ...problems.map(([path, message]) => `${path} ${message}`),
    ...(signingKeyFile === undefined ? [] : fileFaults(signingKeyFile, settings)),
  ];
}

/** The keys that the settings name, and what is wrong with the others. */
export function namedKeys({ summary, node: { clusterId, region } }: Settings) {
  return clusterKeys(summary.keys, { clusterId, region });
}

/** Throws with a message for the operator when the key is another cluster's: whoever has the settings would refuse what this node signs. */
export function checkOwner({ key }: SigningKeys, { summary, node: { clusterId } }: Settings): void {
  const text = Buffer.from(key.publicKey.raw).toString("base64");
  const i = summary.keys.findIndex((row) => row.publicKey === text && row.clusterId !== clusterId);
  if (i < 0) return;
  throw new Error(
    `summary.signing_key_file: ${summary.signingKeyFile} holds the key that summary.keys[${i}] names for cluster ${summary.keys[i]?.clusterId}, ` +
      `and this node is of cluster ${clusterId} (node.cluster_id): name the key file of ${clusterId}, or correct the row`,
  );
}

function fileFaults(path: string, settings: Settings): readonly string[] {
  try {
    checkOwner(readSigningKeys(path), settings);
    return [];
  } catch (error) {
    return [error instanceof Error ? error.message : String(error)];
  }
}
