/** Each check of `npm test` fails on a fault planted for it: a check that nobody saw fail checks nothing. */
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { insideFaults, insidesOf } from "../scripts/insides.ts";
import { ROOT, run } from "../scripts/run.ts";
import { kindFaults, shellUses } from "../scripts/test-kinds.ts";
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
import { wordingFaults } from "../scripts/wording.ts";

/** The configuration of the checks, as it is; the sources beside it are planted. */
const CONFIGURATION = [
  ".oxlintrc.json",
  "biome.json",
  "buf.yaml",
  "buf.gen.yaml",
  "knip.json",
  "package.json",
  "tsconfig.json",
  "vitest.config.ts",
];

const folders: string[] = [];

/** A project with our configuration, our packages and nothing in it but `files`. */
function plant(files: Readonly<Record<string, string>>): string {
  const folder = mkdtempSync(join(tmpdir(), "waymark-planted-"));
  folders.push(folder);
  for (const file of CONFIGURATION) cpSync(join(ROOT, file), join(folder, file));
  symlinkSync(join(ROOT, "node_modules"), join(folder, "node_modules"));
  for (const [file, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, file)), { recursive: true });
    writeFileSync(join(folder, file), text);
  }
  return folder;
}

afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

// In two parts: the rule it breaks also reads this file.
const FOCUSED = ["test", "only"].join(".");
const SHOUTS = "export async function shout(): Promise<number> {\n  return 1;\n}\n";
const UNION = 'type Ball = { kind: "red" } | { kind: "blue" };\n';
const LONG_FUNCTION = `export function long(n: number): number {\n${"  n += 1;\n".repeat(61)}  return n;\n}\n`;

/** Rule, and a source that breaks it: the file is named after the rule. */
const LINTED: readonly { readonly rule: string; readonly file: string; readonly text: string }[] = [
  { rule: "no-floating-promises", file: "src/server/floating.ts", text: `${SHOUTS}export function call(): void {\n  shout();\n}\n` },
  {
    rule: "no-misused-promises",
    file: "src/server/misused.ts",
    text: `${SHOUTS}export const called = [1].filter(() => shout());\nif (shout()) throw new Error("always");\n`,
  },
  {
    rule: "switch-exhaustiveness-check",
    file: "src/server/exhaustive.ts",
    text: `${UNION}export function see(ball: Ball): void {\n  switch (ball.kind) {\n    case "red":\n      throw new Error("red");\n  }\n}\n`,
  },
  {
    rule: "switch-exhaustiveness-check",
    file: "src/server/exhaustive-default.ts",
    text: `${UNION}export function see(ball: Ball): number {\n  switch (ball.kind) {\n    case "red":\n      return 1;\n    default:\n      return 2;\n  }\n}\n`,
  },
  {
    rule: "no-unsafe-type-assertion",
    file: "src/server/cast.ts",
    text: "export const narrow = (text: string) => text as string & { brand: 1 };\n",
  },
  { rule: "no-explicit-any", file: "src/server/any.ts", text: "export const loose = (value: any): unknown => value;\n" },
  { rule: "no-non-null-assertion", file: "src/server/bang.ts", text: "export const first = (list: string[]) => list[0]!;\n" },
  { rule: "no-null", file: "src/server/null.ts", text: "export const nothing = null;\n" },
  { rule: "no-default-export", file: "src/server/default.ts", text: "export default 1;\n" },
  { rule: "no-barrel-file", file: "src/server/barrel.ts", text: 'export * from "./null.ts";\nexport { first } from "./bang.ts";\n' },
  { rule: "no-cycle", file: "src/server/cycle-a.ts", text: 'import { b } from "./cycle-b.ts";\nexport const a = (): unknown => b;\n' },
  { rule: "no-cycle", file: "src/server/cycle-b.ts", text: 'import { a } from "./cycle-a.ts";\nexport const b = (): unknown => a;\n' },
  { rule: "max-lines-per-function", file: "src/server/long-function.ts", text: LONG_FUNCTION },
  {
    rule: "no-empty",
    file: "src/server/swallow.ts",
    text: "export function swallow(f: () => void): void {\n  try {\n    f();\n  } catch {}\n}\n",
  },
  { rule: "only-throw-error", file: "src/server/throw.ts", text: 'export function fail(): never {\n  throw "text";\n}\n' },
  { rule: "no-console", file: "src/server/console.ts", text: 'console.log("here");\n' },
  {
    rule: "consistent-type-imports",
    file: "src/server/type-import.ts",
    text: 'import { Socket } from "node:net";\nexport type S = Socket;\n',
  },
  { rule: "no-unassigned-import", file: "src/server/side-effect.ts", text: 'import "node:net";\n' },
  {
    rule: "no-restricted-imports",
    file: "src/lib/sockets.ts",
    text: 'import { connect } from "node:net";\nexport const open = connect;\n',
  },
  {
    rule: "no-restricted-imports",
    file: "src/catalog/shell.ts",
    text: 'import { now } from "../lib/clock.io.ts";\nexport const then = now;\n',
  },
  { rule: "no-restricted-globals", file: "src/dns/timer.ts", text: "export const later = () => setTimeout(() => {}, 1);\n" },
  { rule: "no-restricted-globals", file: "src/store/process.ts", text: "export const env = () => process.env;\n" },
  { rule: "no-restricted-properties", file: "src/policy/date.ts", text: "export const now = () => Date.now();\n" },
  // A room that the linter's configuration does not name is pure.
  { rule: "no-restricted-properties", file: "src/consumer/clock.ts", text: "export const now = () => Date.now();\n" },
  { rule: "no-restricted-properties", file: "src/discovery/chance.ts", text: "export const chance = () => Math.random();\n" },
];

