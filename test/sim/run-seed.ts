/** One seed: run it, and when it fails, replay it with a trace, shrink its schedule and say everything that helps to find out why. */
import { join } from "node:path";
import type { Step } from "./plan.ts";
import { wordsOf } from "./plan.ts";
import { shrink } from "./shrink.ts";
import { type Outcome, Simulation } from "./simulation.ts";
import { TRACE_DIR } from "./trace.ts";
import { planOf, type Size } from "./workload.ts";

/** Bounds of shrinking. */
const MAX_RUNS = 250;
const MAX_SHRINK_MS = 45_000;

export function runSeed(seed: string | number, size?: Size): Outcome {
  return new Simulation(planOf(seed, size)).run();
}

/** Everything that is known of a failure; takes up to a minute. */
export function explain(seed: string | number, size: Size | undefined, failed: Outcome): string {
  const plan = planOf(seed, size);
  const { invariant = "", message = "" } = failed.violation ?? {};
  const start = performance.now();
  const failsAlike = (steps: readonly Step[]) => new Simulation({ ...plan, steps }).run().violation?.invariant === invariant;
  const { items, runs } = shrink(plan.steps, failsAlike, (done) => done < MAX_RUNS && performance.now() - start < MAX_SHRINK_MS);
  const replay = new Simulation({ ...plan, steps: items }, { traceFile: join(TRACE_DIR, `seed-${seed}.log`) }).run();
  const again = size === undefined ? `--seed ${seed}` : `--seed ${seed} --nodes ${size.nodes} --minutes ${size.minutes}`;
  return [
    `seed ${seed}: ${message}`,
    `run it again: npm run sim -- ${again}`,
    `${plan.places.length} nodes (${plan.places.map(({ clusterId }) => clusterId).join(" ")}), ${plan.isUnruly ? "unruly" : "FIFO"} links`,
    `the shortest schedule found that fails alike, ${items.length} of ${plan.steps.length} steps after ${runs} runs:`,
    ...items.map((step) => `  ${wordsOf(step)}`),
    `which ends with: ${replay.violation?.message ?? "nothing: it passes with a trace, so the simulator is not deterministic"}`,
    replay.trace,
  ].join("\n");
}
