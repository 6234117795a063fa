/** Between an announcement of a key and the bytes that are signed (`KeyAnnouncement` of `waymark.fabric.v1`). */
import { decodeKeyAnnouncement, encodeKeyAnnouncement, type KeyAnnouncementFields } from "../../gen/waymark/fabric/v1/fabric_codec.ts";
import { WaymarkError } from "../lib/errors.ts";
import { CONTEXT, keyIdOf, type SealedText, type SigningKey } from "./signer.ts";

/** A cluster says with which key it will sign. */
export interface Announcement {
  readonly cluster: string;
  readonly keyId: string;
  /** 32 bytes. */
  readonly publicKey: Uint8Array;
  /** The key that signed it, which is another one. */
  readonly signedBy: string;
  readonly notBeforeWallMs: number;
  /** Above `notBeforeWallMs`. */
  readonly notAfterWallMs: number;
  /** By the announced key, over the cluster, in the context `KEY_HOLDER`. */
  readonly holder: SealedText;
}

const utf8 = new TextEncoder();

/** What the bytes announce. Undefined when they are malformed, or contradict themselves: such are nobody's. */
export function readAnnouncement(signed: Uint8Array): Announcement | undefined {
  const fields = fieldsOf(signed);
  if (fields === undefined) return undefined;
  const { clusterId: cluster, keyId, publicKey, signedBy, notBeforeMs, notAfterMs, holderSignature } = fields;
  const isSound = publicKey.length === 32 && keyIdOf(publicKey) === keyId && signedBy !== keyId;
  if (!isSound || !(notBeforeMs < notAfterMs && notAfterMs <= Number.MAX_SAFE_INTEGER)) return undefined;
  const holder = { signed: utf8.encode(cluster), signature: holderSignature };
  return { cluster, keyId, publicKey, signedBy, notBeforeWallMs: notBeforeMs, notAfterWallMs: notAfterMs, holder };
}

function fieldsOf(signed: Uint8Array): KeyAnnouncementFields | undefined {
  try {
    return decodeKeyAnnouncement(signed);
  } catch (error) {
    if (error instanceof WaymarkError) return undefined;
    throw error;
  }
}

/** Of a new announcement. */
export interface Announcing {
  readonly cluster: string;
  /** The key that is announced. Its secret is needed, because its holder must agree. */
  readonly key: SigningKey;
  /** A key of the cluster that others trust already. */
  readonly by: SigningKey;
  readonly notBeforeWallMs: number;
  readonly notAfterWallMs: number;
}

/** Announces a key. */
export function sealAnnouncement({ cluster, key, by, notBeforeWallMs, notAfterWallMs }: Announcing): SealedText {
  const signed = encodeKeyAnnouncement({
    clusterId: cluster,
    keyId: key.keyId,
    publicKey: key.publicKey.raw,
    signedBy: by.keyId,
    notBeforeMs: notBeforeWallMs,
    notAfterMs: notAfterWallMs,
    holderSignature: key.sign(CONTEXT.KEY_HOLDER, utf8.encode(cluster)),
  });
  return { signed, signature: by.sign(CONTEXT.KEY, signed) };
}
