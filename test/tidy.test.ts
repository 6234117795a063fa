/** The source obeys its own rules: each test lists all faults, so that one run shows everything to repair. */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { getOption } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { Reason } from "../gen/waymark/catalog/v1/reason_pb.js";
import { call } from "../gen/waymark/options/v1/options_pb.js";
import { SERVICES } from "../gen/waymark/services.ts";
import { insideFaults } from "../scripts/insides.ts";
import { IMPURE_ROOMS } from "../scripts/rooms.ts";
import { ROOT } from "../scripts/run.ts";
import { kindFaults } from "../scripts/test-kinds.ts";
import {
  composingFaults,
  effortFaults,
  headerFaults,
  linkFaults,
  lintRuleFaults,
  lockfileFaults,
  markFaults,
  pureFaults,
  roomFaults,
  roomTableFaults,
  ruleFaults,
  unreachedFiles,
  unusedFiles,
} from "../scripts/tidy.ts";
import {
  oldWordFaults,
  uncountedMetrics,
  unexplainedEvents,
  unexplainedRoutes,
  unknownNames,
  unknownNameWords,
  unreadSettings,
  untestedReasons,
  untestedRpcs,
} from "../scripts/tidy-tables.ts";
import { BUDGETS, wordingFaults } from "../scripts/wording.ts";
import { SETTING_ROWS } from "../src/config/settings.ts";
import { REASONS } from "../src/lib/errors.ts";
import { METRICS } from "../src/lib/metrics/metrics.ts";
import { INVARIANTS } from "./sim/checks.ts";
import { MUTANTS } from "./sim/mutants.ts";

const METHODS = Object.values(SERVICES).flatMap(({ methods }) => [...methods]);

/** A tool that leaves a log or a report beside them would be committed with them. */
const ROOT_FILES = [
  ".editorconfig .gitattributes .gitignore .npmrc .oxlintrc.json CHANGELOG.md CONTRIBUTING.md LICENSE README.md SECURITY.md",
  "biome.json buf.gen.yaml buf.yaml knip.json package-lock.json package.json tsconfig.build.json tsconfig.json vitest.config.ts",
].flatMap((names) => names.split(" "));

test("at the root are the project's own files and no others", () => {
  const tracked = execFileSync("git", ["-C", ROOT, "ls-files"], { encoding: "utf8" }).split("\n");
  expect(tracked.filter((file) => file !== "" && !file.includes("/") && !ROOT_FILES.includes(file))).toEqual([]);
});

test("rooms: imports point down the list, and fenced libraries are imported in their one place", () => {
  expect(roomFaults(ROOT)).toEqual([]);
});

test("pure files have no async, no clock and no locale", () => {
  expect(pureFaults(ROOT)).toEqual([]);
});

test("the linter and the other checks hold the same rooms to be pure", () => {
  expect(readFileSync(join(ROOT, ".oxlintrc.json"), "utf8")).toContain(`["**/*.io.ts", "src/{${IMPURE_ROOMS.join(",")}}/**"]`);
});

test("every pure file with code is reached by a test of its room", () => {
  expect(unreachedFiles(ROOT)).toEqual([]);
});

test("every file of the source is used by what a process starts with", () => {
  expect(unusedFiles(ROOT)).toEqual([]);
});

test("most tests ask a room for what other rooms get of it: at most a quarter of their lines test insides", () => {
  expect(insideFaults(ROOT)).toEqual([]);
});

test("what joins the parts of a node stands in its machine, which the simulator runs too", () => {
  expect(composingFaults(ROOT)).toEqual([]);
});

test("every source file says first what it is for", () => {
  expect(headerFaults(ROOT)).toEqual([]);
});

test("notes of work to do have a number, and no test is focused", () => {
  expect(markFaults(ROOT)).toEqual([]);
});

test("generated tests take their size from the effort of the tier", () => {
  expect(effortFaults(ROOT)).toEqual([]);
});

test("links in the documentation resolve", () => {
  expect(linkFaults(ROOT)).toEqual([]);
});

test("the lockfile agrees with package.json and names no registry", () => {
  expect(lockfileFaults(ROOT)).toEqual([]);
});

test("the architecture page shows the table of rooms the checks use", () => {
  expect(roomTableFaults(ROOT)).toEqual([]);
});

test("comments cite rules that the page of rules has, and the page names what there is, with all invariants and mutants", () => {
  expect(ruleFaults(ROOT, { invariants: INVARIANTS, mutants: MUTANTS.map(({ name }) => name) })).toEqual([]);
});

test("the lint settings name rules that CONTRIBUTING.md has", () => {
  expect(lintRuleFaults(ROOT)).toEqual([]);
});

test("the program reads every setting", () => {
  expect(unreadSettings(ROOT, SETTING_ROWS)).toEqual([]);
});

test("the page for operators names every path of HTTP", () => {
  const paths = METHODS.flatMap((method) => getOption(method, call).routes);
  expect(paths).toEqual(expect.arrayContaining(["/control/peers", "/control/keys", "/discovery/policy"]));
  expect(unexplainedRoutes(ROOT, paths)).toEqual([]);
});

test("the program counts every metric", () => {
  expect(uncountedMetrics(ROOT, Object.keys(METRICS))).toEqual([]);
});

test("a test calls every rpc", () => {
  expect(METHODS.length).toBeGreaterThan(30);
  const names = METHODS.map(({ name }) => name);
  expect(untestedRpcs(ROOT, names)).toEqual([]);
});

test("every reason that a request can be refused with is named by a test", () => {
  expect(untestedReasons(ROOT, Object.keys(REASONS))).toEqual([]);
});

test("the reasons of the protos are those of the code", () => {
  const ofProtos = Object.keys(Reason).filter((name) => Number.isNaN(Number(name)) && name !== "UNSPECIFIED");
  expect(ofProtos.map((name) => name.toLowerCase()).toSorted()).toEqual(Object.keys(REASONS).toSorted());
});

test("a metric's name ends in its unit", () => {
  const odd = Object.entries(METRICS).filter(([name, row]) => {
    if (row.type === "counter") return !name.endsWith("_total");
    return (row.unit === "ms" || row.unit === "bytes") && !name.endsWith(`_${row.unit}`);
  });
  expect(odd.map(([name]) => name)).toEqual([]);
});

test("the documentation names only metrics and settings that there are", () => {
  const settings = SETTING_ROWS.map((row) => row.path);
  expect(unknownNames(ROOT, { metrics: Object.keys(METRICS), settings })).toEqual([]);
});

test("the reference page explains every event of the mesh", () => {
  expect(unexplainedEvents(ROOT, "docs/reference/mesh.md")).toEqual([]);
});

test("words that the glossary replaced do not come back", () => {
  expect(oldWordFaults(ROOT)).toEqual([]);
});

test("unit tests that use files, threads, sockets, processes or real time are named so, and run apart", () => {
  expect(kindFaults(ROOT)).toEqual([]);
});

test("names of files, classes and exported types use words of the glossary or ordinary technical words", () => {
  expect(unknownNameWords(ROOT)).toEqual([]);
});

test("texts have no more turns of phrase that are hard to read than their budgets", () => {
  expect(wordingFaults(ROOT, BUDGETS)).toEqual([]);
});
