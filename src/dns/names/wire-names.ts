/**
 * Converts names between wire format (RFC 1035, 3.1) and text: labels separated by dots, with every byte except letters, digits, `-` and `_` written as `\DDD`,
 * so that each name has exactly one text.
 */
import { MAX_LABEL_BYTES } from "./labels.ts";

export const MAX_NAME_BYTES = 255;
/** The first byte of a compression pointer has its two highest bits set. */
const POINTER = 0xc0;

/** Returns the labels of a name from its text. */
export function labelsOf(name: string): readonly Uint8Array[] {
  if (name === "") return [];
  return name.split(".").map((label) => {
    if (!label.includes("\\")) return Uint8Array.from(label, (char) => char.charCodeAt(0));
    return Uint8Array.from(label.matchAll(/\\(\d{3})|[^\\]/g), ([char, code]) => (code === undefined ? char.charCodeAt(0) : Number(code)));
  });
}

/** Returns a name in wire format, without compression. */
export function wireName(name: string): Uint8Array {
  return joinedLabels(labelsOf(name));
}

export function joinedLabels(labels: readonly Uint8Array[]): Uint8Array {
  return Buffer.concat([...labels.flatMap((label) => [Uint8Array.of(label.length), label]), Uint8Array.of(0)]);
}

/** Options for reading a name. */
interface NameReadOptions {
  /** Whether compression pointers are allowed. Each pointer must point to an offset before the name or pointer target that contains it. */
  readonly mayPoint: boolean;
}

/**
 * Returns the lower-case text (RFC 4343) and the end offset of the name at `start`. Returns undefined when the name is not terminated, is too long,
 * or has a pointer that is not allowed.
 */
export function readName(
  bytes: Uint8Array,
  start: number,
  { mayPoint }: NameReadOptions,
): { readonly name: string; readonly end: number } | undefined {
  let name = "";
  let sizeBytes = 1;
  let end: number | undefined;
  let before = start;
  for (let at = start; at < bytes.length; ) {
    const length = bytes[at] ?? 0;
    if (length === 0) return { name, end: end ?? at + 1 };
    if (length >= POINTER) {
      const to = ((length - POINTER) << 8) | (bytes[at + 1] ?? 0);
      if (!mayPoint || to >= before) return undefined;
      end ??= at + 2;
      before = to;
      at = to;
      continue;
    }
    sizeBytes += length + 1;
    if (length > MAX_LABEL_BYTES || sizeBytes > MAX_NAME_BYTES) return undefined;
    if (name !== "") name += ".";
    for (const labelEnd = ++at + length; at < labelEnd; at++) name += CHARACTERS[bytes[at] ?? 0] ?? "";
  }
  return undefined;
}

/** Returns the end offset of the name at `start`. A pointer ends the name and is not followed, because only the offset is needed. */
export function skipName(bytes: Uint8Array, start: number): number | undefined {
  let at = start;
  while (at < bytes.length) {
    const length = bytes[at] ?? 0;
    if (length === 0) return at + 1;
    if (length >= POINTER) return at + 2;
    if (length > MAX_LABEL_BYTES) return undefined;
    at += length + 1;
  }
  return undefined;
}

/** The text of each byte. */
const CHARACTERS: readonly string[] = Array.from({ length: 256 }, (_, byte) => {
  const char = String.fromCharCode(byte).toLowerCase();
  return byte < 128 && /[a-z0-9_-]/.test(char) ? char : `\\${String(byte).padStart(3, "0")}`;
});
