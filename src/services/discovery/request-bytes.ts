/**
 * Reads the requests that programs send most. protobuf-es takes several times as long for an entry, and its messages are slower to look at.
 * What is unusual in a request is left to protobuf-es: malformed bytes, a message in two parts, a number of more than 31 bits, a field that this
 * file does not know.
 */
import { type EntryFields, readEntryField } from "../../../gen/waymark/catalog/v1/entry_codec.ts";
import {
  type KeepAliveRequest,
  KeepAliveRequestSchema,
  type RegisterRequest,
  RegisterRequestSchema,
} from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import {
  KEEP_ALIVE_REQUEST_TAG as KEEP_ALIVE,
  KEEP_ALIVE_REQUEST_LAST_FIELD,
  REGISTER_REQUEST_TAG as REGISTER,
  REGISTER_REQUEST_LAST_FIELD,
} from "../../../gen/waymark/discovery/v1/discovery_tags.ts";
import { WaymarkError } from "../../lib/errors.ts";
import { once, readTime, type TimeFields, WireReader } from "../../lib/protowire.ts";
import type { RequestReader } from "../service.ts";

/** HOT: once a registration. An entry takes 0.5 µs, and 1.6 with protobuf-es (bench/register.ts). */
export function readRegisterRequest(bytes: Uint8Array): RegisterRequest | undefined {
  return usual(bytes, registerRequest);
}

/** HOT: once a renewal. */
export function readKeepAliveRequest(bytes: Uint8Array): KeepAliveRequest | undefined {
  return usual(bytes, keepAliveRequest);
}

/** What reads requests of a type faster than protobuf-es does. Undefined for all types but the two that programs send most. */
export function requestReader(typeName: string): RequestReader | undefined {
  if (typeName === RegisterRequestSchema.typeName) return readRegisterRequest;
  return typeName === KeepAliveRequestSchema.typeName ? readKeepAliveRequest : undefined;
}

function usual<M>(bytes: Uint8Array, read: (reader: WireReader) => M): M | undefined {
  const reader = new WireReader(bytes);
  try {
    const message = read(reader);
    return reader.hasWide ? undefined : message;
  } catch (error) {
    if (error instanceof WaymarkError) return undefined;
    throw error;
  }
}

function registerRequest(reader: WireReader): RegisterRequest {
  const entries: EntryFields[] = [];
  const request = { entries, ttl: undefined as TimeFields | undefined, leaseId: "", idempotencyKey: "", staticLease: false };
  while (!reader.isDone()) {
    const tag = reader.tag();
    if (tag === REGISTER.entries) entries.push(readEntryField(reader));
    else if (tag === REGISTER.ttl) {
      once(request.ttl, "ttl");
      request.ttl = readTime(reader);
    } else if (tag === REGISTER.leaseId) request.leaseId = reader.text();
    else if (tag === REGISTER.idempotencyKey) request.idempotencyKey = reader.text();
    else if (tag === REGISTER.staticLease) request.staticLease = reader.varint() !== 0;
    else reader.skipUnknown(tag, REGISTER_REQUEST_LAST_FIELD);
  }
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- it has the fields of the message, and no handler looks for more
  return request as unknown as RegisterRequest;
}

/** A report is a field that is left to protobuf-es. */
function keepAliveRequest(reader: WireReader): KeepAliveRequest {
  const request = { leaseIds: [] as string[], reports: [] };
  while (!reader.isDone()) {
    const tag = reader.tag();
    if (tag === KEEP_ALIVE.leaseIds) request.leaseIds.push(reader.text());
    else reader.skipUnknown(tag, KEEP_ALIVE_REQUEST_LAST_FIELD);
  }
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- it has the fields of the message, and no handler looks for more
  return request as unknown as KeepAliveRequest;
}
