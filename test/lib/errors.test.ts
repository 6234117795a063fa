import { expect, test } from "vitest";
import { assert, CODES, codeName, invalid, REASONS, receivedError, sentError, WaymarkError } from "../../src/lib/errors.ts";

test("the message starts with the reason, and the cause is kept", () => {
  const cause = new Error("disk full");
  const error = new WaymarkError("store_unavailable", "the journal takes no writes", { cause, retryMs: 500 });
  expect(error.message).toBe("store_unavailable: the journal takes no writes");
  expect(error).toMatchObject({ name: "WaymarkError", reason: "store_unavailable", cause, details: { retryMs: 500 } });
});

test("a bad field is refused with its path and the rule it broke", () => {
  const error = invalid("entries[3].targets[0].port", "70000 is more than 65535");
  expect(error.reason).toBe("invalid_argument");
  expect(error.message).toBe("invalid_argument: entries[3].targets[0].port: 70000 is more than 65535");
  expect(error.details.violations).toEqual([{ field: "entries[3].targets[0].port", description: "70000 is more than 65535" }]);
});

test("a refusal is the same in the thread that it is sent to, but for its cause", () => {
  const details = { retryMs: 500, metadata: { bound: "watches" }, violations: [{ field: "cursor", description: "bad" }] };
  const error = new WaymarkError("quota_exceeded", "quota_exceeded: twice", { ...details, cause: () => "of that thread" });
  const received = receivedError(structuredClone(sentError(error)));
  expect(received).toMatchObject({ name: "WaymarkError", reason: "quota_exceeded", message: error.message });
  expect(received.details).toEqual(details);
});

test("every reason has a code that a client may see", () => {
  const { OK, CANCELLED, UNKNOWN, ...refusals } = CODES;
  const codes: readonly number[] = Object.values(refusals);
  for (const code of Object.values(REASONS)) expect(codes).toContain(code);
  expect([OK, CANCELLED, UNKNOWN].map(codeName)).toEqual(["OK", "CANCELLED", "UNKNOWN"]);
});

test("a relation that holds says nothing; one that does not names the facts", () => {
  expect(() => assert(true, "fine")).not.toThrow();
  expect(() => assert(false, "origin seq has a gap", { seq: 7, last: 5 })).toThrow(
    'assertion failed: origin seq has a gap {"seq":7,"last":5}',
  );
});
