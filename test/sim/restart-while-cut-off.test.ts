/** A crash of all while a node is cut off of which nobody holds anything: what is unregistered meanwhile stays gone when it is back (P6). */
import { expect, test } from "vitest";
import { SCOPE } from "../../src/catalog/entry/scope.ts";
import { sized } from "../fakes/effort.ts";
import type { Step } from "./plan.ts";
import { runSeed } from "./restarted.ts";
import { Simulation } from "./simulation.ts";
import { planOf } from "./workload.ts";

const CRASH = { kind: "crash", nodes: [0, 1, 2, 3, 4, 5], isSilent: true, isBatchKept: false, isDiskLost: false, downMs: 2124 } as const;
const STEPS: readonly Step[] = [
  { atMs: 5028, kind: "partition", side: [2, 3, 4, 5], forMs: 40_146 },
  { atMs: 14_643, ...CRASH },
  { atMs: 24_749, kind: "register", client: 0, node: 2, variant: 2, scope: SCOPE.GLOBAL, ttlMs: 8000 },
  { atMs: 28_543, kind: "register", client: 1, node: 5, variant: 0, scope: SCOPE.REGION, ttlMs: 0 },
  { atMs: 30_409, kind: "register", client: 1, node: 3, variant: 3, scope: SCOPE.GLOBAL, ttlMs: 3000 },
  { atMs: 30_886, kind: "unregister", client: 1, node: 3 },
  { atMs: 34_248, kind: "partition", side: [5], forMs: 29_687 },
];

test.each([
  ["without a snapshot", 0],
  ["with one, in which a node without records is not", 2000],
])("P6: after a crash of all, %s, tombstones are kept for whoever is cut off", (_what, snapshotMs) => {
  const { violation } = new Simulation({ ...planOf(6104), steps: STEPS, snapshotMs }).run();
  expect(violation).toBeUndefined();
});

/** Small worlds. */
const SEEDS = sized(20, 8);

test("P6: so they are in small worlds where all but one crash, once, twice or not at all", () => {
  for (let seed = 1; seed <= SEEDS; seed++) expect(runSeed(seed).violation?.message, `seed ${seed}`).toBeUndefined();
});
