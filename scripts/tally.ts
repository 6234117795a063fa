/** What a run of vitest comes to: how many tests passed and failed, and a line for each that failed. */
import { readFileSync } from "node:fs";
import { relative } from "node:path";
import { stripVTControlCharacters } from "node:util";
import { ROOT } from "./run.ts";

export interface Tally {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  /** One line each: the file, the whole name of the test, the first line of its error. */
  readonly failures: readonly string[];
  /** Those that were skipped, likewise. */
  readonly skips: readonly string[];
  /** Tests that took longer than any should that runs each time. */
  readonly slow: readonly string[];
  /** All tests, the longest first, with their seconds. */
  readonly dearest: readonly string[];
}

/** What takes longer belongs to the night, with its rule in the simulator. */
export const SLOW_MS = 20_000;
/** An error's first line may be a whole answer; the list of failures has to be read at a glance. */
const ERROR_CHARS = 300;

interface VitestTest {
  readonly fullName: string;
  readonly status: string;
  readonly duration?: number | null;
  readonly tags: readonly string[];
  readonly failureMessages?: readonly string[] | null;
}

/** What vitest's json reporter writes, as far as we read it. */
interface VitestReport {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly testResults: readonly {
    readonly name: string;
    readonly status: string;
    readonly message: string;
    readonly assertionResults: readonly VitestTest[];
  }[];
}

/** What several runs come to together. */
export function sumOf(tallies: readonly Tally[]): Tally {
  const sum = (count: "passed" | "failed" | "skipped") => tallies.reduce((total, tally) => total + tally[count], 0);
  const all = (list: "failures" | "skips" | "slow" | "dearest") => tallies.flatMap((tally) => tally[list]);
  return {
    passed: sum("passed"),
    failed: sum("failed"),
    skipped: sum("skipped"),
    failures: all("failures"),
    skips: all("skips"),
    slow: all("slow"),
    dearest: all("dearest"),
  };
}

/** A step that is right or wrong as a whole, and is named by itself. */
export function wholeTally(name: string, isRight: boolean, why: string): Tally {
  const failures = isRight ? [] : [`${name}: ${why}`];
  return { passed: isRight ? 1 : 0, failed: failures.length, skipped: 0, failures, skips: [], slow: [], dearest: [] };
}

/** The tally of one vitest run that left out the tests with some tags. A file that did not load, a failed hook or threshold is a failure that no test shows. */
export function vitestTally(name: string, reportFile: string, code: number, leftOut: readonly string[] = []): Tally {
  let report: VitestReport;
  try {
    report = JSON.parse(readFileSync(reportFile, "utf8")) as VitestReport;
  } catch {
    // No report: vitest itself failed and has said why on the terminal.
    return { ...wholeTally(name, code === 0, `vitest ended with code ${code} and wrote no report`), passed: 0 };
  }
  const failures = report.testResults.flatMap((file) => {
    const path = relative(ROOT, file.name);
    const tests = file.assertionResults
      .filter(({ status }) => status === "failed")
      .map((test) => `${path} > ${test.fullName.trim()}: ${firstLine(test.failureMessages?.[0])}`);
    if (tests.length > 0 || file.status !== "failed") return tests;
    return [`${path}, outside of its tests: ${firstLine(file.message)}`];
  });
  const unsaid = code !== 0 && failures.length === 0;
  if (unsaid) failures.push(`${name}: vitest ended with code ${code} though no test failed; its output says why`);
  const tests = report.testResults.flatMap((file) => file.assertionResults.map((test) => ({ ...test, path: relative(ROOT, file.name) })));
  const isLeftOut = ({ tags }: VitestTest) => tags.some((tag) => leftOut.includes(tag));
  const skips = tests.filter((test) => !["passed", "failed"].includes(test.status) && !isLeftOut(test));
  const longest = tests.toSorted((a, b) => (b.duration ?? 0) - (a.duration ?? 0));
  const timed = ({ path, fullName, duration }: (typeof tests)[number]) =>
    `${((duration ?? 0) / 1000).toFixed(1)} s  ${path} > ${fullName.trim()}`;
  return {
    passed: report.numPassedTests,
    failed: failures.length,
    skipped: skips.length,
    failures,
    skips: skips.map(({ path, fullName }) => `${path} > ${fullName.trim()}: skipped`),
    slow: longest.filter(({ duration }) => (duration ?? 0) > SLOW_MS).map(timed),
    dearest: longest.map(timed),
  };
}

/** A kind of test fails in the gate when it takes more than this much of its budget of CPU. */
const ALLOWED_SHARE = 1.2;
const DEAREST = 10;

/** The tally of a kind of test, with one more failure that names the dearest tests when it took more than its budget (s) and a fifth. */
export function withinBudget(
  tally: Tally,
  took: { readonly name: string; readonly cpuSeconds: number; readonly budget?: number | undefined },
): Tally {
  const { name, cpuSeconds, budget = Number.POSITIVE_INFINITY } = took;
  if (cpuSeconds <= budget * ALLOWED_SHARE) return tally;
  const over = `${name}: took ${cpuSeconds.toFixed(0)} s of CPU, and may take ${budget} s and a fifth; the dearest tests follow`;
  return {
    ...tally,
    failed: tally.failed + 1,
    failures: [...tally.failures, over, ...tally.dearest.slice(0, DEAREST).map((test) => `${name}: ${test}`)],
  };
}

function firstLine(text: string | undefined): string {
  const line =
    stripVTControlCharacters(text ?? "")
      .trim()
      .split("\n", 1)[0] ?? "";
  if (line === "") return "its error says nothing";
  return line.length > ERROR_CHARS ? `${line.slice(0, ERROR_CHARS)} …` : line;
}
