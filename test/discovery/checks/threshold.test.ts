/** When a check turns. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { FAILURE } from "../../../src/catalog/entry/checks.ts";
import type { StartProbe } from "../../../src/discovery/checks/checks.ts";
import { type CheckOutcome, DEGRADED, failed, PASSED } from "../../../src/discovery/checks/threshold.ts";
import { runs } from "../../fakes/effort.ts";
import { WatchedWorld, watchedEntry } from "../../fakes/watched-entries.ts";

const OUTCOMES: Readonly<Record<string, CheckOutcome>> = { p: PASSED, d: DEGRADED, f: failed(FAILURE.TIMEOUT), r: failed(FAILURE.REFUSED) };

/** After each outcome: what the check has turned to, as the first letter of the health. */
function turnsOf(outcomes: string, failing: number, passing: number): string {
  const world = new WatchedWorld();
  const held: StartProbe[] = [];
  world.held = held;
  world.register(watchedEntry("a", [{ failing, passing, probe: { case: "tcp", value: {} } }]));
  return Array.from(outcomes)
    .map((letter) => {
      while (held.length === 0) world.run(1000);
      world.found.set("a.local", OUTCOMES[letter] ?? PASSED);
      for (const order of held.splice(0)) world.answer(order);
      // A turn waits a second for others.
      world.run(1500);
      return "?HDC".charAt(world.seen("a")?.states[0] ?? 0);
    })
    .join("");
}

test.each([
  { outcomes: "pppff", failing: 3, passing: 1, turns: "HHHHH" },
  { outcomes: "pfffp", failing: 3, passing: 1, turns: "HHHCH" },
  { outcomes: "pffpfff", failing: 3, passing: 1, turns: "HHHHHHC" },
  { outcomes: "ffpp", failing: 3, passing: 1, turns: "??HH" },
  { outcomes: "fff", failing: 3, passing: 1, turns: "??C" },
  { outcomes: "pfppp", failing: 1, passing: 3, turns: "?CCCH" },
  { outcomes: "ppfpfppp", failing: 1, passing: 2, turns: "?HCCCCHH" },
  // Different failures are failures all the same.
  { outcomes: "pfrf", failing: 3, passing: 1, turns: "HHHC" },
  // A health between the two starts its own count.
  { outcomes: "pdfdd", failing: 1, passing: 2, turns: "??CCD" },
])("outcomes $outcomes, with thresholds $failing and $passing", ({ outcomes, failing, passing, turns }) => {
  expect(turnsOf(outcomes, failing, passing)).toBe(turns);
});

test("a check turns exactly when as many outcomes in a row as its threshold say the same, and it is something else", () => {
  const threshold = fc.integer({ min: 1, max: 10 });
  fc.assert(
    fc.property(fc.array(fc.constantFrom("p", "f", "r", "d"), { maxLength: 30 }), threshold, threshold, (letters, failing, passing) => {
      let state = "?";
      const expected = letters.map((_, i) => {
        const health = (at: number) => (letters[at] === "p" ? "H" : letters[at] === "d" ? "D" : "C");
        let inARow = 1;
        while (i - inARow >= 0 && health(i - inARow) === health(i)) inARow += 1;
        if (inARow >= (health(i) === "C" ? failing : passing)) state = health(i);
        return state;
      });
      expect(turnsOf(letters.join(""), failing, passing)).toBe(expected.join(""));
    }),
    { numRuns: runs(50) },
  );
});
