/**
 * Keeps entries registered, as a state machine: registers them under a lease, renews it, reports health and load, and registers again when the lease or
 * the server that holds it is lost (docs/guides/clients.md, Keeping alive). `register.io.ts` makes the calls and waits.
 */

import { HealthStatus, type LoadReport } from "../../gen/waymark/catalog/v1/entry_pb.js";
import type { EntryReport } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { type ClientLease, leaseLostMonoMs, renewalMonoMs } from "../consumer/client-lease.ts";
import { returnMs } from "../lib/backoff.ts";
import { type Machine, NEVER, type Time } from "../lib/machine.ts";
import type { Violation } from "./request-error.ts";

/** How a call failed, as far as the machine must know. */
export interface RegistrationFailure {
  /** Another try may succeed: the server is away, is too busy, or did not answer in time. */
  readonly isPassing: boolean;
  /** The server refuses the caller. It may let in again whom it let in before: a policy that was a mistake is taken back. */
  readonly isDenied: boolean;
  /** When the server thinks that a retry may help. */
  readonly retryMs: number | undefined;
}

export type RegistrationInput =
  | { readonly kind: "registered"; readonly leaseId: string; readonly server: string; readonly ttlMs: number | undefined }
  | { readonly kind: "renewed"; readonly isExpired: boolean; readonly ttlMs: number | undefined }
  | { readonly kind: "failed"; readonly failure: RegistrationFailure }
  /** Whether other entries wait to take the place of those that are registered. */
  | { readonly kind: "update"; readonly isWaiting: boolean }
  /** The call of an update has ended, whatever it brought. */
  | { readonly kind: "updated" }
  /** It has failed, and is to be made again. */
  | { readonly kind: "updateFailed"; readonly failure: RegistrationFailure }
  /** Something is to be reported. What changes the health goes out at once, and the rest with the next renewal. */
  | { readonly kind: "report"; readonly isUrgent: boolean }
  | { readonly kind: "close" }
  | { readonly kind: "tick" };

export type RegistrationOutput =
  /** Register all entries under a new lease, at the server that takes writes now. `attempt` names the registration: tries of one have the same. */
  | { readonly kind: "register"; readonly attempt: number }
  | { readonly kind: "renew"; readonly leaseId: string; readonly server: string }
  /** Bring the entries that wait in the place of those that are under the lease. */
  | { readonly kind: "update"; readonly leaseId: string; readonly server: string }
  | { readonly kind: "unregister"; readonly leaseId: string; readonly server: string }
  /** The server that took the registration is lost, so that the next one goes elsewhere. */
  | { readonly kind: "leave"; readonly server: string }
  | { readonly kind: "told"; readonly event: RegistrationStep };

export type RegistrationStep =
  /** `isAgain`: the entries were registered before, under another lease. */
  | { readonly kind: "registered"; readonly leaseId: string; readonly server: string; readonly isAgain: boolean }
  | { readonly kind: "renewed"; readonly leaseId: string; readonly server: string }
  /** A try failed; there will be another one after `waitMs`. */
  | { readonly kind: "retrying"; readonly waitMs: number }
  /** The entries are about to be registered again. `expired`: the server does not know the lease. `server`: it did not answer in time. */
  | { readonly kind: "lost"; readonly leaseId: string; readonly server: string; readonly why: "expired" | "server" }
  /** No try can succeed, such as for want of a permission. The machine stands still. */
  | { readonly kind: "failed" };

