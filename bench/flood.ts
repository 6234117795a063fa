/**
 * What does one tenant's flood cost, and what does another tenant feel of it? One sends ten times its limit, another half of its own. In short
 * turns the other tenant's latency is compared: alone; while tenants within their limits send the calls that the flood gets through; while
 * they send as many calls as the flood, all answered; and under the flood. About two minutes.
 * `npm run bench -- flood [--rounds 5] [--seconds 4]`.
 */
import { fork } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { argsOf, asksForAll } from "./_args.ts";
import type { Counts, Sending } from "./_flood-child.ts";
import { sleep } from "./_mesh.ts";
import { cpuMsOf, neighbourShareOfBoth, pinSelf, scratchDir, startNode } from "./_processes.ts";
import { type Goal, percentile, quiet, ratioOf, report, round, spread } from "./_results.ts";
import { Wire } from "./_wire.ts";
import { exactQuery, fail, loadNode, PATH } from "./_work.ts";

const DEFAULTS = { rounds: 5, seconds: 4 };
const values = argsOf(DEFAULTS);
const ROUNDS = values.rounds;
const SECONDS = values.seconds;
const READS_PER_MINUTE = 12_000;
const FLOOD_PER_SECOND = (10 * READS_PER_MINUTE) / 60;
const CALLS_PER_SECOND = READS_PER_MINUTE / 60 / 2;
const TURN_MS = 500;
/** Tenants that stay within half of their limits when they send as much as the flood together. The flood has as many connections. */
const BEHAVED = 20;
const TOKENS = ["other", "flood", ...Array.from({ length: BEHAVED }, (_, i) => `behaved-${i}`)];
const FLOOD = { from: 0, to: BEHAVED };
const WELL = { from: BEHAVED, to: 2 * BEHAVED };
/** Until Node has compiled what a refused call runs, its collections take ten times as long. */
const WARM_SECONDS = 6;
const WARM_PER_SECOND = 4000;

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, value) => total + value, 0);
}

/** What else is sent in a turn. */
const KINDS = ["alone", "admitted", "behaved", "flood"] as const;
type Kind = (typeof KINDS)[number];

function settings(): string {
  const credential = (token: string) =>
    `[[tenants.credentials]]\ntenant = "${token}"\nprincipal = "${token}-app"\ntoken_sha256 = "${createHash("sha256").update(token).digest("hex")}"\nroles = []\n`;
  const file = join(scratchDir("flood"), "node.toml");
  writeFileSync(file, `[limits]\nreads_per_minute = ${READS_PER_MINUTE}\nwindow = "1s"\n\n${TOKENS.map(credential).join("\n")}`);
  return file;
}

/**
 * Latencies of one turn in ms, calls sent on time whatever the answers. Counted from sending, not from when a call was due:
 * this process shares its core with the flood's, so it must sleep between calls, and a timer's lateness is no affair of the node.
 */
async function askSteadily(wire: Wire, into: number[]): Promise<void> {
  const message = exactQuery(2);
  const startMs = performance.now();
  const answers: Promise<unknown>[] = [];
  for (let i = 0; i < (CALLS_PER_SECOND * TURN_MS) / 1000; i++) {
    const waitMs = startMs + (i * 1000) / CALLS_PER_SECOND - performance.now();
    if (waitMs > 0) await sleep(waitMs);
    const sentMs = performance.now();
    const answered = () => void into.push(performance.now() - sentMs);
    answers.push(wire.unary(PATH.query, message).then(answered));
  }
  await Promise.all(answers);
}

pinSelf();
const node = await startNode({ isPlain: true, args: ["--config", settings()] });
await loadNode(node, 100, 0, { token: "other" });
const wire = await Wire.open(node.grpc, { token: "other" });
const child = fork(fileURLToPath(new URL("_flood-child.ts", import.meta.url)), [
  node.grpc.host,
  `${node.grpc.port}`,
  [...Array.from({ length: BEHAVED }, () => "flood"), ...TOKENS.slice(2)].join(","),
]);

child.on("exit", (code) => {
  if (code !== null) throw new Error(`the process of the other tenants ended with code ${code}`);
});

async function pause(): Promise<Counts> {
  const told = once(child, "message");
  child.send("pause");
  const [counts] = (await told) as [Counts];
  return counts;
}

/** One round: what each kind of turn gave. */
class Round {
  readonly tookMs: Readonly<Record<Kind, number[]>> = { alone: [], admitted: [], behaved: [], flood: [] };
  readonly cpuMs: Record<Kind, number> = { alone: 0, admitted: 0, behaved: 0, flood: 0 };
  readonly ok: Record<Kind, number> = { alone: 0, admitted: 0, behaved: 0, flood: 0 };
  readonly refused: Record<Kind, number> = { alone: 0, admitted: 0, behaved: 0, flood: 0 };

  /** CPU time of the node for a call of the others, beyond what it takes for the one tenant alone. */
  costOf(kind: Kind): number {
    return ((this.cpuMs[kind] - this.cpuMs.alone) * 1000) / (this.ok[kind] + this.refused[kind]);
  }
}

/** What a flood got through a second, in the last two turns of it: the limit, and what the bucket had kept. Every second time two of them follow each other. */
const admittedPerSecond = [READS_PER_MINUTE / 60];

