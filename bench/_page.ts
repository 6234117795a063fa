/** docs/performance.md, made from bench/results/*.json. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { cellText, type Goal, type Kept, verdict } from "./_results.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const RESULTS = join(ROOT, "bench", "results");

const INTRO = `# Performance

What each benchmark measured when it last ran. Written by \`npm run bench -- report\` from \`bench/results/*.json\`; to measure
anew, run \`npm run bench\` on a machine that does nothing else, which runs every benchmark as it is without flags and then this.
Sections whose command has flags keep what they say, and so does \`versions\`, which needs another checkout: run their commands.

The server has core 0, the load core 1. A peer is started in the same run with as many cores (\`GOMAXPROCS=1\`) and gets the
same work in rounds A B B A …; figures are medians, with the least and the most in brackets. Costs are CPU time of the whole
server process from \`/proc/PID/stat\`: neighbours on the machine disturb them least. Times by the clock say nothing while
others use the core: how much they did stands beside them, and a goal missed then has no verdict.

Benchmarks of several nodes (cluster, membership) share both cores among the nodes, the load and the watches. Those called
simulated have times of a virtual clock, which are the same on any machine; only their CPU seconds are this one's.

## Before you quote a figure

- Each section is of the commit and the date that it names, not of the newest version. \`versions\` says what the newest one costs beside an older one.
- One machine, without a network between the programs and without TLS. Benchmarks beside a peer use one core; nothing is said about more.
- etcd is 3.4.23 as Debian builds it (Go 1.19), and a newer one is cheaper: beside 3.5.21 built with Go 1.26, on 2026-11-22 at a load average of 28, three rounds, an
  exact query of ten among 10,000 entries took 34 to 44 µs of ours and 56 to 61 of etcd's, a page of 100 took 100 to 135 and 735 to 970 µs. Minutes later 3.4.23 took 109 to
  114 and 1,230 to 1,495 µs. So the ratios of \`query\` below are those of an old etcd; beside 3.5.21 they were 1.3 to 1.8 for an exact query and 5 to 10 for a page. Nothing was measured beside 3.6. It
  runs on one core, as we do, which is not how it is deployed.
- "With changes" after a commit: something in the tree was not committed, so nobody can build exactly that again.
- A ratio is the median of the rounds' own ratios, so it may differ from that of the medians beside it: in \`policy\`, taken at a load average of 13, it is
  1.02 where the medians give 1.10. That the goal of 1.1 is reached there is not certain.
- \`query\`: etcd answers serializable ranges, its cheaper kind: each side answers from what its own node holds. One service is asked again and again. The ratio at full load holds for 64 requests under way at once. A request that comes alone costs
  both peers more and us more than that: divide the CPU times of "latency at half load" for the ratio that most clients see (2.0 and 2.3 at
  commit 088678f45d1e, where full load gives 4.5 and 6.7).
- \`query\`, prefix page: etcd 3.4.23 collects the whole range for each page, so the ratio grows with the catalog. It says nothing of small ranges, nor of later
  versions: since etcd's pull request 11990 (in 3.4 its backport 15137, after 3.4.23) what is beyond the limit is counted and no longer collected.
- \`register\`: compare rows with as many entries a request. Many leases in one message is what a proxy sends; etcd has no such message. The figures
  were taken beside much other work; on a quiet machine (commit 088678f45d1e) an entry in a batch of 100 took 16.4 µs of ours, and 59,373 went in
  a second, but etcd was then given single puts, which is no comparison.
- \`watch\`: all watchers have the same filter, so a change is encoded once for all of them, and what came within 2 ms shares a message. With a filter each, etcd is
  five times cheaper: a change wakes all watches of its namespace, some 2 µs each, though it is news to one. On 2026-11-22 at a load average of 25 a CPU-second was enough
  for 1,900 to 2,000 changes of ours with 1,000 watches of one service each, and for 8,300 to 11,100 of etcd's 3.5.21 (in another namespace, watches cost nothing). The bench
  has rows for it since then. Sections before 2026-11-21 wrote nothing to disk on our side, where etcd wrote each change: "steady" with 1,000 watchers, both on
  disk, was 3.3 to 4.9 times etcd's 3.4.23 in four rounds of that day, and not 6.8.
- \`membership\`: a process is killed, so the kernel closes its connections, and our nodes probe it at once. A machine that vanishes closes
  nothing: see "deaths" of \`simulated\`. memberlist (version: \`bench/memberlist/go.mod\`) runs with its \`DefaultLANConfig\`. With \`DefaultLocalConfig\`, which it has for
  one machine, it is faster than we are: in one round with 8 processes, at a load average of 25, all knew of a kill after 5.2 s of ours, 6.0 s (LAN) and 4.2 s (Local), and
  of a process that fell silent after 8.0, 8.9 and 4.9 s. The bench measures all three since then.
- \`flood\`: the latency alone is that of a core that sleeps between calls, as its p50 shows; a ratio below 1 is no gain.
- \`cluster-10\`: its newcomer's time is without the start of a process (2.04 s with it), and it is idle for less time than passes between push-pulls; \`cluster\` has the idle figures that count.
- No result is kept of \`standstills\` (a million entries), \`journal\` and \`codec\`: run them.
- Figures with a load average above 2 were taken beside other work. Their CPU times are higher than on a quiet machine, and their ratios less certain.
`;

function goalRow(goal: Goal): readonly string[] {
  const wanted = goal.atLeast === undefined ? `≤ ${cellText(goal.atMost)}` : `≥ ${cellText(goal.atLeast)}`;
  const value = goal.value === undefined ? "–" : `${cellText(goal.value)} ${goal.unit}`;
  return [goal.name, `${wanted} ${goal.unit}`, value, goal.note === undefined ? verdict(goal) : `${verdict(goal)}: ${goal.note}`];
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (storedRecords: readonly string[]) => `| ${storedRecords.join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n");
}

function section({ name, command, machine, versions, commit, date, goals, tables, notes }: Kept): string {
  const { cpu, cores, memoryGiB, kernel, loadAverage } = machine;
  const parts = [
    `## ${name}`,
    `\`${command}\`: commit ${commit}, ${date} UTC; ${cpu}, ${cores} cores, ${memoryGiB} GiB, Linux ${kernel}, load average ${loadAverage}; Node ${versions.node}, etcd ${versions.etcd.replace(/^etcd Version: /, "")}, ${versions.h2load === "absent" ? "no h2load" : versions.h2load}.`,
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

/** The whole page. Runs nothing: benchmarks leave their results when they run. */
export function performancePage(): string {
  const files = readdirSync(RESULTS).filter((file) => file.endsWith(".json"));
  const kept = files.toSorted().map((file) => JSON.parse(readFileSync(join(RESULTS, file), "utf8")) as Kept);
  return `${[INTRO.trimEnd(), ...kept.map(section)].join("\n\n")}\n`;
}
