/** Statuses: the code, the reason and the details of everything a caller can be refused with. */
import { fromBinary } from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "../../gen/google/rpc/status_pb.js";
import { codeName, type ErrorReason, invalid, REASONS, WaymarkError } from "../../src/lib/errors.ts";
import { refusal, statusBytes, statusFrom } from "../../src/server/status.ts";

function decoded(error: WaymarkError) {
  const status = fromBinary(StatusSchema, statusBytes(refusal(error)));
  const find = <T>(pick: (any: (typeof status.details)[number]) => T | undefined) =>
    status.details.map(pick).find((value) => value !== undefined);
  return {
    code: status.code,
    message: status.message,
    info: find((any) => anyUnpack(any, ErrorInfoSchema)),
    badRequest: find((any) => anyUnpack(any, BadRequestSchema)),
    retry: find((any) => anyUnpack(any, RetryInfoSchema)),
  };
}

test.each(Object.keys(REASONS) as ErrorReason[])("%s carries its code, its reason in upper snake and the domain", (reason) => {
  const { code, message, info } = decoded(new WaymarkError(reason, "was refused", { metadata: { have: "1" } }));
  expect(code).toBe(REASONS[reason]);
  expect(codeName(code)).not.toBe("UNKNOWN");
  expect(message).toBe(`${reason}: was refused`);
  expect(info).toMatchObject({ reason: reason.toUpperCase(), domain: "waymark", metadata: { have: "1" } });
});

test("bad input names the field and the rule", () => {
  const { badRequest, retry } = decoded(invalid("entries[3].targets[0].port", "must be 1 to 65535, got 70000"));
  expect(badRequest?.fieldViolations).toMatchObject([
    { field: "entries[3].targets[0].port", description: "must be 1 to 65535, got 70000" },
  ]);
  expect(retry).toBeUndefined();
});

test("a retry that helps says when", () => {
  const { retry } = decoded(new WaymarkError("draining", "use another", { retryMs: 1_500 }));
  expect(retry?.retryDelay).toMatchObject({ seconds: 1n, nanos: 500_000_000 });
});

test("what is not a refusal is internal: told to the log, not to the caller", () => {
  const faults: unknown[] = [];
  const fault = new TypeError("password is hunter2");
  const status = statusFrom(fault, (thrown) => faults.push(thrown));
  expect(status).toMatchObject({ code: REASONS.internal, reason: "internal" });
  expect(status.message).not.toContain("hunter2");
  expect(Buffer.from(statusBytes(status)).toString()).not.toContain("hunter2");
  expect(faults).toEqual([fault]);
});

test("details stay within 4 KiB however much was wrong", () => {
  const violations = Array.from({ length: 1_000 }, (_, index) => ({
    field: `entries[${index}]`.repeat(50),
    description: "x".repeat(5_000),
  }));
  const error = new WaymarkError("invalid_argument", "y".repeat(10_000), { violations, metadata: { big: "z".repeat(10_000) } });
  expect(statusBytes(refusal(error)).length).toBeLessThanOrEqual(4_096);
  expect(decoded(error).badRequest?.fieldViolations.length).toBeGreaterThan(0);
  expect(refusal(error).message.length).toBeLessThanOrEqual(1_024);
});

test("a message with half a surrogate pair can still be sent", () => {
  const { message } = refusal(new WaymarkError("invalid_argument", `name "\ud800" is not text`));
  expect(() => encodeURI(message)).not.toThrow();
});

test("the status of a rate limit is made and encoded once, however often the same error is thrown", () => {
  const limited = new WaymarkError("discovery_rate_limited", "too many", { retryMs: 500 });
  expect(refusal(limited)).toBe(refusal(limited));
  expect(statusBytes(refusal(limited))).toBe(statusBytes(refusal(limited)));
  expect(decoded(limited).retry?.retryDelay).toMatchObject({ seconds: 0n, nanos: 500_000_000 });
});
