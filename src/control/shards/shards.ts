/** The shards of a node, in front of its leadership: its maps, its attached owners, the controller, and the orders of operators. */
import { type Machine, NEVER, type Time } from "../../lib/machine.ts";
import type { CampaignAnswer, CampaignInput, Campaigns } from "../leadership/campaigns.ts";
import type { LeadershipInput, LeadershipOutput, OrderId, OrderRefusal } from "../leadership/io-types.ts";
import { LEADERS, SESSIONS, STORE_KEY } from "../leadership/records.ts";
import { changeOf } from "./change.ts";
import { type ControllerOptions, ShardController } from "./controller.ts";
import type { ShardInput, ShardOrder, ShardOutput } from "./io-types.ts";
import { ShardMap, ShardMaps, type ShardRow } from "./maps.ts";
import { Owners } from "./owners.ts";
import { MAX_CLUSTER_SHARDS, OWNERS, SHARD_SETS, type ShardSetRecord, type ShardSettings } from "./records.ts";

export interface ShardsOptions extends Omit<ControllerOptions, "maps"> {
  readonly campaigns: Campaigns;
}

type Input = LeadershipInput | CampaignInput | ShardInput;
type Output = ShardOutput;

/** A change of an operator that is committed, and that the maps do not show yet. */
interface Committed {
  readonly order: OrderId;
  readonly namespace: string;
  readonly epoch: number;
  /** Monotonic time (ms) at which the order is answered in any case. */
  readonly untilMs: number;
}

export class Shards implements Machine<Input, Output> {
  readonly maps: ShardMaps;
  readonly #options: ShardsOptions;
  readonly #owners: Owners;
  readonly #controller: ShardController;
  #committed: readonly Committed[] = [];
  #usesSession = false;
  #isStarted = false;

  constructor(options: ShardsOptions) {
    this.#options = options;
    this.maps = new ShardMaps(options.machine.leaderItems);
    const parts = { ...options, maps: this.maps };
    this.#owners = new Owners(parts);
    this.#controller = new ShardController(parts);
  }

  handle(input: Input, time: Time, out: Output[]): void {
    if (!this.#isStarted) for (const prefix of [SHARD_SETS, OWNERS]) out.push({ kind: "watch", prefix });
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
    const usesSession = this.#owners.size > 0;
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
    const committedMs = this.#committed.reduce((next, { untilMs }) => Math.min(next, untilMs), NEVER);
    const parts = [this.#options.campaigns, this.#owners, this.#controller];
    return Math.min(committedMs, ...parts.map((part) => part.nextDeadlineMs()));
  }

  /** Returns the namespaces that a step of a watch concerns. */
  #changed({ prefix, changes }: Extract<Input, { readonly kind: "changed" }>, { monoMs }: Time, out: Output[]): ReadonlySet<string> {
    if (changes === undefined) return new Set();
    const touched = this.maps.take(prefix, changes, monoMs);
    for (const namespace of touched) out.push({ kind: "shardsChanged", namespace });
    if (prefix === LEADERS || prefix === SHARD_SETS || prefix === OWNERS) return touched;
    const hasEnded = changes.isReset || changes.changes.some(({ item }) => item === undefined);
    const concernsAll = prefix === STORE_KEY || (prefix.startsWith(SESSIONS) && hasEnded);
    return concernsAll ? new Set(this.maps.namespaces) : touched;
  }

  /** Makes an operator's change, on the condition of the set and the rows as this node knows them. */
  #change(order: OrderId, change: ShardOrder, time: Time, out: Output[]): void {
    const map = this.maps.map(change.namespace);
    const refuse = (refusal: OrderRefusal) => out.push({ kind: "ordered", order, refusal });
    const fault = this.#options.machine.fault || (this.maps.isRead ? "" : "the control store has not answered yet");
    if (fault !== "") return void refuse({ reason: "store_unavailable", message: fault });
    const refusal = refusalOf(change, map, this.maps);
    if (refusal !== undefined) return void refuse(refusal);
    const settings = change.kind === "apply" ? change.settings : map?.set.value;
    if (settings === undefined) return;
    const base = map ?? new ShardMap(change.namespace, { version: 0, sinceMs: 0, value: { ...settings, ...NEW_SET } }, []);
    const row = change.kind === "setShard" ? base.rows[change.id] : undefined;
    const edits = { map: base, settings, rows: row === undefined ? [] : [edited(row, change)], origin: originOf(change) };
    const { machine, newId, leaseMs, historyCount } = this.#options;
    const { epoch, conditions, writes } = changeOf({ ...edits, historyCount }, time, newId());
    machine.requests.transact(conditions, writes, out, (result, { monoMs }, later) => {
      if (result?.isCommitted === true)
        this.#committed = [...this.#committed, { order, namespace: change.namespace, epoch, untilMs: monoMs + leaseMs }];
      else {
        const unknown = "the control store did not answer; the change may have happened, so read it again";
        const conflict = `the set ${change.namespace} was changed at the same time; read it again`;
        const why: OrderRefusal =
          result === undefined ? { reason: "store_unavailable", message: unknown } : { reason: "version_conflict", message: conflict };
        later.push({ kind: "ordered", order, refusal: why });
      }
    });
  }

