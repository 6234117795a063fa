/** What a data directory's database files are before any row: the directory, the lock, and what is told of them. */
import { existsSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { syncDirectory } from "../../src/store/clean-stop.io.ts";
import { damageText, lockDatabase } from "../../src/store/database-file.io.ts";
import { temporaryDirectory } from "./journal-fixture.ts";

const NAMED = { name: "x" };
const OPEN_FILES = "/proc/self/fd";

test("missing directories are made, for the owner alone, and are fine when they are there", () => {
  using home = temporaryDirectory();
  const directory = join(home.path, "a", "b");
  for (let round = 0; round < 2; round++) lockDatabase(directory, NAMED)();
  expect(statSync(directory).mode & 0o777).toBe(0o700);
});

test("a file in the place of the directory, or above it, is said", () => {
  using home = temporaryDirectory();
  const file = join(home.path, "file");
  writeFileSync(file, "");
  expect(() => lockDatabase(file, NAMED)).toThrow(/EEXIST/);
  expect(() => lockDatabase(join(file, "below"), NAMED)).toThrow(/ENOTDIR/);
});

test.runIf(existsSync("/proc/self"))("a place where no directory can be made is said, instead of trying for ever", () => {
  // Node's own recursive mkdir never returns here.
  expect(() => lockDatabase("/proc/waymark-none", NAMED)).toThrow(/ENOENT/);
  expect(() => lockDatabase("/proc/waymark-none/below", NAMED)).toThrow(/ENOENT/);
});

test.skipIf(process.platform !== "linux")("to make a directory durable leaves no file open: it happens with every snapshot", () => {
  using directory = temporaryDirectory();
  const before = readdirSync(OPEN_FILES).length;
  for (let i = 0; i < 100; i++) syncDirectory(directory.path);
  expect(readdirSync(OPEN_FILES).length - before).toBeLessThan(50);
});

test("the message about damage names the file, what is wrong, that nothing was changed, and what to do", () => {
  expect(damageText("/data/journal.db", "lease 1 has no id")).toBe(
    "/data/journal.db is damaged: lease 1 has no id; it was left unchanged: restore a backup, or move the directory away to start empty",
  );
});
