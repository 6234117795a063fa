/**
 * Registers this resolver under the name that clients look up to find resolvers, and keeps it registered. `resolver/self-registration.ts` decides
 * when to make which call. A failed call has no other effect.
 */
import { equalBytes } from "../../lib/crypto.ts";
import { WaymarkError } from "../../lib/errors.ts";
import type { Log } from "../../lib/log.io.ts";
import type { Time } from "../../lib/machine.ts";
import { later } from "../../lib/stall-aware-time.io.ts";
import { type SelfFailure, type SelfInput, type SelfOrder, SelfRegistration, type SelfStep } from "../../resolver/self-registration.ts";
import {
  type Entry,
  entryBytes,
  METHODS,
  ownerRequest,
  readOtherOwner,
  readRegistered,
  readRenewed,
  readUnregistered,
  registerRequest,
  renewRequest,
  unregisterRequest,
} from "./registration-codec.ts";
import { SparseLog } from "./sparse-log.ts";
import type { UpstreamCalls } from "./upstream-calls.io.ts";

export interface SelfRegistrarParts {
  /** Returns the server that the resolver currently follows. */
  upstream(): string | undefined;
  /** Returns the current entry. */
  entry(): Entry;
  /**
   * Makes the calls, including calls to nodes that an upstream lists, with the same credentials. Without TLS, the token is sent only to a loopback
   * address.
   */
  readonly calls: Pick<UpstreamCalls, "unary">;
  readonly log: Pick<Log, "info" | "warn">;
  now(): Time;
  /** A random number, uniform in [0, 1). */
  readonly random: () => number;
}

const TTL_MS = 30_000;
const CALL_MS = 5000;
/** Interval between checks for changes of the upstream and of the entry, in ms. */
const LOOK_MS = 1000;
/** Maximum number of node addresses that are used from a refusal. */
const MAX_NODES = 4;
/** Maximum number of URLs that are examined in a refusal. */
const MAX_URLS = 16;
const NODE_ADDRESS = /^(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253}):\d{1,5}$/;

interface RegistrarCall {
  readonly method: Parameters<UpstreamCalls["unary"]>[1];
  readonly request: Uint8Array;
  readonly timeoutMs: number;
}

export class SelfRegistrar {
  readonly #parts: SelfRegistrarParts;
  readonly #machine: SelfRegistration;
  readonly #warnings: SparseLog;
  /** The bytes of the entry that was last sent. */
  #sent: Uint8Array = new Uint8Array();
  /** The running call. */
  #calling: Promise<void> = Promise.resolve();
  #cancelTimer: () => void = () => {};
  #stopped: Promise<boolean> | undefined;

  constructor(parts: SelfRegistrarParts) {
    this.#parts = parts;
    this.#machine = new SelfRegistration(parts.random);
    this.#warnings = new SparseLog((fields, message) => parts.log.warn({ ...fields }, message));
  }

  /** The lease under which the resolver is registered, and the server that granted it. */
  get lease(): { readonly leaseId: string; readonly server: string } | undefined {
    return this.#machine.lease;
  }

  /** Starts to register. Must be called when the resolver begins to answer its callers. */
  begin(): void {
    this.#look();
  }

  /**
   * Removes the entry within this time, and stops registering. Resolves with whether a server removed it. If no server removed it, the entry expires
   * with its lease. Idempotent. Rejects only if there is a bug.
   */
  stop(withinMs: number): Promise<boolean> {
    this.#stopped ??= this.#stop(this.#parts.now().monoMs + withinMs);
    return this.#stopped;
  }

