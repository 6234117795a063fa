/** Implements `own`: attaches an owner of shards to one server at a time, and runs the callbacks of the program. */
import { setImmediate as turnEnd } from "node:timers/promises";
import { aborted } from "node:util";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  type ShardLoadSchema,
  ShardService,
  ShardServiceAttachRequestSchema,
  ShardStatus,
} from "../../../gen/waymark/control/v1/shard_pb.js";
import { CODES } from "../../lib/errors.ts";
import { later, pause } from "../../lib/stall-aware-time.io.ts";
import type { ClientCalls } from "../calls.ts";
import { type HeartbeatStream, heartbeats } from "../heartbeats.io.ts";
import { ANYTHING, checkOptions, FUNCTION, type OptionRules, SIGNAL, TEXT, TIMEOUT } from "../option-rules.ts";
import { OwnedShards, type PendingShard, type RunningShard, type ShardCallback, type ShardTerm } from "./owned-shards.ts";
import { shardCallError, wrongEpoch } from "./shard-errors.io.ts";
import type { ShardRoutes } from "./shard-routes.ts";

/**
 * Options of `own`. Callbacks begin after `own` has resolved. The callbacks of different shards run at the same time. A callback of a shard begins only
 * after the callbacks of earlier terms of the shard have returned. If a callback throws or rejects, all shards stop, and `ShardOwnership.done` rejects
 * with the error. Errors of a callback whose `shard.signal` is aborted are ignored, except for `onLost`.
 */
export interface OwnOptions {
  /** Instance of the service of the shards. The program must have registered it. */
  readonly instance: string;
  /** Share of the shards, relative to the other owners. Defaults to the weight of the entry. */
  readonly weight?: number;
  /** Maximum number of shards. By default, there is no limit. */
  readonly slots?: number;
  /** Prepares the program to own a shard while another program still owns it. The shard moves when the callback has returned. */
  readonly onPrepare?: (shard: PendingShard) => unknown;
  /** Starts the work for a shard. The callback can also do all the work, and return when `shard.signal` is aborted. */
  readonly onOwn: (shard: ShardTerm) => unknown;
  /** Finishes the work for a shard. When the callback has returned, `shard.signal` is aborted, and another program can become the owner. */
  readonly onDrain?: (shard: ShardTerm) => unknown;
  /** Called after `shard.signal` was aborted because the program has lost a shard. */
  readonly onLost?: (shard: ShardTerm) => unknown;
  /** Returns the load of the shards since the last call. Called every 5 s. */
  readonly load?: () => MessageInitShape<typeof ShardLoadSchema>[];
  /** Stops all shards immediately and detaches the owner. `done` then rejects with the reason of the signal. */
  readonly signal?: AbortSignal;
}

/** Default `timeoutMs` of `leave`. */
const LEAVE_MS = 30_000;
const CALLBACKS = { onPrepare: FUNCTION, onOwn: FUNCTION, onDrain: FUNCTION, onLost: FUNCTION, load: FUNCTION };
const RULES: OptionRules<OwnOptions> = { ...CALLBACKS, instance: TEXT, weight: ANYTHING, slots: ANYTHING, signal: SIGNAL };
const LOAD_MS = 5000;
const METADATA = /^(?<namespace>[^;]{1,200});(?<id>\d{1,5});\d{1,16}$/;

/** The attachment of an owner, whose shards come and go. `ShardClient.own` creates it. */
export class ShardOwnership {
  /**
   * Resolves after `leave`, when the owner is detached. Rejects with the error of a callback, with the reason of `options.signal`, or with a
   * `RequestError` if no server can accept the owner or the client is closed. All callbacks have returned then.
   */
  readonly done: Promise<void>;
  readonly #client: ClientCalls;
  readonly #routes: ShardRoutes;
  readonly #options: OwnOptions;
  readonly #shards: OwnedShards;
  readonly #attached = Promise.withResolvers<void>();
  /** Aborted when all callbacks have returned and no shard follows. No stream is opened then. */
  readonly #finished = new AbortController();
  #stream: HeartbeatStream | undefined;
  #isLeaving = false;
  /** Why the owner must stop. */
  #failure: { readonly error: unknown } | undefined;
  #loadDueMs = 0;
  #isBeatDue = false;
  #cancelExpiry = () => {};

