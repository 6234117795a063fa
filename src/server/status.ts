/** From a thrown value to a gRPC status: code, message and `google.rpc` details. Nobody else builds one. */
import { create, type DescMessage, type Message, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { anyPack, durationFromMs } from "@bufbuild/protobuf/wkt";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "../../gen/google/rpc/status_pb.js";
import { type ErrorCode, type ErrorReason, failedInside, MAX_VIOLATIONS, REASONS, WaymarkError } from "../lib/errors.ts";

/** `ErrorInfo.domain` of everything we refuse. */
const ERROR_DOMAIN = "waymark";

/** Trailers must fit the 8 KiB a cautious client takes: base64 of the details, the message, and the rest. */
const MAX_DETAILS_BYTES = 4_096;
const MAX_MESSAGE_CHARS = 1_024;
const MAX_TEXT_CHARS = 256;
const MAX_METADATA = 16;

/** One `google.rpc` detail in the shape both gRPC and Connect take. */
export interface ErrorDetail {
  readonly desc: DescMessage;
  readonly value: Message;
}

/** What a refused call is answered with. */
export interface RpcStatus {
  readonly code: ErrorCode;
  readonly reason: ErrorReason;
  /** Well-formed, at most 1,024 characters, starts with the reason. */
  readonly message: string;
  readonly details: readonly ErrorDetail[];
}

/**
 * The status for anything thrown. A `WaymarkError` says what it says; everything else is a fault of ours: it is given to
 * `onBug` whole (with its stack) and the caller learns only that it was internal.
 */
export function statusFrom(thrown: unknown, onBug: (fault: unknown) => void): RpcStatus {
  if (thrown instanceof WaymarkError) return refusal(thrown);
  onBug(thrown);
  return refusal(failedInside());
}

// HOT: a flood is refused with the same few errors over and over (policy/limits/rate-limits.ts). Making and encoding a status for each
// call cost more than to answer it: 115 µs of CPU a refused call, where an answered one took 70.
const floodStatuses = new WeakMap<WaymarkError, RpcStatus>();
const floodBytes = new WeakMap<RpcStatus, Uint8Array>();

/** The status of a refusal. */
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

/** `google.rpc.Status` for `grpc-status-details-bin`, at most 4 KiB: violations are dropped from the end to fit. */
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

/** Enough of each detail to fit: 32 violations of 256 + 256 characters are cut to 8. */
function halved(detail: ErrorDetail): ErrorDetail {
  if (detail.desc !== BadRequestSchema) return detail;
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the value is what its desc says.
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

/** At most so many characters, well-formed: a lone surrogate would make `encodeURI` of the trailer throw. */
function clip(text: string, maxChars: number): string {
  return (text.length <= maxChars ? text : `${text.slice(0, maxChars - 1)}…`).toWellFormed();
}

// Ends that the chain gives to calls: what it refuses them with, and ends a stream with.

/** How long a client of a draining server should wait before it tries (another node). */
const DRAIN_RETRY_MS = 1_000;

/** The end of a stream whose caller would not be let in any more. */
export function outlived(): WaymarkError {
  return new WaymarkError("unauthenticated", "the credential that this stream was opened with has expired; open it again with a new one");
}

/** The end of a stream whose credential counts no more, or stands for somebody else. */
export function withdrawn(): WaymarkError {
  return new WaymarkError(
    "unauthenticated",
    "the credential that this stream was opened with was withdrawn or changed; open it again with one that counts",
  );
}

/** Refusal of a call to a server that is going away. */
export function draining(): WaymarkError {
  return new WaymarkError("draining", "this node is draining; use another", { retryMs: DRAIN_RETRY_MS });
}

/** Refusal of a method that this server does not have: it comes with a later version, or the server is a resolver. */
export function unimplemented(path: string): WaymarkError {
  return new WaymarkError("unimplemented", `this server does not offer ${path}`);
}

/** A caller without a credential, where the settings want one; it is told which one. */
export function anonymousRefused(access: "none" | "read", verb: "call" | "write"): WaymarkError {
  return new WaymarkError("unauthenticated", `callers without a credential may not ${verb} here: tenants.anonymous is "${access}"`);
}

/** A caller without a credential, of a service that is for others alone. */
export function credentialWanted(service: string): WaymarkError {
  return new WaymarkError("unauthenticated", `${service} needs a credential here`);
}
