/**
 * Owners of shards in the worlds of leaders: programs that attach to nodes through streams that are slow and break. Programs pause, crash, leave, and
 * finish their work late or never.
 */
import { decodeLeader, LEADERS } from "../../src/control/leadership/records.ts";
import { GLOBAL_SCOPE } from "../../src/control/leadership/scope.ts";
import type { OwnerNews, OwnerSink } from "../../src/control/shards/io-types.ts";
import { decodeChange, OWNERS, rowKey, SHARD_HISTORY, SHARD_SETS, type ShardSettings } from "../../src/control/shards/records.ts";
import { compareFences, type FenceToken } from "../../src/lib/fence.ts";
import type { Rng } from "../../src/lib/rng.ts";
import type { StoreWrite } from "../../src/store/control/store.ts";
import { type LeaderNode, type LeaderOutcome, LeaderWorld, Violation, type WorldGuest } from "./leaders.ts";

const NAMESPACE = "orders";
const SETTINGS: ShardSettings = {
  count: 12,
  strategy: "rendezvous",
  service: "orders",
  approval: "none",
  onStoreLoss: "stop",
  maxParallelMoves: 3,
  cooldownMs: 2000,
  prepareMs: 1500,
  drainMs: 2500,
  maxDepth: 0,
  maxLatencyMs: 0,
  maxErrorRatio: 0,
  overloadMs: 3000,
};
const OPERATOR = "operator";
const OWNERS_IN_WORLD = 4;
const ROWS = rowKey(NAMESPACE, 0).slice(0, -1);

export interface ShardOutcome extends LeaderOutcome {
  /** Number of times that a program began to act for a shard. */
  readonly owned: number;
  /** Number of hand-overs in which the earlier owner drained. */
  readonly drained: number;
  readonly changes: number;
}

/** A shard as its owner knows it. */
interface Part {
  state: "draining" | "owned" | "paused" | "preparing";
  readonly fence: FenceToken | undefined;
}

class SimOwner {
  readonly instance: string;
  readonly #fleet: ShardFleet;
  readonly #rng: Rng;
  readonly #rate: number;
  readonly #parts = new Map<number, Part>();
  readonly #prepared = new Set<number>();
  readonly #dropped = new Set<number>();
  /** The fences that ended on this stream. */
  readonly #endedHere = new Set<string>();
  #stream: { readonly node: LeaderNode; readonly boot: number; readonly sink: OwnerSink; sentMs: number; heardMs: number } | undefined;
  #untilMs = 0;
  #partsOf: object | undefined;
  #pausedUntilMs = 0;
  #isUp = true;
  #isLeaving = false;
  /** Whether the program was ever about to leave. */
  hasLeft = false;
  /** Distinguishes the lives of the program. */
  #life = 0;

  constructor(fleet: ShardFleet, instance: string, rng: Rng) {
    this.#fleet = fleet;
    this.instance = instance;
    this.#rng = rng;
    this.#rate = 0.96 + rng.next() * 0.08;
  }

  get isLeaving(): boolean {
    return this.#isLeaving;
  }

  set isLeaving(isLeaving: boolean) {
    this.#isLeaving = isLeaving;
    this.hasLeft ||= isLeaving;
  }

