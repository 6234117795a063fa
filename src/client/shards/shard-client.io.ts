/** Implements `shards`: follows the shards of a namespace, and routes calls to their owners. The routes survive lost servers. */
import { existsSync, statSync } from "node:fs";
import { rename, writeFile } from "node:fs/promises";
import { ShardService, ShardStatus } from "../../../gen/waymark/control/v1/shard_pb.js";
import { readNamedFile } from "../../lib/named-file.io.ts";
import { later, pause } from "../../lib/stall-aware-time.io.ts";
import type { ClientCalls } from "../calls.ts";
import { following } from "../follow.io.ts";
import { checkOptions, FUNCTION, type OptionRules, TEXT } from "../option-rules.ts";
import { closedFailure, lateFailure, notReadyFailure, unreachedFailure } from "../request-error.ts";
import { wrongEpochShard } from "./shard-errors.io.ts";
import { type OwnOptions, ShardOwnership } from "./shard-ownership.io.ts";
import { type ShardRoute, ShardRoutes } from "./shard-routes.ts";

/** Options of `shards`. */
export interface ShardsOptions {
  /** File in which the routes are kept, so that the program can start while no server answers. Each program needs its own file. */
  readonly file?: string;
  /** Called when a stream breaks, and when the file cannot be read or written. It must not throw. */
  readonly onError?: (error: Error) => void;
}

const RULES: OptionRules<ShardsOptions> = { file: TEXT, onError: FUNCTION };
/** A server sends a message every 10 s. */
const SILENT_MS = 25_000;
/** 10,000 shards need about 1 MB. */
const MAX_FILE_BYTES = 16 << 20;
/** Times after which the first and the second retry of a call are sent if its owner has not learned yet that it owns the shard. */
const BEHIND_MS = [100, 3000] as const;

/** Routes calls to the owners of the shards of a namespace. */
export class ShardClient {
  readonly #client: ClientCalls;
  readonly #options: ShardsOptions;
  readonly #routes: ShardRoutes;
  /** Aborted when the stream must end. */
  readonly #abort = new AbortController();
  /** Aborted when the owners must end, with the reason. */
  readonly #closed = new AbortController();
  readonly #first = Promise.withResolvers<void>();
  /** Aborted after each change, and when the stream has ended. There is another one after a change. */
  #changed = new AbortController();

  /** `onClose` is called when the routes are no longer updated. Throws a TypeError that names an invalid option. */
  constructor(client: ClientCalls, namespace: string, options: ShardsOptions, onClose: () => void) {
    checkOptions("shards", { namespace }, { namespace: TEXT });
    checkOptions("shards", options, RULES);
    this.#client = client;
    this.#options = options;
    this.#routes = new ShardRoutes(namespace, () => performance.now());
    this.#abort.signal.addEventListener("abort", onClose);
    this.#first.promise.catch(() => {});
    void this.#follow();
  }

  /**
   * Resolves when the routes are known: from a server, or from the file if no server answers. Rejects with a `RequestError` if a server rejects the
   * request, or if no server answers within the client's `timeoutMs` and there is no valid file. The client then opens another stream at the next call of `shards`.
   */
  ready(): Promise<void> {
    return this.#first.promise;
  }

