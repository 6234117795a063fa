/** Short rounds of several sides in turn, and what their ratios say. Rounds that alternate meet the same neighbours on the machine. */
import type { Running } from "./_processes.ts";

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
