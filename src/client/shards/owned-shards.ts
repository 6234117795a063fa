/**
 * The shards of an owner: which callbacks the news from the servers require, and when the owner must stop. This file has no I/O, timers or clocks;
 * `shard-ownership.io.ts` drives it. The validity of its stream is the only connection between a shard and the stream that granted it.
 */
import { durationMs } from "@bufbuild/protobuf/wkt";
import type { Fence } from "../../../gen/waymark/control/v1/fence_pb.js";
import { type OwnedShard, OwnedShardState, type ShardServiceAttachResponse } from "../../../gen/waymark/control/v1/shard_pb.js";
import { compareFences, type FenceToken, fenceText } from "../../lib/fence.ts";

export type ShardCallback = "onDrain" | "onLost" | "onOwn" | "onPrepare";

export interface OwnedShardsOptions {
  readonly namespace: string;
  /** Monotonic clock. */
  readonly nowMs: () => number;
  /** Starts a callback. When it has returned, `OwnedShards.returned` must be called, but not before `run` has returned. */
  readonly run: (callback: ShardCallback, shard: RunningShard) => void;
}

const { PREPARING, OWNED, PAUSED, DRAINING, LOST } = OwnedShardState;

/** The validity that a stream grants to its shards. */
class StreamGrant {
  untilMs = 0;
  servesOnStoreLoss = false;
}

/** A shard until its last callback has returned. */
export class RunningShard {
  readonly id: number;
  /** The fence of this term, which is greater than the fences of all earlier terms of the shard. */
  readonly fence: FenceToken;
  /** The value of the metadata `waymark-fence`, which the owner sends with all its effects: `shard/<namespace>/<id>;...`. */
  readonly fenceText: string;
  readonly end = new AbortController();
  /** Aborted when the term ends. All work for the shard must then stop. */
  readonly signal: AbortSignal = this.end.signal;
  readonly isPreparation: boolean;
  readonly #nowMs: () => number;
  /** Epoch of the last change of the shard. */
  epoch: number;
  /** Whether the owner keeps the shard and finishes its work, but accepts no new work. */
  isPaused: boolean;
  /** Whether the owner is overloaded, and is asked to accept only half of its rate of new work for the shard. */
  isThrottled: boolean;
  /** Whether the owner gives up the shard. It finishes its work and accepts no new work. */
  isDraining = false;
  readonly grant: StreamGrant;
  /** Number of callbacks that have not returned. */
  runningCount = 0;

  constructor({ id, epoch, state, fence, throttled }: OwnedShard, grant: StreamGrant, { namespace, nowMs }: OwnedShardsOptions) {
    this.id = id;
    this.epoch = Number(epoch);
    this.isPreparation = state === PREPARING;
    this.isPaused = state === PAUSED;
    this.isThrottled = throttled;
    this.fence = tokenOf(fence);
    this.fenceText = fenceText(`shard/${namespace}/${id}`, this.fence);
    this.grant = grant;
    this.#nowMs = nowMs;
  }

  /**
   * False while the owner continues without a control store, which the setting `on_store_loss` of the set permits. There can be another owner with a
   * greater fence.
   */
  get isConfirmed(): boolean {
    return !this.signal.aborted && this.#nowMs() < this.grant.untilMs;
  }

  /** Whether the program still owns the shard. Unlike `signal`, it is exact even immediately after the process was paused. */
  isValid(): boolean {
    return this.isConfirmed || (!this.signal.aborted && this.grant.servesOnStoreLoss);
  }
}

type TermMember = "epoch" | "fence" | "fenceText" | "id" | "isConfirmed" | "isDraining" | "isPaused" | "isThrottled" | "isValid" | "signal";
/** A time in which this program owns a shard. */
export type ShardTerm = Readonly<Pick<RunningShard, TermMember>>;
/** A shard that the program prepares to own. The signal is aborted if the program will not become the owner. */
export type PendingShard = Pick<RunningShard, "id" | "signal">;

export class OwnedShards {
  readonly #options: OwnedShardsOptions;
  readonly #held = new Map<number, RunningShard>();
  /** The last news about each shard on the current stream, unless they were answered with `dropped`. */
  readonly #news = new Map<number, OwnedShard>();
  /** The fence of the last term of each shard. A shard is never held again under a fence. */
  readonly #fences = new Map<number, FenceToken>();
  #grant = new StreamGrant();
  #isStopped = false;

  constructor(options: OwnedShardsOptions) {
    this.#options = options;
  }

  /** Whether no shard is held and all callbacks have returned. */
  get isEmpty(): boolean {
    return this.#held.size === 0;
  }

  /** Returns the term of a shard. Undefined if the program does not own it. */
  term(id: number): ShardTerm | undefined {
    const held = this.#held.get(id);
    return held?.isValid() === true && !held.isPreparation ? held : undefined;
  }

  /** Records that a stream opens, whose server reports all shards of this owner. */
  opening(): void {
    this.#grant = new StreamGrant();
    this.#news.clear();
  }

