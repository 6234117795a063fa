/** The generated parts of docs/reference/benchmarks.md and docs/performance.md, and the plots, made from bench/results/*.json. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { cellText, type Goal, type Kept, type Verdict, verdict } from "./_results.ts";
import { allPlots, featured, summary } from "./_summary.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const RESULTS = join(ROOT, "bench", "results");
/** The plots of docs/performance.md. A plot that the page no longer shows is removed. */
export const PLOTS = "docs/plots";

function goalRow(goal: Goal): readonly string[] {
  const wanted = goal.atLeast === undefined ? `≤ ${cellText(goal.atMost)}` : `≥ ${cellText(goal.atLeast)}`;
  const { low, high } = goal.shown?.ratio ?? {};
  const interval = low === undefined ? "" : ` (${cellText(low)}–${cellText(high)})`;
  const value = goal.value === undefined ? "–" : `${cellText(goal.value)}${interval} ${goal.unit}`;
  const judged = goal.note === undefined ? verdict(goal) : `${verdict(goal)}: ${goal.note}`;
  return [goal.name, `${wanted} ${goal.unit}`, value, judged];
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n");
}

function versionsText(versions: Kept["versions"]): string {
  return Object.entries(versions)
    .map(([name, version]) => `${name} ${version}`)
    .join(", ");
}

function section({ name, command, machine, versions, commit, date, goals, tables, notes }: Kept): string {
  const { cpu, cores, memoryGiB, kernel, loadAverage } = machine;
  const parts = [
    `## ${name}`,
    `\`${command}\`: commit ${commit}, ${date} UTC; ${cpu}, ${cores} cores, ${memoryGiB} GiB, Linux ${kernel}, load average before it ${loadAverage}; ${versionsText(versions)}.`,
    table(["goal", "wanted", "measured", "verdict"], goals.map(goalRow)),
  ];
  for (const [title, rows] of Object.entries(tables)) {
    const columns = Object.keys(rows[0] ?? {});
    parts.push(
      `### ${title}`,
      table(
        columns,
        rows.map((row) => columns.map((column) => cellText(row[column]))),
      ),
    );
  }
  parts.push(notes.map((note) => `- ${note}`).join("\n"));
  return parts.join("\n\n");
}

/** One row for each section: where it is, how old it is, and how many of its goals were reached. */
function overview(kept: readonly Kept[]): string {
  const rows = kept.map(({ name, commit, date, machine, goals }) => {
    const verdicts = goals.map(verdict);
    const count = (wanted: Verdict) => String(verdicts.filter((each) => each === wanted).length);
    const counts = [count("reached"), count("uncertain"), count("missed"), count("no verdict")];
    return [`[${name}](#${name})`, commit, date.slice(0, 10), String(machine.loadAverage), ...counts];
  });
  const head = ["benchmark", "commit", "measured on", "load average before it", "goals reached", "uncertain", "missed", "no verdict"];
  return table(head, rows);
}

function everyKept(): readonly Kept[] {
  const files = readdirSync(RESULTS).filter((file) => file.endsWith(".json"));
  return files.toSorted().map((file) => JSON.parse(readFileSync(join(RESULTS, file), "utf8")) as Kept);
}

/** A page written by hand, with its generated part between marks of that name. */
function filled(page: string, parts: Readonly<Record<string, string>>): readonly [string, string] {
  let text = readFileSync(join(ROOT, page), "utf8");
  for (const [name, part] of Object.entries(parts)) {
    text = text.replace(
      new RegExp(`(<!-- ${name} -->)[^]*(<!-- /${name} -->)`),
      (_, start: string, end: string) => `${start}\n${part}\n${end}`,
    );
  }
  return [page, text];
}

/** The files made from the results: the text of each, by its path from the root. Runs nothing: benchmarks leave their results when they run. */
export function resultPages(): Readonly<Record<string, string>> {
  const kept = everyKept();
  const { text, plots } = featured(kept);
  return Object.fromEntries([
    filled("docs/reference/benchmarks.md", { results: [overview(kept), ...kept.map(section)].join("\n\n") }),
    filled("docs/performance.md", { plots: text, rows: summary(kept) }),
    ...Object.entries(plots).map(([file, plot]) => [`${PLOTS}/${file}`, plot] as const),
  ]);
}

/** A plot of every row of docs/performance.md, by the name of its file. */
export function everyPlot(): Readonly<Record<string, string>> {
  return allPlots(everyKept());
}
