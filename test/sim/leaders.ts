/**
 * Worlds of leaders: a few processes with the leadership machine of the product, one store that they share, and a network between them that loses
 * and delays requests and answers. Processes pause, stop, crash and start; the store is away; operators ask leaders to resign.
 */

import type { LeadershipInput, LeadershipOutput } from "../../src/control/leadership/io-types.ts";
import { Leadership } from "../../src/control/leadership/machine.ts";
import { GLOBAL_SCOPE } from "../../src/control/leadership/scope.ts";
import type { Time } from "../../src/lib/machine.ts";
import { NEVER } from "../../src/lib/machine.ts";
import { Rng } from "../../src/lib/rng.ts";
import { compareFences, type FenceToken } from "../../src/store/control/fence.ts";
import type { StoreChange, StoreCondition, StoreWrite, TransactResult } from "../../src/store/control/store.ts";
import { World } from "./world.ts";

const LEASE_MS = 3000;
/** Time after which a request fails. */
const TIMEOUT_MS = 1000;
const SCOPES = [GLOBAL_SCOPE, "custom/orders/cleaner", "custom/orders/index"];
const WALL_START_MS = 1_760_000_000_000;
/** How long the world is troubled, and how long it is calm afterwards. */
const TROUBLED_MS = 90_000;
const CALM_MS = 25_000;
const PROBE_MS = 40;

export interface LeaderOutcome {
  readonly violation: { readonly invariant: string; readonly message: string } | undefined;
  /** Number of holders and fences under which somebody acted. */
  readonly holders: number;
  /** Number of outages of the store in worlds that have no other trouble. All holders were kept in them. */
  readonly outages: number;
  readonly resignations: number;
  readonly stops: number;
}

class Violation extends Error {
  readonly invariant: string;

  constructor(invariant: string, message: string) {
    super(message);
    this.invariant = invariant;
  }
}

/** The store: what it holds, and every change since its start. */
class SharedStore {
  isAway = false;
  readonly #items = new Map<string, { readonly value: Uint8Array; readonly version: number }>();
  readonly changes: StoreChange[] = [];
  revision = 0;

  transact(conditions: readonly StoreCondition[], writes: readonly StoreWrite[]): TransactResult {
    const found = conditions.map(({ key }) => this.#items.get(key)?.version ?? 0);
    if (conditions.some(({ version }, at) => version !== found[at]))
      return { isCommitted: false, revision: this.revision, versions: found };
    const versions = writes.map(({ key, value }) => {
      if (value === undefined && !this.#items.has(key)) return 0;
      const version = ++this.revision;
      const item = value && { key, value, version };
      if (item === undefined) this.#items.delete(key);
      else this.#items.set(key, item);
      this.changes.push({ key, version, item });
      return version;
    });
    return { isCommitted: true, revision: this.revision, versions };
  }

  /** All items with a prefix, as a watch reports them when it starts over. */
  all(prefix: string): StoreChange[] {
    const found = [...this.#items].filter(([key]) => key.startsWith(prefix));
    return found.map(([key, item]) => ({ key, version: item.version, item: { key, ...item } })).toSorted((a, b) => a.version - b.version);
  }
}

interface Watch {
  at: number;
  isStarted: boolean;
}

class LeaderNode {
  readonly name: string;
  readonly #sim: LeaderWorld;
  readonly #rate: number;
  readonly #rng: Rng;
  machine: Leadership;
  isUp = true;
  pausedUntilMs = 0;
  isCut = false;
  #boot = 1;
  readonly #queued: LeadershipInput[] = [];
  readonly watches = new Map<string, Watch>();
  #timerMs = NEVER;

  constructor(sim: LeaderWorld, name: string, rng: Rng) {
    this.#sim = sim;
    this.name = name;
    this.#rng = rng;
    this.#rate = 0.96 + rng.next() * 0.08;
    this.machine = this.#make();
  }

  get time(): Time {
    const { nowMs } = this.#sim.world;
    return { monoMs: nowMs * this.#rate, wallMs: WALL_START_MS + Math.floor(nowMs) };
  }

  start(): void {
    this.input({ kind: "eligible", fault: "" });
    for (const scope of SCOPES) this.input({ kind: "stand", scope, holderId: this.name });
  }

  /** A process that gives its scopes up and ends, and one that takes its place. */
  stop(): void {
    if (!this.isUp) return;
    this.input({ kind: "stop" });
  }

  /** A process that ends without a word, and one that takes its place. */
  crash(downMs: number): void {
    if (!this.isUp) return;
    this.isUp = false;
    this.#boot += 1;
    this.#queued.length = 0;
    this.watches.clear();
    this.#sim.world.after(downMs, () => {
      this.isUp = true;
      this.machine = this.#make();
      this.start();
    });
  }

  input(input: LeadershipInput): void {
    if (!this.isUp) return;
    if (this.#isPaused) {
      this.#queued.push(input);
      return;
    }
    const out: LeadershipOutput[] = [];
    this.machine.handle(input, this.time, out);
    for (const output of out) this.#carryOut(output);
    this.#sim.check();
    this.#setTimer();
  }

  pause(forMs: number): void {
    if (this.#isPaused || !this.isUp) return;
    this.pausedUntilMs = this.#sim.world.nowMs + forMs;
    this.#sim.world.at(this.pausedUntilMs, () => {
      // Timers can run before sockets are read.
      this.input({ kind: "tick" });
      for (const queued of this.#queued.splice(0)) this.input(queued);
    });
  }

  get #isPaused(): boolean {
    return this.#sim.world.nowMs < this.pausedUntilMs;
  }

  fenceOf(scope: string): FenceToken | undefined {
    if (!this.isUp || this.#isPaused || !this.machine.heldScopes(this.time).includes(scope)) return undefined;
    return this.machine.require(scope, this.time);
  }

  #make(): Leadership {
    let count = 0;
    const [boot, name] = [`b${this.#boot}`, this.name];
    return new Leadership({
      nodeId: name,
      clusterId: "sim",
      boot,
      leaseMs: LEASE_MS,
      isOwnStore: false,
      compactMs: 60_000,
      newId: () => `${name}-${boot}-${++count}`,
    });
  }

  #setTimer(): void {
    const dueMs = this.machine.nextDeadlineMs() / this.#rate;
    if (dueMs === NEVER || dueMs >= this.#timerMs) return;
    this.#timerMs = dueMs;
    this.#sim.world.at(dueMs, () => {
      if (this.#timerMs !== dueMs) return;
      this.#timerMs = NEVER;
      this.input({ kind: "tick" });
    });
  }

