/** Leaders and policy of real nodes, alone with their own store and together with etcd. The slow cases are in `leadership-outages.test.ts`. */
import { Resolver } from "node:dns/promises";
import { statSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { connect } from "../../src/client/index.ts";
import { EtcdCluster, isEtcdThere } from "../fakes/etcd.ts";
import {
  applyPolicy,
  callNode,
  LEASE_MS,
  leaderEvents,
  leaderHome,
  metricOf,
  oneLeader,
  RESIGN,
  storeSays,
} from "../fakes/leader-nodes.ts";
import type { NodeProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

test("a lone node leads, writes nothing while it is idle, and leads with a later fence after a restart", async () => {
  using home = leaderHome("lone");
  const written = () => ["control.db", "control.db-wal"].map((name) => statSync(join(home.folder, "a", name)));
  const first = await home.start("a");
  const before = await oneLeader([first]);
  expect(before).toMatchObject({ nodeId: "a", term: 1 });
  const { stdout, stderr } = await first.run(["mesh", "leaders", "status"]);
  expect(stdout).toMatch(/^global-control +a +a +1 /m);
  expect(stderr).toMatch(/control store: embedded, epoch \d+\n/);
  const idle = written();
  await new Promise((resolve) => {
    setTimeout(resolve, LEASE_MS / 2);
  });
  expect(written().map(({ mtimeMs, size }) => [mtimeMs, size])).toEqual(idle.map(({ mtimeMs, size }) => [mtimeMs, size]));
  await first.stop("SIGKILL");
  await using second = await home.start("a");
  const after = await oneLeader([second], before);
  expect(after).toMatchObject({ nodeId: "a", term: 2 });
});

describe.runIf(isEtcdThere())("three nodes with etcd", () => {
  let etcd: EtcdCluster;
  const home = { current: undefined as ReturnType<typeof leaderHome> | undefined };
  let nodes: readonly NodeProcess[] = [];
  /** The nodes that have not been killed. */
  const living = () => nodes.filter(({ command }) => command.isRunning);

  beforeAll(async () => {
    etcd = await EtcdCluster.start();
    const made = leaderHome("fleet", etcd.endpoints);
    home.current = made;
    nodes = await Promise.all(["a", "b", "c"].map((name) => made.start(name)));
  });
  afterAll(async () => {
    await Promise.all(nodes.map((node) => node[Symbol.asyncDispose]()));
    await etcd[Symbol.asyncDispose]();
    home.current?.[Symbol.dispose]();
  });

  test("all nodes have the same leader; when it is killed, another one follows, and a broken stream of events goes on elsewhere", async () => {
    const before = await oneLeader(nodes);
    const first = nodes.find(({ nodeId }) => nodeId === before.nodeId);
    if (first === undefined) throw new Error("the leader is not one of the nodes");
    using broken = leaderEvents(first);
    await broken.reads("SNAPSHOT");
    const seen = broken.events.findLast(({ id }) => id !== undefined)?.["id"];
    await first.stop("SIGKILL");
    const killedMs = performance.now();
    const [second] = living();
    if (second === undefined) throw new Error("no node is left");
    using resumed = leaderEvents(second, seen);
    const after = await oneLeader(living(), before, 3 * LEASE_MS);
    expect(performance.now() - killedMs).toBeLessThan(3 * LEASE_MS);
    await resumed.reads("ELECTED");
    const events = resumed.events.map(({ data = "" }) => JSON.parse(data) as { kind: string; leader: { nodeId: string } });
    expect(events.filter(({ kind }) => kind.endsWith("_SNAPSHOT"))).toEqual([]);
    expect(events.filter(({ kind }) => kind.endsWith("_ELECTED")).map(({ leader }) => leader.nodeId)).toEqual([after.nodeId]);
    const winner = living().find(({ nodeId }) => nodeId === after.nodeId);
    if (winner === undefined) throw new Error("the winner is gone");
    expect(await metricOf(winner, "mesh_leadership_election_duration_ms_count")).toBe(1);
    const tookMs = await metricOf(winner, "mesh_leadership_election_duration_ms_sum");
    expect(tookMs).toBeGreaterThan(LEASE_MS / 2);
    expect(tookMs).toBeLessThan(2 * LEASE_MS);
  });

  test("while etcd does not answer, reads go on and changes of shared state are refused; afterwards the leader is the same", async () => {
    const before = await oneLeader(living());
    const leader = living().find(({ nodeId }) => nodeId === before.nodeId);
    const other = living().find(({ nodeId }) => nodeId !== before.nodeId);
    if (leader === undefined || other === undefined) throw new Error("two nodes must be left");
    const entry = (instanceId: string, host: string) => ({
      key: { namespace: "svc.market", name: "web", instanceId },
      targets: [{ host, port: 80 }],
    });
    const client = connect({ servers: [other.grpc], findServers: false });
    try {
      const map = await client.watch({ namespace: "svc.market" });
      await client.register([entry("1", "10.0.0.1")]);
      const [etcdMember] = etcd.members;
      etcdMember?.signal("SIGSTOP");
      try {
        await client.register([entry("2", "10.0.0.2")]);
        await until("the watch goes on", () => map.size === 2);
        const resolver = new Resolver();
        resolver.setServers([other.listeners["dns"] ?? ""]);
        expect((await resolver.resolve4("web.svc.market.waymark")).toSorted()).toEqual(["10.0.0.1", "10.0.0.2"]);
        const refused = await Promise.all([
          callNode(other, RESIGN, { scope: "global-control", reason: "test" }),
          applyPolicy(other, "late"),
          applyPolicy(leader, "late"),
        ]);
        for (const { isOk, tookMs, body } of refused) {
          expect([isOk, body.message]).toEqual([false, expect.stringContaining("store_unavailable")]);
          expect(tookMs).toBeLessThan(1000);
        }
        await storeSays(other, /^etcd; etcd 127\.0\.0\.1:\d+: .*; last answer [1-9]\d* s ago$/);
        // The session of the leader is older than its lease.
        await until(
          "the leader does not act any more",
          async () => (await metricOf(leader, 'mesh_leadership_held{kind="global-control"}')) === 0,
        );
        expect((await client.discovery.catalogQuery({ namespace: "svc.market" })).items).toHaveLength(2);
      } finally {
        etcdMember?.signal("SIGCONT");
      }
    } finally {
      client.close();
    }
    await storeSays(leader, /^etcd; this node leads 1 scope$/);
    await storeSays(other, /^etcd; this node leads 0 scopes$/);
    expect(await oneLeader(living())).toEqual(before);
  });
});
