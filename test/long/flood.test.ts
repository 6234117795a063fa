/**
 * What one tenant's flood does to another tenant, on a real node, in turns with and without the flood. The latencies are
 * printed and not judged: on two cores the flood's own process takes more from the other client than the node does.
 * `npm run bench -- flood` measures them, with the node on a core of its own.
 */
import { fork } from "node:child_process";
import { once } from "node:events";
import { constants, setPriority } from "node:os";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { type LimitedNode, registration, startLimitedNode, TOKENS } from "../fakes/limited-node.ts";

/** Both tenants' limit; one sends ten times that, the other half of it. */
const READS_PER_MINUTE = 6000;
const FLOOD_PER_SECOND = (10 * READS_PER_MINUTE) / 60;
const CALLS_PER_SECOND = READS_PER_MINUTE / 60 / 2;
const TURN_MS = 600;
const TURNS = 20;
const WARM_TURNS = 5;

interface Counts {
  readonly ok: number;
  readonly refused: number;
  readonly failed: number;
}

/** Latencies of the other tenant's queries, sent on time whatever the answers. */
async function askSteadily(node: LimitedNode): Promise<readonly number[]> {
  const began = performance.now();
  const calls: Promise<number>[] = [];
  for (let i = 0; i < (CALLS_PER_SECOND * TURN_MS) / 1000; i++) {
    const due = began + (i * 1000) / CALLS_PER_SECOND;
    if (due > performance.now()) await new Promise<void>((resolve) => setTimeout(resolve, due - performance.now()));
    const sent = performance.now();
    calls.push(node.grpc.b.catalogQuery({ namespace: "svc.b" }).then(() => performance.now() - sent));
  }
  return Promise.all(calls);
}

/** The flooding tenant, in a process of its own. */
function startFlood(node: LimitedNode) {
  const child = fork(fileURLToPath(new URL("flood-child.ts", import.meta.url)), [node.process.grpc, TOKENS.a, `${FLOOD_PER_SECOND}`]);
  // It comes from elsewhere: it must not take the processor from the node and its other clients.
  if (child.pid !== undefined) setPriority(child.pid, constants.priority.PRIORITY_BELOW_NORMAL);
  return {
    tell: (order: "go" | "pause") => child.send(order),
    stop: async () => {
      const said = once(child, "message") as Promise<[Counts]>;
      child.send("stop");
      const [counts] = await said;
      await once(child, "exit");
      return counts;
    },
    [Symbol.dispose]: () => void child.kill("SIGKILL"),
  };
}

function percentile(values: readonly number[], ratio: number): number {
  return values.toSorted((x, y) => x - y)[Math.floor(values.length * ratio)] ?? Number.NaN;
}

test("ten times its limit from one tenant is refused call by call, and another tenant's calls are all answered", {
  timeout: 300_000,
}, async () => {
  await using node = await startLimitedNode(`[limits]\nreads_per_minute = ${READS_PER_MINUTE}\nwindow = "1s"\n`);
  await node.grpc.b.register(registration("svc.b", "1", "2", "3"));
  const alone: number[] = [];
  const flooded: number[] = [];
  using flood = startFlood(node);
  for (let turn = 0; turn < WARM_TURNS; turn++) await askSteadily(node);
  // Short turns, one after the other: what else happens on the machine happens to both.
  for (let turn = 0; turn < TURNS; turn++) {
    alone.push(...(await askSteadily(node)));
    flood.tell("go");
    flooded.push(...(await askSteadily(node)));
    flood.tell("pause");
  }
  const total = await flood.stop();
  const shown = [0.5, 0.9, 0.99].map((ratio) => ({ ratio, aloneMs: percentile(alone, ratio), floodedMs: percentile(flooded, ratio) }));
  console.log(JSON.stringify({ total, shown }));
  // The flood did happen, was over its limit, and every call of it was answered.
  expect(total.refused).toBeGreaterThan(total.ok);
  expect(total.failed).toBe(0);
  // `askSteadily` rejects with the first call that is not answered.
  expect(flooded).toHaveLength(alone.length);
});
