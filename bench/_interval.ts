/** What noisy rounds in pairs say of a ratio. */

/** A mean ratio with its 95 % interval. */
export interface Interval {
  readonly ratio: number;
  readonly low: number;
  readonly high: number;
}

/** 97.5 % quantiles of Student's t from one degree of freedom on, where the series below is not within 1 %. */
const FEW_DEGREES = [12.706, 4.303, 3.182, 2.776];

/** 97.5 % quantile of Student's t (Hill, CACM algorithm 396, as its first terms; within 1 % from 5 degrees on). */
function studentT(degrees: number): number {
  const known = FEW_DEGREES[degrees - 1];
  if (known !== undefined) return known;
  const z = 1.96;
  return z + (z ** 3 + z) / (4 * degrees) + (5 * z ** 5 + 16 * z ** 3 + 3 * z) / (96 * degrees ** 2);
}

/** Of the ratios of paired rounds, by their logarithms. */
export function interval(ratios: readonly number[]): Interval {
  const logs = ratios.map(Math.log);
  const mean = logs.reduce((sum, log) => sum + log, 0) / logs.length;
  const variance = logs.reduce((sum, log) => sum + (log - mean) ** 2, 0) / (logs.length - 1);
  const margin = studentT(logs.length - 1) * Math.sqrt(variance / logs.length);
  const exact = (log: number) => Number(Math.exp(log).toPrecision(6));
  return { ratio: exact(mean), low: exact(mean - margin), high: exact(mean + margin) };
}
