/** Shards of real nodes with etcd, and of owners that are processes: they leave, are killed and are paused, and so are the nodes. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Client, compareFences, connect, type ShardClient } from "../../src/client/index.ts";
import { ownerKey } from "../../src/control/shards/records.ts";
import { openEtcdStore } from "../../src/store/etcd/store.io.ts";
import { sized, some } from "../fakes/effort.ts";
import { EtcdCluster, isEtcdThere } from "../fakes/etcd.ts";
import { FencedLog } from "../fakes/fenced-log.ts";
import { LEASE_MS, leaderHome, oneLeader } from "../fakes/leader-nodes.ts";
import type { CommandProcess, NodeProcess } from "../fakes/node-process.ts";
import { freePort } from "../fakes/probed-servers.ts";
import {
  applySet,
  areFencesLater,
  areOwnedBy,
  countsOf,
  type ListedShard,
  LocalOwner,
  LocalOwners,
  type ShardList,
  shardsOf,
  shardsUntil,
  startOwner,
} from "../fakes/shard-nodes.ts";
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
let router: ShardClient;
let nodes: readonly NodeProcess[] = [];
const programs = new Map<string, CommandProcess>();

const processOf = (instance: string): CommandProcess => {
  const found = programs.get(instance);
  if (found === undefined) throw new Error(`no owner ${instance}`);
  return found;
};
/** The nodes that have not been killed. */
const living = () => nodes.filter(({ command }) => command.isRunning);
/** The living nodes, beginning with the one at this index. */
const nodesFrom = (index: number) => living().map((node, i, all) => all[(index + i) % all.length] ?? node);
const start = async (instance: string, servers: readonly NodeProcess[] = nodes) => {
  programs.set(instance, await startOwner(instance, NAMESPACE, log, servers));
};
const owned = (instances: readonly string[], withinMs?: number): Promise<ShardList> =>
  shardsUntil(`the owners are ${instances.join(", ")}`, living(), NAMESPACE, areOwnedBy(...instances), withinMs);
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
  // Each node has an owner. Only the controller has two.
  await Promise.all(INSTANCES.map((instance, i) => start(instance, nodesFrom(i))));
  client = connect({ servers: nodes.map(({ grpc }) => grpc) });
  router = client.shards(NAMESPACE);
  await router.ready();
  await owned(INSTANCES);
});

afterAll(async () => {
  if (!hasEtcd) return;
  client.close();
  await Promise.all([...programs.values(), ...nodes].map((each) => each[Symbol.asyncDispose]()));
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
  await enough(sized(2000, 50));
  processOf("a").kill("SIGTERM");
  await processOf("a").line(/^left$/);
  await enough(done.length + sized(2000, 50));
  stop.abort();
  await Promise.all(load);
  expect(done.filter((item) => log.countOf(item) !== 1)).toEqual([]);
  const { shards } = await owned(["b", "c", "d"]);
  // The load of an owner stays within ceil(1.1 × fair share).
  expect(Math.max(...Object.values(countsOf(shards)))).toBeLessThanOrEqual(Math.ceil((1.1 * COUNT) / 3));
  processOf("a").kill("SIGTERM");
  expect((await processOf("a").finished()).exit).toBe(0);
});

test.runIf(hasEtcd)("the shards of an owner that is killed have other owners within two leases, and no other shard moves", async () => {
  const before = await owned(["b", "c", "d"]);
  processOf("b").kill("SIGKILL");
  const after = await owned(["c", "d"], TWO_LEASES_MS);
  const [lost, others] = [true, false].map((isLost) => before.shards.filter((shard) => (shard.owner === "b") === isLost));
  expect(areFencesLater(lost ?? [], after.shards)).toBe(true);
  expect(
    others?.filter(({ id, owner: kept, fence }) => after.shards[id]?.owner !== kept || compareFences(after.shards[id].fence, fence) !== 0),
  ).toEqual([]);
});

