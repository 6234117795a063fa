/**
 * The tiers of tests, and what each consists of, cheapest first: `npm test` is the gate, and an argument names another one,
 * `quick`, `nightly`, `soak` or `soak-cluster`. A test says by its tags where it runs, see `TAGS` in vitest.config.ts.
 * Every check that is not a vitest run counts as one; the last line is `N passed, N failed` (and `, N skipped`), and
 * above it stands a line `FAILED …` for each that did, so that the end of a log says it all.
 */
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { changedFiles, gateLeaves, lintable, tagsFilter, upstream } from "./changed.ts";
import { ROOT, run } from "./run.ts";
import { SLOW_MS, sumOf, type Tally, vitestTally, wholeTally, withinBudget } from "./tally.ts";

/** What a step came to: a line of the report for each kind of test in it. */
interface Done {
  readonly tally: Tally;
  readonly lines: readonly string[];
}

interface Step {
  readonly run: () => Promise<Done>;
}

const CACHE = join(ROOT, ".cache");
const REPORTS = join(CACHE, "reports");

/** Many processes load the same modules. Node keeps what it compiled, without the types, for the next process that loads the same text. */
const KEPT_ENV = { NODE_COMPILE_CACHE: join(ROOT, "node_modules/.cache/compile") };
/** Tools in Go collect their garbage half as often: a fifth less of CPU, and no more memory than they take anyway. */
const TOOL_ENV = { GOGC: "200", ...KEPT_ENV };

/** A tool that is right or wrong as a whole; its output is shown only when it is wrong. */
function check(name: string, command: string, ...args: string[]): Step {
  return {
    run: async () => {
      const started = performance.now();
      const { code, output, cpuSeconds } = await run(command, args, { env: TOOL_ENV });
      if (code !== 0) console.log(output.trimEnd());
      const tally = wholeTally(name, code === 0, `${command} ended with code ${code}`);
      return { tally, lines: [lineOf({ name, tally, started, cpuSeconds })] };
    },
  };
}

interface VitestOptions {
  readonly projects: readonly string[];
  readonly args?: readonly string[];
  /** Tags of tests that do not run. */
  readonly leaves?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Takes only what the steps beside it leave of the processor: for tests that compute, and judge no time. */
  readonly isPatient?: boolean;
  /** Seconds of CPU on the machine of the gate. */
  readonly budget?: number;
}

function vitest(name: string, options: VitestOptions): Step {
  const { leaves = [] } = options;
  const report = join(REPORTS, `${name.replaceAll(/\W+/g, "-")}.json`);
  const projects = options.projects.flatMap((project) => ["--project", project]);
  const reporters = ["--reporter=default", "--reporter=json", "--reporter=junit"];
  const files = [`--outputFile.json=${report}`, `--outputFile.junit=${report.replace(/json$/, "xml")}`];
  return {
    run: async () => {
      rmSync(report, { force: true });
      const started = performance.now();
      const args = ["run", ...projects, ...reporters, ...files, ...tagsFilter(leaves), ...(options.args ?? [])];
      const env = { ...KEPT_ENV, ...options.env };
      const [program, ...before] = options.isPatient === true ? (["nice", "-n", "19", "vitest"] as const) : (["vitest"] as const);
      const { code, cpuSeconds } = await run(program, [...before, ...args], { live: true, env });
      const tally = withinBudget(vitestTally(name, report, code, leaves), { name, cpuSeconds, budget: options.budget });
      return { tally, lines: [lineOf({ name, tally, started, cpuSeconds, budget: options.budget })] };
    },
  };
}

interface Ended {
  readonly name: string;
  readonly tally: Tally;
  readonly started: number;
  readonly cpuSeconds: number;
  readonly budget?: number | undefined;
}

