/** The error of a failed call, with the code, reason and details that the server gave. */
import { durationText } from "../lib/duration.ts";

export interface Violation {
  /** Path of the field, for example `entries[3].targets[0].port`. */
  readonly field: string;
  readonly description: string;
}

/** A call in plain text came to a server with TLS. */
export const SPEAKS_TLS = "the server there speaks TLS, and was asked in plain text";
/** A call by TLS came to a server without it. */
export const SPEAKS_NO_TLS = "the server there does not speak TLS";

export interface RequestErrorFacts {
  /** gRPC status name, for example `NOT_FOUND`. */
  readonly code: string;
  /** Reason of a Waymark server, from the table of reasons, for example `LEASE_NOT_FOUND`; undefined when no Waymark server answered. */
  readonly reason: string | undefined;
  readonly violations: readonly Violation[];
  /** When the server thinks a retry may help. */
  readonly retryMs: number | undefined;
  /** Facts of `ErrorInfo`. */
  readonly metadata: Readonly<Record<string, string>>;
  /** Whether there is a connection to the server, or it answered. */
  readonly isReachable: boolean;
  /** Whether the server answered nothing at all, though it has a connection, for the whole of a call that waited for a second or more: it may stand still. */
  readonly isSilent?: boolean;
  /** Whether the request may have reached the server. False when no connection was made. */
  readonly isSent: boolean;
  /** The server that was asked. */
  readonly server: string;
}

/** A call that failed. Match `facts.reason` or `facts.code`, never the text. */
export class RequestError extends Error {
  readonly facts: RequestErrorFacts;

  constructor(message: string, facts: RequestErrorFacts, cause?: unknown) {
    super(message, { cause });
    this.name = "RequestError";
    this.facts = facts;
  }

  /** Whether the server is away: no server answered, or it is silent, or it refuses all calls for now. Another try, or another server, may help. */
  get isAway(): boolean {
    const { isReachable, isSilent = false, code } = this.facts;
    return !isReachable || isSilent || code === "UNAVAILABLE";
  }
}

const UNSAID = { reason: undefined, violations: [], retryMs: undefined, metadata: {} } as const;

/** The failure of a call on what was closed: no try helps. `what` is the whole message. */
export function closedFailure(what: string, server: string): RequestError {
  return new RequestError(what, { ...UNSAID, code: "FAILED_PRECONDITION", isReachable: true, isSent: false, server });
}

/** The failure of a watch of which no server told all in time. */
export function lateFailure(timeoutMs: number, server: string): RequestError {
  const message = `no whole snapshot within ${durationText(timeoutMs)}`;
  return new RequestError(message, { ...UNSAID, code: "DEADLINE_EXCEEDED", isReachable: false, isSent: true, server });
}

/** The failure of a call that went to no server, because none may be called: another server, or another cluster, may help. */
export function unreachedFailure(what: string, server: string): RequestError {
  return new RequestError(what, { ...UNSAID, code: "UNAVAILABLE", isReachable: false, isSent: false, server });
}

/** The failure of a call for which there is no server. */
export function absentFailure(what: string, server: string): RequestError {
  return new RequestError(what, { ...UNSAID, code: "NOT_FOUND", isReachable: true, isSent: false, server });
}
