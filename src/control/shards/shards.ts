/** The shards of a node, in front of its leadership: its maps, its attached owners, the controller, and the orders of operators. */
import { type Machine, NEVER, type Time } from "../../lib/machine.ts";
import type { CampaignAnswer, CampaignInput, Campaigns } from "../leadership/campaigns.ts";
import type { LeadershipInput, LeadershipOutput, OrderId, OrderRefusal } from "../leadership/io-types.ts";
import { LEADERS, SESSIONS, STORE_KEY } from "../leadership/records.ts";
import { type ControllerOptions, ShardController } from "./controller.ts";
import type { ShardInput, ShardOrder, ShardOutput } from "./io-types.ts";
import { type ShardMap, ShardMaps, type ShardPlans } from "./maps.ts";
import { orderedChange } from "./orders.ts";
import { Owners } from "./owners.ts";
import { liveOwners } from "./rebalancing.ts";
import { OWNERS, PLANS, SHARD_SETS } from "./records.ts";

export interface ShardsOptions extends Omit<ControllerOptions, "maps"> {
  readonly campaigns: Campaigns;
}

type Input = LeadershipInput | CampaignInput | ShardInput;
type Output = ShardOutput;

/** A change of an operator for any epoch that was refused, because another change came first. It is made again when the map shows that change. */
interface Refused {
  readonly order: OrderId;
  readonly change: ShardOrder;
  readonly map: ShardMap | undefined;
  readonly plans: ShardPlans;
  /** Monotonic time (ms) at which the order is refused in any case. */
  readonly untilMs: number;
}

/** A change of an operator that is committed, and that the maps do not show yet. */
interface Committed {
  readonly order: OrderId;
  readonly isShown: () => boolean;
  /** Monotonic time (ms) at which the order is answered in any case. */
  readonly untilMs: number;
}

export class Shards implements Machine<Input, Output> {
  readonly maps: ShardMaps;
  readonly #options: ShardsOptions;
  readonly #owners: Owners;
  readonly #controller: ShardController;
  #committed: readonly Committed[] = [];
  #refused: readonly Refused[] = [];
  #usesSession = false;
  #isStarted = false;

  constructor(options: ShardsOptions) {
    this.#options = options;
    this.maps = new ShardMaps(options.machine.leaderItems);
    const parts = { ...options, maps: this.maps };
    this.#owners = new Owners(parts);
    this.#controller = new ShardController(parts);
  }

  get ownerCount(): number {
    return this.#owners.size;
  }

