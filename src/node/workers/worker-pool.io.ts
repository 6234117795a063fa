/**
 * The workers of a node, which share its ports. Each worker answers from its own copy of the catalog. Read workers are threads that answer readers
 * and forward other calls to the main thread. DNS processes answer only DNS.
 */
import { randomBytes } from "node:crypto";
import { performance } from "node:perf_hooks";
import type { Settings } from "../../config/settings.ts";
import { newCookieSecret } from "../../dns/server/cookie-secrets.io.ts";
import type { HashKey } from "../../lib/buckets/keyed-hash.ts";
import { assert, rethrowInvariant } from "../../lib/errors.ts";
import type { Log, RootLog } from "../../lib/log.io.ts";
import type { CounterName, GaugeName, Metrics } from "../../lib/metrics/metrics.ts";
import type { MetricsSum, OtherMetrics } from "../../lib/metrics/sum.ts";
import { later, now } from "../../lib/stall-aware-time.io.ts";
import type { AuditSink } from "../../policy/audit/record.ts";
import type { ManagedCallers } from "../../policy/identity/tenants.ts";
import { HostWatches } from "../../policy/limits/host-watches.ts";
import type { MetricsScraper } from "../../server/metrics.io.ts";
import { draining } from "../../server/status.ts";
import { TurnBudget } from "../../server/turn-budget.ts";
import { changesNothing } from "../../services/contract.ts";
import { type ForwardedCall, ForwardedCalls } from "../../services/forwarding/forwarded-calls.ts";
import type { NodeIdentity, ServiceDefinition } from "../../services/service.ts";
import type { StopDeadline } from "../components.io.ts";
import { type CopyFeed, type FeedRooms, openCopyFeed } from "../core/copies/copy-feed.ts";
import { type ListenEndpoints, portsAt } from "../core/endpoints.ts";
import { type NodeLimits, nodeSharedLimits } from "../limits.ts";
import type { LoadSources } from "../load-report.ts";
import { openProcess, openThread, type StartWorker } from "./channel.io.ts";
import type { FromWorker, NodeReport, ReplicatedNodeState, WorkerLimits, WorkerOrder, WorkerQuestion, WorkerRole } from "./messages.ts";
import { WorkerEnd } from "./worker-end.io.ts";

/** Interval at which facts that change only with time are sent, in ms. */
const FACTS_MS = 100;
/** Delay before a worker that has ended is started again, in ms. The delay doubles each time the worker ends within a minute of its start. */
const AGAIN_MS = 200;
const MAX_AGAIN_MS = 30_000;
const STEADY_MS = 60_000;
/** Metrics are measured at each scrape and every `MEASURE_LOOKS` checks, so that few measurements are lost when a worker ends. */
const MEASURE_LOOKS = 20;
/** Maximum time that a scrape waits for the workers' values, in ms. If a worker is late, its previous values are used. */
const MEASURE_MS = 1000;
const MIB = 1024 * 1024;

interface RoleRow {
  /** Name of the workers' role in messages. */
  readonly what: string;
  readonly open: StartWorker;
  readonly maxUnconfirmedBytes: number;
  readonly gauge: GaugeName;
  readonly ended: CounterName;
  /** Whether the workers can share memory with the main thread. */
  readonly hasMemory: boolean;
  readonly limits: (settings: Settings) => WorkerLimits;
  /** Log field for the number of the worker. */
  readonly field: "dnsProcess" | "worker";
  readonly endedLine: string;
  readonly backLine: string;
}

const ROLES: Readonly<Record<WorkerRole, RoleRow>> = {
  callers: {
    what: "read worker",
    open: openThread,
    maxUnconfirmedBytes: 512 * MIB,
    gauge: "waymark_read_workers",
    ended: "waymark_read_workers_ended_total",
    hasMemory: true,
    limits: (settings) => ({ kind: "shared", limits: nodeSharedLimits(settings, randomHashKey()) }),
    field: "worker",
    endedLine: "read worker ended; its connections are closed",
    backLine: "read worker restarted",
  },
  dns: {
    what: "DNS process",
    open: openProcess,
    // Pending messages for a process use this process's memory, and twice as much while they are being written.
    maxUnconfirmedBytes: 64 * MIB,
    gauge: "waymark_dns_processes",
    ended: "waymark_dns_processes_ended_total",
    hasMemory: false,
    limits: ({ dns }) => ({ kind: "part", of: dns.processes }),
    field: "dnsProcess",
    endedLine: "DNS process ended",
    backLine: "DNS process restarted",
  },
};

