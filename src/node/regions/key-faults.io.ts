/**
 * Checks the keys of clusters: the keys in `summary.keys` and in borders, and the signing key file. `config validate` and a start perform the same
 * checks.
 */

import type { Settings } from "../../config/settings.ts";
import { equalBytes } from "../../lib/crypto.ts";
import { readAnnouncement } from "../../signing/codec.ts";
import { clusterKeys } from "../../signing/configured-keys.ts";
import { readSigningKeys, type SigningKeys } from "../../signing/key-file.io.ts";
import { keyIdOf } from "../../signing/signer.ts";

/** Returns the faults. Each fault is one line that names the setting and, if it concerns a file, the file. */
export function keyFaults(settings: Settings): readonly string[] {
  const { signingKeyFile } = settings.summary;
  const { problems } = namedKeys(settings);
  return [
    ...problems.map(([path, message]) => `${path} ${message}`),
    ...(signingKeyFile === undefined ? [] : fileFaults(signingKeyFile, settings)),
  ];
}

/** Returns the valid keys in the settings, and the problems with the invalid ones. */
export function namedKeys({ summary: { keys }, fabric: { borders }, node: { clusterId, region } }: Settings) {
  return clusterKeys({ keys, borders }, { clusterId, region });
}

/**
 * Returns the clusters of other regions whose summaries a node should receive: clusters with a key in its settings, and its neighbours if signatures
 * are not required.
 */
export function clustersToHear(settings: Settings): readonly string[] {
  const { node, summary, fabric } = settings;
  const keyed = namedKeys(settings).keys.flatMap(({ cluster, region }) => (region === node.region ? [] : [cluster]));
  const unsigned = summary.requireSignatures ? [] : fabric.borders.map(({ clusterId }) => clusterId);
  return [...new Set([...keyed, ...unsigned])];
}

/**
 * Throws a message for the operator if the key, or a key that the file announces, belongs to another cluster. Nodes with these settings would reject
 * signatures or announcements made with it.
 */
export function checkOwner({ key, announcements }: SigningKeys, settings: Settings): void {
  const { clusterId } = settings.node;
  const others = announcements.flatMap(({ signed }) => readAnnouncement(signed)?.cluster ?? []).filter((cluster) => cluster !== clusterId);
  if (others.length > 0)
    throw new Error(
      `summary.signing_key_file: ${settings.summary.signingKeyFile} announces a key of cluster ${others[0]}, but this node belongs to cluster ${clusterId} ` +
        `(node.cluster_id): remove that announcement, and create it again with --cluster-id ${clusterId}`,
    );
  const { keys } = namedKeys(settings);
  const other = keys.find(({ cluster, publicKey }) => cluster !== clusterId && equalBytes(publicKey, key.publicKey.raw));
  if (other === undefined) return;
  throw new Error(
    `summary.signing_key_file: ${settings.summary.signingKeyFile} contains the key that ${other.path} lists for cluster ${other.cluster}, ` +
      `but this node belongs to cluster ${clusterId} (node.cluster_id): set the key file of ${clusterId}, or correct ${other.path}`,
  );
}

/**
 * Returns warnings about missing keys that do not prevent a start: other clusters would not receive or accept some summaries. Each warning is one
 * line that names the setting.
 */
export function keyWarnings(settings: Settings): readonly string[] {
  return [...unknownSignerWarnings(settings), ...silentBorderWarnings(settings)];
}

/**
 * A border node forwards only summaries that it can verify. For the summaries of its own cluster, it needs either the signing key or a row in
 * `summary.keys`.
 */
function silentBorderWarnings({ summary, fabric: { borders }, node: { clusterId } }: Settings): readonly string[] {
  const { signingKeyFile, keys, exportEnabled } = summary;
  if (borders.length === 0 || exportEnabled === false || signingKeyFile !== undefined) return [];
  if (keys.some((row) => row.clusterId === clusterId)) return [];
  return [
    `summary.keys: there is no key for ${clusterId}, the cluster of this node (node.cluster_id), so this node does not forward its cluster's summaries to fabric.borders; ` +
      "add its public key, or set summary.export_enabled = false if the cluster exports nothing",
  ];
}

/**
 * Warns about a signing key that other nodes do not know, because they would reject its summaries. They know the keys that have a row, and the keys
 * that were announced under such a key.
 */
function unknownSignerWarnings({ summary: { signingKeyFile: path, keys }, node: { clusterId } }: Settings): readonly string[] {
  if (path === undefined || keys.length === 0) return [];
  try {
    const { key, announcements } = readSigningKeys(path);
    const named = keys.filter((row) => row.clusterId === clusterId).map((row) => keyIdOf(Buffer.from(row.publicKey, "base64")));
    const announced = announcements
      .flatMap(({ signed }) => readAnnouncement(signed) ?? [])
      .filter(({ signedBy }) => named.includes(signedBy));
    if ([...named, ...announced.map(({ keyId }) => keyId)].includes(key.keyId)) return [];
    const text = Buffer.from(key.publicKey.raw).toString("base64");
    return [
      `summary.signing_key_file: the key in ${path} is neither the key of ${clusterId} in summary.keys nor announced by that key in this file, ` +
        `so nodes with this list of keys reject its signatures; add a row with public_key = "${text}" to summary.keys on every node`,
    ];
  } catch {
    // For a missing or unreadable file, the start fails with its own message.
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
