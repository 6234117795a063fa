/** What DNS answers beside a naive model, under random changes. */
import { expect, test } from "vitest";
import { sized } from "../fakes/effort.ts";
import { runSeed } from "./dns-worlds.ts";

const SEEDS = sized(25, 8);

test("every answer is what the rules say, and everything happens that they are about", { timeout: 600_000 }, () => {
  const counts = new Map<string, number>();
  for (let seed = 1; seed <= SEEDS; seed++) {
    const outcome = runSeed(seed);
    expect(outcome.violation?.message, `seed ${seed}`).toBeUndefined();
    for (const [what, count] of outcome.counts) counts.set(what, (counts.get(what) ?? 0) + count);
  }
  const kinds = [
    "put",
    "removed",
    "origin turned",
    "policy",
    "NXDOMAIN",
    "NOERROR",
    "A found",
    "AAAA found",
    "SRV found",
    "TXT found",
    "CNAME found",
    "PTR found",
    "unready",
    "serial",
  ];
  expect(kinds.filter((what) => (counts.get(what) ?? 0) < 50)).toEqual([]);
  expect(counts.get("cut")).toBeGreaterThan(sized(5, 2));
});
