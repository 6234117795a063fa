/** Runs the leadership machine of a node on its control store: carries out its orders, and feeds it with answers, watches and timers. */
import { setImmediate as nextTurn, setTimeout as wait } from "node:timers/promises";
import { Campaigns } from "../../control/leadership/campaigns.ts";
import type { LeadershipEvent, LeadershipOutput, OrderRefusal } from "../../control/leadership/io-types.ts";
import { Leadership, type LeadershipOptions } from "../../control/leadership/machine.ts";
import { decodeSession, SESSIONS } from "../../control/leadership/records.ts";
import { type ControlInput, type ControlOutput, type PeerOrder, Peers } from "../../control/peers/peers.ts";
import type { ShardOrder, ShardOutput } from "../../control/shards/io-types.ts";
import { decodeChange, historyKey, SHARD_HISTORY, type ShardChange } from "../../control/shards/records.ts";
import { Shards } from "../../control/shards/shards.ts";
import { MAX_TIMER_MS } from "../../lib/duration.ts";
import { rethrowInvariant, sentError, WaymarkError } from "../../lib/errors.ts";
import type { Log } from "../../lib/log.io.ts";
import type { Time } from "../../lib/machine.ts";
import { now } from "../../lib/stall-aware-time.io.ts";
import type { LeaderRow, LeadershipSource, SessionRow, SplitBrain, StoreStatus } from "../../services/leadership/source.ts";
import type { PeerControl } from "../../services/peers/operations.ts";
import type { ShardSource } from "../../services/shards/source.ts";
import { allItems } from "../../store/control/all-items.io.ts";
import type { ControlStore, StoreWatch } from "../../store/control/store.ts";

/** A change that the controller of the shards has made. */
export type ShardReport = Extract<ShardOutput, { readonly kind: "moved" | "planned" }>;

export interface LeadershipDriverOptions extends LeadershipOptions {
  readonly store: Pick<ControlStore, "compact" | "list" | "transact" | "watch">;
  readonly log: Pick<Log, "info" | "warn">;
  /** Called with each event, after the machine has handled what caused it. */
  readonly onEvent: (event: LeadershipEvent) => void;
  /** Called when this node, as the controller, has changed the row of a shard or a plan. */
  readonly onShards: (report: ShardReport) => void;
  /** Number of changes that the history of a set of shards keeps. */
  readonly historyCount: number;
  /** Called with the id of the store when this node has read it, and when it has changed. */
  readonly onStore: (id: string) => void;
  /** Throws while this node refuses writes: with a wrong clock, the deadlines of drains would be wrong. */
  readonly checkWrites: () => void;
}

/** Number of changes that are read at a time. A change has up to 48 shards. */
const HISTORY_PAGE = 20;
/** Time (ms) for which answers and steps of watches that have arrived together may keep the event loop busy together. */
const BUSY_MS = 5;
/** Time until a watch that failed is tried again. */
const RETRY_MS = 200;

export class LeadershipDriver implements LeadershipSource, PeerControl, ShardSource {
  readonly machine: Leadership;
  readonly #options: LeadershipDriverOptions;
  readonly #watches = new Map<string, StoreWatch>();
  readonly #followers = new Set<(event: LeadershipEvent | SplitBrain) => void>();
  readonly #orders = new Map<number, (refusal: OrderRefusal | undefined) => void>();
  readonly #stopped = Promise.withResolvers<void>();
  readonly #shards: Shards;
  readonly #peers: Peers;
  readonly #peerFollowers = new Set<(nodeId: string) => void>();
  readonly #shardFollowers = new Set<(namespace: string) => void>();
  #turn: Promise<void> = Promise.resolve();
  /** The time for which inputs have kept the event loop busy since the last turn that `#inTurn` has waited for. */
  #busyMs = 0;
  #lastOrder = 0;
  #timer: NodeJS.Timeout | undefined;
  #isClosed = false;
  #storeId = "";
  /** Why the last request to the store failed. Empty if it was answered. */
  #storeFault = "";

  constructor(options: LeadershipDriverOptions) {
    this.#options = options;
    this.machine = new Leadership(options);
    const campaigns = new Campaigns({ machine: this.machine, leaseMs: options.leaseMs });
    this.#shards = new Shards({ ...options, machine: this.machine, campaigns });
    this.#peers = new Peers({ ...options, machine: this.machine, shards: this.#shards });
  }