interface Diagnostic {
  readonly code: string;
  readonly filename: string;
}

let diagnostics: readonly Diagnostic[] = [];

beforeAll(async () => {
  const files = Object.fromEntries(LINTED.map(({ file, text }) => [file, text]));
  const innocent = { "src/server/innocent.ts": "export const one = 1;\n", "src/lib/clock.io.ts": "export const now = () => Date.now();\n" };
  const folder = plant({ ...files, ...innocent });
  const { output } = await run("oxlint", ["-f", "json"], { cwd: folder });
  diagnostics = (JSON.parse(output.slice(output.indexOf("{"), output.lastIndexOf("}") + 1)) as { diagnostics: Diagnostic[] }).diagnostics;
}, 60_000);

test.each(LINTED)("the linter says $rule of $file", ({ rule, file }) => {
  const said = diagnostics.filter((each) => each.filename.endsWith(file)).map((each) => each.code);
  expect(said.map((code) => code.replace(/^.*\((.*)\)$/, "$1"))).toContain(rule);
});

test("the linter has nothing to say of innocent files, and a shell may read the clock", () => {
  expect(diagnostics.filter((each) => /innocent|clock\.io/.test(each.filename))).toEqual([]);
});

test.each([
  { fault: "bad format", text: "export const a   =  1\n" },
  { fault: "unsorted imports", text: 'import { z } from "./z.ts";\nimport { a } from "./a.ts";\n\nexport const both = [z, a];\n' },
])("the formatter fails on $fault", async ({ text }) => {
  const folder = plant({ "src/lib/planted.ts": text });
  expect((await run("biome", ["ci", "--error-on-warnings"], { cwd: folder })).code).not.toBe(0);
});

test("the formatter passes what is formatted", async () => {
  const folder = plant({ "src/lib/planted.ts": "export const a = 1;\n" });
  expect(await run("biome", ["ci", "src"], { cwd: folder })).toMatchObject({ code: 0 });
});

test.each([
  { fault: "a type error", text: 'export const a: number = "text";\n', says: "TS2322" },
  {
    fault: "a forgotten case",
    text: `${UNION}export function see(b: Ball): number {\n  switch (b.kind) {\n    case "red":\n      return 1;\n  }\n}\n`,
    says: "TS2366",
  },
  { fault: "syntax that cannot be erased", text: "export enum Colour {\n  Red,\n}\n", says: "TS1294" },
  { fault: "an unchecked index", text: "export const first = (list: string[]): string => list[0];\n", says: "TS2322" },
])("the compiler fails on $fault", async ({ text, says }) => {
  const folder = plant({ "src/lib/planted.ts": text });
  const { code, output } = await run("tsc", ["-p", "."], { cwd: folder });
  expect(code).not.toBe(0);
  expect(output).toContain(says);
});

test("knip names an export, a file and a dependency that nobody uses", async () => {
  const folder = plant({
    "src/main.ts": 'import { used } from "./lib/part.ts";\n\nused();\n',
    "src/lib/part.ts": "export function used(): void {}\nexport function plantedExport(): void {}\n",
    "src/lib/planted-file.ts": "export const a = 1;\n",
  });
  const { code, output } = await run("knip", ["--no-progress"], { cwd: folder });
  expect(code).not.toBe(0);
  expect(output).toContain("plantedExport");
  expect(output).toContain("src/lib/planted-file.ts");
  expect(output).toContain("dns-packet");
});

const PROTO = (type: string) =>
  `syntax = "proto3";\n\n// Planted.\npackage planted.v1;\n\n// Planted.\nmessage Planted {\n  // Planted.\n  ${type} a = 1;\n}\n`;

// A module without any proto is an error of its own.
const KEPT = "third_party/proto/kept/v1/kept.proto";

