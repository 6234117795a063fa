/** Base64 with the url alphabet and no padding (RFC 4648 §5). */

/** The bytes; undefined when the text is not what encoding them gives: another alphabet, padding, spare bits. */
export function decodeBase64url(text: string): Uint8Array | undefined {
  const bytes = Buffer.from(text, "base64url");
  return bytes.toString("base64url") === text ? bytes : undefined;
}
