/**
 * Encodes text as DNS labels and decodes it (semantics.md, DNS). A string that is not a valid label, or is too long, is encoded in base32. The last
 * label has the prefix `b32-`, and any labels before it have the prefix `b32x-`. Each string has exactly one encoding.
 */

/** Longest label in octets (RFC 1035, 2.3.4). */
export const MAX_LABEL_BYTES = 63;

export const SAFE_LABEL = /^[a-z0-9-]{1,63}$/;
/** Longest name as text without the final dot. Such a name has 255 octets on the wire. */
export const MAX_NAME_CHARS = 253;
const NAME_TEXT = /^[A-Za-z0-9._:/@+-]{1,253}$/;
const LAST_PREFIX = "b32-";
const MORE_PREFIX = "b32x-";
const ALPHABET = "abcdefghijklmnopqrstuvwxyz234567";
const DIGIT_BITS = 5;
/** Minimum number of digits in the last label after a `b32x-` label. Fewer digits would have fit into the preceding label. */
const LEAST_END = 2;

/** How the label is used. A port label starts with `_`, so it has room for one character less. */
export type LabelUse = "name" | "port";
const FIRST_ROOM: Readonly<Record<LabelUse, number>> = { name: MAX_LABEL_BYTES, port: MAX_LABEL_BYTES - 1 };

/**
 * Returns the dot-separated labels for a name, node id, port or namespace label. Text that is DNS-safe (`[a-z0-9-]`) and fits into one label is
 * returned unchanged, and other text is encoded in base32. Returns undefined when the text is not a valid name.
 */
export function encodeLabel(text: string, place: LabelUse = "name"): string | undefined {
  if (!NAME_TEXT.test(text)) return undefined;
  if (isPlain(text, place)) return text;
  const digits = encodeBase32(text);
  const labels: string[] = [];
  let at = 0;
  for (let room = FIRST_ROOM[place]; digits.length - at > room - LAST_PREFIX.length; room = MAX_LABEL_BYTES) {
    const end = at + room - MORE_PREFIX.length;
    labels.push(MORE_PREFIX + digits.slice(at, end));
    at = end;
  }
  labels.push(LAST_PREFIX + digits.slice(at));
  return labels.join(".");
}

/** Reverses `encodeLabel`, ignoring case. Returns undefined for text that `encodeLabel` does not produce. */
export function decodeLabel(label: string, place: LabelUse = "name"): string | undefined {
  const lower = label.toLowerCase();
  if (isPlain(lower, place)) return lower;
  if (!lower.startsWith(LAST_PREFIX) && !lower.startsWith(MORE_PREFIX)) return undefined;
  const bytes = decodeBase32(digitsOf(lower), 0);
  // Each name has exactly one encoding, so no other encoding may resolve.
  return bytes !== undefined && encodeLabel(bytes, place) === lower ? bytes : undefined;
}

/**
 * Splits a name into lower-case words. A word is a single label, or a dot-separated sequence of labels that together encode one string. A sequence of
 * `b32x-` labels without a final `b32-` label is also one word, but it cannot be decoded.
 */
export function wordsOf(name: string): readonly string[] {
  // HOT: runs about six times per nonexistent name.
  if (name !== lastName) [lastName, lastWords] = [name, splitWords(name)];
  return lastWords;
}

let lastName = "";
let lastWords: readonly string[] = [""];

function splitWords(name: string): readonly string[] {
  const labels = name.split(".");
  if (!name.includes(MORE_PREFIX)) return labels;
  const words: string[] = [];
  let open: string[] = [];
  for (const label of labels) {
    const digits = open.length === 0 && label.startsWith("_") ? label.slice(1) : label;
    if (digits.startsWith(MORE_PREFIX)) open.push(label);
    else if (open.length > 0 && label.startsWith(LAST_PREFIX)) {
      words.push([...open, label].join("."));
      open = [];
    } else {
      if (open.length > 0) words.push(open.join("."));
      open = [];
      words.push(label);
    }
  }
  if (open.length > 0) words.push(open.join("."));
  return words;
}

