/** `register`: entries that stay registered until their handle is closed. `registration.ts` decides what happens when. */
import { randomUUID } from "node:crypto";
import { clone, create, type MessageInitShape, type MessageShape } from "@bufbuild/protobuf";
import { durationFromMs, durationMs } from "@bufbuild/protobuf/wkt";
import {
  type Entry,
  EntryKind,
  EntrySchema,
  HealthStatus,
  type LoadReport,
  type LoadReportSchema,
} from "../../gen/waymark/catalog/v1/entry_pb.js";
import {
  DiscoveryService,
  type EntryReport,
  EntryReportSchema,
  RegisterRequestSchema,
} from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { DAY_MS } from "../lib/duration.ts";
import { enumName } from "../lib/enum-words.ts";
import { later } from "../lib/later.io.ts";
import type { Time } from "../lib/machine.ts";
import type { Calls } from "./calls.ts";
import { ANYTHING, checkOptions, FLAG, FUNCTION, kindOf, lengthRule, type OptionRules, SIGNAL } from "./option-rules.ts";
import { type CallFailure, Registration, type RegistrationInput, type RegistrationOutput, type RegistrationStep } from "./registration.ts";
import { reportProblem } from "./report-rules.ts";
import { sendable, wrongRequest } from "./request-bytes.ts";
import { RequestError } from "./request-error.ts";

export type RegistrationEvent =
  | Exclude<RegistrationStep, { readonly kind: "retrying" | "failed" }>
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

type Reports = Map<number, { readonly health?: HealthStatus; readonly load?: LoadReport }>;

/** Most of the ttl that a renewal may wait for its answer. */
const CALL_SHARE = 0.25;
const LEAST_CALL_MS = 100;
const DEFAULT_TTL_MS = 30_000;

/**
 * Registers entries under a lease of their own, and keeps them registered. Resolves when a server has taken them. Throws a `RequestError` when the
 * registration is refused, or when no server took it within the client's `timeoutMs`, and a TypeError or RangeError that names an option which is wrong.
 */
export async function register(
  client: Calls,
  entries: readonly MessageInitShape<typeof EntrySchema>[],
  options: RegisterOptions = {},
): Promise<RegistrationHandle> {
  checkOptions("register", options, RULES);
  if (!Array.isArray(entries)) throw new TypeError(`register: the entries are ${kindOf(entries)}, not a list`);
  const handle = new RegistrationHandle(client, entries, options);
  await handle.begun;
  return handle;
}

export class RegistrationHandle implements AsyncDisposable {
  /** Resolves at the first registration; rejects when there will be none. */
  readonly begun: Promise<void>;
  readonly #client: Calls;
  readonly #options: RegisterOptions;
  /** As a server has taken them. */
  readonly #entries: readonly Entry[];
  readonly #machine: Registration;
  readonly #id = randomUUID();
  readonly #abort = new AbortController();
  readonly #first = Promise.withResolvers<void>();
  readonly #giveUpMonoMs: number;
  /** Reports that no server has been told yet, by the index of the entry. */
  #reports: Reports = new Map();
  /** Reports that a server is being told: the entries have them when it has taken them. */
  #sent: Reports = new Map();
  /** The request of an attempt: its repetitions must be the same. */
  #request: { readonly attempt: number; readonly message: MessageShape<typeof RegisterRequestSchema> } | undefined;
  #cancelTimer: () => void = () => {};
  #lastError: Error | undefined;
  #error: Error | undefined;
  #closed: Promise<void> | undefined;
  /** The registration that is under way. */
  #registering: Promise<void> = Promise.resolve();

