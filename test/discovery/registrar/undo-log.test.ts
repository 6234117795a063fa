import { expect, test } from "vitest";
import { UndoLog } from "../../../src/discovery/registrar/undo-log.ts";

function noted(): { readonly log: UndoLog; readonly done: string[]; readonly step: (name: string) => void } {
  const [log, done]: [UndoLog, string[]] = [new UndoLog(), []];
  return { log, done, step: (name) => log.push(() => done.push(name)) };
}

test("what is undone is undone newest first, over batches", () => {
  const { log, done, step } = noted();
  step("1");
  step("2");
  log.seal(2);
  step("3");
  log.undo();
  expect(done).toEqual(["3", "2", "1"]);
});

test("what is on disk stays done", () => {
  const { log, done, step } = noted();
  step("1");
  log.seal(1);
  step("2");
  log.seal(2);
  log.forget(1);
  log.undo();
  expect(done).toEqual(["2"]);
});

test("nothing is undone twice", () => {
  const { log, done, step } = noted();
  step("1");
  log.undo();
  log.undo();
  expect(done).toEqual(["1"]);
});
