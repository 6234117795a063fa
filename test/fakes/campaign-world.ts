/**
 * Programs that campaign for one scope through nodes that share a store, in virtual time: clocks run up to 4 % fast or slow, messages and requests take
 * time or are lost, and nodes and programs pause. Each grant is checked at the moment at which its program receives it.
 */
import {
  type CampaignAnswer,
  type CampaignGrant,
  type CampaignInput,
  type CampaignSink,
  Campaigns,
} from "../../src/control/leadership/campaigns.ts";
import type { LeadershipInput, LeadershipOutput } from "../../src/control/leadership/io-types.ts";
import { Leadership } from "../../src/control/leadership/machine.ts";
import { SharedStore, WATCH_START } from "./shared-store.ts";

const SCOPE = "custom/orders/cleaner";
export const LEASE_MS = 3000;
const TIMEOUT_MS = 1000;

export interface WorldOptions {
  /** Uniform in [0, 1). */
  readonly random: () => number;
  readonly nodeCount: number;
  readonly programCount: number;
  /** Whether messages and requests are delayed and lost. */
  readonly isRough: boolean;
  /** Whether each node has a store of its own. */
  readonly isOwnStore?: boolean;
}

export class CampaignWorld {
  /** The real time (ms), which no clock shows. */
  nowMs = 0;
  readonly store = new SharedStore();
  readonly nodes: WorldNode[];
  readonly programs: WorldProgram[];
  readonly options: WorldOptions;
  readonly violations: string[] = [];
  highestNumber = 0;
  grantCount = 0;
  /** Whether messages and requests are still delayed and lost. */
  isRough: boolean;
  readonly #tasks: { readonly atMs: number; readonly act: () => void }[] = [];

  constructor(options: WorldOptions) {
    this.options = options;
    this.isRough = options.isRough;
    this.nodes = Array.from({ length: options.nodeCount }, (_, at) => new WorldNode(this, `n${at}`));
    this.programs = Array.from({ length: options.programCount }, (_, at) => new WorldProgram(this, `p${at}`));
    for (const part of [...this.nodes, ...this.programs]) part.begin();
  }

  /** A time from 0 to below `maxMs`, or a tenth of it in a calm world. */
  chance(maxMs: number): number {
    return this.options.random() * (this.isRough ? maxMs : maxMs / 10);
  }

  happens(probability: number): boolean {
    return this.isRough && this.options.random() < probability;
  }

  after(ms: number, act: () => void): void {
    const atMs = this.nowMs + ms;
    const at = this.#tasks.findIndex((task) => task.atMs > atMs);
    this.#tasks.splice(at === -1 ? this.#tasks.length : at, 0, { atMs, act });
  }

  run(ms: number): void {
    const untilMs = this.nowMs + ms;
    for (let task = this.#tasks[0]; task !== undefined && task.atMs <= untilMs; task = this.#tasks[0]) {
      this.#tasks.shift();
      this.nowMs = task.atMs;
      task.act();
    }
    this.nowMs = untilMs;
  }

  get acting(): readonly WorldProgram[] {
    return this.programs.filter((program) => program.isActing);
  }

  granted(program: WorldProgram, number: number): void {
    this.grantCount += 1;
    for (const other of this.acting)
      if (other !== program) this.violations.push(`${this.nowMs}: ${program.name} is granted ${number} while ${other.name} acts`);
    if (number < this.highestNumber) this.violations.push(`${this.nowMs}: ${program.name} has ${number} after ${this.highestNumber}`);
    this.highestNumber = Math.max(this.highestNumber, number);
  }
}

/** A process with a clock of its own, which can pause. */
class WorldProcess {
  readonly world: CampaignWorld;
  readonly name: string;
  readonly #rate: number;
  readonly #startMs: number;
  #pausedUntilMs = 0;

  constructor(world: CampaignWorld, name: string) {
    this.world = world;
    this.name = name;
    this.#rate = 0.96 + world.options.random() * 0.08;
    this.#startMs = world.options.random() * 1e6;
  }

  get clockMs(): number {
    return this.#startMs + this.world.nowMs * this.#rate;
  }

  pause(ms: number): void {
    this.#pausedUntilMs = this.world.nowMs + ms;
  }

  /** Runs `act` after this time by the clock of the process, or later if it is paused. */
  later(clockMs: number, act: () => void): void {
    this.world.after(Math.max(0, clockMs) / this.#rate, () => this.soon(act));
  }

  soon(act: () => void): void {
    const waitMs = this.#pausedUntilMs - this.world.nowMs;
    if (waitMs > 0) this.world.after(waitMs, () => this.soon(act));
    else act();
  }
}

export class WorldNode extends WorldProcess {
  readonly machine: Leadership;
  readonly campaigns: Campaigns;
  readonly #store: SharedStore;
  readonly #watches = new Map<string, { position: typeof WATCH_START }>();
  #timer = {};
  #orders = 0;

  constructor(world: CampaignWorld, name: string) {
    super(world, name);
    const { isOwnStore = false } = world.options;
    let count = 0;
    const newId = () => `${name}-${++count}`;
    this.#store = isOwnStore ? new SharedStore() : world.store;
    this.machine = new Leadership({ nodeId: name, clusterId: "w", boot: "b", leaseMs: LEASE_MS, isOwnStore, compactMs: 0, newId });
    this.campaigns = new Campaigns({ machine: this.machine, leaseMs: LEASE_MS });
  }

  begin(): void {
    this.input({ kind: "eligible", fault: "" });
  }