async function turn(kind: Kind, into: Round): Promise<void> {
  const [beforeMs, startMs] = [node.cpuMs(), performance.now()];
  if (kind !== "alone") {
    const order: Sending = {
      ...(kind === "flood" ? FLOOD : WELL),
      perSecond: kind === "admitted" ? sum(admittedPerSecond) / admittedPerSecond.length : FLOOD_PER_SECOND,
    };
    child.send(order);
  }
  await askSteadily(wire, into.tookMs[kind]);
  if (kind !== "alone") {
    const seconds = (performance.now() - startMs) / 1000;
    const { ok, refused } = await pause();
    into.ok[kind] += ok;
    into.refused[kind] += refused;
    if (kind === "flood") admittedPerSecond.splice(0, admittedPerSecond.length, ...admittedPerSecond.slice(-1), ok / seconds);
  }
  into.cpuMs[kind] += node.cpuMs() - beforeMs;
}

async function measureRound(): Promise<Round> {
  const result = new Round();
  for (let i = 0; i < (SECONDS * 1000) / TURN_MS; i++)
    for (const kind of i % 2 === 0 ? KINDS : KINDS.toReversed()) await turn(kind, result);
  return result;
}

for (const who of [FLOOD, WELL]) {
  const order: Sending = { ...who, perSecond: WARM_PER_SECOND };
  child.send(order);
  await sleep(WARM_SECONDS * 1000);
  await pause();
}
await measureRound();
const rounds: Round[] = [];
const measureRounds = async () => {
  for (let i = 0; i < ROUNDS; i++) rounds.push(await measureRound());
};
const others = await neighbourShareOfBoth(node, measureRounds, [{ cpuMs: () => cpuMsOf(child.pid ?? fail()) }]);
child.kill("SIGKILL");
wire.close();
await node.stop();

const p = (kind: Kind, share: number) => rounds.map(({ tookMs }) => percentile(tookMs[kind], share));
/** All rounds as one: what is rare in a round (a full collection) counts here as often as it comes. */
const together = (kind: Kind, share: number) =>
  percentile(
    rounds.flatMap(({ tookMs }) => tookMs[kind]),
    share,
  );
const NAMES: Readonly<Record<Kind, string>> = {
  alone: "nothing",
  admitted: "as many calls as the flood gets through, from tenants within their limits",
  behaved: "as many calls as the flood's, from tenants within their limits",
  flood: "the flood",
};
const rows = KINDS.map((kind) => ({
  "additional load": NAMES[kind],
  "let through": sum(rounds.map(({ ok }) => ok[kind])),
  refused: sum(rounds.map(({ refused }) => refused[kind])),
  "p50 ms": spread(p(kind, 0.5)),
  "p99 ms": spread(p(kind, 0.99)),
  "all rounds together, p99 ms": together(kind, 0.99),
  "p99.9 ms": together(kind, 0.999),
  "CPU µs per additional call": kind === "alone" ? "-" : spread(rounds.map((each) => each.costOf(kind))),
}));

function latencyGoal(kind: Kind, atMost: number): Goal {
  const ratio = ratioOf(p("flood", 0.99), p(kind, 0.99));
  const goal: Goal = {
    name: `another tenant's p99 under a flood of ten times the limit, over its p99 beside ${NAMES[kind]} (all rounds as one)`,
    value: together("flood", 0.99) / together(kind, 0.99),
    unit: "×",
    atMost,
    shown: {
      work: "p99 of another tenant's queries under a flood of ten times the limit, compared with its p99 under the load of the next column",
      beside: `the same node without the flood: ${NAMES[kind]}`,
      oursName: "under the flood",
      theirsName: "without it",
      unit: "ms",
      ours: spread(p("flood", 0.99)),
      theirs: spread(p(kind, 0.99)),
      ...(ratio !== undefined && { ratio }),
    },
  };
  return quiet(goal, others);
}

const costs = (kind: Kind) => rounds.map((each) => each.costOf(kind));
const cost = ratioOf(costs("flood"), costs("behaved"));
report({
  name: "flood",
  isKept: asksForAll(values, DEFAULTS),
  tables: { "another tenant's queries": rows },
  goals: [
    latencyGoal("admitted", 1.2),
    latencyGoal("behaved", 1.2),
    {
      name: "CPU time of a call of the flood, over that of a call within the limits",
      value: cost?.median,
      unit: "×",
      atMost: 1.2,
      shown: {
        work: "CPU time per call of a flood, most of which are refused, compared with calls within the limits",
        beside: `the same node without the flood: ${NAMES.behaved}`,
        oursName: "a call of the flood",
        theirsName: "a call within the limits",
        unit: "µs of CPU per call",
        ours: spread(costs("flood")),
        theirs: spread(costs("behaved")),
        ...(cost !== undefined && { ratio: cost }),
      },
    },
  ],
  notes: [
    `The limit is ${READS_PER_MINUTE} reads per minute and tenant. The flood is even: ${FLOOD_PER_SECOND} calls a second of one tenant on ${BEHAVED} connections of another process. The tenants within their limits are ${BEHAVED} tenants, each on its own connection of the same process. The other tenant sends ${CALLS_PER_SECOND} calls a second on its own connection, timed from sending.`,
    `Loads alternate in periods of ${TURN_MS} ms, ${SECONDS} s of each per round. A period is shorter than the window of the limit, so the flood gets its limit and in addition the saved tokens of its bucket; the tenants within their limits then send as many calls. Other programs' share of a core during the measurement: ${round(others)}.`,
    "The flood and the tenants within their limits share the load's core with their process. The node is the same in all periods, so its garbage collections can fall into a period of another load than the one that made the garbage. At few calls, this influences a p99 more than the flood does.",
  ],
});
