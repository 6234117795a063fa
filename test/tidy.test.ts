/** The source obeys its own rules: each test lists every fault, so that one run shows all there is to mend. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { ROOT } from "../scripts/run.ts";
import {
  headerFaults,
  linkFaults,
  lockfileFaults,
  markFaults,
  pureFaults,
  roomFaults,
  roomTableFaults,
  untestedFiles,
} from "../scripts/tidy.ts";

test("rooms: imports point down the list, and fenced libraries are imported in their one place", () => {
  expect(roomFaults(ROOT)).toEqual([]);
});

test("pure files have no async, no clock and no locale", () => {
  expect(pureFaults(ROOT)).toEqual([]);
});

test("every pure file with code has its test file", () => {
  expect(untestedFiles(ROOT)).toEqual([]);
});

test("every source file says first what it is for", () => {
  expect(headerFaults(ROOT)).toEqual([]);
});

test("notes of work to do have a number, and no test is focused", () => {
  expect(markFaults(ROOT)).toEqual([]);
});

test("links in the documentation resolve", () => {
  expect(linkFaults(ROOT)).toEqual([]);
});

test("the lockfile agrees with package.json and names no registry", () => {
  expect(lockfileFaults(ROOT)).toEqual([]);
});

test.runIf(existsSync(join(ROOT, "docs/architecture.md")))("the architecture page shows the table of rooms the checks use", () => {
  expect(roomTableFaults(ROOT)).toEqual([]);
});
