/** What every benchmark says beside its figures, and how figures of noisy rounds become one with a spread. */
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { cpus, loadavg, release, totalmem } from "node:os";
import { basename, isAbsolute, join } from "node:path";
import { fileURLToPath } from "node:url";
import { interval } from "./_interval.ts";
import { askedVersions } from "./_peers.ts";
import { longestHoldMs, loopNotes } from "./_processes.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));

/** The environment variable by which `npm run bench` says of which commit it built dist. */
export const BUILT_OF = "BENCH_BUILT_OF";

/** Middle, least and most of several rounds. */
export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/** Of the rounds' own ratios, with the 95 % interval of their mean where there are several. */
export interface Ratio extends Spread {
  readonly low?: number;
  readonly high?: number;
}

/** The figures behind a goal, for its row in docs/reference/benchmarks.md and its plot. */
export interface Shown {
  /** What is done, in words of a user: "an exact query of ten entries, 64 under way". */
  readonly work: string;
  /** Who does it beside us: "etcd, serializable range". Nobody: a limit of our own. */
  readonly beside?: string;
  /** Of `ours` and `theirs`: "µs of CPU a request". */
  readonly unit: string;
  /** More is better, as with requests a second; by default less is. */
  readonly isMoreBetter?: boolean;
  /** Absent: it was not measured. */
  readonly ours?: Spread | number;
  /** Absent: there is no such peer, or it was not measured. */
  readonly theirs?: Spread | number;
  /** Whose bars they are, where it is not Waymark beside the first words of `beside`. */
  readonly oursName?: string;
  readonly theirsName?: string;
  /** Of the goal's value, where rounds give one. */
  readonly ratio?: Ratio;
  /** The same comparison at other rates: "half 1.94 · low 1.71". */
  readonly otherRates?: string;
}

/** A figure that something is wanted of. */
export interface Goal {
  /** The same in each run: without anything measured. */
  readonly name: string;
  /** undefined: no verdict, and `note` says why. */
  readonly value: number | undefined;
  readonly unit: string;
  readonly atLeast?: number;
  readonly atMost?: number;
  readonly note?: string;
  /** Absent: the row of the goal shows only its value. */
  readonly shown?: Shown;
}

export interface Report {
  readonly name: string;
  /** False: it is printed, and not kept. A text: so too, and why. */
  readonly isKept?: boolean | string;
  /** One row a case; columns are the same in a table. */
  readonly tables: Readonly<Record<string, readonly Readonly<Record<string, unknown>>[]>>;
  readonly goals: readonly Goal[];
  /** How it is measured and what differs between the peers, in whose favour. */
  readonly notes: readonly string[];
}

/** A report as it lies in bench/results. */
export interface Kept extends Omit<Report, "isKept"> {
  readonly command: string;
  readonly machine: {
    readonly cpu: string;
    readonly cores: number;
    readonly memoryGiB: number;
    readonly kernel: string;
    readonly loadAverage: number;
  };
  /** Of Node, and of each peer in it with the Go that built that. */
  readonly versions: Readonly<Record<string, string>>;
  readonly commit: string;
  /** To the minute. */
  readonly date: string;
}

/** Of a few rounds. Goals are judged by it, so it keeps more digits than are shown. */
export function spread(values: readonly number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (i: number) => sorted[i] ?? Number.NaN;
  const exact = (value: number) => Number(value.toPrecision(6));
  const median = (at((sorted.length - 1) >> 1) + at(sorted.length >> 1)) / 2;
  return { median: exact(median), min: exact(at(0)), max: exact(at(sorted.length - 1)) };
}

/** Three digits that matter. */
export function round(value: number): number {
  return Number.isFinite(value) && value !== 0 ? Number(value.toPrecision(value >= 1000 ? Math.ceil(Math.log10(value)) : 3)) : value;
}

/** The share `p` of values is at or below this. */
export function percentile(values: readonly number[], p: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return round(sorted[Math.min(sorted.length - 1, Math.ceil(sorted.length * p) - 1)] ?? Number.NaN);
}

/** Rounds of two peers in the order A B B A …, so that a drift of the machine favours neither; `b` may be absent. */
export async function paired<A, B = A>(
  rounds: number,
  a: () => Promise<A>,
  b: (() => Promise<B>) | undefined,
): Promise<{ readonly a: readonly A[]; readonly b: readonly B[] }> {
  const results: { a: A[]; b: B[] } = { a: [], b: [] };
  for (let i = 0; i < rounds; i++) {
    const isOurs = i % 2 === 0;
    if (isOurs) results.a.push(await a());
    if (b !== undefined) results.b.push(await b());
    if (!isOurs) results.a.push(await a());
  }
  return results;
}

