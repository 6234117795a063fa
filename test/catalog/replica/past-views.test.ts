/** What a reader holds of a key, by what was seen of it (semantics.md, Watch 2); `feed.test.ts` shows what follows from it. */
import { expect, test } from "vitest";
import { ANY } from "../../../src/catalog/query/filter.ts";
import type { CatalogRecord } from "../../../src/catalog/record/record.ts";
import { NO_PENDING_TOUCH, PastViews, type PendingTouch, UNSURE } from "../../../src/catalog/replica/past-views.ts";
import { timeOf } from "../../fakes/history.ts";
import { FabricComponent, KEYS } from "../../fakes/mesh.ts";
import { testRecord } from "../../fakes/records.ts";

const SELF = { nodeId: "n1", clusterId: "c1", region: "r1" };
const BLUE_ONLY = { ...ANY, tags: ["blue"] };
const BLUE = testRecord({ tags: ["blue"] });
const GREEN = testRecord({ tags: ["green"] });

/** The key was touched at these revisions: what was seen before each, and how that is known. */
function pastOf(
  touches: readonly { readonly at: number; readonly seen?: CatalogRecord; readonly owed?: PendingTouch }[],
  max?: number,
): PastViews {
  const past = new PastViews(max);
  let previous = 0;
  for (let revision = 1; revision <= (touches.at(-1)?.at ?? 0); revision++) {
    const touch = touches.find(({ at }) => at === revision);
    past.note(revision, touch === undefined ? 0 : previous, touch?.seen, touch?.owed ?? NO_PENDING_TOUCH);
    if (touch !== undefined) previous = revision;
  }
  return past;
}

function held(past: PastViews, revision: number, settled: number, until = settled): string {
  return past.holding(revision, undefined, { settled, until }, BLUE_ONLY, SELF);
}

test("it holds what was seen before the first touch after where it stands, if that matches", () => {
  const past = pastOf([{ at: 1 }, { at: 4, seen: BLUE }, { at: 6, seen: GREEN }]);
  expect([0, 1, 3, 4, 5].map((settled) => held(past, 6, settled))).toEqual(["nothing", "other", "other", "nothing", "nothing"]);
});

test("nobody knows which of several views it was told of, nor what was seen before what is remembered", () => {
  const past = pastOf([{ at: 1 }, { at: 4, seen: BLUE }, { at: 6, seen: GREEN }]);
  expect([held(past, 6, 3, 4), held(past, 6, 4, 5), held(past, 6, 5, 9)]).toEqual(["unknown", "nothing", "unknown"]);
  const short = pastOf([{ at: 1 }, { at: 4, seen: BLUE }, { at: 6, seen: GREEN }], 2);
  expect([held(short, 6, 3), held(short, 6, 5)]).toEqual(["unknown", "nothing"]);
});

test("of looks that are remembered it is known which of several views they told of", () => {
  const past = pastOf([{ at: 1 }, { at: 4, seen: BLUE }, { at: 6, seen: GREEN }, { at: 9, seen: BLUE }]);
  const holds = (...told: { from: number; to: number; at: number }[]) =>
    past.holding(9, undefined, { settled: 3, until: 7, reads: told }, BLUE_ONLY, SELF);
  // Told when it had been touched at 6 and not again, at 4 and not again, or not at all: each time it came later again.
  expect(holds({ from: 3, to: 7, at: 8 })).toBe("other");
  expect(holds({ from: 3, to: 5, at: 5 }, { from: 5, to: 7, at: 10 })).toBe("nothing");
  expect(holds({ from: 3, to: 5, at: 7 }, { from: 5, to: 7, at: 10 })).toBe("other");
  // By then it had just been touched at 6, and was passed over.
  expect(holds({ from: 3, to: 5, at: 6 }, { from: 5, to: 7, at: 10 })).toBe("other");
  // The look that passed it is forgotten.
  expect(holds({ from: 3, to: 5, at: 5 })).toBe("unknown");
});

test("of a life that changed twice before its records were touched, only who looked in between may have been told anything", () => {
  const owed: PendingTouch = { before: "seen", since: 4, between: UNSURE };
  const past = (seen: CatalogRecord) => pastOf([{ at: 1 }, { at: 7, seen, owed }]);
  expect([3, 4, 6].map((settled) => held(past(BLUE), 7, settled))).toEqual(["other", "unknown", "unknown"]);
  expect([3, 4, 6].map((settled) => held(past(GREEN), 7, settled))).toEqual(["nothing", "unknown", "unknown"]);
});

test("the ring goes round without losing the newest touches", () => {
  const node = new FabricComponent("a", 3);
  for (let n = 0; n < 10; n++) {
    node.put(KEYS[0]!, n % 2, timeOf(n, 0));
    node.commit(timeOf(n, 0));
  }
  const { past, revision } = node.replica;
  const [now] = node.replica.records(KEYS[0]!);
  const stands = [10, 9, 8, 7, 6].map((settled) => past.holding(revision, now, { settled, until: settled }, BLUE_ONLY, SELF));
  expect(stands).toEqual(["unknown", "other", "nothing", "other", "unknown"]);
});
