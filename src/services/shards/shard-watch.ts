/** The messages of ShardService.Watch, and the statuses of RebalanceService.Watch. They come from the maps of this node. */
import { create, equals, type MessageInitShape, toBinary, toJsonString } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { type RebalanceStatus, RebalanceStatusSchema } from "../../../gen/waymark/control/v1/rebalance_pb.js";
import {
  ShardEventKind,
  type ShardServiceWatchRequest,
  ShardServiceWatchResponseSchema,
  ShardSettingsSchema,
} from "../../../gen/waymark/control/v1/shard_pb.js";
import type { ShardMap } from "../../control/shards/maps.ts";
import type { Time } from "../../lib/machine.ts";
import { ownerMessages, setMessage, settingsMessage, shardMessage, statusMessage } from "./shard-messages.ts";
import type { ShardSource } from "./source.ts";

/** Maximum number of shards in one message. */
const MAX_SHARDS = 500;
const HEARTBEAT_MS = 10_000;
/** The epoch of a reader that needs a snapshot. */
const NO_EPOCH = -1;

/** The settings of each map, as text, which streams share. */
const SETTINGS = new WeakMap<ShardMap, string>();

function settingsText(map: ShardMap): string {
  const text = SETTINGS.get(map) ?? toJsonString(ShardSettingsSchema, settingsMessage(map.set.value));
  SETTINGS.set(map, text);
  return text;
}

/** The rows of a map that have changed after an epoch, as messages. */
type ChangePages = (index: number, time: Time) => Uint8Array | undefined;

/** The last messages that were made of each map. Streams share them, because most streams have one of a few epochs. */
const LAST_PAGES = new WeakMap<ShardMap, Map<string, ChangePages>>();
const MAX_KEPT = 16;

/** Returns a function that returns a message by its index. Undefined after the last message, which alone has an epoch. */
function changePages({ maps }: ShardSource, map: ShardMap, after: number, hasSettings: boolean): ChangePages {
  const kept = LAST_PAGES.get(map) ?? new Map<string, ChangePages>();
  LAST_PAGES.set(map, kept);
  const key = `${after} ${hasSettings}`;
  const known = kept.get(key);
  if (known !== undefined) return known;
  const rows = map.rows.filter(({ epoch }) => epoch > after);
  const lastIndex = Math.max(0, Math.ceil(rows.length / MAX_SHARDS) - 1);
  const pages: Uint8Array[] = [];
  const encode = (index: number, time: Time) => {
    const part = rows.slice(index * MAX_SHARDS, (index + 1) * MAX_SHARDS);
    const set = setMessage(maps, map, time);
    if (!hasSettings) delete set.settings;
    return bytesOf({
      kind: after === NO_EPOCH ? ShardEventKind.SNAPSHOT : ShardEventKind.CHANGE,
      shards: part.map((row) => shardMessage(map.namespace, row)),
      owners: ownerMessages(maps, map, part),
      ...(index === lastIndex && { epoch: set.epoch, set }),
    });
  };
  const page: ChangePages = (index, time) => (index > lastIndex ? undefined : (pages[index] ??= encode(index, time)));
  if (kept.size >= MAX_KEPT) kept.clear();
  kept.set(key, page);
  return page;
}

/** Returns a function that returns the next message of one stream. Undefined if there is none now. `opened` is the map when the stream opens. */
export function shardMessages(
  source: ShardSource,
  { namespace, afterEpoch, includePlans }: ShardServiceWatchRequest,
  opened: ShardMap,
): (time: Time) => Uint8Array | undefined {
  const changedStatus = includePlans ? statusReader(source, namespace) : () => undefined;
  /** The reader has received all changes up to this epoch, or receives them with `pages`. */
  let epoch = Number(afterEpoch) || NO_EPOCH;
  /** The settings that the reader has. Undefined if this node does not know them. */
  let settings = opened.epoch === epoch ? settingsText(opened) : undefined;
  let pages: ChangePages | undefined;
  let nextPage = 0;
  let heartbeatDueMs = Number.NEGATIVE_INFINITY;
  return (time) => {
    const page = pages?.(nextPage++, time);
    if (page !== undefined) return page;
    pages = undefined;
    const map = source.maps.map(namespace);
    if (map !== undefined && map.epoch !== epoch) {
      const after = map.epoch < epoch ? NO_EPOCH : epoch;
      const before = after === NO_EPOCH ? undefined : settings;
      settings = settingsText(map);
      pages = changePages(source, map, after, settings !== before);
      [epoch, nextPage] = [map.epoch, 1];
      return pages(0, time);
    }
    const rebalance = changedStatus();
    if (rebalance !== undefined) return bytesOf({ kind: ShardEventKind.PLAN, rebalance });
    if (time.monoMs < heartbeatDueMs) return undefined;
    heartbeatDueMs = time.monoMs + HEARTBEAT_MS;
    const age = durationFromMs(Math.round(source.store(time).ageMs));
    return bytesOf({ kind: ShardEventKind.HEARTBEAT, epoch: BigInt(Math.max(epoch, 0)), age });
  };
}

/** Returns a function that returns the status of a set and its newest plan, or undefined if it is the same as in the last call. */
export function statusReader({ maps }: ShardSource, namespace: string): () => RebalanceStatus | undefined {
  let last: RebalanceStatus | undefined;
  return () => {
    const map = maps.map(namespace);
    const status = map && statusMessage(map, maps.plans(namespace));
    if (status === undefined || status === last) return undefined;
    const isSame = last !== undefined && equals(RebalanceStatusSchema, last, status);
    last = status;
    return isSame ? undefined : status;
  };
}

function bytesOf(init: MessageInitShape<typeof ShardServiceWatchResponseSchema>): Uint8Array {
  return toBinary(ShardServiceWatchResponseSchema, create(ShardServiceWatchResponseSchema, init));
}
