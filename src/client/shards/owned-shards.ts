/**
 * The shards of an owner: which callbacks the news from the servers require, and when the owner must stop. This file has no I/O, timers or clocks;
 * `shard-ownership.io.ts` drives it. The validity of its stream is the only connection between a shard and the stream that granted it.
 */
import { durationMs } from "@bufbuild/protobuf/wkt";
import type { Fence } from "../../../gen/waymark/control/v1/fence_pb.js";
import { type OwnedShard, OwnedShardState, type ShardServiceAttachResponse } from "../../../gen/waymark/control/v1/shard_pb.js";
import { compareFences, type FenceToken, fenceText } from "../../lib/fence.ts";

/** A shard that the program prepares to own. */
export interface ShardPreparation {
  readonly id: number;
  /** Aborted when the program will not become the owner. */
  readonly signal: AbortSignal;
}

/** A time in which this program owns a shard. */
export interface ShardTerm {
  readonly id: number;
  /** The fence of this term, which is greater than the fences of all earlier terms of the shard. */
  readonly fence: FenceToken;
  /** The value of the metadata `waymark-fence`, which the owner sends with all its effects: `shard/<namespace>/<id>;...`. */
  readonly fenceText: string;
  /** Epoch of the last change of the shard. */
  readonly epoch: number;
  /** Aborted when the term ends. All work for the shard must then stop. */
  readonly signal: AbortSignal;
  /** The owner keeps the shard and finishes its work, but accepts no new work. */
  readonly isPaused: boolean;
  /** Another owner follows. The owner finishes its work and accepts no new work. */
  readonly isDraining: boolean;
  /**
   * False while the owner continues without a control store, which the setting `on_store_loss` of the set permits. There can be another owner with a
   * greater fence.
   */
  readonly isConfirmed: boolean;
  /** Whether the program still owns the shard. Unlike `signal`, it is exact even immediately after the process was paused. */
  isValid(): boolean;
}

/** A callback of the program that must be started. */
export type ShardOrder =
  | { readonly callback: "onPrepare"; readonly shard: HeldShard }
  | { readonly callback: "onDrain" | "onLost" | "onOwn"; readonly shard: HeldShard & ShardTerm };

export interface OwnedShardsOptions {
  readonly namespace: string;
  /** Monotonic clock. */
  readonly nowMs: () => number;
  /** Starts a callback. When it has returned, `OwnedShards.returned` must be called, but not before `run` has returned. */
  readonly run: (order: ShardOrder) => void;
}

/** The validity that a stream grants to its shards. */
interface StreamGrant {
  untilMs: number;
  wasValid: boolean;
  servesOnStoreLoss: boolean;
}

/** A shard with callbacks that may still be running. */
export class HeldShard implements ShardPreparation {
  readonly id: number;
  readonly signal: AbortSignal;
  readonly #abort = new AbortController();
  grant: StreamGrant;
  /** Number of callbacks that have not returned. */
  runningCount = 0;

  constructor(id: number, grant: StreamGrant) {
    this.id = id;
    this.grant = grant;
    this.signal = this.#abort.signal;
  }

  end(reason: unknown): void {
    this.#abort.abort(reason);
  }
}

class RunningShard extends HeldShard implements ShardTerm {
  readonly fence: FenceToken;
  readonly fenceText: string;
  epoch: number;
  isPaused = false;
  isDraining = false;
  readonly #nowMs: () => number;

  constructor(scope: string, { id, epoch }: OwnedShard, fence: FenceToken, grant: StreamGrant, nowMs: () => number) {
    super(id, grant);
    this.fence = fence;
    this.fenceText = fenceText(scope, fence);
    this.epoch = Number(epoch);
    this.#nowMs = nowMs;
  }

  get isConfirmed(): boolean {
    return !this.signal.aborted && this.#nowMs() < this.grant.untilMs;
  }

  isValid(): boolean {
    return this.isConfirmed || (!this.signal.aborted && this.grant.servesOnStoreLoss);
  }
}

