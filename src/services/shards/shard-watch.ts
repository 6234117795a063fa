/** Streams about the shards of a namespace, and the messages of ShardService.Watch, which come from the map of this node. */
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import type { RebalanceStatus } from "../../../gen/waymark/control/v1/rebalance_pb.js";
import { ShardEventKind, ShardServiceWatchResponseSchema } from "../../../gen/waymark/control/v1/shard_pb.js";
import type { ShardMap, ShardRow } from "../../control/shards/maps.ts";
import type { WaymarkError } from "../../lib/errors.ts";
import type { Time } from "../../lib/machine.ts";
import type { StreamSource } from "../service.ts";
import type { PlanFeed } from "./plan-feed.ts";
import { ownerMessages, type ShardOwners, setMessage, shardMessage } from "./shard-messages.ts";
import type { ShardSource } from "./source.ts";

/** Maximum number of shards in one message. */
const MAX_SHARDS = 500;
const HEARTBEAT_MS = 10_000;
/** The epoch of a reader that needs a snapshot. */
const NO_EPOCH = -1;

/** Messages with the rows of a map that have changed after an epoch. */
class ChangePages {
  readonly #map: ShardMap;
  readonly #owners: ShardOwners;
  readonly #kind: ShardEventKind;
  readonly #rows: readonly ShardRow[];
  readonly #pages: Uint8Array[] = [];

  constructor(map: ShardMap, owners: ShardOwners, after: number) {
    this.#map = map;
    this.#owners = owners;
    this.#kind = after === NO_EPOCH ? ShardEventKind.SNAPSHOT : ShardEventKind.CHANGE;
    this.#rows = map.rows.filter(({ epoch }) => epoch > after);
  }

  /** Undefined after the last message, which alone has an epoch. */
  page(index: number): Uint8Array | undefined {
    const lastIndex = Math.max(0, Math.ceil(this.#rows.length / MAX_SHARDS) - 1);
    return index > lastIndex ? undefined : (this.#pages[index] ??= this.#encode(index, index === lastIndex));
  }

  #encode(index: number, isLast: boolean): Uint8Array {
    const { namespace, epoch } = this.#map;
    const rows = this.#rows.slice(index * MAX_SHARDS, (index + 1) * MAX_SHARDS);
    return bytesOf({
      kind: this.#kind,
      shards: rows.map((row) => shardMessage(namespace, row)),
      owners: ownerMessages(namespace, rows, this.#owners),
      ...(isLast && { epoch: BigInt(epoch), set: setMessage(this.#map, this.#owners) }),
    });
  }
}

/** The messages that streams share, because most of them have the same epoch. They are kept until there is a newer map. */
export class ShardFeed {
  readonly source: ShardSource;
  readonly #pages = new WeakMap<ShardMap, Map<number, ChangePages>>();

  constructor(source: ShardSource) {
    this.source = source;
  }

  pages(map: ShardMap, after: number): ChangePages {
    const ofMap = this.#pages.get(map) ?? new Map<number, ChangePages>();
    this.#pages.set(map, ofMap);
    const pages = ofMap.get(after) ?? new ChangePages(map, this.source.maps.owners(map.namespace), after);
    ofMap.set(after, pages);
    return pages;
  }
}

export interface NamespaceStreamParts {
  readonly source: ShardSource;
  readonly namespace: string;
  /** Returns the next message. Undefined if there is none now. */
  readonly next: (time: Time) => Uint8Array | undefined;
  /** Returns the error if the caller can no longer see the namespace. */
  readonly hidden: () => WaymarkError | undefined;
  /** Calls `wake` several times a second until the returned function is called, because heartbeats become due over time. */
  readonly tick: (wake: () => void) => () => void;
  readonly onClose: () => void;
}

/** A stream about the shards of one namespace. */
export class NamespaceStream implements StreamSource {
  readonly endsAtDrain = true;
  readonly #parts: NamespaceStreamParts;
  #end: (error: WaymarkError | undefined) => void = () => {};
  #undo: readonly (() => void)[] = [];

  constructor(parts: NamespaceStreamParts) {
    this.#parts = parts;
  }

  attach(wake: () => void, end: (error: WaymarkError | undefined) => void): void {
    const { source, tick, namespace } = this.#parts;
    this.#end = end;
    this.#undo = [source.followShards((changed) => changed === namespace && wake()), tick(wake)];
  }

  pull(time: Time): Uint8Array | undefined {
    const bytes = this.#parts.next(time);
    const error = bytes && this.#parts.hidden();
    if (error !== undefined) this.#end(error);
    return error === undefined ? bytes : undefined;
  }

  close(): void {
    for (const undo of this.#undo) undo();
    this.#parts.onClose();
  }
}

/** The messages of one ShardService.Watch. */
export class ShardMessages {
  readonly #feed: ShardFeed;
  readonly #namespace: string;
  readonly #plans: PlanFeed | undefined;
  /** The reader has received all changes up to this epoch, or receives them with `#pages`. */
  #epoch: number;
  #pages: ChangePages | undefined;
  #nextPage = 0;
  #rebalance: RebalanceStatus | undefined;
  #heartbeatDueMs = Number.NEGATIVE_INFINITY;

  /** `after` is the epoch after which the stream resumes, or 0 if it starts with a snapshot. `plans` is undefined if the reader does not want plans. */
  constructor(feed: ShardFeed, namespace: string, after: number, plans: PlanFeed | undefined) {
    this.#feed = feed;
    this.#namespace = namespace;
    this.#plans = plans;
    this.#epoch = after || NO_EPOCH;
  }

  next(time: Time): Uint8Array | undefined {
    const page = this.#pages?.page(this.#nextPage++);
    if (page !== undefined) return page;
    this.#pages = undefined;
    const { source } = this.#feed;
    const map = source.maps.map(this.#namespace);
    if (map !== undefined && map.epoch !== this.#epoch) {
      this.#pages = this.#feed.pages(map, map.epoch < this.#epoch ? NO_EPOCH : this.#epoch);
      [this.#epoch, this.#nextPage] = [map.epoch, 1];
      return this.#pages.page(0);
    }
    const rebalance = this.#plans?.status(this.#namespace);
    if (rebalance !== undefined && rebalance !== this.#rebalance) {
      this.#rebalance = rebalance;
      return bytesOf({ kind: ShardEventKind.PLAN, rebalance });
    }
    if (time.monoMs < this.#heartbeatDueMs) return undefined;
    this.#heartbeatDueMs = time.monoMs + HEARTBEAT_MS;
    const age = durationFromMs(Math.round(source.store(time).ageMs));
    return bytesOf({ kind: ShardEventKind.HEARTBEAT, epoch: BigInt(Math.max(this.#epoch, 0)), age });
  }
}

function bytesOf(init: MessageInitShape<typeof ShardServiceWatchResponseSchema>): Uint8Array {
  return toBinary(ShardServiceWatchResponseSchema, create(ShardServiceWatchResponseSchema, init));
}