test("buf names a change of the contract that breaks its readers, and a badly named field", async () => {
  const before = plant({ "proto/planted/v1/planted.proto": PROTO("string"), [KEPT]: PROTO("string").replace("planted.v1", "kept.v1") });
  const after = plant({ "proto/planted/v1/planted.proto": PROTO("bytes"), [KEPT]: PROTO("string").replace("planted.v1", "kept.v1") });
  const same = await run("buf", ["breaking", "--against", before], { cwd: before });
  expect(same).toMatchObject({ code: 0, output: "" });
  expect((await run("buf", ["breaking", "--against", before], { cwd: after })).output).toContain('changed type from "string" to "bytes"');
  const ugly = plant({
    "proto/planted/v1/planted.proto": PROTO("string").replace(" a ", " BadName "),
    [KEPT]: PROTO("string").replace("planted.v1", "kept.v1"),
  });
  expect((await run("buf", ["lint"], { cwd: ugly })).output).toContain("lower_snake_case");
});

/** A project with the scripts too, which work on the project that they stand in. */
function plantWithScripts(files: Readonly<Record<string, string>>): string {
  const folder = plant(files);
  cpSync(join(ROOT, "scripts"), join(folder, "scripts"), { recursive: true });
  return folder;
}

test("the comparison with what was published ends with 0 where it is kept, and with 1 where it is broken", async () => {
  const file = "proto/planted/v1/planted.proto";
  const settled = "# The contract is settled.";
  const draft = readFileSync(join(ROOT, "buf.yaml"), "utf8").replaceAll(settled, "#");
  const folder = plantWithScripts({
    [file]: PROTO("string"),
    [KEPT]: PROTO("string").replace("planted.v1", "kept.v1"),
    "buf.yaml": draft,
  });
  // Whatever a hook that runs this says of its own repository.
  const own = { GIT_DIR: join(folder, ".git"), GIT_WORK_TREE: folder, GIT_CONFIG_GLOBAL: "/dev/null" };
  const inFolder = (command: string, ...args: readonly string[]) => run(command, args, { cwd: folder, env: own });
  const compared = () => inFolder("node", "scripts/breaking.ts");
  const author = ["-c", "user.name=planter", "-c", "user.email=planter@example.org"];
  for (const args of [
    ["init", "-q", "-b", "main"],
    ["add", "buf.yaml", "proto", "third_party"],
    [...author, "commit", "-q", "-m", "published"],
  ])
    expect(await inFolder("git", ...args)).toMatchObject({ code: 0, output: "" });
  // A contract that was not settled yet binds nobody.
  expect(await compared()).toMatchObject({ code: 0, output: "no earlier contract to compare with\n" });
  writeFileSync(join(folder, "buf.yaml"), `${settled}\n${draft}`);
  expect(await inFolder("git", ...author, "commit", "-q", "-a", "-m", "settled")).toMatchObject({ code: 0, output: "" });
  expect(await compared()).toMatchObject({ code: 0, output: "compatible with 1 earlier contract(s)\n" });
  writeFileSync(join(folder, file), PROTO("bytes"));
  const broken = await compared();
  expect(broken.output).toContain("the protos break what main");
  expect(broken.code).toBe(1);
});

test.each([
  { fault: "nothing", files: { "src/lib/a.ts": "export const a = 1;\n" }, code: 0, says: "no cycle, no upward arrow" },
  {
    fault: "an arrow upwards",
    files: { "src/lib/a.ts": 'import { b } from "../dns/b.ts";\n' },
    code: 1,
    says: "lib may not import dns",
  },
  {
    fault: "a cycle",
    files: { "src/lib/a.ts": 'import { b } from "./b.ts";\n', "src/lib/b.ts": 'import { a } from "./a.ts";\n' },
    code: 1,
    says: "cycle: src/lib/a.ts → src/lib/b.ts → src/lib/a.ts",
  },
  {
    fault: "a cycle that is closed when it is needed",
    files: { "src/lib/a.ts": 'import { b } from "./b.ts";\n', "src/lib/b.ts": 'export const b = () => import("./a.ts");\n' },
    code: 1,
    says: "cycle: src/lib/a.ts → src/lib/b.ts → src/lib/a.ts",
  },
  {
    fault: "an arrow upwards between folders of a room",
    files: { "src/dns/names/a.ts": 'import type { B } from "../records/b.ts";\n' },
    code: 1,
    says: "the folder names may not import records",
  },
  {
    fault: "a file of DNS in no folder of the table",
    files: { "src/dns/attic/a.ts": "" },
    code: 1,
    says: "src/dns/attic/a.ts lies in no folder that scripts/rooms.ts names",
  },
  { fault: "a loose file of DNS", files: { "src/dns/a.ts": "" }, code: 1, says: "src/dns/a.ts lies in no folder" },
  { fault: "a loose file", files: { "src/node-a.ts": "" }, code: 1, says: "src/node-a.ts lies in no room" },
  { fault: "a long file", files: { "src/lib/a.ts": "\n".repeat(601) }, code: 0, says: "look: src/lib/a.ts has 601 lines" },
  {
    fault: "a crowded folder",
    files: Object.fromEntries(Array.from({ length: 21 }, (_, i) => [`src/fabric/links/a${i}.ts`, ""])),
    code: 0,
    says: "look: src/fabric/links has 21 files",
  },
])("the import graph ends with $code where there is $fault", async ({ files, code, says }) => {
  const ran = await run("node", ["scripts/structure.ts"], { cwd: plantWithScripts(files) });
  expect(ran.output).toContain(says);
  expect(ran.code).toBe(code);
});

