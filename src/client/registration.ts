/**
 * Keeps entries registered. This state machine registers them under a lease, renews the lease, reports health and load, and registers the entries
 * again when the lease or its server is lost (docs/guides/clients.md, Keeping alive). `register.io.ts` makes the calls and waits.
 */

import { HealthStatus, type LoadReport } from "../../gen/waymark/catalog/v1/entry_pb.js";
import type { EntryReport } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { type ClientLease, leaseLostMonoMs, renewalMonoMs } from "../consumer/client-lease.ts";
import { returnMs } from "../lib/backoff.ts";
import { type Machine, NEVER, type Time } from "../lib/machine.ts";
import type { Violation } from "./request-error.ts";

/** The properties of a failed call that the machine needs. */
export interface RegistrationFailure {
  /** Whether a retry may succeed: the server is unavailable, is overloaded, or did not answer in time. */
  readonly isPassing: boolean;
  /**
   * Whether the server denied access to the caller. If the server has accepted the caller before, it may do so again, because a wrong policy can be
   * reverted.
   */
  readonly isDenied: boolean;
  /** Time before a retry that the server suggests, in ms. */
  readonly retryMs: number | undefined;
}

export type RegistrationInput =
  | { readonly kind: "registered"; readonly leaseId: string; readonly server: string; readonly ttlMs: number | undefined }
  | { readonly kind: "renewed"; readonly isExpired: boolean; readonly ttlMs: number | undefined }
  | { readonly kind: "failed"; readonly failure: RegistrationFailure }
  /** Whether an update with other entries is pending. */
  | { readonly kind: "update"; readonly isWaiting: boolean }
  /** The call of an update has ended, with success or a permanent failure. */
  | { readonly kind: "updated" }
  /** The call of an update has failed and must be retried. */
  | { readonly kind: "updateFailed"; readonly failure: RegistrationFailure }
  /** A report is pending. A health change is sent immediately, and other reports are sent with the next renewal. */
  | { readonly kind: "report"; readonly isUrgent: boolean }
  | { readonly kind: "close" }
  | { readonly kind: "tick" };

export type RegistrationOutput =
  /**
   * Register all entries under a new lease, on the current write server. `attempt` identifies the registration: retries have the same
   * number.
   */
  | { readonly kind: "register"; readonly attempt: number }
  | { readonly kind: "renew"; readonly leaseId: string; readonly server: string }
  /** Replace the entries under the lease with the entries of the pending update. */
  | { readonly kind: "update"; readonly leaseId: string; readonly server: string }
  | { readonly kind: "unregister"; readonly leaseId: string; readonly server: string }
  /** The server that accepted the registration is lost, so the next registration must use another server. */
  | { readonly kind: "leave"; readonly server: string }
  /** An event for the program. */
  | { readonly kind: "event"; readonly event: RegistrationStep };

export type RegistrationStep =
  /** `isAgain`: whether the entries were registered before, under another lease. */
  | { readonly kind: "registered"; readonly leaseId: string; readonly server: string; readonly isAgain: boolean }
  | { readonly kind: "renewed"; readonly leaseId: string; readonly server: string }
  /** An attempt failed. The next attempt is made after `waitMs`. */
  | { readonly kind: "retrying"; readonly waitMs: number }
  /**
   * The entries are about to be registered again. `expired`: the server does not know the lease. `server`: the server did not answer in
   * time.
   */
  | { readonly kind: "lost"; readonly leaseId: string; readonly server: string; readonly why: "expired" | "server" }
  /** No retry can succeed, for example because a permission is missing. The machine has stopped. */
  | { readonly kind: "failed" };

type RegistrationState =
  /** `sentMonoMs` is set while a registration is in progress. If not, the next registration is due at `atMonoMs`. */
  | { readonly kind: "registering"; readonly sentMonoMs: number | undefined; readonly atMonoMs: number }
  | {
      readonly kind: "held";
      readonly lease: ClientLease;
      readonly sentMonoMs: number | undefined;
      readonly atMonoMs: number;
      readonly isUrgent: boolean;
    }
  | { readonly kind: "over" };