  #carryOut(output: LeadershipOutput): void {
    switch (output.kind) {
      case "transact":
        return this.#sim.transact(this, output);
      case "watch":
        this.watches.set(output.prefix, { at: 0, isStarted: false });
        return this.#sim.report(this, output.prefix);
      case "unwatch":
        this.watches.delete(output.prefix);
        return;
      case "stopped":
        return this.crash(100);
      case "event":
      case "compact":
      case "ordered":
        return;
    }
  }

  get boot(): number {
    return this.#boot;
  }

  draw(): number {
    return this.#rng.next();
  }
}

class LeaderWorld {
  readonly world = new World();
  readonly store = new SharedStore();
  readonly nodes: readonly LeaderNode[];
  readonly #rng: Rng;
  /** The last fence under which somebody acted, by scope. */
  readonly #last = new Map<string, { readonly fence: FenceToken; readonly node: string }>();
  isTroubled = true;
  holders = 0;
  outages = 0;
  resignations = 0;
  stops = 0;
  /** In some worlds nothing happens but outages of the store. */
  readonly #hasOnlyOutages: boolean;
  /** Share of the requests whose request, or answer, is lost or late. */
  readonly #loss: number;

  constructor(seed: number) {
    this.#rng = new Rng(`leaders ${seed}`);
    this.#hasOnlyOutages = seed % 4 === 0;
    this.#loss = this.#hasOnlyOutages || this.#rng.next() < 0.5 ? 0 : this.#rng.next() * 0.15;
    const count = 2 + this.#rng.int(4);
    this.nodes = Array.from({ length: count }, (_, at) => new LeaderNode(this, `n${at}`, this.#rng.fork(`n${at}`)));
  }

  run(): void {
    for (const node of this.nodes) this.world.after(this.#rng.int(2000), () => node.start());
    const probe = (): void => {
      this.check();
      this.world.after(PROBE_MS, probe);
    };
    probe();
    this.#trouble();
    this.world.runUntil(TROUBLED_MS);
    this.isTroubled = false;
    this.store.isAway = false;
    for (const node of this.nodes) node.isCut = false;
    this.world.runUntil(TROUBLED_MS + CALM_MS);
    for (const scope of SCOPES)
      if (!this.nodes.some((node) => node.fenceOf(scope) !== undefined))
        throw new Violation("somebody leads", `${scope} has no leader after ${CALM_MS} ms of calm`);
  }

  /** At most one node may act for a scope at a time, and each later one has a greater fence. */
  check(): void {
    for (const scope of SCOPES) {
      const acting = this.nodes.flatMap((node) => {
        const fence = node.fenceOf(scope);
        return fence === undefined ? [] : [{ node: node.name + node.boot, fence }];
      });
      const [one, other] = acting;
      if (one !== undefined && other !== undefined)
        throw new Violation(
          "one leader",
          `${one.node} and ${other.node} act for ${scope} at ${this.world.nowMs} ms, under ${one.fence.number} and ${other.fence.number}`,
        );
      const last = this.#last.get(scope);
      if (one === undefined || (last?.node === one.node && compareFences(last.fence, one.fence) === 0)) continue;
      if (last !== undefined && compareFences(last.fence, one.fence) >= 0)
        throw new Violation(
          "fences grow",
          `${one.node} acts for ${scope} under ${one.fence.number}, after ${last.node} under ${last.fence.number}`,
        );
      if (last !== undefined && this.#hasOnlyOutages)
        throw new Violation(
          "holders stay",
          `${one.node} acts for ${scope} under ${one.fence.number} after an outage of the store, ${last.node} before`,
        );
      this.#last.set(scope, one);
      this.holders += 1;
    }
  }

  transact(node: LeaderNode, { request, conditions, changes }: Extract<LeadershipOutput, { readonly kind: "transact" }>): void {
    const { boot } = node;
    let isAnswered = false;
    const answer = (result: TransactResult | undefined): void => {
      if (isAnswered || node.boot !== boot) return;
      isAnswered = true;
      node.input({ kind: "transacted", request, result });
    };
    this.world.after(TIMEOUT_MS, () => answer(undefined));
    if (node.isCut || this.#isLost()) {
      // The request reaches the store late, or never.
      if (node.draw() < 0.5) this.world.after(node.draw() * 4 * LEASE_MS, () => this.#apply(conditions, changes));
      return;
    }
    this.world.after(this.#delayMs(), () => {
      const result = this.#apply(conditions, changes);
      if (result === undefined || node.isCut || this.#isLost()) return;
      this.world.after(this.#delayMs(), () => answer(result));
    });
  }

  #apply(conditions: readonly StoreCondition[], changes: readonly StoreWrite[]): TransactResult | undefined {
    if (this.store.isAway) return undefined;
    const result = this.store.transact(conditions, changes);
    if (result.isCommitted)
      for (const node of this.nodes)
        for (const prefix of node.watches.keys()) if (changes.some(({ key }) => key.startsWith(prefix))) this.report(node, prefix);
    return result;
  }

  /** Brings the changes of a watch to a node, sooner or later. */
  report(node: LeaderNode, prefix: string): void {
    const watch = node.watches.get(prefix);
    if (watch === undefined) return;
    this.world.after(this.#delayMs(), () => {
      if (node.watches.get(prefix) !== watch) return;
      if (this.store.isAway || node.isCut) {
        node.input({ kind: "changed", prefix, changes: undefined });
        this.world.after(200, () => this.report(node, prefix));
        return;
      }
      const isReset = !watch.isStarted;
      const found = isReset
        ? this.store.all(prefix)
        : this.store.changes.filter(({ key, version }) => version > watch.at && key.startsWith(prefix));
      if (!isReset && found.length === 0) return;
      watch.isStarted = true;
      watch.at = this.store.revision;
      node.input({ kind: "changed", prefix, changes: { isReset, changes: found, revision: watch.at, isCurrent: true } });
    });
  }

  #isLost(): boolean {
    return this.isTroubled && this.#rng.next() < this.#loss;
  }

  #delayMs(): number {
    return this.#rng.next() * (this.isTroubled && !this.#hasOnlyOutages && this.#rng.next() < 0.05 ? 800 : 8);
  }

  #trouble(): void {
    if (!this.isTroubled || this.world.nowMs > TROUBLED_MS - 12_000) return;
    const node = this.nodes[this.#rng.int(this.nodes.length)];
    const lengthMs = 200 + this.#rng.next() * 3 * LEASE_MS;
    switch (this.#hasOnlyOutages ? 3 : this.#rng.int(9)) {
      case 0:
        node?.pause(lengthMs);
        break;
      case 1:
        node?.crash(lengthMs);
        break;
      case 2:
        this.#cut(node, lengthMs);
        break;
      case 3:
        this.#outage(lengthMs);
        break;
      case 4:
        this.resignations += 1;
        node?.input({ kind: "resign", order: 1, scope: GLOBAL_SCOPE, reason: "the operator said so" });
        break;
      case 5:
        if (this.#rng.int(4) === 0) node?.input({ kind: "raiseEpoch", order: 2 });
        break;
      case 7:
        node?.input({ kind: "eligible", fault: "not ready" });
        this.world.after(lengthMs / 8, () => node?.input({ kind: "eligible", fault: "" }));
        break;
      case 8:
        node?.input({ kind: "withdraw", scope: GLOBAL_SCOPE, reason: "the program ended" });
        this.world.after(lengthMs / 8, () => node?.input({ kind: "stand", scope: GLOBAL_SCOPE, holderId: "program" }));
        break;
      case 6:
        this.stops += 1;
        node?.stop();
        break;
    }
    // A second outage within a lease may cost a holder its scope.
    this.world.after((this.#hasOnlyOutages ? lengthMs + LEASE_MS : 0) + this.#rng.next() * 9000, () => this.#trouble());
  }

  #cut(node: LeaderNode | undefined, forMs: number): void {
    if (node === undefined) return;
    node.isCut = true;
    this.world.after(forMs, () => {
      node.isCut = false;
    });
  }

  #outage(forMs: number): void {
    if (this.store.isAway) return;
    if (this.#hasOnlyOutages) this.outages += 1;
    this.store.isAway = true;
    this.world.after(forMs, () => {
      this.store.isAway = false;
    });
  }
}

/** Runs one world. */
export function runSeed(seed: number): LeaderOutcome {
  const sim = new LeaderWorld(seed);
  let violation: LeaderOutcome["violation"];
  try {
    sim.run();
  } catch (error) {
    if (!(error instanceof Violation)) throw error;
    violation = { invariant: error.invariant, message: error.message };
  }
  const { holders, outages, resignations, stops } = sim;
  return { violation, holders, outages, resignations, stops };
}
