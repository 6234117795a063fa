/** What signed bytes claim, and the key that they stand under. */
import type { KeyText } from "../../catalog/record/record.ts";
import { WaymarkError } from "../../lib/errors.ts";
import { decodeRecord, type Opened, opened } from "../codec.ts";
import { announcementKey, beaconKey, recordKey } from "../keys.ts";
import type { Sealed } from "../summary.ts";

/** The claims by which a seal is judged. */
export interface Claims {
  readonly source: string;
  /** Of the key that signed it. */
  readonly keyId: string;
  /** The regions in which it says its source is. */
  readonly regions: readonly string[];
  readonly version: number;
  /** Empty for an announcement of a key. */
  readonly exporter: string;
  /** Of a summary; 0 for others. */
  readonly tag: bigint;
}

export function claimsOf(content: Opened): Claims {
  if (content.what === "summary") return content.summary;
  if (content.what === "beacon") return { ...content.beacon, regions: [content.beacon.region], tag: 0n };
  const { cluster, signedBy, notBeforeWallMs } = content.key;
  return { source: cluster, keyId: signedBy, regions: [], version: notBeforeWallMs, exporter: "", tag: 0n };
}

/** The key that signed it; empty for what is not signed, whatever it claims. */
export function signerOf(content: Opened): string {
  return content.sealed.signature.length === 0 ? "" : claimsOf(content).keyId;
}

export function keyOf(content: Opened): KeyText {
  if (content.what === "summary") return recordKey(content.summary);
  if (content.what === "beacon") return beaconKey(content.beacon.source);
  return announcementKey(content.key.cluster, content.key.keyId, content.key.signedBy);
}

/** What a stranger's seal says; undefined for what nobody may have signed. */
export function openSeal(what: Opened["what"], sealed: Sealed): Opened | undefined {
  return unlessMalformed(() => opened(what, sealed));
}

/** The same of the bytes of a record. */
export function openRecord(bytes: Uint8Array): Opened | undefined {
  return unlessMalformed(() => decodeRecord(bytes));
}

function unlessMalformed(open: () => Opened): Opened | undefined {
  try {
    return open();
  } catch (error) {
    if (error instanceof WaymarkError) return undefined;
    throw error;
  }
}
