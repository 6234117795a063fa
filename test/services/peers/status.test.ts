/** The status of a node as a message. */
import { expect, test } from "vitest";
import { statusMessage } from "../../../src/services/peers/status.ts";
import { NO_OPERATIONS } from "../../fakes/peer-operations.ts";

test("the age of the data is absent until it is known", () => {
  const ageOf = (ageMs: number) => statusMessage({ ...NO_OPERATIONS.status(), ageMs }, undefined).age;
  expect(ageOf(1500)).toMatchObject({ seconds: 1n, nanos: 500_000_000 });
  expect(ageOf(Date.UTC(2026, 0, 1))).toBeUndefined();
});
