/** The end of a test run names what failed: of a long log often only the end is kept. */
import { chmodSync, cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { gateLeaves, lintable, tagsFilter } from "../scripts/changed.ts";
import { ROOT, run } from "../scripts/run.ts";
import { withinBudget } from "../scripts/tally.ts";

const folders: string[] = [];

/** A folder with these of our files, and with those that are given. */
function plant(ours: readonly string[], files: Readonly<Record<string, string>>): string {
  const folder = mkdtempSync(join(tmpdir(), "waymark-failing-"));
  folders.push(folder);
  for (const file of ours) cpSync(join(ROOT, file), join(folder, file), { recursive: true });
  for (const [file, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, file)), { recursive: true });
    writeFileSync(join(folder, file), text);
    if (text.startsWith("#!")) chmodSync(join(folder, file), 0o755);
  }
  return folder;
}

afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

const CALLS = 'import { beforeAll, describe, expect, test } from "vitest";\n';
const FAILING = {
  "test/chaos/counting.test.ts": `${CALLS}
    test("is right", () => {});
    describe("of numbers", () => {
      test("one is two", () => expect(1).toBe(2));
      test.skip("needs a tool", () => {});
    });`,
  "test/chaos/hook.test.ts": `${CALLS}
    beforeAll(() => { throw new Error("no port is free\\nand more of it"); });
    test("never begins", () => {});`,
  "test/chaos/unloaded.test.ts": 'throw new Error("cannot load");\n',
};

/** The lines that the test verb writes at its end, from its first that names a failure. */
async function endOfVerb(files: Readonly<Record<string, string>>, ci: string): Promise<{ code: number; end: readonly string[] }> {
  const folder = plant(
    [
      ...["test", "tally", "changed", "run", "rooms"].map((name) => `scripts/${name}.ts`),
      "vitest.config.ts",
      "test/seed-setup.ts",
      "test/fakes/effort.ts",
    ],
    {
      ...files,
      "package.json": '{ "type": "module" }\n',
      // The planted tests start no node, and there are no sources to pack.
      "test/program-setup.ts": "export function setup(): void {}\n",
    },
  );
  symlinkSync(join(ROOT, "node_modules"), join(folder, "node_modules"));
  const { code, output } = await run("node", ["scripts/test.ts", "chaos"], { cwd: folder, env: { CI: ci, NO_COLOR: "1", VITEST: "" } });
  const lines = output.trimEnd().split("\n");
  const first = lines.findIndex((line) => line.startsWith("FAILED "));
  return { code, end: lines.slice(first === -1 ? -1 : first) };
}

test("what failed is named with its file and the first line of its error, just above the closing line", async () => {
  const { code, end } = await endOfVerb(FAILING, "");
  expect(code).toBe(1);
  expect(end.slice(0, -1).toSorted()).toEqual([
    "FAILED test/chaos/counting.test.ts > of numbers one is two: AssertionError: expected 1 to be 2 // Object.is equality",
    "FAILED test/chaos/hook.test.ts, outside of its tests: no port is free",
    "FAILED test/chaos/unloaded.test.ts, outside of its tests: cannot load",
  ]);
  expect(end.at(-1)).toBe("1 passed, 3 failed, 2 skipped");
});

test("in CI a skipped test is named as well, as it counts as failed there", async () => {
  const { code, end } = await endOfVerb({ "test/chaos/tool.test.ts": `${CALLS}test.skip("needs a tool", () => {});\n` }, "true");
  expect(code).toBe(1);
  expect(end).toEqual(["FAILED test/chaos/tool.test.ts > needs a tool: skipped", "0 passed, 1 failed"]);
});

test("an error outside of all tests is said to be one", async () => {
  const text = `${CALLS}test("is right", () => { setTimeout(() => { throw new Error("late"); }); return new Promise((end) => setTimeout(end, 50)); });\n`;
  const { code, end } = await endOfVerb({ "test/chaos/late.test.ts": text }, "");
  expect(code).toBe(1);
  expect(end).toEqual(["FAILED chaos: vitest ended with code 1 though no test failed; its output says why", "1 passed, 1 failed"]);
});

