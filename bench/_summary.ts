/** What docs/performance.md shows of bench/results/*.json: a row for each goal that has something to show, and a plot for each row. */
import { type Bar, plot } from "./_plot.ts";
import { cellText, type Goal, type Kept, type Shown, verdict } from "./_results.ts";

/** The order of a reader's interest: reading, writing, watching, many nodes, what a node takes. The others come after, by name. */
const ORDER = [
  "query",
  "resolver",
  "register",
  "watch",
  "dns",
  "fleet",
  "workers",
  "cluster",
  "members",
  "propagation",
  "membership",
  "tiers",
  "outage",
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

function inOrder(kept: readonly Kept[]): readonly Kept[] {
  const place = ({ name }: Kept) => (ORDER.indexOf(name) + 1 || ORDER.length + 1) - 1;
  return kept.toSorted((a, b) => place(a) - place(b) || (a.name < b.name ? -1 : 1));
}

function rowsOf(kept: readonly Kept[]): readonly Row[] {
  return inOrder(kept).flatMap(({ name, goals }) =>
    goals.flatMap((goal, i) =>
      goal.shown === undefined ? [] : [{ benchmark: name, goal, shown: goal.shown, file: `${name}-${i + 1}.svg` }],
    ),
  );
}

/** Whose name stands before a comma or a relative clause; what it does stands after it. */
function nameOf(beside: string): string {
  return beside.split(/[,;:] | \(/)[0]?.trim() ?? beside;
}

/** Ours first. Empty where it was not measured. */
function barsOf({ beside, ours, theirs, oursName = "Waymark", theirsName }: Shown): readonly Bar[] {
  if (ours === undefined) return [];
  const other = theirs === undefined ? [] : [{ label: theirsName ?? nameOf(beside ?? ""), value: theirs }];
  return [{ label: oursName, value: ours }, ...other];
}

function plotOf({ goal, shown }: Row): string {
  const { work, beside, unit, isMoreBetter = false } = shown;
  const bars = barsOf(shown);
  const limit = beside === undefined ? (goal.atMost ?? goal.atLeast) : undefined;
  const told = bars.map(({ label, value }) => `${label} ${cellText(value)}`).join(", ");
  return plot({
    title: `${work}: ${told} ${unit}`,
    unit: `${unit} (${isMoreBetter ? "longer" : "shorter"} is better)`,
    bars,
    ...(limit !== undefined && { limit }),
  });
}

/** Each plot by its file's name. */
export function plots(kept: readonly Kept[]): Readonly<Record<string, string>> {
  const drawn = rowsOf(kept).filter(({ shown }) => barsOf(shown).length > 0);
  return Object.fromEntries(drawn.map((row) => [row.file, plotOf(row)]));
}

function valueOf({ value, unit, shown }: Goal): string {
  if (typeof value !== "number") return "–";
  const { ratio, otherRates } = shown ?? {};
  const range = ratio === undefined ? "" : ` (${cellText(ratio.min)}–${cellText(ratio.max)})`;
  const others = otherRates === undefined ? "" : `<br>${otherRates}`;
  return `${cellText(value)}${range}${unit === "×" ? "" : ` ${unit}`}${others}`;
}

/** A figure with a unit is judged by our limit, also where another program's stands beside it. */
function besideText({ unit }: Goal, { beside }: Shown): string {
  if (beside === undefined) return "a limit of our own";
  return unit === "×" ? beside : `a limit of our own; beside it stands ${beside}`;
}

function tableRow({ goal, shown, file }: Row): string {
  const wanted = goal.atLeast === undefined ? `≤ ${cellText(goal.atMost)}` : `≥ ${cellText(goal.atLeast)}`;
  const judged = goal.note === undefined ? verdict(goal) : `${verdict(goal)}: ${goal.note}`;
  const told = barsOf(shown).map(({ label, value }) => `${label} ${cellText(value)}`);
  const drawing = told.length === 0 ? "" : `![${told.join(", ")} ${shown.unit}](plots/${file})<br>${told.join(" · ")} ${shown.unit}`;
  const cells = [shown.work, besideText(goal, shown), valueOf(goal), wanted, judged, drawing];
  return `| ${cells.join(" | ")} |`;
}

/** What each benchmark says at a glance, and the tables, one for each. */
export function summary(kept: readonly Kept[]): string {
  const rows = rowsOf(kept);
  if (rows.length === 0) return "No benchmark has run since this page has rows.";
  const parts = [...new Set(rows.map(({ benchmark }) => benchmark))].flatMap((name) => {
    const of = kept.find((each) => each.name === name);
    if (of === undefined) return [];
    const { date, commit, machine, versions } = of;
    const { cpu, cores, memoryGiB } = machine;
    const programs = Object.entries(versions).map(([who, version]) => `${who} ${version}`);
    return [
      `### ${name}`,
      `[All figures and how they are measured](reference/benchmarks.md#${name}). Measured on ${date.slice(0, 10)} at commit ${commit} on ${cpu}, ${cores} cores, ${memoryGiB} GiB, with ${programs.join(", ")}.`,
      [
        "| work | beside | measured | goal | verdict | |",
        "| --- | --- | --- | --- | --- | --- |",
        ...rows.filter((row) => row.benchmark === name).map(tableRow),
      ].join("\n"),
    ];
  });
  const glances = inOrder(kept).flatMap(({ glance = [] }) => (glance.length === 0 ? [] : [glance.join(" ")]));
  return [...glances, ...parts].join("\n\n");
}
