/** The shards of a namespace and their owners, as a stream or a file reported them. This file has no I/O: `shard-client.io.ts` follows the stream. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import {
  type Shard,
  ShardEventKind,
  type ShardOwner,
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
  /** Maximum age of the route, in ms. 0 while the client and its server receive all changes. */
  readonly ageMs: number;
}

/** Name of the metadata in which a caller sends the shard of its call. */
export const SHARD_METADATA = "waymark-shard";
/** The limits of the contract. */
const MAX_SHARDS = 10_000;
const MAX_OWNERS = 1000;
const CHECKSUM_BYTES = 32;

export class ShardRoutes implements StreamReader<ShardServiceWatchResponse, { readonly kind: "synced"; readonly isChanged: boolean }> {
  readonly namespace: string;
  readonly #nowMs: () => number;
  /** Undefined before the shards are known. */
  #set: ShardSet | undefined;
  #count = 0;
  /** Shards that never changed can be missing. */
  #shards: (Shard | undefined)[] = [];
  readonly #owners = new Map<string, ShardOwner>();
  /** The first messages of a snapshot or change whose last message has not arrived. */
  #parts: ShardServiceWatchResponse[] = [];
  #failureCount = 0;
  /** Whether all changes are received. Otherwise, the routes were current at `#currentMs`. */
  #isCurrent = false;
  #currentMs = 0;

  /** `nowMs` is a monotonic clock. */
  constructor(namespace: string, nowMs: () => number) {
    this.namespace = namespace;
    this.#nowMs = nowMs;
  }

  get isRead(): boolean {
    return this.#set !== undefined;
  }

  /** The epoch after which the next stream continues. A stream that resumes does not report removed owners, so a snapshot clears them. */
  get resumeEpoch(): bigint {
    return this.#owners.size > MAX_OWNERS ? 0n : (this.#set?.epoch ?? 0n);
  }

  message(message: ShardServiceWatchResponse, out: { readonly kind: "synced"; readonly isChanged: boolean }[]): void {
    this.#failureCount = 0;
    const isChanged = message.kind !== ShardEventKind.HEARTBEAT;
    if (isChanged) {
      this.#parts.push(message);
      if (!this.#apply(message.set)) return;
    }
    const ageMs = message.age === undefined ? 0 : durationMs(message.age);
    this.#isCurrent = ageMs === 0;
    this.#currentMs = this.#nowMs() - ageMs;
    out.push({ kind: "synced", isChanged });
  }

  broken(chance: number, { retryMs = 0 }: { readonly retryMs?: number | undefined }): number {
    this.#parts = [];
    if (this.#isCurrent) this.#currentMs = this.#nowMs();
    this.#isCurrent = false;
    return Math.max(returnMs(this.#failureCount++, chance), retryMs);
  }

  /** The shards must be known. HOT: at most 5 µs (bench/shards.ts). */
  route(key: string | Uint8Array): ShardRoute {
    const id = shardOfKey(this.namespace, this.#count, key);
    const { owner = "", epoch = 0n } = this.#shards[id] ?? {};
    const target = this.#owners.get(owner)?.target ?? "";
    const ageMs = this.#isCurrent ? 0 : this.#nowMs() - this.#currentMs;
    return { id, owner, target, epoch: Number(epoch), metadata: `${this.namespace};${id};${epoch}`, ageMs };
  }

  /** Undefined for a shard that never changed or does not exist. */
  shard(id: number): Shard | undefined {
    return this.#shards[id];
  }

  /** Whether the shard has changed after the epoch, and has an owner that stays or is disabled. */
  isSettled(id: number, afterEpoch: number): boolean {
    const shard = this.#shards[id];
    if (shard === undefined || shard.epoch <= afterEpoch) return false;
    return shard.owner === "" ? shard.status === ShardStatus.DISABLED : shard.status !== ShardStatus.DRAINING;
  }

  /** Applies the newer state of a shard that an owner reported. The address of the new owner must be known. */
  learn(shard: Shard): void {
    if (shard.epoch > (this.#shards[shard.id]?.epoch ?? 0n) && this.#owners.has(shard.owner)) this.#shards[shard.id] = shard;
  }

  /** Returns the content of the file: a checksum and a snapshot. */
  encode(): Uint8Array {
    const shards = this.#shards.filter((shard) => shard !== undefined);
    const snapshot = { kind: ShardEventKind.SNAPSHOT, shards, owners: [...this.#owners.values()], ...(this.#set && { set: this.#set }) };
    const bytes = toBinary(ShardServiceWatchResponseSchema, create(ShardServiceWatchResponseSchema, snapshot));
    return Buffer.concat([sha256(bytes), bytes]);
  }

  /** Reads a file that was written `ageMs` ago. Throws an error if the file is damaged or contains other shards. */
  restore(file: Uint8Array, ageMs: number): void {
    const bytes = file.subarray(CHECKSUM_BYTES);
    if (!equalBytes(sha256(bytes), file.subarray(0, CHECKSUM_BYTES))) throw new Error("its checksum is wrong");
    this.#parts = [fromBinary(ShardServiceWatchResponseSchema, bytes)];
    if (!this.#apply(this.#parts[0]?.set)) throw new Error(`it does not contain the shards of ${this.namespace}`);
    this.#currentMs = this.#nowMs() - ageMs;
  }

  /** Applies the collected messages if the last one contains a valid set. */
  #apply(set: ShardSet | undefined): boolean {
    if (set === undefined) return false;
    const parts = this.#parts;
    this.#parts = [];
    const count = set.settings?.count ?? 0;
    if (set.namespace !== this.namespace || count === 0 || count > MAX_SHARDS) return false;
    this.#set = set;
    this.#count = count;
    if (parts[0]?.kind === ShardEventKind.SNAPSHOT) {
      this.#shards = [];
      this.#owners.clear();
    }
    for (const { shards, owners } of parts) {
      for (const shard of shards) if (shard.id < count) this.#shards[shard.id] = shard;
      for (const owner of owners) this.#owners.set(owner.instance, owner);
    }
    return true;
  }
}