/** The parts of a node that its workers need. */
export interface WorkersCore extends FeedRooms {
  readonly identity: Pick<NodeIdentity, "boot" | "nodeId" | "startedMonoMs">;
  readonly limits: Pick<NodeLimits, "openWatch">;
  readonly audit: Pick<AuditSink, "record"> | undefined;
  readonly metrics: Metrics;
  readonly listeners: Readonly<Record<string, string>>;
  readonly facts: () => Omit<ReplicatedNodeState, "zoneSerials">;
  /** Calls back whenever there may be something to send. */
  readonly follow: (onNews: () => void) => void;
}

export interface WorkersOptions {
  readonly role: WorkerRole;
  readonly count: number;
  /** Sum of the metrics of all threads and processes of the node. */
  readonly sum: MetricsSum;
  /** Scrapes the node. Workers forward scrapes to this object. */
  readonly scrape: MetricsScraper;
  readonly settings: Settings;
  readonly log: RootLog;
  readonly version: string;
  readonly core: WorkersCore;
  /** Services for the calls that read workers forward. The services apply the limits themselves. */
  readonly services: readonly ServiceDefinition[];
  /** As in `ListenersOptions`. */
  readonly zoneSerials: SharedArrayBuffer | undefined;
  readonly report: () => NodeReport;
  /** Called with the number of listening workers whenever it changes. */
  readonly onListening?: (count: number) => void;
  /** Aborts when the node must stop, even while copies are being made. */
  readonly interrupt?: AbortSignal | undefined;
}

/** A worker, or the successor of a worker that has ended. */
interface WorkerSlot {
  readonly number: number;
  end: WorkerEnd;
  isListening: boolean;
  utilization: number;
  startedMonoMs: number;
  againMs: number;
  /** Cancels the start of the next worker. Used while there is no worker. */
  callOff: () => void;
}

export class WorkerPool {
  #managed: ManagedCallers | undefined;
  readonly #options: WorkersOptions;
  readonly #log: Log;
  readonly #places: readonly WorkerSlot[];
  /** Turn budget for the calls of all workers. */
  readonly #turn = new TurnBudget({ nowMs: () => now().monoMs, onEnd: setImmediate });
  readonly #role: RoleRow;
  readonly #watches: HostWatches;
  readonly #limits: WorkerLimits;
  readonly #cookieSecret = newCookieSecret();
  readonly #timer: NodeJS.Timeout;
  /** Resolves when the last answers to each worker have been sent. Absent when none are pending. */
  readonly #answering = new WeakMap<WorkerEnd, Promise<void>>();
  #endpoints: ListenEndpoints | undefined;
  /** Settles when the worker that was last ordered to open its listeners has opened them or has failed. */
  #listening: Promise<void> = Promise.resolve();
  #isStopping = false;
  #lookCount = 0;
  /** Number of the last measurement. */
  #measurement = 0;