  resign(): void {
    this.input({ kind: "resign", order: ++this.#orders, scope: SCOPE, reason: "an operator asked for it" });
  }

  input(input: LeadershipInput | CampaignInput): void {
    const out: (LeadershipOutput | CampaignAnswer)[] = [];
    this.campaigns.handle(input, { monoMs: this.clockMs, wallMs: Math.floor(1e12 + this.clockMs) }, out);
    for (const output of out) this.#carryOut(output);
    this.#timer = {};
    const timer = this.#timer;
    const dueMs = this.campaigns.nextDeadlineMs() - this.clockMs;
    if (dueMs < 1e6) this.later(dueMs + 0.01, () => timer === this.#timer && this.input({ kind: "tick" }));
  }

  #carryOut(output: LeadershipOutput | CampaignAnswer): void {
    switch (output.kind) {
      case "transact":
        return this.#transact(output);
      case "watch":
        this.#watches.set(output.prefix, { position: WATCH_START });
        return this.#poll(output.prefix);
      case "unwatch":
        this.#watches.delete(output.prefix);
        return;
      case "campaign":
        output.campaign(output.grant);
        return;
      case "compact":
      case "event":
      case "ordered":
      case "stopped":
    }
  }

  #transact({ request, conditions, changes }: Extract<LeadershipOutput, { readonly kind: "transact" }>): void {
    const { world } = this;
    const [isLost, isUnanswered] = [world.happens(0.05), world.happens(0.05)];
    const answer = (result: ReturnType<SharedStore["transact"]> | undefined) => this.input({ kind: "transacted", request, result });
    if (isLost || isUnanswered) this.later(TIMEOUT_MS, () => answer(undefined));
    if (isLost) return;
    world.after(world.chance(400), () => {
      const result = this.#store.transact(conditions, changes);
      if (!isUnanswered) world.after(world.chance(400), () => this.soon(() => answer(result)));
    });
  }

  #poll(prefix: string): void {
    const watch = this.#watches.get(prefix);
    if (watch === undefined) return;
    const found = this.#store.read(prefix, watch.position);
    if (found !== undefined) {
      watch.position = found.position;
      this.input({ kind: "changed", prefix, changes: found.step });
    }
    this.world.after(20 + this.world.chance(200), () => this.soon(() => watch === this.#watches.get(prefix) && this.#poll(prefix)));
  }
}

interface Connection {
  readonly node: WorldNode;
  readonly campaign: CampaignSink;
  isOpen: boolean;
  /** The real time (ms) before which nothing arrives, because messages of a stream keep their order. */
  arrivesMs: { node: number; program: number };
}

export class WorldProgram extends WorldProcess {
  #connection: Connection | undefined;
  #untilMs = Number.NEGATIVE_INFINITY;
  /** The number of the last fence. */
  number = 0;

  /** Whether the program acts as the leader, by its own clock. */
  get isActing(): boolean {
    return this.clockMs < this.#untilMs;
  }

  begin(): void {
    this.later(this.world.chance(3000), () => this.#connect());
  }

  /** Stops acting, and ends the campaign. */
  resign(): void {
    const connection = this.#connection;
    if (connection === undefined || !connection.isOpen) return;
    this.#untilMs = Number.NEGATIVE_INFINITY;
    // The program ignores answers that are on their way.
    this.#connection = undefined;
    const { number } = this;
    this.#send(connection, () => {
      connection.node.input({ kind: "retired", scope: SCOPE, number });
      connection.node.input({ kind: "ended", campaign: connection.campaign });
    });
    this.#reconnect(undefined);
  }

  /** The stream breaks. Messages on their way are lost, and the node notices it later. */
  breakStream(): void {
    const connection = this.#connection;
    if (connection === undefined || !connection.isOpen) return;
    const { node, campaign } = connection;
    this.world.after(this.world.chance(2000), () => node.soon(() => node.input({ kind: "ended", campaign })));
    connection.isOpen = false;
    this.#reconnect(connection);
  }

  #reconnect(connection: Connection | undefined): void {
    this.later(this.world.chance(1000), () => this.#connection === connection && this.#connect());
  }

  #connect(): void {
    const { nodes } = this.world;
    const node = nodes[Math.floor(this.world.options.random() * nodes.length)];
    if (node === undefined) return;
    let sentMs = 0;
    const campaign: CampaignSink = (grant) => {
      const echoedMs = sentMs;
      this.#arrive(connection, "program", () => this.soon(() => connection.isOpen && this.#take(connection, grant, echoedMs)));
    };
    const connection: Connection = { node, campaign, isOpen: true, arrivesMs: { node: 0, program: 0 } };
    this.#connection = connection;
    this.#beat(connection, (atMs) => {
      sentMs = atMs;
    });
  }

  #beat(connection: Connection, onSent: (sentMs: number) => void): void {
    if (!connection.isOpen || this.#connection !== connection) return;
    const sentMs = Math.floor(this.clockMs);
    this.#send(connection, () => {
      onSent(sentMs);
      connection.node.input({ kind: "heartbeat", campaign: connection.campaign, scope: SCOPE, holderId: this.name });
    });
    this.later(LEASE_MS / 3, () => this.#beat(connection, onSent));
  }

  #send(connection: Connection, act: () => void): void {
    this.#arrive(connection, "node", () => connection.node.soon(() => connection.isOpen && act()));
  }

  #arrive({ arrivesMs }: Connection, to: "node" | "program", act: () => void): void {
    const { world } = this;
    arrivesMs[to] = Math.max(arrivesMs[to], world.nowMs + world.chance(600));
    world.after(arrivesMs[to] - world.nowMs, act);
  }

  #take(connection: Connection, grant: CampaignGrant | undefined, sentMs: number): void {
    if (this.#connection !== connection) return;
    if (grant === undefined) this.#untilMs = Number.NEGATIVE_INFINITY;
    else {
      this.#untilMs = sentMs + grant.validForMs;
      this.number = grant.leader.fence.number;
      if (this.isActing) this.world.granted(this, this.number);
    }
  }
}
