/** Status trailers: what a client is told of a refusal. */
import { expect, test } from "vitest";
import { WaymarkError } from "../../../src/lib/errors.ts";
import { statusTrailers } from "../../../src/server/grpc/message.ts";
import { refusal } from "../../../src/server/status.ts";

test("trailers carry code, percent-encoded message, details and id", () => {
  const trailers = statusTrailers(refusal(new WaymarkError("not_found", "no lease “x” at 100%")), "id-1");
  expect(trailers).toMatchObject({ "grpc-status": "5", "x-request-id": "id-1" });
  expect(decodeURI(trailers["grpc-message"] ?? "")).toBe("not_found: no lease “x” at 100%");
  expect(Object.values(trailers).every((value) => /^[\x20-\x7e]*$/.test(value))).toBe(true);
});

test("details are base64 without padding, as gRPC wants of who emits it", () => {
  for (const message of ["a", "ab", "abc"]) {
    const trailers = statusTrailers(refusal(new WaymarkError("not_found", message)), "");
    expect(trailers["grpc-status-details-bin"]).toMatch(/^[A-Za-z0-9+/]+$/);
  }
});