export class Registration implements Machine<RegistrationInput, RegistrationOutput> {
  readonly #random: () => number;
  #state: RegistrationState;
  #attempt = 1;
  #failures = 0;
  /** Time at which the pending update is due while the lease is held. NEVER if no update is pending. */
  #updateMonoMs = NEVER;
  #updateFailures = 0;
  #wasRegistered = false;
  /** Longest wait between two registrations. A draining server extends a lease while its client tries to register. */
  #mostWaitMs = NEVER;

  /** `random` is uniform in [0, 1). */
  constructor(random: () => number, { monoMs }: Time) {
    this.#random = random;
    this.#state = { kind: "registering", sentMonoMs: undefined, atMonoMs: monoMs };
  }

  /** The lease under which the entries are registered now. */
  get lease(): { readonly leaseId: string; readonly server: string } | undefined {
    return this.#state.kind === "held" ? this.#state.lease : undefined;
  }

  nextDeadlineMs(): number {
    const state = this.#state;
    if (state.kind === "over" || state.sentMonoMs !== undefined) return NEVER;
    return state.kind === "held" ? Math.min(state.atMonoMs, this.#updateMonoMs) : state.atMonoMs;
  }

  handle(input: RegistrationInput, time: Time, out: RegistrationOutput[]): void {
    const state = this.#state;
    if (state.kind === "over") return;
    switch (input.kind) {
      case "registered":
        if (state.kind === "registering") this.#hold({ ...input, sinceMonoMs: state.sentMonoMs ?? time.monoMs }, time, out);
        return;
      case "renewed":
        if (state.kind === "held") this.#renewed(state, input, time, out);
        return;
      case "failed":
        return this.#failed(state, input.failure, time, out);
      case "update":
        if (input.isWaiting !== (this.#updateMonoMs !== NEVER)) this.#updateIsDue(input.isWaiting ? time.monoMs : NEVER);
        return this.#act(time, out);
      case "updated":
        this.#updateIsDue(NEVER);
        if (state.kind === "held") this.#state = { ...state, sentMonoMs: undefined };
        return this.#act(time, out);
      case "updateFailed":
        return this.#updateFailed(state, input.failure, time, out);
      case "report":
        if (state.kind === "held" && input.isUrgent) this.#state = { ...state, isUrgent: true, atMonoMs: time.monoMs };
        return this.#act(time, out);
      case "close":
        this.#state = { kind: "over" };
        if (state.kind === "held") out.push({ kind: "unregister", leaseId: state.lease.leaseId, server: state.lease.server });
        return;
      case "tick":
        return this.#act(time, out);
    }
  }

  /** Starts the call that is due. */
  #act({ monoMs }: Time, out: RegistrationOutput[]): void {
    const state = this.#state;
    if (state.kind === "over" || state.sentMonoMs !== undefined || monoMs < this.nextDeadlineMs()) return;
    if (state.kind === "registering") {
      this.#state = { ...state, sentMonoMs: monoMs };
      out.push({ kind: "register", attempt: this.#attempt });
      return;
    }
    const { leaseId, server } = state.lease;
    // The renewal has priority, because an update needs the lease.
    if (monoMs < state.atMonoMs) {
      this.#state = { ...state, sentMonoMs: monoMs };
      out.push({ kind: "update", leaseId, server });
      return;
    }
    this.#state = { ...state, sentMonoMs: monoMs, isUrgent: false };
    out.push({ kind: "renew", leaseId, server });
  }

  #updateIsDue(atMonoMs: number): void {
    this.#updateMonoMs = atMonoMs;
    this.#updateFailures = 0;
  }

  /** Renewals continue in the meantime, because they detect a lost lease. */
  #updateFailed(
    state: Exclude<RegistrationState, { kind: "over" }>,
    { retryMs }: RegistrationFailure,
    { monoMs }: Time,
    out: RegistrationOutput[],
  ): void {
    const waitMs = Math.max(returnMs(this.#updateFailures, this.#random()), retryMs ?? 0);
    this.#updateFailures += 1;
    this.#updateMonoMs = monoMs + waitMs;
    if (state.kind === "held") this.#state = { ...state, sentMonoMs: undefined };
    out.push({ kind: "event", event: { kind: "retrying", waitMs } });
  }

  #hold({ leaseId, server, ttlMs, sinceMonoMs }: ClientLease, time: Time, out: RegistrationOutput[]): void {
    const isAgain = this.#wasRegistered;
    this.#wasRegistered = true;
    this.#failures = 0;
    this.#attempt += 1;
    if (this.#updateMonoMs !== NEVER) this.#updateIsDue(time.monoMs);
    this.#keep({ leaseId, server, ttlMs, sinceMonoMs }, false, time);
    out.push({ kind: "event", event: { kind: "registered", leaseId, server, isAgain } });
    this.#act(time, out);
  }

  #renewed(
    state: Extract<RegistrationState, { kind: "held" }>,
    { isExpired, ttlMs }: Extract<RegistrationInput, { kind: "renewed" }>,
    time: Time,
    out: RegistrationOutput[],
  ): void {
    const { lease, sentMonoMs, isUrgent } = state;
    this.#failures = 0;
    if (isExpired) return this.#registerAgain(lease, "expired", time, out);
    this.#keep({ ...lease, ttlMs: ttlMs ?? lease.ttlMs, sinceMonoMs: sentMonoMs ?? time.monoMs }, isUrgent, time);
    out.push({ kind: "event", event: { kind: "renewed", leaseId: lease.leaseId, server: lease.server } });
    this.#act(time, out);
  }

  #keep(lease: ClientLease, isUrgent: boolean, { monoMs }: Time): void {
    const dueMonoMs = renewalMonoMs(lease, this.#random());
    this.#mostWaitMs = Math.floor((lease.ttlMs ?? NEVER) / 3);
    this.#state = { kind: "held", lease, sentMonoMs: undefined, atMonoMs: isUrgent ? monoMs : dueMonoMs, isUrgent };
  }

  #failed(
    state: Exclude<RegistrationState, { kind: "over" }>,
    { isPassing, isDenied, retryMs }: RegistrationFailure,
    time: Time,
    out: RegistrationOutput[],
  ): void {
    if (!isPassing && !(isDenied && this.#wasRegistered)) {
      this.#state = { kind: "over" };
      out.push({ kind: "event", event: { kind: "failed" } });
      return;
    }
    const waitMs = Math.max(Math.min(returnMs(this.#failures, this.#random()), this.#mostWaitMs), retryMs ?? 0);
    this.#failures += 1;
    const atMonoMs = time.monoMs + waitMs;
    if (state.kind === "registering") {
      this.#state = { kind: "registering", sentMonoMs: undefined, atMonoMs };
    } else {
      const { lease } = state;
      // The wait must end before the entries must be registered on another server.
      const endMonoMs = leaseLostMonoMs(lease);
      if (time.monoMs >= endMonoMs) {
        out.push({ kind: "leave", server: lease.server });
        return this.#registerAgain(lease, "server", time, out);
      }
      this.#state = { ...state, sentMonoMs: undefined, atMonoMs: Math.min(atMonoMs, endMonoMs) };
    }
    out.push({ kind: "event", event: { kind: "retrying", waitMs } });
  }

  #registerAgain({ leaseId, server }: ClientLease, why: "expired" | "server", time: Time, out: RegistrationOutput[]): void {
    // A server that has lost one lease has lost the leases of all its clients, so they must not all register at the same time.
    const spreadMs = why === "expired" ? returnMs(0, this.#random()) : 0;
    this.#failures = 0;
    this.#state = { kind: "registering", sentMonoMs: undefined, atMonoMs: time.monoMs + spreadMs };
    out.push({ kind: "event", event: { kind: "lost", leaseId, server, why } });
    this.#act(time, out);
  }
}

// The rules for `EntryReport` and `LoadReport` in the protos that a value can violate.

/** The maximum of each number. The minimum is 0. */
const MOST = { errorRate: ["error_rate", 1], latencyMs: ["latency_ms", 1e9], utilization: ["utilization", 1] } as const satisfies Partial<
  Record<keyof LoadReport, readonly [string, number]>
>;

/** Returns the first field that every server would reject, with its rule. */
export function reportProblem({ health, load }: EntryReport): Violation | undefined {
  if (HealthStatus[health] === undefined || health === HealthStatus.ORPHANED)
    return { field: "health", description: `${health} is not a health status that an instance can report` };
  if (load === undefined) return undefined;
  for (const name of ["errorRate", "latencyMs", "utilization"] as const) {
    const [field, most] = MOST[name];
    // No range includes NaN.
    if (!(load[name] >= 0 && load[name] <= most))
      return { field: `load.${field}`, description: `must be from 0 to ${most}, got ${load[name]}` };
  }
  return undefined;
}
