/**
 * Worlds of leaders: a few processes with the leadership machine of the product, one store that they share, and a network between them that loses
 * and delays requests, answers and watches. Processes pause, stop, crash and start; operators ask leaders to resign; the store is away, forgets what
 * watches have not read, is restored from a backup, and is set up again.
 */

import { Campaigns } from "../../src/control/leadership/campaigns.ts";
import type { LeadershipInput, LeadershipOutput } from "../../src/control/leadership/io-types.ts";
import { Leadership } from "../../src/control/leadership/machine.ts";
import { decodeStore, STORE_KEY } from "../../src/control/leadership/records.ts";
import { GLOBAL_SCOPE } from "../../src/control/leadership/scope.ts";
import type { ShardInput, ShardOutput } from "../../src/control/shards/io-types.ts";
import { Shards } from "../../src/control/shards/shards.ts";
import { compareFences, type FenceToken } from "../../src/lib/fence.ts";
import type { Time } from "../../src/lib/machine.ts";
import { NEVER } from "../../src/lib/machine.ts";
import { Rng } from "../../src/lib/rng.ts";
import type { StoreCondition, StoreWrite, TransactResult } from "../../src/store/control/store.ts";
import { SharedStore, type StoreState, WATCH_START, type WatchPosition } from "../fakes/shared-store.ts";
import { World } from "./world.ts";

const LEASES_MS = [1500, 3000, 6000] as const;
/** Maximum time after which a request fails. */
const TIMEOUT_MS = 1000;
/** Maximum number of changes in a step of a watch. */
const STEP_CHANGES = 3;
/** A store that was restored from a backup has fewer changes than this, until the world ends. */
const REVISION_GAP = 10_000;
/** Order of the operator who raises the epoch after the store was restored. */
const RAISE_AFTER_RESTORE = 3;
/** The troubles of worlds in which the store is set up again. */
const WIPE_TROUBLES: readonly number[] = [0, 2, 3, 4, 7, 8, 9, 11, 11];
const SCOPES = [GLOBAL_SCOPE, "custom/orders/cleaner", "custom/orders/index"];
const WALL_START_MS = 1_760_000_000_000;
/** How long the world is troubled, and how long it is calm afterwards. */
const TROUBLED_MS = 90_000;
const CALM_MS = 25_000;
const PROBE_MS = 40;
/** All processes start within this time. */
const STARTED_MS = 2000;

export interface LeaderOutcome {
  readonly violation: { readonly invariant: string; readonly message: string } | undefined;
  /** Number of holders and fences under which somebody acted. */
  readonly holders: number;
  /** Number of outages of the store in worlds that have no other trouble. All holders were kept in them. */
  readonly outages: number;
  readonly resignations: number;
  readonly stops: number;
  /** Number of times that the store was restored from a backup and its epoch raised. */
  readonly restores: number;
  /** Number of times that the store was set up again. */
  readonly wipes: number;
  /** Number of watches that started over because the store had forgotten changes. */
  readonly resets: number;
}

export class Violation extends Error {
  readonly invariant: string;

  constructor(invariant: string, message: string) {
    super(message);
    this.invariant = invariant;
  }
}

interface Watch {
  position: WatchPosition;
  /** Whether a step is on its way. */
  isDue: boolean;
  /** The watch is interrupted until this time (ms). */
  silentUntilMs: number;
}

type Input = LeadershipInput | ShardInput;

export class LeaderNode {
  readonly name: string;
  readonly #sim: LeaderWorld;
  readonly #rate: number;
  readonly #rng: Rng;
  readonly leaseMs: number;
  machine: Leadership;
  /** The machines of the node, as in the product. */
  shards: Shards;
  isUp = true;
  pausedUntilMs = 0;
  isCut = false;
  /** The next request does not reach the store. */
  losesNext = false;
  #boot = 1;
  readonly #queued: Input[] = [];
  readonly watches = new Map<string, Watch>();
  #timerMs = NEVER;

