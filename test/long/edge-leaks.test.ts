/** The attacks of `test/e2e/h2-attacks.ts` against the HTTP edge, all of them several times: what they leave behind in memory. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { ATTACKS } from "../e2e/h2-attacks.ts";
import { Victim } from "../e2e/h2-victim.ts";
import type { Held } from "../fakes/memory.ts";

let victim: Victim;
let calmHeld: Held;

beforeAll(async () => {
  victim = await Victim.start("edge");
  // What an honest client needs for good is there by then.
  await victim.latency(1500);
  calmHeld = await victim.held();
});

afterAll(() => victim.stop());

test("attackers that come back leave nothing behind, and the same again needs no more memory", async () => {
  const first = await heldAfterAll();
  // Objects and buffers after a full collection: what thousands of connections and calls left behind would be here.
  expect(mib(first.heapBytes - calmHeld.heapBytes)).toBeLessThan(4);
  expect(mib(first.externalBytes - calmHeld.externalBytes)).toBeLessThan(2);
  expect(mib(first.rssBytes - calmHeld.rssBytes)).toBeLessThan(200);

  const second = await heldAfterAll();
  expect(mib(second.heapBytes - first.heapBytes)).toBeLessThan(2);
  expect(mib(second.externalBytes - first.externalBytes)).toBeLessThan(1);
  // Memory outside of V8's sight, such as nghttp2's, shows only here: what is lost is lost each time.
  const grownMib = mib(second.rssBytes - first.rssBytes);
  expect(grownMib < 32 ? grownMib : mib((await heldAfterAll()).rssBytes - second.rssBytes)).toBeLessThan(32);
  expect(await victim.query()).not.toBe(Number.POSITIVE_INFINITY);
});

async function heldAfterAll(): Promise<Held> {
  for (const name of Object.keys(ATTACKS)) {
    await victim.attacked(name, 1);
    // The honest client stays: all this takes longer than a connection may be idle.
    await victim.query();
  }
  let held = await victim.held();
  // The last ones that were cut need a moment until their sockets and timers are gone.
  await expect.poll(async () => (held = await victim.held()).handles).toEqual(calmHeld.handles);
  return held;
}

function mib(bytes: number): number {
  return bytes / 1_048_576;
}
