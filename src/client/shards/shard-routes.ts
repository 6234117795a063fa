/** The shards of a namespace and their owners, as a stream or a file reported them. This file has no I/O: `shard-router.io.ts` follows the stream. */
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import {
  type Shard,
  ShardEventKind,
  type ShardServiceWatchResponse as ShardNews,
  type ShardOwner,
  ShardServiceWatchResponseSchema,
  ShardStatus,
} from "../../../gen/waymark/control/v1/shard_pb.js";
import { returnMs } from "../../lib/backoff.ts";
import { equalBytes, sha256 } from "../../lib/crypto.ts";
import { shardOfKey } from "../../lib/shard-key.ts";
import type { StreamReader } from "../follow.io.ts";

/** The names of the statuses, by their number in the contract. */
export const STATUSES = ["UNSPECIFIED", "ACTIVE", "DRAINING", "PAUSED", "DISABLED"] as const;

/** Owner and status of a shard. */
export interface ShardAssignment {
  readonly namespace: string;
  readonly id: number;
  /** Instance that owns the shard. Empty if the shard has no owner. */
  readonly owner: string;
  /** The owner of a DRAINING or PAUSED shard accepts no new work. */
  readonly status: (typeof STATUSES)[number];
  /** Epoch of the last change of the shard. 0 if it never changed. */
  readonly epoch: number;
}

/** Where calls for a key go. */
export interface ShardRoute extends Pick<ShardAssignment, "epoch" | "id" | "owner"> {
  /** Address of the owner: `<host>:<port>`. Empty if the shard has no owner, or if the entry of the owner has no address. */
  readonly target: string;
  /** The value of the metadata `waymark-shard`: `<namespace>;<id>;<epoch>`. Callers send it with their calls, and owners check it. */
  readonly metadata: string;
  /** Maximum age of the owner, in ms. 0 while the client and its server receive all changes. */
  readonly ageMs: number;
}

interface KnownShard extends ShardAssignment {
  readonly metadata: string;
}

/** Name of the metadata in which a caller sends the shard of its call. */
export const SHARD_METADATA = "waymark-shard";
/** The limits of the contract. */
const MAX_SHARDS = 10_000;
const MAX_OWNERS = 1000;
const CHECKSUM_BYTES = 32;

/** The event of a map that is up to date. */
export interface ShardsSynced {
  readonly kind: "synced";
  /** Whether shards or owners may have changed. */
  readonly isChanged: boolean;
}

export class ShardRoutes implements StreamReader<ShardNews, ShardsSynced> {
  readonly namespace: string;
  readonly #nowMs: () => number;
  #count = 0;
  #epoch = 0n;
  #shards: (KnownShard | undefined)[] = [];
  readonly #owners = new Map<string, Pick<ShardOwner, "instance" | "target">>();
  /** The first messages of a snapshot or change whose last message has not arrived. */
  #parts: ShardNews[] = [];
  #failureCount = 0;
  /** The age of the map was `#ageMs` at `#atMs`. Without an open stream, the age increases. */
  #isUp = false;
  #ageMs = 0;
  #atMs = 0;

  /** `nowMs` is a monotonic clock. */
  constructor(namespace: string, nowMs: () => number) {
    this.namespace = namespace;
    this.#nowMs = nowMs;
  }

  get isRead(): boolean {
    return this.#count > 0;
  }

  /** The epoch after which the next stream continues. */
  get epoch(): bigint {
    return this.#epoch;
  }