  get #nowMs(): number {
    return this.#fleet.sim.world.nowMs * this.#rate;
  }

  get #isPaused(): boolean {
    return this.#fleet.sim.world.nowMs < this.#pausedUntilMs;
  }

  /** The fences under which the program acts, by shard. */
  *acting(): Generator<readonly [number, FenceToken]> {
    if (!this.#isUp || this.#isPaused || this.#nowMs >= this.#untilMs) return;
    for (const [id, { state, fence }] of this.#parts) if (state !== "preparing" && fence !== undefined) yield [id, fence];
  }

  start(): void {
    const life = ++this.#life;
    this.#isUp = true;
    const beat = (): void => {
      if (life !== this.#life) return;
      if (!this.#isPaused) this.#beat();
      this.#fleet.sim.world.after(this.#fleet.leaseMs / 3 / this.#rate, beat);
    };
    beat();
  }

  crash(downMs: number): void {
    if (!this.#isUp) return;
    this.#isUp = false;
    this.isLeaving = false;
    this.#life += 1;
    this.#break();
    this.#endAll();
    this.#fleet.sim.world.after(downMs, () => this.start());
  }

  pause(forMs: number): void {
    this.#pausedUntilMs = this.#fleet.sim.world.nowMs + forMs;
  }

  /** The connection breaks. The node notices it later. */
  #break(): void {
    const stream = this.#stream;
    this.#stream = undefined;
    if (stream === undefined) return;
    this.#fleet.sim.world.after(this.#fleet.sim.delayMs(), () => {
      if (stream.node.boot === stream.boot) stream.node.input({ kind: "ownerEnded", owner: stream.sink, hasStopped: false });
    });
  }

  breakStream(): void {
    this.#break();
  }

  #beat(): void {
    const stream = this.#stream;
    if (stream !== undefined && (stream.node.boot !== stream.boot || this.#nowMs > stream.heardMs + this.#fleet.leaseMs)) this.#break();
    if (this.#stream === undefined) this.#attach();
    else this.#send();
  }

  #attach(): void {
    const { sim } = this.#fleet;
    const node = sim.nodes[this.#rng.int(sim.nodes.length)];
    if (node === undefined || !node.isUp) return;
    // A program that has lost its stream keeps its shards until their validity is over. The new stream tells it all states again.
    this.#prepared.clear();
    this.#dropped.clear();
    const life = this.#life;
    let order = 0;
    // A paused program reads its messages later, in their order.
    const unread: (() => void)[] = [];
    const read = (): void => {
      if (this.#stream !== stream || life !== this.#life) return;
      if (this.#isPaused) sim.world.at(this.#pausedUntilMs, read);
      else unread.shift()?.();
    };
    const sink: OwnerSink = (news) => {
      const echoMs = stream.sentMs;
      order = Math.max(order, sim.world.nowMs + sim.delayMs());
      sim.world.at(order, () => {
        unread.push(() => this.#heard(news, echoMs));
        read();
      });
    };
    const stream = { node, boot: node.boot, sink, sentMs: 0, heardMs: this.#nowMs };
    this.#stream = stream;
    this.#send();
  }

  #arriveMs = 0;

  #send(): void {
    const stream = this.#stream;
    if (stream === undefined) return;
    const { sim } = this.#fleet;
    const [prepared, dropped, sentMs] = [[...this.#prepared], [...this.#dropped], Math.floor(this.#nowMs)];
    this.#prepared.clear();
    this.#dropped.clear();
    const facts = {
      isLeaving: this.isLeaving,
      health: "healthy" as const,
      principal: this.instance,
      region: "r",
      zone: "z",
      slots: 0,
      target: `${this.instance}:1`,
      weight: 1,
    };
    this.#arriveMs = Math.max(this.#arriveMs, sim.world.nowMs + sim.delayMs());
    sim.world.at(this.#arriveMs, () => {
      const deliver = (): void => {
        if (stream.node.boot !== stream.boot || !stream.node.isUp) return;
        if (stream.node.isPaused) {
          sim.world.at(stream.node.pausedUntilMs + 1, deliver);
          return;
        }
        stream.sentMs = sentMs;
        stream.node.input({
          kind: "owner",
          owner: stream.sink,
          namespace: NAMESPACE,
          instance: this.instance,
          facts,
          prepared,
          dropped,
          reports: [],
        });
      };
      deliver();
    });
  }

  #heard({ validForMs, shards }: OwnerNews, sentMs: number): void {
    if (this.#stream !== undefined) this.#stream.heardMs = this.#nowMs;
    // The shards of an earlier stream end with their validity, which a later stream does not extend.
    if (this.#partsOf !== this.#stream && validForMs > 0) {
      this.#partsOf = this.#stream;
      this.#endAll();
    } else if (this.#nowMs >= this.#untilMs) this.#lapse();
    for (const { id, state, fence } of shards) {
      if (state === "lost" || state === "released") {
        const part = this.#parts.get(id);
        this.#end(id);
        if (state === "lost" && part !== undefined) this.#report(this.#dropped, id, 0);
        continue;
      }
      // A fence that ended on an earlier stream must not come again, and `check` finds it.
      if (fence !== undefined && this.#endedHere.has(fenceOf(id, fence))) {
        this.#report(this.#dropped, id, 0);
        continue;
      }
      const isNew = this.#parts.get(id)?.fence?.number !== fence?.number;
      if (isNew && state === "owned") this.#fleet.owned += 1;
      this.#parts.set(id, { state, fence });
      // Some programs are never ready, or never finish.
      const workMs = this.#rng.next() < 0.1 ? 20_000 : this.#rng.next() * 600;
      if (state === "preparing") this.#report(this.#prepared, id, workMs);
      if (state === "draining") this.#drain(id, fence, workMs);
    }
    if (validForMs > 0) this.#untilMs = Math.max(this.#untilMs, sentMs + validForMs);
    this.#fleet.sim.check();
  }

  /** The shards whose validity is over end, and the program reports them. */
  #lapse(): void {
    for (const [id, { state }] of this.#parts) {
      if (state === "preparing") continue;
      this.#end(id);
      this.#report(this.#dropped, id, 0);
    }
  }

  #endAll(): void {
    for (const id of this.#parts.keys()) this.#end(id);
    this.#endedHere.clear();
    this.#untilMs = 0;
  }

  /** The program never acts for the shard under this fence again. */
  #end(id: number): void {
    const { fence } = this.#parts.get(id) ?? {};
    if (fence !== undefined) {
      this.#fleet.ended.add(fenceOf(id, fence));
      this.#endedHere.add(fenceOf(id, fence));
    }
    this.#parts.delete(id);
  }

  #report(list: Set<number>, id: number, afterMs: number): void {
    const stream = this.#stream;
    this.#fleet.sim.world.after(afterMs, () => {
      if (stream !== this.#stream || this.#isPaused) return;
      list.add(id);
      this.#send();
    });
  }

  #drain(id: number, fence: FenceToken | undefined, workMs: number): void {
    const life = this.#life;
    this.#fleet.sim.world.after(workMs, () => {
      const part = this.#parts.get(id);
      if (life !== this.#life || this.#isPaused || part?.state !== "draining" || part.fence?.number !== fence?.number) return;
      this.#end(id);
      this.#fleet.drained += 1;
      this.#report(this.#dropped, id, 0);
    });
  }
}

class ShardFleet implements WorldGuest {
  readonly sim: LeaderWorld;
  readonly #rng: Rng;
  readonly owners: readonly SimOwner[];
  owned = 0;
  drained = 0;
  changes = 0;
  /** The fences under which no program acts any more. */
  readonly ended = new Set<string>();
  #controllerFence: FenceToken | undefined;

  constructor(sim: LeaderWorld, rng: Rng) {
    this.sim = sim;
    this.#rng = rng;
    this.owners = Array.from({ length: OWNERS_IN_WORLD }, (_, at) => new SimOwner(this, `o${at}`, rng.fork(`o${at}`)));
  }

  get leaseMs(): number {
    return Math.min(...this.sim.nodes.map(({ leaseMs }) => leaseMs));
  }

  start(): void {
    for (const owner of this.owners) this.sim.world.after(this.#rng.int(4000), () => owner.start());
    this.#apply();
  }

  /** The operator applies the set until the store has it, also after the store was set up again. */
  #apply(): void {
    const change = {
      kind: "apply",
      settings: SETTINGS,
      namespace: NAMESPACE,
      expectedEpoch: 0,
      actor: OPERATOR,
      reason: "",
      ticket: "",
    } as const;
    if (this.sim.store.versionOf(SHARD_SETS + NAMESPACE) === 0)
      this.sim.nodes[this.#rng.int(this.sim.nodes.length)]?.input({ kind: "changeShards", order: 10, change });
    this.sim.world.after(1000, () => this.#apply());
  }

  calm(): void {
    for (const owner of this.owners) owner.isLeaving = false;
    // An order that failed is repeated.
    this.#enabled.forEach((enable, at) => {
      for (let round = 0; round < 3; round++) this.sim.world.after(round * 4000 + at * 300, enable);
    });
  }

  trouble(): void {
    const owner = this.owners[this.#rng.int(this.owners.length)];
    const lengthMs = 200 + this.#rng.next() * 6000;
    switch (this.#rng.int(6)) {
      case 0:
        owner?.crash(lengthMs);
        break;
      case 1:
        owner?.pause(lengthMs);
        break;
      case 2:
        owner?.breakStream();
        break;
      case 3:
        if (owner !== undefined) owner.isLeaving = !owner.isLeaving;
        break;
      case 4:
        this.#disable(this.#rng.int(SETTINGS.count), lengthMs / 4);
        break;
    }
  }

  /** Operators disable a shard for some time. */
  #disable(id: number, forMs: number): void {
    const { sim } = this;
    const set = (mode: "active" | "disabled", node = sim.nodes[this.#rng.int(sim.nodes.length)]): void => {
      const shard = { id, mode, weight: undefined, hint: undefined, expectedEpoch: undefined };
      node?.input({
        kind: "changeShards",
        order: 11,
        change: { kind: "setShard", namespace: NAMESPACE, actor: OPERATOR, reason: "", ticket: "", ...shard },
      });
    };
    set("disabled");
    sim.world.after(forMs, () => set("active"));
    this.#enabled.push(() => set("active"));
  }

  readonly #enabled: (() => void)[] = [];

  /**
   * Operators disable and enable a shard that has just been assigned, while its node and the controller see no news, and the node possibly tries again
   * to list the shard.
   */
  #flip(controller: LeaderNode, rows: readonly StoreWrite[]): void {
    const { world } = this.sim;
    const { key = "", value = new Uint8Array() } = rows[this.#rng.int(rows.length)] ?? {};
    const { nodeId, session, shard } = decodeLeader(value, 0) ?? {};
    const node = this.sim.nodes.find(({ name }) => name === nodeId);
    if (!this.sim.isTroubled || node === undefined || session === "" || shard?.next !== "" || this.#rng.next() > 0.1) return;
    node.losesNext = this.#rng.next() < 0.5 && !this.sim.hasOnlyOutages;
    const silence = (of: LeaderNode, prefix: string): void => {
      const watch = of.watches.get(prefix);
      if (watch !== undefined) watch.silentUntilMs = world.nowMs + 3000;
    };
    silence(controller, OWNERS);
    world.after(15, () => silence(node, LEADERS));
    world.after(30, () => this.#disable(Number(key.slice(ROWS.length)), 20 + this.#rng.next() * 400));
  }

  check(): void {
    const acting = new Map<number, { readonly instance: string; readonly fence: FenceToken }>();
    for (const { instance, ...owner } of this.owners.map((each) => ({ instance: each.instance, acting: [...each.acting()] })))
      for (const [id, fence] of owner.acting) {
        const other = acting.get(id);
        if (other !== undefined)
          throw new Violation(
            "one owner",
            `${instance} and ${other.instance} act for ${id} at ${this.sim.world.nowMs} ms, under ${fence.number} and ${other.fence.number}`,
          );
        if (fence.storeEpoch > this.sim.restoredEpoch && this.ended.has(fenceOf(id, fence)))
          throw new Violation("a fence is not used again", `${instance} acts for ${id} under ${fence.number} again`);
        acting.set(id, { instance, fence });
      }
  }

  checkCalm(): void {
    const acting = new Set(this.owners.flatMap((owner) => [...owner.acting()].map(([id]) => id)));
    for (let id = 0; id < SETTINGS.count; id++)
      if (!acting.has(id)) throw new Violation("every shard is owned", `shard ${id} has no owner that acts after the calm`);
  }

  /** The fence of the controller that makes a change never falls. Changes of operators are not the controller's. */
  committed(node: LeaderNode, changes: readonly StoreWrite[]): void {
    const rows = changes.filter(({ key }) => key.startsWith(ROWS));
    if (rows.length === 0) return;
    this.changes += 1;
    for (const { key, value } of rows) this.#checkMove(key, value ?? new Uint8Array());
    this.#flip(node, rows);
    const history = changes.find(({ key, value }) => key.startsWith(SHARD_HISTORY) && value !== undefined);
    if (decodeChange(history?.value ?? new Uint8Array())?.actor === OPERATOR) return;
    const key = LEADERS + GLOBAL_SCOPE;
    const lease = decodeLeader(this.sim.store.valueOf(key) ?? new Uint8Array(), this.sim.store.versionOf(key));
    if (lease === undefined || lease.nodeId !== node.name)
      throw new Violation("the controller leads", `${node.name} changed rows, and ${lease?.nodeId} leads`);
    if (
      lease.fence.storeEpoch > this.sim.restoredEpoch &&
      this.#controllerFence !== undefined &&
      compareFences(lease.fence, this.#controllerFence) < 0
    )
      throw new Violation(
        "the fence of the controller never falls",
        `${node.name} changed rows under ${JSON.stringify(lease)} after ${JSON.stringify(this.#controllerFence)}`,
      );
    this.#controllerFence = lease.fence;
  }

  /** A shard rests after a move, unless its owner leaves or ends. */
  #checkMove(key: string, value: Uint8Array): void {
    const { shard, holderId } = decodeLeader(value, 0) ?? {};
    const isLeaving = this.owners.some(({ instance, hasLeft }) => instance === holderId && hasLeft);
    if (
      shard === undefined ||
      shard.next === "" ||
      shard.isDraining ||
      isLeaving ||
      shard.changedWallMs >= shard.movedWallMs + SETTINGS.cooldownMs
    )
      return;
    throw new Violation("a shard rests after a move", `${key} moves ${shard.changedWallMs - shard.movedWallMs} ms after its last move`);
  }
}

function fenceOf(id: number, { storeEpoch, number }: FenceToken): string {
  return `${id} ${storeEpoch}.${number}`;
}

/** The violation of a world, and the last messages of its nodes. */
export function explain(seed: number, { violation }: ShardOutcome): string {
  const trace: string[] = [];
  runSeed(seed, trace);
  return [`seed ${seed}: ${violation?.invariant}: ${violation?.message}`, ...trace.slice(-40)].join("\n");
}

/** Runs one world. Appends what the nodes received and sent to `trace`. */
export function runSeed(seed: number, trace?: string[]): ShardOutcome {
  let fleet: ShardFleet | undefined;
  const sim = new LeaderWorld(seed, trace, (world, rng) => (fleet = new ShardFleet(world, rng)));
  let violation: LeaderOutcome["violation"];
  try {
    sim.run();
  } catch (error) {
    if (!(error instanceof Violation)) throw error;
    violation = { invariant: error.invariant, message: error.message };
  }
  const { holders, outages, resignations, stops, restores, wipes, resets } = sim;
  const { owned = 0, drained = 0, changes = 0 } = fleet ?? {};
  return { violation, holders, outages, resignations, stops, restores, wipes, resets, owned, drained, changes };
}