test.each([
  { fault: "an import upward", files: { "src/lib/a.ts": 'import { b } from "../catalog/b.ts";\n' }, says: "lib may not import catalog" },
  {
    fault: "a type-only import upward",
    files: { "src/catalog/a.ts": 'import type { B } from "../policy/b.ts";\n' },
    says: "catalog may not import policy",
  },
  { fault: "an import sideways", files: { "src/dns/a.ts": 'import { b } from "../store/b.ts";\n' }, says: "dns may not import store" },
  {
    fault: "generated code outside the edge",
    files: { "src/catalog/a.ts": 'import { B } from "../../gen/b_pb.js";\n' },
    says: "generated messages",
  },
  {
    fault: "the DNS library elsewhere",
    files: { "src/dns/answer.ts": 'import packet from "dns-packet";\n' },
    says: "which tests hold equal",
  },
  { fault: "SQLite elsewhere", files: { "src/server/a.io.ts": 'import { DatabaseSync } from "node:sqlite";\n' }, says: "only the store" },
  { fault: "grpc-js in a pure file", files: { "src/server/a.ts": 'import type { Server } from "@grpc/grpc-js";\n' }, says: "shells only" },
  { fault: "an unknown room", files: { "src/attic/a.ts": "export const a = 1;\n" }, says: "attic is not a room" },
])("the import boundaries stop $fault", ({ files, says }) => {
  expect(roomFaults(plant(files)).join("\n")).toContain(says);
});

test("an import in a comment is not an import", () => {
  expect(
    roomFaults(plant({ "src/lib/a.ts": '/** import { b } from "../catalog/b.ts"; */\nexport const a = 1; // from "../catalog/b.ts"\n' })),
  ).toEqual([]);
});

test.each([
  { fault: "async", text: "export async function a(): Promise<void> {}\n" },
  { fault: "an async arrow", text: "export const a = async () => {};\n" },
  { fault: "new Date()", text: "export const a = () => new Date();\n" },
  { fault: "localeCompare", text: 'export const a = () => "a".localeCompare("b");\n' },
])("tidy names $fault in a pure file, and allows it in a shell", ({ text }) => {
  const folder = plant({ "src/lib/a.ts": text, "src/lib/a.io.ts": text });
  expect(pureFaults(folder)).toEqual([expect.stringMatching(/^src\/lib\/a\.ts:1: a pure file says/)]);
});

test("tidy names a pure file that no test of its room reaches, but not a shell, a file of types or a part of what such a test imports", () => {
  const folder = plant({
    "src/lib/a.ts": "export function a(): void {}\n",
    "src/catalog/other.ts": 'import { a } from "../lib/a.ts";\nexport const other = a;\n',
    "src/lib/a.io.ts": "export function a(): void {}\n",
    "src/lib/types.ts": "export interface A {}\n",
    "src/lib/part.ts": "export function part(): void {}\n",
    "src/lib/whole.ts": 'import { part } from "./part.ts";\nexport const whole = part;\n',
    "test/fakes/all.ts": 'import { whole } from "../../src/lib/whole.ts";\nexport const all = whole;\n',
    "test/lib/whole.test.ts": 'import { all } from "../fakes/all.ts";\n',
    "test/catalog/other.test.ts": 'import { other } from "../../src/catalog/other.ts";\n',
  });
  expect(unreachedFiles(folder)).toEqual(["src/lib/a.ts is reached by no test of its room"]);
});

test("tidy names a file that only a test imports, as a part without its row is", () => {
  const folder = plant({
    "knip.json": JSON.stringify({ entry: ["src/main.ts", "src/store/*/worker.io.ts", "test/**/*.test.ts"] }),
    "src/main.ts": 'import { parts } from "./node/list.ts";\n',
    "src/node/list.ts": "export const parts = [];\n",
    "src/node/part.ts": "export const part = {};\n",
    "src/store/audit/worker.io.ts": "export {};\n",
    "test/node/part.test.ts": 'import { part } from "../../src/node/part.ts";\n',
  });
  expect(unusedFiles(folder)).toEqual(["src/node/part.ts is imported by tests alone"]);
});

