/** The JSON-lines file of the audit log: what may wait for it, and what is lost. */
import { statSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { AuditStream } from "../../../src/store/audit/stream.io.ts";
import { temporaryDirectory } from "../journal-fixture.ts";

const MIB = 1 << 20;
/** 16 MiB may wait. */
const MAX_WAITING_LENGTH = 16 * MIB;
const line = "x".repeat(MIB - 1).concat("\n");

test("only what waits counts against the bound, however much was written before", async () => {
  using directory = temporaryDirectory();
  const path = join(directory.path, "audit.jsonl");
  const stream = new AuditStream(path);
  const count = MAX_WAITING_LENGTH / line.length + 2;
  for (let i = 0; i < count; i++) {
    stream.write([line]);
    await stream.close();
  }
  expect([stream.lostCount, statSync(path).size]).toEqual([0, count * line.length]);
});

test("lines above the bound are lost and counted, and those that wait are written", async () => {
  using directory = temporaryDirectory();
  const path = join(directory.path, "audit.jsonl");
  const stream = new AuditStream(path);
  // The first is being written, and waits no more.
  stream.write(["first\n"]);
  for (let i = 0; i < MAX_WAITING_LENGTH / line.length; i++) stream.write([line]);
  stream.write(["lost\n", "lost\n"]);
  await stream.close();
  expect([stream.lostCount, statSync(path).size]).toEqual([2, "first\n".length + MAX_WAITING_LENGTH]);
});
