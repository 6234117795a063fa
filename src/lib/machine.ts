/** The contract of every protocol machine: time, random numbers and input come in; what the shell must do goes out. */

/** Two clocks: `monoMs` measures, `wallMs` dates. They are never compared with each other. */
export interface Time {
  readonly monoMs: number;
  readonly wallMs: number;
}

/** The deadline of a machine that waits for nothing. */
export const NEVER = Number.POSITIVE_INFINITY;

export interface Machine<Input, Output> {
  /** Runs to completion and never awaits. Appends what the shell must do, in order, to `out`. */
  handle(input: Input, time: Time, out: Output[]): void;
  /** Monotonic ms at which a tick is next needed; `NEVER` when none is. A tick too early, or twice, changes nothing. */
  nextDeadlineMs(): number;
}

/** Options with these values as defaults: a table says what each one means, and its value, in one place. */
export type OptionsOf<Table> = { readonly [Name in keyof Table]: number };

/** Runs work that yields between slices in one go. A shell that must let the event loop breathe steps through the slices itself. */
export function runThrough<T>(work: Generator<void, T>): T {
  for (let step = work.next(); ; step = work.next()) if (step.done === true) return step.value;
}