/** Of paired rounds, ours over theirs; undefined without a peer. */
export function ratioOf(ours: readonly number[], theirs: readonly number[]): Ratio | undefined {
  if (theirs.length === 0) return undefined;
  const ratios = ours.map((value, i) => value / (theirs[i] ?? Number.NaN));
  if (ratios.length < 2) return spread(ratios);
  const { low, high } = interval(ratios);
  return { ...spread(ratios), low, high };
}

/** What is made by benchmarks, or is not measured: it may differ from the commit. */
const NOT_MEASURED = [":!bench/results", ":!docs"];

/** The commit of a checkout: what is measured. */
export function commit(root = ROOT): string {
  try {
    const git = (...args: string[]) => execFileSync("git", ["-C", root, ...args], { encoding: "utf8" }).trim();
    return git("rev-parse", "--short=12", "HEAD") + (git("status", "--porcelain", "--", ".", ...NOT_MEASURED) === "" ? "" : WITH_CHANGES);
  } catch {
    return "unknown";
  }
}

const WITH_CHANGES = " with changes";

/** Of the last minute before this benchmark: what it does itself does not count. */
const [loadBefore = 0] = loadavg();

/** Why this run's results are not kept; undefined: they are. */
function whyNotKept({ isKept, measured }: { readonly isKept: boolean | string; readonly measured: string }): string | undefined {
  if (measured.endsWith(WITH_CHANGES)) return "the tree has changes that are not committed";
  if (measured !== process.env[BUILT_OF]) return "dist was not built of this commit by `npm run bench`";
  if (typeof isKept === "string") return isKept;
  return isKept ? undefined : "it is a part, or a flag makes it weaker than its default";
}

/** A folder of this machine as others may have it: beside their own. */
function anywhere(argument: string): string {
  return isAbsolute(argument) ? `../${basename(argument)}` : argument;
}

/** Nothing is to hold a node's loop for longer, in ms. */
const MAX_HOLD_MS = 20;

function loopGoals(): readonly Goal[] {
  const value = longestHoldMs();
  if (value === undefined) return [];
  return [{ name: "longest blocking of the event loop by CPU work, garbage collections included", value, unit: "ms", atMost: MAX_HOLD_MS }];
}

/** Prints the tables on stderr and JSON on stdout, and keeps it in bench/results unless it says otherwise. */
export function report({ isKept = true, ...told }: Report): void {
  const result = { ...told, goals: [...told.goals, ...loopGoals()], notes: [...told.notes, ...loopNotes()] };
  const model = /model name\s*:\s*(.*)/.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1] ?? cpus()[0]?.model ?? "unknown";
  const file = join("bench", "results", `${result.name}.json`);
  const whole: Kept = {
    ...result,
    command: `npm run bench -- ${[basename(process.argv[1] ?? "", ".ts"), ...process.argv.slice(2).map(anywhere)].join(" ")}`,
    machine: {
      cpu: model,
      cores: cpus().length,
      memoryGiB: Math.round(totalmem() / 1024 ** 3),
      kernel: release(),
      loadAverage: round(loadBefore),
    },
    versions: { node: process.version, ...askedVersions() },
    commit: commit(),
    date: new Date().toISOString().slice(0, 16),
  };
  for (const [title, rows] of Object.entries(result.tables)) console.error(`\n${result.name}: ${title}\n${textTable(rows)}`);
  for (const note of whole.notes) console.error(`- ${note}`);
  for (const goal of result.goals) console.error(goalText(goal));
  const why = whyNotKept({ isKept, measured: whole.commit });
  if (why === undefined) writeFileSync(join(ROOT, file), `${JSON.stringify(whole, undefined, 2)}\n`);
  else console.error(`${result.name}: printed, not kept in ${file}, since ${why}`);
  console.log(JSON.stringify(whole));
}

/** As a table has it: a text says why there is none. */
type Figure = Spread | number | string | undefined;

