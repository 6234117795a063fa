/** The read workers of a node: threads that share its ports. Each answers readers from a copy of the catalog, and passes other calls on to this thread. */
import { randomBytes } from "node:crypto";
import { performance } from "node:perf_hooks";
import type { Settings } from "../../config/settings.ts";
import { newCookieSecret } from "../../dns/server/cookie-secrets.io.ts";
import { assert, rethrowBroken, sentError, WaymarkError } from "../../lib/errors.ts";
import { later } from "../../lib/later.io.ts";
import type { Log, RootLog } from "../../lib/log.io.ts";
import { MetricsSum, type OtherMetrics } from "../../lib/metrics/sum.ts";
import { HostWatches } from "../../policy/limits/host-watches.ts";
import type { SharedLimits } from "../../policy/limits/shared-limits.ts";
import { openScraper, type Scraper } from "../../server/metrics.io.ts";
import { changesNothing } from "../../services/cost.ts";
import { type ForwardedCall, ForwardedCalls } from "../../services/forwarding/forwarded-calls.ts";
import type { PeerDirectory } from "../../services/peer-directory.ts";
import type { Service } from "../../services/service.ts";
import type { Deadline } from "../components.io.ts";
import { type CopyFeed, openCopyFeed } from "../core/copies/copy-feed.ts";
import type { Endpoints } from "../core/endpoints.ts";
import { nodeSharedLimits } from "../limits.ts";
import type { LoadSources } from "../load-report.ts";
import { type NodeCore, now } from "../rooms.io.ts";
import type { FromWorker, NodeFacts, NodeReport, Order, Question } from "./messages.ts";
import { WorkerThread } from "./worker-thread.io.ts";

/** Facts that change with time alone are said this often. */
const FACTS_MS = 100;
/** A worker that has ended is started again after this time. While it ends again within a minute, the time doubles. */
const AGAIN_MS = 200;
const MAX_AGAIN_MS = 30_000;
const STEADY_MS = 60_000;
/** Metrics are measured at each scrape, and once in so many looks, so that little is lost with a worker that ends. */
const MEASURE_LOOKS = 20;
/** How long a scrape waits for the values of the workers. Of one that is late the values before count. */
const MEASURE_MS = 1000;

export interface WorkersOptions {
  readonly settings: Settings;
  readonly log: RootLog;
  readonly version: string;
  readonly core: NodeCore;
  readonly mesh: PeerDirectory;
  /** What workers pass on. They apply the limits. */
  readonly services: readonly Service[];
  /** As in `ListenersOptions`. */
  readonly zoneSerials: SharedArrayBuffer | undefined;
  readonly report: () => NodeReport;
  /** Aborts when the node is to stop, also while copies are made. */
  readonly interrupt?: AbortSignal | undefined;
}

/** A worker, and the one that was started in its place. */
interface Place {
  readonly number: number;
  thread: WorkerThread;
  isListening: boolean;
  utilization: number;
  startedMonoMs: number;
  againMs: number;
  /** While no thread is there: calls off the next one. */
  callOff: () => void;
}

export class Workers {
  readonly #options: WorkersOptions;
  readonly #log: Log;
  readonly #places: readonly Place[];
  readonly #sum: MetricsSum;
  readonly #scrape: Scraper;
  readonly #watches: HostWatches;
  readonly #sharedLimits: SharedLimits;
  readonly #cookieSecret = newCookieSecret();
  readonly #timer: NodeJS.Timeout;
  /** The last answers to each worker, while they wait. */
  readonly #answering = new WeakMap<WorkerThread, Promise<void>>();
  #endpoints: Endpoints | undefined;
  /** Settles when the last worker that was to listen does, or could not. */
  #listening: Promise<void> = Promise.resolve();
  #isStopping = false;
  #lookCount = 0;
  /** Number of the last measurement. */
  #measurement = 0;

