/**
 * How much of what is generated a run looks at: all of it, and for `npm run quick` the first part, so that a push is
 * judged in seconds. `npm test` runs the same properties with all their runs.
 */
const isQuick = process.env["WAYMARK_QUICK"] === "1";

/** Of so many generated cases, those that this run plays. */
export function runs(count: number): number {
  return isQuick ? Math.ceil(count / 8) : count;
}

/** Of a list of seeds or shapes, those that this run plays: the first and every fourth after it. */
export function some<T>(all: readonly T[]): readonly T[] {
  return isQuick ? all.filter((_, i) => i % 4 === 0) : all;
}

/** The size of a world: in full, or as small as shows the same rule. */
export function sized(full: number, quick: number): number {
  return isQuick ? quick : full;
}