test("a kind of test above its budget of CPU and a fifth fails, and its ten dearest tests are named", () => {
  const tests = Array.from({ length: 12 }, (_, i) => `${12 - i}.0 s  test ${i}`);
  const tally = { passed: 12, failed: 0, skipped: 0, failures: [], skips: [], slow: [], dearest: tests };
  const took = (cpuSeconds: number, budget?: number) => withinBudget(tally, { name: "unit", cpuSeconds, budget });
  expect([took(120, 100), took(1e6)]).toEqual([tally, tally]);
  const { passed, failed, failures } = took(121, 100);
  expect([passed, failed]).toEqual([12, 1]);
  expect(failures[0]).toContain("unit: took 121 s of CPU, and may take 100 s and a fifth");
  expect(failures.slice(1)).toEqual(tests.slice(0, 10).map((name) => `unit: ${name}`));
});

test("the gate leaves out the tests of the night, and those of a path that does not differ", () => {
  const both = ["night", "path"];
  expect(gateLeaves(["src/catalog/batch.ts", "docs/store.md", "src/grpc.md"])).toEqual(both);
  const differing = [
    "src/dns/wire/wire.ts",
    "src/grpc/pool.ts",
    "src/server/edge/listener.io.ts",
    "src/store/disk.io.ts",
    "proto/waymark/a.proto",
  ];
  expect(differing.map((file) => gateLeaves(["README.md", file]))).toEqual(differing.map(() => ["night"]));
  expect(gateLeaves(undefined)).toEqual(["night"]);
  expect([tagsFilter([]), tagsFilter(both)]).toEqual([[], ["--tags-filter", "!night && !path"]]);
});

test("of the files that a push changes, the linter reads the sources that still exist", () => {
  expect(lintable(["README.md", "src/main.ts", "src/not-there.ts"])).toEqual(["src/main.ts"]);
});

/** What `.ci/run` writes with an `npm` that does what this script says for each verb. */
async function endOfCi(verbs: string): Promise<{ code: number; lines: readonly string[] }> {
  const tool = "#!/bin/sh\nexit 0\n";
  const names = ["dig", "strace", "openssl", "python3", "go", "javac", "mvn"];
  const tools = Object.fromEntries(names.map((name) => [`bin/${name}`, tool]));
  const npm = `#!/bin/sh\ncase "$*" in\n${verbs}\n*) exit 0;;\nesac\n`;
  const folder = plant([".ci/run"], { ...tools, "bin/npm": npm, "node_modules/.bin/node": tool, "test/a.test.ts": "" });
  const path = [join(folder, "bin"), process.env["PATH"] ?? ""].join(delimiter);
  const { code, output } = await run("bash", ["-c", `PATH=${JSON.stringify(path)} exec ./.ci/run`], { cwd: folder });
  return { code, lines: output.trimEnd().split("\n") };
}

test(".ci/run names what failed above its closing line", async () => {
  const { code, lines } = await endOfCi(`"run --silent test") echo "FAILED a > one: no"; echo "5 passed, 1 failed"; exit 1;;`);
  expect(code).toBe(1);
  expect(lines.slice(-2)).toEqual(["FAILED a > one: no", "5 passed, 1 failed"]);
});

test(".ci/run says so of a gate that ended without a word, and names nothing when all is well", async () => {
  const cut = await endOfCi(`"run --silent test") echo "5 passed, 0 failed"; exit 7;;`);
  expect(cut.code).toBe(7);
  expect(cut.lines.slice(-2)).toEqual(["FAILED npm test: it ended with code 7 and named no failed test", "5 passed, 1 failed"]);
  const well = await endOfCi(`"run --silent test") echo "5 passed, 0 failed";;`);
  expect(well.code).toBe(0);
  expect(well.lines.at(-1)).toBe("5 passed, 0 failed");
});