  constructor(sim: LeaderWorld, name: string, leaseMs: number, rng: Rng) {
    this.#sim = sim;
    this.name = name;
    this.leaseMs = leaseMs;
    this.#rng = rng;
    this.#rate = 0.96 + rng.next() * 0.08;
    [this.machine, this.shards] = this.#make();
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
      [this.machine, this.shards] = this.#make();
      this.start();
    });
  }

  input(input: Input): void {
    if (!this.isUp) return;
    if (this.isPaused) {
      this.#queued.push(input);
      return;
    }
    const out: ShardOutput[] = [];
    this.shards.handle(input, this.time, out);
    this.#sim.trace?.push(
      `${this.#sim.world.nowMs.toFixed(1)} ${this.name}${this.#boot} ${wordsOf(input)} -> ${out.map(wordsOf).join(", ")}`,
    );
    for (const output of out) this.#carryOut(output);
    this.#sim.check();
    this.#setTimer();
  }

  pause(forMs: number): void {
    if (this.isPaused || !this.isUp) return;
    this.pausedUntilMs = this.#sim.world.nowMs + forMs;
    this.#sim.world.at(this.pausedUntilMs, () => {
      // Timers can run before sockets are read.
      this.input({ kind: "tick" });
      for (const queued of this.#queued.splice(0)) this.input(queued);
    });
  }

  get isPaused(): boolean {
    return this.#sim.world.nowMs < this.pausedUntilMs;
  }

  fenceOf(scope: string): FenceToken | undefined {
    return this.isUp && !this.isPaused ? this.machine.held(scope, this.time)?.leader.fence : undefined;
  }

  #make(): [Leadership, Shards] {
    let count = 0;
    const [boot, name] = [`b${this.#boot}`, this.name];
    const options = {
      nodeId: name,
      clusterId: "sim",
      boot,
      leaseMs: this.leaseMs,
      isOwnStore: false,
      compactMs: 15_000,
      newId: () => `${name}-${boot}-${++count}`,
      historyCount: 20,
    };
    const machine = new Leadership(options);
    const campaigns = new Campaigns({ machine, leaseMs: this.leaseMs });
    return [machine, new Shards({ ...options, machine, campaigns })];
  }

  #setTimer(): void {
    const dueMs = this.shards.nextDeadlineMs() / this.#rate;
    if (dueMs === NEVER || dueMs >= this.#timerMs) return;
    this.#timerMs = dueMs;
    this.#sim.world.at(dueMs, () => {
      if (this.#timerMs !== dueMs) return;
      this.#timerMs = NEVER;
      this.input({ kind: "tick" });
    });
  }

  #carryOut(output: ShardOutput): void {
    switch (output.kind) {
      case "transact":
        return this.#sim.transact(this, output);
      case "watch":
        this.watches.set(output.prefix, { position: WATCH_START, isDue: false, silentUntilMs: 0 });
        return this.#sim.report(this, output.prefix);
      case "unwatch":
        this.watches.delete(output.prefix);
        return;
      case "stopped":
        return this.crash(100);
      case "compact":
        return this.#sim.store.compact(output.revision);
      case "ordered":
        return this.#sim.ordered(output);
      case "ownerNews":
        return output.owner(output.news);
      case "campaign":
      case "event":
      case "moved":
      case "planned":
      case "shardsChanged":
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

/** What else happens in a world, and must hold in it. */
export interface WorldGuest {
  /** Called when the world begins, and when it becomes calm. */
  start(): void;
  calm(): void;
  /** Throws `Violation`. */
  check(): void;
  checkCalm(): void;
  /** Called with each committed change. */
  committed(node: LeaderNode, changes: readonly StoreWrite[]): void;
  /** Called for each trouble of the world. */
  trouble(): void;
}

export class LeaderWorld {
  readonly world = new World();
  readonly store = new SharedStore();
  isAway = false;
  /** Requests that wait until the store is back. */
  readonly #waiting: (() => void)[] = [];
  /** The epoch of the backup from which the store was restored. Fences of this epoch prove nothing until the operator raises it. */
  restoredEpoch = 0;
  readonly nodes: readonly LeaderNode[];
  readonly #rng: Rng;
  /** The last holder of a scope, and the greatest fence under which somebody acted. */
  readonly #last = new Map<string, { readonly fence: FenceToken; readonly node: string; readonly greatest: FenceToken }>();
  isTroubled = true;
  holders = 0;
  outages = 0;
  resignations = 0;
  stops = 0;
  restores = 0;
  wipes = 0;
  resets = 0;
  /** In some worlds nothing happens but outages of the store. */
  readonly hasOnlyOutages: boolean;
  /** In some worlds the store is set up again. Processes do not start in them, because one that starts then knows no earlier leader. */
  readonly #hasWipes: boolean;
  /** Share of the requests whose request, or answer, is lost or late. */
  readonly #loss: number;

  readonly trace: string[] | undefined;
  readonly #guest: WorldGuest | undefined;

  constructor(seed: number, trace?: string[], guestOf?: (world: LeaderWorld, rng: Rng) => WorldGuest) {
    this.trace = trace;
    this.#rng = new Rng(`leaders ${seed}`);
    this.hasOnlyOutages = seed % 4 === 0;
    this.#hasWipes = seed % 8 === 2;
    this.#loss = this.hasOnlyOutages || this.#rng.next() < 0.5 ? 0 : this.#rng.next() * 0.15;
    const count = 2 + this.#rng.int(4);
    const leaseMs = this.hasOnlyOutages || this.#hasWipes || this.#rng.next() < 0.5 ? this.#leaseMs() : undefined;
    this.nodes = Array.from({ length: count }, (_, at) => {
      const rng = this.#rng.fork(`n${at}`);
      return new LeaderNode(this, `n${at}`, leaseMs ?? this.#leaseMs(), rng);
    });
    this.#guest = guestOf?.(this, this.#rng.fork("guest"));
  }

  run(): void {
    for (const node of this.nodes) this.world.after(this.#rng.int(STARTED_MS), () => node.start());
    const probe = (): void => {
      this.check();
      this.world.after(PROBE_MS, probe);
    };
    probe();
    this.#guest?.start();
    this.#trouble();
    this.world.runUntil(TROUBLED_MS);
    this.isTroubled = false;
    this.#isBack();
    for (const node of this.nodes) node.isCut = false;
    this.#guest?.calm();
    this.world.runUntil(TROUBLED_MS + CALM_MS);
    for (const scope of SCOPES)
      if (!this.nodes.some((node) => node.fenceOf(scope) !== undefined))
        throw new Violation("somebody leads", `${scope} has no leader after ${CALM_MS} ms of calm`);
    this.#guest?.checkCalm();
  }

  /** At most one node may act for a scope at a time, and each later one has a greater fence. */
  check(): void {
    this.#guest?.check();
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
      if (one !== undefined) this.#checkFence(scope, one);
    }
  }

  #checkFence(scope: string, { node, fence }: { readonly node: string; readonly fence: FenceToken }): void {
    const last = this.#last.get(scope);
    if (last?.node === node && compareFences(last.fence, fence) === 0) return;
    const isLater = last === undefined || compareFences(last.greatest, fence) < 0;
    if (!isLater && fence.storeEpoch > this.restoredEpoch)
      throw new Violation(
        "fences grow",
        `${node} acts for ${scope} under ${fence.storeEpoch}.${fence.number}, after ${last.node} under ${last.greatest.storeEpoch}.${last.greatest.number}`,
      );
    if (last !== undefined && this.hasOnlyOutages)
      throw new Violation(
        "holders stay",
        `${node} acts for ${scope} under ${fence.number} after an outage of the store, ${last.node} before`,
      );
    this.#last.set(scope, { node, fence, greatest: isLater ? fence : last.greatest });
    this.holders += 1;
  }

  transact(node: LeaderNode, { request, conditions, changes }: Extract<LeadershipOutput, { readonly kind: "transact" }>): void {
    const { boot } = node;
    const { restoreCount } = this.store;
    let isAnswered = false;
    const answer = (result: TransactResult | undefined): void => {
      if (isAnswered || node.boot !== boot) return;
      isAnswered = true;
      node.input({ kind: "transacted", request, result });
    };
    // A request that is on its way when the store is restored does not reach the restored store.
    const arrive = (isAnswerLost: boolean): void => {
      if (restoreCount !== this.store.restoreCount) return;
      const result = this.#apply(conditions, changes);
      if (result.isCommitted) this.#guest?.committed(node, changes);
      if (isAnswerLost || node.isCut) return;
      this.world.after(this.delayMs(), () => answer(result));
    };
    this.world.after(Math.min(TIMEOUT_MS, node.leaseMs / 3), () => answer(undefined));
    const isLost = node.losesNext || this.#isLost();
    node.losesNext = false;
    if (node.isCut || isLost) {
      // The request reaches the store late, or never.
      if (node.draw() < 0.5) this.world.after(node.draw() * 4 * node.leaseMs, () => this.isAway || arrive(true));
      return;
    }
    this.world.after(this.delayMs(), () => {
      if (!this.isAway) arrive(this.#isLost());
      // An etcd that elects its own leader does not refuse requests, but delays them.
      else if (node.draw() < 0.5) this.#waiting.push(() => isAnswered || arrive(false));
    });
  }

  #apply(conditions: readonly StoreCondition[], changes: readonly StoreWrite[]): TransactResult {
    const result = this.store.transact(conditions, changes);
    if (result.isCommitted)
      for (const node of this.nodes)
        for (const prefix of node.watches.keys()) if (changes.some(({ key }) => key.startsWith(prefix))) this.report(node, prefix);
    return result;
  }

  /** Brings the changes of a watch to a node, sooner or later, step by step. */
  report(node: LeaderNode, prefix: string, delayMs = this.delayMs()): void {
    const watch = node.watches.get(prefix);
    if (watch === undefined || watch.isDue) return;
    watch.isDue = true;
    this.world.after(delayMs, () => {
      watch.isDue = false;
      if (node.watches.get(prefix) !== watch) return;
      if (this.isAway || node.isCut || this.world.nowMs < watch.silentUntilMs) {
        if (this.isAway || node.isCut) {
          watch.position = WATCH_START;
          node.input({ kind: "changed", prefix, changes: undefined });
        }
        this.report(node, prefix, 200);
        return;
      }
      const found = this.store.read(prefix, watch.position, STEP_CHANGES);
      if (found === undefined) return;
      if (found.step.isReset && watch.position !== WATCH_START) this.resets += 1;
      watch.position = found.position;
      node.input({ kind: "changed", prefix, changes: found.step });
      this.report(node, prefix);
    });
  }

  #isLost(): boolean {
    return this.isTroubled && this.#rng.next() < this.#loss;
  }

  delayMs(): number {
    return this.#rng.next() * (this.isTroubled && !this.hasOnlyOutages && this.#rng.next() < 0.05 ? 800 : 8);
  }

  #trouble(): void {
    if (!this.isTroubled || this.world.nowMs > TROUBLED_MS - 12_000) return;
    const node = this.nodes[this.#rng.int(this.nodes.length)];
    const lengthMs = 200 + this.#rng.next() * 9000;
    switch (this.hasOnlyOutages ? 3 : this.#hasWipes ? (WIPE_TROUBLES[this.#rng.int(WIPE_TROUBLES.length)] ?? 0) : this.#rng.int(11)) {
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
        // Another node reads the epoch late.
        this.#interrupt(this.nodes[this.#rng.int(this.nodes.length)], lengthMs);
        node?.input({ kind: "raiseEpoch", order: 2 });
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
      case 9:
        this.#interrupt(node, lengthMs);
        break;
      case 10:
        this.#restore();
        break;
      case 11:
        this.#wipe();
        break;
    }
    this.#guest?.trouble();
    // A second outage within a lease may cost a holder its scope.
    this.world.after((this.hasOnlyOutages ? lengthMs + 6000 : 0) + this.#rng.next() * 9000, () => this.#trouble());
  }

  #cut(node: LeaderNode | undefined, forMs: number): void {
    if (node === undefined) return;
    node.isCut = true;
    this.world.after(forMs, () => {
      node.isCut = false;
    });
  }

  #outage(forMs: number): void {
    if (this.isAway) return;
    if (this.hasOnlyOutages) this.outages += 1;
    this.isAway = true;
    this.world.after(forMs, () => this.#isBack());
  }

  #isBack(): void {
    this.isAway = false;
    for (const request of this.#waiting.splice(0)) this.world.after(this.delayMs(), request);
  }

  /** Interrupts the watches of a node, while the store forgets the changes that they have not read. */
  #interrupt(node: LeaderNode | undefined, forMs: number): void {
    for (const watch of node?.watches.values() ?? []) if (this.#rng.next() < 0.5) watch.silentUntilMs = this.world.nowMs + forMs;
    this.world.after(forMs, () => this.store.compact(this.store.revision));
  }

  /** Restores the store from a backup, after all sessions have ended, and lets an operator raise its epoch some time later. */
  #restore(): void {
    // Sessions end before the store is back, and the calm time begins after that.
    if (this.store.versionOf(STORE_KEY) === 0 || this.world.nowMs > TROUBLED_MS - 30_000) return;
    const backup = this.store.state;
    // No version is used again after the restore.
    this.store.revision += REVISION_GAP;
    this.world.after(1000 + this.#rng.next() * 10_000, () => {
      if (this.isAway) return;
      this.isAway = true;
      this.world.after(8000, () => {
        this.#replace(backup);
        this.restoredEpoch = decodeStore(this.store.valueOf(STORE_KEY) ?? new Uint8Array())?.epoch ?? 0;
        this.world.after(this.#rng.next() * 5000, () => this.#raise());
      });
    });
  }

  /** Sets the store up again, so quickly that its last leaders still act. Its versions and revisions are used again. */
  #wipe(): void {
    if (this.isAway || this.world.nowMs < STARTED_MS) return;
    this.isAway = true;
    this.wipes += 1;
    this.world.after(50 + this.#rng.next() * 400, () => this.#replace({ revision: 0, changes: new Map() }));
  }

  /** Ends an outage after which the store has another state. All watches start over. */
  #replace(state: StoreState): void {
    this.store.restore(state);
    for (const node of this.nodes)
      for (const [prefix, watch] of node.watches) {
        watch.position = WATCH_START;
        watch.silentUntilMs = 0;
        this.report(node, prefix);
      }
    this.#isBack();
  }

  #raise(): void {
    this.nodes[this.#rng.int(this.nodes.length)]?.input({ kind: "raiseEpoch", order: RAISE_AFTER_RESTORE });
  }

  ordered({ order, refusal }: Extract<LeadershipOutput, { readonly kind: "ordered" }>): void {
    if (order !== RAISE_AFTER_RESTORE) return;
    if (refusal === undefined) this.restores += 1;
    else this.world.after(500, () => this.#raise());
  }

  #leaseMs(): number {
    return LEASES_MS[this.#rng.int(LEASES_MS.length)] ?? LEASES_MS[0];
  }
}

