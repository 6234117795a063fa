/** What time is to pure code: a value that comes in with each call. */

/** Two clocks: `monoMs` measures, `wallMs` dates. They are never compared with each other. */
export interface Time {
  readonly monoMs: number;
  readonly wallMs: number;
}
