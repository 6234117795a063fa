import { expect, test } from "vitest";
import { assert } from "../../src/lib/errors.ts";
import { NEVER } from "../../src/lib/machine.ts";
import {
  alone,
  getItem,
  type PolicyTask,
  page,
  swap,
  type TaskAnswer,
  type TaskInput,
  TaskMachine,
  type TaskOrder,
  type TaskResult,
  time,
} from "../../src/policy/task.ts";
import { ControlMap } from "../fakes/control-map.ts";
import { TaskRun } from "../fakes/policy-tasks.ts";

const NOW = { monoMs: 1, wallMs: 5000 };
const OVER: TaskAnswer = { kind: "over" };
const BYTES = new Uint8Array([1]);

/** Tasks, what they ordered, and what they wrote down themselves. */
function open() {
  const tasks = new TaskMachine();
  const [out, said, ends]: [TaskOrder[], string[], TaskResult[]] = [[], [], []];
  const give = (input: TaskInput) => tasks.handle(input, NOW, out);
  const begin = (task: PolicyTask<unknown>) => give({ kind: "begin", work: task, ended: (ended) => void ends.push(ended) });
  const answered = (ask: number, answer: TaskAnswer = OVER) => give({ kind: "answered", ask, answer });
  /** Says so when it is alone and when it is not any more; fails when it is told to. */
  function* work(name: string, fails = false): PolicyTask<void> {
    yield* alone(function* () {
      said.push(`${name} begins`);
      yield { kind: "shown" };
      if (fails) throw new Error(name);
      said.push(`${name} ends`);
    });
  }
  return { tasks, out, said, ends, begin, answered, tick: () => give({ kind: "tick" }), work };
}

/** The numbers of what is asked and not answered. */
function asked(out: readonly TaskOrder[]): readonly number[] {
  return out.map(({ ask }) => ask);
}

test("a task asks the store and goes on with its answers, and tells what it comes to", () => {
  const run = new TaskRun(new ControlMap());
  function* work(): PolicyTask<unknown> {
    const isFirst = yield* swap("a/1", 0, BYTES);
    const isAgain = yield* swap("a/1", 0, BYTES);
    const [item, none] = [yield* getItem("a/1"), yield* getItem("a/2")];
    const { items, nextAfter } = yield* page("a/", "");
    const { wallMs } = yield* time();
    return [isFirst, isAgain, item?.version, none, items.map(({ key }) => key), nextAfter, wallMs];
  }
  const id = run.begin(work(), NOW);
  run.finish(NOW);
  expect(run.ended.get(id)).toEqual({ result: [true, false, 1, undefined, ["a/1"], undefined, 5000] });
});

test("what the store refuses is thrown where it was asked for, and fails the task that does not catch it", () => {
  function* careless(): PolicyTask<unknown> {
    return yield* getItem("a b");
  }
  function* careful(): PolicyTask<string> {
    try {
      yield* getItem("a b");
      return "";
    } catch (error) {
      return String(error);
    }
  }
  const run = new TaskRun(new ControlMap());
  const ids = [careless(), careful()].map((task) => run.begin(task, NOW));
  run.finish(NOW);
  const [failed, done] = ids.map((id) => run.ended.get(id));
  assert(failed !== undefined && "error" in failed && done !== undefined && "result" in done, "one fails and one does not");
  expect([String(failed.error), done.result]).toEqual([expect.stringContaining("invalid_argument"), String(failed.error)]);
});

test("a pause lets others continue first, one in each turn", () => {
  const { tasks, out, ends, begin, tick } = open();
  const said: number[] = [];
  function* slow(n: number): PolicyTask<void> {
    yield;
    said.push(n);
  }
  for (const n of [1, 2, 3]) begin(slow(n));
  expect([tasks.pausedCount, tasks.nextDeadlineMs(), tasks.isAtRest, said]).toEqual([3, 0, false, []]);
  tick();
  expect(said).toEqual([1]);
  for (let n = 0; n < 3; n++) tick();
  expect([said, tasks.pausedCount, tasks.nextDeadlineMs(), tasks.isAtRest]).toEqual([[1, 2, 3], 0, NEVER, true]);
  expect([out, ends]).toEqual([[], [1, 2, 3].map(() => ({ result: undefined }))]);
});

test("who is alone is so until its end, well or not; then the next begins, when watches have heard of what it did", () => {
  const { tasks, out, said, ends, begin, answered, tick, work } = open();
  begin(work("a", true));
  begin(work("b"));
  expect(out).toEqual([{ kind: "wait", ask: 1, until: "heard" }]);
  answered(1);
  expect(said).toEqual(["a begins"]);
  answered(2);
  expect(ends).toEqual([{ error: new Error("a") }]);
  tick();
  expect([said, out.at(-1)]).toEqual([["a begins"], { kind: "wait", ask: 3, until: "heard" }]);
  answered(3);
  answered(4);
  expect([said, tasks.isAtRest]).toEqual([["a begins", "b begins", "b ends"], true]);
});

test("nobody is alone for ever because watches could not be heard out", () => {
  const { tasks, out, said, begin, answered, work } = open();
  begin(work("a"));
  answered(1, { kind: "failed", error: new Error("unheard") });
  begin(work("b"));
  for (const ask of [2, 3]) answered(ask);
  expect([said, asked(out), tasks.isAtRest]).toEqual([["b begins", "b ends"], [1, 2, 3], true]);
});

test("who is alone already may be so within", () => {
  const { tasks, said, begin, answered, tick, work } = open();
  begin(alone(() => work("a")));
  begin(work("b"));
  for (const ask of [1, 2, 3]) answered(ask);
  tick();
  for (const ask of [4, 5]) answered(ask);
  expect([said, tasks.isAtRest]).toEqual([["a begins", "a ends", "b begins", "b ends"], true]);
});
