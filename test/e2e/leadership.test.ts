/** Leaders and policy of real nodes, alone with their own store and together with etcd. The slow cases are in `leadership-outages.test.ts`. */
import { Resolver } from "node:dns/promises";
import { statSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { connect } from "../../src/client/index.ts";
import { GLOBAL_SCOPE } from "../../src/control/leadership/scope.ts";
import { EtcdCluster, isEtcdThere } from "../fakes/etcd.ts";
import {
  applyPolicy,
  callNode,
  type ElectedLeader,
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
  const written = () =>
    ["control.db", "control.db-wal"].map((name) => {
      const { mtimeMs, size } = statSync(join(home.folder, "a", name));
      return [mtimeMs, size];
    });
  const first = await home.start("a");
  const before = await oneLeader([first]);
  expect(before).toMatchObject({ nodeId: "a", term: 1 });
  const idle = written();
  const { stdout, stderr } = await first.run(["mesh", "leaders", "status"]);
  expect(stdout).toMatch(/^global-control +a +a +1 /m);
  expect(stderr).toMatch(/control store: embedded, epoch \d+\n/);
  expect(written()).toEqual(idle);
  await first.stop("SIGKILL");
  await using second = await home.start("a");
  const after = await oneLeader([second], before);
  expect(after).toMatchObject({ nodeId: "a", term: 2 });
  await second.stop();
  expect(second.command.stderr).toMatch(/"scope":"global-control".*"leader stepped down"/);
});

/** Long enough for a busy machine: a leader that renews its session late would lose its scope. */
const FLEET_LEASE_MS = 3000;
const FAILOVER_MS = 3 * FLEET_LEASE_MS;
const ELECTION_MS = "mesh_leadership_election_duration_ms_sum";

describe.runIf(isEtcdThere())("three nodes with etcd", () => {
  let etcd: EtcdCluster;
  const home = { current: undefined as ReturnType<typeof leaderHome> | undefined };
  let nodes: readonly NodeProcess[] = [];
  /** The nodes that have not been killed. */
  const living = () => nodes.filter(({ command }) => command.isRunning);
  const nodeOf = ({ nodeId }: ElectedLeader): NodeProcess => {
    const found = living().find((node) => node.nodeId === nodeId);
    if (found === undefined) throw new Error(`${nodeId} does not run`);
    return found;
  };

  beforeAll(async () => {
    etcd = await EtcdCluster.start();
    const made = leaderHome("fleet", etcd.endpoints, { leadership: { lease: `${FLEET_LEASE_MS}ms` }, store: { timeout: "300ms" } });
    home.current = made;
    nodes = await Promise.all(["a", "b", "c"].map((name) => made.start(name)));
  });
  afterAll(async () => {
    await Promise.all(nodes.map((node) => node[Symbol.asyncDispose]()));
    await etcd[Symbol.asyncDispose]();
    home.current?.[Symbol.dispose]();
  });

  test("all nodes follow a leader that resigns and one that is killed, and a broken stream of events goes on at another node", async () => {
    const first = await oneLeader(nodes);
    expect(await callNode(nodeOf(first), RESIGN, { scope: GLOBAL_SCOPE, reason: "maintenance" })).toMatchObject({ isOk: true });
    const second = await oneLeader(nodes, first);
    using broken = leaderEvents(nodeOf(second));
    await broken.reads("SNAPSHOT");
    const sumsMs = new Map<string, number>();
    for (const node of nodes) sumsMs.set(node.nodeId, await metricOf(node, ELECTION_MS));
    await nodeOf(second).stop("SIGKILL");
    const [next] = living();
    if (next === undefined) throw new Error("no node is left");
    using resumed = leaderEvents(next, broken.events.at(-1)?.["id"]);
    const third = await oneLeader(living(), second, FAILOVER_MS);
    await resumed.reads("ELECTED");
    const events = resumed.events.map(({ data = "" }) => JSON.parse(data) as { kind: string; leader: { nodeId: string } });
    expect(events.map(({ kind }) => kind.replace("LEADER_EVENT_KIND_", "")).filter((kind) => kind !== "EXPIRED")).toEqual(["ELECTED"]);
    expect(events.at(-1)?.leader.nodeId).toBe(third.nodeId);
    const tookMs = (await metricOf(nodeOf(third), ELECTION_MS)) - (sumsMs.get(third.nodeId) ?? 0);
    expect(tookMs).toBeGreaterThan(FLEET_LEASE_MS / 2);
    expect(tookMs).toBeLessThan(FAILOVER_MS);
  });

  test("while etcd does not answer, reads go on and changes of shared state are refused; afterwards the leader is the same", async () => {
    const before = await oneLeader(living());
    const leader = nodeOf(before);
    const other = living().find((node) => node !== leader);
    const [etcdMember] = etcd.members;
    if (other === undefined || etcdMember === undefined) throw new Error("two nodes must be left");
    const entry = (instanceId: string, host: string) => ({
      key: { namespace: "svc.market", name: "web", instanceId },
      targets: [{ host, port: 80 }],
    });
    const client = connect({ servers: [other.grpc], findServers: false });
    try {
      const map = await client.watch({ namespace: "svc.market" });
      await client.register([entry("1", "10.0.0.1")]);
      etcdMember.signal("SIGSTOP");
      try {
        await client.register([entry("2", "10.0.0.2")]);
        await until("the watch goes on", () => map.size === 2);
        const resolver = new Resolver();
        resolver.setServers([other.listeners["dns"] ?? ""]);
        expect((await resolver.resolve4("web.svc.market.waymark")).toSorted()).toEqual(["10.0.0.1", "10.0.0.2"]);
        const refused = await Promise.all([applyPolicy(other, "late"), applyPolicy(leader, "late")]);
        for (const { isOk, body } of refused) expect([isOk, body.message]).toEqual([false, expect.stringContaining("store_unavailable")]);
        // On a busy machine, a process can wait longer than the store's timeout for its turn.
        expect(Math.min(...refused.map(({ tookMs }) => tookMs))).toBeLessThan(1000);
        await storeSays(other, /^etcd; etcd 127\.0\.0\.1:\d+: .*; last answer [1-9]\d* s ago$/);
        // The session of the leader is older than its lease.
        await until(
          "the leader does not act any more",
          async () => (await metricOf(leader, 'mesh_leadership_held{kind="global-control"}')) === 0,
        );
        expect((await client.discovery.catalogQuery({ namespace: "svc.market" })).items).toHaveLength(2);
      } finally {
        etcdMember.signal("SIGCONT");
      }
    } finally {
      client.close();
    }
    await storeSays(leader, /^etcd; this node leads 1 scope$/);
    await storeSays(other, /^etcd; this node leads 0 scopes$/);
    expect(await oneLeader(living())).toEqual(before);
    etcdMember.signal("SIGSTOP");
    try {
      // etcd can still process this request when it resumes.
      const { isOk, body } = await callNode(other, RESIGN, { scope: GLOBAL_SCOPE, reason: "test" });
      expect([isOk, body.message]).toEqual([false, expect.stringMatching(/^store_unavailable: .*the change may have happened/)]);
    } finally {
      etcdMember.signal("SIGCONT");
    }
  });
});
