/** The key with which this cluster signs, from the file of `summary.signing_key_file`. */
import { statSync } from "node:fs";
import { ed25519PrivateKey } from "../lib/crypto.ts";
import type { Log } from "../lib/log.io.ts";
import { MAX_TOKEN_FILE_BYTES, readNamedFile } from "../lib/named-file.io.ts";
import { type SigningKey, signerOf } from "./signer.ts";

export interface SigningKeyFile {
  readonly key: SigningKey;
  /** Reads the file again, and says whether it holds another key. What cannot be read changes nothing. */
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

/** Throws with a message for the operator when the file is not as it should be. */
export function openSigningKeyFile(path: string, log: Log): SigningKeyFile {
  let key = readSigningKey(path);
  return {
    get key() {
      return key;
    },
    reload: () => {
      try {
        const read = readSigningKey(path);
        if (read.keyId === key.keyId) return false;
        log.info({ key_id: read.keyId, key_id_before: key.keyId }, "signing key of the cluster reloaded");
        key = read;
        return true;
      } catch (error) {
        log.warn({ err: error, key_id: key.keyId }, "signing key of the cluster not reloaded, keeping the old one");
        return false;
      }
    },
  };
}

/** Throws with a message for the operator when the file is not as it should be. The message never holds a part of the file. */
export function readSigningKey(path: string, setting = SETTING): SigningKey {
  const text = readNamedFile({ setting, path, maxBytes: MAX_TOKEN_FILE_BYTES }).toString("latin1");
  const mode = statSync(path).mode & 0o777;
  if ((mode & TOO_OPEN) !== 0)
    throw new Error(`${setting}: ${path} is open to other users (mode ${mode.toString(8)}), who could sign as this cluster; chmod 600 it`);
  const blocks = text.match(PEM) ?? [];
  const [pem] = blocks;
  const key = pem === undefined || blocks.length > 1 ? undefined : ed25519PrivateKey(pem);
  if (key !== undefined) return signerOf(key);
  throw new Error(
    `${setting}: ${path} does not hold one Ed25519 private key in PEM, without a password; make one with: openssl genpkey -algorithm ed25519 -out FILE`,
  );
}
