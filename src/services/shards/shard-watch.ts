/** The messages of ShardService.Watch, which come from the map of this node. */
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import {
  ShardEventKind,
  type ShardServiceWatchRequest,
  ShardServiceWatchResponseSchema,
} from "../../../gen/waymark/control/v1/shard_pb.js";
import type { ShardMap } from "../../control/shards/maps.ts";
import type { Time } from "../../lib/machine.ts";
import { statusReader } from "./plan-message.ts";
import { ownerMessages, setMessage, shardMessage } from "./shard-messages.ts";
import type { ShardSource } from "./source.ts";

/** Maximum number of shards in one message. */
const MAX_SHARDS = 500;
const HEARTBEAT_MS = 10_000;
/** The epoch of a reader that needs a snapshot. */
const NO_EPOCH = -1;

/** Returns a message of a change by its index. Undefined after the last message, which alone has an epoch. */
type ChangePages = (index: number) => Uint8Array | undefined;

/** The rows of a map that have changed after an epoch, as messages. */
function changePages({ maps }: ShardSource, map: ShardMap, after: number): ChangePages {
  const { namespace } = map;
  const rows = map.rows.filter(({ epoch }) => epoch > after);
  const lastIndex = Math.max(0, Math.ceil(rows.length / MAX_SHARDS) - 1);
  const pages: Uint8Array[] = [];
  const encode = (index: number) => {
    const part = rows.slice(index * MAX_SHARDS, (index + 1) * MAX_SHARDS);
    return bytesOf({
      kind: after === NO_EPOCH ? ShardEventKind.SNAPSHOT : ShardEventKind.CHANGE,
      shards: part.map((row) => shardMessage(namespace, row)),
      owners: ownerMessages(namespace, part, maps.owners(namespace)),
      ...(index === lastIndex && { epoch: BigInt(map.epoch), set: setMessage(map, maps.owners(namespace)) }),
    });
  };
  return (index) => (index > lastIndex ? undefined : (pages[index] ??= encode(index)));
}

/** The last messages that were made of each map. Streams share them, because most streams have the same epoch. */
const LAST_PAGES = new WeakMap<ShardMap, { readonly after: number; readonly pages: ChangePages }>();

function sharedPages(source: ShardSource, map: ShardMap, after: number): ChangePages {
  const last = LAST_PAGES.get(map);
  if (last?.after === after) return last.pages;
  const pages = changePages(source, map, after);
  LAST_PAGES.set(map, { after, pages });
  return pages;
}

/** Returns a function that returns the next message of one stream. Undefined if there is none now. */
export function shardMessages(
  source: ShardSource,
  { namespace, afterEpoch, includePlans }: ShardServiceWatchRequest,
): (time: Time) => Uint8Array | undefined {
  const changedStatus = includePlans ? statusReader(source, namespace) : () => undefined;
  /** The reader has received all changes up to this epoch, or receives them with `pages`. */
  let epoch = Number(afterEpoch) || NO_EPOCH;
  let pages: ChangePages = () => undefined;
  let nextPage = 0;
  let heartbeatDueMs = Number.NEGATIVE_INFINITY;
  return (time) => {
    const page = pages(nextPage++);
    if (page !== undefined) return page;
    const map = source.maps.map(namespace);
    if (map !== undefined && map.epoch !== epoch) {
      pages = sharedPages(source, map, map.epoch < epoch ? NO_EPOCH : epoch);
      [epoch, nextPage] = [map.epoch, 1];
      return pages(0);
    }
    const rebalance = changedStatus();
    if (rebalance !== undefined) return bytesOf({ kind: ShardEventKind.PLAN, rebalance });
    if (time.monoMs < heartbeatDueMs) return undefined;
    heartbeatDueMs = time.monoMs + HEARTBEAT_MS;
    const age = durationFromMs(Math.round(source.store(time).ageMs));
    return bytesOf({ kind: ShardEventKind.HEARTBEAT, epoch: BigInt(Math.max(epoch, 0)), age });
  };
}

function bytesOf(init: MessageInitShape<typeof ShardServiceWatchResponseSchema>): Uint8Array {
  return toBinary(ShardServiceWatchResponseSchema, create(ShardServiceWatchResponseSchema, init));
}
