/** Implements `register`: keeps entries registered until their handle is closed. `registration.ts` decides which call is due. */
import { randomUUID } from "node:crypto";
import { create, type MessageInitShape, type MessageShape } from "@bufbuild/protobuf";
import { durationFromMs, durationMs } from "@bufbuild/protobuf/wkt";
import { type Entry, EntryKind, EntrySchema, type HealthStatus, type LoadReportSchema } from "../../gen/waymark/catalog/v1/entry_pb.js";
import {
  DiscoveryService,
  type EntryReport,
  EntryReportSchema,
  RegisterRequestSchema,
} from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { DAY_MS } from "../lib/duration.ts";
import { enumName } from "../lib/enum-words.ts";
import type { Time } from "../lib/machine.ts";
import { later } from "../lib/stall-aware-time.io.ts";
import type { CallOptions, ClientCalls } from "./calls.ts";
import { ANYTHING, checkOptions, FLAG, FUNCTION, kindOf, lengthRule, type OptionRules, SIGNAL } from "./option-rules.ts";
import { RegisteredEntries } from "./registered-entries.ts";
import {
  Registration,
  type RegistrationFailure,
  type RegistrationInput,
  type RegistrationOutput,
  type RegistrationStep,
  reportProblem,
} from "./registration.ts";
import { sendable, wrongRequest } from "./request-bytes.ts";
import { closedFailure, isPassing, RequestError } from "./request-error.ts";

/** An event of a registration, passed to `onEvent`. */
export type RegistrationEvent =
  | Exclude<RegistrationStep, { readonly kind: "retrying" | "failed" }>
  /** The entries of an update have replaced the previous entries, under this lease. */
  | { readonly kind: "updated"; readonly leaseId: string; readonly server: string }
  /** An attempt failed. The next attempt is made after `waitMs`. */
  | { readonly kind: "retrying"; readonly waitMs: number; readonly error: Error }
  /** The registration has ended, because no retry can succeed, for example because a permission is missing. */
  | { readonly kind: "failed"; readonly error: Error }
  /** The server rejected a report. The lease was renewed without the report. */
  | { readonly kind: "reportRefused"; readonly error: Error }
  /** The handle was closed. `isUnregistered` is false if no server answered. In that case, the entries expire with their lease. */
  | { readonly kind: "closed"; readonly isUnregistered: boolean };

/** Options of `register`. */
export interface RegisterOptions {
  /**
   * Time to live of the lease in ms, from 1 s to 24 h. Defaults to 30 s, which is set by the server. If the program crashes, its entries remain for
   * this time.
   */
  readonly ttlMs?: number;
  /** Whether to retry until a server accepts the registration. By default, `register` gives up after the client's `timeoutMs`. */
  readonly waitsForServer?: boolean;
  /** Closes the handle, as `close` does, without waiting for a server. */
  readonly signal?: AbortSignal;
  /** Called for each event, for logs and metrics. It must not throw. */
  readonly onEvent?: (event: RegistrationEvent) => void;
}

/** Health and load that an instance reports. An absent value is left unchanged. */
export interface InstanceReport {
  readonly health?: HealthStatus;
  readonly load?: MessageInitShape<typeof LoadReportSchema>;
}

const RULES: OptionRules<RegisterOptions> = {
  ttlMs: lengthRule(1000, DAY_MS),
  waitsForServer: FLAG,
  signal: SIGNAL,
  onEvent: FUNCTION,
};
const REPORT_RULES: OptionRules<InstanceReport> = { health: ANYTHING, load: ANYTHING };

/** New entries that replace the registered ones. */
interface PendingUpdate {
  readonly entries: readonly Entry[];
  readonly done: PromiseWithResolvers<void>;
  readonly giveUpMonoMs: number;
  /** Whether the handle itself created the update to register its current entries again. */
  readonly isRepair: boolean;
}

/** Maximum number of keys in one call, from the protos. Several merged updates can remove more keys. */
const MOST_KEYS = 1000;
/** Fraction of the TTL for which a renewal can wait for its answer. */
const CALL_SHARE = 0.25;
const LEAST_CALL_MS = 100;
const DEFAULT_TTL_MS = 30_000;