type RegistrationState =
  /** `sentMonoMs`: a registration is under way. Otherwise one is due at `atMonoMs`. */
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
  /** When an update is due while the lease is held. NEVER when none waits. */
  #updateMonoMs = NEVER;
  #updateFailures = 0;
  #wasRegistered = false;

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

  /** Makes the call that is due. */
  #act({ monoMs }: Time, out: RegistrationOutput[]): void {
    const state = this.#state;
    if (state.kind === "over" || state.sentMonoMs !== undefined || monoMs < this.nextDeadlineMs()) return;
    if (state.kind === "registering") {
      this.#state = { ...state, sentMonoMs: monoMs };
      out.push({ kind: "register", attempt: this.#attempt });
      return;
    }
    const { leaseId, server } = state.lease;
    // The renewal comes first: without the lease no update is possible.
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

  /** Renewals go on meanwhile: they say whether the lease is lost. */
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
    out.push({ kind: "told", event: { kind: "retrying", waitMs } });
  }

  #hold({ leaseId, server, ttlMs, sinceMonoMs }: ClientLease, time: Time, out: RegistrationOutput[]): void {
    const isAgain = this.#wasRegistered;
    this.#wasRegistered = true;
    this.#failures = 0;
    this.#attempt += 1;
    if (this.#updateMonoMs !== NEVER) this.#updateIsDue(time.monoMs);
    this.#keep({ leaseId, server, ttlMs, sinceMonoMs }, false, time);
    out.push({ kind: "told", event: { kind: "registered", leaseId, server, isAgain } });
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
    out.push({ kind: "told", event: { kind: "renewed", leaseId: lease.leaseId, server: lease.server } });
    this.#act(time, out);
  }

  #keep(lease: ClientLease, isUrgent: boolean, { monoMs }: Time): void {
    const dueMonoMs = renewalMonoMs(lease, this.#random());
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
      out.push({ kind: "told", event: { kind: "failed" } });
      return;
    }
    const waitMs = Math.max(returnMs(this.#failures, this.#random()), retryMs ?? 0);
    this.#failures += 1;
    const atMonoMs = time.monoMs + waitMs;
    if (state.kind === "registering") {
      this.#state = { kind: "registering", sentMonoMs: undefined, atMonoMs };
    } else {
      const { lease } = state;
      // The wait may end after the time at which the entries must be registered elsewhere.
      const endMonoMs = leaseLostMonoMs(lease);
      if (time.monoMs >= endMonoMs) {
        out.push({ kind: "leave", server: lease.server });
        return this.#registerAgain(lease, "server", time, out);
      }
      this.#state = { ...state, sentMonoMs: undefined, atMonoMs: Math.min(atMonoMs, endMonoMs) };
    }
    out.push({ kind: "told", event: { kind: "retrying", waitMs } });
  }

  #registerAgain({ leaseId, server }: ClientLease, why: "expired" | "server", time: Time, out: RegistrationOutput[]): void {
    // A server that lost its leases lost those of all its clients.
    const spreadMs = why === "expired" ? returnMs(0, this.#random()) : 0;
    this.#failures = 0;
    this.#state = { kind: "registering", sentMonoMs: undefined, atMonoMs: time.monoMs + spreadMs };
    out.push({ kind: "told", event: { kind: "lost", leaseId, server, why } });
    this.#act(time, out);
  }
}

// What a server takes as the report of an instance: the rules of `EntryReport` and `LoadReport` in the contract, as far as a value can break them.

/** The greatest value of each number; the least is 0. */
const MOST = { errorRate: ["error_rate", 1], latencyMs: ["latency_ms", 1e9], utilization: ["utilization", 1] } as const satisfies Partial<
  Record<keyof LoadReport, readonly [string, number]>
>;

/** The first field that no server would take, and its rule. */
export function reportProblem({ health, load }: EntryReport): Violation | undefined {
  if (HealthStatus[health] === undefined || health === HealthStatus.ORPHANED)
    return { field: "health", description: `${health} is no health that an instance may report` };
  if (load === undefined) return undefined;
  for (const name of ["errorRate", "latencyMs", "utilization"] as const) {
    const [field, most] = MOST[name];
    // NaN is in no range.
    if (!(load[name] >= 0 && load[name] <= most)) return { field: `load.${field}`, description: `${load[name]} is not from 0 to ${most}` };
  }
  return undefined;
}
