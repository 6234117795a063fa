/**
 * Leadership machines with a store that they share, in virtual time. Requests and watches take no time, unless a test loses or delays them.
 * Every tick must move the machine's deadline.
 */
import type { LeadershipEvent, LeadershipOutput, OrderRefusal } from "../../src/control/leadership/io-types.ts";
import { Leadership, type LeadershipOptions } from "../../src/control/leadership/machine.ts";
import { decodeLeader, LEADERS, type LeaderRecord, SESSIONS } from "../../src/control/leadership/records.ts";
import type { ControlInput, ControlOutput } from "../../src/control/peers/peers.ts";
import { assert } from "../../src/lib/errors.ts";
import type { FenceToken } from "../../src/lib/fence.ts";
import type { Machine, Time } from "../../src/lib/machine.ts";
import { SharedStore, WATCH_START, type WatchPosition } from "./shared-store.ts";

export const LEASE_MS = 3000;
export const WALL_MS = 1_760_000_000_000;

/** The machine that receives the inputs of a node. */
export type LabMachine = Machine<ControlInput, ControlOutput>;
export type Transaction = Extract<LeadershipOutput, { readonly kind: "transact" }>;
/** Done; not done and not answered; done and not answered; done and answered later, by `arrive`; done later and not answered. */
export type Fate = "done" | "lost" | "unanswered" | "held" | "late";

export class LeaderLab {
  nowMs = 1000;
  /** Time (ms) that the wall clocks of all nodes are ahead. */
  wallAheadMs = 0;
  readonly store = new SharedStore();
  readonly nodes: LabNode[] = [];
  readonly #tasks: (() => void)[] = [];
  #isRunning = false;

  /** A process that is ready and stands for the scopes. */
  node(nodeId: string, scopes: readonly string[], options: Partial<LeadershipOptions> = {}): LabNode {
    return this.add(new LabNode(this, nodeId, options), scopes);
  }

  protected add<N extends LabNode>(node: N, scopes: readonly string[]): N {
    this.nodes.push(node);
    node.input({ kind: "eligible", fault: "" });
    for (const scope of scopes) node.input({ kind: "stand", scope, holderId: node.nodeId });
    return node;
  }

  advance(byMs: number): void {
    const untilMs = this.nowMs + byMs;
    for (;;) {
      const due = this.nodes.toSorted((a, b) => a.dueMs - b.dueMs)[0];
      if (due === undefined || due.dueMs > untilMs) break;
      assert(due.dueMs > due.tickMs, "a tick left its deadline in the past", { deadline: due.dueMs });
      this.nowMs = Math.max(this.nowMs, due.dueMs);
      due.tick();
    }
    this.nowMs = untilMs;
  }

