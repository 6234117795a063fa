/** Shards of real nodes with etcd, and of owners that are processes: they leave, are killed and are paused, and so are the nodes. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Client, compareFences, connect, type ShardRouter } from "../../src/client/index.ts";
import { EtcdCluster, isEtcdThere } from "../fakes/etcd.ts";
import { FencedLog } from "../fakes/fenced-log.ts";
import { LEASE_MS, leaderHome, oneLeader } from "../fakes/leader-nodes.ts";
import type { CommandProcess, NodeProcess } from "../fakes/node-process.ts";
import { applySet, areFencesLater, areOwnedBy, countsOf, type ShardList, shardsUntil, startOwner } from "../fakes/shard-nodes.ts";
import { WorkCalls } from "../fakes/shard-work.ts";
import { until } from "../fakes/until.ts";

const NAMESPACE = "orders";
const COUNT = 20;
const INSTANCES = ["a", "b", "c", "d"] as const;
/** The goal for the time until the shards of a dead owner have other owners. */
const TWO_LEASES_MS = 2 * LEASE_MS;
/** Number of callers that call at the same time. */
const CALLERS = 4;

const hasEtcd = isEtcdThere();
let etcd: EtcdCluster;
let home: ReturnType<typeof leaderHome>;
let log: FencedLog;
let client: Client;
let router: ShardRouter;
let nodes: readonly NodeProcess[] = [];
const owners = new Map<string, CommandProcess>();

const owner = (instance: string): CommandProcess => {
  const found = owners.get(instance);
  if (found === undefined) throw new Error(`no owner ${instance}`);
  return found;
};
const start = async (instance: string) => owners.set(instance, await startOwner(instance, NAMESPACE, log, nodes));
const owned = (instances: readonly string[], withinMs?: number): Promise<ShardList> =>
  shardsUntil(`the owners are ${instances.join(", ")}`, nodes, NAMESPACE, areOwnedBy(...instances), withinMs);
const scopeOf = (id: number) => `shard/${NAMESPACE}/${id}`;

beforeAll(async () => {
  if (!hasEtcd) return;
  etcd = await EtcdCluster.start();
  home = leaderHome("shards", etcd.endpoints, { fabric: { interval: "400ms", ping_timeout: "250ms" } });
  const first = await home.start("n1");
  nodes = [first, ...(await Promise.all(["n2", "n3"].map((name) => home.start(name, [first]))))];
  await oneLeader(nodes);
  await applySet(first, NAMESPACE, { count: COUNT });
  log = await FencedLog.start();
  await Promise.all(INSTANCES.map(start));
  client = connect({ servers: nodes.map(({ grpc }) => grpc) });
  router = client.shards(NAMESPACE);
  await router.ready();
  await owned(INSTANCES);
});

afterAll(async () => {
  if (!hasEtcd) return;
  client.close();
  await Promise.all([...owners.values(), ...nodes].map((each) => each[Symbol.asyncDispose]()));
  await etcd[Symbol.asyncDispose]();
  await log[Symbol.asyncDispose]();
  home[Symbol.dispose]();
});

test.runIf(hasEtcd)("an owner leaves under load: each item is done once, and no call fails", async () => {
  const stop = new AbortController();
  using calls = new WorkCalls();
  const done: string[] = [];
  const load = Array.from({ length: CALLERS }, async (_, caller) => {
    for (let i = 0; !stop.signal.aborted; i++) {
      const item = `drain-${caller}-${i}`;
      await router.call(item, (route) => calls.do(route, item));
      done.push(item);
    }
  });
  const enough = (count: number) => until("more items are done", () => done.length >= count);
  await enough(50);
  owner("a").kill("SIGTERM");
  await owner("a").line(/^left$/);
  await enough(done.length + 50);
  stop.abort();
  await Promise.all(load);
  expect(done.filter((item) => log.countOf(item) !== 1)).toEqual([]);
  const { shards } = await owned(["b", "c", "d"]);
  // The load of an owner stays within ceil(1.1 × fair share).
  expect(Math.max(...Object.values(countsOf(shards)))).toBeLessThanOrEqual(Math.ceil((1.1 * COUNT) / 3));
  owner("a").kill("SIGTERM");
  expect((await owner("a").finished()).exit).toBe(0);
});

test.runIf(hasEtcd)("the shards of an owner that is killed have other owners within two leases, and no other shard moves", async () => {
  const before = await owned(["b", "c", "d"]);
  owner("b").kill("SIGKILL");
  const after = await owned(["c", "d"], TWO_LEASES_MS);
  const [lost, others] = [true, false].map((isLost) => before.shards.filter((shard) => (shard.owner === "b") === isLost));
  expect(areFencesLater(lost ?? [], after.shards)).toBe(true);
  expect(others?.filter(({ id, owner: kept, fence }) => after.shards[id]?.owner !== kept || compareFences(after.shards[id].fence, fence) !== 0)).toEqual([]);
});
