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

/** Returns the system's message about a connection, without the text that grpc-js adds to it. */
export function transportWords(text: string): string {
  const target = /^Name resolution failed for target (?:dns:)?(.+)$/.exec(text)?.[1];
  if (target !== undefined) return `no address is known for ${target}`;
  const httpStatus = /^Received HTTP status code (\d+)$/.exec(text)?.[1];
  if (httpStatus !== undefined) return `${NO_GRPC}: it answered with HTTP ${httpStatus}`;
  if (!/^No connection established\b|Resolution note:/.test(text)) return text;
  // OpenSSL's messages end with a line feed.
  const last = /Last error: (?:Error: )?(.*?)\.?\s*(?:Resolution note:|$)/s.exec(text)?.[1]?.trim() ?? "";
  // OpenSSL could not parse the server's answer as TLS.
  if (/wrong version number|packet length too long/.test(last)) return SPEAKS_NO_TLS;
  // The server answered with another protocol, such as HTTP/1.1.
  if (last.startsWith("Protocol error")) return NO_GRPC;
  // Node.js adds advice about its own flags, which programs and the CLI do not have.
  if (last.startsWith("unable to ")) return last.replace(/; if the root CA is installed locally, .*$/s, "");
  // The rest is a message from grpc-js, which includes the time of day.
  return last === "" || last === "null" || last.startsWith("Failed to connect") ? NO_CONNECTION : last;
}

/** Decodes a failed call. Details that cannot be decoded are ignored, because the code still identifies the failure. */
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
  return new RequestError(failed.message, { code, reason, violations, retryMs, metadata, isReachable, isSilent, isSent, server });
}