  /** `closed` is aborted, with the reason, when the owner must end with its client. */
  constructor(client: ClientCalls, routes: ShardRoutes, options: OwnOptions, closed: AbortSignal) {
    checkOptions("own", options, RULES);
    for (const signal of [options.signal, closed]) {
      signal?.throwIfAborted();
      signal?.addEventListener("abort", () => this.#stop(signal.reason), { signal: this.#finished.signal });
    }
    this.#client = client;
    this.#routes = routes;
    this.#options = options;
    const nowMs = () => performance.now();
    this.#shards = new OwnedShards({ namespace: routes.namespace, nowMs, run: (callback, shard) => void this.#run(callback, shard) });
    this.done = this.#attach();
    // It can be rejected before it is awaited.
    this.done.catch(() => {});
  }

  /** Resolves when a server has accepted the owner. */
  async attached(): Promise<this> {
    await Promise.race([this.#attached.promise, this.done]);
    return this;
  }

  /**
   * Returns the shard of a call with the metadata `waymark-shard`. Throws a `wrongEpoch` error if this program does not own the shard or another owner
   * follows, so that the caller repeats the call. Throws other errors, which callers do not repeat, for a paused shard and for invalid metadata.
   * Handlers of grpc-js can pass all of them to their callbacks.
   */
  check(metadata: string): ShardTerm {
    const { namespace = "", id: text } = METADATA.exec(metadata)?.groups ?? {};
    const id = Number(text);
    if (namespace !== this.#routes.namespace)
      throw shardCallError(CODES.INVALID_ARGUMENT, `invalid metadata: expected ${this.#routes.namespace};<id>;<epoch>`);
    const shard = this.#shards.term(id);
    const paused = `shard ${namespace}/${id} is paused: it accepts no new work until an operator resumes it`;
    if (shard?.isPaused === true) throw shardCallError(CODES.FAILED_PRECONDITION, paused);
    if (shard?.isDraining === false) return shard;
    const known = this.#routes.shard(id) ?? { namespace, id, epoch: 0n };
    const isNewest = shard === undefined || known.epoch > shard.epoch;
    throw wrongEpoch(isNewest ? known : { ...known, epoch: BigInt(shard.epoch), status: ShardStatus.DRAINING });
  }

  /**
   * Gives up all shards, a few at a time, and then detaches the owner. Settles as `done`. After `timeoutMs` (default: 30 s), the owner drains all shards
   * that are left, although no other owner has accepted them, for example because all owners leave at the same time. Then it detaches. Choose a time that
   * ends before the program is killed.
   */
  leave(options: { readonly timeoutMs?: number } = {}): Promise<void> {
    checkOptions("leave", options, { timeoutMs: TIMEOUT });
    this.#isLeaving = true;
    this.#look();
    void pause(options.timeoutMs ?? LEAVE_MS, this.#finished.signal).then(() => this.#shards.drain());
    return this.done;
  }

  async #attach(): Promise<void> {
    let isAttached = false;
    const open = (server: string, signal: AbortSignal) => this.#client.duplexAt(server, ShardService.method.attach, { signal });
    try {
      for await (const { stream, answer } of heartbeats(this.#client, open, (isLast) => this.#message(isLast), this.#finished.signal)) {
        this.#stream = stream;
        if (answer === undefined) this.#shards.opening();
        else {
          if (answer.waitsFor === "" && !isAttached) {
            isAttached = true;
            this.#attached.resolve();
            // The program that awaits `own` has the owner before its callbacks run.
            await turnEnd();
          }
          this.#shards.answered(answer);
          this.#expire();
          if (answer.shards.length > 0) this.#look();
        }
      }
    } catch (error) {
      this.#stop(error);
    }
    await aborted(this.#finished.signal, this);
    this.#cancelExpiry();
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  #message(detach: boolean) {
    const { instance, weight = 0, slots = 0, load } = this.#options;
    const nowMs = performance.now();
    const isLoadDue = nowMs >= this.#loadDueMs;
    if (isLoadDue) this.#loadDueMs = nowMs + LOAD_MS;
    return create(ShardServiceAttachRequestSchema, {
      namespace: this.#routes.namespace,
      instance,
      weight,
      slots,
      ...this.#shards.report(),
      leaving: this.#isLeaving,
      detach,
      sentMs: BigInt(Math.floor(nowMs)),
      loads: (isLoadDue && load?.()) || [],
    });
  }

  /** Runs a callback, but not before the caller has returned. */
  async #run(callback: ShardCallback, shard: RunningShard): Promise<void> {
    await Promise.resolve();
    try {
      await this.#options[callback]?.(shard);
    } catch (error) {
      if (callback === "onLost" || !shard.signal.aborted) this.#stop(error);
    }
    this.#shards.returned(callback, shard);
    this.#look();
  }

  /** Node.js counts a delay from the start of the turn of the event loop, so the timer can be early. */
  #expire(): void {
    this.#cancelExpiry();
    this.#cancelExpiry = later(() => this.#expire(), this.#shards.expire() - performance.now());
  }

  #stop(error: unknown): void {
    this.#failure ??= { error };
    this.#isLeaving = true;
    this.#shards.stop(error);
    this.#look();
  }

  /** Detaches the owner when no shard is left. Otherwise, sends the reports of this turn of the event loop in one message. */
  #look(): void {
    if (this.#finished.signal.aborted) return;
    if (this.#isLeaving && this.#shards.isEmpty) {
      this.#finished.abort();
      this.#stream?.leave();
    } else if (!this.#isBeatDue) {
      this.#isBeatDue = true;
      setImmediate(() => {
        this.#isBeatDue = false;
        if (!this.#finished.signal.aborted) this.#stream?.beat();
      });
    }
  }
}
