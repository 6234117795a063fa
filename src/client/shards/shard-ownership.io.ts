/** Implements `own`: attaches an owner of shards to one server at a time, and runs the callbacks of the program. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  type ShardLoadSchema,
  ShardService,
  type ShardServiceAttachRequest,
  ShardServiceAttachRequestSchema,
} from "../../../gen/waymark/control/v1/shard_pb.js";
import { CODES } from "../../lib/errors.ts";
import { later } from "../../lib/stall-aware-time.io.ts";
import type { ClientCalls } from "../calls.ts";
import { type HeartbeatStream, sendHeartbeats } from "../heartbeats.io.ts";
import { checkOptions, FUNCTION, NUMBER, type OptionRules, SIGNAL, TEXT } from "../option-rules.ts";
import { OwnedShards, type ShardOrder, type ShardPreparation, type ShardTerm } from "./owned-shards.ts";
import type { ShardRoutes } from "./shard-routes.ts";
import { callError, wrongEpoch } from "./wrong-epoch.io.ts";

/**
 * Options of `own`. The callbacks of different shards run at the same time. A callback of a shard begins only after the callbacks of earlier terms of
 * the shard have returned. If a callback throws or rejects, all shards stop, and `ShardOwnership.done` rejects with the error. Errors of a callback
 * whose `shard.signal` is aborted are ignored, except those of `onLost`.
 */
export interface OwnOptions {
  /** Instance of the service of the shards. The program must have registered it. */
  readonly instance: string;
  /** Share of the shards, relative to the other owners. Defaults to the weight of the entry. */
  readonly weight?: number;
  /** Maximum number of shards. By default, there is no limit. */
  readonly slots?: number;
  /** Prepares the program to own a shard while another program still owns it. The shard moves when the callback has returned. */
  readonly onPrepare?: (shard: ShardPreparation) => unknown;
  /** Starts the work for a shard. The callback can also do all the work, and return when `shard.signal` is aborted. */
  readonly onOwn: (shard: ShardTerm) => unknown;
  /** Finishes the work for a shard. When the callback has returned, `shard.signal` is aborted, and another program becomes the owner. */
  readonly onDrain?: (shard: ShardTerm) => unknown;
  /** Called after `shard.signal` was aborted because the program has lost a shard. */
  readonly onLost?: (shard: ShardTerm) => unknown;
  /** Returns the load of the shards since the last call. Called every 5 s. */
  readonly load?: () => MessageInitShape<typeof ShardLoadSchema>[];
  /** Stops all shards immediately and detaches the owner. `done` then rejects with the reason of the signal. */
  readonly signal?: AbortSignal;
}

const RULES: OptionRules<OwnOptions> = {
  instance: TEXT,
  weight: NUMBER,
  slots: NUMBER,
  onPrepare: FUNCTION,
  onOwn: FUNCTION,
  onDrain: FUNCTION,
  onLost: FUNCTION,
  load: FUNCTION,
  signal: SIGNAL,
};
const LOAD_MS = 5000;
const METADATA = /^(?<namespace>[^;]{1,200});(?<id>\d{1,5});\d{1,16}$/;

/** Attaches an owner. `ShardRouter.own` describes it. */
export async function own(client: ClientCalls, routes: ShardRoutes, options: OwnOptions): Promise<ShardOwnership> {
  checkOptions("own", options, RULES);
  checkOptions("own", { instance: options.instance, onOwn: options.onOwn }, { instance: TEXT, onOwn: FUNCTION });
  options.signal?.throwIfAborted();
  const ownership = new ShardOwnership(client, routes, options);
  await Promise.race([ownership.attached, ownership.done]);
  return ownership;
}

/** The attachment of an owner, whose shards come and go. */
export class ShardOwnership {
  /** Resolves when a server has accepted the owner. */
  readonly attached: Promise<void>;
  /**
   * Resolves after `leave`, when the owner is detached. Rejects with the error of a callback, with the reason of `options.signal`, or with a
   * `RequestError` if no server can accept the owner. All callbacks have returned then.
   */
  readonly done: Promise<void>;
  readonly #client: ClientCalls;
  readonly #routes: ShardRoutes;
  readonly #options: OwnOptions;
  readonly #shards: OwnedShards;
  readonly #attached = Promise.withResolvers<void>();
  /** Aborted when all callbacks have returned and no shard will follow. */
  readonly #finished = new AbortController();
  readonly #emptied = Promise.withResolvers<void>();
  #stream: HeartbeatStream | undefined;
  #isLeaving = false;
  #failure: { readonly error: unknown } | undefined;
  #answeredMs = performance.now();
  #loadDueMs = 0;
  #isSendDue = false;
  #cancelExpiry = () => {};

