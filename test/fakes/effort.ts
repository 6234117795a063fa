/**
 * How much of what is generated a run looks at. `npm run nightly` looks at all of it, `npm test` at a sixth, and
 * `npm run quick` at an eighth, so that a push is judged in seconds. The variable is no WAYMARK_…, because tests start nodes, and a node refuses a setting that it does not know.
 */
const SHARES = { night: 1, gate: 6, quick: 8 } as const;

const share = SHARES[effortOf(process.env["TEST_EFFORT"] ?? "gate")];

/** Whether this run looks at everything. */
export const isNight = share === SHARES.night;

function effortOf(text: string): keyof typeof SHARES {
  if (!Object.hasOwn(SHARES, text)) throw new Error(`TEST_EFFORT is ${text}, none of ${Object.keys(SHARES).join(", ")}`);
  return text as keyof typeof SHARES;
}

/** Of so many generated cases, those that this run plays. */
export function runs(count: number): number {
  return Math.ceil(count / share);
}

const EACH = 4;
/** Of a list of seeds or shapes, those that this run plays: all at night, else the first and every fourth after it. */
export function some<T>(all: readonly T[]): readonly T[] {
  return isNight ? all : all.filter((_, i) => i % EACH === 0);
}

/** The size of a world: in full at night, else as small as shows the same rule. */
export function sized(full: number, small: number): number {
  return isNight ? full : small;
}
