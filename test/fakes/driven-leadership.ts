/** Nodes with the real leadership machine on one store in memory, which answers at once. Time passes only when a test says so. */
import { type CampaignAnswer, type CampaignInput, Campaigns } from "../../src/control/leadership/campaigns.ts";
import type { LeadershipEvent, LeadershipInput, LeadershipOutput, OrderRefusal } from "../../src/control/leadership/io-types.ts";
import { Leadership } from "../../src/control/leadership/machine.ts";
import { decodeSession, encodeRecord, LEADERS, type LeaderRecord, SESSIONS } from "../../src/control/leadership/records.ts";
import { WaymarkError } from "../../src/lib/errors.ts";
import type { Time } from "../../src/lib/machine.ts";
import type { LeadershipSource, SessionRow, SplitBrain } from "../../src/services/leadership/source.ts";
import type { StoreWrite } from "../../src/store/control/store.ts";
import { SharedStore, WATCH_START, type WatchPosition } from "./shared-store.ts";

const LEASE_MS = 3000;
const WALL_START_MS = 1_760_000_000_000;

/** A store like etcd, in which all changes of a transaction have one revision, and the time of its nodes. */
export class DrivenStore extends SharedStore {
  readonly nodes: DrivenLeadership[] = [];
  isAway = false;
  monoMs = 1000;

  get time(): Time {
    return { monoMs: this.monoMs, wallMs: WALL_START_MS + this.monoMs };
  }

  protected override write(writes: readonly StoreWrite[]): readonly number[] {
    const version = this.revision + 1;
    const versions = writes.map(({ key, value }) => this.put(key, value, version));
    for (const node of this.nodes) node.readStore();
    return versions;
  }

  /** Writes the records of leaders in one transaction, as if other nodes had. */
  lead(...leaders: readonly (readonly [scope: string, record: Partial<LeaderRecord>])[]): void {
    this.transact(
      [],
      leaders.map(([scope, record]) => ({ key: LEADERS + scope, value: encodeRecord(leaderRecord(record)) })),
    );
  }

  pass(forMs: number): void {
    const untilMs = this.monoMs + forMs;
    for (;;) {
      const dueMs = Math.min(...this.nodes.map((node) => node.campaigns.nextDeadlineMs()));
      if (dueMs > untilMs) break;
      this.monoMs = dueMs;
      for (const node of this.nodes) node.input({ kind: "tick" });
    }
    this.monoMs = untilMs;
  }
}

export function leaderRecord(record: Partial<LeaderRecord> = {}): LeaderRecord {
  const fence = { failoverVersion: 0, storeEpoch: 7, number: 40 };
  const held = {
    holderId: "n9",
    nodeId: "n9",
    session: "n9/s",
    term: 1,
    fence,
    issuedWallMs: WALL_START_MS,
    reason: "the scope had no leader",
  };
  return { ...held, correlationId: "c", resign: undefined, shard: undefined, ...record };
}

export class DrivenLeadership implements LeadershipSource {
  readonly machine: Leadership;
  readonly campaigns: Campaigns;
  readonly #store: DrivenStore;
  readonly #queue: (LeadershipInput | CampaignInput)[] = [];
  readonly #watches = new Map<string, WatchPosition>();
  readonly #followers = new Set<(event: LeadershipEvent | SplitBrain) => void>();
  readonly #orders = new Map<number, (refusal: OrderRefusal | undefined) => void>();
  #isBusy = false;

  constructor(store: DrivenStore, nodeId: string, scopes: readonly string[] = []) {
    this.#store = store;
    store.nodes.push(this);
    let count = 0;
    const newId = () => `${nodeId}-${++count}`;
    const options = { nodeId, clusterId: "c1", boot: "b", leaseMs: LEASE_MS, isOwnStore: false, compactMs: 0, newId };
    this.machine = new Leadership(options);
    this.campaigns = new Campaigns({ machine: this.machine, leaseMs: LEASE_MS });
    this.input({ kind: "eligible", fault: "" });
    for (const scope of scopes) this.input({ kind: "stand", scope, holderId: nodeId });
  }

