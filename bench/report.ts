/**
 * Writes docs/performance.md from bench/results/*.json; `npm run bench -- report`. Runs nothing: the benchmarks run before
 * it leave their results there.
 */
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { cellText, type Goal, type Kept, verdict } from "./_results.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const RESULTS = join(ROOT, "bench", "results");

const INTRO = `# Performance

What each benchmark measured when it last ran. Written by \`npm run bench -- report\` from \`bench/results/*.json\`; to measure
anew, run \`npm run bench\` on a machine that does nothing else, which runs every benchmark and then this.

The server has core 0, the load core 1. A peer is started in the same run with as many cores (\`GOMAXPROCS=1\`) and gets the
same work in rounds A B B A …; figures are medians, with the least and the most in brackets. Costs are CPU time of the whole
server process from \`/proc/PID/stat\`: neighbours on the machine disturb them least. Times by the clock say nothing while
others use the core: how much they did stands beside them, and a goal missed then has no verdict.

Benchmarks of several nodes (cluster, membership) share both cores among the nodes, the load and the watches. Those called
simulated have times of a virtual clock, which are the same on any machine; only their CPU seconds are this one's.
`;

function goalRow(goal: Goal): readonly string[] {
  const wanted = goal.atLeast === undefined ? `≤ ${cellText(goal.atMost)}` : `≥ ${cellText(goal.atLeast)}`;
  const value = goal.value === undefined ? "–" : `${cellText(goal.value)} ${goal.unit}`;
  return [goal.name, `${wanted} ${goal.unit}`, value, goal.note === undefined ? verdict(goal) : `${verdict(goal)}: ${goal.note}`];
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n");
}

function section({ name, command, machine, versions, commit, date, goals, tables, notes }: Kept): string {
  const { cpu, cores, memoryGiB, kernel, loadAverage } = machine;
  const parts = [
    `## ${name}`,
    `\`${command}\`: commit ${commit}, ${date} UTC; ${cpu}, ${cores} cores, ${memoryGiB} GiB, Linux ${kernel}, load average ${loadAverage}; Node ${versions.node}, etcd ${versions.etcd.replace(/^etcd Version: /, "")}, ${versions.h2load}.`,
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

const files = existsSync(RESULTS) ? readdirSync(RESULTS).filter((file) => file.endsWith(".json")) : [];
const kept = files.toSorted().map((file) => JSON.parse(readFileSync(join(RESULTS, file), "utf8")) as Kept);
const text = `${[INTRO.trimEnd(), ...kept.map(section)].join("\n\n")}\n`;
writeFileSync(join(ROOT, "docs", "performance.md"), text);
console.error(`docs/performance.md: ${kept.length} benchmarks`);
