/** What sources took back is remembered for as long as it must be, whichever key said it. */
import { expect, test } from "vitest";
import type { KeyText } from "../../../src/catalog/record/record.ts";
import { Withdrawals } from "../../../src/summary/held/withdrawals.ts";
import { keyOf } from "../../fakes/held-world.ts";

const MEMORY_MS = 1000;
const at = (monoMs: number) => ({ monoMs, wallMs: 0 });
const isOf = (gone: string) => (keyId: string) => keyId === gone;

test("what was told under a new key too stays known when the old one goes", () => {
  const withdrawals = new Withdrawals(MEMORY_MS);
  for (const keyId of ["old", "new"]) withdrawals.tell("A", { tag: 1n, version: 5 }, keyId, at(0));
  withdrawals.tell("A", { tag: 2n, version: 6 }, "old", at(0));
  expect(withdrawals.distrust("A", isOf("old"))).toBe(true);
  expect([1n, 2n].map((tag) => withdrawals.toldOf("A", tag))).toEqual([5, 0]);
});

test("what a key told that is gone takes no room from what is true", () => {
  const withdrawals = new Withdrawals(MEMORY_MS);
  const tell = (keyId: string, from: number) => {
    for (let n = from; n < from + 40_000; n++) withdrawals.tell("A", { tag: BigInt(n), version: 5 }, keyId, at(0));
  };
  tell("stolen", 0);
  withdrawals.distrust("A", isOf("stolen"));
  tell("good", 100_000);
  expect(withdrawals.toldOf("A", 100_000n)).toBe(5);
});

test("one that is remembered anew is over last, and holds up none of the others", () => {
  const withdrawals = new Withdrawals(MEMORY_MS);
  const [first, second]: readonly KeyText[] = [keyOf("first", "A"), keyOf("second", "A")];
  for (const [key, ms] of [
    [first, 0],
    [second, 100],
    [first, 500],
  ] as const)
    if (key !== undefined) withdrawals.remember(key, 7, at(ms));
  expect([withdrawals.nextOverMonoMs(), withdrawals.takeOver(at(1200), 10)]).toEqual([1100, [[second, 7]]]);
  expect(withdrawals.takeOver(at(1500), 10)).toEqual([[first, 7]]);
});
