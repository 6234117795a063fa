/**
 * State machine that keeps this resolver's own entry in the catalog (semantics.md, Resolver). It registers the entry with the upstream under a lease,
 * renews the lease, and registers the entry again when the lease or its server is lost or the entry changes. `node/resolver/self-registration.io.ts`
 * makes the calls.
 */

import { type ClientLease, leaseLostMonoMs, renewalMonoMs } from "../consumer/client-lease.ts";
import { backoffMs } from "../lib/backoff.ts";
import { type Machine, NEVER, type Time } from "../lib/machine.ts";

/** The kinds of call failures that the machine distinguishes. */
export type SelfFailure =
  /** The server is a resolver, which rejects writes. `nodes` contains addresses of servers that accept writes. */
  | { readonly kind: "read only"; readonly nodes: readonly string[] }
  /** The server does not know the lease. */
  | { readonly kind: "lease" }
  /** `retryMs` is the pause that the server suggests before a retry. */
  | { readonly kind: "other"; readonly retryMs: number | undefined };

export type SelfInput =
  /** The server that the resolver currently follows. */
  | { readonly kind: "upstream"; readonly upstream: string | undefined }
  /** The entry differs from the entry that was last sent. */
  | { readonly kind: "changed" }
  | { readonly kind: "registered"; readonly leaseId: string; readonly ttlMs: number }
  | { readonly kind: "renewed"; readonly isExpired: boolean; readonly ttlMs: number | undefined }
  | { readonly kind: "failed"; readonly failure: SelfFailure }
  /** Address of another process whose entry now has this resolver's key. Undefined if there is no such process. */
  | { readonly kind: "found"; readonly other: string | undefined }
  | { readonly kind: "close" }
  | { readonly kind: "tick" };

export type SelfOrder =
  /** Register the current entry under this lease, or under a new lease when the id is empty. */
  | { readonly kind: "register"; readonly server: string; readonly leaseId: string }
  | { readonly kind: "renew"; readonly server: string; readonly leaseId: string }
  | { readonly kind: "unregister"; readonly server: string; readonly leaseId: string }
  /** Check whether another process has the key. */
  | { readonly kind: "find"; readonly server: string }
  | { readonly kind: "told"; readonly step: SelfStep };

export type SelfStep =
  | { readonly kind: "registered"; readonly server: string }
  | { readonly kind: "lost"; readonly server: string; readonly why: "expired" | "server" }
  /** Another process repeatedly took over the key, so it has the same node id. */
  | { readonly kind: "contested"; readonly other: string }
  /** The upstream rejects writes and does not report a server that accepts them. This event is reported once for each upstream. */
  | { readonly kind: "left out"; readonly server: string };

interface RegistrationCall {
  readonly kind: "find" | "register" | "renew";
  readonly server: string;
  readonly sentMonoMs: number;
}

const BACKOFF = { baseMs: 250, maxMs: 10_000 } as const;
/**
 * Minimum time between two registrations of a changed entry. The entry changes when callers' requests change the followed namespaces, and each change
 * is replicated to all nodes.
 */
const CHANGE_MS = 5000;
/**
 * Waiting times before the key is reclaimed from another process. The time doubles from `first` up to `most`, because each takeover is replicated to
 * all nodes. A random part of up to half is subtracted, so that one of the two processes acts first.
 */
const CONTEST_MS = { first: 30_000, most: 600_000 } as const;
/** A lease that was held for this long is considered uncontested. */
const UNCONTESTED_MS = 900_000;
/** Pause before another call to an upstream that rejects writes and does not report a server that accepts them. */
const LEFT_OUT_MS = 60_000;

export class SelfRegistration implements Machine<SelfInput, SelfOrder> {
  readonly #random: () => number;
  #upstream: string | undefined;
  /** Nodes to register with instead, because the upstream is a resolver. The first node is tried next. */
  #nodes: readonly string[] = [];
  #lease: ClientLease | undefined;
  #call: RegistrationCall | undefined;
  /** When the next registration is due or, with a lease, the next renewal. */
  #atMonoMs = NEVER;
  #isChanged = false;
  /** Earliest monotonic time at which a changed entry is registered. */
  #changeMonoMs = 0;
  #failures = 0;
  #hasReportedLeftOut = false;
  /** The time since which the lease has been held. */
  #heldMonoMs = 0;
  /** Number of leases that servers ended before `UNCONTESTED_MS`. */
  #endedCount = 0;
  /** Number of times another process had the key since the last uncontested lease. */
  #contestCount = 0;
  /** Whether to look up the owner of the key before registering again. */
  #isDoubtful = false;
  #isOver = false;