  get isOwnStore(): boolean {
    return this.#options.isOwnStore;
  }

  get events() {
    return this.machine.events;
  }

  get maps() {
    return this.#shards.maps;
  }

  /** Number of owners of shards that are attached to this node. */
  get ownerCount(): number {
    return this.#shards.ownerCount;
  }

  input(input: ControlInput): void {
    if (this.#isClosed) return;
    const out: ControlOutput[] = [];
    const startMs = performance.now();
    this.#peers.handle(input, now(), out);
    for (const output of out) this.#carryOut(output);
    this.#setTimer();
    this.#busyMs += performance.now() - startMs;
    const { id = "" } = this.machine.store ?? {};
    if (id === this.#storeId) return;
    this.#storeId = id;
    this.#options.onStore(id);
  }

  /** Gives up all scopes, and ends the session. Resolves when the store has confirmed it. */
  stop(): Promise<void> {
    this.input({ kind: "stop" });
    return this.#stopped.promise;
  }

  /** Stops all work. The store stays open. */
  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    for (const watch of this.#watches.values()) watch.close();
    this.#watches.clear();
    for (const answered of this.#orders.values()) answered({ reason: "store_unavailable", message: "this node is stopping" });
  }

  leaders(time: Time): readonly LeaderRow[] {
    return [...this.machine.leaders].map(([scope, record]) => {
      const expiryMs = record && this.machine.expiryMs(record);
      return { scope, record, expiresWallMs: expiryMs === undefined ? undefined : Math.round(time.wallMs + expiryMs - time.monoMs) };
    });
  }

  async sessions(): Promise<readonly SessionRow[]> {
    const rows: SessionRow[] = [];
    for await (const { key, value, version } of allItems(this.#options.store, SESSIONS))
      rows.push({ name: key.slice(SESSIONS.length), version, record: decodeSession(value) });
    return rows;
  }

  store({ monoMs }: Time): StoreStatus {
    const { machine } = this;
    const { isAvailable, answeredMs } = machine.availability;
    return {
      kind: this.#options.isOwnStore ? "embedded" : "etcd",
      id: machine.store?.id ?? "",
      epoch: machine.store?.epoch ?? 0,
      revision: machine.revision,
      ageMs: isAvailable ? 0 : Math.round(monoMs - Math.max(answeredMs, 0)),
      fault: this.#storeFault || machine.fault,
    };
  }

  follow(onEvent: (event: LeadershipEvent | SplitBrain) => void): () => void {
    this.#followers.add(onEvent);
    this.input({ kind: "follow", isFollowed: true });
    return () => {
      this.#followers.delete(onEvent);
      this.input({ kind: "follow", isFollowed: this.#followers.size > 0 });
    };
  }

  /** Passes an event to all followers. */
  report(event: LeadershipEvent | SplitBrain): void {
    for (const follower of this.#followers) follower(event);
  }

  async resign(scope: string, reason: string): Promise<void> {
    await this.#order((order) => ({ kind: "resign", order, scope, reason }));
  }

  async raiseEpoch(): Promise<number> {
    await this.#order((order) => ({ kind: "raiseEpoch", order }));
    return this.machine.store?.epoch ?? 0;
  }

  async changeShards(change: ShardOrder): Promise<void> {
    await this.#order((order) => ({ kind: "changeShards", order, change }));
  }

  async changePeer(change: PeerOrder): Promise<void> {
    this.#options.checkWrites();
    await this.#order((order) => ({ kind: "changePeer", order, change }));
  }

  record(nodeId: string) {
    return this.#peers.record(nodeId);
  }

  followPeers(onChange: (nodeId: string) => void): () => void {
    this.#peerFollowers.add(onChange);
    return () => this.#peerFollowers.delete(onChange);
  }

  followShards(onChange: (namespace: string) => void): () => void {
    this.#shardFollowers.add(onChange);
    return () => this.#shardFollowers.delete(onChange);
  }

  async shardHistory(namespace: string, after: number, upTo: number): Promise<readonly ShardChange[]> {
    const found: ShardChange[] = [];
    const lastKey = historyKey(namespace, upTo);
    for (let from = historyKey(namespace, after); from < lastKey; ) {
      const limit = Math.min(upTo - after, HISTORY_PAGE);
      const page = await this.#options.store.list(`${SHARD_HISTORY}${namespace}/`, { after: from, limit });
      found.push(...page.items.flatMap(({ key, value }) => (key <= lastKey ? (decodeChange(value) ?? []) : [])));
      from = page.nextAfter ?? lastKey;
      await nextTurn();
    }
    return found;
  }

  #order(inputOf: (order: number) => ControlInput): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const order = ++this.#lastOrder;
    this.#orders.set(order, (refusal) => {
      this.#orders.delete(order);
      if (refusal === undefined) resolve();
      else reject(new WaymarkError(refusal.reason, this.#storeFault === "" ? refusal.message : `${refusal.message} (${this.#storeFault})`));
    });
    this.input(inputOf(order));
    return promise;
  }

  #carryOut(output: ControlOutput): void {
    const { store, log } = this.#options;
    switch (output.kind) {
      case "transact":
        void this.#transact(output);
        return;
      case "watch":
        void this.#watch(output.prefix);
        return;
      case "unwatch":
        this.#watches.get(output.prefix)?.close();
        this.#watches.delete(output.prefix);
        return;
      case "compact":
        void store.compact(output.revision).catch((error: unknown) => {
          log.warn({ fault: faultOf(error) }, "history of the control store not compacted");
        });
        return;
      case "ordered":
        this.#orders.get(output.order)?.(output.refusal);
        return;
      case "event":
        this.#options.onEvent(output.event);
        this.report(output.event);
        return;
      case "campaign":
        output.campaign(output.grant);
        return;
      case "ownerNews":
        output.owner(output.news);
        return;
      case "shardsChanged":
        for (const follower of this.#shardFollowers) follower(output.namespace);
        return;
      case "peerChanged":
        for (const follower of this.#peerFollowers) follower(output.nodeId);
        return;
      case "moved":
      case "planned":
        this.#options.onShards(output);
        return;
      case "stopped":
        this.#stopped.resolve();
    }
  }

  async #transact({ request, conditions, changes }: Extract<LeadershipOutput, { readonly kind: "transact" }>): Promise<void> {
    const result = await this.#answerOf(this.#options.store.transact(conditions, changes));
    await this.#inTurn();
    this.input({ kind: "transacted", request, result });
  }

  async #watch(prefix: string): Promise<void> {
    const watch = this.#options.store.watch(prefix);
    this.#watches.set(prefix, watch);
    for (;;) {
      const changes = await this.#answerOf(watch.next());
      await this.#inTurn();
      if (this.#watches.get(prefix) !== watch) return;
      this.input({ kind: "changed", prefix, changes });
      if (changes === undefined) await wait(RETRY_MS, undefined, { ref: false });
    }
  }

  /** Answers and steps of watches that have arrived together must not keep the event loop busy together. They keep their order. */
  async #inTurn(): Promise<void> {
    const before = this.#turn;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#turn = promise;
    await before;
    if (this.#busyMs >= BUSY_MS) {
      await nextTurn();
      this.#busyMs = 0;
    }
    resolve();
  }

  /** Returns undefined for a request that failed, and for a watch that was closed. */
  async #answerOf<T>(request: Promise<T>): Promise<T | undefined> {
    try {
      const answer = await request;
      if (answer !== undefined) this.#setFault("");
      return answer;
    } catch (error) {
      this.#setFault(faultOf(error));
      return undefined;
    }
  }

  #setFault(fault: string): void {
    const { log } = this.#options;
    const isChange = (fault === "") !== (this.#storeFault === "");
    this.#storeFault = fault;
    if (!isChange || this.#isClosed) return;
    if (fault === "") log.info({}, "control store available again");
    else log.warn({ fault }, "control store unavailable");
  }

  #setTimer(): void {
    clearTimeout(this.#timer);
    const inMs = this.#peers.nextDeadlineMs() - performance.now();
    if (inMs > MAX_TIMER_MS) return;
    this.#timer = setTimeout(() => this.input({ kind: "tick" }), Math.max(0, inMs));
  }
}

/** The reason of a failed request, for operators. Rethrows bugs. */
function faultOf(error: unknown): string {
  rethrowInvariant(error);
  return error instanceof WaymarkError ? sentError(error).text : String(error);
}
