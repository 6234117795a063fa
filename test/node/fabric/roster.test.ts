import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { RosterFile } from "../../../src/node/fabric/roster.ts";
import { until } from "../../fakes/until.ts";

let home = "";
beforeEach(() => {
  warnings = [];
  home = mkdtempSync(join(tmpdir(), "waymark-roster-"));
});
afterEach(() => rmSync(home, { recursive: true }));

let warnings: string[] = [];
const log = { warn: (_fields: object, message: string) => void warnings.push(message) };
const SELF = { nodeId: "n1", clusterId: "c1" };

function policyStore({ ephemeral = false, dataDir = home, self = SELF } = {}): RosterFile {
  return new RosterFile({ dataDir, ephemeral }, self, log);
}

function rosterOf(...nodeIds: readonly string[]) {
  return { version: nodeIds.length, list: () => nodeIds };
}

test("the next start knows who was there, also what changed while the file was written", async () => {
  const first = policyStore();
  expect(first.remembered).toEqual([]);
  const roster = { version: 1, list: () => ["n2"] as readonly string[] };
  first.look(roster);
  Object.assign(roster, rosterOf("n2", "n3"));
  first.look(roster);
  await first.close();
  expect(policyStore().remembered).toEqual(["n2", "n3"]);
  expect(policyStore({ self: { ...SELF, clusterId: "c2" } }).remembered).toEqual([]);
});

test("a file that cannot be read keeps no node from starting, and the next one takes its place", async () => {
  writeFileSync(join(home, "members"), "odd");
  const again = policyStore();
  expect([again.remembered, warnings.length]).toEqual([[], 1]);
  again.look(rosterOf("n2"));
  await again.close();
  expect(policyStore().remembered).toEqual(["n2"]);
});

test("with nothing new nothing is written, and nothing without a disk", async () => {
  const first = policyStore();
  first.look(rosterOf("n2"));
  await first.close();
  const before = readFileSync(join(home, "members"));
  first.look(rosterOf("n2", "n3"));
  await first.close();
  expect(readFileSync(join(home, "members"))).toEqual(before);
  const dataDir = join(home, "none");
  const none = policyStore({ ephemeral: true, dataDir });
  none.look(rosterOf("n2"));
  await none.close();
  expect([none.remembered, existsSync(dataDir)]).toEqual([[], false]);
});

test("what could not be written is tried again", async () => {
  const dataDir = join(home, "late");
  const late = policyStore({ dataDir });
  const roster = rosterOf("n2", "n3");
  late.look(roster);
  await until("the first attempt has failed", () => warnings.length > 0);
  late.look(roster);
  mkdirSync(dataDir);
  await until("the members are written", () => existsSync(join(dataDir, "members")));
  await late.close();
  expect([policyStore({ dataDir }).remembered, warnings.length]).toEqual([["n2", "n3"], 1]);
});