/**
 * Registers entries under a new lease, and keeps them registered. Resolves when a server has accepted the registration. Throws a `RequestError` if
 * the registration is rejected or no server accepts it within the client's `timeoutMs`. Throws a TypeError or RangeError that names an invalid
 * option.
 */
export async function register(
  client: ClientCalls,
  entries: readonly MessageInitShape<typeof EntrySchema>[],
  options: RegisterOptions = {},
): Promise<RegistrationHandle> {
  checkOptions("register", options, RULES);
  checkList("register", entries);
  const handle = new RegistrationHandle(client, entries, options);
  await handle.begun;
  return handle;
}

/** A registration that is kept alive until it is closed. */
export class RegistrationHandle implements AsyncDisposable {
  /** Resolves after the first registration, and rejects if the registration has failed permanently. */
  readonly begun: Promise<void>;
  readonly #client: ClientCalls;
  readonly #options: RegisterOptions;
  readonly #entries: RegisteredEntries;
  readonly #machine: Registration;
  readonly #id = randomUUID();
  readonly #abort = new AbortController();
  readonly #first = Promise.withResolvers<void>();
  /** Time until which the first registration is attempted. */
  #giveUpMonoMs: number;
  /** Updates in the order of the calls. The first update is in progress. */
  readonly #updates: PendingUpdate[] = [];
  /** The request of the current attempt, because retries must send the same request. */
  #request: { readonly attempt: number; readonly message: MessageShape<typeof RegisterRequestSchema> } | undefined;
  #cancelTimer: () => void = () => {};
  #lastError: Error | undefined;
  #error: Error | undefined;
  #closed: Promise<void> | undefined;
  /** The registration in progress. */
  #registering: Promise<void> = Promise.resolve();

