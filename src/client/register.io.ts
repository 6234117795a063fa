/** `register`: entries that stay registered until their handle is closed. `registration.ts` decides what happens when. */
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
import { closedFailure, RequestError } from "./request-error.ts";

export type RegistrationEvent =
  | Exclude<RegistrationStep, { readonly kind: "retrying" | "failed" }>
  /** The entries of an update have taken the place of those before, under this lease. */
  | { readonly kind: "updated"; readonly leaseId: string; readonly server: string }
  /** A try failed, and another one follows after `waitMs`. */
  | { readonly kind: "retrying"; readonly waitMs: number; readonly error: Error }
  /** The handle is over: no other try could succeed, for example for want of a permission. */
  | { readonly kind: "failed"; readonly error: Error }
  /** The server refused what was reported. The lease was renewed without it. */
  | { readonly kind: "reportRefused"; readonly error: Error }
  /** The handle was closed. `isUnregistered` is false when no server answered: then the entries end with their lease. */
  | { readonly kind: "closed"; readonly isUnregistered: boolean };

export interface RegisterOptions {
  /** Time to live of the lease in ms, 1 s to 24 h; by default the server's, 30 s. It is how long the entries of a program that dies stay. */
  readonly ttlMs?: number;
  /** Keeps trying until a server takes the registration. By default `register` gives up after the client's `timeoutMs`. */
  readonly waitsForServer?: boolean;
  /** Ends the handle without waiting for a server, as `close` does. */
  readonly signal?: AbortSignal;
  /** Told of every step; for logs and metrics. It must not throw. */
  readonly onEvent?: (event: RegistrationEvent) => void;
}

/** What an instance says about itself. What is absent stays as it was. */
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

/** Entries that are to take the place of those that are registered. */
interface PendingUpdate {
  readonly entries: readonly Entry[];
  readonly done: PromiseWithResolvers<void>;
  readonly giveUpMonoMs: number;
  /** Nobody asked for it: the entries that the handle has are put again. */
  readonly isRepair: boolean;
}

/** Most keys of one call, by the contract. What several updates removed may be more. */
const MOST_KEYS = 1000;
/** Most of the ttl that a renewal may wait for its answer. */
const CALL_SHARE = 0.25;
const LEAST_CALL_MS = 100;
const DEFAULT_TTL_MS = 30_000;

