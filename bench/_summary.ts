/** What docs/performance.md shows of bench/results/*.json: a row for each goal that has something to show, and a plot for each row. */
import { type Bar, plot } from "./_plot.ts";
import { cellText, type Goal, type Kept, type Shown, verdict } from "./_results.ts";

/** The order of a reader's interest: reading, writing, watching, many nodes, what a node takes. The others come after, by name. */
const ORDER = [
  "query",
  "register",
  "watch",
  "fleet",
  "workers",
  "cluster",
  "members",
  "propagation",
  "membership",
  "flood",
  "growth",
  "memory",
  "restart",
];

interface Row {
  readonly benchmark: string;
  readonly goal: Goal;
  readonly shown: Shown;
  /** Of its plot, without the folder. */
  readonly file: string;
}

function rowsOf(kept: readonly Kept[]): readonly Row[] {
  const place = ({ name }: Kept) => (ORDER.indexOf(name) + 1 || ORDER.length + 1) - 1;
  return kept
    .toSorted((a, b) => place(a) - place(b) || (a.name < b.name ? -1 : 1))
    .flatMap(({ name, goals }) =>
      goals.flatMap((goal, i) =>
        goal.shown === undefined ? [] : [{ benchmark: name, goal, shown: goal.shown, file: `${name}-${i + 1}.svg` }],
      ),
    );
}

/** Whose name stands before a comma; what it does stands after it. */
function nameOf(beside: string): string {
  return beside.split(/[,;:(]/)[0]?.trim() ?? beside;
}

function plotOf({ goal, shown }: Row): string {
  const { work, beside, unit, ours, theirs } = shown;
  const bars: Bar[] = [{ label: "Waymark", value: ours }];
  if (beside !== undefined && theirs !== undefined) bars.push({ label: nameOf(beside), value: theirs });
  const limit = beside === undefined ? (goal.atMost ?? goal.atLeast) : undefined;
  const told = bars.map(({ label, value }) => `${label} ${cellText(value)}`).join(", ");
  return plot(`${work}: ${told} ${unit}`, bars, limit);
}

/** Each plot by its file's name. */
export function plots(kept: readonly Kept[]): Readonly<Record<string, string>> {
  return Object.fromEntries(rowsOf(kept).map((row) => [row.file, plotOf(row)]));
}

function valueOf({ value, unit, shown }: Goal): string {
  if (typeof value !== "number") return "–";
  const { ratio } = shown ?? {};
  const range = ratio === undefined ? "" : ` (${cellText(ratio.min)}–${cellText(ratio.max)})`;
  return `${cellText(value)}${range}${unit === "×" ? "" : ` ${unit}`}`;
}

function tableRow({ goal, shown, file }: Row): string {
  const wanted = goal.atLeast === undefined ? `≤ ${cellText(goal.atMost)}` : `≥ ${cellText(goal.atLeast)}`;
  const judged = goal.note === undefined ? verdict(goal) : `${verdict(goal)}: ${goal.note}`;
  const cells = [
    shown.work,
    shown.beside ?? "a limit of our own",
    valueOf(goal),
    wanted,
    judged,
    `![${shown.unit}](plots/${file})<br>${shown.unit}`,
  ];
  return `| ${cells.join(" | ")} |`;
}

/** The tables, one for each benchmark. */
export function summary(kept: readonly Kept[]): string {
  const rows = rowsOf(kept);
  if (rows.length === 0) return "No benchmark has run since this page has rows.";
  const parts = [...new Set(rows.map(({ benchmark }) => benchmark))].flatMap((name) => {
    const of = kept.find((each) => each.name === name);
    if (of === undefined) return [];
    const { date, commit, machine, versions } = of;
    const peers = Object.entries(versions).map(([who, version]) => `${who} ${version}`);
    return [
      `### ${name}`,
      `[All figures and how they are measured](reference/benchmarks.md#${name}); commit ${commit}, ${date.slice(0, 10)}, load average ${machine.loadAverage}; ${peers.join(", ")}.`,
      [
        "| work | beside | measured | goal | verdict | |",
        "| --- | --- | --- | --- | --- | --- |",
        ...rows.filter((row) => row.benchmark === name).map(tableRow),
      ].join("\n"),
    ];
  });
  return parts.join("\n\n");
}
