/** Requests of etcd as bytes, for the same work as ours. */
import { field, fieldsOf } from "../_frames.ts";
import { INSTANCES, LEASE_SECONDS, NAMESPACE } from "../_work.ts";

export const ETCD_PATH = {
  range: "/etcdserverpb.KV/Range",
  put: "/etcdserverpb.KV/Put",
  txn: "/etcdserverpb.KV/Txn",
  watch: "/etcdserverpb.Watch/Watch",
  grant: "/etcdserverpb.Lease/LeaseGrant",
  keepAlive: "/etcdserverpb.Lease/LeaseKeepAlive",
} as const;

/** A key whose service comes first and in order, as a user of etcd would choose it. */
export function etcdKey(k: number, namespace = NAMESPACE): string {
  return `/${namespace}/service-${Math.floor(k / INSTANCES)}/i-${k % INSTANCES}`;
}

/** The key after every key that starts with `prefix`. */
function afterPrefix(prefix: string): string {
  return `${prefix.slice(0, -1)}${String.fromCharCode(prefix.charCodeAt(prefix.length - 1) + 1)}`;
}

/** A serializable range over what starts with `prefix`; 0: without a limit. */
export function etcdRange(prefix: string, limit = 0): Uint8Array {
  const parts = [field(1, prefix), field(2, afterPrefix(prefix)), field(7, 1)];
  return Buffer.concat(limit === 0 ? parts : [...parts, field(3, limit)]);
}

/** The instances of one service. */
export function etcdExact(service: number): Uint8Array {
  return etcdRange(`/${NAMESPACE}/service-${service}/`);
}

/** A put; 0: under no lease. */
export function etcdPut(k: number, value: Uint8Array, leaseId = 0, namespace = NAMESPACE): Uint8Array {
  const parts = [field(1, etcdKey(k, namespace)), field(2, value)];
  return Buffer.concat(leaseId === 0 ? parts : [...parts, field(3, leaseId)]);
}

/** A transaction without conditions that puts keys `from` up to `to`; etcd takes 128 by default. */
export function etcdTxn(from: number, to: number, value: Uint8Array, leaseId = 0): Uint8Array {
  return Buffer.concat(Array.from({ length: to - from }, (_, i) => field(2, field(2, etcdPut(from + i, value, leaseId)))));
}

/** A grant for as long as our leases last, under an id of our choice, so that the put can follow without reading the answer; 0: etcd chooses. */
export function etcdGrant(leaseId: number): Uint8Array {
  const ttl = field(1, LEASE_SECONDS);
  return leaseId === 0 ? ttl : Buffer.concat([ttl, field(2, leaseId)]);
}

/** Everything in the namespace, or one service of it. */
export function etcdWatch(service?: number): Uint8Array {
  const prefix = service === undefined ? `/${NAMESPACE}/` : `/${NAMESPACE}/service-${service}/`;
  return field(1, Buffer.concat([field(1, prefix), field(2, afterPrefix(prefix))]));
}

/** Keys of a watch response, and the first byte of each value: what a change says of itself. */
export function etcdChanges(message: Buffer): readonly { readonly key: string; readonly first: number }[] {
  // Events are field 11, the pair in each is field 2, with the key as 1 and the value as 5.
  return fieldsOf(message, 11).flatMap((event) =>
    fieldsOf(event, 2).map((pair) => ({ key: fieldsOf(pair, 1)[0]?.toString() ?? "", first: fieldsOf(pair, 5)[0]?.[0] ?? 0 })),
  );
}

/** Everything in the namespace, by a range that no other watch has: its end is beyond the last key, further for each. */
export function etcdWatchOwn(i: number): Uint8Array {
  const prefix = `/${NAMESPACE}/`;
  return field(1, Buffer.concat([field(1, prefix), field(2, `${prefix}~${i}`)]));
}
