/**
 * Writes request headers for clients, reads them for servers, and detects requests that are not gRPC calls (gRPC over HTTP/2, "Requests" and
 * "Timeout").
 */
import { invalid, WaymarkError } from "../../lib/errors.ts";
import { addFields, type GrpcMetadata, type HeaderBlock } from "./metadata.ts";

/** Supported encodings for received messages, as in `grpc-encoding`. Messages are sent uncompressed (gRPC's compression.md). */
export type MessageEncoding = "gzip" | "deflate";

/** Value of `grpc-accept-encoding` if messages can be inflated. */
const ACCEPTED_ENCODINGS = "identity,deflate,gzip";

/** A request that is a gRPC call. */
export interface CallHead {
  readonly kind: "call";
  /** `/package.Service/Method`, unchecked. */
  readonly path: string;
  /** Undefined if the call has no deadline, or an error if the header is invalid. */
  readonly timeoutMs: number | WaymarkError | undefined;
  /** The encoding of messages that are marked as compressed. */
  readonly encoding: MessageEncoding | undefined;
}

/** An HTTP status that is the answer to a request from a sender that does not use gRPC. */
export interface HttpRefusal {
  readonly kind: "http";
  readonly headers: HeaderBlock;
  /** Explanation for people. Empty if the headers are sufficient. */
  readonly text: string;
}

/** A call that is rejected because of its headers. */
export interface CallRefusal {
  readonly kind: "refused";
  readonly error: WaymarkError;
  /** Fields that are sent with the status. */
  readonly headers: HeaderBlock;
}

const GRPC_TYPE = /^application\/grpc(?:\+proto)?[ \t]*(?:;|$)/i;

/** Whether a content type denotes gRPC with protobuf messages. */
export function isGrpcType(contentType: string | undefined): boolean {
  return contentType === "application/grpc" || GRPC_TYPE.test(contentType ?? "");
}

/**
 * Reads the headers of a request. As the protocol requires, a method other than POST is answered with HTTP 405, and a content type other
 * than gRPC's with HTTP 415. An unknown encoding is rejected with UNIMPLEMENTED and the list of supported encodings (compression.md). A missing `te:
 * trailers` is accepted, as in grpc-go and grpc-java, because only the client can see whether trailers arrive.
 */
// HOT: once per call.
export function readHead(headers: HeaderBlock): CallHead | HttpRefusal | CallRefusal {
  if (headers[":method"] !== "POST") return NOT_POST;
  const contentType = firstOf(headers["content-type"]);
  if (!isGrpcType(contentType)) return notGrpc(contentType);
  const named = firstOf(headers["grpc-encoding"]);
  const encoding = encodingOf(named);
  if (encoding === "unknown") return unknownEncoding(named ?? "");
  return {
    kind: "call",
    path: firstOf(headers[":path"]) ?? "",
    timeoutMs: parseTimeout(firstOf(headers["grpc-timeout"])),
    encoding,
  };
}

const NOT_POST: HttpRefusal = { kind: "http", headers: { ":status": "405", allow: "POST" }, text: "" };

function notGrpc(contentType: string | undefined): HttpRefusal {
  const is = contentType === undefined ? "is missing" : `is ${JSON.stringify(contentType.slice(0, 64))}`;
  return {
    kind: "http",
    headers: { ":status": "415", "content-type": "text/plain" },
    text: `content-type ${is}; this port accepts only gRPC: application/grpc or application/grpc+proto\n`,
  };
}

function unknownEncoding(named: string): CallRefusal {
  const error = new WaymarkError("unimplemented", `unsupported grpc-encoding "${named.slice(0, 64)}": use identity, deflate or gzip`);
  return { kind: "refused", error, headers: { "grpc-accept-encoding": ACCEPTED_ENCODINGS } };
}

/**
 * Returns the value of a field. For `authorization`, joins all values, so that two credentials are invalid. Node.js returns only the first one, but a
 * proxy in front of this node may have checked the second. `fields`: alternating names and values in the order of arrival.
 */
