/**
 * Worlds of nodes and resolvers, with clients that register, ask and roam: resolvers are cut off, restart, change their upstreams and follow each other, policies
 * change, nodes die. Resolvers' answers are compared with a model that knows only what was registered, and which policies there were.
 */
import { join } from "node:path";
import { SCOPE } from "../../src/catalog/entry/scope.ts";
import { KIND, keyParts } from "../../src/catalog/record/record.ts";
import { WaymarkError } from "../../src/lib/errors.ts";
import { Rng } from "../../src/lib/rng.ts";
import { Checks, Violation } from "./checks.ts";
import { NAMESPACES } from "./clients.ts";
import { SIM_FABRIC } from "./fabric-of.ts";
import { addressOf, FAIR, Network } from "./network.ts";
import { applyPolicy } from "./policies.ts";
import { AnswerChecks, CALLERS } from "./resolvers/answers.ts";
import { HiddenOrigins } from "./resolvers/hidden-origins.ts";
import { History } from "./resolvers/history.ts";
import { planOf, type ResolverStep, type WorldPlan, wordsOf } from "./resolvers/plan.ts";
import { KEYS, NAMES, Registrants } from "./resolvers/registrants.ts";
import { type Place, Roamer } from "./resolvers/roamer.ts";
import { servingNode } from "./resolvers/served-node.ts";
import { Server } from "./resolvers/server.ts";
import { type Seen, SimResolver } from "./resolvers/sim-resolver.ts";
import { UpkeepChecks } from "./resolvers/upkeep-checks.ts";
import { Wires } from "./resolvers/wires.ts";
import { shrink } from "./shrink.ts";
import { SimNode } from "./sim-node.ts";
import { TRACE_DIR, Trace } from "./trace.ts";
import { VALUES } from "./wire.ts";
import { World } from "./world.ts";

export interface Outcome {
  readonly violation: Violation | undefined;
  readonly hash: string;
  /** How often each thing was seen: a world in which nothing happens proves nothing. */
  readonly counts: Readonly<Record<string, number>>;
  readonly trace: string;
}

const RESOLVER_START_MS = 2000;
/** After the faults, everything is at rest by then. */
const REST_MS = 25_000;
/** At rest a bookmark comes each second. */
const LATELY_MS = 4000;
/** A loop is noticed with the first bookmark that went round, or with a probe. */
const LOOP_MS = 15_000;
const LOOK_MS = 1000;
/** For so long the connection of a resolver breaks with the versions that come. */
const HALVED_MS = 3000;
const STRAND_SLOW_MS = 600;

class Resolvers {
  readonly #plan: WorldPlan;
  readonly #world = new World();
  readonly #trace: Trace;
  readonly #rng: Rng;
  readonly #network: Network;
  readonly #wires: Wires;
  readonly #checks = new Checks();
  readonly #history = new History();
  /** Indexes of nodes that are down for good, and of one that did not join yet. */
  readonly #gone = new Set<number>();
  readonly #hidden = new HiddenOrigins(this.#world);
  readonly #nodes: readonly SimNode[];
  readonly #resolvers: readonly SimResolver[];
  readonly #servers: ReadonlyMap<string, Server>;
  readonly #registrants: Registrants;
  readonly #roamers: readonly Roamer[];
  readonly #answers: AnswerChecks;
  readonly #upkeep: UpkeepChecks;
  readonly #loopSinceMs = new Map<string, number>();
  readonly #heardMs = new Map<string, number>();