export class OwnedShards {
  readonly #options: OwnedShardsOptions;
  readonly #held = new Map<number, HeldShard>();
  /** The news about each shard on the current stream that still matter. */
  readonly #news = new Map<number, OwnedShard>();
  /** The fence of the last term of each shard. A shard is never held again under a fence. */
  readonly #fences = new Map<number, FenceToken>();
  #grant: StreamGrant = { untilMs: 0, wasValid: false, servesOnStoreLoss: false };
  readonly #prepared = new Set<number>();
  readonly #dropped = new Set<number>();
  #isStopped = false;

  constructor(options: OwnedShardsOptions) {
    this.#options = options;
  }

  /** Whether no callback is running and no shard is held. */
  get isEmpty(): boolean {
    return this.#held.size === 0;
  }

  get hasReport(): boolean {
    return this.#prepared.size + this.#dropped.size > 0;
  }

  /** Returns the shards to report in the next message. */
  takeReport(): { readonly prepared: number[]; readonly dropped: number[] } {
    const report = { prepared: [...this.#prepared], dropped: [...this.#dropped] };
    this.#prepared.clear();
    this.#dropped.clear();
    return report;
  }

  /** Returns the term of a shard whose work need not stop. */
  term(id: number): ShardTerm | undefined {
    const held = this.#held.get(id);
    return held instanceof RunningShard && held.isValid() ? held : undefined;
  }

  /** Records that a new stream opens, whose server reports all shards of this owner. */
  opening(): void {
    this.#grant = { untilMs: 0, wasValid: false, servesOnStoreLoss: false };
    this.#news.clear();
    this.takeReport();
  }

  answered({ sentMs, validFor, shards, serveOnStoreLoss }: ShardServiceAttachResponse): void {
    const grant = this.#grant;
    const wasValid = this.#isValid;
    grant.untilMs = Number(sentMs) + (validFor === undefined ? 0 : durationMs(validFor));
    grant.servesOnStoreLoss = serveOnStoreLoss;
    grant.wasValid ||= this.#isValid;
    for (const shard of shards) this.#news.set(shard.id, shard);
    const isGranted = this.#isValid && !wasValid;
    const ids = isGranted ? new Set([...this.#held.keys(), ...this.#news.keys()]) : shards.map(({ id }) => id);
    for (const id of ids) this.#look(id);
    this.expire();
  }

  /** Ends the shards whose validity is over. Returns the next time at which that can be necessary. */
  expire(): number {
    // The current stream can grant more shards.
    let nextMs = this.#isValid ? this.#grant.untilMs : Number.POSITIVE_INFINITY;
    for (const held of this.#held.values()) {
      if (!(held instanceof RunningShard) || held.signal.aborted || held.grant.servesOnStoreLoss) continue;
      if (held.isValid()) nextMs = Math.min(nextMs, held.grant.untilMs);
      else this.#lose(held, "was not extended in time");
    }
    return nextMs;
  }

  /** Ends all shards. No further callback is started. */
  stop(reason: unknown): void {
    this.#isStopped = true;
    for (const held of this.#held.values()) {
      held.end(reason);
      this.#forgetEnded(held);
    }
  }

  /** Records that a callback has returned. */
  returned({ callback, shard }: ShardOrder): void {
    shard.runningCount -= 1;
    if (callback === "onDrain") shard.end(new Error(`the term for ${this.#scopeOf(shard.id)} was drained`));
    this.#forgetEnded(shard);
    this.#look(shard.id);
  }

  get #isValid(): boolean {
    return this.#options.nowMs() < this.#grant.untilMs;
  }

  /** Does what the news about a shard require now. */
  #look(id: number): void {
    const held = this.#held.get(id);
    const news = this.#news.get(id);
    if (this.#isStopped || held?.signal.aborted === true) return;
    if (held instanceof RunningShard) this.#continue(held, news);
    else if (held !== undefined) this.#prepare(held, news);
    else if (news !== undefined) this.#begin(news);
  }

  #begin(news: OwnedShard): void {
    const { id, state, fence } = news;
    if (state === OwnedShardState.PREPARING) this.#hold({ callback: "onPrepare", shard: new HeldShard(id, this.#grant) });
    else if (state === OwnedShardState.DRAINING || state === OwnedShardState.LOST) this.#drop(id);
    else if (fence === undefined || !isOwned(state)) this.#news.delete(id);
    else {
      const token = tokenOf(fence);
      const last = this.#fences.get(id);
      if (last !== undefined && compareFences(token, last) <= 0) this.#drop(id);
      else if (this.#isValid) {
        const shard = new RunningShard(this.#scopeOf(id), news, token, this.#grant, this.#options.nowMs);
        this.#fences.set(id, token);
        shard.isPaused = state === OwnedShardState.PAUSED;
        this.#hold({ callback: "onOwn", shard });
      }
    }
  }

  /** A preparation continues on a new stream. */
  #prepare(held: HeldShard, news: OwnedShard | undefined): void {
    const state = news?.state;
    const isReady = held.runningCount === 0;
    if (state === OwnedShardState.PREPARING) {
      held.grant = this.#grant;
      if (isReady) this.#prepared.add(held.id);
    } else if (news !== undefined && isOwned(news.state)) {
      if (!isReady) return;
      this.#held.delete(held.id);
      this.#begin(news);
    } else if (held.grant === this.#grant || this.#grant.wasValid) {
      held.end(new Error(`another owner of ${this.#scopeOf(held.id)} follows`));
      this.#forgetEnded(held);
      this.#look(held.id);
    }
  }

  #continue(shard: RunningShard, news: OwnedShard | undefined): void {
    const isEarlier = shard.grant !== this.#grant;
    if (isEarlier && this.#grant.wasValid) this.#lose(shard, "was granted by an earlier stream");
    else if (news !== undefined && isFor(news, shard)) {
      shard.epoch = Number(news.epoch);
      shard.isPaused = news.state === OwnedShardState.PAUSED;
      if (news.state === OwnedShardState.LOST) this.#lose(shard, "was lost");
      else if (news.state === OwnedShardState.DRAINING && !shard.isDraining) {
        shard.isDraining = true;
        this.#run({ callback: "onDrain", shard });
      }
    } else if (!isEarlier) this.#lose(shard, "was lost");
  }

  #lose(shard: RunningShard, why: string): void {
    shard.end(new Error(`the term for ${this.#scopeOf(shard.id)} ${why}`));
    this.#run({ callback: "onLost", shard });
  }

  #hold(order: ShardOrder): void {
    this.#held.set(order.shard.id, order.shard);
    this.#run(order);
  }

