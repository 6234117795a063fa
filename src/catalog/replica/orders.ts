/** Which orders about the maintenance of a key count (semantics.md, Maintenance). */
import { type MaintenanceOrders, newerOrders } from "../record/maintenance.ts";
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
 * The newest orders that records of the key carry: of any origin of the key's cluster, staged ones included, and of entries and tombstones alike.
 * So the next registration of the key goes by them, at whatever node. HOT: where no record has an order, it looks nothing up.
 */
export function newestOrders(replica: OrderSource, key: KeyText): MaintenanceOrders | undefined {
  if (!replica.hasOrders) return undefined;
  let newest = replica.own(key)?.orders;
  for (const record of replica.records(key)) if (isOfKeysCluster(record)) newest = newerOrders(newest, record.orders);
  return newest;
}
