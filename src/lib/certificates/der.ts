/** Writes DER (ITU-T X.690), as far as certificates need it. */

const TAG = {
  integer: 0x02,
  bits: 0x03,
  bytes: 0x04,
  oid: 0x06,
  utf8: 0x0c,
  utc: 0x17,
  generalized: 0x18,
  sequence: 0x30,
  set: 0x31,
} as const;

/** Returns an element with any tag. */
export function element(tag: number, ...contents: readonly Uint8Array[]): Uint8Array {
  const body = Buffer.concat(contents);
  return Buffer.concat([Uint8Array.of(tag), length(body.length), body]);
}

function length(count: number): Uint8Array {
  if (count < 0x80) return Uint8Array.of(count);
  const digits = Buffer.from(count.toString(16).padStart(count > 0xff ? 4 : 2, "0"), "hex");
  return Buffer.concat([Uint8Array.of(0x80 + digits.length), digits]);
}

export function sequence(...contents: readonly Uint8Array[]): Uint8Array {
  return element(TAG.sequence, ...contents);
}

export function set(...contents: readonly Uint8Array[]): Uint8Array {
  return element(TAG.set, ...contents);
}

/** Returns a positive integer from its bytes, without leading zeros. */
export function integer(bytes: Uint8Array): Uint8Array {
  const first = bytes.findIndex((byte) => byte !== 0);
  const digits = first < 0 ? Uint8Array.of(0) : bytes.subarray(first);
  return element(TAG.integer, (digits[0] ?? 0) >= 0x80 ? Uint8Array.of(0) : Uint8Array.of(), digits);
}

/** Returns a bit string. `unused` is the number of bits at its end that do not belong to it. */
export function bitString(bytes: Uint8Array, unused = 0): Uint8Array {
  return element(TAG.bits, Uint8Array.of(unused), bytes);
}

export function octetString(bytes: Uint8Array): Uint8Array {
  return element(TAG.bytes, bytes);
}

export function utf8String(text: string): Uint8Array {
  return element(TAG.utf8, Buffer.from(text));
}

/** Returns an object identifier from its dotted form. */
export function objectId(dotted: string): Uint8Array {
  const [first = 0, second = 0, ...others] = dotted.split(".").map(Number);
  return element(TAG.oid, Uint8Array.from([first * 40 + second, ...others.flatMap(base128)]));
}

function base128(number: number): readonly number[] {
  const digits = [number & 0x7f];
  for (let rest = number >>> 7; rest > 0; rest >>>= 7) digits.unshift((rest & 0x7f) | 0x80);
  return digits;
}

/** Returns a time in whole seconds. Certificates write years before 2050 with two digits (RFC 5280, section 4.1.2.5). */
export function time(wallMs: number): Uint8Array {
  const digits = new Date(wallMs).toISOString().replaceAll(/[-:T]|\.\d+/g, "");
  const isShort = Number(digits.slice(0, 4)) < 2050;
  return element(isShort ? TAG.utc : TAG.generalized, Buffer.from(isShort ? digits.slice(2) : digits));
}