  private constructor(options: WorkersOptions) {
    const { core, settings, log } = options;
    this.#options = options;
    this.#role = ROLES[options.role];
    this.#log = log.child("workers");
    this.#watches = new HostWatches((caller, namespace) => core.limits.openWatch(caller, namespace));
    this.#limits = this.#role.limits(settings);
    this.#places = Array.from({ length: options.count }, (_, index) => this.#placeOf(index + 1));
    core.follow(() => this.#scheduleAll());
    this.#timer = setInterval(() => this.#look(), FACTS_MS).unref();
  }

  /**
   * Starts the workers. Resolves when all workers answer readers. Rejects with a message for the operator if the workers cannot open their listeners.
   * Rejects with the reason of `interrupt` if that aborts first.
   */
  static async open(options: WorkersOptions): Promise<WorkerPool> {
    const { interrupt } = options;
    const workers = new WorkerPool(options);
    // Copying a large catalog takes a long time. Ending the workers makes all operations that wait for them fail.
    const giveUp = () => workers.close();
    interrupt?.addEventListener("abort", giveUp);
    try {
      const whole = workers.#places.map(({ end }) => end.done("whole"));
      await Promise.all(whole);
      for (const place of workers.#places) await workers.#listen(place);
      interrupt?.throwIfAborted();
      return workers;
    } catch (error) {
      workers.close();
      interrupt?.throwIfAborted();
      throw error;
    } finally {
      interrupt?.removeEventListener("abort", giveUp);
    }
  }

  get endpoints(): ListenEndpoints {
    assert(this.#endpoints !== undefined, "workers are not listening yet");
    return this.#endpoints;
  }

  /** Returns the load that the workers last reported. */
  get callers(): LoadSources {
    const each = <T>(of: (place: WorkerSlot) => T) => this.#places.map(of);
    return {
      metrics: this.#options.sum,
      connectionCount: () => each(({ end }) => end.connectionCount).reduce((sum, count) => sum + count, 0),
      utilization: () => Math.max(...each(({ utilization }) => utilization)),
    };
  }

  /** Sets the gauge of listening workers. */
  observe(): void {
    this.#options.core.metrics.set(this.#role.gauge, {}, this.listeningCount);
  }

  /** Resolves when all workers have the current state of the node and the addresses of its listeners. */
  async synced(): Promise<void> {
    this.#order({ kind: "name", listeners: { ...this.#options.core.listeners } });
    this.#sendReport();
    await Promise.all(this.#places.map(({ end }) => end.synced()));
  }

  /** Number of workers that answer callers. */
  get listeningCount(): number {
    return this.#places.filter(({ isListening }) => isListening).length;
  }

  reload(): void {
    this.#order({ kind: "reload" });
  }

  /** Workers that start later get the same tokens and revocations. */
  setManaged(managed: ManagedCallers): void {
    this.#managed = managed;
    this.#order({ kind: "managed", managed });
  }

  /** Resolves when all workers have drained or have ended. */
  async drain(by: StopDeadline): Promise<void> {
    this.#isStopping = true;
    for (const { end } of this.#places) end.drain(draining());
    const drained = this.#places.map(({ end }) => end.done("drained").catch(() => {}));
    this.#order({ kind: "drain", withinMs: by.leftMs() });
    await Promise.all(drained);
  }

  /** Ends the workers. Waits for at most half of the time, so that a hanging worker leaves the other half for the parts that close later. */
  async stop(by: StopDeadline): Promise<void> {
    this.#isStopping = true;
    const stopped = this.#places.map(({ end }) => end.done("stopped").catch(() => {}));
    const waitMs = by.halfMs();
    this.#order({ kind: "stop", withinMs: Math.ceil(waitMs / 2) });
    await within(waitMs, Promise.all(stopped));
    this.close();
  }

  close(): void {
    this.#isStopping = true;
    clearInterval(this.#timer);
    for (const { end, callOff } of this.#places) {
      callOff();
      end.terminate();
    }
  }

  /** Resolves when every worker has reported its metrics or is late. */
  async measure(): Promise<void> {
    const number = this.#orderMeasurement();
    await within(MEASURE_MS, Promise.all(this.#places.map(({ end }) => measuredBy(end, number).catch(() => {}))));
  }

  /** Opens the listeners of one worker after the other. Otherwise two workers could both open the ports as the first one, and conflict. */
  #listen(place: WorkerSlot): Promise<void> {
    const listening = this.#listening.then(() => this.#listenNow(place));
    this.#listening = listening.catch(() => {});
    return listening;
  }

  /** For the first worker that listens, the ports must be free. A worker that starts when all others have ended becomes the first again. */
  async #listenNow(place: WorkerSlot): Promise<void> {
    const ports = this.#endpoints && portsAt(this.#endpoints);
    const isFurther = ports !== undefined && this.#places.some(({ isListening }) => isListening);
    this.#endpoints = await place.end.listen(isFurther ? { sharing: "further", ports } : { sharing: "first", ports });
    this.#setListening(place, true);
  }

  #setListening(place: WorkerSlot, isListening: boolean): void {
    place.isListening = isListening;
    this.#options.onListening?.(this.listeningCount);
  }

  #placeOf(number: number): WorkerSlot {
    const begun = performance.now();
    const end = this.#open(number);
    return { number, end, isListening: false, utilization: 0, startedMonoMs: begun, againMs: AGAIN_MS, callOff: () => {} };
  }

  #open(number: number): WorkerEnd {
    const { core, version, settings, services, zoneSerials } = this.#options;
    const { identity, replica } = core;
    const others = this.#options.sum.begin();
    const feed = openCopyFeed(core, () => end.schedule());
    const calls = new ForwardedCalls({
      services,
      now,
      turn: this.#turn,
      onBug: (fault, call) => this.#failed(fault, call),
      wake: () => setImmediate(() => this.#answer(end, calls)),
    });
    const start = {
      role: this.#options.role,
      number,
      settings,
      version,
      nodeId: identity.nodeId,
      generation: replica.self.generation,
      boot: identity.boot,
      uptimeMs: performance.now() - identity.startedMonoMs,
      limits: this.#limits,
      zoneSerials: this.#role.hasMemory ? zoneSerials : undefined,
      cookieSecret: this.#cookieSecret,
      routes: Object.fromEntries(services.map(({ desc, routes = [] }) => [desc.typeName, routes.map(({ answer: _here, ...row }) => row)])),
      logFormat: settings.observability.logFormat ?? (process.stderr.isTTY ? "text" : "json"),
    };
    const { open, what, maxUnconfirmedBytes } = this.#role;
    const end = new WorkerEnd({
      open,
      what,
      maxUnconfirmedBytes,
      start,
      feed,
      calls,
      facts: () => this.#facts(),
      onMessage: (message) => this.#received(end, { feed, others }, message),
      onEnd: (error) => {
        others.end();
        this.#watches.forget(number);
        this.#ended(number, error);
      },
    });
    return end;
  }

  // ---- messages to workers ----
  /**
   * Answers a worker's calls when all workers have received the changes to which the answers refer. A caller therefore finds its write on any worker
   * that it calls afterwards.
   */
  #answer(to: WorkerEnd, calls: ForwardedCalls): void {
    const answers = calls.take();
    if (answers === undefined) return;
    const send = () => to.schedule((message) => message.answers.push(answers));
    const others = this.#places.flatMap((place) => (place.end === to ? [] : (place.end.confirmed() ?? [])));
    const before = this.#answering.get(to);
    if (before === undefined && others.length === 0) {
      send();
      return;
    }
    const answered = this.#afterAll(send, before === undefined ? others : [before, ...others]);
    this.#answering.set(to, answered);
    void answered.then(() => this.#answering.get(to) === answered && this.#answering.delete(to));
  }

  #facts(): ReplicatedNodeState {
    const { core, zoneSerials } = this.#options;
    const serials = this.#role.hasMemory || zoneSerials === undefined ? undefined : new Uint32Array(zoneSerials).slice();
    return { ...core.facts(), zoneSerials: serials };
  }

  async #afterAll(send: () => void, after: readonly Promise<void>[]): Promise<void> {
    await Promise.all(after);
    send();
  }

  #scheduleAll(): void {
    for (const { end } of this.#places) end.schedule();
  }

  #order(order: WorkerOrder): void {
    for (const { end } of this.#places) end.schedule(({ orders }) => orders.push(order));
  }

  #look(): void {
    this.#lookCount += 1;
    if (this.#lookCount % MEASURE_LOOKS === 0) this.#orderMeasurement();
    for (const { end } of this.#places) end.look();
    this.#sendReport();
  }

  #sendReport(): void {
    const report = this.#options.report();
    for (const { end } of this.#places) {
      end.schedule((message) => {
        message.report = report;
      });
    }
  }

  // ---- messages from workers ----
  #received(end: WorkerEnd, { feed, others }: { readonly feed: CopyFeed; readonly others: OtherMetrics }, message: FromWorker): void {
    const { audit } = this.#options.core;
    feed.shown(message.policy.shown);
    feed.delivered(message.policy.delivered);
    for (const event of message.events) audit?.record(event);
    for (const done of message.done) {
      if (done.kind !== "measured") continue;
      others.set(done.values);
      const place = this.#places.find((each) => each.end === end);
      if (place !== undefined) place.utilization = done.utilization;
    }
    for (const news of message.watches) {
      const verdict = this.#watches.take(end.number, news);
      if (verdict !== undefined) end.schedule(({ verdicts }) => verdicts.push(verdict));
    }
    for (const question of message.questions) this.#answerQuestion(end, question);
  }

  #answerQuestion(end: WorkerEnd, question: WorkerQuestion): void {
    const { id } = question;
    if (question.kind === "caughtUp") {
      end.schedule(({ replies }) => replies.push({ id }));
      return;
    }
    if (question.kind === "report") {
      end.schedule((message) => {
        message.report = this.#options.report();
        message.replies.push({ id });
      });
      return;
    }
    this.#options.scrape(question.accept).then(
      (scrape) => end.schedule(({ replies }) => replies.push({ id, scrape })),
      (error: unknown) => {
        this.#log.error({ err: error }, "metrics not collected");
        end.schedule(({ replies }) => replies.push({ id }));
      },
    );
  }

  #orderMeasurement(): number {
    this.#measurement += 1;
    this.#order({ kind: "measure", number: this.#measurement });
    return this.#measurement;
  }

  /** A bug during a write may have left the process in an invalid state, so the process exits and restarts from its data on disk. */
  #failed(fault: unknown, call: ForwardedCall): void {
    this.#options.log.child("server.rpc").error({ err: fault, ...call }, "handler failed");
    const service = this.#options.services.find(({ desc }) => desc.typeName === call.service);
    const method = service?.desc.methods.find(({ name }) => name === call.method);
    const isRead = method !== undefined && changesNothing(method);
    if (!isRead) queueMicrotask(() => rethrowInvariant(fault));
  }

  // ---- workers that end ----
  #ended(number: number, error: unknown): void {
    const place = this.#places.find((each) => each.number === number);
    if (place === undefined || this.#isStopping) return;
    this.#setListening(place, false);
    this.#options.core.metrics.inc(this.#role.ended, {});
    const isSteady = performance.now() - place.startedMonoMs > STEADY_MS;
    place.againMs = isSteady ? AGAIN_MS : Math.min(MAX_AGAIN_MS, 2 * place.againMs);
    this.#log.error({ [this.#role.field]: number, err: error, againMs: place.againMs }, this.#role.endedLine);
    place.callOff = later(() => void this.#again(place), place.againMs);
  }

  async #again(place: WorkerSlot): Promise<void> {
    if (this.#isStopping) return;
    place.end = this.#open(place.number);
    place.startedMonoMs = performance.now();
    const { end } = place;
    const managed = this.#managed;
    if (managed !== undefined) end.schedule(({ orders }) => orders.push({ kind: "managed", managed }));
    try {
      await end.done("whole");
      end.schedule(({ orders }) => orders.push({ kind: "name", listeners: { ...this.#options.core.listeners } }));
      await this.#listen(place);
      this.#log.info({ [this.#role.field]: place.number }, this.#role.backLine);
    } catch (error) {
      if (!this.#isStopping) end.terminate(error instanceof Error ? error : undefined);
    }
  }
}

/** Waits for a measurement. An earlier measurement may still be in progress, and does not include calls that were answered since it began. */
async function measuredBy(end: WorkerEnd, number: number): Promise<void> {
  let last = 0;
  while (last < number) last = (await end.done("measured")).number;
}

/** Resolves when `done` settles, or after `ms`. */
async function within(ms: number, done: Promise<unknown>): Promise<void> {
  const late = Promise.withResolvers<void>();
  const stop = later(late.resolve, ms);
  await Promise.race([done, late.promise]);
  stop();
}

function randomHashKey(): HashKey {
  const bytes = randomBytes(8);
  return [bytes.readInt32LE(0), bytes.readInt32LE(4)];
}