  /** `random` returns uniformly distributed numbers in [0, 1). */
  constructor(random: () => number) {
    this.#random = random;
  }

  /** The lease under which the entry is registered, and the server of the lease. */
  get lease(): { readonly leaseId: string; readonly server: string } | undefined {
    return this.#lease;
  }

  nextDeadlineMs(): number {
    if (this.#isOver || this.#call !== undefined || (this.#lease === undefined && this.#target() === undefined)) return NEVER;
    return this.#lease !== undefined && this.#isChanged ? Math.min(this.#atMonoMs, this.#changeMonoMs) : this.#atMonoMs;
  }

  handle(input: SelfInput, time: Time, out: SelfOrder[]): void {
    if (this.#isOver) return;
    switch (input.kind) {
      case "upstream":
        this.#follow(input.upstream, time);
        break;
      case "changed":
        this.#isChanged = true;
        break;
      case "registered":
        this.#registered(input, time, out);
        break;
      case "renewed":
        this.#renewed(input, time, out);
        break;
      case "found":
        this.#found(input.other, time, out);
        break;
      case "failed":
        this.#failed(input.failure, time, out);
        break;
      case "close":
        this.#isOver = true;
        if (this.#lease !== undefined) out.push({ kind: "unregister", server: this.#lease.server, leaseId: this.#lease.leaseId });
        return;
      case "tick":
        break;
    }
    this.#act(time, out);
  }

  /** Makes the call that is due. */
  #act({ monoMs }: Time, out: SelfOrder[]): void {
    if (monoMs < this.nextDeadlineMs()) return;
    const lease = this.#lease;
    const isRenewal = lease !== undefined && monoMs >= this.#atMonoMs;
    const server = lease?.server ?? this.#target();
    if (server === undefined) return;
    const kind = isRenewal ? "renew" : lease === undefined && this.#isDoubtful ? "find" : "register";
    this.#call = { kind, server, sentMonoMs: monoMs };
    if (kind === "find") return void out.push({ kind, server });
    if (!isRenewal) {
      this.#isChanged = false;
      this.#changeMonoMs = monoMs + CHANGE_MS;
    }
    out.push({ kind, server, leaseId: lease?.leaseId ?? "" });
  }

  #target(): string | undefined {
    return this.#nodes[0] ?? this.#upstream;
  }

  #follow(upstream: string | undefined, { monoMs }: Time): void {
    if (upstream === this.#upstream) return;
    this.#upstream = upstream;
    this.#nodes = [];
    this.#hasReportedLeftOut = false;
    // While there is a lease, its renewal shows whether its server is lost. Otherwise, the time is randomized, because many resolvers may have lost
    // the same server.
    const isContested = this.#lease === undefined && this.#contestCount > 0;
    if (upstream !== undefined && upstream !== this.#lease?.server && !isContested)
      this.#atMonoMs = Math.min(this.#atMonoMs, monoMs + this.#spreadMs());
  }

  #registered({ leaseId, ttlMs }: Extract<SelfInput, { kind: "registered" }>, { monoMs }: Time, out: SelfOrder[]): void {
    const call = this.#answered();
    if (call?.kind !== "register") return;
    const isNew = this.#lease === undefined;
    this.#keep({ leaseId, server: call.server, ttlMs, sinceMonoMs: call.sentMonoMs });
    if (!isNew) return;
    this.#heldMonoMs = monoMs;
    out.push({ kind: "told", step: { kind: "registered", server: call.server } });
  }

  #renewed({ isExpired, ttlMs }: Extract<SelfInput, { kind: "renewed" }>, time: Time, out: SelfOrder[]): void {
    const [call, lease] = [this.#answered(), this.#lease];
    if (call?.kind !== "renew" || lease === undefined) return;
    if (isExpired) return this.#ended(lease, time, out);
    if (time.monoMs - this.#heldMonoMs >= UNCONTESTED_MS) [this.#endedCount, this.#contestCount] = [0, 0];
    this.#keep({ ...lease, ttlMs: ttlMs ?? lease.ttlMs, sinceMonoMs: call.sentMonoMs });
  }

  #failed(failure: SelfFailure, time: Time, out: SelfOrder[]): void {
    const [call, lease] = [this.#answered(), this.#lease];
    if (call === undefined) return;
    const retryMs = failure.kind === "other" ? (failure.retryMs ?? 0) : 0;
    const waitMs = Math.max(backoffMs(this.#failures, this.#random(), BACKOFF), retryMs);
    this.#failures += 1;
    if (lease === undefined) return this.#unregistered(call, failure, time.monoMs + waitMs, time, out);
    if (failure.kind === "lease") return this.#ended(lease, time, out);
    if (call.kind === "register") {
      // The renewal schedule does not change.
      this.#isChanged = true;
      this.#changeMonoMs = Math.max(this.#changeMonoMs, time.monoMs + waitMs);
      return;
    }
    this.#pass(call.server);
    if (this.#target() !== undefined && this.#target() !== lease.server) return this.#lose(lease, "server", time.monoMs, out);
    const endMonoMs = leaseLostMonoMs(lease);
    if (time.monoMs >= endMonoMs) return this.#lose(lease, "server", time.monoMs + waitMs, out);
    // The retry must not be later than the time at which the lease is considered lost.
    this.#atMonoMs = Math.min(time.monoMs + waitMs, endMonoMs);
  }

  /** Handles a failed registration when there is no lease. */
  #unregistered(call: RegistrationCall, failure: SelfFailure, retryMonoMs: number, { monoMs }: Time, out: SelfOrder[]): void {
    this.#atMonoMs = retryMonoMs;
    // If the lookup fails, the key is registered without a lookup.
    if (call.kind === "find") this.#isDoubtful = false;
    if (this.#nodes.includes(call.server)) return this.#pass(call.server);
    if (failure.kind !== "read only" || call.server !== this.#upstream) return;
    this.#nodes = failure.nodes.filter((node) => node !== call.server);
    if (this.#nodes.length > 0) {
      this.#atMonoMs = monoMs;
      return;
    }
    this.#atMonoMs = monoMs + LEFT_OUT_MS;
    if (!this.#hasReportedLeftOut) out.push({ kind: "told", step: { kind: "left out", server: call.server } });
    this.#hasReportedLeftOut = true;
  }

  /**
   * Selects the next server after a node rejected the registration: the next node or, after the last node, the upstream, which may report other
   * nodes.
   */
  #pass(server: string): void {
    this.#nodes = this.#nodes.filter((node) => node !== server);
  }

  #lose({ server }: ClientLease, why: "expired" | "server", atMonoMs: number, out: SelfOrder[]): void {
    this.#lease = undefined;
    this.#atMonoMs = atMonoMs;
    out.push({ kind: "told", step: { kind: "lost", server, why } });
  }

  /** Handles a lease that the server no longer knows, because the server was restarted or another process registered the key. */
  #ended(lease: ClientLease, { monoMs }: Time, out: SelfOrder[]): void {
    this.#endedCount += 1;
    this.#isDoubtful = this.#endedCount > 1;
    this.#lose(lease, "expired", monoMs + this.#spreadMs(), out);
  }

  #found(other: string | undefined, { monoMs }: Time, out: SelfOrder[]): void {
    if (this.#answered()?.kind !== "find") return;
    this.#isDoubtful = false;
    this.#atMonoMs = monoMs;
    if (other === undefined) return;
    const waitMs = Math.min(CONTEST_MS.most, CONTEST_MS.first * 2 ** Math.min(this.#contestCount, 30));
    this.#contestCount += 1;
    this.#atMonoMs += Math.round((waitMs / 2) * (1 + this.#random()));
    out.push({ kind: "told", step: { kind: "contested", other } });
  }

  #keep(lease: ClientLease): void {
    this.#lease = lease;
    this.#failures = 0;
    this.#hasReportedLeftOut = false;
    this.#atMonoMs = renewalMonoMs(lease, this.#random());
  }

  #answered(): RegistrationCall | undefined {
    const call = this.#call;
    this.#call = undefined;
    return call;
  }

  #spreadMs(): number {
    return backoffMs(0, this.#random(), BACKOFF);
  }
}
