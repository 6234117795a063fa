/**
 * A worker of a node, which answers from a copy of the catalog. As a thread, it answers readers and forwards every other call to the main thread. As
 * a process, it answers only DNS.
 */
import { randomFillSync } from "node:crypto";
import { flushCompileCache } from "node:module";
import { performance } from "node:perf_hooks";
import { hasTls } from "../../config/exposure.ts";
import type { Settings } from "../../config/settings.ts";
import { PolicySwitcher } from "../../discovery/policy-switch.io.ts";
import { WatchWaker } from "../../discovery/watch-waker.io.ts";
import { receivedError, WaymarkError } from "../../lib/errors.ts";
import { openLog, type RootLog } from "../../lib/log.io.ts";
import { parseLogScopes } from "../../lib/log-scopes.ts";
import type { Time } from "../../lib/machine.ts";
import { Metrics } from "../../lib/metrics/metrics.ts";
import { valuesOf } from "../../lib/metrics/sum.ts";
import { draws } from "../../lib/rng.ts";
import { later, now, sharedOriginMs, stallAwareDueMs, stallAwareNowMs } from "../../lib/stall-aware-time.io.ts";
import type { ManagedCallers } from "../../policy/identity/tenants.ts";
import { WorkerWatches } from "../../policy/limits/host-watches.ts";
import { type MakeBuckets, partBuckets, sharedBuckets } from "../../policy/limits/shared-limits.ts";
import type { ScrapeResult } from "../../server/metrics.io.ts";
import { readHandlers } from "../../services/discovery/read-handlers.ts";
import { CallForwarder, FORWARDING_BOUNDS } from "../../services/forwarding/call-forwarder.ts";
import { workerServices } from "../../services/forwarding/worker-services.ts";
import type { ServiceDefinition } from "../../services/service.ts";
import { type CallerIdentities, openIdentities, readOperatorToken } from "../callers.io.ts";
import { NodeComponents, StopDeadline } from "../components.io.ts";
import { type CopyRooms, openCopyRooms } from "../core/copies/copy-rooms.ts";
import type { ListenEndpoints, SharedPorts } from "../core/endpoints.ts";
import { checkCaughtUp, checkSound } from "../core/write-eligibility.ts";
import { DnsPresence } from "../dns/presence.ts";
import { connectionCountOf, dnsEndpointOf, endpointsOf, type NodeListeners, openDnsListener, openListeners } from "../listeners.io.ts";
import { watchEventLoop } from "../loop-blocks.io.ts";
import { observeWatches } from "../metrics.ts";
import { holdsSummaries } from "../regions/cluster-keys.io.ts";
import { type NodeEnd, openNodeEnd } from "./channel.io.ts";
import { MainThread } from "./main-thread.io.ts";
import type { NodeReport, ReplicatedNodeState, ToWorker, WorkerLimits, WorkerOrder, WorkerReply, WorkerStart } from "./messages.ts";

/** State before the first message arrives. */
const UNKNOWN: ReplicatedNodeState = {
  isReady: false,
  isSound: false,
  isWhole: false,
  isServing: false,
  hasDns: false,
  hasPeers: false,
  ageMs: 0,
  isShared: false,
  unreachable: undefined,
  startRefusal: undefined,
  endedStaticCount: 0,
  zoneSerials: undefined,
};
/** If the facts of a shared catalog are older than this, in ms, they increase the age of the catalog. Facts normally arrive far more often. */
const FRESH_MS = 500;
/** Maximum time that the main thread has to answer a scrape, in ms. */
const SCRAPE_MS = 5000;
/** Time without messages after which the main thread is considered hung, in ms. The main thread sends several messages per second. */
const SILENT_MS = 30_000;
/** Maximum time that the main thread has to send a report, in ms. */
const REPORT_MS = 500;
/** Interval at which counted refusals are recorded, in ms. */
const LIMITS_MS = 250;

/** Returns random numbers from 0 to below 1. */
const random = draws(randomFillSync);