  constructor(plan: WorldPlan, traceFile?: string) {
    this.#plan = plan;
    const world = this.#world;
    this.#trace = new Trace(world, traceFile);
    if (plan.lateNode !== undefined) this.#gone.add(plan.lateNode);
    this.#rng = new Rng(`run/${plan.seed}`);
    const rng = this.#rng;
    this.#network = new Network({ world, rng: rng.fork("network"), wire: VALUES });
    this.#wires = new Wires(world, rng.fork("wires"));
    this.#nodes = Array.from({ length: plan.nodeCount }, (_, index) => this.#makeNode(index));
    const [history, checks, trace, wires] = [this.#history, this.#checks, this.#trace, this.#wires];
    this.#answers = new AnswerChecks({ world, history, checks, gone: this.#gone, hidden: this.#hidden });
    this.#upkeep = new UpkeepChecks({ world, checks });
    const upkeep = this.#upkeep;
    const seen: Seen = {
      heard: (process, sent, prefixes) => {
        this.#answers.heard(process, sent, prefixes);
        if (process.shown !== undefined) this.#heardMs.set(process.host.name, world.nowMs);
      },
      looped: ({ host }, upstream) =>
        checks.holds(false, "loop", () => `${host.name} goes on with ${upstream}, whose data comes through ${host.name}`),
      garbled: (_, fault) => checks.holds(false, "P17", () => `an honest server is not believed: ${fault}`),
      judges: (process) => upkeep.judges(process),
      repairs: (process) => upkeep.repairs(process),
      restored: (process, found, restored) => upkeep.restored(process, found, restored),
    };
    const server = (name: string) => this.#server(name);
    this.#resolvers = plan.resolvers.map(
      (each) => new SimResolver(each, { world, wires, trace, rng: rng.fork(each.name), history, seen, server }),
    );
    this.#servers = new Map([
      ...this.#nodes.map((node) => {
        const facts = () => ({ clusterId: "c1", region: "r1", via: [] });
        return [node.name, new Server({ world, history, host: node, serving: () => servingNode(node, history), facts })] as const;
      }),
      ...this.#resolvers.map((host) => {
        const facts = () => host.facts();
        return [host.name, new Server({ world, history, host, serving: () => host.serving(), facts })] as const;
      }),
    ]);
    this.#registrants = new Registrants({ world, history, nodes: this.#nodes, gone: this.#gone });
    const places = [...this.#nodes.map((node) => this.#nodePlace(node)), ...this.#resolvers.map((each) => this.#resolverPlace(each))];
    this.#roamers = plan.roamers.map((each, i) => new Roamer(i, each, { world, wires, checks, trace, history, places }));
  }

  run(): Outcome {
    let violation: Violation | undefined;
    try {
      this.#start();
      this.#world.runUntil(this.#plan.activeMs);
      this.#makeWell();
      this.#world.runUntil(this.#plan.activeMs + REST_MS - LATELY_MS);
      // What got lost is there by now.
      this.#answers.isExact = true;
      this.#world.runUntil(this.#plan.activeMs + REST_MS);
      this.#checkRest();
    } catch (error) {
      violation = error instanceof Violation ? error : new Violation(`error ${String(error).slice(0, 60)}`, stackOf(error));
      this.#trace.say(() => `**** ${violation?.message}`);
    }
    const sum = (what: "settled" | "atResolvers" | "places") => this.#roamers.reduce((total, { counts }) => total + counts[what], 0);
    const { count: answers, atPlaceCount: bookmarks, heldCount: held, staleCount: stale } = this.#answers;
    const { repairs, restored, refused } = this.#upkeep.counts;
    const kept = { repairs, restored, refused };
    const counts = {
      answers,
      bookmarks,
      held,
      stale,
      ...kept,
      settled: sum("settled"),
      atResolvers: sum("atResolvers"),
      cursors: sum("places"),
    };
    return { violation, hash: this.#trace.hash, counts, trace: this.#trace.tail() };
  }

  // ---- what there is ----

  #makeNode(index: number): SimNode {
    const [world, network, trace] = [this.#world, this.#network, this.#trace];
    const seeds = [addressOf(index === 0 ? 1 : 0)];
    const place = { clusterId: "c1", region: "r1", zone: "z1" };
    const options = { index, nodeId: `n${index}`, ...place, seeds, fabric: SIM_FABRIC, tombstoneTtlMs: 30_000, minTombstones: 1000 };
    const parts = { world, network, trace, rng: this.#rng.fork(`node ${index}`), watching: this.#hidden };
    const node = new SimNode({ ...options, commitMs: 3, snapshotMs: 2000 }, parts);
    network.add(node, () => ({ ...FAIR }));
    return node;
  }

  #server(name: string): Server {
    const server = this.#servers.get(name);
    if (server === undefined) throw new Error(`there is no ${name}`);
    return server;
  }

  #nodePlace(node: SimNode): Place {
    return {
      server: this.#server(node.name),
      get reads() {
        return node.process?.reads;
      },
      isResolver: false,
      shows: () => true,
      epoch: () => undefined,
    };
  }

  #resolverPlace(host: SimResolver): Place {
    return {
      server: this.#server(host.name),
      get reads() {
        return host.process?.rooms.reads;
      },
      isResolver: true,
      shows: ({ key }) => host.process?.rooms.replica.lookup.find(key) !== undefined,
      epoch: () => host.process?.heard?.epoch,
    };
  }

  // ---- what happens ----

  #start(): void {
    const { world } = { world: this.#world };
    this.#nodes.forEach((node, i) => {
      if (!this.#gone.has(i)) world.at(i * 10, () => node.start());
    });
    this.#resolvers.forEach((resolver, i) => {
      world.at(RESOLVER_START_MS + this.#rng.int(2000), () => resolver.start());
      this.#askLater(resolver, this.#plan.askMs[i] ?? 1000, this.#rng.fork(`asks ${i}`));
    });
    for (const roamer of this.#roamers) world.at(RESOLVER_START_MS, () => roamer.open());
    for (const step of this.#plan.steps) world.at(step.atMs, () => this.#take(step));
    this.#registrants.start();
    this.#lookLater();
  }

  #lookLater(): void {
    this.#world.after(LOOK_MS, () => {
      for (const resolver of this.#resolvers) this.#checkLoop(resolver);
      this.#lookLater();
    });
  }

  #askLater(resolver: SimResolver, everyMs: number, rng: Rng): void {
    this.#world.after(everyMs * (0.5 + rng.next()), () => {
      const { process } = resolver;
      const [caller, asked] = [CALLERS[rng.int(CALLERS.length)], NAMES[rng.int(NAMES.length)]];
      if (process !== undefined && caller !== undefined && asked !== undefined) {
        const name = { kind: KIND.SERVICE, ...asked };
        process.ask(caller, name, (told) => {
          if (process.isStopped || told instanceof WaymarkError) return;
          this.#answers.answered(process, caller, name, told);
          this.#answers.negative(process, caller, name, told);
        });
      }
      this.#askLater(resolver, everyMs, rng);
    });
  }

  #take(step: ResolverStep): void {
    this.#trace.say(() => `STEP ${wordsOf(step)}`);
    const [world, wires] = [this.#world, this.#wires];
    const later = (ms: number, run: () => void) =>
      world.after(ms, () => {
        if (world.nowMs < this.#plan.activeMs) run();
      });
    switch (step.kind) {
      case "put":
        return this.#registrants.put(keyOf(step.key), step.node, step.scope, step.isStatic);
      case "end":
        return this.#registrants.end(keyOf(step.key), step.node);
      case "lapse":
        for (const key of KEYS) if (key.startsWith(nameOf(step.name))) this.#registrants.lapse(key);
        return;
      case "policy": {
        const [node] = this.#nodes;
        return node?.enqueue(() => applyPolicy(node, step.variant));
      }
      case "move":
        return this.#roamers[step.roamer]?.move(step.place);
      case "cut":
        wires.cut(step.a, step.b);
        return later(step.forMs, () => wires.heal(step.a, step.b));
      case "break":
        return wires.break(step.a, step.b);
      case "slow":
        wires.slow(step.a, step.b, step.byMs);
        return later(step.forMs, () => wires.slow(step.a, step.b, -step.byMs));
      case "restart":
        this.#resolvers[step.resolver]?.crash(step.isSilent, step.copy === "clean");
        return later(step.downMs, () => this.#resolvers[step.resolver]?.start(step.copy, this.#otherThan(step)));
      case "lose": {
        const resolver = this.#resolvers[step.resolver];
        if (resolver !== undefined) resolver.lossCount += step.count;
        this.#answers.isExact = false;
        return;
      }
      case "skew": {
        const resolver = this.#resolvers[step.resolver];
        if (resolver === undefined) return;
        resolver.skewMs += step.byMs;
        return later(step.forMs, () => {
          resolver.skewMs -= step.byMs;
        });
      }
      case "crash":
        return this.#crash(step, later);
      case "partition":
        return this.#partition(step, later);
      case "join":
        this.#gone.delete(step.node);
        return this.#nodes[step.node]?.start();
      case "halve": {
        const trips = this.#resolvers[step.resolver]?.trips;
        trips?.arm(...Array.from({ length: step.count }, () => ({ moment: "version" }) as const));
        return later(HALVED_MS, () => trips?.disarm(({ moment }) => moment === "version"));
      }
      case "strand":
        return this.#strand(step, later);
    }
  }

  /** The resolver whose copy another one may find. */
  #otherThan({ resolver, other }: ResolverStep & { kind: "restart" }): SimResolver | undefined {
    return this.#resolvers[other === resolver ? (resolver + 1) % this.#resolvers.length : other];
  }

  #crash({ node: index, isSilent, downMs }: ResolverStep & { kind: "crash" }, later: (ms: number, run: () => void) => void): void {
    const isLast = this.#nodes.every((node) => node.index === index || this.#gone.has(node.index));
    if (downMs === undefined && isLast) return;
    this.#nodes[index]?.crash({ isSilent, isBatchKept: true, isDiskLost: false });
    if (downMs === undefined) this.#gone.add(index);
    else
      later(downMs, () => {
        if (!this.#gone.has(index)) this.#nodes[index]?.start();
      });
  }

  #partition({ node, forMs }: ResolverStep & { kind: "partition" }, later: (ms: number, run: () => void) => void): void {
    const others = this.#nodes.map(({ index }) => index).filter((index) => index !== node);
    const pairs = others.flatMap((other) => [[node, other] as const, [other, node] as const]);
    for (const [from, to] of pairs) this.#network.cut(from, to);
    later(forMs, () => {
      for (const [from, to] of pairs) this.#network.heal(from, to);
    });
  }

  #strand({ resolver: of, key: index, ...step }: ResolverStep & { kind: "strand" }, later: (ms: number, run: () => void) => void): void {
    const [resolver, key] = [this.#resolvers[of], keyOf(index)];
    const { process } = resolver ?? {};
    const node = this.#nodes.findIndex(({ name }) => name === process?.rooms.machine.upstreams.current);
    if (resolver === undefined || process === undefined || node < 0) return;
    const { namespace } = keyParts(key);
    this.#partition({ ...step, kind: "partition", node }, later);
    // So that the entry is there before the snapshot.
    this.#wires.slow(resolver.name, `n${node}`, STRAND_SLOW_MS);
    later(step.forMs, () => this.#wires.slow(resolver.name, `n${node}`, -STRAND_SLOW_MS));
    if (step.act === "prewarm") process.act("evict", [namespace]);
    process.act(step.act, [namespace]);
    const evicted = step.moment === "narrowed" ? { evicted: NAMESPACES.filter((each) => each !== namespace) } : {};
    const trip = { moment: step.moment === "told" ? "told" : "end", key, ...evicted } as const;
    resolver.trips.arm(trip);
    later(step.forMs, () => resolver.trips.disarm((each) => each === trip));
    this.#world.after(step.putMs, () => this.#registrants.put(key, node, SCOPE.ZONE, false));
  }

  #makeWell(): void {
    this.#trace.say(() => "---- all faults are over ----");
    this.#network.healAll();
    this.#wires.healAll();
    for (const node of this.#nodes) if (!this.#gone.has(node.index)) node.start();
    for (const resolver of this.#resolvers) {
      resolver.skewMs = 0;
      resolver.lossCount = 0;
      resolver.trips.disarm();
      resolver.start();
    }
  }

  // ---- what must hold ----

  /** No resolver is fed by itself for long. */
  #checkLoop({ name }: SimResolver): void {
    const upstreamOf = (of: string) => this.#resolvers.find((each) => each.name === of)?.process?.rooms.machine.upstreams.current;
    let at = upstreamOf(name);
    for (let n = 0; n < this.#resolvers.length && at !== undefined && at !== name; n++) at = upstreamOf(at);
    if (at !== name) {
      this.#loopSinceMs.delete(name);
      return;
    }
    const sinceMs = this.#loopSinceMs.get(name) ?? this.#world.nowMs;
    this.#loopSinceMs.set(name, sinceMs);
    const forMs = this.#world.nowMs - sinceMs;
    this.#checks.holds(forMs <= LOOP_MS, "loop", () => `${name} is fed by itself for ${forMs} ms`);
  }

  /** Whether it could get to a node that lives. */
  #isReached(name: string, past: readonly string[] = []): boolean {
    const node = this.#nodes.find((each) => each.name === name);
    if (node !== undefined) return !this.#gone.has(node.index);
    const above = this.#resolvers.find((each) => each.name === name)?.plan.upstreams ?? [];
    return above.some((each) => !past.includes(each) && this.#isReached(each, [...past, name]));
  }

  #checkRest(): void {
    const sinceMs = this.#world.nowMs - LATELY_MS;
    for (const { name, process } of this.#resolvers) {
      const { isReady = false, upstreams } = process?.rooms.machine ?? {};
      if (!this.#isReached(name)) continue;
      this.#checks.holds(isReady, "rest", () => `${name} is not ready at rest, and follows ${upstreams?.current}`);
      const isFollowing = (process?.rooms.machine.following.prefixes.list.length ?? 0) > 0;
      const heardMs = this.#heardMs.get(name) ?? 0;
      this.#checks.holds(!isFollowing || heardMs >= sinceMs, "rest", () => `${name} was last at a bookmark at ${heardMs} ms`);
      if (process !== undefined) this.#upkeep.atRest(process);
    }
  }
}

