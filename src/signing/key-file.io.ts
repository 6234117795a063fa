/** The key with which this cluster signs, from the file of `summary.signing_key_file`. */
import { statSync } from "node:fs";
import { ed25519PrivateKey } from "../lib/crypto.ts";
import type { Log } from "../lib/log.io.ts";
import { MAX_TOKEN_FILE_BYTES, readNamedFile } from "../lib/named-file.io.ts";
import { KEY_BOUNDS } from "./cluster-keys.ts";
import { announcementPem, announcementsIn } from "./codec.ts";
import { type SignedBytes, type SigningKey, signerOf } from "./signer.ts";

/** What the file holds. */
export interface SigningKeys {
  readonly key: SigningKey;
  /** Announcements that the cluster tells others: of this key under the one before it, or of the next key under this one. */
  readonly announcements: readonly SignedBytes[];
}

export interface SigningKeyFile {
  readonly keys: SigningKeys;
  /** Reads the file again, and says whether it holds something else. What cannot be read changes nothing. */
  reload(): boolean;
}

const SETTING = "summary.signing_key_file";
/** One block of PKCS#8 in PEM. What stands beside it, such as the output of `openssl pkey -text`, is left alone. */
const PEM = /-----BEGIN PRIVATE KEY-----[^-]+-----END PRIVATE KEY-----/g;
/**
 * Everything for other users, and writing for the group. The group may read, because Kubernetes mounts secrets so for a process that is not root: its files
 * belong to root and the group of the pod.
 */
const TOO_OPEN = 0o027;

/** Throws with a message for the operator when the file is not as it should be, or `check` throws one of what it holds. */
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
          "signing key of the cluster reloaded",
        );
        keys = read;
        return true;
      } catch (error) {
        log.warn({ err: error, key_id: keys.key.keyId }, "signing key of the cluster not reloaded, keeping the old one");
        return false;
      }
    },
  };
}

function textOf({ key, announcements }: SigningKeys): string {
  return [key.keyId, ...announcements.map(announcementPem)].join("\n");
}

/** Throws with a message for the operator when the file is not as it should be. The message never holds a part of the file. */
export function readSigningKeys(path: string, setting = SETTING): SigningKeys {
  if (isAbsent(path))
    throw new Error(
      `${setting}: ${path}: there is no such file; make one with: openssl genpkey -algorithm ed25519 -out ${path} && chmod 600 ${path}`,
    );
  const text = readNamedFile({ setting, path, maxBytes: MAX_TOKEN_FILE_BYTES }).toString("latin1");
  const mode = statSync(path).mode & 0o777;
  if ((mode & TOO_OPEN) !== 0)
    throw new Error(`${setting}: ${path} is open to other users (mode ${mode.toString(8)}), who could sign as this cluster; chmod 600 it`);
  const blocks = text.match(PEM) ?? [];
  const [pem] = blocks;
  const key = pem === undefined || blocks.length > 1 ? undefined : ed25519PrivateKey(pem);
  if (key === undefined)
    throw new Error(
      `${setting}: ${path} does not hold one Ed25519 private key in PEM, without a password; make one with: openssl genpkey -algorithm ed25519 -out FILE`,
    );
  const announcements = announcementsIn(text);
  if (announcements === undefined) throw new Error(`${setting}: ${path} holds an announcement of a key that cannot be read; make it anew`);
  if (announcements.length > KEY_BOUNDS.maxAnnounced)
    throw new Error(
      `${setting}: ${path} holds ${announcements.length} announcements of keys, more than ${KEY_BOUNDS.maxAnnounced}; remove those that are over`,
    );
  return { key: signerOf(key), announcements };
}

/** A path that cannot be looked at is not absent: reading it says why. */
function isAbsent(path: string): boolean {
  try {
    return statSync(path, { throwIfNoEntry: false }) === undefined;
  } catch {
    return false;
  }
}
