/** Converts a failed call on the wire to the error that the caller gets. */
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "../../gen/google/rpc/status_pb.js";
import { findMessage, unpackDetail } from "../consumer/error-details.ts";
import { codeName } from "../lib/errors.ts";
import { RequestError, SPEAKS_NO_TLS, type Violation } from "./request-error.ts";

/** A failed call, as reported by the transport. */
export interface FailedCall {
  readonly code: number;
  readonly message: string;
  /** The `grpc-status-details-bin` header, if the server sent it. */
  readonly details: Uint8Array | undefined;
  readonly isReachable: boolean;
  readonly isSilent?: boolean;
  /** False if the request was not sent on any connection. */
  readonly isSent?: boolean;
  readonly server: string;
}

const NO_GRPC = "the server does not speak gRPC";
const NO_CONNECTION = "no connection could be made";

/** Whether a plaintext call to a TLS server can fail with this message. */
export function maySpeakTls(words: string): boolean {
  return words === NO_CONNECTION || words.startsWith(NO_GRPC) || words.includes("ECONNRESET");
}

/** Returns the cause of a failure for a user, based on the messages of our gRPC client, Node.js and OpenSSL, or the unchanged message. */
export function transportWords(text: string, server: string): string {
  if (text.startsWith("getaddrinfo ")) return `no address is known for ${server}`;
  const httpStatus = /^the server returned HTTP status (\d+) /.exec(text)?.[1];
  if (httpStatus !== undefined) return `${NO_GRPC}: it answered with HTTP ${httpStatus}`;
  const words = text.replace(/^the connection was lost(?:: |$)/, "");
  // OpenSSL could not parse the server's answer as TLS.
  if (/wrong version number|packet length too long/.test(words)) return SPEAKS_NO_TLS;
  // The server answered with another protocol, such as HTTP/1.1.
  if (words.startsWith("Protocol error")) return NO_GRPC;
  // Node.js adds advice about its own flags, which programs and the CLI do not have.
  if (words.startsWith("unable to ")) return words.replace(/; if the root CA is installed locally, .*$/s, "");
  return words === "" || words.startsWith("the connection was closed during") ? NO_CONNECTION : words;
}

/** Converts a failed call to an error. Details that cannot be decoded are ignored, because the code still identifies the failure. */
export function decodeFailure(failed: FailedCall): RequestError {
  const violations: Violation[] = [];
  let reason: string | undefined;
  let retryMs: number | undefined;
  let metadata: Readonly<Record<string, string>> = {};
  for (const detail of findMessage(failed.details, StatusSchema)?.details ?? []) {
    const info = unpackDetail(detail, ErrorInfoSchema);
    if (info?.domain === "waymark") {
      reason = info.reason;
      metadata = info.metadata;
    }
    for (const { field, description } of unpackDetail(detail, BadRequestSchema)?.fieldViolations ?? [])
      violations.push({ field, description });
    const delay = unpackDetail(detail, RetryInfoSchema)?.retryDelay;
    if (delay) retryMs = Number(delay.seconds) * 1000 + Math.round(delay.nanos / 1e6);
  }
  const code = codeName(failed.code);
  const isReachable = failed.isReachable || reason !== undefined;
  const isSent = failed.isSent !== false;
  const { isSilent = false, server } = failed;
  const words = failed.message === "" ? `${failed.code} ${code}: ` : transportWords(failed.message, server);
  return new RequestError(words, { code, reason, violations, retryMs, metadata, isReachable, isSilent, isSent, server });
}