/**
 * Returns whether the word may be the tail of a longer encoded string whose first labels are missing. If so, names exist below it. The result depends
 * only on the word, so that the answer does not reveal what exists.
 */
export function mayEndLonger(word: string, place: LabelUse): boolean {
  const lower = word.toLowerCase();
  if (!lower.startsWith(LAST_PREFIX) && !lower.startsWith(MORE_PREFIX)) return false;
  const labels = lower.split(".");
  const isCutRight = labels.every((label, i) =>
    i === labels.length - 1 ? label.startsWith(LAST_PREFIX) : label.length === MAX_LABEL_BYTES,
  );
  if (!isCutRight) return false;
  const digits = digitsOf(lower);
  if (digits.length < LEAST_END) return false;
  // Tries each possible number of preceding labels and digits. With a fourth label the name would exceed 253 characters.
  for (let labelCount = 1; labelCount * (MAX_LABEL_BYTES + 1) + lower.length < MAX_NAME_CHARS; labelCount++) {
    const before = FIRST_ROOM[place] - MORE_PREFIX.length + (labelCount - 1) * (MAX_LABEL_BYTES - MORE_PREFIX.length);
    // The first character whose bits are all present.
    const skippedBits = (8 - ((before * DIGIT_BITS) % 8)) % 8;
    const text = decodeBase32(digits, skippedBits);
    if (text !== undefined && (text === "" || NAME_TEXT.test(text))) return true;
  }
  return false;
}

/**
 * Returns whether the text can be used as a label without encoding. HOT: runs about five times per nonexistent name. It is three times as fast as the
 * regular expression `SAFE_LABEL`.
 */
function isPlain(text: string, place: LabelUse): boolean {
  if (text.length === 0 || text.length > FIRST_ROOM[place]) return false;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    const isSafe = (code >= 97 && code <= 122) || (code >= 48 && code <= 57) || code === 45;
    if (!isSafe) return false;
  }
  return !text.startsWith(LAST_PREFIX) && !text.startsWith(MORE_PREFIX);
}

function digitsOf(word: string): string {
  const labels = word.split(".");
  return labels.map((label) => label.slice(label.startsWith(MORE_PREFIX) ? MORE_PREFIX.length : LAST_PREFIX.length)).join("");
}

/** Encodes ASCII text as base32 (RFC 4648), in lower case, without padding. */
function encodeBase32(text: string): string {
  let out = "";
  let bits = 0;
  let value = 0;
  for (let i = 0; i < text.length; i++) {
    value = ((value << 8) | text.charCodeAt(i)) & 0xfff;
    bits += 8;
    while (bits >= DIGIT_BITS) {
      bits -= DIGIT_BITS;
      out += ALPHABET.charAt((value >> bits) & 31);
    }
  }
  return bits > 0 ? out + ALPHABET.charAt((value << (DIGIT_BITS - bits)) & 31) : out;
}

/**
 * Returns the text decoded after the first `skippedBits` bits. Returns undefined when a digit is invalid or the remaining bits are not zero.
 */
function decodeBase32(text: string, skippedBits: number): string | undefined {
  let out = "";
  let bits = -skippedBits;
  let value = 0;
  for (const char of text) {
    const digit = ALPHABET.indexOf(char);
    if (digit < 0) return undefined;
    value = ((value << DIGIT_BITS) | digit) & 0xfff;
    bits += DIGIT_BITS;
    if (bits >= 8) {
      bits -= 8;
      out += String.fromCharCode((value >> bits) & 0xff);
    }
  }
  const isWhole = bits >= 0 && bits < DIGIT_BITS && (value & ((1 << bits) - 1)) === 0;
  return isWhole ? out : undefined;
}
