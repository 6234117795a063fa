/** Which checks turn, and what that says of the node. */
import { expect, test } from "vitest";
import { FAILURE } from "../../../src/catalog/entry/checks.ts";
import { HEALTH } from "../../../src/catalog/record/record.ts";
import { StateChanges } from "../../../src/discovery/checks/state-changes.ts";
import { CheckThreshold, failed, PASSED } from "../../../src/discovery/checks/threshold.ts";
import type { WatchedCheck } from "../../../src/discovery/checks/watched-checks.ts";

const WELL = { health: HEALTH.HEALTHY, failure: FAILURE.NONE, httpStatus: 0 };
const DOWN = failed(FAILURE.REFUSED);

function started(counts: Readonly<Record<"tcp" | "alias", number>>) {
  const turns = new StateChanges();
  const watches = (kind: "tcp" | "alias") =>
    Array.from({ length: counts[kind] }, () => {
      const threshold = new CheckThreshold({ failing: 1, passing: 1 }, WELL);
      const watch = {
        check: { probe: { case: kind } },
        entry: { owner: "ann" },
        threshold,
        dueMonoMs: undefined,
      } as unknown as WatchedCheck;
      turns.added(watch);
      return watch;
    });
  return { turns, tcp: watches("tcp"), alias: watches("alias") };
}

test("aliases that turned do not make the node doubt itself", () => {
  const { turns, tcp, alias } = started({ tcp: 10, alias: 8 });
  for (const watch of alias) turns.conclude(watch, DOWN, 0);
  expect(turns.turn(1000)).toHaveLength(8);
  turns.conclude(tcp[0]!, DOWN, 2000);
  expect([turns.turn(3000).length, turns.doubt.isSelfPreserving]).toEqual([1, false]);
});

test("a check that was about to turn, and did not, waits anew for others when it is about to turn again", () => {
  const { turns, tcp } = started({ tcp: 10, alias: 0 });
  turns.conclude(tcp[0]!, DOWN, 0);
  turns.conclude(tcp[0]!, PASSED, 500);
  turns.conclude(tcp[0]!, DOWN, 5000);
  expect([turns.turn(5000).length, turns.turn(6000).length]).toEqual([0, 1]);
});
