/**
 * Texts as labels of DNS and back (semantics.md, DNS). A text that is no label by itself, or too long for one, is written in base32: one
 * label with the prefix `b32-`, or several, of which all but the last have the prefix `b32x-`. Each text has one spelling.
 */

/** Longest label in octets (RFC 1035, 2.3.4). */
export const MAX_LABEL_BYTES = 63;

export const SAFE_LABEL = /^[a-z0-9-]{1,63}$/;
/** Longest name as text without the final dot; it has 255 octets on the wire. */
export const MAX_NAME_CHARS = 253;
const NAME_TEXT = /^[A-Za-z0-9._:/@+-]{1,253}$/;
const LAST_PREFIX = "b32-";
const MORE_PREFIX = "b32x-";
const ALPHABET = "abcdefghijklmnopqrstuvwxyz234567";
const DIGIT_BITS = 5;
/** With fewer digits behind it the label before would have held them. */
const LEAST_END = 2;

/** Where a text stands: the label of a port has one character less, because it begins with `_`. */
export type LabelUse = "name" | "port";
const FIRST_ROOM: Readonly<Record<LabelUse, number>> = { name: MAX_LABEL_BYTES, port: MAX_LABEL_BYTES - 1 };

/**
 * The label or labels of a name, node id, port or namespace label, with dots between them: the text itself if it is DNS-safe (`[a-z0-9-]`)
 * and fits into one label, else base32. Undefined for a text that is no name.
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

/** The reverse of `encodeLabel`, in upper or lower case. Undefined for every text that `encodeLabel` does not make. */
export function decodeLabel(label: string, place: LabelUse = "name"): string | undefined {
  const lower = label.toLowerCase();
  if (isPlain(lower, place)) return lower;
  if (!lower.startsWith(LAST_PREFIX) && !lower.startsWith(MORE_PREFIX)) return undefined;
  const bytes = decodeBase32(digitsOf(lower), 0);
  // Each name has one spelling: no second one may resolve.
  return bytes !== undefined && encodeLabel(bytes, place) === lower ? bytes : undefined;
}

/**
 * The labels of a name, in lower case, of which those that carry one text are one word with dots in it. A run of `b32x-` labels that no
 * `b32-` label closes is a word too, which decodes to nothing.
 */
export function wordsOf(name: string): readonly string[] {
  // HOT: some six times for each name that somebody makes up.
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
 * Whether the word may be the end of a longer text, without the labels before it: then it lies above names. That is told from the word alone,
 * so that the answer says nothing of what exists.
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
  // How many digits stand before it, in how many labels. With the fourth the name would be over 253.
  for (let labelCount = 1; labelCount * (MAX_LABEL_BYTES + 1) + lower.length < MAX_NAME_CHARS; labelCount++) {
    const before = FIRST_ROOM[place] - MORE_PREFIX.length + (labelCount - 1) * (MAX_LABEL_BYTES - MORE_PREFIX.length);
    // The first character of which all bits are here.
    const skippedBits = (8 - ((before * DIGIT_BITS) % 8)) % 8;
    const text = decodeBase32(digits, skippedBits);
    if (text !== undefined && (text === "" || NAME_TEXT.test(text))) return true;
  }
  return false;
}

/** Whether the text is its own label. HOT: some five times for each name that somebody makes up, in a third of the time that the expression `SAFE_LABEL` takes. */
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

/** RFC 4648 base32 of ASCII text, lower case, without padding. */
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

/** The text after so many bits; undefined when a digit is none, or when what is left over at the end is not zero. */
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