  run(task: () => void): void {
    this.#tasks.push(task);
    if (this.#isRunning) return;
    this.#isRunning = true;
    try {
      for (let next = this.#tasks.shift(); next !== undefined; next = this.#tasks.shift()) next();
    } finally {
      this.#isRunning = false;
    }
  }

  /** A change by another program. */
  put(key: string, value: string | undefined): void {
    this.store.put(key, value === undefined ? undefined : new TextEncoder().encode(value));
    this.report();
  }

  /** Sets the store up again, without its items. Each watch that is not deaf starts over. */
  wipe(): void {
    this.store.restore({ revision: 0, changes: new Map() });
    this.restart();
  }

  /** Lets each watch that is not deaf start over, as after a broken stream. */
  restart(): void {
    for (const node of this.nodes) for (const prefix of node.watches.keys()) node.watches.set(prefix, WATCH_START);
    this.report();
  }

  /** Brings what is new in the store to all watches. */
  report(): void {
    for (const node of this.nodes) node.report();
  }

  leader(scope: string): LeaderRecord {
    const record = decodeLeader(this.store.valueOf(LEADERS + scope) ?? new Uint8Array(), this.store.versionOf(LEADERS + scope));
    if (record === undefined) throw new Error(`${scope} has no readable record`);
    return record;
  }

  /** Names of the sessions in the store. */
  get sessions(): readonly string[] {
    return this.store.keys(SESSIONS).map((key) => key.slice(SESSIONS.length));
  }
}

export class LabNode {
  readonly lab: LeaderLab;
  readonly nodeId: string;
  readonly machine: Leadership;
  readonly #top: LabMachine;
  readonly events: LeadershipEvent[] = [];
  readonly refusals: (OrderRefusal | undefined)[] = [];
  readonly compacted: number[] = [];
  readonly sent: Transaction[] = [];
  stoppedCount = 0;
  tickMs = Number.NEGATIVE_INFINITY;
  /** A process that has crashed neither runs nor hears anything. */
  isCrashed = false;
  fateOf: (request: Transaction) => Fate = () => "done";
  /** The watches with these prefixes report nothing for now. */
  readonly deafTo = new Set<string>();
  readonly watches = new Map<string, WatchPosition>();
  readonly #held: (() => void)[] = [];

  /** `wrap` returns the machine in front of the leadership machine. */
  constructor(
    lab: LeaderLab,
    nodeId: string,
    options: Partial<LeadershipOptions>,
    wrap: (machine: Leadership) => LabMachine = (machine) => machine,
  ) {
    this.lab = lab;
    this.nodeId = nodeId;
    let count = 0;
    this.machine = new Leadership({
      nodeId,
      clusterId: "lab",
      boot: "b1",
      leaseMs: LEASE_MS,
      isOwnStore: false,
      compactMs: 0,
      newId: () => `${nodeId}-${++count}`,
      ...options,
    });
    this.#top = wrap(this.machine);
  }

  get time(): Time {
    return { monoMs: this.lab.nowMs, wallMs: WALL_MS + this.lab.nowMs + this.lab.wallAheadMs };
  }

  get dueMs(): number {
    return this.isCrashed ? Number.POSITIVE_INFINITY : this.#top.nextDeadlineMs();
  }

  tick(): void {
    this.tickMs = this.lab.nowMs;
    this.input({ kind: "tick" });
  }

  input(input: ControlInput): void {
    this.lab.run(() => {
      if (this.isCrashed) return;
      const out: ControlOutput[] = [];
      this.#top.handle(input, this.time, out);
      for (const output of out) this.#carryOut(output);
    });
  }

  /** The number of the fence that this node has for a scope. Undefined if it may not act. */
  number(scope: string): number | undefined {
    return this.isCrashed ? undefined : this.machine.held(scope, this.time)?.leader.fence.number;
  }

  /** The fence that this node has for a scope that it holds. */
  fence(scope: string): FenceToken {
    const held = this.machine.held(scope, this.time);
    if (held === undefined) throw new Error(`the node does not hold ${scope}`);
    return held.leader.fence;
  }

  holds(scope: string): boolean {
    return !this.isCrashed && this.machine.heldScopes(this.time).includes(scope);
  }

  get isHolding(): boolean {
    return this.#held.length > 0;
  }

  /** Carries out the requests that are held or late. */
  arrive(): void {
    for (const task of this.#held.splice(0)) this.lab.run(task);
  }

  report(): void {
    for (const prefix of this.watches.keys()) this.lab.run(() => this.#report(prefix));
  }

  #report(prefix: string): void {
    const position = this.watches.get(prefix);
    if (position === undefined || this.deafTo.has(prefix)) return;
    const found = this.lab.store.read(prefix, position, 2);
    if (found === undefined) return;
    this.watches.set(prefix, found.position);
    this.input({ kind: "changed", prefix, changes: found.step });
    this.lab.run(() => this.#report(prefix));
  }

  #carryOut(output: ControlOutput): void {
    switch (output.kind) {
      case "transact":
        this.sent.push(output);
        return this.lab.run(() => this.#transact(output));
      case "watch":
        assert(!this.watches.has(output.prefix), "a prefix is watched twice", { prefix: output.prefix });
        this.watches.set(output.prefix, WATCH_START);
        return this.lab.run(() => this.#report(output.prefix));
      case "unwatch":
        assert(this.watches.delete(output.prefix), "a prefix was not watched", { prefix: output.prefix });
        return;
      case "compact":
        this.compacted.push(output.revision);
        return;
      case "ordered":
        this.refusals.push(output.refusal);
        return;
      case "event":
        this.events.push(output.event);
        return;
      case "ownerNews":
        return this.lab.run(() => output.owner(output.news));
      case "stopped":
        this.stoppedCount += 1;
        return;
      case "campaign":
      case "moved":
      case "peerChanged":
      case "planned":
      case "shardsChanged":
        return;
    }
  }

  #transact(sent: Transaction): void {
    const fate = this.fateOf(sent);
    const { request, conditions, changes } = sent;
    const apply = () => {
      const result = this.lab.store.transact(conditions, changes);
      this.lab.report();
      return result;
    };
    const done = (): void => {
      // The answer comes before the watches report.
      const result = this.lab.store.transact(conditions, changes);
      this.input({ kind: "transacted", request, result });
      this.lab.run(() => this.lab.report());
    };
    if (fate === "done") return done();
    if (fate === "held") {
      this.#held.push(done);
      return;
    }
    if (fate === "late") this.#held.push(apply);
    if (fate === "unanswered") apply();
    this.input({ kind: "transacted", request, result: undefined });
  }
}
