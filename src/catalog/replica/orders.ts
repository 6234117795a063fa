/** Which order about the maintenance of a key counts (semantics.md, Maintenance). */
import { type MaintenanceOrder, newerOrder } from "../record/maintenance.ts";
import type { KeyText } from "../record/record.ts";
import type { StoredRecord } from "../record/stored-record.ts";
import { isOfKeysCluster } from "./view.ts";

/** The part of a replica that is asked. */
interface OrderSource {
  readonly hasOrders: boolean;
  own(key: KeyText): StoredRecord | undefined;
  records(key: KeyText): readonly StoredRecord[];
}

/**
 * The newest order that a record of the key carries: of any origin of the key's cluster, staged ones included, and of entries and tombstones alike.
 * So the next registration of the key goes by it, at whatever node. HOT: where no record has an order, it looks nothing up.
 */
export function newestOrder(replica: OrderSource, key: KeyText): MaintenanceOrder | undefined {
  if (!replica.hasOrders) return undefined;
  let newest = replica.own(key)?.order;
  for (const record of replica.records(key)) if (isOfKeysCluster(record)) newest = newerOrder(newest, record.order);
  return newest;
}