/**
 * Registers entries under a lease of their own, and keeps them registered. Resolves when a server has taken them. Throws a `RequestError` when the
 * registration is refused, or when no server took it within the client's `timeoutMs`, and a TypeError or RangeError that names an option which is wrong.
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

export class RegistrationHandle implements AsyncDisposable {
  /** Resolves at the first registration; rejects when there will be none. */
  readonly begun: Promise<void>;
  readonly #client: ClientCalls;
  readonly #options: RegisterOptions;
  readonly #entries: RegisteredEntries;
  readonly #machine: Registration;
  readonly #id = randomUUID();
  readonly #abort = new AbortController();
  readonly #first = Promise.withResolvers<void>();
  /** Until when a first registration is tried. */
  #giveUpMonoMs: number;
  /** In the order in which they were asked for. The first one is carried out. */
  readonly #updates: PendingUpdate[] = [];
  /** The request of an attempt: its repetitions must be the same. */
  #request: { readonly attempt: number; readonly message: MessageShape<typeof RegisterRequestSchema> } | undefined;
  #cancelTimer: () => void = () => {};
  #lastError: Error | undefined;
  #error: Error | undefined;
  #closed: Promise<void> | undefined;
  /** The registration that is under way. */
  #registering: Promise<void> = Promise.resolve();

  constructor(client: ClientCalls, entries: readonly MessageInitShape<typeof EntrySchema>[], options: RegisterOptions) {
    this.#client = client;
    this.#options = options;
    this.#entries = new RegisteredEntries(this.#sendable(entries));
    this.#machine = new Registration(Math.random, now());
    this.#giveUpMonoMs = this.#endOfTries();
    this.begun = this.#first.promise;
    // Who asks for `begun` gets the error; nobody has to.
    this.begun.catch(() => {});
    options.signal?.addEventListener("abort", this.#onAbort, { once: true });
    if (options.signal?.aborted === true) this.#onAbort();
    else this.#input({ kind: "tick" });
  }

  /** The lease under which the entries are registered now. Undefined before the first registration, while they are registered again, and at the end. */
  get lease(): { readonly leaseId: string; readonly server: string } | undefined {
    return this.#machine.lease;
  }

  /** Why the handle is over, if it was not closed. */
  get error(): Error | undefined {
    return this.#error;
  }

  /**
   * Says how the instance is. A new health goes to the server at once, load with the next renewal, the last value of each. Without `instanceId` it is
   * about all entries of the handle. A later registration has the same values. A value that no server would take, such as a share above 1, or an instance id
   * that no entry has, changes nothing and is told as `reportRefused`. Throws a TypeError for a name that is neither `health` nor `load`.
   */
  report(report: InstanceReport, instanceId?: string): void {
    checkOptions("report", report, REPORT_RULES);
    const made = this.#checkedReport(report, instanceId);
    if (made === undefined) return;
    const isUrgent = this.#entries.note(made, instanceId, this.#waiting());
    this.#input({ kind: "report", isUrgent });
  }

  /**
   * Puts other entries in the place of those of the handle, under the same lease: new ones are registered, changed ones change, and those that are not among them are removed. What
   * another process has registered again since, under a lease of its own, is not removed. An entry that says no health or load keeps the last ones. Resolves when a server has done it; from then
   * on these are the entries that are registered again when the lease or its server is lost. Updates are carried out one after the other. Throws as `register` does, and then the
   * handle goes on with the entries that it had, or with the new ones if they were put and only the removal failed. Refused when the handle is closed or over.
   */
  async update(entries: readonly MessageInitShape<typeof EntrySchema>[]): Promise<void> {
    checkList("update", entries);
    if (this.#error !== undefined) throw this.#error;
    if (this.#closed !== undefined) throw this.#closedFailure();
    const made = this.#sendable(entries);
    const update = { entries: made, done: Promise.withResolvers<void>(), giveUpMonoMs: this.#endOfTries(), isRepair: false };
    this.#entries.supersedes(made);
    // It repairs by itself what is to be repaired.
    if (this.#updates[0]?.isRepair === true) this.#updates.shift();
    this.#updates.push(update);
    this.#input({ kind: "update", isWaiting: true });
    return update.done.promise;
  }

  /** Ends the lease with its entries, and the handle. It never throws: entries that no server can remove now end with their lease. */
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

  /** When what begins now is given up. */
  #endOfTries(): number {
    return this.#options.waitsForServer === true ? Number.POSITIVE_INFINITY : now().monoMs + this.#client.timeoutMs;
  }

  /** The entries of all updates that wait. */
  #waiting(): readonly Entry[] {
    return this.#updates.flatMap(({ entries }) => entries);
  }

  #closedFailure(): RequestError {
    return closedFailure("the registration is closed", this.#client.writeServer);
  }

  /** The message of a report. Undefined when no server would take it, or it is about no entry, which is told. */
  #checkedReport(report: InstanceReport, instanceId: string | undefined): EntryReport | undefined {
    const server = this.#machine.lease?.server ?? this.#client.writeServer;
    try {
      const made = sendable(EntryReportSchema, report, server);
      const problem = reportProblem(made);
      if (problem !== undefined) throw wrongRequest(`${problem.field}: ${problem.description}`, [problem], server);
      if (instanceId !== undefined && !this.#entries.hasInstance(instanceId, this.#waiting()))
        throw wrongRequest(`no entry of this registration has the instance id ${kindOf(instanceId)}`, [], server);
      return made;
    } catch (error) {
      if (!(error instanceof RequestError)) throw error;
      this.#tell({ kind: "reportRefused", error });
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
    // A registration that is under way may succeed: its lease is known only then.
    await this.#registering;
    this.#machine.handle({ kind: "close" }, now(), out);
    this.#abort.abort();
    this.#first.reject(this.#error ?? this.#lastError ?? this.#closedFailure());
    const [order] = out;
    const isUnregistered = order?.kind === "unregister" ? await this.#unregister(order) : true;
    this.#tell({ kind: "closed", isUnregistered });
  }

  #input(input: RegistrationInput): void {
    if (this.#closed !== undefined && input.kind !== "registered") return;
    const out: RegistrationOutput[] = [];
    this.#machine.handle(input, now(), out);
    for (const order of out) this.#obey(order);
    this.#cancelTimer();
    if (this.#closed === undefined)
      this.#cancelTimer = later(() => this.#input({ kind: "tick" }), this.#machine.nextDeadlineMs() - now().monoMs);
  }

  #obey(order: RegistrationOutput): void {
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
      case "told":
        return this.#step(order.event);
    }
  }

  #step(step: RegistrationStep): void {
    const error = this.#lastError ?? new Error("no server was asked");
    if (step.kind === "retrying") {
      this.#tell({ ...step, error });
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
      this.#tell({ kind: "failed", error });
      return;
    }
    if (step.kind === "registered") {
      this.#giveUpMonoMs = Number.POSITIVE_INFINITY;
      this.#first.resolve();
    }
    this.#tell(step);
  }

  #tell(event: RegistrationEvent): void {
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
      this.#tellNewHealth();
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
        this.#tell({ kind: "reportRefused", error: this.#lastError ?? new Error(String(error)) });
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

  /** A call under the lease ends long before the lease does. */
  #callOptions(): Required<CallOptions> {
    const timeoutMs = Math.max(LEAST_CALL_MS, Math.min(this.#client.timeoutMs, (this.#options.ttlMs ?? DEFAULT_TTL_MS) * CALL_SHARE));
    return { timeoutMs, signal: this.#abort.signal };
  }

  #tellNewHealth(): void {
    if (this.#entries.hasNewHealth) this.#input({ kind: "report", isUrgent: true });
  }

  /** Carries out the first update. */
  async #update({ leaseId, server }: { readonly leaseId: string; readonly server: string }): Promise<void> {
    const [update] = this.#updates;
    try {
      if (update !== undefined) await this.#replace(update, { leaseId, server });
    } catch (error) {
      const failure = this.#failureOf(error);
      // The server does not know the lease. The entries that the handle has are registered again, and then the update is carried out.
      if (isLeaseUnknown(error)) return this.#input({ kind: "renewed", isExpired: true, ttlMs: undefined });
      if (failure.isPassing && this.#isWanted(update)) return this.#input({ kind: "updateFailed", failure });
      update?.done.reject(error);
      // Another repair would fail as this one did. An update that came meanwhile has still to do what this one did not.
      if (update?.isRepair === true && this.#updates[0] === update) this.#entries.withoutDoubt();
    }
    if (update !== undefined && this.#updates[0] === update) this.#updates.shift();
    this.#input({ kind: "updated" });
    this.#goOn();
    this.#tellNewHealth();
  }

  /** Whether another try of an update is to be made. */
  #isWanted(update: PendingUpdate | undefined): boolean {
    return update !== undefined && update === this.#updates[0] && update.giveUpMonoMs > now().monoMs;
  }

  async #replace(update: PendingUpdate, { leaseId, server }: { readonly leaseId: string; readonly server: string }): Promise<void> {
    const { register: put, unregister } = DiscoveryService.method;
    const merged = this.#entries.merged(update.entries);
    const toPut = this.#entries.toPut(merged);
    // Putting twice is putting once, so no key for repetitions is needed. A list without entries is for the server to refuse.
    if (toPut.length > 0 || merged.length === 0)
      await this.#client.callAt(server, put, { leaseId, entries: [...toPut] }, this.#callOptions()).catch((error: unknown) => {
        if (!(error instanceof RequestError) || (error.facts.isSent && isPassing(error))) this.#entries.mayHavePut(toPut);
        throw error;
      });
    // A try after this one has only to remove.
    this.#entries.replace(merged);
    const keys = [...this.#entries.left];
    for (let i = 0; i < keys.length; i += MOST_KEYS)
      await this.#client.callAt(server, unregister, { leaseId, keys: keys.slice(i, i + MOST_KEYS) }, this.#callOptions());
    this.#entries.removed();
    update.done.resolve();
    if (!update.isRepair) this.#tell({ kind: "updated", leaseId, server });
  }

  /** Fails the updates that are overdue. */
  #giveUpUpdates(error: Error): void {
    if (this.#updates.every(({ giveUpMonoMs }) => giveUpMonoMs > now().monoMs)) return;
    const waiting = this.#updates.splice(0);
    for (const update of waiting)
      if (update.giveUpMonoMs > now().monoMs) this.#updates.push(update);
      else update.done.reject(error);
    this.#goOn();
  }

  #failUpdates(error: Error): void {
    for (const update of this.#updates.splice(0)) update.done.reject(error);
  }

  /** The next update is due. When none waits, but a server may have taken one that was given up, it is to have the entries that the handle has. */
  #goOn(): void {
    if (this.#updates.length === 0 && this.#entries.isInDoubt) this.#updates.push(this.#repair());
    this.#entries.prune(this.#waiting());
    this.#input({ kind: "update", isWaiting: this.#updates.length > 0 });
  }

  #repair(): PendingUpdate {
    const done = Promise.withResolvers<void>();
    // Nobody waits for it.
    done.promise.catch(() => {});
    return { entries: this.#entries.list, done, giveUpMonoMs: Number.POSITIVE_INFINITY, isRepair: true };
  }

  /**
   * At the server that has the lease: no other one can end it. Any node could remove the entries by their keys, but also those that a newer process has registered since under the same
   * keys.
   */
  async #unregister({ leaseId, server }: { readonly leaseId: string; readonly server: string }): Promise<boolean> {
    const { unregister } = DiscoveryService.method;
    try {
      await this.#client.callAt(server, unregister, { leaseId });
      return true;
    } catch (error) {
      if (!(error instanceof RequestError)) throw error;
      // The lease has ended, and its entries with it.
      return isLeaseUnknown(error);
    }
  }

  /** What is no answer of a server is a fault of this program: no repetition mends it. */
  #failureOf(error: unknown): RegistrationFailure {
    this.#lastError = error instanceof Error ? error : new Error(String(error));
    if (!(error instanceof RequestError)) return { isPassing: false, isDenied: false, retryMs: undefined };
    const { code, retryMs } = error.facts;
    return { isPassing: isPassing(error), isDenied: code === "PERMISSION_DENIED" || code === "UNAUTHENTICATED", retryMs };
  }
}

/** Codes after which the same request may succeed. A resolver, which takes no writes, says FAILED_PRECONDITION. */
const PASSING: ReadonlySet<string> = new Set(["RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "ABORTED", "INTERNAL", "UNKNOWN", "CANCELLED"]);

function isPassing(error: RequestError): boolean {
  return error.isAway || PASSING.has(error.facts.code) || error.facts.reason === "READ_ONLY";
}

function isLeaseUnknown(error: unknown): boolean {
  return error instanceof RequestError && error.facts.code === "NOT_FOUND";
}

function checkList(call: string, entries: unknown): void {
  if (!Array.isArray(entries)) throw new TypeError(`${call}: the entries are ${kindOf(entries)}, not a list`);
}

/** The key with the kind that the server would give it: reports must name it. */
function withKind(entry: Entry): Entry {
  const { key, detail } = entry;
  if (key?.kind === EntryKind.UNSPECIFIED) key.kind = EntryKind[enumName(detail.case ?? "service")];
  return entry;
}

function now(): Time {
  return { monoMs: performance.now(), wallMs: Date.now() };
}
