/**
 * What does one tenant's flood cost, and what does another tenant feel of it? One sends ten times its limit, the other half
 * of its own; latency is compared in short turns with and without. `npm run bench -- flood [--rounds 5] [--seconds 10]`.
 */
import { fork } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { neighbourShareOfBoth, pinSelf, scratchDir, startNode } from "./_processes.ts";
import { percentile, quiet, report, round, spread } from "./_results.ts";
import { Wire } from "./_wire.ts";
import { exactQuery, loadNode, PATH } from "./_work.ts";

const { values } = parseArgs({ options: { rounds: { type: "string", default: "5" }, seconds: { type: "string", default: "10" } } });
const ROUNDS = Number(values.rounds);
const SECONDS = Number(values.seconds);
const READS_PER_MINUTE = 12_000;
const FLOOD_PER_SECOND = (10 * READS_PER_MINUTE) / 60;
const CALLS_PER_SECOND = READS_PER_MINUTE / 60 / 2;
const TURN_MS = 500;
const WARM_CALLS = 50_000;

function settings(): string {
  const credential = (tenant: string) =>
    `[[tenants.credentials]]\ntenant = "${tenant}"\nprincipal = "${tenant}-app"\ntoken_sha256 = "${createHash("sha256").update(tenant).digest("hex")}"\nroles = []\n`;
  const file = join(scratchDir("flood"), "node.toml");
  writeFileSync(file, `[limits]\nreads_per_minute = ${READS_PER_MINUTE}\nwindow = "1s"\n\n${credential("a")}\n${credential("b")}`);
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
    if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
    const sentMs = performance.now();
    const answered = () => void into.push(performance.now() - sentMs);
    answers.push(wire.unary(PATH.query, message).then(answered));
  }
  await Promise.all(answers);
}

pinSelf();
const node = await startNode({ args: ["--config", settings()] });
await loadNode(node, 100, 0, { token: "b" });
const wire = await Wire.open(node.grpc, { token: "b" });
const child = fork(fileURLToPath(new URL("_flood-child.ts", import.meta.url)), [
  node.grpc.host,
  `${node.grpc.port}`,
  "a",
  `${FLOOD_PER_SECOND}`,
]);
const total = { ok: 0, refused: 0 };
const costs: number[] = [];
const turns: { alone: readonly number[]; flooded: readonly number[] }[] = [];

async function pause(): Promise<void> {
  const told = once(child, "message");
  child.send("pause");
  const [counts] = (await told) as [typeof total];
  total.ok += counts.ok;
  total.refused += counts.refused;
}

async function measureRound(): Promise<void> {
  const [alone, flooded]: [number[], number[]] = [[], []];
  let [aloneCpuMs, floodedCpuMs] = [0, 0];
  const before = total.refused + total.ok;
  for (let i = 0; i < (SECONDS * 1000) / TURN_MS; i++) {
    const startMs = node.cpuMs();
    await askSteadily(wire, alone);
    aloneCpuMs += node.cpuMs() - startMs;
    const floodMs = node.cpuMs();
    child.send("go");
    await askSteadily(wire, flooded);
    await pause();
    floodedCpuMs += node.cpuMs() - floodMs;
  }
  turns.push({ alone, flooded });
  costs.push(((floodedCpuMs - aloneCpuMs) * 1000) / (total.refused + total.ok - before));
}

// Warms up: until Node has compiled what a refused call runs, its collections take ten times as long.
while (total.refused + total.ok < WARM_CALLS) await measureRound();
turns.length = 0;
costs.length = 0;
const others = await neighbourShareOfBoth(node, async () => {
  for (let i = 0; i < ROUNDS; i++) await measureRound();
});
child.kill();
wire.close();
await node.stop();

const at = (share: number) => {
  const alone = turns.map((turn) => percentile(turn.alone, share));
  const flooded = turns.map((turn) => percentile(turn.flooded, share));
  return {
    percentile: `p${share * 100}`,
    "alone ms": spread(alone),
    "flooded ms": spread(flooded),
    ratio: spread(flooded.map((value, i) => value / (alone[i] ?? Number.NaN))),
    "more, ms": spread(flooded.map((value, i) => value - (alone[i] ?? Number.NaN))),
  };
};
const rows = [at(0.5), at(0.9), at(0.99)];
/** All rounds as one: what is rare in a round (a full collection) counts here as often as it comes. */
const together = (share: number) => {
  const alone = percentile(
    turns.flatMap((turn) => turn.alone),
    share,
  );
  const flooded = percentile(
    turns.flatMap((turn) => turn.flooded),
    share,
  );
  return { percentile: `p${share * 100}`, "alone ms": round(alone), "flooded ms": round(flooded), ratio: round(flooded / alone) };
};
report({
  name: "flood",
  tables: {
    "another tenant's queries, round by round": rows,
    "all rounds as one": [together(0.5), together(0.9), together(0.99), together(0.999), together(1)],
    "the flood": [
      {
        "calls a second": FLOOD_PER_SECOND,
        "let through": total.ok,
        refused: total.refused,
        "CPU µs a call of it": spread(costs),
        "others' share of a core": round(others),
      },
    ],
  },
  goals: [
    quiet(
      {
        name: "another tenant's p99 under a flood of ten times the limit, over alone (all rounds as one)",
        value: together(0.99).ratio,
        unit: "×",
        atMost: 1.2,
      },
      others,
    ),
  ],
  notes: [
    `Limit ${READS_PER_MINUTE} reads a minute a tenant; the flood is even, on four connections of another process; the other tenant sends ${CALLS_PER_SECOND} a second on its own connection, counted from sending.`,
    `Turns of ${TURN_MS} ms with and without the flood, ${SECONDS} s of each a round. The flood's process shares the load's core. The node is the same: its collections come half as often as in a flood that goes on, and may fall into a turn without.`,
  ],
});
