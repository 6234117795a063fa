/**
 * Leaders and policy of real nodes in the rarer cases: a leader that was paused, etcd that is down at a start or refuses a node, stores that are not
 * shared, and the way from one node to several.
 *
 * @module-tag path
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { decodeStore } from "../../src/control/leadership/records.ts";
import { openEtcdStore } from "../../src/store/etcd/store.io.ts";
import { EtcdCluster, isEtcdThere } from "../fakes/etcd.ts";
import {
  applyPolicy,
  LEASE_MS,
  leaderEvents,
  leaderHome,
  leaderOf,
  leadersOf,
  metricOf,
  oneLeader,
  readinessOf,
  storeSays,
} from "../fakes/leader-nodes.ts";
import { type NodeProcess, waymarkProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

/** So that a node notices early that another one is gone. */
const FABRIC = { interval: "400ms", ping_timeout: "250ms", join_timeout: "2s" };
const NO_FABRIC = { fabric: { enabled: false } };

const policySays = (node: NodeProcess, pattern: RegExp) =>
  until(`${node.nodeId} says ${pattern.source}`, async () => {
    const line = await readinessOf(node, "policy");
    return pattern.test(line) ? [] : [line];
  });

test("two nodes with private stores elect no leader, and say why, also after a restart", async () => {
  using home = leaderHome("private", [], { fabric: FABRIC });
  const a = await home.start("a");
  await oneLeader([a]);
  await using b = await home.start("b", [a]);
  const reason = /^embedded; the control store of this node is private, and the cluster has other nodes/;
  for (const node of [a, b]) {
    await storeSays(node, reason);
    await until("there is no leader", async () => (await leaderOf(node)) === undefined);
    expect((await leadersOf(node)).store.fault).toContain("set store.kind to etcd");
  }
  await a.stop("SIGKILL");
  await using again = await home.start("a");
  await storeSays(again, reason);
});