  constructor(client: ClientCalls, entries: readonly MessageInitShape<typeof EntrySchema>[], options: RegisterOptions) {
    this.#client = client;
    this.#options = options;
    this.#entries = new RegisteredEntries(this.#sendable(entries));
    this.#machine = new Registration(Math.random, now());
    this.#giveUpMonoMs = this.#endOfTries();
    this.begun = this.#first.promise;
    // The caller of `begun` gets the error. If there is no caller, the rejection must not be reported as unhandled.
    this.begun.catch(() => {});
    options.signal?.addEventListener("abort", this.#onAbort, { once: true });
    if (options.signal?.aborted === true) this.#onAbort();
    else this.#input({ kind: "tick" });
  }

  /**
   * The lease under which the entries are registered. Undefined before the first registration, while the entries are being registered again, and
   * after the registration has ended.
   */
  get lease(): { readonly leaseId: string; readonly server: string } | undefined {
    return this.#machine.lease;
  }

  /** The reason why the registration ended, if it was not closed. */
  get error(): Error | undefined {
    return this.#error;
  }

  /**
   * Reports an instance's health and load. A new health is sent immediately, and the load is sent with the next renewal. Only the last value of each
   * is sent. Without `instanceId`, the report applies to all entries of the handle. Later registrations keep the reported values. An invalid value,
   * such as an error rate above 1, or an unknown instance ID has no effect except for a `reportRefused` event. Throws a TypeError for a field other
   * than `health` and `load`.
   */
  report(report: InstanceReport, instanceId?: string): void {
    checkOptions("report", report, REPORT_RULES);
    const made = this.#checkedReport(report, instanceId);
    if (made === undefined) return;
    const isUrgent = this.#entries.note(made, instanceId, this.#waiting());
    this.#input({ kind: "report", isUrgent });
  }

  /**
   * Replaces the entries of the handle, under the same lease: new entries are registered, changed entries are updated, and missing entries
   * are removed. An entry that another process has registered in the meantime under its own lease is not removed. An entry without health or load
   * keeps its last reported values. Resolves when a server has applied the update. From then on, the new entries are registered again if the lease or
   * its server is lost. Updates are applied one after the other. Throws the same errors as `register`. In that case, the handle keeps its previous
   * entries, or has the new entries if only the removal failed. Also throws if the handle is closed or the registration has ended.
   */
  async update(entries: readonly MessageInitShape<typeof EntrySchema>[]): Promise<void> {
    checkList("update", entries);
    if (this.#error !== undefined) throw this.#error;
    if (this.#closed !== undefined) throw this.#closedFailure();
    const made = this.#sendable(entries);
    const update = { entries: made, done: Promise.withResolvers<void>(), giveUpMonoMs: this.#endOfTries(), isRepair: false };
    this.#entries.supersedes(made);
    // This update also repairs the entries, so a pending repair is not needed.
    if (this.#updates[0]?.isRepair === true) this.#updates.shift();
    this.#updates.push(update);
    this.#input({ kind: "update", isWaiting: true });
    return update.done.promise;
  }

  /**
   * Ends the lease with its entries, and closes the handle. Never throws: if no server can remove the entries now, they expire with their lease.
   */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #sendable(entries: readonly MessageInitShape<typeof EntrySchema>[]): readonly Entry[] {
    return entries.map((entry) => withKind(sendable(EntrySchema, entry, this.#client.writeServer)));
  }

  /** Time at which an operation that starts now will be abandoned. */
  #endOfTries(): number {
    return this.#options.waitsForServer === true ? Number.POSITIVE_INFINITY : now().monoMs + this.#client.timeoutMs;
  }

  /** The entries of all pending updates. */
  #waiting(): readonly Entry[] {
    return this.#updates.flatMap(({ entries }) => entries);
  }

  #closedFailure(): RequestError {
    return closedFailure("the registration is closed", this.#client.writeServer);
  }

  /**
   * Returns the protobuf message for a report. If every server would reject the report or no entry matches, emits a `reportRefused` event and returns
   * undefined.
   */
  #checkedReport(report: InstanceReport, instanceId: string | undefined): EntryReport | undefined {
    const server = this.#machine.lease?.server ?? this.#client.writeServer;
    try {
      const made = sendable(EntryReportSchema, report, server);
      const problem = reportProblem(made);
      if (problem !== undefined) throw wrongRequest(`${problem.field}: ${problem.description}`, [problem], server);
      if (instanceId !== undefined && !this.#entries.hasInstance(instanceId, this.#waiting()))
        throw wrongRequest(`this registration has no entry with the instance id ${kindOf(instanceId)}`, [], server);
      return made;
    } catch (error) {
      if (!(error instanceof RequestError)) throw error;
      this.#emit({ kind: "reportRefused", error });
      return undefined;
    }
  }

  readonly #onAbort = (): void => {
    void this.close();
  };

  async #close(): Promise<void> {
    this.#options.signal?.removeEventListener("abort", this.#onAbort);
    this.#cancelTimer();
    this.#failUpdates(this.#error ?? this.#closedFailure());
    const out: RegistrationOutput[] = [];
    // A registration in progress may still succeed, and its lease is not known until then.
    await this.#registering;
    this.#machine.handle({ kind: "close" }, now(), out);
    this.#abort.abort();
    this.#first.reject(this.#error ?? this.#lastError ?? this.#closedFailure());
    const [order] = out;
    const isUnregistered = order?.kind === "unregister" ? await this.#unregister(order) : true;
    this.#emit({ kind: "closed", isUnregistered });
  }

  #input(input: RegistrationInput): void {
    if (this.#closed !== undefined && input.kind !== "registered") return;
    const out: RegistrationOutput[] = [];
    this.#machine.handle(input, now(), out);
    for (const order of out) this.#execute(order);
    this.#cancelTimer();
    if (this.#closed === undefined)
      this.#cancelTimer = later(() => this.#input({ kind: "tick" }), this.#machine.nextDeadlineMs() - now().monoMs);
  }

  #execute(order: RegistrationOutput): void {
    switch (order.kind) {
      case "register":
        this.#registering = this.#register(order.attempt);
        return;
      case "renew":
        void this.#renew(order);
        return;
      case "update":
        void this.#update(order);
        return;
      case "unregister":
        return;
      case "leave":
        return this.#client.failOver(order.server);
      case "event":
        return this.#step(order.event);
    }
  }

  #step(step: RegistrationStep): void {
    const error = this.#lastError ?? new Error("no server has been contacted yet");
    if (step.kind === "retrying") {
      this.#emit({ ...step, error });
      this.#giveUpUpdates(error);
      if (this.#giveUpMonoMs > now().monoMs) return;
      this.#error = error;
      void this.close();
      return;
    }
    if (step.kind === "failed") {
      this.#error = error;
      this.#first.reject(error);
      this.#failUpdates(error);
      this.#emit({ kind: "failed", error });
      return;
    }
    if (step.kind === "registered") {
      this.#giveUpMonoMs = Number.POSITIVE_INFINITY;
      this.#first.resolve();
    }
    this.#emit(step);
  }

  #emit(event: RegistrationEvent): void {
    this.#options.onEvent?.(event);
  }

  async #register(attempt: number): Promise<void> {
    const server = this.#client.writeServer;
    try {
      const answer = await this.#client.callAt(server, DiscoveryService.method.register, this.#requestOf(attempt));
      this.#entries.taken();
      this.#entries.withoutDoubt();
      const answered = answer.ttl === undefined ? undefined : durationMs(answer.ttl);
      this.#input({ kind: "registered", leaseId: answer.leaseId, server, ttlMs: answered });
      this.#sendNewHealth();
    } catch (error) {
      const failure = this.#failureOf(error);
      if (failure.isPassing) this.#client.failOver(server);
      this.#input({ kind: "failed", failure });
    }
  }

  #requestOf(attempt: number): MessageShape<typeof RegisterRequestSchema> {
    if (this.#request?.attempt === attempt) return this.#request.message;
    const { ttlMs } = this.#options;
    const entries = [...this.#entries.registration()];
    const idempotencyKey = `${this.#id}/${attempt}`;
    const ttl = ttlMs === undefined ? {} : { ttl: durationFromMs(ttlMs) };
    const message = create(RegisterRequestSchema, { entries, idempotencyKey, ...ttl });
    this.#request = { attempt, message };
    return message;
  }

  async #renew({ leaseId, server }: { readonly leaseId: string; readonly server: string }): Promise<void> {
    const options = this.#callOptions();
    const { renew } = DiscoveryService.method;
    try {
      const reports = [...this.#entries.reports()];
      const answer = await this.#client.callAt(server, renew, { leaseIds: [leaseId], reports }, options).catch((error: unknown) => {
        const failure = this.#failureOf(error);
        if (failure.isPassing || reports.length === 0) throw error;
        this.#entries.refused();
        this.#emit({ kind: "reportRefused", error: this.#lastError ?? new Error(String(error)) });
        return this.#client.callAt(server, renew, { leaseIds: [leaseId] }, options);
      });
      this.#entries.taken();
      const isExpired = answer.expiredLeaseIds.includes(leaseId);
      this.#input({ kind: "renewed", isExpired, ttlMs: answer.ttl === undefined ? undefined : durationMs(answer.ttl) });
    } catch (error) {
      this.#entries.returned();
      this.#input({ kind: "failed", failure: this.#failureOf(error) });
    }
  }

