/** The parts of docs/performance.md that are made from bench/results/*.json: six plots with a sentence each, and a row for each goal that shows something. */
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

/** The goals whose plots the page shows, and for each a sentence about what bounds it. */
const FEATURED: Readonly<Record<string, string>> = {
  "an exact query of 10 entries among 10,000, 64 under way, beside etcd, serializable range":
    "Node's own HTTP/2 takes most of the time of a query.",
  "an exact query of 10 entries among 10,000 through HTTP/JSON, 64 under way, beside Consul, health endpoint over HTTP/1.1 and JSON, stale":
    "Waymark writes JSON from the stored bytes, without a JSON library.",
  "a durable registration of 100 entries under one lease, beside etcd, a lease and then one transaction of 100 puts under it: two calls, each through Raft (ours is not)":
    "A batch shares the request, the lease and the flush of the disk, so register many entries in one request.",
  "a steady stream of changes told to 1,000 watches, each with its own filter, 100 a connection, beside etcd, a watch each; each change goes through Raft (ours does not)":
    "A change is encoded once for all watches that it passes to, and changes within 2 ms share a message.",
  "DNS queries a CPU-second over CoreDNS with its cache":
    "`node:dgram` reads and writes one packet per system call, and that is most of an answer.",
  "memory for 100,000 entries on disk, beside etcd, the same entries, which it writes through Raft (ours does not)":
    "etcd needs less, because Node, its libraries and the indexes of the entries take memory.",
};

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

function inOrder(kept: readonly Kept[]): readonly Kept[] {
  const place = ({ name }: Kept) => (ORDER.indexOf(name) + 1 || ORDER.length + 1) - 1;
  return kept.toSorted((a, b) => place(a) - place(b) || (a.name < b.name ? -1 : 1));
}

function rowsOf(kept: readonly Kept[]): readonly Row[] {
  return inOrder(kept).flatMap((one) =>
    one.goals.flatMap((goal, i) =>
      goal.shown === undefined ? [] : [{ kept: one, goal, shown: goal.shown, file: `${one.name}-${i + 1}.svg` }],
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

/** The plots that docs/performance.md shows, by the names of their files, and the text around them. */
export function featured(kept: readonly Kept[]): { readonly text: string; readonly plots: Readonly<Record<string, string>> } {
  const all = rowsOf(kept);
  const rows = Object.keys(FEATURED).map((name) => {
    const row = all.find(({ goal }) => goal.name === name);
    if (row === undefined) throw new Error(`no benchmark has the goal "${name}", which docs/performance.md shows`);
    return row;
  });
  const text = rows.map(({ goal, shown, file }) =>
    [`${capital(shown.work)}: ${figures(shown)}. ${FEATURED[goal.name]}`, `![${figures(shown)}](plots/${file})`].join("\n\n"),
  );
  return { text: text.join("\n\n"), plots: drawn(rows) };
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function valueOf({ value, unit, shown }: Goal): string {
  if (typeof value !== "number") return "–";
  const { ratio, otherRates } = shown ?? {};
  const range = ratio === undefined ? "" : ` (${cellText(ratio.min)}–${cellText(ratio.max)})`;
  const others = otherRates === undefined ? "" : `<br>${otherRates}`;
  return `${cellText(value)}${range}${unit === "×" ? "" : ` ${unit}`}${others}`;
}

/** With the version of the peer, where it is another program. */
function besideText({ kept: { versions }, shown: { beside } }: Row): string {
  if (beside === undefined) return "a limit of our own";
  const key = PROGRAMS.find(([word]) => word.test(beside))?.[1];
  const version = key === undefined ? undefined : versions[key]?.split(/[ ,]/)[0];
  return version === undefined ? beside : `${beside} (${version})`;
}

function tableRow(row: Row): string {
  const { kept, goal, shown } = row;
  const wanted = goal.atLeast === undefined ? `≤ ${cellText(goal.atMost)}` : `≥ ${cellText(goal.atLeast)}`;
  const judged = goal.note === undefined ? verdict(goal) : `${verdict(goal)}: ${goal.note}`;
  const cells = [
    `[${kept.name}](reference/benchmarks.md#${kept.name})`,
    shown.work,
    besideText(row),
    valueOf(goal),
    figures(shown),
    `${wanted}: ${judged}`,
  ];
  return `| ${cells.join(" | ")} |`;
}

/** The table of all rows. */
export function summary(kept: readonly Kept[]): string {
  return [
    "| benchmark | work | peer | measured | figures | goal |",
    "| --- | --- | --- | --- | --- | --- |",
    ...rowsOf(kept).map(tableRow),
  ].join("\n");
}