class NodeWorker {
  readonly #start: WorkerStart;
  readonly #log: RootLog;
  readonly #metrics = new Metrics();
  readonly #main: MainThread;
  readonly #rooms: CopyRooms;
  readonly #wakeup: WatchWaker;
  readonly #switcher: PolicySwitcher;
  readonly #calls: CallForwarder;
  readonly #watches: WorkerWatches;
  readonly #parts: NodeComponents;
  #listeners: NodeListeners | undefined;
  #identities: CallerIdentities | undefined;
  #managed: ManagedCallers | undefined;
  #facts = UNKNOWN;
  #factsMonoMs = 0;
  #factsPatientMs = stallAwareNowMs();
  #report: NodeReport = { readiness: { isDraining: false, checks: [] }, persistence: {} };
  #isWhole = false;
  #zoneSerials: SharedArrayBuffer | undefined;
  #loopSince = performance.eventLoopUtilization();
  #onServing: (isServing: boolean) => void = () => {};
  readonly #dnsPresence = new DnsPresence(false);
  /** The last policy change that the watches of this worker have received. */
  #deliveredChange = 0;

  constructor(start: WorkerStart, node: Pick<NodeEnd, "post">) {
    const { settings } = start;
    const { logLevel: level, logScopes } = settings.observability;
    this.#start = start;
    this.#zoneSerials = start.zoneSerials;
    this.#log = openLog({ level, scopes: parseLogScopes(logScopes.join(",")), format: start.logFormat, fields: fieldsOf(start) });
    this.#main = new MainThread(node, this.#metrics);
    this.#calls = new CallForwarder({ ...FORWARDING_BOUNDS, wake: () => this.#main.schedule() });
    this.#watches = new WorkerWatches((news) => this.#main.schedule(({ watches }) => watches.push(news)));
    const shared = { makeBuckets: bucketsOf(start.limits), watches: this.#watches, audit: this.#main };
    this.#rooms = openCopyRooms({
      ...start,
      ...shared,
      metrics: this.#metrics,
      now,
      startedMonoMs: performance.now() - start.uptimeMs,
      onAgain: () => this.#wakeup.kick(),
    });
    this.#wakeup = new WatchWaker(this.#rooms.fanout, now);
    this.#switcher = new PolicySwitcher(this.#rooms.switches, () => this.#shown());
    this.#parts = new NodeComponents(this.#log.child("node"));
  }

  /** Handles messages from the main thread from now on. */
  begin(node: Pick<NodeEnd, "follow">): void {
    const { switches, limits } = this.#rooms;
    this.#main.begin({
      takeCalls: () => this.#calls.take(),
      connectionCount: () => (this.#listeners === undefined ? 0 : connectionCountOf(this.#listeners)),
      policy: () => ({ shown: switches.shown, delivered: this.#deliveredChange }),
    });
    setInterval(() => limits.tick(now()), LIMITS_MS).unref();
    node.follow((message) => this.#receive(message));
  }

  // HOT: runs at most once per change. The catalog changes are handled first, because answers and facts may refer to them.
  #receive(message: ToWorker): void {
    const { changes, facts, report, answers, verdicts, orders, isAwaited } = message;
    if (changes.numbers.length > 0) this.#rooms.copy.apply(changes);
    this.#factsMonoMs = performance.now();
    this.#factsPatientMs = stallAwareNowMs();
    const { isServing } = this.#facts;
    this.#facts = facts;
    if (report !== undefined) this.#report = report;
    if (facts.zoneSerials !== undefined) this.#setSerials(facts.zoneSerials);
    if (facts.isServing !== isServing) this.#onServing(facts.isServing);
    this.#dnsPresence.set(facts.hasDns);
    for (const answer of answers) this.#calls.hear(answer);
    for (const verdict of verdicts) this.#watches.take(verdict);
    this.#main.received(message);
    if (isAwaited) this.#main.schedule();
    for (const order of orders) void this.#obey(order);
    if (this.#isWhole || !this.#rooms.copy.isWhole) return;
    this.#isWhole = true;
    this.#main.done({ kind: "whole" });
  }

  #setSerials(serials: Uint32Array): void {
    this.#zoneSerials ??= new SharedArrayBuffer(serials.byteLength);
    new Uint32Array(this.#zoneSerials).set(serials);
  }

  async #obey(order: WorkerOrder): Promise<void> {
    switch (order.kind) {
      case "listen":
        return this.#listen(order.shared);
      case "name":
        return void Object.assign(this.#rooms.listeners, order.listeners);
      case "managed":
        this.#managed = order.managed;
        return this.#identities?.setManaged(order.managed);
      case "reload":
        return this.#parts.reload();
      case "drain":
        await this.#parts.drain(new StopDeadline(order.withinMs));
        return this.#main.done({ kind: "drained" });
      case "stop":
        await this.#parts.stop(new StopDeadline(order.withinMs));
        this.#rooms.limits.close();
        await this.#log.end();
        return this.#main.done({ kind: "stopped" });
      case "measure":
        return this.#main.done({
          kind: "measured",
          number: order.number,
          values: valuesOf(this.#metrics),
          utilization: this.#utilization(),
        });
    }
  }

  #utilization(): number {
    const { utilization } = performance.eventLoopUtilization(this.#loopSince);
    this.#loopSince = performance.eventLoopUtilization();
    return utilization;
  }

  /** Called when a policy change is complete in this worker. */
  #shown(): void {
    const { shown } = this.#rooms.switches;
    this.#wakeup.kick();
    this.#main.schedule();
    void this.#awaitDelivery(shown);
  }

  async #awaitDelivery(change: number): Promise<void> {
    await this.#switcher.heard();
    this.#deliveredChange = Math.max(this.#deliveredChange, change);
    this.#main.schedule();
  }

  // ---- answers to readers ----
  #ageMs(time: Time): number {
    const { ageMs, isShared } = this.#facts;
    return isShared ? ageMs + Math.max(0, time.monoMs - this.#factsMonoMs - FRESH_MS) : ageMs;
  }

  #checkStart(): void {
    const { startRefusal } = this.#facts;
    if (startRefusal !== undefined) throw receivedError(startRefusal);
  }

  /** Returns the services of this worker. The worker answers reads itself and forwards all other calls to the main thread. */
  #services(): readonly ServiceDefinition[] {
    const reads = readHandlers({
      ...this.#rooms,
      endedStaticCount: () => this.#facts.endedStaticCount,
      mesh: {
        ageMs: (time) => this.#ageMs(time),
        unreachable: () => this.#facts.unreachable,
        hasPeers: () => this.#facts.hasPeers,
      },
      isReady: () => this.#facts.isWhole,
      isTls: hasTls(this.#start.settings),
      checkCaughtUp: () => checkCaughtUp(this.#facts.isReady),
      checkStart: () => this.#checkStart(),
      caughtUp: async () => void (await this.#main.ask({ kind: "caughtUp" })),
      now,
      random,
      allowsViewerOverride: this.#start.settings.tenants.allowRequestOverride,
      metrics: this.#metrics,
      onRead: this.#rooms.accessLog.onRead,
    });
    const { settings, routes } = this.#start;
    return workerServices(this.#calls, { reads, routes, hasSummaries: holdsSummaries(settings) });
  }

  async #listen(shared: SharedPorts): Promise<void> {
    try {
      const open = this.#start.role === "dns" ? this.#openDns(shared) : this.#openAll(shared);
      const endpoints = await open;
      this.#metrics.onCollect(() => this.#observe());
      await this.#parts.start();
      this.#main.done({ kind: "listening", endpoints });
    } catch (error) {
      this.#main.done({ kind: "notListening", message: error instanceof Error ? error.message : String(error) });
    }
  }

  async #openAll(shared: SharedPorts): Promise<ListenEndpoints> {
    const { settings } = this.#start;
    const log = this.#log;
    const identities = await this.#openIdentities();
    await this.#watchLoop();
    const listeners = await openListeners(
      {
        ...this.#rooms,
        settings: shareOf(settings, settings.node.workers),
        log,
        services: this.#services(),
        idPrefix: `${this.#start.boot}-${this.#start.number}`,
        zoneSerials: this.#zoneSerials,
        metrics: this.#metrics,
        identities,
        checkCaughtUp: () => checkSound(this.#facts),
        cookieSecret: this.#start.cookieSecret,
        followServing: (onServing) => {
          this.#onServing = onServing;
          onServing(this.#facts.isServing);
        },
        dnsPresence: this.#dnsPresence,
        sources: {
          isAlive: () => stallAwareDueMs() - this.#factsPatientMs < SILENT_MS,
          readiness: async () => (await this.#currentReport()).readiness,
          scrape: (accept) => this.#scrape(accept),
          persistence: async () => (await this.#currentReport()).persistence,
        },
        now,
        random,
        shared,
      },
      this.#parts,
    );
    this.#listeners = listeners;
    return endpointsOf(listeners);
  }

  async #openDns(shared: SharedPorts): Promise<ListenEndpoints> {
    const { settings } = this.#start;
    const identities = settings.dns.tlsPort !== undefined ? await this.#openIdentities() : undefined;
    await this.#watchLoop();
    const gateway = await openDnsListener(
      {
        ...this.#rooms,
        identities,
        settings: shareOf(settings, settings.dns.processes),
        log: this.#log,
        metrics: this.#metrics,
        checkCaughtUp: () => checkSound(this.#facts),
        zoneSerials: this.#zoneSerials,
        cookieSecret: this.#start.cookieSecret,
        now,
        random,
        shared,
      },
      this.#parts,
    );
    return { calls: undefined, dns: dnsEndpointOf(gateway) };
  }

  async #openIdentities(): Promise<CallerIdentities> {
    const { settings } = this.#start;
    const { clusterId } = settings.node;
    const operatorToken = readOperatorToken(settings);
    const open = () => openIdentities({ settings, clusterId, operatorToken, log: this.#log.child("identity"), now });
    this.#identities = await this.#parts.open("identities", open, (table) => table);
    if (this.#managed !== undefined) this.#identities.setManaged(this.#managed);
    return this.#identities;
  }

  #watchLoop(): Promise<unknown> {
    const open = () => watchEventLoop(this.#log.child("node"), this.#metrics);
    return this.#parts.open("event loop", open, (watch) => watch);
  }

  async #scrape(accept: string): Promise<ScrapeResult> {
    const reply = await this.#answerWithin(SCRAPE_MS, { kind: "scrape", accept });
    if (reply === undefined)
      throw new WaymarkError("not_ready", "metrics are not available: the main thread of this node is blocked", {
        retryMs: SCRAPE_MS,
      });
    if (reply.scrape === undefined) throw new WaymarkError("internal", "metrics could not be collected: see the log of the node");
    return reply.scrape;
  }

  /** Returns the current report. While the main thread is blocked, returns its last report. */
  async #currentReport(): Promise<NodeReport> {
    await this.#answerWithin(REPORT_MS, { kind: "report" });
    return this.#report;
  }

  /** Undefined if the main thread does not answer in time. */
  async #answerWithin(waitMs: number, question: Parameters<MainThread["ask"]>[0]): Promise<WorkerReply | undefined> {
    const late = Promise.withResolvers<undefined>();
    const stop = later(() => late.resolve(undefined), waitMs);
    const reply = await Promise.race([this.#main.ask(question), late.promise]);
    stop();
    return reply;
  }

  #observe(): void {
    this.#parts.observe();
    observeWatches(this.#metrics, this.#rooms);
    this.#metrics.counter("waymark_log_lines_dropped_total", {}).set(this.#log.droppedCount());
  }
}

/** Divides the limits on connections, streams and memory among the workers, because the settings define these limits for all workers together. */
function shareOf(settings: Settings, count: number): Settings {
  const { server, dns } = settings;
  const share = (bound: number) => Math.ceil(bound / count);
  return {
    ...settings,
    server: { ...server, maxConnections: share(server.maxConnections), maxStreams: share(server.maxStreams) },
    dns: { ...dns, planBytes: share(dns.planBytes) },
  };
}

function bucketsOf(limits: WorkerLimits): MakeBuckets {
  return limits.kind === "part" ? partBuckets(limits.of) : sharedBuckets(limits.limits, sharedOriginMs());
}

function fieldsOf({ role, number }: WorkerStart): Readonly<Record<string, number>> {
  return role === "dns" ? { dnsProcess: number } : { worker: number };
}

openNodeEnd((start, node) => new NodeWorker(start, node).begin(node));
flushCompileCache();
