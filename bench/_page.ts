/** The generated parts of docs/reference/benchmarks.md and docs/performance.md, and the plots, made from bench/results/*.json. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { cellText, type Kept, type Verdict, verdict } from "./_results.ts";
import { SECTIONS, type Section } from "./_sections.ts";
import { allPlots, featured, goalTable, inOrder } from "./_summary.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const RESULTS = join(ROOT, "bench", "results");
/** The plots of docs/performance.md. A plot that the page no longer shows is removed. */
export const PLOTS = "docs/plots";

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n");
}

function versionsText(versions: Kept["versions"]): string {
  return Object.entries(versions)
    .map(([name, version]) => `${name} ${version}`)
    .join(", ");
}

function section(kept: Kept): string {
  const { name, command, machine, versions, commit, date, tables, notes } = kept;
  const { cpu, cores, memoryGiB, kernel, loadAverage } = machine;
  const { measures, reading } = proseOf(name);
  const parts = [
    `## ${name}`,
    `**Measured:** ${measures}`,
    `**Reading:** ${reading}`,
    goalTable(kept),
    ...Object.entries(tables).flatMap(([title, rows]) => {
      const columns = Object.keys(rows[0] ?? {});
      const cells = rows.map((row) => columns.map((column) => cellText(row[column])));
      return [`### ${title}`, table(columns, cells)];
    }),
    `${notes.length > 0 ? "Notes:\n\n" : ""}${notes.map((note) => `- ${note}`).join("\n")}`,
    `Run: \`${command}\`, commit ${commit}, ${date} UTC; ${cpu}, ${cores} cores, ${memoryGiB} GiB, Linux ${kernel}, load average before the run ${loadAverage}; ${versionsText(versions)}.`,
  ];
  return parts.join("\n\n");
}

function proseOf(name: string): Section {
  const prose = SECTIONS[name];
  if (prose === undefined) throw new Error(`bench/_sections.ts has no section for the benchmark "${name}"`);
  return prose;
}

/** One row for each section: its topic, its age, and how many of its goals were reached. */
export function overview(kept: readonly Kept[]): string {
  const rows = inOrder(kept).map(({ name, date, goals }) => {
    const { topic, peers } = proseOf(name);
    const verdicts = goals.map(verdict);
    const count = (wanted: Verdict) => String(verdicts.filter((each) => each === wanted).length);
    const counts = [count("reached"), count("uncertain"), count("missed"), count("no verdict")];
    return [`[${name}](#${name})`, topic, peers, date.slice(0, 10), ...counts];
  });
  return table(["benchmark", "measures", "compared with", "measured on", "goals reached", "uncertain", "missed", "no verdict"], rows);
}

function everyKept(): readonly Kept[] {
  const files = readdirSync(RESULTS).filter((file) => file.endsWith(".json"));
  return files.toSorted().map((file) => JSON.parse(readFileSync(join(RESULTS, file), "utf8")) as Kept);
}

/** A page written by hand, with generated parts between comments of their names. */
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
    filled("docs/reference/benchmarks.md", { contents: overview(kept), results: inOrder(kept).map(section).join("\n\n") }),
    filled("docs/performance.md", { figures: text }),
    ...Object.entries(plots).map(([file, plot]) => [`${PLOTS}/${file}`, plot] as const),
  ]);
}

/** A plot of every goal with figures, by the name of its file. */
export function everyPlot(): Readonly<Record<string, string>> {
  return allPlots(everyKept());
}
