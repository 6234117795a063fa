/** Judges the keys of clusters: those that `summary.keys` and borders name, and the file of the signing key. `config validate` and a start ask the same. */

import type { Settings } from "../../config/settings.ts";
import { equalBytes } from "../../lib/crypto.ts";
import { readAnnouncement } from "../../signing/codec.ts";
import { clusterKeys } from "../../signing/configured-keys.ts";
import { readSigningKeys, type SigningKeys } from "../../signing/key-file.io.ts";
import { keyIdOf } from "../../signing/signer.ts";

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

/** The clusters of other regions that a node is to hear of: those with a key in its settings, and its neighbours where these need none. */
export function clustersToHear(settings: Settings): readonly string[] {
  const { node, summary, fabric } = settings;
  const keyed = namedKeys(settings).keys.flatMap(({ cluster, region }) => (region === node.region ? [] : [cluster]));
  const unsigned = summary.requireSignatures ? [] : fabric.borders.map(({ clusterId }) => clusterId);
  return [...new Set([...keyed, ...unsigned])];
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
  const other = keys.find(({ cluster, publicKey }) => cluster !== clusterId && equalBytes(publicKey, key.publicKey.raw));
  if (other === undefined) return;
  throw new Error(
    `summary.signing_key_file: ${settings.summary.signingKeyFile} holds the key that ${other.path} names for cluster ${other.cluster}, ` +
      `and this node is of cluster ${clusterId} (node.cluster_id): name the key file of ${clusterId}, or correct ${other.path}`,
  );
}

/** Keys that are missing without being a fault: what needs them reaches nobody. Each warning is one line that names the setting. */
export function keyWarnings(settings: Settings): readonly string[] {
  return [...unknownSignerWarnings(settings), ...silentBorderWarnings(settings)];
}

/** A border node passes on what it can verify. Its own cluster stands in no border, and the key file of a node that signs counts as a row. */
function silentBorderWarnings({ summary, fabric: { borders }, node: { clusterId } }: Settings): readonly string[] {
  const { signingKeyFile, keys, exportEnabled } = summary;
  if (borders.length === 0 || exportEnabled === false || signingKeyFile !== undefined) return [];
  if (keys.some((row) => row.clusterId === clusterId)) return [];
  return [
    `summary.keys: no key of ${clusterId} is here, the cluster of this node (node.cluster_id), so this node passes nothing of its cluster on to fabric.borders; ` +
      "add its public key, or set summary.export_enabled = false if the cluster exports nothing",
  ];
}

/** A key that others do not know makes a node that says it exports, and that nobody believes. Others know it by a row, or by an announcement under a key with a row. */
function unknownSignerWarnings({ summary: { signingKeyFile: path, keys }, node: { clusterId } }: Settings): readonly string[] {
  if (path === undefined || keys.length === 0) return [];
  try {
    const { key, announcements } = readSigningKeys(path);
    const named = keys.filter((row) => row.clusterId === clusterId).map((row) => keyIdOf(Buffer.from(row.publicKey, "base64")));
    const told = announcements.flatMap(({ signed }) => readAnnouncement(signed) ?? []).filter(({ signedBy }) => named.includes(signedBy));
    if ([...named, ...told.map(({ keyId }) => keyId)].includes(key.keyId)) return [];
    const text = Buffer.from(key.publicKey.raw).toString("base64");
    return [
      `summary.signing_key_file: the key in ${path} is not the one of ${clusterId} in summary.keys, nor announced by it in this file, ` +
        `so nodes with these rows refuse what it signs; add to summary.keys of every node public_key = "${text}"`,
    ];
  } catch {
    // The start refuses a file that is missing or unreadable, with a message of its own.
    return [];
  }
}

function fileFaults(path: string, settings: Settings): readonly string[] {
  try {
    checkOwner(readSigningKeys(path), settings);
    return [];
  } catch (error) {
    return [error instanceof Error ? error.message : String(error)];
  }
}