test("tidy names a shell or a simulated node that builds or joins the rooms of a node, but not one that asks for their types", () => {
  const part = 'import { type Settled, Snapshots } from "../../src/node/core/snapshots.ts";\n';
  const folder = plant({
    "src/node/core.ts":
      'import { Snapshots } from "./core/snapshots.ts";\nimport { CommitCycle } from "../discovery/registrar/commit-cycle.ts";\n',
    "src/node/core/a.ts": 'import { startNewGeneration } from "../../catalog/replica/new-generation.ts";\n',
    "src/node/core/rooms.ts": 'import { Replica } from "../../catalog/replica/replica.ts";\n',
    "src/node/resolver/resolver-rooms.ts": 'import { Replica } from "../../catalog/replica/replica.ts";\n',
    "src/node/a.io.ts":
      'import { ageOf, type Warm } from "./core/warm-start.ts";\nimport { CommitCycle } from "../discovery/registrar/commit-cycle.ts";\n',
    "src/node/b.io.ts":
      'import type { Replica } from "../catalog/replica/replica.ts";\nimport { Fanout, type Watcher } from "../discovery/fanout.ts";\n',
    "test/sim/a.ts": part,
    "test/sim/b.ts":
      'import { Replica } from "../../src/catalog/replica/replica.ts";\nimport { fabricOf, NodeMachine } from "../../src/node/core.ts";\n',
  });
  expect(composingFaults(folder)).toEqual([
    expect.stringContaining("src/node/a.io.ts has CommitCycle"),
    expect.stringContaining("src/node/b.io.ts has Fanout"),
    expect.stringContaining("test/sim/a.ts has Snapshots"),
    expect.stringContaining("test/sim/b.ts has Replica"),
    expect.stringContaining("test/sim/b.ts has NodeMachine"),
  ]);
});

test("tidy names a file without a header, a mark without a number and a focused test", () => {
  const folder = plant({
    "src/lib/a.ts": `// ${["TO", "DO"].join("")} later\nexport const a = 1;\n`,
    "test/lib/a.test.ts": `${FOCUSED}("it", () => {});\n`,
  });
  expect(headerFaults(folder)).toHaveLength(1);
  expect(markFaults(folder)).toHaveLength(2);
});

test("tidy names a generated test with a size of its own, but not one that only the night runs", () => {
  const text = (size: string) => `fc.assert(property, { numRuns: ${size} });\n`;
  const folder = plant({
    "test/lib/a.test.ts": text("500"),
    "test/lib/b.test.ts": text("runs(500)"),
    "test/nightly/c.test.ts": text("5000"),
  });
  expect(effortFaults(folder)).toEqual([expect.stringContaining("test/lib/a.test.ts")]);
});

test("tidy names an old word in the name of a file, in a name and in a sentence, but not in a decision", () => {
  const folder = plant({
    "src/lib/doors.ts": "/** Listeners. */\nexport const maxQuarantined = 1;\nexport const indoors = 1;\n",
    "docs/a.md": "Turn a knob.\n",
    "bench/a.ts": "/** One side. */\nconst jsonDoor = 1;\n",
    "docs/decisions/0001-a.md": "There was a knob.\n",
  });
  expect(oldWordFaults(folder)).toEqual([
    'src/lib/doors.ts:0: "doors" is an old word: listener',
    'src/lib/doors.ts:2: "quarantined" is an old word: conflict',
    'docs/a.md:1: "knob" is an old word: setting',
    'bench/a.ts:2: "door" is an old word: listener',
  ]);
});

test("tidy names a word of a file, a class or an exported type that the glossary and the list of technical words lack", () => {
  const folder = plant({
    "src/lib/told-queue.ts":
      "/** A queue. */\nexport class ToldQueue {}\nexport interface PeerQueues {}\nclass Owing {}\nclass Row {}\ninterface Local {}\n",
    "src/summary/saying.ts": "/** Issue 63 renames it. */\nexport class Saying {}\n",
    "docs/glossary.md": "| **peer** | Another node. |\n",
    "scripts/technical-words.txt": "lib queue\n",
  });
  const where = "is neither in the glossary nor in scripts/technical-words.txt";
  expect(unknownNameWords(folder)).toEqual([
    `src/lib/told-queue.ts: "told" of lib/told-queue ${where}`,
    `src/lib/told-queue.ts: "told" of ToldQueue ${where}`,
    `src/lib/told-queue.ts: "owing" of Owing ${where}`,
    "src/lib/told-queue.ts: Row is too vague: use two words or more",
  ]);
});

test("tidy counts turns of phrase that are hard to read, and holds each folder to its budget", () => {
  const folder = plant({
    "README.md": "Nobody tells `nobody`.\n\n```sh\ntell somebody\n```\n",
    "docs/a.md": "# A page\n\n- One item.\n- Another item takes long.\n- A third item.\n\n| a | b |\n| --- | --- |\n| one | seldom |\n",
    "docs/guides/a.md": "A plain sentence.\n",
    "proto/waymark/v1/a.proto": "// Sent once a second.\nmessage A {}\n",
    "src/lib/a.ts": '/** What a node holds. */\nexport const a = "is told to the peer"; // seldom\n',
  });
  expect(wordingFaults(folder, { "README.md": 2, "docs/guides": 1, "src/lib": 2 })).toEqual([
    'docs/a.md: hits 2, budget 0: docs/a.md:4: rule 6 "takes", docs/a.md:9: rule 7 "seldom"',
    "docs/guides: hits 0, budget 1: lower the budget in scripts/wording.ts",
    'proto/waymark/v1: hits 1, budget 0: proto/waymark/v1/a.proto:1: rule 8 "once a"',
    'src/lib: hits 3, budget 2: src/lib/a.ts:1: rule 1 "What a", src/lib/a.ts:2: rule 2 "told", src/lib/a.ts:2: rule 7 "seldom"',
  ]);
});