  #run(order: ShardOrder): void {
    order.shard.runningCount += 1;
    this.#options.run(order);
  }

  /** Forgets a shard that has ended and whose callbacks have returned. Reports it if the server expects that. */
  #forgetEnded(held: HeldShard): void {
    if (!held.signal.aborted || held.runningCount > 0) return;
    const { id } = held;
    this.#held.delete(id);
    const news = this.#news.get(id);
    if (held instanceof RunningShard && news !== undefined && isFor(news, held)) this.#drop(id);
  }

  #drop(id: number): void {
    this.#dropped.add(id);
    this.#news.delete(id);
  }

  #scopeOf(id: number): string {
    return `shard/${this.#options.namespace}/${id}`;
  }
}

function tokenOf({ failoverVersion, storeEpoch, number }: Fence): FenceToken {
  return { failoverVersion: Number(failoverVersion), storeEpoch: Number(storeEpoch), number: Number(number) };
}

function isOwned(state: OwnedShardState): boolean {
  return state === OwnedShardState.OWNED || state === OwnedShardState.PAUSED;
}

/** Whether the news are about this term. */
function isFor({ fence }: OwnedShard, shard: RunningShard): boolean {
  return fence !== undefined && compareFences(tokenOf(fence), shard.fence) === 0;
}
