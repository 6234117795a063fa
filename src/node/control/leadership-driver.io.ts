/** Runs the leadership machine of a node on its control store: carries out its orders, and feeds it with answers, watches and timers. */

import {
  type CampaignAnswer,
  type CampaignGrant,
  type CampaignId,
  type CampaignInput,
  Campaigns,
} from "../../control/leadership/campaigns.ts";
import type { LeadershipEvent, LeadershipInput, LeadershipOutput, OrderRefusal } from "../../control/leadership/io-types.ts";
import { Leadership, type LeadershipOptions } from "../../control/leadership/machine.ts";
import { decodeSession, SESSIONS, STORE_KEY } from "../../control/leadership/records.ts";
import { MAX_TIMER_MS } from "../../lib/duration.ts";
import { rethrowInvariant, sentError, WaymarkError } from "../../lib/errors.ts";
import type { Time } from "../../lib/machine.ts";
import { now } from "../../lib/stall-aware-time.io.ts";
import type { LeaderRow, LeadershipSource, SessionRow, SplitBrain, StoreStatus } from "../../services/leadership/source.ts";
import type { ControlStore, StoreWatch, TransactResult } from "../../store/control/store.ts";

export interface LeadershipDriverOptions extends LeadershipOptions {
  readonly kind: StoreStatus["kind"];
  readonly store: Pick<ControlStore, "compact" | "get" | "list" | "transact" | "watch">;
  /** Called with each event, after the machine has handled what caused it. */
  readonly onEvent: (event: LeadershipEvent) => void;
  /** Called with the id of the store when this node has read it, and when it has changed. */
  readonly onStore: (id: string) => void;
  /** Called with the reason when the store does not answer, and with an empty text when it answers again. */
  readonly onFault: (fault: string) => void;
  /** Called with the reason when the history of the store was not compacted. */
  readonly onNotCompacted: (fault: string) => void;
}

/** Maximum number of campaigns of programs. */
const MAX_CAMPAIGNS = 1000;
/** Time until a watch that failed is tried again. */
const RETRY_MS = 200;
/** The number of a request that the machine has not made: its answer shows only that the store is there. */
const NO_REQUEST = 0;

export class LeadershipDriver implements LeadershipSource {
  readonly machine: Leadership;
  readonly #options: LeadershipDriverOptions;
  readonly #watches = new Map<string, StoreWatch>();
  readonly #followers = new Set<(event: LeadershipEvent | SplitBrain) => void>();
  readonly #orders = new Map<number, (refusal: OrderRefusal | undefined) => void>();
  readonly #stopped = Promise.withResolvers<void>();
  readonly #campaigns: Campaigns;
  readonly #programs = new Map<CampaignId, (grant: CampaignGrant | undefined) => void>();
  #lastOrder = 0;
  #lastCampaign = 0;
  #timer: NodeJS.Timeout | undefined;
  #isClosed = false;
  #storeId = "";
  /** Why the last request to the store failed. Empty if it was answered. */
  #storeFault = "";

  constructor(options: LeadershipDriverOptions) {
    this.#options = options;
    this.machine = new Leadership(options);
    this.#campaigns = new Campaigns({ machine: this.machine, leaseMs: options.leaseMs, maxCampaigns: MAX_CAMPAIGNS });
  }

  get events() {
    return this.machine.events;
  }

