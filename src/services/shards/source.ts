/** The interface of the shard services to their node, which implements it with its shard machine and its control store. */
import type { ShardInput, ShardOrder } from "../../control/shards/io-types.ts";
import type { ShardMap, ShardMaps } from "../../control/shards/maps.ts";
import type { ShardChange } from "../../control/shards/records.ts";
import { WaymarkError } from "../../lib/errors.ts";
import type { Time } from "../../lib/machine.ts";
import type { StoreStatus } from "../leadership/source.ts";

export interface ShardSource {
  readonly maps: Pick<ShardMaps, "isRead" | "map" | "namespaces" | "owners" | "plans">;
  store(time: Time): StoreStatus;
  /** Calls `onChange` with the namespace whose map or owners can have changed, until the returned function is called. */
  followShards(onChange: (namespace: string) => void): () => void;
  /**
   * Makes an operator's change. Rejects with `not_found` if the namespace has no set or no such plan, and with `discovery_access_denied`,
   * `invalid_argument`, `quota_exceeded`, `version_conflict` or `store_unavailable`. When it resolves, `maps` show the change.
   */
  changeShards(change: ShardOrder): Promise<void>;
  /** Reads the changes after one epoch up to another one from the store, by epoch. Rejects with `store_unavailable`. */
  shardHistory(namespace: string, after: number, upTo: number): Promise<readonly ShardChange[]>;
  /** Passes a message of an owner, or its end, to the node. */
  input(input: ShardInput): void;
}

/** Returns the map of a namespace. Throws `not_found` if it has no set, and `not_ready` if this node cannot know yet. */
export function knownMap({ maps }: Pick<ShardSource, "maps">, namespace: string): ShardMap {
  if (!maps.isRead)
    throw new WaymarkError("not_ready", "this node has not read the control store yet; retry later or on another node", { retryMs: 1000 });
  const map = maps.map(namespace);
  if (map !== undefined) return map;
  throw new WaymarkError("not_found", `namespace ${namespace} has no shards: create them with waymark mesh shards apply`);
}
