/** When a check turns. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { CheckFailure } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { FAILURE } from "../../../src/catalog/entry/checks.ts";
import { HEALTH } from "../../../src/catalog/record/record.ts";
import { DEGRADED, failed, type Outcome, PASSED } from "../../../src/discovery/checks/outcome.ts";
import { Threshold } from "../../../src/discovery/checks/threshold.ts";

const OUTCOMES: Readonly<Record<string, Outcome>> = { p: PASSED, d: DEGRADED, f: failed(FAILURE.TIMEOUT), r: failed(FAILURE.REFUSED) };

/** After each outcome: what the check has turned to, as the first letter of the health. */
function turnsOf(outcomes: string, failing: number, passing: number): string {
  const threshold = new Threshold({ failing, passing });
  return Array.from(outcomes)
    .map((letter) => {
      threshold.conclude(OUTCOMES[letter] ?? PASSED);
      if (threshold.due !== undefined) threshold.turn();
      return "?HDC".charAt(threshold.state.health);
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

test("a check that turned keeps the failure with which it began, and sways only against what is known", () => {
  const threshold = new Threshold({ failing: 2, passing: 1 });
  threshold.conclude(failed(FAILURE.STATUS, 503));
  expect([threshold.isKnown, threshold.isSwaying]).toEqual([false, false]);
  threshold.conclude(failed(FAILURE.STATUS, 500));
  threshold.turn();
  threshold.conclude(failed(FAILURE.TIMEOUT));
  expect(threshold.state).toEqual(failed(FAILURE.STATUS, 500));
  expect([threshold.isKnown, threshold.isSwaying, threshold.due]).toEqual([true, false, undefined]);
  threshold.conclude(PASSED);
  expect([threshold.isSwaying, threshold.due]).toEqual([true, PASSED]);
});

test("a check turns exactly when as many outcomes in a row as its threshold say the same, and it is something else", () => {
  const threshold = fc.integer({ min: 1, max: 10 });
  fc.assert(
    fc.property(fc.array(fc.constantFrom("p", "f", "r", "d"), { maxLength: 60 }), threshold, threshold, (letters, failing, passing) => {
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
  );
});

test("the failures are those of the contract", () => {
  const words = Object.entries(CheckFailure).filter(([, number]) => typeof number === "number");
  expect(Object.values(FAILURE)).toEqual(words.map(([, number]) => number));
  expect(Object.keys(FAILURE).map((word) => (word === "NONE" ? "UNSPECIFIED" : word))).toEqual(words.map(([word]) => word));
  expect(HEALTH.CRITICAL).toBe(3);
});
