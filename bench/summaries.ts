/**
 * What memory does a summary take at a node that holds it, with border links and without? Each in a process with nothing else, after a collection.
 * `npm run bench -- summaries [--counts 60000,200000]`; it takes about two minutes.
 */
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import type { SummaryMemory } from "../test/fakes/summaries-memory-child.ts";
import { argsOf } from "./_args.ts";
import { report } from "./_results.ts";

/** The larger one is as many as a node holds of all sources. Each is judged. */
const COUNTS = argsOf({ counts: [60_000, 200_000] }).counts;
const LINKS = [0, 1, 4];
const CHILD = join(import.meta.dirname, "..", "test", "fakes", "summaries-memory-child.ts");

function measured(count: number, links: number) {
  const args = ["--expose-gc", CHILD, String(count), String(links)];
  const { held, bytesPerSummary, signedBytes } = JSON.parse(execFileSync(process.execPath, args, { encoding: "utf8" })) as SummaryMemory;
  return { summaries: held, "border links": links, "signed bytes of one": signedBytes, "B a summary": bytesPerSummary };
}

const rows = COUNTS.flatMap((count) => LINKS.map((links) => measured(count, links)));
const worst = (count: number, hasLinks: boolean) =>
  Math.max(...rows.filter((row) => row.summaries === count && row["border links"] > 0 === hasLinks).map((row) => row["B a summary"]));
/** What a measured node holds, which may be fewer than were asked for. */
const heldCounts = [...new Set(rows.map(({ summaries }) => summaries))];

report({
  name: "summaries",
  tables: { "memory of a node that holds summaries": rows },
  goals: heldCounts.flatMap((count) => [
    { name: `a summary at a node with ${count}, without borders`, value: worst(count, false), unit: "B", atMost: 700 },
    { name: `a summary at a node with ${count}, with border links`, value: worst(count, true), unit: "B", atMost: 700 },
  ]),
  notes: [
    "JavaScript's heap and array buffers. Names are svc.team-N.prod/checkout-N, sources have 20,000 each. What a node has once counts too: with fewer summaries it is more of each.",
  ],
});
