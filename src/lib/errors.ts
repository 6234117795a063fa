/** The error for a refused request, the table of error reasons, and `assert` for bugs in this program. */

/** gRPC status codes (https://grpc.github.io/grpc/core/md_doc_statuscodes.html), in numerical order. */
export const CODES = {
  OK: 0,
  CANCELLED: 1,
  UNKNOWN: 2,
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  ALREADY_EXISTS: 6,
  PERMISSION_DENIED: 7,
  RESOURCE_EXHAUSTED: 8,
  FAILED_PRECONDITION: 9,
  ABORTED: 10,
  OUT_OF_RANGE: 11,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  DATA_LOSS: 15,
  UNAUTHENTICATED: 16,
} as const;
const CODE_NAMES: readonly string[] = Object.keys(CODES);

/** The name of a status code, such as `NOT_FOUND`. */
export function codeName(code: number): string {
  return CODE_NAMES[code] ?? "UNKNOWN";
}

/** The gRPC code of each reason. Clients match the reason, never the text. The enum `ErrorReason` in the protos has the same names. */
export const REASONS = {
  invalid_argument: CODES.INVALID_ARGUMENT,
  unauthenticated: CODES.UNAUTHENTICATED,
  discovery_access_denied: CODES.PERMISSION_DENIED,
  discovery_rate_limited: CODES.RESOURCE_EXHAUSTED,
  quota_exceeded: CODES.RESOURCE_EXHAUSTED,
  lease_not_found: CODES.NOT_FOUND,
  not_found: CODES.NOT_FOUND,
  version_conflict: CODES.ABORTED,
  store_unavailable: CODES.UNAVAILABLE,
  no_leader: CODES.UNAVAILABLE,
  draining: CODES.UNAVAILABLE,
  not_ready: CODES.UNAVAILABLE,
  too_stale: CODES.UNAVAILABLE,
  unimplemented: CODES.UNIMPLEMENTED,
  internal: CODES.INTERNAL,
  deadline_exceeded: CODES.DEADLINE_EXCEEDED,
  wrong_epoch: CODES.FAILED_PRECONDITION,
  routing_disabled: CODES.FAILED_PRECONDITION,
  hops_exhausted: CODES.FAILED_PRECONDITION,
  fabric_open: CODES.FAILED_PRECONDITION,
  clock_skew: CODES.UNAVAILABLE,
  checks_disabled: CODES.FAILED_PRECONDITION,
  resolver_disabled: CODES.FAILED_PRECONDITION,
  summaries_disabled: CODES.FAILED_PRECONDITION,
  in_maintenance: CODES.FAILED_PRECONDITION,
  read_only: CODES.FAILED_PRECONDITION,
  origin_away: CODES.UNAVAILABLE,
  wrong_node: CODES.FAILED_PRECONDITION,
  last_ready_node: CODES.FAILED_PRECONDITION,
} as const satisfies Record<string, (typeof CODES)[keyof typeof CODES]>;
export type ErrorReason = keyof typeof REASONS;
/** The status code of a refused request. */
export type ErrorCode = (typeof REASONS)[ErrorReason];

/** Maximum number of violations in one error, which is enough to fix a request and keeps the answer to a hostile request small. */
export const MAX_VIOLATIONS = 32;

export interface FieldViolation {
  /** Path of the field in the proto, for example `entries[3].targets[0].port`. */
  readonly field: string;
  /** The violated rule, including the invalid value. */
  readonly description: string;
}

export interface ErrorDetails {
  readonly violations?: readonly FieldViolation[];
  /** Time after which a retry may succeed. */
  readonly retryMs?: number;
  /** Facts for `ErrorInfo.metadata`. */
  readonly metadata?: Readonly<Record<string, string>>;
  readonly cause?: unknown;
}

/** A refused request. The message starts in lower case and has no final period. The constructor adds the reason in front of it. */
export class WaymarkError extends Error {
  readonly reason: ErrorReason;
  readonly details: ErrorDetails;

  constructor(reason: ErrorReason, message: string, details: ErrorDetails = {}) {
    super(`${reason}: ${message}`, { cause: details.cause });
    this.name = "WaymarkError";
    this.reason = reason;
    this.details = details;
  }
}

/**
 * A `WaymarkError` as plain values that can be sent to another thread. It does not contain the stack and the cause, which are never sent to clients.
 */
export interface SentError {
  readonly reason: ErrorReason;
  /** Without the reason. */
  readonly text: string;
  readonly details: ErrorDetails & { readonly cause: undefined };
}

export function sentError({ reason, message, details }: WaymarkError): SentError {
  return { reason, text: message.slice(`${reason}: `.length), details: { ...details, cause: undefined } };
}

/** Restores the error in the receiving thread. */
export function receivedError({ reason, text, details }: SentError): WaymarkError {
  return new WaymarkError(reason, text, details);
}

/** Returns an `invalid_argument` error with the field and the violated rule. */
export function invalid(field: string, description: string): WaymarkError {
  return new WaymarkError("invalid_argument", `${field}: ${description}`, { violations: [{ field, description }] });
}

/** Returns the error that a caller gets for a bug in this program. It reveals only that the call failed. */
export function failedInside(): WaymarkError {
  return new WaymarkError("internal", "the server failed to process this request; search its log for the request id");
}

/**
 * A bug in this program that was found by `assert`. If all of the call's changes were reverted (`isUndone`), only that call fails. Otherwise, the
 * process exits so that it can restart with a clean state. Code that catches errors and continues must call `rethrowInvariant` first.
 */
export class InvariantError extends Error {
  /** Set by code that reverted all changes since the call began. */
  isUndone = false;

  constructor(message: string) {
    super(message);
    this.name = "InvariantError";
  }
}

/** Rethrows a caught error if it is a bug whose changes were not reverted. */
export function rethrowInvariant(error: unknown): void {
  if (error instanceof InvariantError && !error.isUndone) throw error;
}

/** Checks an invariant of the program. It must not be used for external input. */
export function assert(condition: boolean, message: string, facts: Readonly<Record<string, unknown>> = {}): asserts condition {
  if (!condition) throw new InvariantError(`assertion failed: ${message} ${JSON.stringify(facts)}`);
}