function lineOf({ name, tally, started, cpuSeconds, budget }: Ended): string {
  const { passed, failed, skipped } = tally;
  const seconds = ((performance.now() - started) / 1000).toFixed(1).padStart(6);
  const allowed = budget === undefined ? "" : ` of ${budget}`;
  const skips = skipped > 0 ? `, ${skipped} skipped` : "";
  const line = `${failed === 0 ? "ok  " : "FAIL"} ${seconds} s ${cpuSeconds.toFixed(1).padStart(6)}${allowed} s of CPU  ${name}: ${passed} passed, ${failed} failed${skips}`;
  console.log(line);
  return line;
}

/** Simulations of so many seeds in a row, from that one on or from a random one. */
function seeds(first: number | "random", count: number): VitestOptions {
  const env = { WAYMARK_SEED: `${first}`, WAYMARK_RUNS: `${count}` };
  return { projects: ["sim"], args: ["test/sim/seeds.test.ts"], env, isPatient: true };
}

/** Steps side by side: together they use both cores, and none of them judges how long something takes. */
function together(...steps: readonly Step[]): Step {
  return { run: async () => allOf(await Promise.all(steps.map((step) => step.run()))) };
}

/** Steps one after another, as one of those that run side by side. */
function inTurn(...steps: readonly Step[]): Step {
  return {
    run: async () => {
      const all: Done[] = [];
      for (const step of steps) all.push(await step.run());
      return allOf(all);
    },
  };
}

function allOf(all: readonly Done[]): Done {
  return { tally: sumOf(all.map(({ tally }) => tally)), lines: all.flatMap(({ lines }) => lines) };
}

const STATIC = staticChecks([]);

/** `linted`: the files that are linted. If it is empty, the whole project is. */
function staticChecks(linted: readonly string[]): readonly Step[] {
  // All of a push may be files that the linter ignores. Where it reads the whole project, none at all is a fault.
  const what = linted.length > 0 ? ["--no-error-on-unmatched-pattern", ...linted] : [];
  return [
    together(
      check("format", "biome", "ci", "--error-on-warnings"),
      check("unused", "knip", "--no-progress", "--cache", "--cache-location", join(CACHE, "knip")),
      check("import graph", "node", "scripts/structure.ts"),
    ),
    // The linter reads all types again and takes one core: the compiler has the other, where more checkers than one do the same work twice.
    together(
      check("types", "tsc", "-p", ".", "--checkers", "1", "--incremental", "--tsBuildInfoFile", join(CACHE, "types.tsbuildinfo")),
      check("lint", "oxlint", "--deny-warnings", "--report-unused-disable-directives", ...what),
    ),
  ];
}

const CONTRACT = [
  check("buf lint", "buf", "lint"),
  check("buf breaking", "node", "scripts/breaking.ts"),
  check("generated code and docs are fresh", "node", "scripts/gen.ts", "--check"),
];

/** On a machine of a developer the gate is the same for all changes. CI adds the tests of what differs. */
const leaves = gateLeaves(isCi() ? await changedFiles() : []);

/** Budgets are seconds of CPU, with the tests that a path adds. */
const GATE: readonly Step[] = [
  ...STATIC,
  ...CONTRACT,
  vitest("unit", { projects: ["rules", "unit"], leaves, budget: 220 }),
  together(
    // The simulator has what the others leave, because they wait for a part of their time.
    vitest("sim", { projects: ["sim"], leaves, isPatient: true, budget: 260 }),
    inTurn(
      // These build and wait, and judge no time.
      together(
        vitest("interop", { projects: ["interop"], leaves, budget: 180 }),
        vitest("docs", { projects: ["docs"], leaves, budget: 116 }),
      ),
      // These judge time.
      vitest("e2e timed", { projects: ["e2e timed"], leaves, budget: 75 }),
      vitest("io", { projects: ["io"], leaves, budget: 125 }),
      vitest("checks", { projects: ["checks"], leaves, budget: 15 }),
    ),
  ),
  vitest("e2e", { projects: ["e2e"], leaves, budget: 360 }),
];

const NIGHT = { TEST_EFFORT: "night" };
/** Generated cases that nobody has run yet. What they find becomes a fixed case of the gate. */
const RANDOM = { ...NIGHT, WAYMARK_SEED: "random" };