function keyOf(index: number) {
  const key = KEYS[index];
  if (key === undefined) throw new Error(`there is no key ${index}`);
  return key;
}

function nameOf(index: number): string {
  const { namespace = "", name = "" } = NAMES[index] ?? {};
  return `${namespace}\0${name}\0`;
}

function stackOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}

/** `traceFile`: everything that happens is written there. */
export function runSeed(seed: string | number, traceFile?: string): Outcome {
  return new Resolvers(planOf(seed), traceFile).run();
}

/** Bounds of shrinking. */
const MAX_RUNS = 250;
const MAX_SHRINK_MS = 45_000;

/** Everything that is known of a failure; takes up to a minute. */
export function explain(seed: string | number, failed: Outcome): string {
  const plan = planOf(seed);
  const { invariant = "", message = "" } = failed.violation ?? {};
  const start = performance.now();
  const failsAlike = (steps: readonly ResolverStep[]) => new Resolvers({ ...plan, steps }).run().violation?.invariant === invariant;
  const { items, runs } = shrink(plan.steps, failsAlike, (done) => done < MAX_RUNS && performance.now() - start < MAX_SHRINK_MS);
  const replay = new Resolvers({ ...plan, steps: items }, join(TRACE_DIR, `resolvers-${seed}.log`)).run();
  const { resolvers, roamers, nodeCount } = plan;
  return [
    `seed ${seed}: ${message}`,
    `${nodeCount} nodes; ${resolvers.map(({ name, upstreams, namespaces }) => `${name} of ${upstreams.join(" ")} follows [${namespaces.join(" ")}]`).join("; ")}; ${roamers.length} roamers`,
    `the shortest schedule found that fails alike, ${items.length} of ${plan.steps.length} steps after ${runs} runs:`,
    ...items.map((step) => `  ${wordsOf(step)}`),
    `which ends with: ${replay.violation?.message ?? "nothing: it passes with a trace, so the simulator is not deterministic"}`,
    replay.trace,
  ].join("\n");
}
