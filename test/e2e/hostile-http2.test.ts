/**
 * Hostile HTTP/2 against the gRPC listener: each attack comes from a process of its own, on one connection. It is cut,
 * others hardly notice, memory stays bounded, and the process lives.
 * @module-tag path
 */
import { afterAll, beforeAll, expect, test } from "vitest";
import { sized, some } from "../fakes/effort.ts";
import { ATTACKS } from "./h2-attacks.ts";
import { type Latency, Victim } from "./h2-victim.ts";

/** An attacker is cut within this, with the time its own process needs to notice. */
const CUT_MS = 2_000;
/** How long calls are measured beside an attack, at least. */
const MEASURED_MS = sized(2_000, 1_000);
const NOTICE_MS = 750;
/** Attacks that show only after the time a slow but honest client has: so many ms more. */
const SLOW: Readonly<Record<string, number>> = {
  "a preface byte by byte": 1_000,
  "headers byte by byte": 1_000,
  "no preface at all": 9_000,
};
/** p99 of two shared cores jumps by this much without any attack. */
const NOISE_MS = 25;
const TRIES = 5;

let victim: Victim;
let calm: Latency;
let calmMiB = 0;

beforeAll(async () => {
  victim = await Victim.start();
  calm = await victim.latency(1_500);
  calmMiB = victim.rssMiB();
});

afterAll(() => victim.stop());

test.each(some(Object.keys(ATTACKS)))("%s: cut, and hardly felt", async (name) => {
  // On two shared cores another process can be a worse neighbour than the attack: what is the attack's is felt each time.
  for (let left = TRIES; left > 0; left--) {
    const attack = victim.attacked(name);
    const during = await victim.latency(MEASURED_MS, attack);
    const { isCut, afterMs } = await attack;
    expect(victim.isAlive, "the process lives").toBe(true);
    expect({ isCut, afterMs }).toMatchObject({ isCut: true });
    const isLate = afterMs > CUT_MS + NOTICE_MS + (SLOW[name] ?? 0);
    const isFelt = during.p99Ms > Math.max(10 * calm.p99Ms, NOISE_MS);
    if (!isLate && !isFelt) return;
    calm = await victim.latency(MEASURED_MS);
    if (left > 1) continue;
    expect(isLate).toBe(false);
    expect(during.p99Ms).toBeLessThanOrEqual(Math.max(10 * calm.p99Ms, NOISE_MS));
  }
});

test("after all of it memory is where it was, but for what garbage collection leaves", async () => {
  await expect.poll(() => victim.rssMiB() - calmMiB).toBeLessThan(150);
  expect(await victim.query()).not.toBe(Number.POSITIVE_INFINITY);
});