test("tidy names a link to a file or a heading that is not there", () => {
  const folder = plant({ "docs/a.md": "# A page\n\n[yes](#a-page) [no](b.md) [no](a.md#nowhere) [yes](https://example.org)\n" });
  expect(linkFaults(folder)).toHaveLength(2);
});

test("tidy names a file in code that a page names and that is not there; the changelog tells of what was", () => {
  const named = "`src/lib/a.ts` `src/lib/gone.ts` `a.ts`\n";
  const folder = plant({ "src/lib/a.ts": "/** A. */\n", "docs/a.md": named, "CHANGELOG.md": named });
  expect(linkFaults(folder)).toEqual(["docs/a.md: names src/lib/gone.ts, which is not there"]);
});

test("tidy names a lockfile of other majors, with a registry in it, or without the packages of other platforms", () => {
  const manifest = JSON.stringify({ dependencies: { a: "2.0.0", b: "^1.0.0" } });
  const a = { version: "1.9.0", resolved: "https://example.org/a.tgz", optionalDependencies: { "a-linux-x64": "1.9.0" } };
  const lockfile = JSON.stringify({ packages: { "node_modules/a": a } });
  expect(lockfileFaults(plant({ "package.json": manifest, "package-lock.json": lockfile }))).toHaveLength(4);
});

test("tidy names a room, or a folder of a room, that the architecture page forgets, gets wrong or invents", () => {
  const page = "| `src/lib/` | tools | catalog |\n| `src/attic/` | old things | lib |\n| `src/dns/plan/` | plans | names |\n";
  const faults = roomTableFaults(plant({ "docs/architecture.md": page })).join("\n");
  expect(faults).toContain("lib may import –, the page says catalog");
  expect(faults).toContain("no row for catalog");
  expect(faults).toContain("shows attic, which");
  expect(faults).toContain("dns/plan may import names, subject, records, the page says names");
  expect(faults).toContain("no row for dns/names");
});

// In parts: the check also reads this file.
const CITED = ["semantics", "md"].join(".");
const [KNOWN, UNKNOWN] = ["1", "44"].map((n) => `P${n}`);
const RULE_PAGE = `# Rules

| ${KNOWN} | holds |

## Names and bounds

See \`src/lib/a.ts\`.

## Watch

1. One.
2. Two, mutant "there".

### Stop
`;
const SIMULATED = { invariants: [], mutants: ["there"] };

test("tidy knows a cited rule by its heading and its number, alone or among others, also over the end of a line", () => {
  const source = `/** What it is (${CITED}, Names and bounds): why. ${CITED}, Watch, and more; (${CITED}, Watch 1 and 2; ${KNOWN}). */
    // Twice (${CITED},
    // Watch 2 and Stop) and plain ${CITED} says so.
  `;
  const folder = plant({ "docs/design/semantics.md": RULE_PAGE, "src/lib/a.ts": source });
  expect(ruleFaults(folder, SIMULATED)).toEqual([]);
});

test.each([
  { fault: "a heading", said: `(${CITED}, Orphans)`, want: "has no Orphans" },
  { fault: "a heading over the end of a line", said: `(${CITED},\n * Orphans)`, want: "has no Orphans" },
  { fault: "more than a heading", said: `(${CITED}, Watch and wait)`, want: "has no Watch and wait" },
  { fault: "the second of two", said: `(${CITED}, Watch 1 and Names)`, want: "has no Names" },
  { fault: "a number", said: `(${CITED}, Watch 2 and 3)`, want: "has no Watch 3" },
  { fault: "a property", said: `keeps ${UNKNOWN}`, want: `${UNKNOWN} is no property` },
])("tidy names $fault that is cited and not on the page of rules", ({ said, want }) => {
  const folder = plant({ "docs/design/semantics.md": RULE_PAGE, "src/lib/a.ts": `\n/** Does it: ${said}. */\n` });
  const faults = ruleFaults(folder, SIMULATED);
  expect(faults).toHaveLength(1);
  expect(faults[0]).toMatch(new RegExp(`^src/lib/a\\.ts:2: .*${want}`));
});

