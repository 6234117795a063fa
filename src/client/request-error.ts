/** Why a call failed, as the server said it: code, reason and details. */
export interface Violation {
  /** Path of the field, for example `entries[3].targets[0].port`. */
  readonly field: string;
  readonly description: string;
}

export interface RequestErrorFacts {
  /** gRPC status name, for example `NOT_FOUND`. */
  readonly code: string;
  /** Reason of a Waymark server as the table of reasons has it, for example `LEASE_NOT_FOUND`; undefined when something else answered, or nothing did. */
  readonly reason: string | undefined;
  readonly violations: readonly Violation[];
  /** When the server thinks a retry may help. */
  readonly retryMs: number | undefined;
  /** Facts of `ErrorInfo`. */
  readonly metadata: Readonly<Record<string, string>>;
  /** False when no server answered: nothing listens there, or nothing came back in time. */
  readonly isReachable: boolean;
  /** Server that was asked. */
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

  /** Whether the server is away: no server answered, or it refuses all calls for now. Another try, or another server, may help. */
  get isAway(): boolean {
    return !this.facts.isReachable || this.facts.code === "UNAVAILABLE";
  }
}
