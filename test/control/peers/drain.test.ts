/** The steps of a drain follow each other when nothing is left; a late drain is stuck and drops nothing, unless it is forced. */
import { expect, test } from "vitest";
import { DRAIN_STEPS, Drain, type DrainTask } from "../../../src/control/peers/drain.ts";
import type { DrainTerms } from "../../../src/control/peers/records.ts";
import { NEVER } from "../../../src/lib/machine.ts";

const at = (ms: number) => ({ monoMs: ms, wallMs: 1_000_000 + ms });
const terms = (deadlineMs: number, isForced = false): DrainTerms => ({
  sinceWallMs: 1_000_000,
  deadlineWallMs: 1_000_000 + deadlineMs,
  isForced,
});

/** A drain whose steps have this much left, and the calls of its tasks. */
function world() {
  const left = [1, 1, 1, 1, 1];
  const calls: string[] = [];
  const tasks = left.map((_, i): DrainTask => {
    const name = DRAIN_STEPS[i] ?? "";
    return {
      begin: () => void calls.push(`begin ${name}`),
      advance: () => ({ leases: left[i] ?? 0 }),
      end: () => {
        calls.push(`end ${name}`);
        left[i] = Math.max(0, (left[i] ?? 0) - 1);
      },
      cancel: () => void calls.push(`cancel ${name}`),
    };
  });
  const drain = new Drain(tasks);
  return { drain, left, calls, step: () => drain.progress?.step };
}

test("a step begins when nothing is left of the one before", () => {
  const { drain, left, calls, step } = world();
  drain.follow(terms(60_000), at(0));
  drain.look(at(0));
  expect([step(), drain.progress?.left, drain.nextDeadlineMs()]).toEqual(["leaders", [{ kind: "leases", count: 1 }], 200]);
  const steps = left.map((_, i) => {
    left[i] = 0;
    drain.look(at(200 * (i + 1)));
    return step();
  });
  expect(steps).toEqual(["leases", "static_entries", "addresses", "watches", "drained"]);
  expect(calls).toEqual(DRAIN_STEPS.slice(0, 5).map((name) => `begin ${name}`));
  expect([drain.nextDeadlineMs(), drain.progress]).toEqual([NEVER, { step: "drained", sinceMs: 1_000_000, isStuck: false, left: [] }]);
});

test("a late drain is stuck, ends nothing, and continues", () => {
  const { drain, left, calls, step } = world();
  drain.follow(terms(1000), at(0));
  for (const ms of [0, 900]) drain.look(at(ms));
  expect(drain.progress?.isStuck).toBe(false);
  drain.look(at(1100));
  expect([drain.progress?.isStuck, calls]).toEqual([true, ["begin leaders"]]);
  left.fill(0);
  drain.look(at(1300));
  expect([step(), drain.progress?.isStuck]).toEqual(["drained", false]);
});

test("a forced drain ends what is left after its deadline, and not before", () => {
  const { drain, calls, step } = world();
  drain.follow(terms(1000, true), at(0));
  for (const ms of [0, 900]) drain.look(at(ms));
  expect([step(), calls]).toEqual(["leaders", ["begin leaders"]]);
  drain.look(at(1100));
  expect([step(), calls.filter((call) => call.startsWith("end"))]).toEqual([
    "drained",
    DRAIN_STEPS.slice(0, 5).map((name) => `end ${name}`),
  ]);
});

test("a forced drain is not stuck while it ends what is left in several looks", () => {
  const { drain, left, calls, step } = world();
  left[1] = 3;
  drain.follow(terms(1000, true), at(0));
  left[0] = 0;
  drain.look(at(0));
  calls.length = 0;
  for (const ms of [1100, 1300, 1500]) {
    expect(drain.progress?.isStuck).toBe(false);
    drain.look(at(ms));
  }
  expect([step(), drain.progress?.isStuck]).toEqual(["drained", false]);
  expect(calls.filter((call) => call === "end leases")).toHaveLength(3);
});

test("a drain that is stuck can be forced, or get more time, without beginning again", () => {
  const { drain, calls, step } = world();
  drain.follow(terms(1000), at(0));
  for (const ms of [0, 1100]) drain.look(at(ms));
  drain.follow(terms(5000), at(1200));
  drain.look(at(1200));
  expect(drain.progress?.isStuck).toBe(false);
  drain.follow(terms(1300, true), at(1300));
  drain.look(at(1300));
  expect([step(), calls.filter((call) => call === "begin leaders").length]).toEqual(["drained", 1]);
});

test("a drain that is cancelled undoes its steps in reverse, and does not begin the next one", () => {
  const { drain, left, calls } = world();
  drain.follow(terms(60_000), at(0));
  left[0] = 0;
  drain.look(at(0));
  drain.follow(undefined, at(100));
  left.fill(0);
  drain.look(at(200));
  expect(calls).toEqual(["begin leaders", "begin leases", "cancel leases", "cancel leaders"]);
  expect([drain.progress, drain.nextDeadlineMs()]).toEqual([undefined, NEVER]);
  drain.follow(terms(60_000), at(300));
  drain.look(at(300));
  expect(calls.filter((call) => call === "begin leaders")).toHaveLength(2);
});

test("a node that is drained and becomes active undoes all steps", () => {
  const { drain, left, calls } = world();
  left.fill(0);
  drain.follow(terms(60_000), at(0));
  drain.look(at(0));
  drain.follow(undefined, at(100));
  expect(calls.slice(5)).toEqual(
    DRAIN_STEPS.slice(0, 5)
      .toReversed()
      .map((name) => `cancel ${name}`),
  );
});
