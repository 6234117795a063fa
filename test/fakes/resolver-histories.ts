/** Histories of a mesh with streams that read at nodes and at resolvers, and move between them. */
import fc from "fast-check";
import type { Step } from "./history.ts";
import { Resolvers } from "./resolvers.ts";
import { type Stream, WATCH_FILTERS } from "./stream.ts";
import { playWatches, type Turn, turns } from "./watch-history.ts";

const filters = fc.array(fc.nat(WATCH_FILTERS.length - 1), { minLength: 3, maxLength: 3 });

/** Plays so many histories in which anything happens. Returns how often a stream might be given a cursor by a resolver. */
export function playAny(numRuns: number): number {
  let placeCount = 0;
  fc.assert(
    fc.property(turns(80), filters, fc.constantFrom(undefined, 1, 12), (history, chosen, pastTouches) => {
      const resolvers = new Resolvers(pastTouches);
      playWatches(history, chosen, pastTouches, resolvers);
      placeCount += resolvers.placeCount;
    }),
    { numRuns },
  );
  return placeCount;
}

const busy = turns(80).map((history) =>
  history.map((turn) => {
    const { step, action, pick } = turn;
    const acts = pick % 2 === 0 ? (["farewell", "move"] as const) : (["drain", "move"] as const);
    const isIdle = action === "nothing" || action === "pull";
    return { ...turn, step: { ...step, key: step.key % 3 }, action: isIdle ? acts[step.detail % 2]! : action };
  }),
);

/** Plays so many histories in which few keys change all the time, and streams come and go with fresh cursors. Returns how often a stream was told everything. */
export function playBusy(numRuns: number): number {
  let settledCount = 0;
  fc.assert(
    fc.property(busy, (history) => {
      for (const stream of playWatches(history, [0, 0, 5], undefined, new Resolvers(undefined))) settledCount += stream.settledCount;
    }),
    { numRuns },
  );
  return settledCount;
}

/** A turn as a row: the kind, node, other node, key and detail of its step, then its action, stream and pick. */
export type TurnRow = readonly [Step["kind"], number, number, number, number, Turn["action"], number, number];

/** Plays a history that a test once found. */
export function playFound(rows: readonly TurnRow[], chosen: readonly number[]): readonly Stream[] {
  const history = rows.map(([kind, node, other, key, detail, action, stream, pick]) => ({
    step: { kind, node, other, key, detail },
    action,
    stream,
    pick,
  }));
  return playWatches(history, chosen, undefined, new Resolvers(undefined));
}