const NIGHTLY: readonly Step[] = [
  ...STATIC,
  ...CONTRACT,
  // Counting what is covered makes a test nearly twice as dear. Tests that wait cover shells, for which there is no threshold.
  vitest("unit", { projects: ["rules", "unit"], args: ["--coverage"], env: RANDOM }),
  vitest("io", { projects: ["io"], env: RANDOM }),
  vitest("checks", { projects: ["checks"] }),
  together(
    vitest("sim", { projects: ["sim"], env: NIGHT, isPatient: true }),
    vitest("interop", { projects: ["interop"], env: NIGHT }),
    vitest("docs", { projects: ["docs"], env: NIGHT }),
  ),
  vitest("e2e", { projects: ["e2e"], env: NIGHT }),
  vitest("e2e timed", { projects: ["e2e timed"], env: NIGHT }),
  // Many of these judge how long something takes: nothing runs beside them.
  vitest("long", { projects: ["long"], env: NIGHT }),
  together(
    inTurn(vitest("chaos", { projects: ["chaos"], env: NIGHT }), vitest("long waiting", { projects: ["long waiting"], env: NIGHT })),
    // These compute while those wait, with what those leave of the processor.
    vitest("virtual", { projects: ["virtual"], env: RANDOM, isPatient: true }),
  ),
  // These judge time, too.
  vitest("nightly", { projects: ["nightly"], env: RANDOM }),
  together(vitest("random seeds", seeds("random", 1000)), vitest("more random seeds", seeds("random", 1000))),
];

const base = await upstream();

const TIERS: Readonly<Record<string, readonly Step[]>> = {
  // Lints the files that a push changes, and runs the tests that import them. The gate also lints the files that import them.
  quick: [
    ...staticChecks(lintable((await changedFiles(base)) ?? [])),
    together(
      vitest("rules", { projects: ["rules"] }),
      vitest("unit", {
        projects: ["unit"],
        args: ["--changed", base, "--passWithNoTests"],
        leaves: gateLeaves([]),
        env: { TEST_EFFORT: "quick" },
      }),
    ),
  ],
  gate: GATE,
  nightly: NIGHTLY,
  chaos: [vitest("chaos", { projects: ["chaos"], env: NIGHT })],
  soak: [vitest("soak sim", seeds(1, Number(process.env["WAYMARK_RUNS"] ?? 30_000)))],
  // Real processes in network namespaces, half an hour: `WAYMARK_SOAK_MINUTES` sets how long.
  "soak-cluster": [vitest("soak cluster", { projects: ["soak"] })],
};

const tier = process.argv[2] ?? "gate";
const steps = TIERS[tier];
if (steps === undefined) {
  console.error(`unknown tier of tests ${JSON.stringify(tier)}; there are: ${Object.keys(TIERS).join(", ")}`);
  process.exit(2);
}
mkdirSync(REPORTS, { recursive: true });
const { tally, lines } = await inTurn(...steps).run();
const { passed, failed, skipped, failures, skips, slow } = tally;
console.log(`\n${lines.join("\n")}\n\n${Math.round(performance.now() / 1000)} s\n`);
// Not a failure: on a busy machine each may be.
if (tier === "gate" && slow.length > 0) console.log(`over ${SLOW_MS / 1000} s, too long for the gate:\n${slow.join("\n")}\n`);
// A skip says that this machine lacks something; CI has installed everything, so there a skip is a failure.
const skipsFail = skipped > 0 && isCi();
if (skipsFail) console.log("in CI a skipped test counts as failed");
for (const each of skipsFail ? [...failures, ...skips] : failures) console.log(`FAILED ${each}`);
console.log(`${passed} passed, ${failed + (skipsFail ? skipped : 0)} failed${skipped > 0 && !skipsFail ? `, ${skipped} skipped` : ""}`);
process.exitCode = failed > 0 || skipsFail ? 1 : 0;

function isCi(): boolean {
  return ["1", "true"].includes(process.env["CI"] ?? "");
}