// HOT: several times per call.
export function fieldOf(name: string, headers: HeaderBlock, fields: readonly string[]): string | undefined {
  const value = firstOf(headers[name]);
  if (name !== "authorization" || value === undefined) return value;
  let joined: string | undefined;
  for (let at = 1; at < fields.length; at += 2) {
    if (fields[at - 1]?.toLowerCase() === name) joined = joined === undefined ? fields[at] : `${joined}, ${fields[at]}`;
  }
  return joined;
}

/** Returns the first value of a field as node:http2 reports it. */
export function firstOf(value: string | readonly string[] | undefined): string | undefined {
  return typeof value === "object" ? value[0] : value;
}

/** Returns the encoding in a `grpc-encoding` header: undefined if there is none, or "unknown" if it is not supported. */
export function encodingOf(header: string | undefined): MessageEncoding | "unknown" | undefined {
  if (header === undefined || header === "identity") return undefined;
  return header === "gzip" || header === "deflate" ? header : "unknown";
}

/** A call with a longer timeout has no deadline. The limit is ten years, which no timer reaches. */
const MAX_TIMEOUT_MS = 10 * 365 * 86_400_000;

const TIMEOUT = /^(\d{1,8})([HMSmun])$/;
const UNIT_MS: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1_000, m: 1, u: 1e-3, n: 1e-6 };

/** The largest number that the header can contain (eight digits). */
const MAX_VALUE = 99_999_999;

/**
 * Returns the timeout in ms. Returns undefined if there is none or it is longer than ten years. Returns an error for a value that the grammar (1 to 8
 * digits and a unit) does not allow, such as a negative value.
 */
export function parseTimeout(text: string | undefined): number | WaymarkError | undefined {
  if (text === undefined) return undefined;
  const match = TIMEOUT.exec(text);
  const unitMs = UNIT_MS[match?.[2] ?? ""];
  if (match === null || unitMs === undefined)
    return invalid("grpc-timeout", `invalid timeout "${text.slice(0, 32)}": expected 1 to 8 digits and a unit (H, M, S, m, u or n)`);
  const timeoutMs = Number(match[1]) * unitMs;
  return timeoutMs > MAX_TIMEOUT_MS ? undefined : timeoutMs;
}

/**
 * Returns the header value for a timeout in ms, rounded up so that the server never gives up before the client. An elapsed timeout
 * becomes 1 ns.
 */
export function formatTimeout(timeoutMs: number): string {
  if (timeoutMs <= 0) return "1n";
  for (const unit of ["n", "u", "m", "S", "M"]) {
    const value = Math.ceil(timeoutMs / (UNIT_MS[unit] ?? 1));
    if (value <= MAX_VALUE) return `${value}${unit}`;
  }
  return `${Math.min(MAX_VALUE, Math.ceil(timeoutMs / 3_600_000))}H`;
}

/** Returns the error for a call whose deadline has passed. */
export function expired(): WaymarkError {
  return new WaymarkError("deadline_exceeded", "the deadline passed before the response was ready");
}

/** The method that a client calls, with the call's metadata and deadline. */
export interface CallTarget {
  /** `/package.Service/Method`. */
  readonly path: string;
  readonly metadata?: GrpcMetadata | undefined;
  /** Ms until the deadline. Undefined if the call has no deadline. */
  readonly timeoutMs?: number | undefined;
}

export interface RequestHead extends CallTarget {
  /** Whether messages may be compressed with gzip. */
  readonly sendsGzip: boolean;
  /** Whether responses may be compressed. */
  readonly acceptsCompressed: boolean;
}

/** Returns the header block of a request. node:http2 adds the scheme and the authority of its connection. */
export function requestFields(head: RequestHead): HeaderBlock {
  const fields: Record<string, string | readonly string[]> = {
    ":method": "POST",
    ":path": head.path,
    te: "trailers",
    "content-type": "application/grpc+proto",
    "user-agent": "waymark",
  };
  if (head.timeoutMs !== undefined) fields["grpc-timeout"] = formatTimeout(head.timeoutMs);
  if (head.sendsGzip) fields["grpc-encoding"] = "gzip";
  if (head.acceptsCompressed) fields["grpc-accept-encoding"] = ACCEPTED_ENCODINGS;
  if (head.metadata !== undefined) addFields(fields, head.metadata);
  return fields;
}