test("tidy names a file, an invariant and a planted bug that the page of rules has and nobody else, and those that it forgets", () => {
  const folder = plant({ "docs/design/semantics.md": `${RULE_PAGE}\nSee invariant "age", invariant "there".\n` });
  const faults = ruleFaults(folder, { invariants: ["age", "bounds"], mutants: ["age", "left out"] });
  expect(faults.map((fault) => fault.replace(/^[^:]*: /, ""))).toEqual([
    "there is no src/lib/a.ts",
    'no rule names the invariant "bounds", which it holds',
    'test/sim knows no invariant "there"',
    'no rule names the mutant "age", which it holds',
    'no rule names the mutant "left out", which it holds',
    'test/sim knows no mutant "there"',
  ]);
});

test("tidy names a rule of the lint settings that CONTRIBUTING.md does not have", () => {
  const rules = "## Rules\n\n1. One.\n2. Two.\n\n## How to add\n\n1. A step.\n2. A step.\n3. A step.\n4. A step.\n";
  const folder = plant({
    "CONTRIBUTING.md": rules,
    ".oxlintrc.json": '{\n// Rules 1 and 2: a.\n"message": "no (style rule 7)", // rules 2, 4 to 5\n}',
  });
  expect(lintRuleFaults(folder)).toEqual([".oxlintrc.json:3: rule 7", ".oxlintrc.json:3: rules 2, 4 to 5"]);
});

test("tidy names a metric that is only named, or counted by a file that the program does not load", () => {
  const folder = plant({
    "src/lib/metrics/metrics.ts": "idle_total: 1,\n",
    "src/main.ts": 'await import("./lib/a.ts");\n',
    "src/lib/a.ts": `// metrics.inc("idle_total", {})
      const NAMES = ["named_total"];
      const ROWS = { a: { counter: "keyed_total", title: "titled_total" } };
      byTitle.set(row.title, row);
      metrics.inc("busy_total", {});
      metrics\n.counter(\n"far_total", { a });
      metrics.inc(this.#row.counter, {});`,
    "src/lib/b.ts": 'metrics.inc("left_total", {});\n',
  });
  const names = ["busy", "far", "idle", "keyed", "left", "named", "titled"].map((word) => `${word}_total`);
  expect(uncountedMetrics(folder, names)).toEqual(["idle_total", "left_total", "named_total", "titled_total"]);
});

test("tidy names an rpc that no test calls", () => {
  const folder = plant({
    "test/services/a.test.ts": "call(Service.method.listThings);\n",
    "test/interop/b.py": "stub.GetThing(request)\n",
  });
  expect(untestedRpcs(folder, ["ListThings", "GetThing", "GetThin"])).toEqual(["GetThin"]);
});

test("tidy names a setting that stands in a table and in a rule, or as a word of a room, and that nobody reads", () => {
  const folder = plant({
    "src/config/settings.ts":
      "const SETTINGS = { a: A_SETTINGS, b: { soloMs: ms({}) }, server: { maxStreams: int({}), maxCalls: int({}) } };\n",
    "src/config/a.ts": "export const A_SETTINGS = { readMs: ms({}), takenMs: ms({}), guardMs: ms({}), idleMs: ms({}) };\n",
    "src/config/rules.ts": "if (settings.a.idleMs > settings.a.readMs) say();\n",
    "src/config/exposure.ts": "if (settings.a.guardMs > 0) warn();\n",
    "src/node/node.io.ts":
      "const { x,\n takenMs: ms } = settings.a;\nstart(settings.a.readMs, { ...settings.server });\nother.soloMs = 1;\n",
    "src/fabric/idle.ts": "interface A { readonly idleMs: number }\nwait(a.idleMs, b.soloMs);\n",
    "src/server/grpc/listener.io.ts":
      "interface Limits { readonly maxStreams: number; readonly maxCalls: number }\nopen(options.limits.maxStreams);\n",
  });
  const rows = { a: ["readMs", "takenMs", "guardMs", "idleMs"], b: ["soloMs"], server: ["maxStreams", "maxCalls"] };
  const settings = Object.entries(rows).flatMap(([group, names]) => names.map((name) => ({ group, name })));
  expect(unreadSettings(folder, settings)).toEqual(["a.idleMs", "b.soloMs", "server.maxCalls"]);
});

test("tidy names a reason that is thrown and that no test names", () => {
  const folder = plant({
    "src/lib/a.ts": 'throw refuse("seen"), refuse("unseen");\n',
    "test/lib/a.test.ts": 'expect(reason).toBe("SEEN");\n',
  });
  expect(untestedReasons(folder, ["seen", "unseen", "later"])).toEqual(["unseen"]);
});

test("tidy names a path of HTTP that the page for operators does not name", () => {
  const folder = plant({
    "docs/guides/operations.md": "`GET /readyz` says whether, and `/control/peers?statuses=alive` who.\n",
    "src/server/b.ts": '  "/readyz": { answer },\n  "/ready": { answer },\n  "/later": unimplemented(),\n  // "/comment"\n',
    "src/server/c.ts": "const NAMED = '/named';\nimport '../b.ts'; \"/waymark.a.v1.B/C\";\n",
  });
  expect(unexplainedRoutes(folder, ["/control/peers", "/control/peer"])).toEqual(["/control/peer", "/ready", "/named"]);
});