interface WantedRatio extends Pick<Goal, "name" | "atLeast" | "atMost"> {
  /** Absent: the row of the goal shows no figures of both sides. */
  readonly shown?: Omit<Shown, "ours" | "theirs" | "ratio">;
  /** A number where there were no rounds. */
  readonly ratio: Figure;
  readonly ours: Figure;
  /** Shown where there is a ratio. */
  readonly theirs: Figure;
  /** Beside a figure. */
  readonly note?: string | undefined;
  /** The note where there is none. */
  readonly missing?: string;
}

/** A goal for a ratio of ours and a peer's; without a verdict where the peer was not measured. */
export function ratioGoal({ shown, note, missing = "not measured: the peer is not installed", ...wanted }: WantedRatio): Goal {
  const { ratio, ours, theirs, ...bounds } = wanted;
  const figure = (of: Figure) => (typeof of === "string" ? undefined : of);
  const [over, our, their] = [figure(ratio), figure(ours), figure(theirs)];
  const isMeasured = over !== undefined && our !== undefined && their !== undefined;
  const told = isMeasured ? note : missing;
  const rounds = typeof over === "object" && { ratio: over };
  return {
    ...bounds,
    value: isMeasured ? (typeof over === "object" ? over.median : over) : undefined,
    unit: "×",
    ...(told !== undefined && { note: told }),
    ...(shown && { shown: { ...shown, ...(our !== undefined && { ours: our }), ...(isMeasured && { theirs: their, ...rounds }) } }),
  };
}

export type Verdict = "reached" | "missed" | "uncertain" | "no verdict";

/** Uncertain: the interval of the mean over the rounds, or where there is none the rounds, lies on both sides of what is wanted. */
export function verdict({ value, atLeast, atMost, shown }: Goal): Verdict {
  // JSON has no NaN: it comes back as null, which is not less than anything.
  if (typeof value !== "number" || Number.isNaN(value)) return "no verdict";
  const isGood = (one: number) => one >= (atLeast ?? one) && one <= (atMost ?? one);
  const { min = value, max = value, low = min, high = max } = shown?.ratio ?? {};
  // With few rounds the interval is wide, and may reach what no round did.
  const isMissedByAll = !isGood(min) && !isGood(max) && !isGood(value);
  if (isGood(low) !== isGood(high) && !isMissedByAll) return "uncertain";
  return isGood(value) ? "reached" : "missed";
}

/** Above this share of a core taken by others, a time by the clock says little. */
export const MAX_OTHERS = 0.1;

/**
 * A goal by the clock: no verdict when others used the core. A limit of our own that is reached all the same stays, since others can only have slowed
 * us; in a ratio they may have slowed the peer.
 */
export function quiet(goal: Goal, others: number): Goal {
  const isRatio = goal.unit === "×";
  if (goal.value === undefined || others <= MAX_OTHERS || (!isRatio && verdict(goal) === "reached")) return goal;
  const seen = `${cellText(goal.value)} ${goal.unit} while others took ${Math.round(others * 100)} % of the core`;
  return { ...goal, value: undefined, note: goal.note === undefined ? seen : `${goal.note}; ${seen}` };
}

function goalText(goal: Goal): string {
  const wanted = goal.atLeast === undefined ? `≤ ${goal.atMost}` : `≥ ${goal.atLeast}`;
  const note = goal.note === undefined ? "" : ` (${goal.note})`;
  return `${verdict(goal).padEnd(10)} ${goal.name}: ${goal.value === undefined ? "-" : cellText(goal.value)} ${goal.unit}, goal ${wanted}${note}`;
}

/** A value as people read it; a spread as `median (min–max)`. */
export function cellText(value: unknown): string {
  // A thousandth or more has three decimals. What is less would read as nothing.
  if (typeof value === "number") return round(value).toLocaleString("en-US", { maximumFractionDigits: Math.abs(value) < 0.001 ? 6 : 3 });
  if (typeof value === "string" || typeof value === "boolean") return String(value);
  if (typeof value !== "object" || value === null || !("median" in value)) return "-";
  const { median, min, max } = value as Spread;
  return `${cellText(median)} (${cellText(min)}–${cellText(max)})`;
}

function textTable(rows: readonly Readonly<Record<string, unknown>>[]): string {
  const columns = Object.keys(rows[0] ?? {});
  const lines = [columns, ...rows.map((row) => columns.map((column) => cellText(row[column])))];
  const widths = columns.map((_, c) => Math.max(...lines.map((row) => (row[c] ?? "").length)));
  return lines.map((row) => row.map((cell, c) => cell.padEnd(widths[c] ?? 0)).join("  ")).join("\n");
}