test.runIf(hasEtcd).each(some(["SIGKILL", "SIGTERM"] as const))(
  "an owner whose node ends with %s attaches to another node, and gets its shards back with greater fences",
  async (signal) => {
    const before = await owned(["c", "d"]);
    const kept = before.shards.filter((shard) => shard.owner === "c");
    const ended = nodes.find(({ nodeId }) => nodeId === kept[0]?.nodeId);
    if (ended === undefined) throw new Error("the owner has a node");
    await ended.stop(signal);
    const isBack = ({ shards }: ShardList) =>
      shards.every(({ owner: now, nodeId }, id) => now === before.shards[id]?.owner && nodeId !== ended.nodeId);
    const after = await shardsUntil("the owners have their shards again", living(), NAMESPACE, isBack, 3 * LEASE_MS);
    expect(areFencesLater(kept, after.shards)).toBe(true);
    const others = before.shards.filter(({ nodeId }) => nodeId !== ended.nodeId);
    expect(others.filter(({ id, fence }) => compareFences(after.shards[id]?.fence ?? fence, fence) !== 0)).toEqual([]);
    const restarted = await home.start(ended.nodeId, living());
    nodes = nodes.map((node) => (node === ended ? restarted : node));
  },
);

test.runIf(hasEtcd)(
  "an owner that was paused for longer than its validity does not act, and callers with an old map find the next owner in two retries",
  async () => {
    const before = await owned(["c", "d"]);
    const lost = before.shards.filter((shard) => shard.owner === "d");
    const file = join(home.folder, "map");
    const reader = connect({ servers: nodes.map(({ grpc }) => grpc) });
    await reader.shards(NAMESPACE, { file }).ready();
    await until("the map is in the file", () => existsSync(file));
    reader.close();

    processOf("d").kill("SIGSTOP");
    const after = await owned(["c"]);
    const hasWritten = ({ id }: ListedShard) => {
      const { fence } = after.shards[id] ?? {};
      return log.writes.some((write) => write.scope === scopeOf(id) && fence !== undefined && compareFences(write.fence, fence) === 0);
    };
    await until("the next owner has written", () => lost.every(hasWritten));
    const from = log.writes.length;
    processOf("d").kill("SIGCONT");
    for (const { id } of lost) await processOf("d").line(new RegExp(`^lost ${scopeOf(id)};`));

    // No server answers this client.
    const old = connect({ servers: [`127.0.0.1:${await freePort()}`], findServers: false });
    using calls = new WorkCalls();
    const oldRouter = old.shards(NAMESPACE, { file });
    await oldRouter.ready();
    const keys = Array.from({ length: 200 }, (_, i) => `key-${i}`).filter((key) => oldRouter.route(key).owner === "d");
    const tries = new Map<string, number>();
    const answers = keys.slice(0, 8).map((key) =>
      oldRouter.call(key, (route) => {
        tries.set(key, (tries.get(key) ?? 0) + 1);
        return calls.do(route, key);
      }),
    );
    expect(new Set(await Promise.all(answers))).toEqual(new Set(["c"]));
    expect([1, 2, 3].indexOf(Math.max(...tries.values()))).toBeGreaterThan(0);
    old.close();

    const late = log.writes.slice(from).filter(({ instance, isAccepted }) => instance === "d" && isAccepted);
    const ofOldTerms = late.filter(({ scope, fence }) =>
      lost.some((shard) => scopeOf(shard.id) === scope && compareFences(fence, shard.fence) <= 0),
    );
    expect(ofOldTerms).toEqual([]);
  },
);

/** A hand-over from `from` to `to` in a namespace of its own. */
interface HandOver {
  readonly namespace: string;
  readonly local: LocalOwners;
  readonly from: LocalOwner;
  readonly to: LocalOwner;
}

const gate = () => Promise.withResolvers<void>();

async function startHandOver(namespace: string, servers: readonly NodeProcess[]): Promise<HandOver> {
  const [node] = servers;
  if (node === undefined) throw new Error("no node");
  await applySet(node, namespace, { count: 2 });
  const local = new LocalOwners(namespace);
  const from = await LocalOwner.start(local, "from", servers);
  await until("the first owner acts for all shards", () => local.valid.length === 2);
  return { namespace, local, from, to: await LocalOwner.start(local, "to", servers) };
}