  /**
   * Returns the owner of a key without a request. While no server answers, it returns the last known owner. Throws a `RequestError` with the reason
   * NOT_READY before the routes are known.
   */
  route(key: string | Uint8Array): ShardRoute {
    if (!this.#routes.isRead) throw notReadyFailure(`the shards of ${this.#routes.namespace} have not been read yet`, this.#client.server);
    return this.#routes.route(key);
  }

  /**
   * Calls `fn` with the route of a key. `fn` sends `route.metadata` to `route.target` as the metadata `waymark-shard`. If `fn` rejects with a
   * `wrongEpoch` error, the call is repeated with the newer route, at most twice. If the shard has no owner or is moving, each try waits for the next
   * owner, at most for the client's `timeoutMs`. Rejects with the error of `fn`, or with a `RequestError` if the shard has no owner.
   */
  async call<T>(key: string | Uint8Array, fn: (route: ShardRoute) => T | Promise<T>): Promise<T> {
    let afterEpoch = -1;
    let waitMs = this.#client.timeoutMs;
    for (let tryCount = 0; ; tryCount++) {
      await this.#settle(this.route(key).id, afterEpoch, waitMs);
      const route = this.route(key);
      if (route.owner === "") throw unreachedFailure(`shard ${this.#routes.namespace}/${route.id} has no owner`, this.#client.server);
      try {
        return await fn(route);
      } catch (error) {
        const shard = wrongEpochShard(error);
        const behindMs = BEHIND_MS[tryCount];
        if (behindMs === undefined || shard?.namespace !== this.#routes.namespace || shard.id !== route.id) throw error;
        this.#routes.learn(shard);
        const isDrained = shard.epoch >= route.epoch && shard.status === ShardStatus.DRAINING;
        waitMs = shard.epoch > route.epoch || isDrained ? this.#client.timeoutMs : behindMs;
        afterEpoch = route.epoch;
      }
    }
  }

  /**
   * Makes an instance of the service of the shards an owner. The program must have registered the instance. Resolves when a server has accepted the
   * owner, which waits for the control store, and while an earlier stream of the instance can still act. Rejects with a `RequestError` if a server
   * rejects it or the client is closed, and with the reason of `options.signal`. `OwnOptions` describes the callbacks.
   */
  async own(options: OwnOptions): Promise<ShardOwnership> {
    await this.ready();
    return new ShardOwnership(this.#client, this.#routes, options, this.#closed.signal).attached();
  }

  /**
   * Ends the stream and the owners. The last routes are kept. The shards of the owners stop immediately: call `leave` of the owners first, so that
   * other owners follow without a gap.
   */
  close(): void {
    const error = closedFailure(`the client of the shards of ${this.#routes.namespace} is closed`, this.#client.server);
    this.#closed.abort(error);
    this.#end(error);
  }

  async #follow(): Promise<void> {
    const { signal } = this.#abort;
    const { namespace } = this.#routes;
    this.#restore();
    const late = () => (this.#routes.isRead ? this.#first.resolve() : this.#end(lateFailure(this.#client.timeoutMs, this.#client.server)));
    const cancel = later(late, this.#client.timeoutMs);
    let breakCount = 0;
    const onBreak = (error: Error): void => {
      this.#options.onError?.(error);
      if (this.#routes.isRead && ++breakCount >= this.#client.servers.length) this.#first.resolve();
    };
    const open = (server: string, abort: AbortSignal) =>
      this.#client.streamAt(server, ShardService.method.watch, { namespace, afterEpoch: this.#routes.resumeEpoch }, { signal: abort });
    const stream = { use: "write", open, reader: this.#routes, silentMs: SILENT_MS, catchingUpMs: SILENT_MS } as const;
    let isSaved = true;
    try {
      for await (const { kind } of following(this.#client, () => stream, { signal, waitsForServer: true, onBreak })) {
        if (kind === "synced") {
          cancel();
          this.#first.resolve();
          isSaved ||= await this.#save();
        } else {
          isSaved = false;
          this.#changed.abort();
          this.#changed = new AbortController();
        }
      }
    } catch (error) {
      if (error instanceof Error) this.#options.onError?.(error);
      this.#end(error);
    }
    cancel();
  }

  /** Ends the stream. Owners continue. */
  #end(error: unknown): void {
    this.#first.reject(error);
    this.#abort.abort();
    this.#changed.abort();
  }

  /** Writes the file. Returns false if that has failed. */
  async #save(): Promise<boolean> {
    const { file, onError } = this.#options;
    if (file === undefined) return true;
    try {
      await writeFile(`${file}.new`, this.#routes.encode(), { mode: 0o600 });
      await rename(`${file}.new`, file);
      return true;
    } catch (error) {
      onError?.(new Error(`the shards of ${this.#routes.namespace} were not written to ${file}`, { cause: error }));
      return false;
    }
  }

  #restore(): void {
    const { file, onError } = this.#options;
    if (file === undefined || !existsSync(file)) return;
    try {
      const bytes = readNamedFile({ setting: "file", path: file, maxBytes: MAX_FILE_BYTES });
      this.#routes.restore(bytes, Math.max(0, Date.now() - statSync(file).mtimeMs));
    } catch (error) {
      onError?.(new Error(`the file ${file} of shards is ignored`, { cause: error }));
    }
  }

  /** Waits until the shard is settled after the epoch, at most for the given time. */
  async #settle(id: number, afterEpoch: number, waitMs: number): Promise<void> {
    const endMs = performance.now() + waitMs;
    for (let leftMs = waitMs; leftMs > 0 && !this.#abort.signal.aborted; leftMs = endMs - performance.now()) {
      if (this.#routes.isSettled(id, afterEpoch)) return;
      await pause(leftMs, this.#changed.signal);
    }
  }
}
