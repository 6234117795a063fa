/** Runs a plan: builds the world, plays the steps, lets everything come to rest, and says what broke. */
import type { KeyText } from "../../src/catalog/record/record.ts";
import type { FabricEvent } from "../../src/fabric/io-types.ts";
import type { FabricOptions } from "../../src/fabric/options.ts";
import { Rng } from "../../src/lib/rng.ts";
import { Checks, Violation } from "./checks.ts";
import { Client } from "./clients.ts";
import { SIM_FABRIC } from "./fabric-of.ts";
import { type FaultParts, inflict, makeWell } from "./faults.ts";
import { Invariants, unrest } from "./invariants.ts";
import { KeptEntries } from "./kept.ts";
import { Model } from "./model.ts";
import { addressOf, FAIR, NETWORK_OPTIONS, Network } from "./network.ts";
import { Operators } from "./operators.ts";
import { type Plan, type Step, wordsOf } from "./plan.ts";
import { applyPolicy } from "./policies.ts";
import { SimReads } from "./reads.ts";
import { SimNode, type SimProcess, type Watching } from "./sim-node.ts";
import { Trace } from "./trace.ts";
import { SimWatch } from "./watch.ts";
import { BYTES, VALUES } from "./wire.ts";
import { World } from "./world.ts";

export interface Outcome {
  readonly violation: Violation | undefined;
  /** Two runs of one plan have the same. */
  readonly hash: string;
  readonly eventCount: number;
  /** Virtual time from the end of the faults until everything was at rest. */
  readonly restMs: number;
  /** How many checks were made, and how often each event happened. A simulation in which nothing happens proves nothing. */
  readonly checkCount: number;
  readonly events: ReadonlyMap<string, number>;
  readonly bookmarks: number;
  /** Reads answered. */
  readonly reads: number;
  /** The last lines of the trace, and the name of the file that has all of them. Empty without a file. */
  readonly trace: string;
}

export interface SimulationOptions {
  /** The file that gets in words what happens. */
  readonly traceFile?: string | undefined;
  readonly fabric?: FabricOptions;
  /** Checks nothing while the world runs, for worlds in which the checks would take most of the time. */
  readonly isLight?: boolean;
}

/** Counts events by name, and checks nothing. */
export class EventCounter implements Watching {
  readonly #events: Map<string, number>;

  constructor(events: Map<string, number>) {
    this.#events = events;
  }

  started(): void {}

  ended(): void {}

  turned(): void {}

  gave(): void {}

  staticEnded(): void {}

  endedEarly(): void {}

  shown(): void {}

  event(_node: SimNode, { name }: FabricEvent): void {
    this.#events.set(name, (this.#events.get(name) ?? 0) + 1);
  }
}

/** A node that leaves has ended its entries after this time. */
const LEAVE_MS = 1600;
/** Time between two looks at the whole world while it comes to rest. */
const LOOK_MS = 1000;
/** Long enough for leases that nobody renews to end, and for messages on their way to arrive. */
const MIN_REST_MS = 12_000;

export class Simulation {
  readonly world = new World();
  readonly trace: Trace;
  readonly network: Network;
  readonly nodes: SimNode[] = [];
  readonly clients: Client[];
  readonly watches: SimWatch[];
  readonly model = new Model();
  readonly checks = new Checks();
  readonly events = new Map<string, number>();
  readonly operators: Operators;
  readonly kept: KeptEntries;
  readonly #plan: Plan;
  readonly #faults: FaultParts;
  readonly #reads: SimReads;
  readonly #gone = new Set<number>();
  #disturbedMs = 0;