  input(input: LeadershipInput | CampaignInput): void {
    if (this.#isClosed) return;
    const out: (LeadershipOutput | CampaignAnswer)[] = [];
    this.#campaigns.handle(input, now(), out);
    for (const output of out) this.#carryOut(output);
    this.#setTimer();
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
    for (let after: string | undefined = ""; after !== undefined; ) {
      const { items, nextAfter }: Awaited<ReturnType<ControlStore["list"]>> = await this.#options.store.list(SESSIONS, { after });
      for (const { key, value, version } of items) rows.push({ name: key.slice(SESSIONS.length), version, record: decodeSession(value) });
      after = nextAfter;
    }
    return rows;
  }

  store({ monoMs }: Time): StoreStatus {
    const { machine } = this;
    const { isAvailable, answeredMs } = machine.availability;
    return {
      kind: this.#options.kind,
      id: machine.store?.id ?? "",
      epoch: machine.store?.epoch ?? 0,
      revision: machine.revision,
      ageMs: isAvailable ? 0 : Math.round(monoMs - Math.max(answeredMs, 0)),
      fault: this.#storeFault || machine.fault,
    };
  }

  follow(onEvent: (event: LeadershipEvent | SplitBrain) => void): () => void {
    const follower: typeof onEvent = (event) => onEvent(event);
    this.#followers.add(follower);
    this.input({ kind: "follow", isFollowed: true });
    return () => {
      this.#followers.delete(follower);
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

  openCampaign(onAnswer: (grant: CampaignGrant | undefined) => void): CampaignId {
    this.#programs.set(++this.#lastCampaign, onAnswer);
    return this.#lastCampaign;
  }

  closeCampaign(campaign: CampaignId): void {
    this.#programs.delete(campaign);
    this.input({ kind: "ended", campaign });
  }

  #order(inputOf: (order: number) => LeadershipInput): Promise<void> {
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

  #carryOut(output: LeadershipOutput | CampaignAnswer): void {
    switch (output.kind) {
      case "transact":
        void this.#transact(output);
        return;
      case "watch": {
        const watch = this.#options.store.watch(output.prefix, 0);
        this.#watches.set(output.prefix, watch);
        void this.#watch(output.prefix, watch);
        return;
      }
      case "unwatch":
        this.#watches.get(output.prefix)?.close();
        this.#watches.delete(output.prefix);
        return;
      case "compact":
        void this.#options.store.compact(output.revision).catch((error: unknown) => this.#options.onNotCompacted(faultOf(error)));
        return;
      case "ordered":
        this.#orders.get(output.order)?.(output.refusal);
        return;
      case "event":
        this.#options.onEvent(output.event);
        this.report(output.event);
        return;
      case "campaign":
        this.#programs.get(output.campaign)?.(output.grant);
        return;
      case "stopped":
        this.#stopped.resolve();
    }
  }

  async #transact({ request, conditions, changes }: Extract<LeadershipOutput, { readonly kind: "transact" }>): Promise<void> {
    let result: TransactResult | undefined;
    try {
      result = await this.#options.store.transact(conditions, changes);
      this.#setFault("");
    } catch (error) {
      this.#failed(error);
    }
    this.input({ kind: "transacted", request, result });
  }

  async #watch(prefix: string, watch: StoreWatch): Promise<void> {
    let isInterrupted = false;
    while (!this.#isClosed) {
      try {
        if (isInterrupted) await this.#probe();
        isInterrupted = false;
        const changes = await watch.next();
        if (changes === undefined) return;
        if (this.#watches.get(prefix) === watch) this.input({ kind: "changed", prefix, changes });
      } catch (error) {
        this.#failed(error);
        isInterrupted = true;
        if (this.#watches.get(prefix) !== watch) return;
        this.input({ kind: "changed", prefix, changes: undefined });
        await new Promise((resolve) => {
          setTimeout(resolve, RETRY_MS).unref();
        });
      }
    }
  }

  /** Waits for an answer of the store. A watch that continues after an interruption reports nothing until something changes. */
  async #probe(): Promise<void> {
    await this.#options.store.get(STORE_KEY);
    this.#setFault("");
    this.input({ kind: "transacted", request: NO_REQUEST, result: { isCommitted: false, revision: 0, versions: [] } });
  }

  #failed(error: unknown): void {
    this.#setFault(faultOf(error));
  }

  #setFault(fault: string): void {
    const isChange = (fault === "") !== (this.#storeFault === "");
    this.#storeFault = fault;
    if (isChange && !this.#isClosed) this.#options.onFault(fault);
  }

  #setTimer(): void {
    clearTimeout(this.#timer);
    const inMs = this.#campaigns.nextDeadlineMs() - performance.now();
    if (inMs > MAX_TIMER_MS) return;
    this.#timer = setTimeout(() => this.input({ kind: "tick" }), Math.max(0, inMs));
  }
}

/** The reason of a failed request, for operators. Rethrows bugs. */
function faultOf(error: unknown): string {
  rethrowInvariant(error);
  return error instanceof WaymarkError ? sentError(error).text : String(error);
}