  private constructor(options: WorkersOptions) {
    const { core, settings, log } = options;
    this.#options = options;
    this.#log = log.child("workers");
    this.#sum = new MetricsSum(core.metrics);
    this.#scrape = openScraper(this.#sum, () => this.#measure());
    this.#watches = new HostWatches((caller, namespace) => core.limits.openWatch(caller, namespace));
    const hashKey = randomBytes(8);
    this.#sharedLimits = nodeSharedLimits(settings, [hashKey.readInt32LE(0), hashKey.readInt32LE(4)]);
    this.#places = Array.from({ length: settings.node.workers }, (_, index) => this.#placeOf(index + 1));
    core.wakes.add(() => this.#sayAll());
    core.driver.follow(() => this.#sayAll());
    this.#timer = setInterval(() => this.#look(), FACTS_MS).unref();
  }

  /**
   * Starts the workers, and resolves when all of them answer readers. Rejects with a message for the operator when they cannot listen, and with the
   * reason of `interrupt` when that aborts first.
   */
  static async open(options: WorkersOptions): Promise<Workers> {
    const { interrupt } = options;
    const workers = new Workers(options);
    // Copies of a large catalog take long. A thread that is ended makes whoever waits for it give up.
    const giveUp = () => workers.close();
    interrupt?.addEventListener("abort", giveUp);
    try {
      const whole = workers.#places.map(({ thread }) => thread.done("whole"));
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

  get endpoints(): Endpoints {
    assert(this.#endpoints !== undefined, "the workers listen");
    return this.#endpoints;
  }

  /** How busy the workers were when they last said so. */
  get callers(): LoadSources {
    const each = <T>(of: (place: Place) => T) => this.#places.map(of);
    return {
      metrics: this.#sum,
      connectionCount: () => each(({ thread }) => thread.connectionCount).reduce((sum, count) => sum + count, 0),
      utilization: () => Math.max(...each(({ utilization }) => utilization)),
    };
  }

  /** Fills the gauge. */
  observe(): void {
    this.#options.core.metrics.set("waymark_read_workers", {}, this.#places.filter(({ isListening }) => isListening).length);
  }

  /** Resolves when all workers know what the node is now, and the addresses of its listeners. */
  async told(): Promise<void> {
    this.#order({ kind: "name", listeners: { ...this.#options.core.listeners } });
    await Promise.all(this.#places.map(({ thread }) => thread.told()));
  }

  reload(): void {
    this.#order({ kind: "reload" });
  }

  /** Resolves when all have drained, or are gone. */
  async drain(by: Deadline): Promise<void> {
    this.#isStopping = true;
    const drained = this.#places.map(({ thread }) => thread.done("drained").catch(() => {}));
    this.#order({ kind: "drain", withinMs: by.leftMs() });
    await Promise.all(drained);
  }

  /** Ends the threads, and waits for half of the time at most: one that hangs must leave the other half to what closes after it. */
  async stop(by: Deadline): Promise<void> {
    this.#isStopping = true;
    const stopped = this.#places.map(({ thread }) => thread.done("stopped").catch(() => {}));
    const waitMs = by.halfMs();
    this.#order({ kind: "stop", withinMs: Math.ceil(waitMs / 2) });
    await within(waitMs, Promise.all(stopped));
    this.close();
  }

  close(): void {
    this.#isStopping = true;
    clearInterval(this.#timer);
    for (const { thread, callOff } of this.#places) {
      callOff();
      thread.terminate();
    }
  }

  /** One after the other: two that took the ports at once as the first would be in each other's way. */
  #listen(place: Place): Promise<void> {
    const listening = this.#listening.then(() => this.#listenNow(place));
    this.#listening = listening.catch(() => {});
    return listening;
  }

  /** The first to listen must find the ports free. One that comes when all others are gone is the first again. */
  async #listenNow(place: Place): Promise<void> {
    const ports = this.#endpoints?.ports;
    const isFurther = ports !== undefined && this.#places.some(({ isListening }) => isListening);
    this.#endpoints = await place.thread.listen(isFurther ? { sharing: "further", ports } : { sharing: "first", ports });
    place.isListening = true;
  }

  #placeOf(number: number): Place {
    const begun = performance.now();
    const thread = this.#thread(number);
    return { number, thread, isListening: false, utilization: 0, startedMonoMs: begun, againMs: AGAIN_MS, callOff: () => {} };
  }

  #thread(number: number): WorkerThread {
    const { core, version, settings, services, zoneSerials } = this.#options;
    const { identity, replica } = core;
    const others = this.#sum.begin();
    const feed = openCopyFeed(core, () => thread.say());
    const calls = new ForwardedCalls({
      services,
      now,
      onBug: (fault, call) => this.#failed(fault, call),
      wake: () => setImmediate(() => this.#answer(thread, calls)),
    });
    const start = {
      number,
      settings,
      version,
      nodeId: identity.nodeId,
      generation: replica.self.generation,
      boot: identity.boot,
      uptimeMs: performance.now() - identity.startedMonoMs,
      sharedLimits: this.#sharedLimits,
      zoneSerials,
      cookieSecret: this.#cookieSecret,
      logFormat: settings.observability.logFormat ?? (process.stderr.isTTY ? "text" : "json"),
    };
    const thread = new WorkerThread({
      start,
      feed,
      calls,
      facts: () => this.#facts(),
      onHeard: (said) => this.#heard(thread, { feed, others }, said),
      onEnd: (error) => {
        others.end();
        this.#watches.forget(number);
        this.#ended(number, error);
      },
    });
    return thread;
  }

  // ---- what is said ----
  /**
   * Answers the calls of a worker when all workers have heard what the answers speak of, so that a caller finds what it wrote whichever of them
   * it asks next.
   */
  #answer(thread: WorkerThread, calls: ForwardedCalls): void {
    const answers = calls.take();
    if (answers === undefined) return;
    const say = () => thread.say((message) => message.answers.push(answers));
    const others = this.#places.flatMap((place) => (place.thread === thread ? [] : (place.thread.covered() ?? [])));
    const before = this.#answering.get(thread);
    if (before === undefined && others.length === 0) {
      say();
      return;
    }
    const answered = this.#sayLater(say, before === undefined ? others : [before, ...others]);
    this.#answering.set(thread, answered);
    void answered.then(() => this.#answering.get(thread) === answered && this.#answering.delete(thread));
  }

  #facts(): NodeFacts {
    const { core, mesh } = this.#options;
    const { machine, registrar } = core;
    const [hasPeers, ageMs] = [mesh.hasPeers(), mesh.ageMs(now())];
    return {
      isReady: machine.isReady,
      isWhole: machine.isWhole,
      isServing: machine.isServing,
      hasPeers,
      ageMs,
      isShared: hasPeers || ageMs > 0,
      startRefusal: refusalOf(() => machine.standing.checkStart()),
      endedStaticCount: registrar.endings.endedStaticCount,
    };
  }

  async #sayLater(say: () => void, after: readonly Promise<void>[]): Promise<void> {
    await Promise.all(after);
    say();
  }

  #sayAll(): void {
    for (const { thread } of this.#places) thread.say();
  }

  #order(order: Order): void {
    for (const { thread } of this.#places) thread.say(({ orders }) => orders.push(order));
  }

  #look(): void {
    const report = this.#options.report();
    this.#lookCount += 1;
    if (this.#lookCount % MEASURE_LOOKS === 0) this.#orderMeasurement();
    for (const { thread } of this.#places) {
      thread.look();
      thread.say((message) => {
        message.report = report;
      });
    }
  }

  // ---- what is heard ----
  #heard(thread: WorkerThread, { feed, others }: { readonly feed: CopyFeed; readonly others: OtherMetrics }, said: FromWorker): void {
    const { audit } = this.#options.core;
    feed.shown(said.policy.shown);
    feed.heard(said.policy.heard);
    for (const event of said.events) audit?.record(event);
    for (const done of said.done) {
      if (done.kind !== "measured") continue;
      others.set(done.values);
      const place = this.#places.find((each) => each.thread === thread);
      if (place !== undefined) place.utilization = done.utilization;
    }
    for (const news of said.watches) {
      const verdict = this.#watches.take(thread.number, news);
      if (verdict !== undefined) thread.say(({ verdicts }) => verdicts.push(verdict));
    }
    for (const question of said.questions) this.#asked(thread, question);
  }

  #asked(thread: WorkerThread, question: Question): void {
    const { id } = question;
    if (question.kind === "caughtUp") {
      thread.say(({ replies }) => replies.push({ id }));
      return;
    }
    if (question.kind === "report") {
      thread.say((message) => {
        message.report = this.#options.report();
        message.replies.push({ id });
      });
      return;
    }
    this.#scrape(question.accept).then(
      (scrape) => thread.say(({ replies }) => replies.push({ id, scrape })),
      (error: unknown) => {
        this.#log.error({ err: error }, "metrics cannot be read");
        thread.say(({ replies }) => replies.push({ id }));
      },
    );
  }

  /** Resolves when all workers have said the values of their metrics, or are late. */
  async #measure(): Promise<void> {
    const number = this.#orderMeasurement();
    await within(MEASURE_MS, Promise.all(this.#places.map(({ thread }) => measuredBy(thread, number).catch(() => {}))));
  }

  #orderMeasurement(): number {
    this.#measurement += 1;
    this.#order({ kind: "measure", number: this.#measurement });
    return this.#measurement;
  }

  /** A bug may have left anything behind: then the process ends, and starts anew from its disk. */
  #failed(fault: unknown, call: ForwardedCall): void {
    this.#options.log.child("server.rpc").error({ err: fault, ...call }, "handler failed");
    const service = this.#options.services.find(({ desc }) => desc.typeName === call.service);
    const method = service?.desc.methods.find(({ name }) => name === call.method);
    const isRead = method !== undefined && changesNothing(method);
    if (!isRead) queueMicrotask(() => rethrowBroken(fault));
  }

  // ---- workers that end ----
  #ended(number: number, error: unknown): void {
    const place = this.#places.find((each) => each.number === number);
    if (place === undefined || this.#isStopping) return;
    place.isListening = false;
    this.#options.core.metrics.inc("waymark_read_workers_ended_total", {});
    const isSteady = performance.now() - place.startedMonoMs > STEADY_MS;
    place.againMs = isSteady ? AGAIN_MS : Math.min(MAX_AGAIN_MS, 2 * place.againMs);
    this.#log.error({ worker: number, err: error, againMs: place.againMs }, "a read worker has ended, and its connections with it");
    place.callOff = later(() => void this.#again(place), place.againMs);
  }

  async #again(place: Place): Promise<void> {
    if (this.#isStopping) return;
    place.thread = this.#thread(place.number);
    place.startedMonoMs = performance.now();
    const { thread } = place;
    try {
      await thread.done("whole");
      thread.say(({ orders }) => orders.push({ kind: "name", listeners: { ...this.#options.core.listeners } }));
      await this.#listen(place);
      this.#log.info({ worker: place.number }, "a read worker is back");
    } catch (error) {
      if (!this.#isStopping) thread.terminate(error instanceof Error ? error : undefined);
    }
  }
}

/** An earlier measurement may be on its way. It would lack what callers were answered since. */
async function measuredBy(thread: WorkerThread, number: number): Promise<void> {
  let last = 0;
  while (last < number) last = (await thread.done("measured")).number;
}

/** Resolves when this is done, or is late. */
async function within(ms: number, done: Promise<unknown>): Promise<void> {
  const late = Promise.withResolvers<void>();
  const stop = later(late.resolve, ms);
  await Promise.race([done, late.promise]);
  stop();
}

function refusalOf(check: () => void): NodeFacts["startRefusal"] {
  try {
    check();
    return undefined;
  } catch (error) {
    if (!(error instanceof WaymarkError)) throw error;
    return sentError(error);
  }
}
