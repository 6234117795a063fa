/** Nodes with the machines of shards, and owners that are attached to them, in virtual time. Messages of owners take no time. */
import { Campaigns } from "../../src/control/leadership/campaigns.ts";
import type { Leadership } from "../../src/control/leadership/machine.ts";
import { VALIDITY } from "../../src/control/leadership/session.ts";
import type {
  ChangeOrigin,
  OwnedShard,
  OwnerFacts,
  OwnerNews,
  OwnerSink,
  ShardOrder,
  ShardReport,
} from "../../src/control/shards/io-types.ts";
import type { ShardMap, ShardRow } from "../../src/control/shards/maps.ts";
import { decodeOwner, type OwnerRecord, ownerKey, type ShardSettings } from "../../src/control/shards/records.ts";
import { Shards, type ShardsOptions } from "../../src/control/shards/shards.ts";
import { LabNode, LEASE_MS, LeaderLab } from "./leader-lab.ts";

export const SETTINGS: ShardSettings = {
  count: 12,
  strategy: "rendezvous",
  service: "worker",
  approval: "none",
  onStoreLoss: "stop",
  maxParallelMoves: 2,
  cooldownMs: 0,
  prepareMs: 4000,
  drainMs: 5000,
  maxDepth: 0,
  maxLatencyMs: 0,
  maxErrorRatio: 0,
  overloadMs: 10_000,
};
const ORIGIN: ChangeOrigin = { actor: "ann", reason: "a test", ticket: "T-1" };
/** Time (ms) between two heartbeats of an owner. */
const BEAT_MS = LEASE_MS / 3;

type NodeOptions = Partial<Pick<ShardsOptions, "historyCount" | "isOwnStore">> & { readonly boot?: string };

export class ShardLab extends LeaderLab {
  readonly owners: LabOwner[] = [];

  /** A node that can be the controller. */
  shardNode(nodeId: string, options: NodeOptions = {}): ShardNode {
    return this.add(new ShardNode(this, nodeId, options), ["global-control"]);
  }

  owner(instance: string, node: ShardNode, facts: Partial<OwnerFacts> = {}): LabOwner {
    const owner = new LabOwner(instance, node, facts);
    this.owners.push(owner);
    owner.send();
    return owner;
  }

  /** Lets time pass, with the heartbeats of all owners. */
  pass(forMs: number): void {
    for (let leftMs = forMs; leftMs > 0; leftMs -= BEAT_MS) {
      this.advance(Math.min(leftMs, BEAT_MS));
      for (const owner of this.owners) if (!owner.isSilent) owner.send();
    }
  }

  /** The record of an owner in the store. */
  record(instance: string): OwnerRecord | undefined {
    const key = ownerKey("orders", instance);
    const value = this.store.valueOf(key);
    return value && decodeOwner(value, this.store.versionOf(key));
  }
}

export class ShardNode extends LabNode {
  readonly shards: Shards;

  constructor(lab: ShardLab, nodeId: string, options: NodeOptions) {
    const { isOwnStore = false, historyCount = 100 } = options;
    let [made, count]: [Shards | undefined, number] = [undefined, 0];
    super(lab, nodeId, options, (machine: Leadership) => {
      const campaigns = new Campaigns({ machine, leaseMs: LEASE_MS });
      const newId = () => `${nodeId}-s${++count}`;
      made = new Shards({ machine, campaigns, nodeId, leaseMs: LEASE_MS, isOwnStore, newId, historyCount });
      return made;
    });
    if (made === undefined) throw new Error("the machine was not made");
    this.shards = made;
  }

  get map(): ShardMap {
    const map = this.shards.maps.map("orders");
    if (map === undefined) throw new Error("there is no set");
    return map;
  }

  row(id: number): ShardRow {
    const row = this.map.rows[id];
    if (row === undefined) throw new Error(`there is no shard ${id}`);
    return row;
  }

  /** The ids of the rows of an owner. */
  rowsOf(instance: string): readonly number[] {
    return this.map.rows.filter(({ owner }) => owner === instance).map(({ id }) => id);
  }

  change(change: Partial<ShardOrder> & Pick<ShardOrder, "kind">): void {
    const order = { namespace: "orders", expectedEpoch: undefined, ...ORIGIN, ...change } as ShardOrder;
    this.input({ kind: "changeShards", order: 1, change: order });
  }

