/**
 * Defines gRPC statuses: their codes, their encoding in trailers, and the mapping from HTTP responses and stream resets without a status (gRPC over
 * HTTP/2, "Responses" and "HTTP2 Transport Mapping"; gRPC's statuscodes.md and http-grpc-status-mapping.md).
 */
import { CODES, codeName, REASONS, WaymarkError } from "../../lib/errors.ts";
import { decodeBinary, encodeBinary, type HeaderBlock } from "./metadata.ts";
import { firstOf } from "./request-head.ts";

/** A gRPC status code. No other codes exist. */
export type StatusCode = (typeof CODES)[keyof typeof CODES];

const BY_NUMBER: readonly StatusCode[] = Object.values(CODES);

/** How a call ended. */
export interface GrpcStatus {
  readonly code: StatusCode;
  /** A human-readable explanation, which may be any Unicode text. */
  readonly message: string;
  /** The bytes of a `google.rpc.Status` message, sent as `grpc-status-details-bin`. */
  readonly details?: Uint8Array | undefined;
}

/** The status of a successful call. */
export const OK: GrpcStatus = { code: CODES.OK, message: "" };

/** A call that ended with a status other than OK. Handlers throw this error to choose the status of their call, and clients receive it. */
export class StatusError extends Error {
  readonly status: GrpcStatus;

  constructor(status: GrpcStatus) {
    super(`${codeName(status.code)}: ${status.message}`);
    this.name = "StatusError";
    this.status = status;
  }
}

/**
 * Returns the status for a thrown value: the status of a `StatusError`, the code for a `WaymarkError`'s reason, or INTERNAL for any other value.
 * INTERNAL does not include the error's message, because callers must not see messages about bugs. Servers can pass a more detailed function.
 */
export function statusOfThrown(thrown: unknown): GrpcStatus {
  if (thrown instanceof StatusError) return thrown.status;
  if (thrown instanceof WaymarkError) return { code: REASONS[thrown.reason], message: thrown.message };
  return { code: CODES.INTERNAL, message: "the server failed to process this request" };
}

/** Returns the trailer fields of a status. Empty fields are omitted. */
export function statusFields(status: GrpcStatus): Record<string, string> {
  const fields: Record<string, string> = { "grpc-status": String(status.code) };
  if (status.message !== "") fields["grpc-message"] = encodeStatusMessage(status.message);
  if (status.details !== undefined) fields["grpc-status-details-bin"] = encodeBinary(status.details);
  return fields;
}

/** Returns the status in a block of trailers (or of headers that end the stream). Returns undefined if the block does not contain a status. */
export function statusIn(fields: HeaderBlock): GrpcStatus | undefined {
  const text = firstOf(fields["grpc-status"]);
  if (text === undefined) return undefined;
  const details = firstOf(fields["grpc-status-details-bin"]);
  return {
    code: statusCode(text),
    message: decodeStatusMessage(firstOf(fields["grpc-message"]) ?? ""),
    details: details === undefined ? undefined : decodeBinary(details),
  };
}

/** Parses a code from trailers. A code that gRPC does not define becomes UNKNOWN, as clients must do according to statuscodes.md. */
function statusCode(text: string): StatusCode {
  const code = /^\d{1,2}$/.test(text) ? BY_NUMBER[Number(text)] : undefined;
  return code ?? CODES.UNKNOWN;
}

const PLAIN_MESSAGE = /^[\x20-\x24\x26-\x7e]*$/;
const utf8 = new TextEncoder();
const fromUtf8 = new TextDecoder();

/**
 * Percent-encodes a message according to gRPC: encodes the UTF-8 bytes of the percent sign and of all characters that are not printable ASCII. An
 * unpaired surrogate becomes the replacement character.
 */
export function encodeStatusMessage(message: string): string {
  if (PLAIN_MESSAGE.test(message)) return message;
  let encoded = "";
  for (const byte of utf8.encode(message)) {
    encoded +=
      byte >= 0x20 && byte <= 0x7e && byte !== 0x25 ? String.fromCodePoint(byte) : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  }
  return encoded;
}

/** Decodes a message. Invalid percent signs are kept, because according to gRPC a status must not be lost if its message is invalid. */
export function decodeStatusMessage(encoded: string): string {
  if (!encoded.includes("%")) return encoded;
  const bytes: number[] = [];
  for (let at = 0; at < encoded.length; at += 1) {
    const hex = encoded[at] === "%" ? encoded.slice(at + 1, at + 3) : "";
    if (/^[0-9a-fA-F]{2}$/.test(hex)) {
      bytes.push(Number.parseInt(hex, 16));
      at += 2;
    } else for (const byte of utf8.encode(encoded[at])) bytes.push(byte);
  }
  return fromUtf8.decode(Uint8Array.from(bytes));
}

const HTTP_STATUSES: ReadonlyMap<number, StatusCode> = new Map([
  [400, CODES.INTERNAL],
  [401, CODES.UNAUTHENTICATED],
  [403, CODES.PERMISSION_DENIED],
  [404, CODES.UNIMPLEMENTED],
  [429, CODES.UNAVAILABLE],
  [502, CODES.UNAVAILABLE],
  [503, CODES.UNAVAILABLE],
  [504, CODES.UNAVAILABLE],
]);

/**
 * Returns the code for an HTTP response without `grpc-status`, such as the response of a proxy or another server
 * (http-grpc-status-mapping.md).
 */
export function codeOfHttpStatus(httpStatus: number): StatusCode {
  return HTTP_STATUSES.get(httpStatus) ?? CODES.UNKNOWN;
}

/** HTTP/2 error codes (RFC 9113, section 7). */
export const HTTP2_ERROR = {
  NO_ERROR: 0,
  REFUSED_STREAM: 7,
  CANCEL: 8,
  ENHANCE_YOUR_CALM: 11,
  INADEQUATE_SECURITY: 12,
} as const;

/** Returns the code for a stream that was reset with an HTTP/2 error code before its trailers arrived (gRPC over HTTP/2, "Errors"). */
export function codeOfReset(http2Code: number): StatusCode {
  switch (http2Code) {
    case HTTP2_ERROR.REFUSED_STREAM:
      return CODES.UNAVAILABLE;
    case HTTP2_ERROR.CANCEL:
      return CODES.CANCELLED;
    case HTTP2_ERROR.ENHANCE_YOUR_CALM:
      return CODES.RESOURCE_EXHAUSTED;
    case HTTP2_ERROR.INADEQUATE_SECURITY:
      return CODES.PERMISSION_DENIED;
    default:
      return CODES.INTERNAL;
  }
}
