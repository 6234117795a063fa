/** The contract of every protocol machine: time, chance and I/O come in from outside, what the shell must do goes out. */

/** Two clocks: `monoMs` measures, `wallMs` dates. They are never compared with each other. */
export interface Time {
  readonly monoMs: number;
  readonly wallMs: number;
}

export interface Machine<Input, Output> {
  /** Runs to completion and never awaits. Appends what the shell must do, in order, to `out`. */
  handle(input: Input, time: Time, out: Output[]): void;
  /** Monotonic ms at which a tick is next needed. A tick too early, or twice, changes nothing. */
  nextDeadlineMs(): number | undefined;
}
