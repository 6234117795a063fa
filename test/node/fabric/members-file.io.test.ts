import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { rosterFile } from "../../../src/fabric/snapshot/codec.ts";
import { MembersFile } from "../../../src/node/fabric/members-file.io.ts";

let home = "";
beforeEach(() => {
  warnings = [];
  home = mkdtempSync(join(tmpdir(), "waymark-roster-"));
});
afterEach(() => rmSync(home, { recursive: true }));

let warnings: string[] = [];
const log = { warn: (_fields: object, message: string) => void warnings.push(message) };
const SELF = { nodeId: "n1", clusterId: "c1" };

function fileOf({ ephemeral = false, dataDir = home, self = SELF } = {}): MembersFile {
  return new MembersFile({ dataDir, ephemeral }, self, log);
}

const bytesOf = (...nodeIds: readonly string[]) => rosterFile(SELF, nodeIds);

test("the next start knows who was there", async () => {
  const first = fileOf();
  expect(first.remembered).toEqual([]);
  await first.write(bytesOf("n2"));
  await first.write(bytesOf("n2", "n3"));
  await first.close();
  expect(fileOf().remembered).toEqual(["n2", "n3"]);
  expect(fileOf({ self: { ...SELF, clusterId: "c2" } }).remembered).toEqual([]);
});

test("a file that cannot be read keeps no node from starting, and the next one takes its place", async () => {
  writeFileSync(join(home, "members"), "odd");
  const again = fileOf();
  expect([again.remembered, warnings.length]).toEqual([[], 1]);
  await again.write(bytesOf("n2"));
  await again.close();
  expect(fileOf().remembered).toEqual(["n2"]);
});

test("nothing is written after the end, and nothing without a disk", async () => {
  const first = fileOf();
  await first.write(bytesOf("n2"));
  await first.close();
  const before = readFileSync(join(home, "members"));
  await first.write(bytesOf("n2", "n3"));
  expect(readFileSync(join(home, "members"))).toEqual(before);
  const dataDir = join(home, "none");
  const none = fileOf({ ephemeral: true, dataDir });
  await none.write(bytesOf("n2"));
  await none.close();
  expect([none.remembered, existsSync(dataDir)]).toEqual([[], false]);
});

test("who writes is told when it could not be written, and what was there stands", async () => {
  const dataDir = join(home, "late");
  const late = fileOf({ dataDir });
  await expect(late.write(bytesOf("n2"))).rejects.toThrow("ENOENT");
  mkdirSync(dataDir);
  await late.write(bytesOf("n2", "n3"));
  await late.close();
  expect(fileOf({ dataDir }).remembered).toEqual(["n2", "n3"]);
});
