/** Retries beyond the first tries (docs/guides/client.md). */
import { expect, test } from "vitest";
import { RetryBudget } from "../../../src/client/servers/server-list.ts";

test("ten retries may come at once, also after very many calls that needed none, and then a tenth of the calls", () => {
  const budget = new RetryBudget();
  for (let i = 0; i < 100_000; i++) budget.earn();
  let spent = 0;
  while (spent < 1000 && budget.spend()) spent += 1;
  expect(spent).toBe(10);
  for (let i = 0; i < 1000; i++) {
    budget.earn();
    if (budget.spend()) spent += 1;
  }
  expect(spent).toBe(110);
});
