/** Reads the signing key of this cluster from the file in the setting `summary.signing_key_file`. */
import { statSync } from "node:fs";
import { ed25519PrivateKey } from "../lib/crypto.ts";
import type { Log } from "../lib/log.io.ts";
import { MAX_TOKEN_FILE_BYTES, readNamedFile } from "../lib/named-file.io.ts";
import { KEY_BOUNDS } from "./cluster-keys.ts";
import { announcementPem, announcementsIn } from "./codec.ts";
import { type SignedBytes, type SigningKey, signerOf } from "./signer.ts";

/** The contents of the file. */
export interface SigningKeys {
  readonly key: SigningKey;
  /** Announcements that the cluster publishes: the previous key's announcement of this key, or this key's announcement of the next key. */
  readonly announcements: readonly SignedBytes[];
}

export interface SigningKeyFile {
  readonly keys: SigningKeys;
  /** Reads the file again. Returns whether its contents have changed. If the file cannot be read, nothing changes. */
  reload(): boolean;
}

const SETTING = "summary.signing_key_file";
/** One PKCS#8 block in PEM. Other text in the file, such as the output of `openssl pkey -text`, is ignored. */
const PEM = /-----BEGIN PRIVATE KEY-----[^-]+-----END PRIVATE KEY-----/g;
/**
 * These permissions must not be set: all permissions for other users, and write permission for the group. Read permission for the group is allowed,
 * because Kubernetes mounts secrets this way for a process that is not root: the files belong to root and the pod's group.
 */
const TOO_OPEN = 0o027;

/** Throws with a message for the operator if the file is invalid, or if `check` rejects its contents. */
export function openSigningKeyFile(path: string, log: Log, check: (keys: SigningKeys) => void): SigningKeyFile {
  const readChecked = () => {
    const read = readSigningKeys(path);
    check(read);
    return read;
  };
  let keys = readChecked();
  return {
    get keys() {
      return keys;
    },
    reload: () => {
      try {
        const read = readChecked();
        if (textOf(read) === textOf(keys)) return false;
        log.info(
          { key_id: read.key.keyId, key_id_before: keys.key.keyId, announcements: read.announcements.length },
          "cluster signing key reloaded",
        );
        keys = read;
        return true;
      } catch (error) {
        log.warn({ err: error, key_id: keys.key.keyId }, "cluster signing key reload failed, keeping the current key");
        return false;
      }
    },
  };
}

function textOf({ key, announcements }: SigningKeys): string {
  return [key.keyId, ...announcements.map(announcementPem)].join("\n");
}

/** Throws with a message for the operator if the file is invalid. The message never contains any content of the file. */
export function readSigningKeys(path: string, setting = SETTING): SigningKeys {
  if (isAbsent(path))
    throw new Error(
      `${setting}: ${path}: file not found; create it with: openssl genpkey -algorithm ed25519 -out ${path} && chmod 600 ${path}`,
    );
  const text = readNamedFile({ setting, path, maxBytes: MAX_TOKEN_FILE_BYTES }).toString("latin1");
  const mode = statSync(path).mode & 0o777;
  if ((mode & TOO_OPEN) !== 0)
    throw new Error(
      `${setting}: ${path} is open to other users (mode ${mode.toString(8)}), who could sign as this cluster; run: chmod 600 ${path}`,
    );
  const blocks = text.match(PEM) ?? [];
  const [pem] = blocks;
  const key = pem === undefined || blocks.length > 1 ? undefined : ed25519PrivateKey(pem);
  if (key === undefined)
    throw new Error(
      `${setting}: ${path} must contain exactly one Ed25519 private key in PEM, without a password; create one with: openssl genpkey -algorithm ed25519 -out FILE`,
    );
  const announcements = announcementsIn(text);
  if (announcements === undefined) throw new Error(`${setting}: ${path} contains a key announcement that cannot be read; create it again`);
  if (announcements.length > KEY_BOUNDS.maxAnnounced)
    throw new Error(
      `${setting}: ${path} contains ${announcements.length} key announcements, more than the maximum of ${KEY_BOUNDS.maxAnnounced}; remove the expired ones`,
    );
  return { key: signerOf(key), announcements };
}

/** Whether the file does not exist. If the path cannot be checked, the file is assumed to exist, so that reading it reports the reason. */
function isAbsent(path: string): boolean {
  try {
    return statSync(path, { throwIfNoEntry: false }) === undefined;
  } catch {
    return false;
  }
}