  answered({ sentMs, validFor, shards, serveOnStoreLoss }: ShardServiceAttachResponse): void {
    const wasValid = this.#isValid;
    this.#grant.untilMs = Number(sentMs) + (validFor === undefined ? 0 : durationMs(validFor));
    this.#grant.servesOnStoreLoss = serveOnStoreLoss;
    for (const shard of shards) this.#news.set(shard.id, shard);
    const isGranted = this.#isValid && !wasValid;
    for (const id of isGranted ? [...this.#held.keys(), ...this.#news.keys()] : shards.map((shard) => shard.id)) this.#look(id);
  }

  /** Ends the terms whose validity is over. Returns the time at which the next validity ends. */
  expire(): number {
    // The current stream can grant further shards until then.
    let nextMs = this.#isValid ? this.#grant.untilMs : Number.POSITIVE_INFINITY;
    for (const held of this.#held.values()) {
      if (held.isConfirmed) nextMs = Math.min(nextMs, held.grant.untilMs);
      else if (!held.isPreparation && !held.signal.aborted && !held.isValid()) this.#end(held, "was not extended in time");
    }
    return nextMs;
  }

  /** Returns the shards to report in the next message. A dropped shard is reported once, because the server can then grant it again. */
  report(): { readonly prepared: number[]; readonly dropped: number[] } {
    const ready = [...this.#held.values()].filter((held) => held.isPreparation && held.runningCount === 0 && this.#news.has(held.id));
    const dropped = [...this.#news.values()].filter((news) => !this.#held.has(news.id) && this.#isOver(news)).map(({ id }) => id);
    for (const id of dropped) this.#news.delete(id);
    return { prepared: ready.map(({ id }) => id), dropped };
  }

  /** Ends all shards. No further callback is started. */
  stop(reason: unknown): void {
    this.#isStopped = true;
    for (const held of this.#held.values()) {
      held.end.abort(reason);
      this.#look(held.id);
    }
  }

  /** Drains all shards, although no other owner has accepted them, and starts no further one. */
  drain(): void {
    this.#isStopped = true;
    for (const held of this.#held.values())
      if (held.isPreparation) this.#end(held, "is not needed");
      else this.#drain(held);
  }

  /** Records that a callback has returned. */
  returned(callback: ShardCallback, held: RunningShard): void {
    held.runningCount -= 1;
    if (callback === "onDrain") held.end.abort(new Error(`shard ${held.id} was drained`));
    this.#look(held.id);
  }

  get #isValid(): boolean {
    return this.#options.nowMs() < this.#grant.untilMs;
  }

  /** Whether the server waits until the owner has stopped acting for the shard. */
  #isOver({ id, state, fence }: OwnedShard): boolean {
    const isEarlier = compareFences(tokenOf(fence), this.#fences.get(id) ?? tokenOf()) <= 0;
    // The server would replace all shards of an owner that has dropped one of them by itself. An owner that stops detaches instead.
    return state === DRAINING || state === LOST || (isOwned(state) && isEarlier && !this.#isStopped);
  }

  /** Compares a shard with the news about it, and acts on the difference. */
  #look(id: number): void {
    const held = this.#held.get(id);
    const news = this.#news.get(id);
    if (held === undefined) {
      if (news !== undefined && !this.#isStopped) this.#begin(news);
    } else if (held.signal.aborted || (held.isPreparation && news !== undefined && isOwned(news.state))) {
      if (held.runningCount > 0) return;
      this.#held.delete(id);
      this.#look(id);
    } else if (news !== undefined && this.#isFor(news, held)) {
      held.epoch = Number(news.epoch);
      held.isPaused = news.state === PAUSED;
      held.isThrottled = news.throttled;
      if (news.state === DRAINING) this.#drain(held);
    } else if (held.grant === this.#grant || this.#isValid || news?.state === LOST) this.#end(held, "was lost");
  }

  #begin(news: OwnedShard): void {
    const isTerm = isOwned(news.state) && this.#isValid && !this.#isOver(news);
    if (!isTerm && news.state !== PREPARING) return;
    const held = new RunningShard(news, this.#grant, this.#options);
    if (isTerm) this.#fences.set(held.id, held.fence);
    this.#held.set(held.id, held);
    this.#run(isTerm ? "onOwn" : "onPrepare", held);
  }

  /** A term ends when a later stream grants a validity. A preparation continues on a later stream. */
  #isFor({ state, fence }: OwnedShard, { isPreparation, fence: held, grant }: RunningShard): boolean {
    if (isPreparation) return state === PREPARING;
    return compareFences(tokenOf(fence), held) === 0 && state !== LOST && (grant === this.#grant || !this.#isValid);
  }

  #drain(held: RunningShard): void {
    if (held.isDraining || held.signal.aborted) return;
    held.isDraining = true;
    this.#run("onDrain", held);
  }

  #end(held: RunningShard, why: string): void {
    held.end.abort(new Error(`shard ${held.id} ${why}`));
    if (!held.isPreparation) this.#run("onLost", held);
    this.#look(held.id);
  }

  #run(callback: ShardCallback, held: RunningShard): void {
    held.runningCount += 1;
    this.#options.run(callback, held);
  }
}

/** The fence in a message. An absent fence precedes all others. */
function tokenOf({ failoverVersion = 0n, storeEpoch = 0n, number = 0n }: Partial<Fence> = {}): FenceToken {
  return { failoverVersion: Number(failoverVersion), storeEpoch: Number(storeEpoch), number: Number(number) };
}

function isOwned(state: OwnedShardState): boolean {
  return state === OWNED || state === PAUSED;
}