test("tidy names a metric and a setting of the documentation that do not exist", () => {
  const folder = plant({ "docs/a.md": "Watch `waymark_old_total` and `dns_new_total_count`; set `dns.min_ttl`, not `dns.ttl`.\n" });
  expect(unknownNames(folder, { metrics: ["dns_new_total"], settings: ["dns.min_ttl"] })).toHaveLength(2);
});

test("tidy names an event of the mesh that no page explains", () => {
  const source = `
    out.push(event("was_seen", "info", row));
    this.#note("was_noted", { a: 1 });
    const event = { name: isIt ? "first_one" : "second_one", severity: "warn" };
    tell(out, name = "by_default");
    out.push(eventOutput("went_out", "info", row));
    // event("only_said")
  `;
  const node = `
    this.tell({ name: "node_told", severity: "warn", isAudited: true, detail });
    const [name, severity] = isOff ? (["clock_off", "error"] as const) : (["clock_on", "info"] as const);
  `;
  const folder = plant({ "src/fabric/a.ts": source, "src/node/a.ts": node, "docs/a.md": "| `was_seen`, `second_one` | says |\n" });
  const missing = ["by_default", "clock_off", "clock_on", "first_one", "node_told", "was_noted", "went_out"];
  expect(unexplainedEvents(folder, "docs/a.md")).toEqual(missing);
});

test("a unit test that uses files, sockets, threads, processes or real time is named so, and only such a one", () => {
  const files = {
    "src/store/disk.io.ts": "export const disk = 1;\nexport type Disk = number;\n",
    "test/fakes/home.ts": 'import { mkdtempSync } from "node:fs";\nexport const home = () => mkdtempSync("x");\n',
    "test/lib/addresses.test.ts":
      'import { isIP } from "node:net";\nimport { readFileSync } from "node:fs";\nisIP(readFileSync("a", "utf8"));\n',
    "test/lib/typed.test.ts":
      'import type { Disk } from "../../src/store/disk.io.ts";\nimport { type Server } from "node:net";\n// setTimeout(f, 1)\n',
    "test/lib/waits.test.ts": "await expect.poll(() => 1).toBe(1);\n",
    "test/lib/writes.test.ts": 'import { home } from "../fakes/home.ts";\nhome();\n',
    "test/store/disk.test.ts": 'import { disk } from "../../src/store/disk.io.ts";\ndisk;\n',
    "test/store/none.io.test.ts": "export {};\n",
    "test/e2e/any.test.ts": 'import { connect } from "node:net";\nconnect;\n',
  };
  const folder = plant(files);
  expect(kindFaults(folder)).toEqual([
    "test/lib/waits.test.ts uses expect.poll: name it test/lib/waits.io.test.ts",
    "test/lib/writes.test.ts uses node:fs (test/fakes/home.ts): name it test/lib/writes.io.test.ts",
    "test/store/disk.test.ts uses src/store/disk.io.ts: name it test/store/disk.io.test.ts",
    "test/store/none.io.test.ts uses no file, thread, socket, process or clock: it is a unit test",
  ]);
  expect(shellUses(folder, "test/e2e/any.test.ts")).toEqual(["node:net"]);
});

test("a test of what no other room imports tests an inside, also where the room's own door hands it on", () => {
  const folder = plant({
    "src/dns/answer.ts":
      'import { find } from "../catalog/door.ts";\nimport type { Kind } from "../catalog/kind.ts";\nfind;\nexport type K = Kind;\n',
    "src/catalog/door.ts": 'import { inner } from "./inner.ts";\nexport { inner } from "./inner.ts";\nexport const find = inner;\n',
    "src/catalog/inner.ts": "export const inner = 1;\n",
    "src/catalog/kind.ts": "export type Kind = 1;\n",
    "test/catalog/door.test.ts": 'import { find } from "../../src/catalog/door.ts";\nfind;\n',
    "test/catalog/inner.test.ts": 'import { inner } from "../../src/catalog/inner.ts";\n// import "../../src/catalog/none.ts";\ninner;\n\n',
    "test/catalog/kind.test.ts": 'import { kind } from "../../src/catalog/kind.ts";\nkind;\n',
    "test/sim/any.test.ts": 'import { inner } from "../../src/catalog/inner.ts";\ninner;\n',
  });
  expect(insidesOf(folder)).toEqual({
    tests: [{ file: "test/catalog/inner.test.ts", lines: 4, insides: ["src/catalog/inner.ts"] }],
    insideLines: 4,
    allLines: 8,
  });
  expect(insideFaults(folder)).toHaveLength(2);
});
