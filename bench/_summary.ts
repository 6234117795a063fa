/** Tables and plots made from bench/results/*.json: six figures and their plot for docs/performance.md, and a table of goals for each benchmark. */
import { type Bar, plot } from "./_plot.ts";
import { cellText, type Goal, type Kept, type Shown, verdict } from "./_results.ts";
import { SECTIONS } from "./_sections.ts";

/** A goal that docs/performance.md shows. */
interface Featured {
  /** Short, for the plot and the table. */
  readonly label: string;
  /** One unit of the work, in the plural. Absent: the figure is no CPU time. */
  readonly units?: string;
  /** What limits the figure. */
  readonly reading: string;
}

/** By the goal's name. */
const FEATURED: Readonly<Record<string, Featured>> = {
  "an exact query of 10 entries among 10,000, 64 under way, beside etcd, serializable range": {
    label: "Read over gRPC",
    units: "requests",
    reading: "Most of the CPU time of a query is spent in Node's HTTP/2 implementation.",
  },
  "an exact query of 10 entries among 10,000 through HTTP/JSON, 64 under way, beside Consul, health endpoint over HTTP/1.1 and JSON, stale":
    {
      label: "Read over HTTP/JSON",
      units: "requests",
      reading: "Waymark writes JSON from the stored bytes, without a JSON library.",
    },
  "a durable registration of 100 entries under one lease, beside etcd, a lease and then one transaction of 100 puts under it: two calls, each through Raft (ours is not)":
    {
      label: "Register, 100 per request",
      units: "entries",
      reading: "All entries in a batch share the request, the lease and the disk flush, so register many entries in one request.",
    },
  "a steady stream of changes sent to 1,000 watches, each with its own filter, 100 per connection, beside etcd, a watch each; each change goes through Raft (ours does not)":
    {
      label: "Deliver a change to a watch",
      units: "deliveries",
      reading: "A change is encoded once for all watches that receive it, and changes within 2 ms share a message.",
    },
  "DNS queries per CPU-second over CoreDNS with its cache": {
    label: "DNS answer over UDP",
    units: "answers",
    reading: "`node:dgram` needs one system call to read or write a packet, and these calls are most of the cost of an answer.",
  },
  "memory for 100,000 entries on disk, beside etcd, the same entries, which it writes through Raft (ours does not)": {
    label: "Memory, 100,000 entries",
    reading: "Waymark needs more memory than etcd, for Node, its libraries and the indexes of the entries.",
  },
};

const ABOUT_PLOT =
  "The plot shows the peer's cost divided by Waymark's. At the dashed line, both costs are equal. The line across the end of a bar spans the range from the lowest to the highest round.";

/** The file of the plot that docs/performance.md shows. */
const OVERVIEW = "overview.svg";

/** Words by which a peer is known, and its name among the versions of a result. */
const PROGRAMS: readonly (readonly [RegExp, string])[] = [
  [/^etcd/, "etcd"],
  [/^Consul/, "consul"],
  [/^NATS/, "nats"],
  [/memberlist/, "memberlist"],
  [/^CoreDNS/, "coredns"],
  [/^Knot/, "knotd"],
  [/node:(?:http2|dgram)/, "node"],
];

interface Row {
  readonly kept: Kept;
  readonly goal: Goal;
  readonly shown: Shown;
  /** Of its plot, without the folder. */
  readonly file: string;
}

/** In the order of the sections; results without a section come last, by name. */
export function inOrder(kept: readonly Kept[]): readonly Kept[] {
  const order = Object.keys(SECTIONS);
  const place = ({ name }: Kept) => (order.indexOf(name) + 1 || order.length + 1) - 1;
  return kept.toSorted((a, b) => place(a) - place(b) || (a.name < b.name ? -1 : 1));
}

function rowsOf(kept: readonly Kept[]): readonly Row[] {
  return inOrder(kept).flatMap((one) =>
    one.goals.flatMap((goal, i) =>
      goal.shown === undefined ? [] : [{ kept: one, goal, shown: goal.shown, file: `${one.name}-${i + 1}.svg` }],
    ),
  );
}

