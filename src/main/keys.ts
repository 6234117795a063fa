/** Announces a key on behalf of the command line, which cannot import the signing room. */
import type { AnnouncedKey, KeyToAnnounce } from "../cli/environment.ts";
import { announcementPem, signAnnouncement } from "../signing/codec.ts";
import { readSigningKeys } from "../signing/key-file.io.ts";

/** Signs an announcement of the key in one file with the key in the other. Throws with a message for the operator. */
export function announceKey({ cluster, keyFile, byFile, ...times }: KeyToAnnounce): AnnouncedKey {
  const { key } = readSigningKeys(keyFile, "the new key");
  const { key: by } = readSigningKeys(byFile, "the key that announces it");
  if (key.keyId === by.keyId) throw new Error(`${keyFile} and ${byFile} contain the same key; a key cannot announce itself`);
  const pem = announcementPem(signAnnouncement({ cluster, key, by, ...times }));
  return { pem, keyId: key.keyId, publicKey: Buffer.from(key.publicKey.raw).toString("base64"), announcedBy: by.keyId };
}