test.runIf(hasEtcd)(
  "a hand-over ends with one owner when the controller is killed while it prepares, drains, or has been dropped",
  async () => {
    const leader = await oneLeader(living());
    const controller = living().find(({ nodeId }) => nodeId === leader.nodeId);
    const others = living().filter((node) => node !== controller);
    const begin = (namespace: string) => startHandOver(namespace, others);
    const [preparing, draining, dropped] = await Promise.all([begin("preparing"), begin("draining"), begin("dropped")]);
    const [prepared, drained, finished] = [gate(), gate(), gate()];
    preparing.to.preparing = prepared.promise;
    draining.from.draining = drained.promise;
    dropped.from.draining = finished.promise;
    const left = [preparing, draining, dropped].map(({ from }) => from.leave());
    const reaches = (handOver: HandOver, status: string) =>
      shardsUntil(`${handOver.namespace} is ${status}`, others, handOver.namespace, ({ shards }) =>
        shards.some((shard) => shard.nextOwner === "to" && shard.status === `SHARD_STATUS_${status}`),
      );
    await Promise.all([reaches(preparing, "ACTIVE"), reaches(draining, "DRAINING"), reaches(dropped, "DRAINING")]);
    await using store = openEtcdStore({ endpoints: etcd.endpoints, prefix: "/waymark/shards/", timeoutMs: 5000 });
    const heldBefore = (await store.get(ownerKey("dropped", "from")))?.version;
    controller?.command.kill("SIGSTOP");
    finished.resolve();
    await until("the owner has dropped the shard", async () => (await store.get(ownerKey("dropped", "from")))?.version !== heldBefore);
    await controller?.stop("SIGKILL");
    prepared.resolve();
    drained.resolve();
    for (const { namespace } of [preparing, draining, dropped])
      await shardsUntil(`the hand-over of ${namespace} has ended`, others, namespace, areOwnedBy("to"));
    await Promise.all(left);
    expect([preparing, draining, dropped].flatMap(({ local }) => local.overlaps)).toEqual([]);
    for (const { from, to } of [preparing, draining, dropped]) for (const each of [from, to]) each[Symbol.dispose]();
  },
);

test.runIf(hasEtcd)(
  "while etcd does not answer, maps are answered with an age, and owners stop or continue as their set says; afterwards they are the same",
  async () => {
    const [node] = living();
    const [member] = etcd.members;
    if (node === undefined || member === undefined) throw new Error("a node must be left");
    const sets = await Promise.all(
      (["STOP", "SERVE"] as const).map(async (behavior, i) => {
        const namespace = behavior.toLowerCase();
        await applySet(node, namespace, { count: 4, onStoreLoss: `STORE_LOSS_BEHAVIOR_${behavior}` });
        const local = new LocalOwners(namespace);
        // Each node has an owner, and therefore a session. A node without one notices after up to 10 s that etcd does not answer.
        const owners = await Promise.all(["x", "y"].map((instance, j) => LocalOwner.start(local, instance, nodesFrom(i + j))));
        const before = await shardsUntil("all shards are owned", living(), namespace, areOwnedBy("x", "y"));
        await until("the owners act", () => local.valid.length === 4);
        return { namespace, local, owners, before };
      }),
    );
    const [stops, serves] = sets;
    if (stops === undefined || serves === undefined) throw new Error("there are two sets");
    member.signal("SIGSTOP");
    try {
      await until(
        "the owners of a set with STOP have stopped",
        () => stops.local.valid.length === 0 && stops.owners.every(({ lostCount }) => lostCount === 2),
      );
      await until("the owners of a set with SERVE are not confirmed", () => serves.local.valid.every(({ isConfirmed }) => !isConfirmed));
      expect(serves.local.valid).toHaveLength(4);
      for (const { namespace, before } of sets)
        for (const each of living()) {
          const list = await shardsOf(each, namespace);
          expect([list.epoch, list.checksum]).toEqual([before.epoch, before.checksum]);
          expect(list.ageMs).toBeGreaterThan(0);
        }
      const { stderr } = await node.run(["mesh", "shards", "list", "stop"]);
      expect(stderr).toMatch(/the control store has not answered for/);
    } finally {
      member.signal("SIGCONT");
    }
    for (const { namespace, local, owners, before } of sets) {
      await until(
        `the owners of ${namespace} act again`,
        () => local.valid.length === 4 && local.valid.every(({ isConfirmed }) => isConfirmed),
      );
      const after = await shardsUntil("all shards are owned", living(), namespace, areOwnedBy("x", "y"));
      expect(after.shards.map(({ owner }) => owner)).toEqual(before.shards.map(({ owner }) => owner));
      expect(local.overlaps).toEqual([]);
      for (const each of owners) each[Symbol.dispose]();
    }
    expect(serves.owners.map(({ lostCount }) => lostCount)).toEqual([0, 0]);
  },
);
