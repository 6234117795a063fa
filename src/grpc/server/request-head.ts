/** What the headers of a request say, and which requests are no gRPC calls (gRPC over HTTP/2, "Requests"). */
import { WaymarkError } from "../../lib/errors.ts";
import { ACCEPTED_ENCODINGS, type Encoding, encodingOf } from "../wire/encoding.ts";
import type { HeaderBlock } from "../wire/metadata.ts";
import { parseTimeout } from "../wire/timeout.ts";

/** A request that is a gRPC call. */
export interface CallHead {
  readonly kind: "call";
  /** `/package.Service/Method`, unchecked. */
  readonly path: string;
  /** Undefined without a deadline; a refusal when the header cannot be read. */
  readonly timeoutMs: number | WaymarkError | undefined;
  /** Of messages that say they are compressed. */
  readonly encoding: Encoding | undefined;
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
    timeoutMs: timeoutOf(firstOf(headers["grpc-timeout"])),
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

function timeoutOf(text: string | undefined): number | WaymarkError | undefined {
  if (text === undefined) return undefined;
  try {
    return parseTimeout(text);
  } catch (thrown) {
    if (thrown instanceof WaymarkError) return thrown;
    throw thrown;
  }
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