describe.runIf(isEtcdThere())("with etcd", () => {
  let etcd: EtcdCluster;
  beforeAll(async () => {
    etcd = await EtcdCluster.start();
  });
  afterAll(() => etcd[Symbol.asyncDispose]());
  const storeOf = (clusterId: string, timeoutMs = 5000) =>
    openEtcdStore({ endpoints: etcd.endpoints, prefix: `/waymark/${clusterId}/`, timeoutMs });

  test("a leader that was paused for two leases writes nothing under its fence, and reports that it lost the scope", async () => {
    using home = leaderHome("paused", etcd.endpoints, NO_FABRIC);
    await using a = await home.start("a");
    const before = await oneLeader([a]);
    await using b = await home.start("b");
    await using store = storeOf("paused");
    let version = 0;
    const key = "leaders/global-control";
    await a.paused(2 * LEASE_MS + 200, async () => {
      await oneLeader([b], before);
      version = (await store.get(key))?.version ?? 0;
    });
    expect(JSON.parse(await a.command.errorLine(/"this node lost a scope"/))).toMatchObject({ nodeId: "a", fence: before.fence.number });
    const after = await oneLeader([a, b], before);
    expect(after.nodeId).toBe("b");
    expect((await store.get(key))?.version).toBe(version);
    expect(await metricOf(a, 'mesh_leadership_held{kind="global-control"}')).toBe(0);
  });

  test("a node that starts while etcd is down serves with its own policy, and stands when etcd is there", async () => {
    await using own = await EtcdCluster.start();
    using home = leaderHome("down", own.endpoints, NO_FABRIC);
    const first = await home.start("a");
    const before = await oneLeader([first]);
    expect((await applyPolicy(first, "kept")).body).toMatchObject({ number: "1" });
    await first.stop();
    const [member] = own.members;
    await member?.kill();
    await using second = await home.start("a");
    await policySays(second, /^version 1 in force$/);
    await storeSays(second, /^etcd; etcd 127\.0\.0\.1:\d+: /);
    expect(await applyPolicy(second, "late")).toMatchObject({
      isOk: false,
      body: { message: expect.stringContaining("store_unavailable") as string },
    });
    if (member !== undefined) own.startMember(member);
    await oneLeader([second], before);
    expect((await applyPolicy(second, "later")).body).toMatchObject({ number: "2" });
  });

  test("a warning, and no shorter lease, follows when other members report the leader as gone", async () => {
    using home = leaderHome("silent", etcd.endpoints, { fabric: FABRIC, leadership: { lease: "20s" } });
    await using a = await home.start("a");
    const before = await oneLeader([a]);
    await using b = await home.start("b", [a]);
    await oneLeader([a, b]);
    await a.paused(0, async () => {
      const line = await b.command.errorLine(/"leader is unreachable, but its session has not ended"/);
      expect(JSON.parse(line)).toMatchObject({ level: "warn", nodeId: "a", status: "suspect", scopes: ["global-control"] });
    });
    expect(b.command.stderr.match(/its session has not ended/g)).toHaveLength(1);
    expect(await oneLeader([b])).toEqual(before);
  });

  test("members of one cluster with different stores elect no leader, count it, and report it", async () => {
    await using other = await EtcdCluster.start();
    using home = leaderHome("split", etcd.endpoints, { fabric: FABRIC });
    using foreign = leaderHome("split", other.endpoints, { fabric: FABRIC });
    await using a = await home.start("a");
    await oneLeader([a]);
    using events = leaderEvents(a);
    await events.reads("SNAPSHOT");
    await using b = await foreign.start("b", [a]);
    for (const [node, peer] of [
      [a, "b"],
      [b, "a"],
    ] as const) {
      await storeSays(node, new RegExp(`^etcd; split brain: ${peer} uses the control store [0-9a-f]+, and this node uses [0-9a-f]+: `));
      await until("there is no leader", async () => (await leaderOf(node)) === undefined);
      expect(await metricOf(node, "mesh_leadership_split_brain_total")).toBe(1);
    }
    await events.reads("SPLIT_BRAIN");
    expect(JSON.parse(await a.command.errorLine(/"split brain: this node is no candidate"/))).toMatchObject({
      level: "error",
      peerNodeId: "b",
    });
    await b.stop();
    await oneLeader([a]);
  });

  test("a policy that is applied on one node is in force on the others, whatever its size and whoever was down", async () => {
    using home = leaderHome("policy", etcd.endpoints, NO_FABRIC);
    await using a = await home.start("a");
    const b = await home.start("b");
    await oneLeader([a, b]);
    expect((await applyPolicy(a, "first")).body).toMatchObject({ number: "1" });
    await policySays(b, /^version 1 in force$/);

    const both = await Promise.all([applyPolicy(a, "of-a", { expected: 1 }), applyPolicy(b, "of-b", { expected: 1 })]);
    expect(both.filter(({ isOk }) => isOk)).toHaveLength(1);
    expect(both.find(({ isOk }) => !isOk)?.body.message).toContain("version_conflict");
    for (const node of [a, b]) await policySays(node, /^version 2 in force$/);

    await b.stop();
    expect((await applyPolicy(a, "large", { rules: 1000 })).body).toMatchObject({ number: "3" });
    await using store = storeOf("policy");
    const parts = (await store.list("policy-parts/0000000000000003/")).items;
    expect(parts.length).toBeGreaterThan(2);
    await using again = await home.start("b");
    await policySays(again, /^version 3 in force$/);
  });

  test("a node with a newer policy than the store puts it there", async () => {
    using alone = leaderHome("newer", [], NO_FABRIC);
    const lone = await alone.start("a");
    for (const version of ["one", "two"]) await applyPolicy(lone, version);
    await lone.stop();
    using home = leaderHome("newer", etcd.endpoints, { ...NO_FABRIC, persistence: { data_dir: join(alone.folder, "a") } });
    await using b = await home.start("b");
    // The first leader makes the store usable for a policy.
    await oneLeader([b]);
    expect((await applyPolicy(b, "other")).body).toMatchObject({ number: "1" });
    await using a = await home.startAt("a", join(alone.folder, "a"));
    await policySays(a, /^version 2 in force$/);
    await policySays(b, /^version 2 in force$/);
  });

  test("store copy moves a stopped node into etcd, once, with a higher epoch", async () => {
    using alone = leaderHome("moved", [], NO_FABRIC);
    const dataDir = join(alone.folder, "a");
    const lone = await alone.start("a");
    const before = await oneLeader([lone]);
    await applyPolicy(lone, "moved");
    using home = leaderHome("moved", etcd.endpoints, { ...NO_FABRIC, persistence: { data_dir: dataDir } });
    const copy = () => waymarkProcess(["store", "copy", "--to", "etcd", "--config", home.config, "-o", "json"]);
    expect(await copy()).toMatchObject({ exit: 1, stderr: expect.stringContaining("is in use by process") as string });
    await lone.stop();
    const { stdout, exit } = await copy();
    expect([exit, JSON.parse(stdout)]).toEqual([0, { clusterId: "moved", epoch: expect.any(Number) as number, policyNumber: 1 }]);
    await using store = storeOf("moved");
    const keys = (await store.list("")).items.map(({ key }) => key.split("/")[0] ?? "").toSorted();
    expect([...new Set(keys)]).toEqual(["policy", "policy-parts", "store"]);
    const record = decodeStore((await store.get("store"))?.value ?? new Uint8Array());
    expect(record?.epoch).toBeGreaterThan(before.fence.storeEpoch);
    expect(await copy()).toMatchObject({ exit: 1, stderr: expect.stringContaining("the prefix in etcd is not empty") as string });
    await using a = await home.startAt("a", dataDir);
    const after = await oneLeader([a]);
    expect(after.fence.storeEpoch).toBe(record?.epoch);
    await store.compareAndSwap("leaders/custom/svc.orders/bad", 0, Buffer.from("no record"));
    await until("it is counted", async () => (await metricOf(a, "waymark_store_unreadable_leaders")) === 1);
    await policySays(a, /^version 1 in force$/);
  });
});

test.runIf(isEtcdThere())("a node with a wrong password serves, names the fault, and leads when the file is corrected", async () => {
  await using etcd = await EtcdCluster.start({ flags: ["--bcrypt-cost=4"] });
  const users = [
    ["root", "root"],
    ["waymark", "right"],
  ] as const;
  await etcd.post("auth/role/add", { name: "root" });
  for (const [name, password] of users) {
    await etcd.post("auth/user/add", { name, password });
    await etcd.post("auth/user/grant", { user: name, role: "root" });
  }
  await etcd.post("auth/enable", {});
  using home = leaderHome("password", etcd.endpoints, NO_FABRIC);
  mkdirSync(join(home.folder, "secrets"));
  const file = join(home.folder, "secrets", "password");
  writeFileSync(file, "wrong\n", { mode: 0o600 });
  using guarded = leaderHome("password", etcd.endpoints, { ...NO_FABRIC, store: { user: "waymark", password_file: file } });
  await using a = await guarded.start("a");
  await storeSays(a, /^etcd; etcd 127\.0\.0\.1:\d+: etcdserver: authentication failed, invalid user ID or password/);
  const { exit } = await a.run(["discovery", "query"]);
  expect(exit).toBe(0);
  writeFileSync(file, "right\n");
  await oneLeader([a]);
});