  /** Answers the orders whose changes the maps show. */
  #answerOrders({ monoMs }: Time, out: Output[]): void {
    if (this.#committed.length === 0) return;
    const isShown = ({ namespace, epoch, untilMs }: Committed) => (this.maps.map(namespace)?.epoch ?? 0) >= epoch || monoMs >= untilMs;
    for (const { order } of this.#committed.filter(isShown)) out.push({ kind: "ordered", order, refusal: undefined });
    this.#committed = this.#committed.filter((each) => !isShown(each));
  }
}

const NEW_SET = { epoch: 0, rowsEpoch: 0, checksum: "", oldestEpoch: 1 } as const satisfies Omit<ShardSetRecord, keyof ShardSettings>;

function originOf({ actor, reason, ticket }: ShardOrder) {
  return { actor, reason, ticket };
}

/** Why an operator's change is refused. */
function refusalOf(change: ShardOrder, map: ShardMap | undefined, maps: ShardMaps): OrderRefusal | undefined {
  const { namespace, expectedEpoch } = change;
  const epoch = map?.set.value.epoch ?? 0;
  if (expectedEpoch !== undefined && expectedEpoch !== epoch)
    return { reason: "version_conflict", message: `the set ${namespace} has the epoch ${epoch}, not ${expectedEpoch}; read it again` };
  if (change.kind === "apply") {
    const { count } = change.settings;
    if (map !== undefined && map.rows.length !== count)
      return {
        reason: "invalid_argument",
        message: `settings.count: must stay ${map.rows.length}; a set with another count needs another namespace`,
      };
    const otherCount = maps.namespaces.reduce((sum, each) => sum + (each === namespace ? 0 : (maps.map(each)?.rows.length ?? 0)), 0);
    if (otherCount + count <= MAX_CLUSTER_SHARDS) return undefined;
    const message = `the other sets have ${otherCount} shards; a cluster has at most ${MAX_CLUSTER_SHARDS}`;
    return { reason: "quota_exceeded", message };
  }
  if (map === undefined) return { reason: "not_found", message: `the namespace ${namespace} has no shards` };
  if (map.rows[change.id] !== undefined) return undefined;
  return { reason: "not_found", message: `${namespace} has the shards 0 to ${map.rows.length - 1}, not ${change.id}` };
}

function edited(row: ShardRow, change: ShardOrder): ShardRow {
  if (change.kind !== "setShard") return row;
  const { mode = row.mode, weight = row.weight, hint = row.hint, reason } = change;
  return { ...row, mode, weight, hint, reason };
}
