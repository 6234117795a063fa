/** Encodes and decodes the calls for a resolver's own registration. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { durationFromMs, durationMs } from "@bufbuild/protobuf/wkt";
import { type Entry, EntrySchema } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import {
  CatalogQueryRequestSchema,
  CatalogQueryResponseSchema,
  DiscoveryService,
  RegisterRequestSchema,
  RegisterResponseSchema,
  RenewRequestSchema,
  RenewResponseSchema,
  UnregisterRequestSchema,
  UnregisterResponseSchema,
} from "../../../gen/waymark/discovery/v1/discovery_pb.js";

export type { Entry };

export const METHODS = DiscoveryService.method;

/** Encodes an entry. Two entries are equal if their bytes are equal. */
export function entryBytes(entry: Entry): Uint8Array {
  return toBinary(EntrySchema, entry);
}

/** Encodes a registration under the lease or, if the id is empty, under a new lease with this TTL. An existing lease keeps its own TTL. */
export function registerRequest(entry: Entry, leaseId: string, ttlMs: number): Uint8Array {
  const lease = leaseId === "" ? { ttl: durationFromMs(ttlMs) } : { leaseId };
  return toBinary(RegisterRequestSchema, create(RegisterRequestSchema, { entries: [entry], ...lease }));
}

export function renewRequest(leaseId: string): Uint8Array {
  return toBinary(RenewRequestSchema, create(RenewRequestSchema, { leaseIds: [leaseId] }));
}

export function unregisterRequest(of: { readonly leaseId: string } | { readonly entry: Entry }): Uint8Array {
  const request = "leaseId" in of ? of : { keys: of.entry.key === undefined ? [] : [of.entry.key] };
  return toBinary(UnregisterRequestSchema, create(UnregisterRequestSchema, request));
}

/**
 * Decodes the answer to a registration. Like the functions below, it throws if the bytes are malformed. `ttlMs` is undefined if the server sent none.
 */
export function readRegistered(bytes: Uint8Array): { readonly leaseId: string; readonly ttlMs: number | undefined } {
  const { leaseId, ttl } = fromBinary(RegisterResponseSchema, bytes);
  return { leaseId, ttlMs: ttl && durationMs(ttl) };
}

export function readRenewed(bytes: Uint8Array, leaseId: string): { readonly isExpired: boolean; readonly ttlMs: number | undefined } {
  const { expiredLeaseIds, ttl } = fromBinary(RenewResponseSchema, bytes);
  return { isExpired: expiredLeaseIds.includes(leaseId), ttlMs: ttl && durationMs(ttl) };
}

/** Returns whether the server removed an entry. */
export function readUnregistered(bytes: Uint8Array): boolean {
  return fromBinary(UnregisterResponseSchema, bytes).removed > 0;
}

/** Encodes a query for the owner of the entry's key. */
export function ownerRequest({ key }: Entry): Uint8Array {
  const asked = key === undefined ? {} : { namespace: key.namespace, names: [key.name], kinds: [key.kind] };
  return toBinary(CatalogQueryRequestSchema, create(CatalogQueryRequestSchema, asked));
}

/** Returns the address of the process that owns the entry's key, unless it is one of the entry's own addresses. Throws for malformed bytes. */
export function readOtherOwner(bytes: Uint8Array, entry: Entry): string | undefined {
  const addressesOf = ({ targets }: Entry) => targets.map(({ host, port }) => `${host}:${port}`);
  const own = addressesOf(entry);
  const { items } = fromBinary(CatalogQueryResponseSchema, bytes);
  const others = items.map(addressesOf).filter((addresses) => !addresses.some((address) => own.includes(address)));
  return others[0]?.[0];
}
