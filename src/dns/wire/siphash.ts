/**
 * SipHash-2-4 (Aumasson and Bernstein) with a 64-bit result. RFC 9018 requires it for server cookies, so that all servers with the same address
 * accept each other's cookies.
 */

/** The 128-bit key, as four 32-bit numbers, low word first. */
export type SipKey = readonly [number, number, number, number];

/** Reads the key from 16 bytes. */
export function sipKeyOf(bytes: Uint8Array): SipKey {
  return [wordAt(bytes, 0), wordAt(bytes, 4), wordAt(bytes, 8), wordAt(bytes, 12)];
}

/** Writes the 8-byte hash of the first `length` bytes, a multiple of 4, to `out`. HOT: runs once or twice per query with a cookie. */
export function sipHash24(bytes: Uint8Array, length: number, key: SipKey, out: Uint8Array): void {
  const [k0, k1, k2, k3] = key;
  // The state: v0 to v3, each as its low and its high word.
  const state = Int32Array.of(
    k0 ^ 0x70736575,
    k1 ^ 0x736f6d65,
    k2 ^ 0x6e646f6d,
    k3 ^ 0x646f7261,
    k0 ^ 0x6e657261,
    k1 ^ 0x6c796765,
    k2 ^ 0x79746573,
    k3 ^ 0x74656462,
  );
  const whole = length - (length % 8);
  for (let at = 0; at < whole; at += 8) compress(state, wordAt(bytes, at), wordAt(bytes, at + 4));
  compress(state, whole < length ? wordAt(bytes, whole) : 0, length << 24);
  state[4] = (state[4] ?? 0) ^ 0xff;
  rounds(state, 4);
  const low = (state[0] ?? 0) ^ (state[2] ?? 0) ^ (state[4] ?? 0) ^ (state[6] ?? 0);
  const high = (state[1] ?? 0) ^ (state[3] ?? 0) ^ (state[5] ?? 0) ^ (state[7] ?? 0);
  for (let i = 0; i < 4; i++) {
    out[i] = low >>> (8 * i);
    out[4 + i] = high >>> (8 * i);
  }
}

function compress(state: Int32Array, low: number, high: number): void {
  state[6] = (state[6] ?? 0) ^ low;
  state[7] = (state[7] ?? 0) ^ high;
  rounds(state, 2);
  state[0] = (state[0] ?? 0) ^ low;
  state[1] = (state[1] ?? 0) ^ high;
}

function rounds(state: Int32Array, count: number): void {
  for (let i = 0; i < count; i++) {
    mix(state, 0, 2, 13);
    swap(state, 0);
    mix(state, 4, 6, 16);
    mix(state, 0, 6, 21);
    mix(state, 4, 2, 17);
    swap(state, 4);
  }
}

/** Adds the 64-bit number at `b` to the number at `a`, rotates the number at `b` left, and XORs the sum into it. */
function mix(state: Int32Array, a: number, b: number, bits: number): void {
  const low = state[b] ?? 0;
  const high = state[b + 1] ?? 0;
  const sumLow = ((state[a] ?? 0) >>> 0) + (low >>> 0);
  const sumHigh = (state[a + 1] ?? 0) + high + (sumLow > 0xffff_ffff ? 1 : 0);
  state[a] = sumLow;
  state[a + 1] = sumHigh;
  state[b] = ((low << bits) | (high >>> (32 - bits))) ^ (sumLow | 0);
  state[b + 1] = ((high << bits) | (low >>> (32 - bits))) ^ (sumHigh | 0);
}

function swap(state: Int32Array, at: number): void {
  const low = state[at] ?? 0;
  state[at] = state[at + 1] ?? 0;
  state[at + 1] = low;
}

function wordAt(bytes: Uint8Array, at: number): number {
  return (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8) | ((bytes[at + 2] ?? 0) << 16) | ((bytes[at + 3] ?? 0) << 24);
}
