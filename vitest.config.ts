/** One project a kind of test, so that each verb of package.json runs its own kind and nothing else. */
import { defineConfig } from "vitest/config";
import { IMPURE_ROOMS } from "./scripts/rooms.ts";

/** Everything under test/ that is not a unit test has its own folder. */
const KINDS = ["sim", "e2e", "interop", "docs", "chaos", "long", "nightly", "soak"] as const;
const KINDS_BELOW = KINDS.map((kind) => `test/${kind}/**`);

/** Before tests that start nodes as processes of their own. */
const PACKED = { globalSetup: ["test/program-setup.ts"] };

/** Hold the repository to its rules: cheap enough for each push. */
const RULES = ["test/tidy.test.ts"];
/** Plant faults for the tools that check it, and start those: processes, and seconds. */
const CHECKS = ["test/checks.test.ts", "test/failed-names.test.ts"];
/** Unit tests that use files, threads, sockets, processes or real time, and wait for them. */
const IO = "test/**/*.io.test.ts";

/** Of e2e, those that judge how long something takes, or that try to fill the machine. Most of their time is waiting. */
const TIMED = [
  "browser",
  "dns-rate",
  "dns-sockets",
  "edge-hostile",
  "eight-nodes",
  "core-driver",
  "fabric-transport",
  "failed-starts",
  "fault-net",
  "gzip-places",
  "honest-bursts",
  "hostile-http2",
  "journal-faults",
  "lying-peer",
  "read-workers-promises",
].map((name) => `test/e2e/${name}.test.ts`);

/**
 * The tier of a test that is not in the gate: a tag of the test (`{ tags: ["night"] }`), of its group, or of its file (`@module-tag night` in
 * the comment at its head). `scripts/test.ts` says which tier runs what.
 */
const TAGS = [
  { name: "night", description: "Repeats at a higher level, or at a larger size, what a test of the gate shows." },
  { name: "path", description: "Runs in the gate of CI when the protos, DNS, the listeners or the store differ from 50 commits ago." },
];

const testsOf = (kind: string, ...names: readonly string[]) => names.map((name) => `test/${kind}/${name}.test.ts`);
/** Compute and measure no time: hours of virtual time, thousands of histories, planted bugs. Two files at a time. */
const VIRTUAL = [
  ...testsOf("long", "catalog", "leaks", "leaving-sim", "membership", "sim-mutants", "star"),
  ...testsOf(
    "nightly",
    "dns-fuzz",
    "hit-rate",
    "quiet-hour",
    "regions",
    "resolver",
    "resolver-worlds",
    "sim-scenarios",
    "summaries",
    "traffic",
  ),
];
/** Real processes that wait for minutes, use little of a core, and judge no time: all at a time. */
const WAITING = testsOf("long", "edge-leaks", "every-answer", "extreme-policy", "frozen", "held-main", "hung-dns-process", "lost-origin");

export default defineConfig({
  test: {
    // Two cores are the machine this is tuned for; the processes that e2e tests start need one of them.
    maxWorkers: 2,
    // Failing fast beats hanging: every wait in a test has its own, shorter deadline and a message.
    testTimeout: 120_000,
    hookTimeout: 300_000,
    expect: { poll: { timeout: 60_000 } },
    setupFiles: ["test/seed-setup.ts"],
    tags: TAGS,
    coverage: {
      provider: "v8",
      // The gate needs the sums alone; `--coverage.reporter=html` shows the lines.
      reporter: ["text-summary"],
      reportsDirectory: "coverage",
      include: ["src/*/**/*.ts"],
      // Shells are covered by e2e, in other processes, where a percentage would say nothing.
      exclude: ["src/**/*.io.ts", `src/{${IMPURE_ROOMS.join(",")}}/**`],
      thresholds: { lines: 95, branches: 90 },
    },
    projects: [
      {
        extends: true,
        test: {
          name: "unit",
          include: ["test/**/*.test.ts"],
          exclude: [...KINDS_BELOW, IO, ...RULES, ...CHECKS],
          // Two processes for all files, not one for each: loading everything anew for each costs more than the tests.
          isolate: false,
          setupFiles: ["test/shared-setup.ts"],
        },
      },
      {
        extends: true,
        test: {
          name: "io",
          include: [IO],
          exclude: KINDS_BELOW,
          isolate: false,
          // These wait more than they work.
          maxWorkers: 3,
          sequence: { groupOrder: 3 },
          setupFiles: ["test/shared-setup.ts"],
        },
      },
      { extends: true, test: { name: "rules", include: RULES } },
      { extends: true, test: { name: "checks", include: CHECKS } },
      // Pure machines in virtual time share a process: its compiler has seen their code by the second file.
      { extends: true, test: { name: "sim", include: ["test/sim/**/*.test.ts"], isolate: false, testTimeout: 600_000 } },
      {
        extends: true,
        test: {
          ...PACKED,
          name: "e2e",
          include: ["test/e2e/**/*.test.ts"],
          exclude: TIMED,
          testTimeout: 300_000,
          // Real nodes wait more than they work. Loading the tests' own modules anew for each file costs as much as starting nodes.
          maxWorkers: 4,
          // Kinds with other numbers of workers run one after another, when more than one is asked for.
          sequence: { groupOrder: 1 },
          isolate: false,
        },
      },
      {
        extends: true,
        test: {
          ...PACKED,
          name: "e2e timed",
          include: TIMED,
          maxWorkers: 2,
          sequence: { groupOrder: 2 },
          testTimeout: 300_000,
        },
      },
      {
        extends: true,
        test: {
          ...PACKED,
          name: "interop",
          include: ["test/interop/**/*.test.ts"],
          fileParallelism: false,
          testTimeout: 300_000,
        },
      },
      { extends: true, test: { name: "docs", include: ["test/docs/**/*.test.ts"], fileParallelism: false, testTimeout: 300_000 } },
      {
        extends: true,
        test: { ...PACKED, name: "chaos", include: ["test/chaos/**/*.test.ts"], fileParallelism: false, testTimeout: 900_000 },
      },
      {
        extends: true,
        // Concurrent tests of a file are processes of their own: as many as there are cores.
        test: {
          ...PACKED,
          name: "long",
          include: ["test/long/**/*.test.ts"],
          exclude: [...VIRTUAL, ...WAITING],
          fileParallelism: false,
          maxConcurrency: 2,
          testTimeout: 1_200_000,
        },
      },
      { extends: true, test: { name: "virtual", include: VIRTUAL, maxConcurrency: 2, testTimeout: 3_600_000 } },
      {
        extends: true,
        test: { ...PACKED, name: "long waiting", include: WAITING, maxWorkers: 4, maxConcurrency: 3, testTimeout: 1_200_000 },
      },
      // At the sizes of the goals; shorter forms are in the other kinds.
      {
        extends: true,
        test: {
          ...PACKED,
          name: "nightly",
          include: ["test/nightly/**/*.test.ts"],
          exclude: VIRTUAL,
          fileParallelism: false,
          testTimeout: 3_600_000,
        },
      },
      { extends: true, test: { ...PACKED, name: "soak", include: ["test/soak/**/*.test.ts"], fileParallelism: false } },
    ],
  },
});