  apply(settings: Partial<ShardSettings> = {}): void {
    this.change({ kind: "apply", settings: { ...SETTINGS, ...settings } });
  }

  set(id: number, mode: ShardRow["mode"]): void {
    this.change({ kind: "setShard", id, mode, weight: undefined, hint: undefined });
  }
}

/** A program that owns shards. */
export class LabOwner {
  readonly instance: string;
  #node: ShardNode;
  facts: OwnerFacts;
  /** Whether it sends no heartbeats. */
  isSilent = false;
  /** Whether it becomes ready, and finishes its work, as soon as it is asked. */
  isPrompt = true;
  /** `<state> <id>` for each change of a state. */
  readonly log: string[] = [];
  readonly shards = new Map<number, OwnedShard>();
  /** Fences under which it has acted, by shard. */
  readonly fences = new Map<number, number[]>();
  waitsFor = "";
  validForMs = 0;
  untilMs = 0;
  #sink: OwnerSink;
  /** What it reports with each heartbeat. */
  reports: () => readonly ShardReport[] = () => [];
  #prepared: number[] = [];
  #dropped: number[] = [];
  #sentMs = 0;

  constructor(instance: string, node: ShardNode, facts: Partial<OwnerFacts>) {
    this.instance = instance;
    this.#node = node;
    this.facts = {
      isLeaving: false,
      health: "healthy",
      region: "eu",
      zone: "a",
      slots: 0,
      target: `${instance}:80`,
      principal: instance,
      weight: 1,
      ...facts,
    };
    this.#sink = this.#newSink();
  }

  /** The shards for which it can act now. */
  get acting(): readonly number[] {
    if (this.#node.lab.nowMs >= this.untilMs) return [];
    const acting = [...this.shards.values()].filter(({ state }) => ["owned", "paused", "draining"].includes(state));
    return acting.map(({ id }) => id).toSorted((a, b) => a - b);
  }

  send(): void {
    const [prepared, dropped] = [this.#prepared, this.#dropped];
    [this.#prepared, this.#dropped] = [[], []];
    const { facts, instance } = this;
    this.#sentMs = this.#node.lab.nowMs;
    this.#node.input({
      kind: "owner",
      owner: this.#sink,
      namespace: "orders",
      instance,
      facts,
      prepared,
      dropped,
      reports: this.reports(),
    });
  }

  leave(): void {
    this.facts = { ...this.facts, isLeaving: true };
    this.send();
  }

  prepared(id: number): void {
    this.#prepared.push(id);
    this.send();
  }

  dropped(id: number): void {
    this.shards.delete(id);
    this.#dropped.push(id);
    this.send();
  }

  /** The stream ends. */
  end(hasStopped: boolean): void {
    this.isSilent = true;
    if (hasStopped) this.#forget();
    this.#node.input({ kind: "ownerEnded", owner: this.#sink, hasStopped });
  }

  /** Opens another stream. */
  attach(node = this.#node): void {
    this.#node = node;
    this.#sink = this.#newSink();
    this.isSilent = false;
    this.send();
  }

  #newSink(): OwnerSink {
    let isFirst = true;
    const sink: OwnerSink = (news) => {
      if (sink !== this.#sink) return;
      if (news.validForMs > 0 && isFirst) {
        isFirst = false;
        this.#forget();
      }
      this.#received(news);
    };
    return sink;
  }

  #forget(): void {
    this.shards.clear();
    this.untilMs = 0;
  }

  #received({ shards, validForMs, waitsFor }: OwnerNews): void {
    this.waitsFor = waitsFor;
    this.validForMs = validForMs;
    if (validForMs > 0) this.untilMs = Math.max(this.untilMs, this.#sentMs + validForMs);
    for (const shard of shards) {
      const { id, state, fence } = shard;
      this.log.push(`${state} ${id}`);
      if (state === "released") this.shards.delete(id);
      else this.shards.set(id, shard);
      if (state === "owned") this.fences.set(id, [...(this.fences.get(id) ?? []), fence?.number ?? 0]);
      if (!this.isPrompt) continue;
      if (state === "preparing") this.prepared(id);
      if (state === "draining" || state === "lost") this.dropped(id);
    }
  }
}

/** The part of a lease for which a grant is valid. */
export const VALID_MS = LEASE_MS * VALIDITY;
