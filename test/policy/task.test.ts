import { expect, test } from "vitest";
import { assert } from "../../src/lib/errors.ts";
import { type Answer, alone, getItem, page, swap, type Task, type TaskOrder, Tasks, time } from "../../src/policy/task.ts";
import { ControlMap } from "../fakes/control-map.ts";
import { TaskRun } from "../fakes/policy-tasks.ts";

const NOW = { monoMs: 1, wallMs: 5000 };
const OVER: Answer = { kind: "over" };
const BYTES = new Uint8Array([1]);

/** Tasks, what they ordered, and what they wrote down themselves. */
function open() {
  const tasks = new Tasks();
  const [out, said]: [TaskOrder[], string[]] = [[], []];
  /** Says so when it is alone and when it is not any more; fails when it is told to. */
  function* work(name: string, fails = false): Task<void> {
    yield* alone(function* () {
      said.push(`${name} begins`);
      yield { kind: "shown" };
      if (fails) throw new Error(name);
      said.push(`${name} ends`);
    });
  }
  return { tasks, out, said, work };
}

/** The numbers of what is asked and not answered. */
function asked(out: readonly TaskOrder[]): readonly number[] {
  return out.flatMap((order) => (order.kind === "ask" ? [order.ask] : []));
}

test("a task asks the store and goes on with its answers, and tells what it comes to", () => {
  const run = new TaskRun(new ControlMap());
  function* work(): Task<unknown> {
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
  function* careless(): Task<unknown> {
    return yield* getItem("a b");
  }
  function* careful(): Task<string> {
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

test("a pause lets others go on first, and as many go on in one turn as may", () => {
  const { tasks, out } = open();
  const said: number[] = [];
  function* slow(n: number): Task<void> {
    yield;
    said.push(n);
  }
  for (const n of [1, 2, 3]) tasks.begin(slow(n), NOW, out);
  expect([tasks.hasPaused, tasks.isAtRest, said]).toEqual([true, false, []]);
  tasks.resume(2, NOW, out);
  expect(said).toEqual([1, 2]);
  tasks.resume(2, NOW, out);
  expect([said, tasks.hasPaused, tasks.isAtRest]).toEqual([[1, 2, 3], false, true]);
  expect(out).toEqual([1, 2, 3].map((task) => ({ kind: "done", task, result: undefined })));
});

test("who is alone is so until its end, well or not; then the next begins, when watches have heard of what it did", () => {
  const { tasks, out, said, work } = open();
  tasks.begin(work("a", true), NOW, out);
  tasks.begin(work("b"), NOW, out);
  expect(out).toEqual([{ kind: "ask", ask: 1, request: { kind: "heard" } }]);
  tasks.answered(1, OVER, NOW, out);
  expect(said).toEqual(["a begins"]);
  tasks.answered(2, OVER, NOW, out);
  expect(out.at(-1)).toMatchObject({ kind: "failed", task: 1, error: new Error("a") });
  tasks.resume(1, NOW, out);
  expect([said, out.at(-1)]).toEqual([["a begins"], { kind: "ask", ask: 3, request: { kind: "heard" } }]);
  tasks.answered(3, OVER, NOW, out);
  tasks.answered(4, OVER, NOW, out);
  expect([said, tasks.isAtRest]).toEqual([["a begins", "b begins", "b ends"], true]);
});

test("nobody is alone for ever because watches could not be heard out", () => {
  const { tasks, out, said, work } = open();
  tasks.begin(work("a"), NOW, out);
  tasks.answered(1, { kind: "failed", error: new Error("unheard") }, NOW, out);
  tasks.begin(work("b"), NOW, out);
  for (const ask of [2, 3]) tasks.answered(ask, OVER, NOW, out);
  expect([said, asked(out), tasks.isAtRest]).toEqual([["b begins", "b ends"], [1, 2, 3], true]);
});

test("who is alone already may be so within", () => {
  const { tasks, out, said, work } = open();
  tasks.begin(
    alone(() => work("a")),
    NOW,
    out,
  );
  tasks.begin(work("b"), NOW, out);
  for (const ask of [1, 2, 3]) tasks.answered(ask, OVER, NOW, out);
  tasks.resume(1, NOW, out);
  for (const ask of [4, 5]) tasks.answered(ask, OVER, NOW, out);
  expect([said, tasks.isAtRest]).toEqual([["a begins", "a ends", "b begins", "b ends"], true]);
});