  constructor(plan: Plan, { traceFile, fabric = SIM_FABRIC, isLight = false }: SimulationOptions = {}) {
    this.#plan = plan;
    const { world, nodes, model, checks, events } = this;
    const rng = new Rng(`run/${plan.seed}`);
    this.trace = new Trace(world, traceFile);
    const wire = plan.isEncoded ? BYTES : VALUES;
    this.network = new Network({ world, rng: rng.fork("network"), wire }, { ...NETWORK_OPTIONS, isUnruly: plan.isUnruly });
    this.operators = new Operators({ world, nodes, checks, seed: plan.seed });
    const operators = plan.steps.some(({ kind }) => kind === "operate") ? this.operators : undefined;
    this.kept = new KeptEntries(checks);
    const onTouched = (process: SimProcess, key: KeyText) => {
      this.kept.look(process, key);
      this.operators.look(process, key);
    };
    const invariants = new Invariants({ world, nodes, model, checks, events, disturbedMs: () => this.#disturbedMs, onTouched });
    const replication = { ...fabric.replication, maxFrameBytes: plan.frameBytes };
    plan.places.forEach((place, index) => {
      const seeds = (plan.seeds[index] ?? []).map(addressOf);
      const options = {
        index,
        nodeId: `n${index}`,
        ...place,
        zone: "z1",
        seeds,
        fabric: { ...fabric, replication, links: { ...fabric.links, maxLinks: plan.maxLinks } },
        tombstoneTtlMs: plan.tombstoneTtlMs,
        minTombstones: plan.minTombstones,
        commitMs: plan.commitMs[index] ?? 3,
        snapshotMs: plan.snapshotMs,
      };
      const watching: Watching = isLight ? new EventCounter(events) : invariants;
      const parts = { world, network: this.network, trace: this.trace, rng: rng.fork(`node ${index}`), watching, operators };
      const node = new SimNode(options, parts);
      nodes.push(node);
      invariants.add(node);
      this.network.add(node, () => ({ ...FAIR, delayMs: plan.delayMs, jitterMs: plan.delayMs / 2 }));
    });
    const clientParts = { world, nodes, model, checks, rng: rng.fork("clients") };
    this.clients = Array.from({ length: plan.clientCount }, (_, i) => new Client(i, clientParts));
    const onChange = (...change: Parameters<KeptEntries["changed"]>) => this.kept.changed(...change);
    this.watches = plan.watches.map((watch, i) => new SimWatch(i, watch, { world, nodes, checks, trace: this.trace, onChange }));
    this.#reads = new SimReads({ world, nodes, clients: this.clients, model, checks });
    this.#faults = {
      world,
      network: this.network,
      nodes,
      gone: this.#gone,
      endMs: plan.activeMs,
      lose: (originId) => {
        checks.lose(originId);
        model.lost();
      },
      putBack: ({ name, options }, { rows, generation }) => {
        const entries = [...rows].filter(([, { leaseId }]) => leaseId !== "");
        const written = entries.map(([text, { seq }]) => {
          const key = text as KeyText;
          const { atMs = 0 } = checks.said(`${name}/${generation}`, key).find((said) => said.seq === seq) ?? {};
          return { key, seq, writtenMs: atMs };
        });
        model.putBack(name, written, world.nowMs - options.tombstoneTtlMs);
      },
      disturb: (untilMs) => {
        this.#disturbedMs = Math.max(this.#disturbedMs, untilMs);
      },
    };
  }

  run(): Outcome {
    let violation: Violation | undefined;
    let restMs = 0;
    try {
      this.#start();
      this.world.runUntil(this.#plan.activeMs);
      makeWell(this.#faults, { delayMs: this.#plan.delayMs });
      this.#disturbedMs = this.world.nowMs;
      this.trace.say(() => "---- all faults are over ----");
      restMs = this.#rest();
      this.#checkTraffic();
      this.#checkNeedless();
    } catch (error) {
      violation = error instanceof Violation ? error : new Violation(`error ${nameOf(error)}`, stackOf(error));
      this.trace.say(() => `links:\n  ${this.network.describe().join("\n  ")}`);
      this.trace.say(() => `**** ${violation?.message}`);
    }
    const bookmarks = this.watches.reduce((sum, { settledCount }) => sum + settledCount, 0);
    const { hash } = this.trace;
    const { eventCount } = this.world;
    const { count: checkCount } = this.checks;
    const { count: reads } = this.#reads;
    return { violation, hash, eventCount, restMs, checkCount, events: this.events, bookmarks, reads, trace: this.trace.tail() };
  }

  #start(): void {
    const { world } = this;
    this.#plan.startMs.forEach((atMs, i) => world.at(atMs, () => this.nodes[i]?.start()));
    for (const watch of this.watches) watch.start();
    for (const step of this.#plan.steps) world.at(step.atMs, () => this.#take(step));
  }

  #take(step: Step): void {
    this.trace.say(() => `STEP ${wordsOf(step)}`);
    switch (step.kind) {
      case "register": {
        const { client, node, variant, scope, ttlMs } = step;
        this.clients[client]?.want({ state: "present", node, variant, scope, ttlMs });
        return;
      }
      case "unregister": {
        const before = this.clients[step.client]?.wish;
        if (before !== undefined) this.clients[step.client]?.want({ ...before, state: "gone", node: step.node });
        return;
      }
      case "abandon":
        this.clients[step.client]?.abandon();
        return;
      case "report":
        this.clients[step.client]?.report(step.health);
        return;
      case "policy": {
        const node = this.nodes[step.node];
        if (node !== undefined) node.enqueue(() => applyPolicy(node, step.variant));
        return;
      }
      case "watchMove":
        this.watches[step.watch % Math.max(1, this.watches.length)]?.move(step.node);
        return;
      case "watchElse":
        this.watches[step.watch % Math.max(1, this.watches.length)]?.askElse(step.asked);
        return;
      case "operate":
        this.operators.take(step);
        return;
      case "read":
        this.#reads.read(step.node, Math.floor(step.atMs));
        return;
      case "stop":
        // A node that leaves ends its entries, and nobody registers a static entry again.
        if (step.reason === "leave" && this.nodes[step.node]?.canStop === true)
          this.world.after(LEAVE_MS, this.model.leaving(this.#originOf(step.node)));
        // A node that is alone keeps everything, also what it took over from nodes that left before, and nobody hears of it.
        if (step.downMs === undefined && this.nodes[step.node]?.process?.fabric.hasClusterPeers === false) this.model.lost();
        inflict(step, this.#faults);
        return;
      case "crash":
        if (step.isDiskLost || step.downMs === undefined) this.model.lost();
        inflict(step, this.#faults);
        return;
      case "partition":
      case "oneWay":
      case "freeze":
      case "skew":
      case "weather":
      case "slow":
      case "breakLinks":
      case "tight":
      case "diskFull":
      case "store":
      case "backup":
        inflict(step, this.#faults);
    }
  }

  #originOf(node: number): string {
    return this.nodes[node]?.process?.replica.self.id ?? "";
  }

  /** Of the records that came in differences, at most as many were known already as were new. Unruly networks send frames again, so they do not count. */
  #checkTraffic(): void {
    if (this.#plan.isUnruly) return;
    const sum = (what: "received" | "applied") => this.nodes.reduce((total, { differences }) => total + differences[what], 0);
    const [received, applied] = [sum("received"), sum("applied")];
    this.checks.holds(received <= 2 * applied, "traffic", () => `${received} records arrived in differences, ${applied} were new`);
  }

  /** Streams that never resumed are told hardly anything about keys that they never had, and nothing that they hold already (semantics.md, Watch 2). */
  #checkNeedless(): void {
    const sum = (what: "count" | "useless" | "repeated") => this.watches.reduce((total, { told }) => total + told[what], 0);
    const [count, useless, repeated] = [sum("count"), sum("useless"), sum("repeated")];
    // When the life of an origin changes twice before all its records were touched, the node cannot know what readers hold.
    this.checks.holds(useless <= 1 + 0.02 * count, "needless", () => `${useless} of ${count} deltas removed what nobody had`);
    this.checks.holds(repeated === 0, "needless", () => `${repeated} of ${count} deltas said what was known`);
  }

  /** Runs on until everything is at rest. Returns how long that took. */
  #rest(): number {
    const { world, checks } = this;
    const startMs = world.nowMs;
    let wrong: readonly string[] = [];
    let restedMs: number | undefined;
    while (world.nowMs - startMs < this.#plan.settleMs) {
      world.runUntil(world.nowMs + LOOK_MS);
      for (const { index } of this.nodes) this.#reads.read(index, Math.floor(world.nowMs / LOOK_MS) + index);
      wrong = unrest(this.nodes, this.clients, this);
      if (wrong.length > 0) restedMs = undefined;
      else restedMs ??= world.nowMs;
      // A cursor may know more of a node that lost a part of its journal than any node will ever know again.
      const isTold = checks.hasLost || this.watches.every(({ settledMs }) => restedMs !== undefined && settledMs > restedMs);
      if (isTold && restedMs !== undefined && world.nowMs - startMs >= MIN_REST_MS) return restedMs - startMs;
    }
    checks.holds(
      wrong.length === 0,
      "rest",
      () => `after ${this.#plan.settleMs / 1000} s without faults: ${wrong.slice(0, 20).join("\n  ")}`,
    );
    const silent = this.watches.filter(({ settledMs }) => restedMs === undefined || settledMs <= restedMs);
    checks.holds(
      silent.length === 0 || checks.hasLost,
      "P3",
      () => `no bookmark at rest: watch ${silent.map(({ index }) => index).join(", ")}`,
    );
    return world.nowMs - startMs;
  }
}

function nameOf(error: unknown): string {
  return error instanceof Error ? error.message.slice(0, 60) : String(error).slice(0, 60);
}

function stackOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
