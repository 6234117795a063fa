/**
 * The headers of a request: what a client writes and a server reads, and which requests are no gRPC calls (gRPC over HTTP/2, "Requests" and
 * "Timeout").
 */
import { invalid, WaymarkError } from "../../lib/errors.ts";
import { addFields, type GrpcMetadata, type HeaderBlock } from "./metadata.ts";

/** Encodings that messages are read in, as `grpc-encoding` names them; messages are sent plain (gRPC's compression.md). */
export type MessageEncoding = "gzip" | "deflate";

/** What `grpc-accept-encoding` says where messages can be inflated. */
const ACCEPTED_ENCODINGS = "identity,deflate,gzip";

/** A request that is a gRPC call. */
export interface CallHead {
  readonly kind: "call";
  /** `/package.Service/Method`, unchecked. */
  readonly path: string;
  /** Undefined without a deadline; a refusal when the header cannot be read. */
  readonly timeoutMs: number | WaymarkError | undefined;
  /** Of messages that say they are compressed. */
  readonly encoding: MessageEncoding | undefined;
}

/** A request that is answered with an HTTP status, because its sender does not speak gRPC. */
export interface HttpRefusal {
  readonly kind: "http";
  readonly headers: HeaderBlock;
  /** For a person; empty where the headers say it all. */
  readonly text: string;
}

/** A call that is refused for what its headers say. */
export interface CallRefusal {
  readonly kind: "refused";
  readonly error: WaymarkError;
  /** Fields to go with the status. */
  readonly headers: HeaderBlock;
}

const GRPC_TYPE = /^application\/grpc(?:\+proto)?[ \t]*(?:;|$)/i;

/** Whether a content type is gRPC's with messages in protobuf. */
export function isGrpcType(contentType: string | undefined): boolean {
  return GRPC_TYPE.test(contentType ?? "");
}

/**
 * Reads the headers of a request. A verb other than POST is answered with HTTP 405, a content type that is not gRPC's with 415, as the
 * protocol asks; an unknown encoding is refused with UNIMPLEMENTED and the encodings that are known (compression.md). A missing
 * `te: trailers` is let pass, as grpc-go and grpc-java do: whether trailers come through is seen by the client alone.
 */
// HOT: once a call.
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
    text: `content-type ${is}; this port takes gRPC, as application/grpc or application/grpc+proto\n`,
  };
}

function unknownEncoding(named: string): CallRefusal {
  const error = new WaymarkError(
    "unimplemented",
    `messages in grpc-encoding ${named.slice(0, 64)} are not read here; use identity, deflate or gzip`,
  );
  return { kind: "refused", error, headers: { "grpc-accept-encoding": ACCEPTED_ENCODINGS } };
}

/**
 * The value of a field. Of `authorization` it is all values joined, so that two credentials are none: Node gives the first of them alone, where
 * a proxy before this node may have looked at the second. `fields`: names and values in turn, as they came.
 */
// HOT: several times a call.
export function fieldOf(name: string, headers: HeaderBlock, fields: readonly string[]): string | undefined {
  const value = firstOf(headers[name]);
  if (name !== "authorization" || value === undefined) return value;
  return fields.filter((_, at) => at % 2 === 1 && fields[at - 1]?.toLowerCase() === name).join(", ");
}

/** The first value of a field, as node:http2 gives it. */
export function firstOf(value: string | readonly string[] | undefined): string | undefined {
  return typeof value === "object" ? value[0] : value;
}

/** The encoding that a `grpc-encoding` header names: undefined for none, "unknown" for one that is not read here. */
export function encodingOf(header: string | undefined): MessageEncoding | "unknown" | undefined {
  if (header === undefined || header === "identity") return undefined;
  return header === "gzip" || header === "deflate" ? header : "unknown";
}

/** Longest timeout that is taken as meant; a call with a longer one has no deadline. Ten years, as no timer reaches it. */
const MAX_TIMEOUT_MS = 10 * 365 * 86_400_000;

const TIMEOUT = /^(\d{1,8})([HMSmun])$/;
const UNIT_MS: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1_000, m: 1, u: 1e-3, n: 1e-6 };

/** Largest number that the header may have: eight digits. */
const MAX_VALUE = 99_999_999;

/**
 * The timeout in ms; undefined without one or beyond ten years. A refusal for anything that the grammar (1 to 8 digits and a unit) does
 * not allow, such as a negative one.
 */
export function parseTimeout(text: string | undefined): number | WaymarkError | undefined {
  if (text === undefined) return undefined;
  const match = TIMEOUT.exec(text);
  const unitMs = UNIT_MS[match?.[2] ?? ""];
  if (match === null || unitMs === undefined)
    return invalid("grpc-timeout", `want 1 to 8 digits and one of H M S m u n, got "${text.slice(0, 32)}"`);
  const timeoutMs = Number(match[1]) * unitMs;
  return timeoutMs > MAX_TIMEOUT_MS ? undefined : timeoutMs;
}

/** The header for a timeout in ms, rounded up, so that the server never gives up first. A timeout that is over becomes 1 ns. */
export function formatTimeout(timeoutMs: number): string {
  if (timeoutMs <= 0) return "1n";
  for (const unit of ["n", "u", "m", "S", "M"]) {
    const value = Math.ceil(timeoutMs / (UNIT_MS[unit] ?? 1));
    if (value <= MAX_VALUE) return `${value}${unit}`;
  }
  return `${Math.min(MAX_VALUE, Math.ceil(timeoutMs / 3_600_000))}H`;
}

/** Refusal of a call whose deadline passed. */
export function expired(): WaymarkError {
  return new WaymarkError("deadline_exceeded", "the deadline passed before the answer was ready");
}

/** What is called, and how. */
export interface CallTarget {
  /** `/package.Service/Method`. */
  readonly path: string;
  readonly metadata?: GrpcMetadata | undefined;
  /** Ms until the deadline; undefined without one. */
  readonly timeoutMs?: number | undefined;
}

export interface RequestHead extends CallTarget {
  /** Messages may be compressed with gzip. */
  readonly sendsGzip: boolean;
  /** Answers may be compressed. */
  readonly acceptsCompressed: boolean;
}

/** The header block of a request; node:http2 adds the scheme and the authority of its connection. */
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