  constructor(client: Calls, entries: readonly MessageInitShape<typeof EntrySchema>[], options: RegisterOptions) {
    this.#client = client;
    this.#options = options;
    this.#entries = entries.map((entry) => withKind(sendable(EntrySchema, entry, client.writeServer)));
    const time = now();
    this.#machine = new Registration(Math.random, time);
    this.#giveUpMonoMs = options.waitsForServer === true ? Number.POSITIVE_INFINITY : time.monoMs + client.timeoutMs;
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
   * about all entries of the handle. A later registration has the same values. A value that no server would take, such as a share above 1, changes nothing and
   * is told as `reportRefused`. Throws a TypeError for a name that is neither `health` nor `load`.
   */
  report(report: InstanceReport, instanceId?: string): void {
    checkOptions("report", report, REPORT_RULES);
    const made = this.#checkedReport(report);
    if (made === undefined) return;
    let isUrgent = false;
    for (const [index, entry] of this.#entries.entries()) {
      if (instanceId !== undefined && entry.key?.instanceId !== instanceId) continue;
      const last = { health: entry.health, ...this.#sent.get(index), ...this.#reports.get(index) };
      // UNSPECIFIED leaves the health as it is.
      const isNew = made.health !== HealthStatus.UNSPECIFIED && made.health !== last.health;
      isUrgent ||= isNew;
      const health = isNew ? { health: made.health } : {};
      const load = made.load === undefined ? {} : { load: made.load };
      this.#reports.set(index, { ...this.#reports.get(index), ...health, ...load });
    }
    this.#input({ kind: "report", isUrgent });
  }

  /** Removes the entries and ends the handle. It never throws: entries that no server can remove now end with their lease. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** The message of a report. Undefined when no server would take it, which is told. */
  #checkedReport(report: InstanceReport): EntryReport | undefined {
    const server = this.#machine.lease?.server ?? this.#client.writeServer;
    try {
      const made = sendable(EntryReportSchema, report, server);
      const problem = reportProblem(made);
      if (problem !== undefined) throw wrongRequest(`${problem.field}: ${problem.description}`, [problem], server);
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
    const out: RegistrationOutput[] = [];
    // A registration that is under way may succeed: its lease is known only then.
    await this.#registering;
    this.#machine.handle({ kind: "close" }, now(), out);
    this.#abort.abort();
    this.#first.reject(this.#error ?? this.#lastError ?? new Error("the registration was closed"));
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
      if (this.#giveUpMonoMs > now().monoMs || this.#machine.lease !== undefined) return;
      this.#error = error;
      void this.close();
      return;
    }
    if (step.kind === "failed") {
      this.#error = error;
      this.#first.reject(error);
      this.#tell({ kind: "failed", error });
      return;
    }
    if (step.kind === "registered") this.#first.resolve();
    this.#tell(step);
  }

  #tell(event: RegistrationEvent): void {
    this.#options.onEvent?.(event);
  }

  async #register(attempt: number): Promise<void> {
    const server = this.#client.writeServer;
    try {
      const answer = await this.#client.callAt(server, DiscoveryService.method.register, this.#requestOf(attempt));
      this.#taken();
      const answered = answer.ttl === undefined ? undefined : durationMs(answer.ttl);
      this.#input({ kind: "registered", leaseId: answer.leaseId, server, ttlMs: answered });
      if ([...this.#reports.values()].some(({ health }) => health !== undefined)) this.#input({ kind: "report", isUrgent: true });
    } catch (error) {
      const failure = this.#failureOf(error);
      if (failure.isPassing) this.#client.failOver(server);
      this.#input({ kind: "failed", failure });
    }
  }

  #requestOf(attempt: number): MessageShape<typeof RegisterRequestSchema> {
    if (this.#request?.attempt === attempt) return this.#request.message;
    const { ttlMs } = this.#options;
    this.#send();
    const entries = this.#entries.map((entry, index) => Object.assign(clone(EntrySchema, entry), this.#sent.get(index)));
    const idempotencyKey = `${this.#id}/${attempt}`;
    const ttl = ttlMs === undefined ? {} : { ttl: durationFromMs(ttlMs) };
    const message = create(RegisterRequestSchema, { entries, idempotencyKey, ...ttl });
    this.#request = { attempt, message };
    return message;
  }

  async #renew({ leaseId, server }: { readonly leaseId: string; readonly server: string }): Promise<void> {
    const timeoutMs = Math.max(LEAST_CALL_MS, Math.min(this.#client.timeoutMs, (this.#options.ttlMs ?? DEFAULT_TTL_MS) * CALL_SHARE));
    const options = { timeoutMs, signal: this.#abort.signal };
    const { renew } = DiscoveryService.method;
    try {
      this.#send();
      const reports = [...this.#sent].flatMap(([index, report]) => {
        const key = this.#entries[index]?.key;
        return key === undefined ? [] : [{ key, ...report }];
      });
      const answer = await this.#client.callAt(server, renew, { leaseIds: [leaseId], reports }, options).catch((error: unknown) => {
        const failure = this.#failureOf(error);
        if (failure.isPassing || reports.length === 0) throw error;
        this.#sent.clear();
        this.#tell({ kind: "reportRefused", error: this.#lastError ?? new Error(String(error)) });
        return this.#client.callAt(server, renew, { leaseIds: [leaseId] }, options);
      });
      this.#taken();
      const isExpired = answer.expiredLeaseIds.includes(leaseId);
      this.#input({ kind: "renewed", isExpired, ttlMs: answer.ttl === undefined ? undefined : durationMs(answer.ttl) });
    } catch (error) {
      // What is newer has come meanwhile.
      for (const [index, report] of this.#sent) this.#reports.set(index, { ...report, ...this.#reports.get(index) });
      this.#sent = new Map();
      this.#input({ kind: "failed", failure: this.#failureOf(error) });
    }
  }

  /** What was reported goes to a server now. */
  #send(): void {
    [this.#sent, this.#reports] = [this.#reports, new Map()];
  }

  /** A server has taken what was sent: later registrations say the same. */
  #taken(): void {
    for (const [index, report] of this.#sent) Object.assign(this.#entries[index] ?? {}, report);
    this.#sent = new Map();
  }

  /** At the server that has the lease; if that is away by their keys, which any node of the cluster can remove. */
  async #unregister({ leaseId, server }: { readonly leaseId: string; readonly server: string }): Promise<boolean> {
    const { unregister } = DiscoveryService.method;
    try {
      await this.#client.callAt(server, unregister, { leaseId });
      return true;
    } catch (error) {
      if (!(error instanceof RequestError)) throw error;
      // The lease has ended, and its entries with it.
      if (error.facts.code === "NOT_FOUND") return true;
      if (!error.isAway) return false;
    }
    try {
      const keys = this.#entries.flatMap(({ key }) => key ?? []);
      return (await this.#client.call(unregister, { keys })).removed === keys.length;
    } catch (error) {
      if (!(error instanceof RequestError)) throw error;
      return false;
    }
  }

  /** What is no answer of a server is a fault of this program: no repetition mends it. */
  #failureOf(error: unknown): CallFailure {
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

/** The key with the kind that the server would give it: reports must name it. */
function withKind(entry: Entry): Entry {
  const { key, detail } = entry;
  if (key?.kind === EntryKind.UNSPECIFIED) key.kind = EntryKind[enumName(detail.case ?? "service")];
  return entry;
}

function now(): Time {
  return { monoMs: performance.now(), wallMs: Date.now() };
}