  async #stop(untilMonoMs: number): Promise<boolean> {
    this.#cancelTimer();
    const leftMs = () => Math.max(1, Math.min(CALL_MS, untilMonoMs - this.#parts.now().monoMs));
    // A registration in progress may still succeed, and the lease is known only after that.
    const { promise: over, resolve } = Promise.withResolvers<void>();
    const cancel = later(resolve, leftMs());
    await Promise.race([this.#calling, over]);
    cancel();
    const out: SelfOrder[] = [];
    this.#machine.handle({ kind: "close" }, this.#parts.now(), out);
    const [order] = out;
    if (order?.kind !== "unregister") return true;
    const { server, leaseId } = order;
    try {
      return await this.#call(
        server,
        { method: METHODS.unregister, request: unregisterRequest({ leaseId }), timeoutMs: leftMs() },
        readUnregistered,
      );
    } catch (error) {
      if (!(error instanceof WaymarkError)) throw error;
    }
    // Any node of the cluster can remove a key.
    const upstream = this.#parts.upstream();
    if (upstream === undefined || upstream === server) return false;
    const request = unregisterRequest({ entry: this.#parts.entry() });
    try {
      return await this.#call(upstream, { method: METHODS.unregister, request, timeoutMs: leftMs() }, readUnregistered);
    } catch (error) {
      if (!(error instanceof WaymarkError)) throw error;
      return false;
    }
  }

  /** Passes the current upstream, changes of the entry and the time to the machine. */
  #look(): void {
    this.#input({ kind: "upstream", upstream: this.#parts.upstream() });
    if (this.#machine.lease !== undefined && !equalBytes(entryBytes(this.#parts.entry()), this.#sent)) this.#input({ kind: "changed" });
    this.#input({ kind: "tick" });
  }

  #input(input: SelfInput): void {
    if (this.#stopped !== undefined && input.kind !== "registered") return;
    const out: SelfOrder[] = [];
    this.#machine.handle(input, this.#parts.now(), out);
    for (const order of out) this.#obey(order);
    this.#cancelTimer();
    if (this.#stopped !== undefined) return;
    this.#cancelTimer = later(() => this.#look(), Math.min(LOOK_MS, this.#machine.nextDeadlineMs() - this.#parts.now().monoMs));
  }

  #obey(order: SelfOrder): void {
    switch (order.kind) {
      case "register":
        this.#calling = this.#register(order.server, order.leaseId);
        return;
      case "renew":
        this.#calling = this.#renew(order.server, order.leaseId);
        return;
      case "find":
        this.#calling = this.#find(order.server);
        return;
      case "unregister":
        return;
      case "told":
        return this.#report(order.step);
    }
  }

  async #register(server: string, leaseId: string): Promise<void> {
    const entry = this.#parts.entry();
    this.#sent = entryBytes(entry);
    try {
      const request = registerRequest(entry, leaseId, TTL_MS);
      const answer = await this.#call(server, { method: METHODS.register, request, timeoutMs: CALL_MS }, readRegistered);
      this.#input({ kind: "registered", leaseId: answer.leaseId, ttlMs: answer.ttlMs ?? TTL_MS });
    } catch (error) {
      this.#fail(server, error, "registration of this resolver failed; it will be retried");
    }
  }

  async #renew(server: string, leaseId: string): Promise<void> {
    try {
      const call = { method: METHODS.renew, request: renewRequest(leaseId), timeoutMs: CALL_MS };
      this.#input({ kind: "renewed", ...(await this.#call(server, call, (bytes) => readRenewed(bytes, leaseId))) });
    } catch (error) {
      this.#fail(server, error, "renewal of this resolver's registration failed; it will be retried");
    }
  }

  async #find(server: string): Promise<void> {
    const entry = this.#parts.entry();
    try {
      const call = { method: METHODS.catalogQuery, request: ownerRequest(entry), timeoutMs: CALL_MS };
      this.#input({ kind: "found", other: await this.#call(server, call, (bytes) => readOtherOwner(bytes, entry)) });
    } catch (error) {
      this.#fail(server, error, "registration of this resolver failed; it will be retried");
    }
  }

  #fail(server: string, error: unknown, message: string): void {
    if (!(error instanceof WaymarkError)) throw error;
    const failure = failureOf(error);
    if (failure.kind === "other") this.#warn(server, error.message, message);
    this.#input({ kind: "failed", failure });
  }

  #report(step: SelfStep): void {
    const { log } = this.#parts;
    switch (step.kind) {
      case "registered":
        return log.info({ server: step.server }, "this resolver was registered");
      case "lost":
        return log.info({ server: step.server, why: step.why }, "the registration of this resolver was lost; it will be registered again");
      case "contested":
        return log.warn(
          { other: step.other },
          "another resolver repeatedly registered itself with the id of this resolver; give each resolver its own node.id. This resolver waits before it registers again",
        );
      case "left out":
        return this.#warn(
          step.server,
          "the upstream is a resolver and does not list any node that this resolver can reach",
          "this resolver is not registered, so clients cannot discover it",
        );
    }
  }

  #warn(upstream: string, detail: string, message: string): void {
    this.#warnings.warn({ upstream, detail }, message, this.#parts.now().monoMs);
  }

  /** Rejects with a WaymarkError. */
  async #call<Answer>(server: string, { method, request, timeoutMs }: RegistrarCall, read: (bytes: Uint8Array) => Answer): Promise<Answer> {
    const outcome = await this.#parts.calls.unary(server, method, request, timeoutMs);
    if (outcome.bytes === undefined) throw outcome.error;
    try {
      return read(outcome.bytes);
    } catch (error) {
      throw new WaymarkError("not_ready", `${server} sent a malformed answer`, { cause: error });
    }
  }
}

function failureOf({ reason, details }: WaymarkError): SelfFailure {
  if (reason === "read_only") return { kind: "read only", nodes: nodesIn(details.metadata?.["urls"] ?? "") };
  return reason === "lease_not_found" ? { kind: "lease" } : { kind: "other", retryMs: details.retryMs };
}

/**
 * Extracts the addresses from the space-separated URLs that a resolver sends: `host:port`, optionally with the prefix `grpc://` or `grpcs://`. Any
 * other text is ignored.
 */
function nodesIn(urls: string): readonly string[] {
  const addresses = urls.split(" ", MAX_URLS).map((url) => url.replace(/^grpcs?:\/\//, ""));
  return [...new Set(addresses)].filter((address) => NODE_ADDRESS.test(address)).slice(0, MAX_NODES);
}
