/** Converts key announcements to and from the bytes that are signed (the message `waymark.fabric.v1.KeyAnnouncement`). */
import {
  decodeKeyAnnouncement,
  decodeSealedRecord,
  encodeKeyAnnouncement,
  encodeSealedRecord,
  type KeyAnnouncementFields,
  type SealedRecordFields,
} from "../../gen/waymark/fabric/v1/fabric_codec.ts";
import { WaymarkError } from "../lib/errors.ts";
import { CONTEXT, keyIdOf, type SignedBytes, type SigningKey } from "./signer.ts";

/** A cluster's announcement of a key with which it will sign. */
export interface KeyAnnouncement {
  readonly cluster: string;
  readonly keyId: string;
  /** The bytes as received. */
  readonly publicKey: Uint8Array;
  /** The key that signed the announcement. This is a different key from the announced key. */
  readonly signedBy: string;
  readonly notBeforeWallMs: number;
  /** Greater than `notBeforeWallMs`. */
  readonly notAfterWallMs: number;
  /** The announced key's signature over the cluster ID, in the context `KEY_HOLDER`. */
  readonly holder: SignedBytes;
}

const utf8 = new TextEncoder();

/** Decodes an announcement. Undefined if the bytes are malformed or contradictory. */
export function readAnnouncement(signed: Uint8Array): KeyAnnouncement | undefined {
  const fields = whole<KeyAnnouncementFields>(decodeKeyAnnouncement, signed);
  if (fields === undefined) return undefined;
  const { clusterId: cluster, keyId, publicKey, signedBy, notBeforeMs, notAfterMs, holderSignature } = fields;
  const isSound = keyIdOf(publicKey) === keyId && signedBy !== keyId;
  if (!isSound || !(notBeforeMs < notAfterMs && notAfterMs <= Number.MAX_SAFE_INTEGER)) return undefined;
  const holder = { signed: utf8.encode(cluster), signature: holderSignature };
  return { cluster, keyId, publicKey, signedBy, notBeforeWallMs: notBeforeMs, notAfterWallMs: notAfterMs, holder };
}

/** Decodes the bytes. Undefined if the bytes are malformed. */
function whole<Fields>(decode: (bytes: Uint8Array) => Fields, bytes: Uint8Array): Fields | undefined {
  try {
    return decode(bytes);
  } catch (error) {
    if (error instanceof WaymarkError) return undefined;
    throw error;
  }
}

/** The inputs for a new announcement. */
export interface NewAnnouncement {
  readonly cluster: string;
  /** The announced key. The secret is needed, because the holder of the key must also sign. */
  readonly key: SigningKey;
  /** A key of the cluster that is already trusted by others. */
  readonly by: SigningKey;
  readonly notBeforeWallMs: number;
  readonly notAfterWallMs: number;
}

/** Creates and signs the announcement of a key. */
export function signAnnouncement({ cluster, key, by, notBeforeWallMs, notAfterWallMs }: NewAnnouncement): SignedBytes {
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

/** The label of PEM blocks with an announcement. These blocks are stored in the file of the signing key. */
const LABEL = "WAYMARK KEY ANNOUNCEMENT";
const BLOCK = new RegExp(`-----BEGIN ${LABEL}-----\\s+(?<base64>[^-]*)-----END ${LABEL}-----`, "g");
const LINE_CHARS = 64;

/** Returns an announcement as a PEM block, to be stored in a file. */
export function announcementPem({ signed, signature }: SignedBytes): string {
  const bytes = encodeSealedRecord({ content: { case: "key", value: { signed, signature, hops: 0 } } });
  const text = Buffer.from(bytes).toString("base64");
  const lines = Array.from({ length: Math.ceil(text.length / LINE_CHARS) }, (_, i) => text.slice(LINE_CHARS * i, LINE_CHARS * (i + 1)));
  return [`-----BEGIN ${LABEL}-----`, ...lines, `-----END ${LABEL}-----`, ""].join("\n");
}

/** Returns the announcements from all such blocks in a text. Undefined if one of the blocks cannot be read. */
export function announcementsIn(text: string): readonly SignedBytes[] | undefined {
  const read = [...text.matchAll(BLOCK)].map(({ groups }) => sealedIn(groups?.["base64"] ?? ""));
  const good = read.filter((sealed) => sealed !== undefined);
  return good.length === text.split(`-----BEGIN ${LABEL}-----`).length - 1 ? good : undefined;
}

function sealedIn(base64: string): SignedBytes | undefined {
  const { content } = whole<SealedRecordFields>(decodeSealedRecord, Buffer.from(base64, "base64")) ?? {};
  if (content?.case !== "key" || readAnnouncement(content.value.signed) === undefined) return undefined;
  return { signed: content.value.signed, signature: content.value.signature };
}
