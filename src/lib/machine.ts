/** The contract of every protocol machine, which receives time, random numbers and input, and returns commands for its shell. */

/** Readings of two clocks: `monoMs` measures durations, and `wallMs` is the date. They are never compared with each other. */
export interface Time {
  readonly monoMs: number;
  readonly wallMs: number;
}

/** The deadline of a machine for which nothing is due. */
export const NEVER = Number.POSITIVE_INFINITY;

export interface Machine<Input, Output> {
  /** Runs to completion without awaiting anything. Appends the commands for the shell, in order, to `out`. */
  handle(input: Input, time: Time, out: Output[]): void;
  /** Monotonic time (ms) at which the next tick is needed, or `NEVER` if none is needed. An early or repeated tick changes nothing. */
  nextDeadlineMs(): number;
}

/** Options whose defaults are in a table that documents each option next to its value. */
export type OptionsOf<Table> = { readonly [Name in keyof Table]: number };

/** Runs sliced work to completion in one step. A shell that must not block the event loop iterates over the slices itself. */
export function runThrough<T>(work: Generator<void, T>): T {
  for (let step = work.next(); ; step = work.next()) if (step.done === true) return step.value;
}
