/**
 * Decides which 32 bytes are accepted as the public key of a cluster: they must encode a point of edwards25519 for which only the owner of the secret
 * can sign.
 */

const P = 2n ** 255n - 19n;
const D = 37_095_705_934_669_439_343_138_083_508_754_565_189_542_113_879_843_219_016_388_785_533_085_940_283_555n;
const SIGN_BIT = 1n << 255n;

/** A number modulo P, represented as a fraction to avoid divisions. A division is as slow as an exponentiation. */
interface Fraction {
  readonly over: bigint;
  readonly under: bigint;
}

/**
 * Whether the bytes encode a point (RFC 8032, 5.1.3) whose order is not small. For a point of small order, anyone can create signatures that earlier
 * releases of Node 24 accept. Cost: about 150 µs, so each key is checked only once, when it is configured or validly announced.
 */
export function isSoundPublicKey(raw: Uint8Array): boolean {
  if (raw.length !== 32) return false;
  const over = BigInt(`0x${Buffer.from(raw.toReversed()).toString("hex")}`) & (SIGN_BIT - 1n);
  if (over >= P) return false;
  let y: Fraction = { over, under: 1n };
  const xx = squareOfX(y);
  // Euler's criterion determines whether such an x exists. Both points with x = 0, for which the power is 0, have a small order.
  if (power(xx.over * xx.under, (P - 1n) / 2n) !== 1n) return false;
  for (let times = 0; times < 3; times++) y = doubled(y);
  // The neutral point is the only point with y = 1.
  return y.over !== y.under;
}

/** The x² of the points with this y: -x² + y² = 1 + d x² y². */
function squareOfX({ over, under }: Fraction): Fraction {
  return { over: mod(over * over - under * under), under: mod(D * over * over + under * under) };
}

/** The y of twice the points with this y: (y² + x²) / (2 - y² + x²). */
function doubled(y: Fraction): Fraction {
  const xx = squareOfX(y);
  const yy = mod(y.over * y.over * xx.under);
  const one = mod(y.under * y.under);
  const x = mod(xx.over * one);
  return { over: mod(yy + x), under: mod(2n * one * xx.under - yy + x) };
}

function power(base: bigint, exponent: bigint): bigint {
  let result = 1n;
  let factor = mod(base);
  for (let rest = exponent; rest > 0n; rest >>= 1n) {
    if ((rest & 1n) === 1n) result = mod(result * factor);
    factor = mod(factor * factor);
  }
  return result;
}

function mod(value: bigint): bigint {
  const rest = value % P;
  return rest < 0n ? rest + P : rest;
}
