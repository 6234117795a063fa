/** The attacks of `test/e2e/h2-attacks.ts` against the HTTP edge, which speaks the same HTTP/2 through slower machinery. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { ATTACKS } from "../e2e/h2-attacks.ts";
import { type Latency, Victim } from "../e2e/h2-victim.ts";

/** p99 of two shared cores jumps by this much without any attack. */
const NOISE_MS = 50;

let victim: Victim;
let calm: Latency;
let calmMiB = 0;

beforeAll(async () => {
  victim = await Victim.start("edge");
  calm = await victim.latency(1_500);
  calmMiB = victim.rssMiB();
});

afterAll(() => victim.stop());

test.each(Object.keys(ATTACKS))("%s: cut, and others are served", async (name) => {
  const attack = victim.attacked(name);
  const during = await victim.latency(2_000, attack);
  expect(await attack).toMatchObject({ isCut: true });
  expect(victim.isAlive, "the process lives").toBe(true);
  // On two shared cores another process can be a worse neighbour than the attack: then calm is what it is now.
  const isFelt = during.p99Ms > Math.max(10 * calm.p99Ms, NOISE_MS);
  const calmNow = isFelt ? await victim.latency(2_000) : calm;
  expect(during.p99Ms).toBeLessThanOrEqual(Math.max(10 * Math.max(calm.p99Ms, calmNow.p99Ms), NOISE_MS));
});

test("after all of it memory is where it was, but for what garbage collection leaves", async () => {
  expect(victim.rssMiB() - calmMiB).toBeLessThan(200);
  expect(await victim.query()).toBeLessThan(1_000);
});
