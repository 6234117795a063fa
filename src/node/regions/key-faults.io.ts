/** Judges the keys of clusters: those that `summary.keys` and borders name, and the file of the signing key. `config validate` and a start ask the same. */
import type { Settings } from "../../config/settings.ts";
import { readAnnouncement } from "../../seal/codec.ts";
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
export function namedKeys({ summary: { keys }, fabric: { borders }, node: { clusterId, region } }: Settings) {
  return clusterKeys({ keys, borders }, { clusterId, region });
}

/** Throws with a message for the operator when the key, or one that the file announces, is another cluster's: whoever has the settings would refuse what this node signs or announces. */
export function checkOwner({ key, announcements }: SigningKeys, settings: Settings): void {
  const { clusterId } = settings.node;
  const others = announcements.flatMap(({ signed }) => readAnnouncement(signed)?.cluster ?? []).filter((cluster) => cluster !== clusterId);
  if (others.length > 0)
    throw new Error(
      `summary.signing_key_file: ${settings.summary.signingKeyFile} announces a key of cluster ${others[0]}, and this node is of cluster ${clusterId} ` +
        `(node.cluster_id): remove that block, and make it anew with --cluster-id ${clusterId}`,
    );
  const { keys } = namedKeys(settings);
  const other = keys.find(({ cluster, publicKey }) => cluster !== clusterId && Buffer.compare(publicKey, key.publicKey.raw) === 0);
  if (other === undefined) return;
  throw new Error(
    `summary.signing_key_file: ${settings.summary.signingKeyFile} holds the key that ${other.path} names for cluster ${other.cluster}, ` +
      `and this node is of cluster ${clusterId} (node.cluster_id): name the key file of ${clusterId}, or correct ${other.path}`,
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