/** The name of the peer: the text before the first comma, clause or bracket. */
function nameOf(beside: string): string {
  return beside.split(/[,;:] | \(/)[0]?.trim() ?? beside;
}

/** Ours first. Empty where it was not measured. */
function barsOf({ beside, ours, theirs, oursName = "Waymark", theirsName }: Shown): readonly Bar[] {
  if (ours === undefined) return [];
  const other = theirs === undefined ? [] : [{ label: theirsName ?? nameOf(beside ?? ""), value: theirs }];
  return [{ label: oursName, value: ours }, ...other];
}

/** The figures of both sides as one line; empty where none was measured. */
function figures(shown: Shown): string {
  const each = barsOf(shown).map(({ label, value }) => `${label} ${cellText(value)}`);
  return each.length === 0 ? "" : `${each.join(", ")} ${shown.unit}`;
}

function plotOf({ goal, shown }: Row): string {
  const { work, beside, unit, isMoreBetter = false } = shown;
  const limit = beside === undefined ? (goal.atMost ?? goal.atLeast) : undefined;
  return plot({
    title: `${work}: ${figures(shown)}`,
    unit: `${unit} (${isMoreBetter ? "longer" : "shorter"} is better)`,
    bars: barsOf(shown),
    ...(limit !== undefined && { limit }),
  });
}

function drawn(rows: readonly Row[]): Readonly<Record<string, string>> {
  return Object.fromEntries(rows.filter(({ shown }) => barsOf(shown).length > 0).map((row) => [row.file, plotOf(row)]));
}

/** A plot of each row, by the name of its file. */
export function allPlots(kept: readonly Kept[]): Readonly<Record<string, string>> {
  return drawn(rowsOf(kept));
}

/** The six figures of docs/performance.md as a table and the sentences below it, and the plot by the name of its file. */
export function featured(kept: readonly Kept[]): { readonly text: string; readonly plots: Readonly<Record<string, string>> } {
  const all = rowsOf(kept);
  const rows = Object.entries(FEATURED).map(([name, { label, units, reading }]) => {
    const row = all.find(({ goal }) => goal.name === name);
    if (row === undefined) throw new Error(`no benchmark has the goal "${name}", which docs/performance.md shows`);
    return { ...row, label, units, reading };
  });
  const table = [
    "| | work | Waymark | peer | Waymark, per core and second |",
    "| --- | --- | --- | --- | --- |",
    ...rows.map((row) => {
      const { label, units, shown } = row;
      const cost = (value: Shown["ours"]) => (value === undefined ? "–" : `${cellText(value)} ${shortUnit(shown.unit)}`);
      const rate = units === undefined || shown.ours === undefined ? "–" : `${perSecond(shown.ours)} ${units}`;
      const peer = `${nameOf(shown.beside ?? "")}: ${cost(shown.theirs)}`;
      return `| **${label}** | ${shown.work} | ${cost(shown.ours)} | ${peer} | ${rate} |`;
    }),
  ];
  const bars = rows.map(({ label, shown, goal }) => ({
    label: `${label} / ${nameOf(shown.beside ?? "")}`,
    value: shown.ratio ?? goal.value ?? 0,
  }));
  const unit = "cost of the peer ÷ cost of Waymark: above 1, Waymark costs less";
  const title = bars.map(({ label, value }) => `${label}: ${cellText(value)}`).join("; ");
  const picture = plot({ title, unit, bars, limit: 1, areAllOurs: true });
  const alt = `Cost of the peer divided by the cost of Waymark. ${title}`;
  const notes = rows.map(
    ({ kept: { name }, label, reading }) => `- **${label}.** ${reading} [All figures](reference/benchmarks.md#${name}).`,
  );
  return {
    text: [table.join("\n"), ABOUT_PLOT, `![${alt}](plots/${OVERVIEW})`, notes.join("\n")].join("\n\n"),
    plots: { [OVERVIEW]: picture },
  };
}

/** "µs" of "µs of CPU a request", "MiB" of "MiB of the process's own memory (RssAnon)". */
function shortUnit(unit: string): string {
  return unit.split(" ")[0] ?? unit;
}

/** Units of work that one second of CPU time is enough for, by their cost in µs. To two digits: it is a hint. */
function perSecond(costUs: NonNullable<Shown["ours"]>): string {
  const us = typeof costUs === "number" ? costUs : costUs.median;
  return Number((1e6 / us).toPrecision(2)).toLocaleString("en-US");
}

function valueOf({ value, unit, shown }: Goal): string {
  if (typeof value !== "number") return "–";
  const { ratio, otherRates } = shown ?? {};
  const interval = ratio?.low === undefined ? "" : ` (${cellText(ratio.low)}–${cellText(ratio.high)})`;
  const others = otherRates === undefined ? "" : `<br>${otherRates}`;
  return `${cellText(value)}${interval} ${unit}${others}`;
}

/** With the version of the peer, where it is another program. */
function besideText({ versions }: Kept, beside: string | undefined): string {
  if (beside === undefined) return "–";
  const key = PROGRAMS.find(([word]) => word.test(beside))?.[1];
  const version = key === undefined ? undefined : versions[key]?.split(/[ ,]/)[0];
  return version === undefined ? beside : `${beside} (${version})`;
}

function goalRow(kept: Kept, goal: Goal): string {
  const { name, unit, shown } = goal;
  const wanted = goal.atLeast === undefined ? `≤ ${cellText(goal.atMost)}` : `≥ ${cellText(goal.atLeast)}`;
  const judged = goal.note === undefined ? verdict(goal) : `${verdict(goal)}: ${goal.note}`;
  const both = shown === undefined ? "" : figures(shown);
  return `| ${[shown?.work ?? name, besideText(kept, shown?.beside), both === "" ? "–" : both, valueOf(goal), `${wanted} ${unit}`, judged].join(" | ")} |`;
}

/** The table of a benchmark's goals. */
export function goalTable(kept: Kept): string {
  return [
    "| work | compared with | cost or time of each | result | goal | verdict |",
    "| --- | --- | --- | --- | --- | --- |",
    ...kept.goals.map((goal) => goalRow(kept, goal)),
  ].join("\n");
}