  message(news: ShardNews, out: ShardsSynced[]): void {
    this.#failureCount = 0;
    const isChanged = news.kind !== ShardEventKind.HEARTBEAT;
    if (isChanged) {
      this.#parts.push(news);
      if (!this.#apply(news)) return;
    }
    this.#seen(true, news.age === undefined ? 0 : durationMs(news.age));
    out.push({ kind: "synced", isChanged });
  }

  broken(chance: number, { retryMs = 0 }: { readonly retryMs?: number | undefined }): number {
    this.#parts = [];
    if (this.#isUp) this.#seen(false, this.#ageMs);
    return Math.max(returnMs(this.#failureCount++, chance), retryMs);
  }

  /** Returns the shard of a key. The map must have been read. HOT: runs for each routed call (bench/shards.ts). */
  shardOf(key: string | Uint8Array): number {
    return shardOfKey(this.namespace, this.#count, key);
  }

  /** HOT: runs for each routed call. */
  route(id: number): ShardRoute {
    const { owner, epoch, metadata } = this.#shards[id] ?? this.#unowned(id);
    const isCurrent = this.#isUp && this.#ageMs === 0;
    const ageMs = isCurrent ? 0 : this.#ageMs + this.#nowMs() - this.#atMs;
    return { id, owner, target: this.#owners.get(owner)?.target ?? "", epoch, metadata, ageMs };
  }

  /** Undefined for a shard that does not exist. */
  assignment(id: number): ShardAssignment | undefined {
    return id < this.#count ? (this.#shards[id] ?? this.#unowned(id)) : undefined;
  }

  /** Whether the shard has changed after the epoch, and waiting for its next change is useless: it has an owner that stays, or is disabled. */
  isSettled(id: number, afterEpoch: number): boolean {
    const { owner, status, epoch } = this.#shards[id] ?? this.#unowned(id);
    return epoch > afterEpoch && (owner === "" ? status === "DISABLED" : status !== "DRAINING");
  }

  /** Applies an assignment that an owner reported, until the stream reports another one. The address of the new owner must be known. */
  learn({ namespace, id, owner, status, epoch }: ShardAssignment): void {
    const isNewer = namespace === this.namespace && epoch > (this.#shards[id]?.epoch ?? 0);
    if (isNewer && id < this.#count && this.#owners.has(owner)) this.#shards[id] = this.#known({ id, owner, status, epoch });
  }

  /** The content of the file: SHA-256 and bytes of a snapshot. */
  encode(): Uint8Array {
    const snapshot: MessageInitShape<typeof ShardServiceWatchResponseSchema> = {
      kind: ShardEventKind.SNAPSHOT,
      epoch: this.#epoch,
      shards: this.#shards.flatMap((shard) =>
        shard === undefined ? [] : [{ ...shard, status: ShardStatus[shard.status], epoch: BigInt(shard.epoch) }],
      ),
      owners: [...this.#owners.values()].map(({ instance, target }) => ({ instance, target })),
      set: { namespace: this.namespace, epoch: this.#epoch, settings: { count: this.#count } },
    };
    const bytes = toBinary(ShardServiceWatchResponseSchema, create(ShardServiceWatchResponseSchema, snapshot));
    return Buffer.concat([sha256(bytes), bytes]);
  }

  /** Reads a file that was written `ageMs` ago. Throws an error if the file is damaged or contains another map. */
  restore(file: Uint8Array, ageMs: number): void {
    const bytes = file.subarray(CHECKSUM_BYTES);
    if (!equalBytes(sha256(bytes), file.subarray(0, CHECKSUM_BYTES))) throw new Error("the checksum is wrong");
    const snapshot = fromBinary(ShardServiceWatchResponseSchema, bytes);
    this.#parts = [snapshot];
    if (!this.#apply(snapshot)) throw new Error(`it is not a map of ${this.namespace}`);
    this.#seen(false, ageMs);
  }

  #seen(isUp: boolean, ageMs: number): void {
    this.#isUp = isUp;
    this.#ageMs = ageMs;
    this.#atMs = this.#nowMs();
  }

  /** Applies the collected messages after the last one. Returns false after another message, or if they do not belong to a valid set. */
  #apply({ set, epoch }: ShardNews): boolean {
    if (set === undefined) return false;
    const parts = this.#parts;
    this.#parts = [];
    const count = set.settings?.count ?? 0;
    if (set.namespace !== this.namespace || count === 0 || count > MAX_SHARDS) return false;
    if (parts[0]?.kind === ShardEventKind.SNAPSHOT) {
      this.#shards = [];
      this.#owners.clear();
    }
    this.#count = count;
    this.#epoch = epoch;
    for (const { shards, owners } of parts) {
      for (const shard of shards) if (shard.id < count) this.#shards[shard.id] = this.#known(assignmentOf(shard));
      for (const owner of owners) this.#owners.set(owner.instance, owner);
    }
    if (this.#owners.size > MAX_OWNERS) this.#forgetOwners();
    return true;
  }

  /** A stream that resumes does not report the owners that were removed in the meantime. */
  #forgetOwners(): void {
    const owners = new Set(this.#shards.map((shard) => shard?.owner));
    for (const instance of this.#owners.keys()) if (!owners.has(instance)) this.#owners.delete(instance);
  }

  #unowned(id: number): KnownShard {
    return this.#known({ id, owner: "", status: "ACTIVE", epoch: 0 });
  }

  #known(shard: Omit<KnownShard, "metadata" | "namespace">): KnownShard {
    return { namespace: this.namespace, ...shard, metadata: `${this.namespace};${shard.id};${shard.epoch}` };
  }
}

function assignmentOf({ id, owner, status, epoch }: Shard) {
  return { id, owner, status: STATUSES[status] ?? "UNSPECIFIED", epoch: Number(epoch) };
}
