/** The error of a failed call, with the code, reason and details that the server returned. */
import { durationText } from "../lib/duration.ts";

/** An invalid field of a request. */
export interface Violation {
  /** Path of the field, for example `entries[3].targets[0].port`. */
  readonly field: string;
  /** The rule that the field violates. */
  readonly description: string;
}

/** The message for a plaintext call to a server that requires TLS. */
export const SPEAKS_TLS = "the server speaks TLS, but the client connected without TLS";
/** The message for a TLS call to a server without TLS. */
export const SPEAKS_NO_TLS = "the server does not speak TLS";

/** Details of a failed call. */
export interface RequestErrorFacts {
  /** gRPC status name, for example `NOT_FOUND`. */
  readonly code: string;
  /**
   * Reason from a Waymark server, for example `LEASE_NOT_FOUND` (docs/reference/api.md lists them). Undefined if no Waymark server answered.
   */
  readonly reason: string | undefined;
  /** The invalid fields of the request. Empty for other failures. */
  readonly violations: readonly Violation[];
  /** Time before a retry that the server suggests, in ms. */
  readonly retryMs: number | undefined;
  /** Metadata of the server's `ErrorInfo`. */
  readonly metadata: Readonly<Record<string, string>>;
  /** Whether a connection to the server exists, or the server answered. */
  readonly isReachable: boolean;
  /** Whether a connected server did not send any data during a call that waited for 1 s or more. The server may be blocked. */
  readonly isSilent?: boolean;
  /** Whether the request may have reached the server. False if no connection was established. */
  readonly isSent: boolean;
  /** The server that was called. */
  readonly server: string;
}

/** A call that failed. In code, match `facts.reason` or `facts.code`, never the message. */
export class RequestError extends Error {
  readonly facts: RequestErrorFacts;

  constructor(message: string, facts: RequestErrorFacts, cause?: unknown) {
    super(message, { cause });
    this.name = "RequestError";
    this.facts = facts;
  }

  /**
   * Whether the server is unavailable: it did not answer, is silent, or is currently rejecting all calls. A retry, or another server, may help.
   */
  get isAway(): boolean {
    const { isReachable, isSilent = false, code } = this.facts;
    return !isReachable || isSilent || code === "UNAVAILABLE";
  }
}

/** Status codes after which a retry may succeed. A resolver rejects writes with FAILED_PRECONDITION. */
const PASSING: ReadonlySet<string> = new Set(["RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "ABORTED", "INTERNAL", "UNKNOWN", "CANCELLED"]);

/** Whether a retry of the same request, perhaps on another server, may succeed. */
export function isPassing(error: RequestError): boolean {
  return error.isAway || PASSING.has(error.facts.code) || error.facts.reason === "READ_ONLY";
}

const NO_DETAILS = { reason: undefined, violations: [], retryMs: undefined, metadata: {} } as const;

/** Returns the error for a call on a closed object. A retry does not help. `what` is the whole message. */
export function closedFailure(what: string, server: string): RequestError {
  return new RequestError(what, { ...NO_DETAILS, code: "FAILED_PRECONDITION", isReachable: true, isSent: false, server });
}

/** Returns the error for a watch for which no server sent a complete snapshot in time. */
export function lateFailure(timeoutMs: number, server: string): RequestError {
  const message = `no complete snapshot arrived within ${durationText(timeoutMs)}`;
  return new RequestError(message, { ...NO_DETAILS, code: "DEADLINE_EXCEEDED", isReachable: false, isSent: true, server });
}

/** Returns the error for a call that was not sent because no server can be called. Another server or cluster may help. */
export function unreachedFailure(what: string, server: string): RequestError {
  return new RequestError(what, { ...NO_DETAILS, code: "UNAVAILABLE", isReachable: false, isSent: false, server });
}

/** Returns the error for a map that has not been read yet. */
export function notReadyFailure(what: string, server: string): RequestError {
  return new RequestError(what, { ...unreachedFailure(what, server).facts, reason: "NOT_READY" });
}

/** Returns the error for a call for which no server is known. */
export function absentFailure(what: string, server: string): RequestError {
  return new RequestError(what, { ...NO_DETAILS, code: "NOT_FOUND", isReachable: true, isSent: false, server });
}
