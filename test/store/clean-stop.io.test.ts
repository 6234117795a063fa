import { readdirSync } from "node:fs";
import { expect, test } from "vitest";
import { syncDirectory } from "../../src/store/clean-stop.io.ts";
import { temporaryDirectory } from "./journal-fixture.ts";

const OPEN_FILES = "/proc/self/fd";

test.skipIf(process.platform !== "linux")("to make a directory durable leaves no file open: it happens with every snapshot", () => {
  using directory = temporaryDirectory();
  const before = readdirSync(OPEN_FILES).length;
  for (let i = 0; i < 100; i++) syncDirectory(directory.path);
  expect(readdirSync(OPEN_FILES).length - before).toBeLessThan(50);
});