  constructor(client: ClientCalls, routes: ShardRoutes, options: OwnOptions) {
    this.#client = client;
    this.#routes = routes;
    this.#options = options;
    this.#shards = new OwnedShards({
      namespace: routes.namespace,
      nowMs: () => performance.now(),
      run: (order) => void this.#run(order),
    });
    const { signal } = options;
    signal?.addEventListener("abort", () => this.#stop(signal.reason), { signal: this.#finished.signal });
    this.attached = this.#attached.promise;
    this.done = this.#attach();
    // The result can be an error before it is awaited.
    this.done.catch(() => {});
  }

  /**
   * Returns the shard of a call with the metadata `waymark-shard`. Throws a `wrongEpoch` error if this program does not own the shard or accepts no new
   * work for it, so that the caller repeats the call with the next owner. Throws other errors, which callers do not repeat, for a paused shard and for
   * invalid metadata. Handlers of grpc-js can pass all of them to their callbacks.
   */
  check(metadata: string): ShardTerm {
    const { namespace = "", id: idText } = METADATA.exec(metadata)?.groups ?? {};
    const id = Number(idText);
    const known = namespace === this.#routes.namespace ? this.#routes.assignment(id) : undefined;
    if (known === undefined)
      throw callError(
        CODES.INVALID_ARGUMENT,
        `invalid metadata ${JSON.stringify(metadata.slice(0, 256))}: expected ${this.#routes.namespace};<id>;<epoch>`,
      );
    const shard = this.#shards.term(id);
    if (shard === undefined || (shard.isDraining && known.epoch > shard.epoch)) throw wrongEpoch(known);
    if (shard.isDraining) throw wrongEpoch({ ...known, owner: this.#options.instance, status: "DRAINING", epoch: shard.epoch });
    if (shard.isPaused)
      throw callError(CODES.FAILED_PRECONDITION, `shard ${namespace}/${id} is paused, and accepts no work until an operator resumes it`);
    return shard;
  }

  /**
   * Gives up all shards, one after the other, and then detaches the owner. Resolves as `done`. The shards remain while no other owner can accept them.
   */
  leave(): Promise<void> {
    this.#isLeaving = true;
    this.#stream?.beat();
    this.#look();
    return this.done;
  }

  async #attach(): Promise<void> {
    try {
      await sendHeartbeats(this.#client, {
        open: (server, signal) => this.#client.duplexAt(server, ShardService.method.attach, { signal }),
        message: (isLast) => this.#message(isLast),
        opening: (stream) => {
          this.#stream = stream;
          this.#shards.opening();
        },
        answered: (answer) => {
          this.#answeredMs = performance.now();
          this.#attached.resolve();
          this.#shards.answered(answer);
          this.#expire();
          this.#look();
        },
        // An instance that was registered on another node becomes known after a moment.
        mayRetry: ({ facts }) => facts.code === "NOT_FOUND" && performance.now() - this.#answeredMs < this.#client.timeoutMs,
        finished: this.#finished.signal,
      });
    } catch (error) {
      this.#stop(error);
    }
    await this.#emptied.promise;
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  #message(detach: boolean): ShardServiceAttachRequest {
    const { instance, weight = 0, slots = 0 } = this.#options;
    const loads = this.#loads();
    return create(ShardServiceAttachRequestSchema, {
      namespace: this.#routes.namespace,
      instance,
      weight,
      slots,
      ...this.#shards.takeReport(),
      leaving: this.#isLeaving,
      detach,
      sentMs: BigInt(Math.floor(performance.now())),
      loads,
    });
  }

  #loads() {
    const nowMs = performance.now();
    if (nowMs < this.#loadDueMs) return [];
    this.#loadDueMs = nowMs + LOAD_MS;
    try {
      return this.#options.load?.() ?? [];
    } catch (error) {
      this.#stop(error);
      return [];
    }
  }

  /** Runs a callback, but not before the caller has returned. */
  async #run(order: ShardOrder): Promise<void> {
    await Promise.resolve();
    const { callback, shard } = order;
    try {
      await (callback === "onPrepare" ? this.#options.onPrepare?.(shard) : this.#options[callback]?.(shard));
    } catch (error) {
      if (callback === "onLost" || !shard.signal.aborted) this.#stop(error);
    }
    this.#shards.returned(order);
    this.#look();
  }

  /** Ends the shards that were not extended in time. Node.js counts a delay from the start of the turn of the event loop, so a timer can be early. */
  #expire(): void {
    this.#cancelExpiry();
    this.#cancelExpiry = later(() => this.#expire(), this.#shards.expire() - performance.now());
  }

  #stop(error: unknown): void {
    this.#failure ??= { error };
    this.#shards.stop(error);
    this.#look();
  }

  /** Detaches the owner when no shard is left, and sends reports. Many reports of one turn of the event loop are one message. */
  #look(): void {
    if (this.#finished.signal.aborted) return;
    if ((this.#isLeaving || this.#failure !== undefined) && this.#shards.isEmpty) {
      this.#cancelExpiry();
      this.#finished.abort();
      this.#emptied.resolve();
      this.#stream?.leave();
    } else if (this.#shards.hasReport && !this.#isSendDue) {
      this.#isSendDue = true;
      setImmediate(() => {
        this.#isSendDue = false;
        if (this.#shards.hasReport) this.#stream?.beat();
      });
    }
  }
}
