import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { lockDirectory } from "../../src/store/directory-lock.io.ts";

const home = mkdtempSync(join(tmpdir(), "waymark-lock-"));
afterAll(() => rmSync(home, { recursive: true, force: true }));

test("missing directories are made, for the owner alone, and are fine when they are there", () => {
  const directory = join(home, "a", "b");
  for (let round = 0; round < 2; round++) {
    const lock = lockDirectory(directory, "x");
    expect(lock.isHeld).toBe(true);
    if (lock.isHeld) lock.release();
  }
  expect(statSync(directory).mode & 0o777).toBe(0o700);
});

test("a file in the place of the directory, or above it, is said", () => {
  const file = join(home, "file");
  writeFileSync(file, "");
  expect(() => lockDirectory(file, "x")).toThrow(/EEXIST/);
  expect(() => lockDirectory(join(file, "below"), "x")).toThrow(/ENOTDIR/);
});

test.runIf(existsSync("/proc/self"))("a place where no directory can be made is said, instead of trying for ever", () => {
  // Node's own recursive mkdir never returns here.
  expect(() => lockDirectory("/proc/waymark-none", "x")).toThrow(/ENOENT/);
  expect(() => lockDirectory("/proc/waymark-none/below", "x")).toThrow(/ENOENT/);
});
