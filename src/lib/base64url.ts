/** Base64 with the url alphabet and no padding (RFC 4648 §5). By hand: pure rooms have no Buffer, and Node 24 no Uint8Array.toBase64. */

const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const VALUES: ReadonlyMap<string, number> = new Map(ALPHABET.split("").map((char, value) => [char, value]));

/** The two letters of 12 bits. A table of pairs halves the number of texts that are joined. */
const PAIRS: readonly string[] = Array.from({ length: 4096 }, (_, bits) => letter(bits >>> 6) + letter(bits));

/** HOT: once for each page that has a next one, in its token. */
export function encodeBase64url(bytes: Uint8Array): string {
  let text = "";
  for (let i = 0; i < bytes.length; i += 3) {
    const left = bytes.length - i;
    const group = ((bytes[i] ?? 0) << 16) | ((bytes[i + 1] ?? 0) << 8) | (bytes[i + 2] ?? 0);
    text += PAIRS[group >>> 12] ?? "";
    if (left > 2) text += PAIRS[group & 4095] ?? "";
    else if (left > 1) text += letter(group >>> 6);
  }
  return text;
}

/** The bytes, or undefined when the text is not what `encodeBase64url` makes: another alphabet, padding, spare bits. */
export function decodeBase64url(text: string): Uint8Array | undefined {
  const tail = text.length % 4;
  if (tail === 1) return undefined;
  const bytes = new Uint8Array(Math.floor((text.length * 3) / 4));
  let bits = 0;
  let bitCount = 0;
  let at = 0;
  for (const char of text) {
    const value = VALUES.get(char);
    if (value === undefined) return undefined;
    bits = ((bits << 6) | value) & 0xffff;
    bitCount += 6;
    if (bitCount < 8) continue;
    bitCount -= 8;
    bytes[at] = (bits >>> bitCount) & 0xff;
    at += 1;
  }
  return (bits & ((1 << bitCount) - 1)) === 0 ? bytes : undefined;
}

function letter(value: number): string {
  return ALPHABET[value & 63] ?? "";
}