  get events() {
    return this.machine.events;
  }

  input(input: LeadershipInput | CampaignInput): void {
    this.#queue.push(input);
    if (this.#isBusy) return;
    this.#isBusy = true;
    try {
      for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) {
        const out: (LeadershipOutput | CampaignAnswer)[] = [];
        this.campaigns.handle(next, this.#store.time, out);
        for (const output of out) this.#carryOut(output);
      }
    } finally {
      this.#isBusy = false;
    }
  }

  /** Reports the changes of the store that the watches have not reported yet. */
  readStore(): void {
    for (const prefix of this.#watches.keys()) this.#read(prefix);
  }

  #read(prefix: string): void {
    const found = this.#store.isAway ? undefined : this.#store.read(prefix, this.#watches.get(prefix) ?? WATCH_START);
    if (found === undefined) return;
    this.#watches.set(prefix, found.position);
    this.input({ kind: "changed", prefix, changes: found.step });
  }

  #carryOut(output: LeadershipOutput | CampaignAnswer): void {
    switch (output.kind) {
      case "transact": {
        const { request, conditions, changes } = output;
        this.input({ kind: "transacted", request, result: this.#store.isAway ? undefined : this.#store.transact(conditions, changes) });
        return;
      }
      case "watch":
        this.reset(output.prefix);
        return;
      case "unwatch":
        this.#watches.delete(output.prefix);
        return;
      case "campaign":
        output.campaign(output.grant);
        return;
      case "ordered":
        this.#orders.get(output.order)?.(output.refusal);
        return;
      case "event":
        this.report(output.event);
        return;
      case "compact":
      case "stopped":
        return;
    }
  }

  /** Starts a watch over. */
  reset(prefix: string): void {
    this.#watches.set(prefix, WATCH_START);
    this.#read(prefix);
  }

  report(event: LeadershipEvent | SplitBrain): void {
    for (const follower of this.#followers) follower(event);
  }

  leaders(time: Time) {
    return [...this.machine.leaders].map(([scope, record]) => {
      const expiryMs = record && this.machine.expiryMs(record);
      return { scope, record, expiresWallMs: expiryMs === undefined ? undefined : time.wallMs + expiryMs - time.monoMs };
    });
  }

  sessions(): Promise<readonly SessionRow[]> {
    if (this.#store.isAway) return Promise.reject(new WaymarkError("store_unavailable", "the store does not answer"));
    const rows = this.#store.keys(SESSIONS).map((key) => {
      const record = decodeSession(this.#store.valueOf(key) ?? new Uint8Array());
      return { name: key.slice(SESSIONS.length), version: this.#store.versionOf(key), record };
    });
    return Promise.resolve(rows);
  }

  store({ monoMs }: Time) {
    const { revision, fault, store, availability } = this.machine;
    const ageMs = availability.isAvailable ? 0 : monoMs - availability.answeredMs;
    return { kind: "etcd", id: store?.id ?? "", epoch: store?.epoch ?? 0, revision, ageMs, fault } as const;
  }

  follow(onEvent: (event: LeadershipEvent | SplitBrain) => void): () => void {
    this.#followers.add(onEvent);
    this.input({ kind: "follow", isFollowed: true });
    return () => {
      this.#followers.delete(onEvent);
      this.input({ kind: "follow", isFollowed: this.#followers.size > 0 });
    };
  }

  resign(scope: string, reason: string): Promise<void> {
    return this.#order((order) => this.input({ kind: "resign", order, scope, reason }));
  }

  async raiseEpoch(): Promise<number> {
    await this.#order((order) => this.input({ kind: "raiseEpoch", order }));
    return this.machine.store?.epoch ?? 0;
  }

  #order(give: (order: number) => void): Promise<void> {
    return new Promise((resolve, reject) => {
      const order = this.#orders.size + 1;
      this.#orders.set(order, (refusal) => (refusal === undefined ? resolve() : reject(new WaymarkError(refusal.reason, refusal.message))));
      give(order);
    });
  }
}
