/**
 * Floods that no library would send, from one attacker and from four that come back: what they cost others on each listener
 * is bounded, and so is memory. Latency is compared with calm rounds in between.
 */
import { afterEach, expect, test } from "vitest";
import { type Latency, Victim } from "../e2e/h2-victim.ts";

/** p50 of two shared cores jumps by this much without any attack. */
const NOISE_MS = 15;
const ROUNDS = 2;

let victim: Victim | undefined;

afterEach(() => victim?.stop());

const BOMB = "headers that refer to a long field";
const CALLS = "calls as fast as they are answered";

test.each([
  { listener: "grpc", attackers: 4, name: CALLS },
  { listener: "edge", attackers: 4, name: BOMB },
] as const)("$listener: $attackers × $name: others' calls take at most three times as long", async ({ listener, attackers, name }) => {
  const node = await Victim.start(listener);
  victim = node;
  const calm: Latency[] = [];
  const during: Latency[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    calm.push(await node.latency(700));
    const attacks = Promise.all(Array.from({ length: attackers }, () => node.attacked(name, 1)));
    during.push(await node.latency(700, attacks));
  }
  expect(node.isAlive).toBe(true);
  const least = (latencies: readonly Latency[]) => Math.min(...latencies.map(({ p50Ms }) => p50Ms));
  // On two shared cores the attackers' own processes take more from the other client than the node does.
  expect(least(during)).toBeLessThanOrEqual(Math.max(3 * least(calm), NOISE_MS));
});

test.each(["grpc", "edge"] as const)("%s: 1,000 calls for long answers that nobody takes hold little memory", async (listener) => {
  const node = await Victim.start(listener);
  victim = node;
  const before = node.rssMiB();
  let peak = before;
  const timer = setInterval(() => {
    peak = Math.max(peak, node.rssMiB());
  }, 5);
  const { isCut } = await node.attacked("1,000 calls for long answers that have no window");
  clearInterval(timer);
  expect(isCut).toBe(true);
  expect(peak - before).toBeLessThan(100);
});
