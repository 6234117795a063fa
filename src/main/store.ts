/** Copies the control state of a stopped node into etcd, on behalf of the command line, which cannot import the store room. */
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { CopiedStore } from "../cli/environment.ts";
import type { Settings } from "../config/settings.ts";
import { decodeStore, encodeRecord, STORE_KEY } from "../control/leadership/records.ts";
import { Metrics } from "../lib/metrics/metrics.ts";
import { openSharedStore } from "../node/control/component.io.ts";
import { publishPolicy } from "../node/control/shared-policy.io.ts";
import { decodeFacts } from "../policy/versions/codec.ts";
import { VERSIONS } from "../policy/versions/policy-store.ts";
import { allItems } from "../store/control/all-items.io.ts";
import { openSqliteStore } from "../store/control/sqlite.io.ts";
import type { ControlStore, StoreItem } from "../store/control/store.ts";
import { DATA_FILES } from "../store/data-directory.ts";

/**
 * Copies the newest policy and the identity of the cluster, with a higher epoch. Sessions and leaders are not copied. Throws with a message for the
 * operator if the node is running, or if the prefix in etcd is not empty.
 */
export async function copyStore(settings: Settings): Promise<CopiedStore> {
  const { clusterId } = settings.node;
  const { dataDir } = settings.persistence;
  if (!existsSync(join(dataDir, DATA_FILES.control)))
    throw new Error(`${dataDir} is not the data directory of a node: it has no ${DATA_FILES.control}`);
  await using source = await openSqliteStore(dataDir);
  await using target = openSharedStore(settings, new Metrics());
  const item = await source.get(STORE_KEY);
  const before = item && decodeStore(item.value);
  if (before !== undefined && before.clusterId !== clusterId)
    throw new Error(`${dataDir} belongs to the cluster ${before.clusterId}, and node.cluster_id is ${clusterId}`);
  const [found] = (await target.list("", { limit: 1 })).items;
  if (found !== undefined)
    throw new Error(`the prefix in etcd is not empty: it has the key ${found.key}; set another store.prefix, or remove its keys`);
  const policy = await newestPolicy(source);
  const number = policy === undefined ? 0 : numberOf(policy);
  if (policy !== undefined) await publishPolicy(target, policy.value);
  const epoch = Math.max(Math.floor(Date.now() / 1000), (before?.epoch ?? 0) + 1);
  const { isSwapped } = await target.compareAndSwap(STORE_KEY, 0, encodeRecord({ clusterId, id: randomBytes(8).toString("hex"), epoch }));
  if (!isSwapped) throw new Error("a node has used the prefix in etcd during the copy: stop all nodes, remove its keys, and copy again");
  return { clusterId, epoch, policyNumber: number };
}

/** Returns the newest version of the policy. Undefined if there is none. */
async function newestPolicy(store: ControlStore): Promise<StoreItem | undefined> {
  let newest: StoreItem | undefined;
  for await (const item of allItems(store, VERSIONS)) newest = item;
  return newest;
}

function numberOf({ key, value }: StoreItem): number {
  const read = decodeFacts(value);
  if (!read.ok) throw new Error(`the newest policy version, ${key}, cannot be read: ${read.fault}`);
  return read.version.number;
}
