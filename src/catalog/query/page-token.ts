/** Opaque page tokens of all lists: the last key of a page, and a hash of its filter. */

import { invalid } from "../../lib/errors.ts";
import { decodeBase64url } from "../../lib/formats/base64url.ts";
import { fnv64 } from "../../lib/hash64.ts";

/** Longest accepted token, as in the proto. The longest key gives a token of half this length. */
export const MAX_TOKEN_LENGTH = 8192;

const VERSION = 1;
const HASH_BYTES = 8;
const HEADER_BYTES = 1 + HASH_BYTES;
const CHECK_BYTES = 4;

/** Separates the version from the hash of the filter. */
const PART = "\u0001";

/** The token for the page after `lastKey`. Keys are ASCII and bounded by `names.ts`. HOT: once for each page that has a next one. */
export function encodePageToken(lastKey: string, hash: string): string {
  const bytes = new Uint8Array(HEADER_BYTES + lastKey.length + CHECK_BYTES);
  bytes[0] = VERSION;
  writeUint32(bytes, 1, Number.parseInt(hash.slice(0, 8), 16));
  writeUint32(bytes, 5, Number.parseInt(hash.slice(8), 16));
  for (let i = 0; i < lastKey.length; i += 1) bytes[HEADER_BYTES + i] = lastKey.charCodeAt(i);
  writeUint32(bytes, HEADER_BYTES + lastKey.length, checksum(hash, lastKey));
  return Buffer.from(bytes.buffer).toString("base64url");
}

/** Most significant byte first. */
function writeUint32(bytes: Uint8Array, at: number, value: number): void {
  for (let i = 0; i < 4; i += 1) bytes[at + i] = value >>> (24 - i * 8);
}

/**
 * The key after which a page starts. Empty for an empty token. Refuses a token of another filter, and text that is not a token of this
 * version, with `invalid_argument` on `page_token`. A token made by hand can only choose a start, and shows nothing that a query would not
 * show.
 */
export function decodePageToken(token: string, hash: string): string {
  if (token === "") return "";
  if (token.length > MAX_TOKEN_LENGTH) throw invalid("page_token", `${token.length} characters are more than ${MAX_TOKEN_LENGTH}`);
  const bytes = decodeBase64url(token);
  if (bytes === undefined || bytes.length <= HEADER_BYTES + CHECK_BYTES || bytes[0] !== VERSION) throw unreadableToken();
  const keyEnd = bytes.length - CHECK_BYTES;
  const tokenHash = [...bytes.subarray(1, HEADER_BYTES)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  let key = "";
  for (const byte of bytes.subarray(HEADER_BYTES, keyEnd)) {
    if (byte > 0x7f) throw unreadableToken();
    key += String.fromCharCode(byte);
  }
  let check = 0;
  for (const byte of bytes.subarray(keyEnd)) check = (check << 8) | byte;
  if (check >>> 0 !== checksum(tokenHash, key)) throw unreadableToken();
  if (tokenHash !== hash) throw invalid("page_token", "it belongs to another filter; start again without a token");
  return key;
}

function checksum(hash: string, key: string): number {
  const { high, low } = fnv64(key, fnv64(`${VERSION}${PART}${hash}`));
  return (high ^ low) >>> 0;
}

/** The refusal of a text that is no token of this version. */
export function unreadableToken(): Error {
  return invalid("page_token", "not a token this server gave; pass next_page_token unchanged or start again without one");
}
