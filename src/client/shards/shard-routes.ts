/** The shards of a namespace and their owners, as a stream or a file reported them. This file has no I/O: `shard-client.io.ts` follows the stream. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { durationFromMs, durationMs } from "@bufbuild/protobuf/wkt";
import {
  type Shard,
  ShardEventKind,
  type ShardServiceWatchResponse,
  ShardServiceWatchResponseSchema,
  type ShardSet,
  ShardStatus,
} from "../../../gen/waymark/control/v1/shard_pb.js";
import { returnMs } from "../../lib/backoff.ts";
import { equalBytes, sha256 } from "../../lib/crypto.ts";
import { shardOfKey } from "../../lib/shard-key.ts";
import type { StreamReader } from "../follow.io.ts";

/** Where calls for a key go. */
export interface ShardRoute {
  /** Number of the shard. */
  readonly id: number;
  /** Instance that owns the shard. Empty if the shard has no owner. */
  readonly owner: string;
  /** Address of the owner: `<host>:<port>`. Empty if the shard has no owner, or if the entry of the owner has no address. */
  readonly target: string;
  /** Epoch of the last change of the shard. */
  readonly epoch: number;
  /** The value of the metadata `waymark-shard`: `<namespace>;<id>;<epoch>`. Callers send it with their calls, and owners check it. */
  readonly metadata: string;
  /**
   * Maximum age of the route, in ms: the time since the last heartbeat of the server, plus the time for which the control store had not answered that
   * server. A server sends a heartbeat every 10 s. Infinite before the first heartbeat, unless the routes are from a file.
   */
  readonly ageMs: number;
}

/** Name of the metadata in which a caller sends the shard of its call. */
export const SHARD_METADATA = "waymark-shard";
/** The limits of the contract. */
const MAX_SHARDS = 10_000;
const MAX_OWNERS = 1000;
const CHECKSUM_BYTES = 32;
const NO_TIME = durationFromMs(0);

/** `changed` after the last message of a snapshot or change, and `synced` after a heartbeat, if the shards are known. */
interface RoutesEvent {
  readonly kind: "changed" | "synced";
}

export class ShardRoutes implements StreamReader<ShardServiceWatchResponse, RoutesEvent> {
  readonly namespace: string;
  readonly #nowMs: () => number;
  /** Undefined before the shards are known. */
  #set: ShardSet | undefined;
  /** A snapshot contains all shards, so it replaces them. */
  readonly #shards: (Shard | undefined)[] = [];
  /** The addresses of owners, by instance. */
  readonly #targets = new Map<string, string>();
  #failureCount = 0;
  /** Time at which the routes were current. */
  #currentMs = Number.NEGATIVE_INFINITY;

  /** `nowMs` is a monotonic clock. */
  constructor(namespace: string, nowMs: () => number) {
    this.namespace = namespace;
    this.#nowMs = nowMs;
  }

  get isRead(): boolean {
    return this.#set !== undefined;
  }

  /** The epoch after which the next stream continues. */
  get resumeEpoch(): bigint {
    return this.#set?.epoch ?? 0n;
  }

  message(message: ShardServiceWatchResponse, out: RoutesEvent[]): void {
    this.#failureCount = 0;
    if (message.kind !== ShardEventKind.HEARTBEAT) {
      if (this.#apply(message)) out.push({ kind: "changed" });
    } else if (this.isRead) {
      this.#currentMs = this.#nowMs() - durationMs(message.age ?? NO_TIME);
      out.push({ kind: "synced" });
    }
  }

  broken(chance: number, { retryMs = 0 }: { readonly retryMs?: number | undefined }): number {
    return Math.max(returnMs(this.#failureCount++, chance), retryMs);
  }

  /** The shards must be known. HOT: at most 5 µs (bench/shards.ts). */
  route(key: string | Uint8Array): ShardRoute {
    const id = shardOfKey(this.namespace, this.#set?.settings?.count ?? 0, key);
    const { owner = "", epoch = 0n } = this.#shards[id] ?? {};
    const [target, ageMs] = [this.#targets.get(owner) ?? "", this.#nowMs() - this.#currentMs];
    return { id, owner, target, epoch: Number(epoch), metadata: `${this.namespace};${id};${epoch}`, ageMs };
  }

  /** Undefined for a shard that does not exist or is not known. */
  shard(id: number): Shard | undefined {
    return this.#shards[id];
  }

  /** Whether the shard has changed after the epoch, and has an owner that stays or is disabled. */
  isSettled(id: number, afterEpoch: number): boolean {
    const shard = this.shard(id);
    if (shard === undefined || shard.epoch <= afterEpoch) return false;
    return shard.owner === "" ? shard.status === ShardStatus.DISABLED : shard.status !== ShardStatus.DRAINING;
  }

  /** Applies the newer state of a shard that an owner reported. The address of the new owner must be known. */
  learn(shard: Shard): void {
    if (shard.epoch > (this.#shards[shard.id]?.epoch ?? 0n) && this.#targets.has(shard.owner)) this.#shards[shard.id] = shard;
  }

  /** Returns the content of the file: a checksum and a snapshot with its age. The routes must be synced. */
  encode(): Uint8Array {
    const shards = this.#shards.filter((shard) => shard !== undefined);
    const owners = [...this.#targets].map(([instance, target]) => ({ instance, target }));
    const age = durationFromMs(Math.ceil(this.#nowMs() - this.#currentMs));
    const snapshot = { kind: ShardEventKind.SNAPSHOT, shards, owners, age, ...(this.#set && { set: this.#set }) };
    const bytes = toBinary(ShardServiceWatchResponseSchema, create(ShardServiceWatchResponseSchema, snapshot));
    return Buffer.concat([sha256(bytes), bytes]);
  }

  /** Reads a file that was written `ageMs` ago. Throws an error if the file is damaged or contains other shards. */
  restore(file: Uint8Array, ageMs: number): void {
    const bytes = file.subarray(CHECKSUM_BYTES);
    if (!equalBytes(sha256(bytes), file.subarray(0, CHECKSUM_BYTES))) throw new Error("its checksum is wrong");
    const snapshot = fromBinary(ShardServiceWatchResponseSchema, bytes);
    if (!this.#apply(snapshot)) throw new Error(`it does not contain the shards of ${this.namespace}`);
    this.#currentMs = this.#nowMs() - ageMs - durationMs(snapshot.age ?? NO_TIME);
  }

  /** Applies a message, unless its set is invalid. Returns whether it is the last one of a snapshot or change, which alone contains the set. */
  #apply({ set, shards, owners }: ShardServiceWatchResponse): boolean {
    if (set !== undefined) {
      // Changes contain the settings only if those have changed.
      set.settings ??= this.#set?.settings;
      const count = set.settings?.count ?? 0;
      if (set.namespace !== this.namespace || count === 0 || count > MAX_SHARDS) return false;
      this.#set = set;
    }
    for (const shard of shards) if (shard.id < MAX_SHARDS) this.#shards[shard.id] = shard;
    for (const { instance, target } of owners) this.#targets.set(instance, target);
    if (this.#targets.size > MAX_OWNERS) this.#forgetTargets();
    return set !== undefined;
  }

  /** Forgets the addresses of instances that own no shard. */
  #forgetTargets(): void {
    const owners = new Set(this.#shards.map((shard) => shard?.owner));
    for (const instance of this.#targets.keys()) if (!owners.has(instance)) this.#targets.delete(instance);
  }
}
