/** Connects the parts of a resolver to this process's clock, sockets and event loop, and opens its services. */
import { randomBytes } from "node:crypto";
import {
  create,
  type DescMessage,
  type DescMethodUnary,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { hasTls, hasUpstreamTls } from "../../config/exposure.ts";
import { PolicySwitcher } from "../../discovery/policy-switch.io.ts";
import { WatchWaker } from "../../discovery/watch-waker.io.ts";
import type { RemoteLookups } from "../../dns/subject/remote-lookup.ts";
import { classesOf, viewersOf } from "../../dns/views/views.ts";
import { GENERATIONS_PER_S } from "../../fabric/membership/local-member.ts";
import { WaymarkError } from "../../lib/errors.ts";
import type { Log } from "../../lib/log.io.ts";
import type { Metrics } from "../../lib/metrics/metrics.ts";
import { later, now } from "../../lib/stall-aware-time.io.ts";
import type { ReadyCheck } from "../../server/http-routes.ts";
import { draining } from "../../server/status.ts";
import { auditHandlers } from "../../services/audit.ts";
import { ageOf, type ResolverPorts, type UpstreamAnswer } from "../../services/resolving/ports.ts";
import { openRemoteLookups } from "../../services/resolving/remote-lookups.ts";
import { resolverServices } from "../../services/resolving/services.ts";
import type { ServiceDefinition } from "../../services/service.ts";
import type { AuditLog } from "../../store/audit/log.io.ts";
import type { NodeComponent } from "../components.io.ts";
import { configSource } from "../config-source.ts";
import { observeEntries, observeSummaries, observeWatches } from "../metrics.ts";
import { openClusterKeys } from "../regions/cluster-keys.io.ts";
import { type NodeOptions, tick } from "../starting.io.ts";
import { readUpstreamAccess } from "./credentials.io.ts";
import { ResolverDriver } from "./driver.io.ts";
import { observeResolver, replayEvent, resolverChecks, resyncEvent } from "./reports.ts";
import { openResolverRooms, type ResolverRooms, resolverOptionsOf } from "./resolver-rooms.ts";
import { followedKeysOf, followedSummariesOf } from "./summaries/options.ts";
import { UpstreamCalls } from "./upstream-calls.io.ts";

/** Timeout of a forwarded call, in ms. */
const PASSED_MS = 5000;
/** Interval in ms at which refusals that were only counted so far are recorded. */
const LIMITS_MS = 250;

export interface ResolverCoreParts {
  readonly nodeId: string;
  readonly metrics: Metrics;
  readonly audit: AuditLog;
  readonly random: () => number;
}

export class ResolverCore implements NodeComponent {
  readonly rooms: ResolverRooms;
  readonly services: readonly ServiceDefinition[];
  readonly calls: UpstreamCalls;
  readonly driver: ResolverDriver;
  /** Names that DNS looks up on upstream servers because the resolver does not follow them. */
  readonly remoteLookups: RemoteLookups;
  /** Resolves when the resolver begins to serve. */
  readonly ready: Promise<void>;
  isDraining = false;
  readonly #metrics: Metrics;
  readonly #audit: AuditLog;
  readonly #wakeup: WatchWaker;
  readonly #readersOfSummaries: WatchWaker | undefined;
  readonly #waits = new ConditionWaiters();
  readonly #switcher: PolicySwitcher;
  readonly #onServing = new Set<(isServing: boolean) => void>();
  readonly #policyWakes = new Set<() => void>();
  readonly #limitsTimer: NodeJS.Timeout;
  readonly #log: Log;
  #isServing = false;
  /** The last fault that was logged. */
  #fault: string | undefined;
  #wasPolicyReady = false;

  constructor(options: NodeOptions, { nodeId, metrics, audit, random }: ResolverCoreParts) {
    const { settings, log, version } = options;
    const time = now();
    const boot = randomBytes(6).toString("hex");
    const generation = Math.floor(time.wallMs / 1000) * GENERATIONS_PER_S;
    this.#metrics = metrics;
    this.#audit = audit;
    const resolver = resolverOptionsOf(settings, { name: nodeId, random });
    const summaries = this.#followed(settings, { nodeId, generation }, log);
    const process = { settings, version, metrics, audit, now, boot, onAgain: () => this.#wakeup.kick() };
    this.rooms = openResolverRooms({ ...process, nodeId, generation, resolver, summaries }, time);
    const { switches, fanout, limits } = this.rooms;
    this.#wakeup = new WatchWaker(fanout, now);
    this.#readersOfSummaries = this.rooms.summaries && new WatchWaker(this.rooms.summaries.reads.fanout, now);
    this.#switcher = new PolicySwitcher(switches, () => {
      this.rooms.show();
      this.#changed();
    });
    this.#limitsTimer = setInterval(() => limits.tick(now()), LIMITS_MS).unref();
    const upstreamLog = log.child("resolver");
    this.#log = upstreamLog;
    this.calls = new UpstreamCalls({
      name: nodeId,
      upstreamCount: settings.resolver.upstreams.length,
      readAccess: () => readUpstreamAccess(settings),
      onStaleToken: (fault) => upstreamLog.warn({ fault }, "token reload failed, keeping the current token"),
      onNewToken: () => this.driver.input({ kind: "credentials changed" }),
    });
    this.driver = new ResolverDriver({
      rooms: this.rooms,
      calls: this.calls,
      log: upstreamLog,
      now,
      onChange: () => this.#changed(),
      onPolicyChanged: () => {
        this.onPolicyChanged();
        void this.#switcher.run();
      },
      onResynced: (resynced) => this.#audit.record(resyncEvent(resynced, now())),
    });
    const started = Promise.withResolvers<void>();
    this.ready = started.promise;
    this.followServing((isServing) => {
      if (isServing) started.resolve();
    });
    const ports = this.#ports();
    this.services = this.#servicesOf(options, ports, { random, audit });
    const viewers = classesOf(viewersOf(settings.dns, settings.node)).callers;
    this.remoteLookups = openRemoteLookups(this.rooms, { ports, resolver, now, viewers });
  }

  /** Called when another policy comes into force. Must be set before the start. */
  onPolicyChanged: () => void = () => {};

  get isServing(): boolean {
    return this.#isServing && !this.isDraining;
  }

  /** Throws while the current policy is unknown, so that no caller is answered. */
  checkReady(): void {
    if (!this.rooms.machine.policy.isReady)
      throw new WaymarkError("not_ready", "this resolver is not ready: it is waiting for the current policy from an upstream");
  }

  /** Calls `onServing` immediately, and whenever the resolver starts or stops serving. */
  followServing(onServing: (isServing: boolean) => void): void {
    this.#onServing.add(onServing);
    onServing(this.isServing);
  }

  start(): void {
    this.driver.begin();
  }

  reload(): void {
    this.driver.reload();
  }

  /** Records that the resolver serves from an on-disk copy. */
  replayed(entryCount: number, ageMs: number): void {
    this.#audit.record(replayEvent({ entryCount, ageMs }, now()));
  }

  /** Ends watches with a cursor, from which clients can resume on another server. */
  drain(): void {
    if (this.isDraining) return;
    this.isDraining = true;
    this.rooms.fanout.end();
    // Calls that are waiting for an upstream would delay the stop.
    this.#waits.close();
    this.#tell();
  }

  stop(): void {
    this.driver.close();
    this.#wakeup.close();
    this.#readersOfSummaries?.close();
    this.#waits.close();
    clearInterval(this.#limitsTimer);
    this.rooms.limits.close();
  }

  readiness(): readonly ReadyCheck[] {
    return resolverChecks(this.rooms, { isServing: this.#isServing, fault: this.driver.fault });
  }

  observe(): void {
    observeWatches(this.#metrics, this.rooms);
    observeEntries(this.#metrics, this.rooms.machine.lookups);
    this.#metrics.set("waymark_ready", {}, this.isServing ? 1 : 0);
    observeResolver(this.#metrics, this.rooms.machine, now());
    if (this.rooms.summaries !== undefined) observeSummaries(this.#metrics, this.rooms.summaries.followed.held, now());
  }

  /** Runs after each input of the machine. HOT: runs per message from the upstream. */
  #changed(): void {
    const { machine, fanout } = this.rooms;
    this.#waits.look();
    if (machine.policy.isReady !== this.#wasPolicyReady) {
      this.#wasPolicyReady = machine.policy.isReady;
      // Watches received no messages while a policy version was missing.
      fanout.all();
    }
    for (const wake of this.#policyWakes) wake();
    this.#tellFault();
    if (this.#isServing || !machine.isReady) return;
    this.#isServing = true;
    this.#tell();
  }

  #tellFault(): void {
    const { fault } = this.rooms.machine;
    if (fault !== undefined && fault !== this.#fault) this.#log.error({ fault }, "the followed namespaces do not fit into this resolver");
    this.#fault = fault;
  }

  #tell(): void {
    for (const onServing of this.#onServing) onServing(this.isServing);
  }

  /** Returns the options for following summaries. Undefined if no summaries are followed. */
  #followed(settings: NodeOptions["settings"], own: { readonly nodeId: string; readonly generation: number }, log: Log) {
    const options = followedSummariesOf(settings, own);
    if (options === undefined) return undefined;
    const keys = followedKeysOf(settings, () => openClusterKeys(settings, log.child("summary")).keys);
    return { options, keys, onAgain: () => this.#readersOfSummaries?.kick() };
  }

  #servicesOf(
    { settings, origins }: NodeOptions,
    ports: ResolverPorts,
    { random, audit }: Pick<ResolverCoreParts, "audit" | "random">,
  ): readonly ServiceDefinition[] {
    const { rooms } = this;
    const { nodeId: servedBy } = rooms.identity;
    return resolverServices({
      ...rooms,
      ports,
      config: { ...configSource(settings, origins), policyNumber: () => rooms.policies.status.inForce?.number ?? 0, servedBy },
      upstreams: settings.resolver.upstreams.map((address) => `${hasUpstreamTls(settings) ? "grpcs" : "grpc"}://${address}`),
      cache: {
        statistics: (time) => rooms.machine.statistics(time),
        act: (request) => this.driver.input({ kind: "act", ...request }),
        audit,
        servedBy,
      },
      endedStaticCount: () => 0,
      mesh: {
        ageMs: (time) => ageOf(rooms.machine.followedAnswer(time), time).ageMs,
        unreachable: (time) => rooms.machine.followedAnswer(time).unreachable,
        hasPeers: () => true,
      },
      isReady: () => rooms.machine.isReady,
      isTls: hasTls(settings),
      checkCaughtUp: () => this.checkReady(),
      checkStart: () => {},
      caughtUp: undefined,
      now,
      random,
      allowsViewerOverride: settings.tenants.allowRequestOverride,
      metrics: this.#metrics,
      onRead: rooms.accessLog.onRead,
      resumes: rooms.machine.bookmarks,
      isPaused: () => !rooms.machine.policy.isReady,
      audit: auditHandlers(this.#audit),
      onChange: (wake) => {
        const untick = tick(wake);
        this.#policyWakes.add(wake);
        return () => {
          this.#policyWakes.delete(wake);
          untick();
        };
      },
    });
  }

  #ports(): ResolverPorts {
    return {
      machine: this.rooms.machine,
      ask: (name, asked, onAnswer) => this.driver.ask(name, asked, onAnswer),
      call: (method, request) => this.#call(method, request),
      callBytes: (method, request, withinMs) => this.#callBytes(method, request, withinMs),
      garbled: (upstream, fault) => this.driver.input({ kind: "garbled", upstream, fault }),
      adjust: () => this.driver.input({ kind: "tick" }),
      until: async (isSo, withinMs) => {
        const isReached = await this.#waits.until(isSo, withinMs);
        // Another server can answer, so the call does not wait for an upstream.
        if (!isReached && this.isDraining) throw draining();
        return isReached;
      },
    };
  }

  #callBytes<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I> | Uint8Array,
    withinMs = PASSED_MS,
  ): Promise<UpstreamAnswer> {
    const bytes = request instanceof Uint8Array ? request : toBinary(method.input, create(method.input, request));
    return this.driver.unary(method, bytes, Math.min(PASSED_MS, withinMs));
  }

  async #call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
  ): Promise<MessageShape<O>> {
    const { bytes, upstream } = await this.#callBytes(method, request);
    try {
      return fromBinary(method.output, bytes);
    } catch (error) {
      this.driver.input({
        kind: "garbled",
        upstream,
        fault: error instanceof Error ? error.message : `malformed answer to ${method.name}`,
      });
      throw new WaymarkError("not_ready", "an upstream sent a malformed answer; retry", { cause: error });
    }
  }
}

// Calls that wait for a condition.

interface ConditionWaiter {
  readonly isSo: () => boolean;
  readonly end: (isSo: boolean) => void;
}

class ConditionWaiters {
  readonly #waiting = new Set<ConditionWaiter>();

  /** Resolves with true as soon as a check finds that the condition is met, or with false after the timeout. */
  until(isSo: () => boolean, withinMs: number): Promise<boolean> {
    if (isSo()) return Promise.resolve(true);
    return new Promise((resolve) => {
      const waiting: ConditionWaiter = {
        isSo,
        end: (outcome) => {
          this.#waiting.delete(waiting);
          cancel();
          resolve(outcome);
        },
      };
      const cancel = later(() => waiting.end(isSo()), withinMs);
      this.#waiting.add(waiting);
    });
  }

  /** Checks all waiting conditions after a change. */
  look(): void {
    for (const waiting of this.#waiting) if (waiting.isSo()) waiting.end(true);
  }

  /** Ends all waits with the result false. */
  close(): void {
    for (const waiting of this.#waiting) waiting.end(false);
  }
}