  /** Calls that use the lease time out long before the lease ends. */
  #callOptions(): Required<CallOptions> {
    const timeoutMs = Math.max(LEAST_CALL_MS, Math.min(this.#client.timeoutMs, (this.#options.ttlMs ?? DEFAULT_TTL_MS) * CALL_SHARE));
    return { timeoutMs, signal: this.#abort.signal };
  }

  #sendNewHealth(): void {
    if (this.#entries.hasNewHealth) this.#input({ kind: "report", isUrgent: true });
  }

  /** Carries out the first update. */
  async #update({ leaseId, server }: { readonly leaseId: string; readonly server: string }): Promise<void> {
    const [update] = this.#updates;
    try {
      if (update !== undefined) await this.#replace(update, { leaseId, server });
    } catch (error) {
      const failure = this.#failureOf(error);
      // The server does not know the lease. The handle's current entries are registered again before the update.
      if (isLeaseUnknown(error)) return this.#input({ kind: "renewed", isExpired: true, ttlMs: undefined });
      if (failure.isPassing && this.#isWanted(update)) return this.#input({ kind: "updateFailed", failure });
      update?.done.reject(error);
      // Another repair would fail in the same way. A newer update must still include the changes of this one.
      if (update?.isRepair === true && this.#updates[0] === update) this.#entries.withoutDoubt();
    }
    if (update !== undefined && this.#updates[0] === update) this.#updates.shift();
    this.#input({ kind: "updated" });
    this.#startNext();
    this.#sendNewHealth();
  }

  /** Whether an update must be retried. */
  #isWanted(update: PendingUpdate | undefined): boolean {
    return update !== undefined && update === this.#updates[0] && update.giveUpMonoMs > now().monoMs;
  }

  async #replace(update: PendingUpdate, { leaseId, server }: { readonly leaseId: string; readonly server: string }): Promise<void> {
    const { register: put, unregister } = DiscoveryService.method;
    const merged = this.#entries.merged(update.entries);
    const toPut = this.#entries.toPut(merged);
    // Repeating a put has no further effect, so a put does not need an idempotency key. An empty list is also sent, so that the server rejects it.
    if (toPut.length > 0 || merged.length === 0)
      await this.#client.callAt(server, put, { leaseId, entries: [...toPut] }, this.#callOptions()).catch((error: unknown) => {
        if (!(error instanceof RequestError) || (error.facts.isSent && isPassing(error))) this.#entries.mayHavePut(toPut);
        throw error;
      });
    // A retry only needs to remove entries.
    this.#entries.replace(merged);
    const keys = [...this.#entries.left];
    for (let i = 0; i < keys.length; i += MOST_KEYS)
      await this.#client.callAt(server, unregister, { leaseId, keys: keys.slice(i, i + MOST_KEYS) }, this.#callOptions());
    this.#entries.removed();
    update.done.resolve();
    if (!update.isRepair) this.#emit({ kind: "updated", leaseId, server });
  }

  /** Fails the updates whose deadline has passed. */
  #giveUpUpdates(error: Error): void {
    if (this.#updates.every(({ giveUpMonoMs }) => giveUpMonoMs > now().monoMs)) return;
    const waiting = this.#updates.splice(0);
    for (const update of waiting)
      if (update.giveUpMonoMs > now().monoMs) this.#updates.push(update);
      else update.done.reject(error);
    this.#startNext();
  }

  #failUpdates(error: Error): void {
    for (const update of this.#updates.splice(0)) update.done.reject(error);
  }

  /** Starts the next update. If there is none but a server may have applied an abandoned update, starts a repair of the entries. */
  #startNext(): void {
    if (this.#updates.length === 0 && this.#entries.isInDoubt) this.#updates.push(this.#repair());
    this.#entries.prune(this.#waiting());
    this.#input({ kind: "update", isWaiting: this.#updates.length > 0 });
  }

  #repair(): PendingUpdate {
    const done = Promise.withResolvers<void>();
    // No caller is waiting for a repair.
    done.promise.catch(() => {});
    return { entries: this.#entries.list, done, giveUpMonoMs: Number.POSITIVE_INFINITY, isRepair: true };
  }

  /**
   * Calls the server that granted the lease, because only this server can end the lease. Any node could remove the entries by key, but that would
   * also remove entries that a newer process has registered under the same keys.
   */
  async #unregister({ leaseId, server }: { readonly leaseId: string; readonly server: string }): Promise<boolean> {
    const { unregister } = DiscoveryService.method;
    try {
      await this.#client.callAt(server, unregister, { leaseId });
      return true;
    } catch (error) {
      if (!(error instanceof RequestError)) throw error;
      // The lease has ended, and its entries have been removed with it.
      return isLeaseUnknown(error);
    }
  }

  /** An error that does not come from a call is a bug in this program, so retries do not help. */
  #failureOf(error: unknown): RegistrationFailure {
    this.#lastError = error instanceof Error ? error : new Error(String(error));
    if (!(error instanceof RequestError)) return { isPassing: false, isDenied: false, retryMs: undefined };
    const { code, retryMs } = error.facts;
    return { isPassing: isPassing(error), isDenied: code === "PERMISSION_DENIED" || code === "UNAUTHENTICATED", retryMs };
  }
}

function isLeaseUnknown(error: unknown): boolean {
  return error instanceof RequestError && error.facts.code === "NOT_FOUND";
}

function checkList(call: string, entries: unknown): void {
  if (!Array.isArray(entries)) throw new TypeError(`${call}: invalid entries ${kindOf(entries)}: expected a list`);
}

/** Sets the kind in the key as the server would, because reports must contain it. */
function withKind(entry: Entry): Entry {
  const { key, detail } = entry;
  if (key?.kind === EntryKind.UNSPECIFIED) key.kind = EntryKind[enumName(detail.case ?? "service")];
  return entry;
}

function now(): Time {
  return { monoMs: performance.now(), wallMs: Date.now() };
}
