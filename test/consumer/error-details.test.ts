/** Details of failed calls, also those that strangers wrote. */
import { create, toBinary } from "@bufbuild/protobuf";
import { anyPack } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { ErrorInfoSchema, RetryInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "../../gen/google/rpc/status_pb.js";
import { findMessage, unpackDetail } from "../../src/consumer/error-details.ts";

const INFO = anyPack(ErrorInfoSchema, create(ErrorInfoSchema, { reason: "READ_ONLY" }));
const BROKEN = { ...INFO, value: Uint8Array.of(0xff, 0xff, 0xff) };

test("a detail is read as its own type, and nothing else of it is", () => {
  expect(unpackDetail(INFO, ErrorInfoSchema)?.reason).toBe("READ_ONLY");
  expect(unpackDetail(INFO, RetryInfoSchema)).toBeUndefined();
  expect(unpackDetail(BROKEN, ErrorInfoSchema)).toBeUndefined();
});

test("absent and damaged bytes have no details", () => {
  const bytes = toBinary(StatusSchema, create(StatusSchema, { details: [INFO] }));
  expect(findMessage(bytes, StatusSchema)?.details).toHaveLength(1);
  expect(findMessage(undefined, StatusSchema)).toBeUndefined();
  expect(findMessage(bytes.subarray(0, -1), StatusSchema)).toBeUndefined();
});