function wordsOf(message: Input | ShardOutput): string {
  if (message.kind === "transact") {
    const conditions = message.conditions.map(({ key, version }) => `${key}@${version}`);
    return `transact ${message.request} if ${conditions.join(" ")}${message.changes[0]?.value === undefined ? " remove" : ""}`;
  }
  if (message.kind === "transacted") return `transacted ${message.request} ${JSON.stringify(message.result)}`;
  if (message.kind !== "changed") return JSON.stringify(message);
  const changes = message.changes?.changes.map(({ key, version, item }) => `${key}@${version}${item ? "" : " removed"}`);
  return `changed ${message.prefix} ${changes?.join(" ") ?? "interrupted"}`;
}

/** Runs one world. Appends what the nodes received and sent to `trace`. */
export function runSeed(seed: number, trace?: string[]): LeaderOutcome {
  const sim = new LeaderWorld(seed, trace);
  let violation: LeaderOutcome["violation"];
  try {
    sim.run();
  } catch (error) {
    if (!(error instanceof Violation)) throw error;
    violation = { invariant: error.invariant, message: error.message };
  }
  const { holders, outages, resignations, stops, restores, wipes, resets } = sim;
  return { violation, holders, outages, resignations, stops, restores, wipes, resets };
}

const EXPLAINED_LINES = 40;

/** The violation of a world, and the last messages of its nodes. */
export function explain(seed: number, { violation }: LeaderOutcome): string {
  const trace: string[] = [];
  runSeed(seed, trace);
  return [`seed ${seed}: ${violation?.invariant}: ${violation?.message}`, ...trace.slice(-EXPLAINED_LINES)].join("\n");
}
