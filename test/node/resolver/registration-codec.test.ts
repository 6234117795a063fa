import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { EntryKind } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import {
  CatalogQueryRequestSchema,
  CatalogQueryResponseSchema,
  RegisterRequestSchema,
  RegisterResponseSchema,
  RenewResponseSchema,
  UnregisterRequestSchema,
} from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import {
  ownerRequest,
  readOtherOwner,
  readRegistered,
  readRenewed,
  registerRequest,
  unregisterRequest,
} from "../../../src/node/resolver/registration-codec.ts";
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

test("who has the key is asked by its name, and is another where none of its addresses is ours", () => {
  const own = resolverEntry({ nodeId: "edge", zone: "z", version: "1", followed: [], listeners: { grpc: { host: "h", port: 1 } } });
  const asked = fromBinary(CatalogQueryRequestSchema, ownerRequest(own));
  expect(asked).toMatchObject({ namespace: "discovery.resolvers", names: ["edge"], kinds: [EntryKind.SERVICE] });
  const other = resolverEntry({ nodeId: "edge", zone: "z", version: "1", followed: [], listeners: { grpc: { host: "h", port: 2 } } });
  const ownerOf = (items: (typeof own)[]) =>
    readOtherOwner(toBinary(CatalogQueryResponseSchema, create(CatalogQueryResponseSchema, { items })), own);
  expect([ownerOf([]), ownerOf([own]), ownerOf([other])]).toEqual([undefined, undefined, "h:2"]);
});
