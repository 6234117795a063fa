import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { RosterKeeper } from "../src/node-roster.ts";
import { until } from "./fakes/until.ts";

let home = "";
beforeEach(() => {
  warnings = [];
  home = mkdtempSync(join(tmpdir(), "waymark-roster-"));
});
afterEach(() => rmSync(home, { recursive: true }));

let warnings: string[] = [];
const log = { warn: (_fields: object, message: string) => void warnings.push(message) };
const SELF = { nodeId: "n1", clusterId: "c1" };

function keeper({ ephemeral = false, dataDir = home, self = SELF } = {}): RosterKeeper {
  return new RosterKeeper({ dataDir, ephemeral }, self, log);
}

function rosterOf(...nodeIds: readonly string[]) {
  return { version: nodeIds.length, list: () => nodeIds };
}

test("the next start knows who was there, also what changed while the file was written", async () => {
  const first = keeper();
  expect(first.remembered).toEqual([]);
  const roster = { version: 1, list: () => ["n2"] as readonly string[] };
  first.look(roster);
  Object.assign(roster, rosterOf("n2", "n3"));
  first.look(roster);
  await first.close();
  expect(keeper().remembered).toEqual(["n2", "n3"]);
  expect(keeper({ self: { ...SELF, clusterId: "c2" } }).remembered).toEqual([]);
});

test("a file that cannot be read keeps no node from starting, and the next one takes its place", async () => {
  writeFileSync(join(home, "members"), "odd");
  const again = keeper();
  expect([again.remembered, warnings.length]).toEqual([[], 1]);
  again.look(rosterOf("n2"));
  await again.close();
  expect(keeper().remembered).toEqual(["n2"]);
});

test("with nothing new nothing is written, and nothing without a disk", async () => {
  const first = keeper();
  first.look(rosterOf("n2"));
  await first.close();
  const before = readFileSync(join(home, "members"));
  first.look(rosterOf("n2", "n3"));
  await first.close();
  expect(readFileSync(join(home, "members"))).toEqual(before);
  const dataDir = join(home, "none");
  const none = keeper({ ephemeral: true, dataDir });
  none.look(rosterOf("n2"));
  await none.close();
  expect([none.remembered, existsSync(dataDir)]).toEqual([[], false]);
});

test("what could not be written is tried again", async () => {
  const dataDir = join(home, "late");
  const late = keeper({ dataDir });
  const roster = rosterOf("n2", "n3");
  late.look(roster);
  await until("the first attempt has failed", () => warnings.length > 0);
  late.look(roster);
  mkdirSync(dataDir);
  await until("the members are written", () => existsSync(join(dataDir, "members")));
  await late.close();
  expect([keeper({ dataDir }).remembered, warnings.length]).toEqual([["n2", "n3"], 1]);
});
