/** Random schedules of work and faults: sixty short ones in the gate, three hundred at night, any size by `npm run sim`. */
import { expect, test } from "vitest";
import { sized } from "../fakes/effort.ts";
import { explain, runSeed } from "./run-seed.ts";
import type { Size } from "./workload.ts";

/** `npm run sim -- --seed 7 --runs 1000 --nodes 20 --minutes 5`: runs are seeds, one after another. */
const numberFrom = (name: string) => (process.env[name] === undefined ? undefined : Number(process.env[name]));
const isRandom = process.env["WAYMARK_SEED"] === "random";
const seed = isRandom ? undefined : numberFrom("WAYMARK_SEED");
const nodes = numberFrom("WAYMARK_NODES");
const minutes = numberFrom("WAYMARK_MINUTES");
const runs = numberFrom("WAYMARK_RUNS");

const size: Size | undefined = nodes === undefined && minutes === undefined ? undefined : { nodes: nodes ?? 0, minutes: minutes ?? 0 };
/** The tests below are named by it, so that a random one can be run again. */
const first = isRandom ? 1 + Math.floor(Math.random() * 1e9) : (seed ?? 1);
/** A seed or a size that is asked for is run alone. */
const count = runs ?? (seed === undefined && size === undefined ? sized(300, 60) : 1);
const PER_TEST = 50;
const REPEAT_EVERY = sized(10, 25);
const TIMEOUT_MS = 3_600_000;

const groups = Array.from({ length: Math.ceil(count / PER_TEST) }, (_, i) => first + i * PER_TEST);

test.each(groups)("seeds from %i: nothing breaks, and everything comes to rest", { timeout: TIMEOUT_MS }, (from) => {
  let [events, bookmarks, reads, checks] = [0, 0, 0, 0];
  const happened = new Set<string>();
  for (let s = from; s < Math.min(from + PER_TEST, first + count); s++) {
    const outcome = runSeed(s, size);
    if (outcome.violation !== undefined) expect.fail(explain(s, size, outcome));
    events += outcome.eventCount;
    bookmarks += outcome.bookmarks;
    reads += outcome.reads;
    checks += outcome.checkCount;
    for (const name of outcome.events.keys()) happened.add(name);
    // Some seeds run twice, because a failure can be examined only when its seed repeats it.
    if (s % REPEAT_EVERY === 0 && size === undefined) expect(runSeed(s, size).hash, `seed ${s} run twice`).toBe(outcome.hash);
  }
  console.log(
    `seeds from ${from}: ${events} events, ${checks} checks, ${bookmarks} bookmarks, ${reads} reads; happened: ${[...happened].toSorted().join(", ")}`,
  );
  expect(bookmarks).toBeGreaterThan(0);
  expect(reads).toBeGreaterThan(0);
});
