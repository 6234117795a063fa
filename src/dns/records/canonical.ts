/** Names and RRsets in canonical form (RFC 4034, 6), which signatures cover, and NSEC data for denials that cover exactly one name. */
import { MAX_LABEL_BYTES } from "../names/labels.ts";
import { joinedLabels, labelsOf, MAX_NAME_BYTES, wireName } from "../names/wire-names.ts";
import type { DataWriter, DnsRecord } from "./record.ts";

const UTF8 = new TextEncoder();
const CLASS_IN = 1;

/**
 * Returns the next name in canonical order, which is the name with the label `\000` in front. An NSEC record between these two names does not deny
 * any other name. A name that is too long for another label has no names below it, so the next name is a sibling (RFC 4471, 3.1.2).
 */
export function nextName(name: string): Uint8Array {
  const below = joinedLabels([Uint8Array.of(0), ...labelsOf(name)]);
  return below.length <= MAX_NAME_BYTES ? below : sibling(labelsOf(name));
}

function sibling([label = new Uint8Array(), ...above]: readonly Uint8Array[]): Uint8Array {
  const longer = joinedLabels([Uint8Array.of(...label, 0), ...above]);
  if (label.length < MAX_LABEL_BYTES && longer.length <= MAX_NAME_BYTES) return longer;
  const bytes = [...label];
  while (bytes.at(-1) === 0xff) bytes.pop();
  const last = bytes.pop();
  if (last === undefined) return sibling(above);
  // Upper-case letters are skipped because they are equal to the lower-case letters, which sort later.
  return joinedLabels([Uint8Array.of(...bytes, last === 0x40 ? 0x5b : last + 1), ...above]);
}

/** Returns the type bitmap in windows (RFC 4034, 4.1.2), each with as many bytes as it needs. */
export function typeBitmap(types: readonly number[]): Uint8Array {
  const windows = Map.groupBy(
    types.toSorted((a, b) => a - b),
    (type) => type >> 8,
  );
  const parts = [...windows].map(([window, members]) => {
    const bits = new Uint8Array((((members.at(-1) ?? 0) & 0xff) >> 3) + 1);
    for (const type of members) bits[(type & 0xff) >> 3] = (bits[(type & 0xff) >> 3] ?? 0) | (0x80 >> (type & 7));
    return Uint8Array.of(window, bits.length, ...bits);
  });
  return Buffer.concat(parts);
}

/** The properties shared by all records of an RRset. */
interface SetFacts {
  readonly name: string;
  readonly ttlSeconds: number;
  readonly code: number;
  /** Has the same meaning as in the definition of the record type. */
  readonly isFolded: boolean;
}

/** Returns an RRset in the form to sign: sorted by data, without duplicates. `writeData` writes the data of one record. */
export function canonicalSet(
  { name, ttlSeconds, code, isFolded }: SetFacts,
  records: readonly DnsRecord[],
  writeData: (record: DnsRecord, out: DataWriter) => void,
): Uint8Array {
  const owner = wireName(name.toLowerCase());
  const sorted = records
    .map((record) => {
      const out = new CanonicalWriter(isFolded);
      writeData(record, out);
      return out.taken();
    })
    .toSorted((a, b) => Buffer.compare(a, b));
  const parts: Uint8Array[] = [];
  for (const [i, data] of sorted.entries()) {
    if (i > 0 && Buffer.compare(data, sorted[i - 1] ?? owner) === 0) continue;
    const head = new CanonicalWriter(false);
    head.u16(code);
    head.u16(CLASS_IN);
    head.u32(ttlSeconds);
    head.u16(data.length);
    parts.push(owner, head.taken(), data);
  }
  return Buffer.concat(parts);
}

/** Writes data without name compression. */
export class CanonicalWriter implements DataWriter {
  readonly #isFolded: boolean;
  readonly #parts: Uint8Array[] = [];

  constructor(isFolded: boolean) {
    this.#isFolded = isFolded;
  }

  taken(): Uint8Array {
    return Buffer.concat(this.#parts);
  }

  u8(value: number): void {
    this.#parts.push(Uint8Array.of(value));
  }

  u16(value: number): void {
    this.#parts.push(Uint8Array.of(value >> 8, value));
  }

  u32(value: number): void {
    this.#parts.push(Uint8Array.of(value >>> 24, value >>> 16, value >>> 8, value));
  }

  bytes(value: Uint8Array): void {
    this.#parts.push(value);
  }

  string(value: string): void {
    const bytes = UTF8.encode(value).subarray(0, 255);
    this.u8(bytes.length);
    this.bytes(bytes);
  }

  name(value: string): void {
    this.#parts.push(wireName(this.#isFolded ? value.toLowerCase() : value));
  }

  compressedName(value: string): void {
    this.name(value);
  }
}
