import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import {
  RegisterRequestSchema,
  RegisterResponseSchema,
  RenewResponseSchema,
  UnregisterRequestSchema,
} from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { readRegistered, readRenewed, registerRequest, unregisterRequest } from "../../../src/node/resolver/registration-codec.ts";
import { resolverEntry } from "../../../src/services/resolving/own-entry.ts";

const entry = resolverEntry({ nodeId: "edge", zone: "z", version: "1", followed: [], listeners: {} });

test("a registration asks for a ttl, or joins a lease; an unregister names the lease or the key", () => {
  const registration = (leaseId: string) => fromBinary(RegisterRequestSchema, registerRequest(entry, leaseId, 30_000));
  expect(registration("")).toMatchObject({ entries: [{ key: { name: "edge" } }], ttl: { seconds: 30n }, leaseId: "" });
  expect([registration("L").ttl, registration("L").leaseId]).toEqual([undefined, "L"]);
  expect(fromBinary(UnregisterRequestSchema, unregisterRequest({ leaseId: "L" }))).toMatchObject({ leaseId: "L", keys: [] });
  expect(fromBinary(UnregisterRequestSchema, unregisterRequest({ entry }))).toMatchObject({ leaseId: "", keys: [{ name: "edge" }] });
});

test("an answer has the ttl that the server granted, and says whether the lease is over", () => {
  const ttl = { seconds: 12n, nanos: 500_000_000 };
  expect(readRegistered(toBinary(RegisterResponseSchema, create(RegisterResponseSchema, { leaseId: "L", ttl })))).toEqual({
    leaseId: "L",
    ttlMs: 12_500,
  });
  const renewed = toBinary(RenewResponseSchema, create(RenewResponseSchema, { expiredLeaseIds: ["L"] }));
  expect([readRenewed(renewed, "L"), readRenewed(renewed, "M")]).toMatchObject([
    { isExpired: true, ttlMs: undefined },
    { isExpired: false },
  ]);
});
