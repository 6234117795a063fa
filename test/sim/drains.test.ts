/** Operators take nodes out and back, and let nodes be forgotten; each world takes about a second. */
import { expect, test } from "vitest";
import { sized } from "../fakes/effort.ts";
import { runSeed } from "./drains.ts";

/** A third node gets the end of an entry before the newer entry, if nothing prevents that. */
const ORDER = [16, 30, 37];
/** A client only tries to register on a draining node, although its lease is reported as expired. */
const REGISTERS = 38;
/** Each kind of world once in the gate, and these. */
const SEEDS = [...Array.from({ length: sized(140, 5) }, (_, i) => i + 1), ...ORDER, REGISTERS];

test("nothing that clients keep registered is ever absent, some node stays in service, drains end, and what is forgotten stays away", {
  timeout: 300_000,
}, () => {
  const happened = new Map<string, number>();
  const count = (name: string, by: number) => happened.set(name, (happened.get(name) ?? 0) + by);
  for (const seed of SEEDS) {
    const { violation, kind, ends, events, updateCount } = runSeed(seed);
    expect(violation?.message, `seed ${seed}: ${kind}`).toBeUndefined();
    for (const [end, times] of ends) count(end, times);
    for (const [event, times] of events) count(event, times);
    count("update", updateCount);
    count(kind, 1);
  }
  console.log("drains:", Object.fromEntries(happened));
  const rare = ["done", "version_conflict", "last_ready_node", "drain_step", "drain_stuck", "origin_forgotten", "update"].filter(
    (name) => !happened.has(name),
  );
  expect(rare).toEqual([]);
});
