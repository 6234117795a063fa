/** Converts a thrown value to a gRPC status: code, message and `google.rpc` details. All statuses are created in this file. */
import { create, type DescMessage, type Message, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { anyPack, durationFromMs } from "@bufbuild/protobuf/wkt";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "../../gen/google/rpc/status_pb.js";
import { type ErrorCode, type ErrorReason, failedInside, MAX_VIOLATIONS, REASONS, WaymarkError } from "../lib/errors.ts";

/** `ErrorInfo.domain` of all errors. */
const ERROR_DOMAIN = "waymark";

/** The trailers (base64 details, message and other fields) must fit into the 8 KiB that a cautious client accepts. */
const MAX_DETAILS_BYTES = 4_096;
const MAX_MESSAGE_CHARS = 1_024;
const MAX_TEXT_CHARS = 256;
const MAX_METADATA = 16;

/** One `google.rpc` detail, in the form used by gRPC and Connect. */
export interface ErrorDetail {
  readonly desc: DescMessage;
  readonly value: Message;
}

/** The status of a rejected call. */
export interface RpcStatus {
  readonly code: ErrorCode;
  readonly reason: ErrorReason;
  /** The message is well-formed, has at most 1,024 characters, and starts with the reason. */
  readonly message: string;
  readonly details: readonly ErrorDetail[];
}

/**
 * Returns the status for a thrown value. A `WaymarkError` is converted to the status that it defines. Any other value is a bug. `onBug` receives it
 * with its stack trace, and the caller receives only an internal error.
 */
export function statusFrom(thrown: unknown, onBug: (fault: unknown) => void): RpcStatus {
  if (thrown instanceof WaymarkError) return refusal(thrown);
  onBug(thrown);
  return refusal(failedInside());
}

// HOT: during a flood of calls, the same few errors are used repeatedly (policy/limits/rate-limits.ts). Creating and encoding a status for each call
// cost more than answering the call: 115 µs of CPU per rejected call, 70 µs per answered call.
const floodStatuses = new WeakMap<WaymarkError, RpcStatus>();
const floodBytes = new WeakMap<RpcStatus, Uint8Array>();

/** Returns the status of an error. */
export function refusal(error: WaymarkError): RpcStatus {
  return error.reason === "discovery_rate_limited" ? remembered(floodStatuses, error, statusOf) : statusOf(error);
}

function statusOf(error: WaymarkError): RpcStatus {
  return {
    code: REASONS[error.reason],
    reason: error.reason,
    message: clip(error.message, MAX_MESSAGE_CHARS),
    details: detailsOf(error),
  };
}

function remembered<K extends object, V>(known: WeakMap<K, V>, key: K, make: (key: K) => V): V {
  let value = known.get(key);
  if (value === undefined) {
    value = make(key);
    known.set(key, value);
  }
  return value;
}

/**
 * Returns the bytes of `google.rpc.Status` for `grpc-status-details-bin`, at most 4 KiB. Violations that do not fit are dropped from the end.
 */
export function statusBytes(status: RpcStatus): Uint8Array {
  return status.reason === "discovery_rate_limited" ? remembered(floodBytes, status, boundedBytes) : boundedBytes(status);
}

function boundedBytes(status: RpcStatus): Uint8Array {
  const bytes = encodeStatus(status, status.details);
  if (bytes.length <= MAX_DETAILS_BYTES) return bytes;
  return encodeStatus(status, status.details.map(halved));
}

function encodeStatus(status: RpcStatus, details: readonly ErrorDetail[]): Uint8Array {
  const { code, message } = status;
  return toBinary(StatusSchema, create(StatusSchema, { code, message, details: details.map((d) => anyPack(d.desc, d.value)) }));
}

/** Shortens a detail so that all details fit. It keeps the first 4 violations, with at most 256 + 256 characters each. */
function halved(detail: ErrorDetail): ErrorDetail {
  if (detail.desc !== BadRequestSchema) return detail;
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the value has the type of its desc.
  const { fieldViolations } = detail.value as MessageShape<typeof BadRequestSchema>;
  return { desc: BadRequestSchema, value: create(BadRequestSchema, { fieldViolations: fieldViolations.slice(0, 4) }) };
}

function detailsOf(error: WaymarkError): readonly ErrorDetail[] {
  const { violations, retryMs, metadata = {} } = error.details;
  const facts: Record<string, string> = {};
  for (const [key, value] of Object.entries(metadata).slice(0, MAX_METADATA)) facts[key] = clip(value, MAX_TEXT_CHARS);
  const info = { reason: error.reason.toUpperCase(), domain: ERROR_DOMAIN, metadata: facts };
  const details: ErrorDetail[] = [{ desc: ErrorInfoSchema, value: create(ErrorInfoSchema, info) }];
  if (violations !== undefined && violations.length > 0) {
    const fieldViolations = violations
      .slice(0, MAX_VIOLATIONS)
      .map((v) => ({ field: clip(v.field, MAX_TEXT_CHARS), description: clip(v.description, MAX_TEXT_CHARS) }));
    details.push({ desc: BadRequestSchema, value: create(BadRequestSchema, { fieldViolations }) });
  }
  if (retryMs !== undefined) {
    details.push({
      desc: RetryInfoSchema,
      value: create(RetryInfoSchema, { retryDelay: durationFromMs(Math.max(0, Math.round(retryMs))) }),
    });
  }
  return details;
}

/** Shortens text to `maxChars` characters and makes it well-formed, because `encodeURI` would throw for a trailer with a lone surrogate. */
function clip(text: string, maxChars: number): string {
  return (text.length <= maxChars ? text : `${text.slice(0, maxChars - 1)}…`).toWellFormed();
}

// The errors with which the chain rejects calls and ends streams.

/** How long a client of a draining server should wait before it retries on another node. */
const DRAIN_RETRY_MS = 1_000;

/** Returns the error for a stream whose credential has expired. */
export function outlived(): WaymarkError {
  return new WaymarkError("unauthenticated", "the credential of this stream has expired; reopen the stream with a new credential");
}

/** Returns the error for a stream whose credential is no longer valid or now identifies another caller. */
export function withdrawn(): WaymarkError {
  return new WaymarkError(
    "unauthenticated",
    "the credential of this stream was revoked or changed; reopen the stream with a valid credential",
  );
}

/** Returns the error for a call to a draining server. */
export function draining(): WaymarkError {
  return new WaymarkError("draining", "this node is draining; retry on another node", { retryMs: DRAIN_RETRY_MS });
}

/**
 * Returns the error for a method that this server does not have. All nodes have the methods about the mesh (`isOnlyOnNodes`), so a server without
 * them is a resolver. A later version implements the other methods.
 */
export function unimplemented(path: string, isOnlyOnNodes = false): WaymarkError {
  const text = isOnlyOnNodes
    ? "this server is a resolver and not a member of the mesh: send the call to a node"
    : `this server does not implement ${path}`;
  return new WaymarkError("unimplemented", text);
}

/** Returns the error for a caller without a credential if the settings require one. */
export function anonymousRefused(access: "none" | "read", verb: "call" | "write"): WaymarkError {
  return new WaymarkError("unauthenticated", `a credential is required for ${verb}s on this node: tenants.anonymous is "${access}"`);
}

/** Returns the error for a call without a credential to a service that always requires one. */
export function credentialWanted(service: string): WaymarkError {
  return new WaymarkError("unauthenticated", `${service} requires a credential on this node`);
}