  handle(input: Input, time: Time, out: Output[]): void {
    if (!this.#isStarted) for (const prefix of [SHARD_SETS, OWNERS, PLANS]) out.push({ kind: "watch", prefix });
    this.#isStarted = true;
    let touched: ReadonlySet<string> = new Set<string>();
    if (input.kind === "owner" || input.kind === "ownerEnded") this.#owners.take(input, time, out);
    else if (input.kind === "changeShards") this.#change(input.order, input.change, time, out);
    else {
      if (input.kind === "stop") this.#owners.stop(time);
      this.#pass(input, time, out);
      if (input.kind === "changed") touched = this.#changed(input, time, out);
    }
    this.#controller.look(touched, time, out);
    this.#owners.look(touched, time, out);
    out.push(...this.#controller.takeMoved());
    this.#answerOrders(time, out);
    this.#repeatOrders(time, out);
    const usesSession = this.ownerCount > 0;
    if (usesSession === this.#usesSession) return;
    this.#usesSession = usesSession;
    this.#pass({ kind: "useSession", isUsed: usesSession }, time, out);
  }

  #pass(input: LeadershipInput | CampaignInput, time: Time, out: Output[]): void {
    const made: (LeadershipOutput | CampaignAnswer)[] = [];
    this.#options.campaigns.handle(input, time, made);
    out.push(...made);
  }

  nextDeadlineMs(): number {
    const committedMs = [...this.#committed, ...this.#refused].reduce((next, { untilMs }) => Math.min(next, untilMs), NEVER);
    const parts = [this.#options.campaigns, this.#owners, this.#controller];
    return Math.min(committedMs, ...parts.map((part) => part.nextDeadlineMs()));
  }

  /** Returns the namespaces that a step of a watch concerns. */
  #changed({ prefix, changes }: Extract<Input, { readonly kind: "changed" }>, { monoMs }: Time, out: Output[]): ReadonlySet<string> {
    if (changes === undefined) return new Set();
    const touched = this.maps.take(prefix, changes, monoMs);
    for (const namespace of touched) out.push({ kind: "shardsChanged", namespace });
    if (prefix === LEADERS || prefix === SHARD_SETS || prefix === OWNERS || prefix === PLANS) return touched;
    const hasEnded = changes.isReset || changes.changes.some(({ item }) => item === undefined);
    const concernsAll = prefix === STORE_KEY || (prefix.startsWith(SESSIONS) && hasEnded);
    return concernsAll ? new Set(this.maps.namespaces) : touched;
  }

  /** Makes an operator's change, on the condition of the records that this node knows. */
  #change(order: OrderId, change: ShardOrder, time: Time, out: Output[], untilMs = time.monoMs + this.#options.leaseMs): void {
    const { machine, newId, leaseMs, historyCount } = this.#options;
    const { maps } = this;
    const fault = machine.fault || (maps.isRead ? "" : "the control store has not answered yet");
    const live = liveOwners(maps.owners(change.namespace), (name, version) => machine.hasEnded(name, version));
    const unavailable: OrderRefusal | undefined = fault === "" ? undefined : { reason: "store_unavailable", message: fault };
    const [map, plans] = [maps.map(change.namespace), maps.plans(change.namespace)];
    const made = unavailable ?? orderedChange(change, { maps, live, newId, historyCount }, time);
    if ("reason" in made) {
      out.push({ kind: "ordered", order, refusal: made });
      return;
    }
    machine.requests.transact(made.conditions, made.writes, out, (result, { monoMs }, later) => {
      if (result?.isCommitted === true) this.#committed = [...this.#committed, { order, isShown: made.isShown, untilMs: monoMs + leaseMs }];
      else if (result !== undefined && change.expectedEpoch === undefined)
        this.#refused = [...this.#refused, { order, change, map, plans, untilMs }];
      else later.push({ kind: "ordered", order, refusal: result === undefined ? UNKNOWN : CONFLICT });
    });
  }

  #repeatOrders(time: Time, out: Output[]): void {
    const { maps } = this;
    const isOver = ({ untilMs }: Refused) => time.monoMs >= untilMs;
    const isReady = (each: Refused) => maps.map(each.change.namespace) !== each.map || maps.plans(each.change.namespace) !== each.plans;
    const refused = this.#refused;
    this.#refused = refused.filter((each) => !isOver(each) && !isReady(each));
    for (const each of refused)
      if (isOver(each)) out.push({ kind: "ordered", order: each.order, refusal: CONFLICT });
      else if (isReady(each)) this.#change(each.order, each.change, time, out, each.untilMs);
  }

  /** Answers the orders whose changes the maps show. */
  #answerOrders({ monoMs }: Time, out: Output[]): void {
    if (this.#committed.length === 0) return;
    const isOver = ({ isShown, untilMs }: Committed) => isShown() || monoMs >= untilMs;
    for (const { order } of this.#committed.filter(isOver)) out.push({ kind: "ordered", order, refusal: undefined });
    this.#committed = this.#committed.filter((each) => !isOver(each));
  }
}

const UNKNOWN: OrderRefusal = {
  reason: "store_unavailable",
  message: "the control store did not answer; the change may have happened, so read it again",
};
const CONFLICT: OrderRefusal = { reason: "version_conflict", message: "the set was changed at the same time; read it again" };
