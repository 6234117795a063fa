/** Short rounds of several sides in turn, and what their ratios say. Rounds that alternate meet the same neighbours on the machine. */
import type { Running } from "./_processes.ts";
import { round } from "./_results.ts";

/** CPU time of a round, about: short, so that the two rounds of a pair meet the same neighbours. */
const ROUND_MS = 200;
/** Rounds of each side before those that count: Node has compiled the path of a request after some 20,000 of them. */
const WARM_ROUNDS = 10;

/** Does `count` units of work against a server, or more where it goes in steps. Gives how many it did. */
export type Work = (count: number) => Promise<number>;

export interface Side {
  readonly measured: Pick<Running, "name" | "cpuMs">;
  readonly work: Work;
}

interface Spent {
  readonly units: number;
  readonly cpuMs: number;
}

async function spend({ measured, work }: Side, count: number): Promise<Spent> {
  const before = measured.cpuMs();
  const units = await work(count);
  return { units, cpuMs: measured.cpuMs() - before };
}

async function calibrate(side: Side): Promise<number> {
  let count = 1000;
  for (;;) {
    const { units, cpuMs: spentMs } = await spend(side, count);
    if (spentMs > ROUND_MS / 2) return Math.ceil((units * ROUND_MS) / spentMs / 200) * 200;
    count *= spentMs < ROUND_MS / 20 ? 10 : 2;
  }
}

/** µs of CPU a unit in each round, a list for each side. The sides take turns, in an order that turns round each time. */
export async function inRounds(sides: readonly Side[], rounds: number): Promise<readonly (readonly number[])[]> {
  // All are warmed alike, so that none is compiled better when it is measured.
  let count = Number.POSITIVE_INFINITY;
  for (const side of sides) count = Math.min(count, await calibrate(side));
  for (let i = 0; i < WARM_ROUNDS; i++) for (const side of sides) await side.work(count);
  const costs = new Map<Side, number[]>(sides.map((side) => [side, []]));
  for (let i = 0; i < rounds; i++)
    for (const side of i % 2 === 0 ? sides : sides.toReversed()) {
      const { units, cpuMs } = await spend(side, count);
      costs.get(side)?.push((cpuMs * 1000) / units);
    }
  return [...costs.values()];
}

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
  return { ratio: round(Math.exp(mean)), low: round(Math.exp(mean - margin)), high: round(Math.exp(mean + margin)) };
}
