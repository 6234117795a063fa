/**
 * A real node is drained and held in each step from outside. There, the drain is cancelled, or the node is killed and started again.
 *
 * @module-tag night
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { PeerDesired, PeerDrainStep as Step } from "../../gen/waymark/catalog/v1/peer_pb.js";
import { PeerService } from "../../gen/waymark/control/v1/peer_pb.js";
import { DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { DnsService } from "../../gen/waymark/dns/v1/dns_pb.js";
import type { Client } from "../../src/client/index.ts";
import type { ClusterHome } from "../fakes/cluster-home.ts";
import { clientOf, EntryReader, peerOf } from "../fakes/drained-nodes.ts";
import { EtcdCluster, isEtcdThere } from "../fakes/etcd.ts";
import { callNode, leaderHome, leaderOf, oneLeader, RESIGN } from "../fakes/leader-nodes.ts";
import type { NodeProcess } from "../fakes/node-process.ts";
import { applySet, areOwnedBy, LocalOwner, LocalOwners, shardsUntil } from "../fakes/shard-nodes.ts";
import { until } from "../fakes/until.ts";

const LEASED = 3;
const STATIC = 2;
/** They end one after another within 3 s. */
const WATCHES = 150;
/** Owners that do not leave are left for two leases. */
const SETTINGS = { dns: { max_ttl: "5s", min_ttl: "1s" }, leadership: { lease: "4s" } };

const hasEtcd = isEtcdThere();
let etcd: EtcdCluster;
let home1: ClusterHome;
let home2: ClusterHome;
let n1: NodeProcess;
/** The node that is drained. It alone runs checks, so n1 does not take over static entries with checks. */
let n2: NodeProcess;

beforeAll(async () => {
  if (!hasEtcd) return;
  etcd = await EtcdCluster.start();
  home1 = leaderHome("steps", etcd.endpoints, SETTINGS);
  home2 = leaderHome("steps", etcd.endpoints, { ...SETTINGS, checks: { enabled: true, allowed: ["127.0.0.1"] } });
  n1 = await home1.start("n1");
  n2 = await home2.start("n2", [n1]);
  await oneLeader([n1, n2]);
}, 120_000);

afterAll(async () => {
  for (const node of [n1, n2]) await node?.stop();
  await etcd?.[Symbol.asyncDispose]();
  for (const home of [home1, home2]) home?.[Symbol.dispose]();
});

/** A drain of n2, with the clients that a step waits for. */
class DrainedNode implements Disposable {
  readonly name: string;
  readonly #clients: Client[] = [];
  readonly admin = this.client(n1);
  /** A client that moves to n1 when n2 is drained. */
  readonly writer = this.client(n2, n1);
  readonly reader: EntryReader;

  constructor(name: string) {
    this.name = name;
    this.reader = new EntryReader(this.admin, `svc.${name}`);
  }

  client(...servers: readonly NodeProcess[]): Client {
    const client = clientOf(servers);
    this.#clients.push(client);
    return client;
  }

  /** Registers entries that other nodes can take over. */
  async register(): Promise<void> {
    const entry = (instanceId: string) => ({
      key: { namespace: `svc.${this.name}`, name: "web", instanceId },
      targets: [{ host: "10.0.0.1", port: 8000 }],
    });
    await this.writer.register(
      Array.from({ length: LEASED }, (_, i) => entry(`leased-${i}`)),
      { ttlMs: 3000 },
    );
    const entries = Array.from({ length: STATIC }, (_, i) => entry(`static-${i}`));
    await this.writer.call(DiscoveryService.method.register, { staticLease: true, entries });
    await until("n1 has all entries from n2", () => this.nodeIds().length === LEASED + STATIC && this.nodeIds().every((id) => id === "n2"));
  }

  /** The nodes of the entries, as a watch on n1 has them. */
  nodeIds(): readonly string[] {
    return [...this.reader.nodes.values()];
  }

  /** The entries of clients that do not move. */
  async stubborn(): Promise<number> {
    return (await this.admin.call(DiscoveryService.method.catalogQuery, { namespace: `hold.${this.name}` })).items.length;
  }

  async registerStubborn(lease: { readonly ttl?: { readonly seconds: bigint }; readonly staticLease?: boolean }): Promise<void> {
    const key = { namespace: `hold.${this.name}`, name: "web", instanceId: "w" };
    const entry = { key, targets: [{ host: "127.0.0.1", port: 1 }], ...(lease.staticLease && { checks: [TCP_CHECK] }) };
    await this.client(n2).call(DiscoveryService.method.register, { entries: [entry], ...lease });
    await until("n1 knows it", async () => (await this.stubborn()) === 1);
  }

  async releaseStubborn(): Promise<void> {
    const key = { namespace: `hold.${this.name}`, name: "web", instanceId: "w" };
    if ((await this.stubborn()) !== 1) throw new Error("n1 has no entry of the client that does not move");
    await this.client(n2).call(DiscoveryService.method.unregister, { keys: [key] });
  }

  async drain(): Promise<void> {
    await this.admin.call(PeerService.method.drain, { nodeId: "n2", reason: "new disks" });
  }

  /** Waits for a step, as n2 reports it. */
  async step(step: Step): Promise<void> {
    const own = this.client(n2);
    await until(`the drain is in step ${Step[step]}`, async () => (await peerOf(own, "n2")).drain?.step === step);
  }

  /** Cancels the drain, and waits until n2 and n1 know it. */
  async uncordon(): Promise<void> {
    await this.admin.call(PeerService.method.uncordon, { nodeId: "n2", reason: "cancelled" });
    for (const client of [this.client(n2), this.admin])
      await until("the node is active", async () => {
        const { desired, drain } = await peerOf(client, "n2");
        return desired === PeerDesired.ACTIVE && drain === undefined;
      });
  }

  [Symbol.dispose](): void {
    for (const client of this.#clients) client.close();
  }
}

const TCP_CHECK = { interval: { seconds: 3600n }, probe: { case: "tcp" as const, value: {} } };

interface Hold {
  readonly step: Step;
  /** The step in which the node waits after a restart. */
  readonly again: Step;
  /** Makes the drain stay in this step. Returns how this ends. */
  readonly hold: (row: DrainedNode) => Promise<() => Promise<void>>;
}

const HOLDS: Readonly<Record<string, Hold>> = {
  leaders: {
    step: Step.LEADERS,
    // The entry of the owner is left.
    again: Step.LEASES,
    hold: async (row) => {
      const owners = new LocalOwners(row.name);
      await applySet(n1, row.name, { count: 2 });
      const owner = await LocalOwner.start(owners, "a", [n2]);
      await shardsUntil("it owns the shards", [n1, n2], row.name, areOwnedBy("a"));
      const { promise, resolve } = Promise.withResolvers<void>();
      owner.draining = promise;
      return async () => {
        resolve();
        owner[Symbol.dispose]();
        const key = { namespace: row.name, name: "worker", instanceId: "a" };
        await row.client(n2).call(DiscoveryService.method.unregister, { keys: [key] });
      };
    },
  },
  leases: {
    step: Step.LEASES,
    again: Step.LEASES,
    hold: async (row) => {
      await row.registerStubborn({ ttl: { seconds: 120n } });
      return () => row.releaseStubborn();
    },
  },
  "static entries": {
    step: Step.STATIC_ENTRIES,
    again: Step.STATIC_ENTRIES,
    hold: async (row) => {
      await row.registerStubborn({ staticLease: true });
      return () => row.releaseStubborn();
    },
  },
  // They stay for dns.max_ttl.
  addresses: { step: Step.ADDRESSES, again: Step.ADDRESSES, hold: () => Promise.resolve(() => Promise.resolve()) },
  watches: {
    step: Step.WATCHES,
    // The watches have ended with the process.
    again: Step.ADDRESSES,
    hold: async (row) => {
      const client = row.client(n2);
      const readers = Array.from({ length: WATCHES }, () => new EntryReader(client, `svc.${row.name}`));
      await until("all watches are current", () => readers.every(({ isCurrent }) => isCurrent));
      return () => Promise.resolve();
    },
  },
};

/** Whether other nodes list n2 in `ClusterMap` and in DNS. */
async function isListed(client: Client): Promise<boolean> {
  const { nodes } = await client.call(DiscoveryService.method.clusterMap, {});
  const { answers } = await client.call(DnsService.method.resolveName, { name: "n2.node.waymark" });
  return nodes.some(({ key }) => key?.instanceId === "n2") && answers.some((answer) => answer.includes(" A 127.0.0.1"));
}

const rows = Object.entries(HOLDS).map(([name, hold]) => ({ name, ...hold }));

describe.skipIf(!hasEtcd)(`drain${hasEtcd ? "" : " (skipped: needs etcd)"}`, () => {
  test.each(rows)("cancelled in the step of $name, the node serves, leads and accepts entries again", async ({ name, step, hold }) => {
    using row = new DrainedNode(`cancel-${name.replace(" ", "-")}`);
    await row.register();
    const release = await hold(row);
    expect(await isListed(row.admin)).toBe(true);
    await row.drain();
    await row.step(step);
    await row.uncordon();
    await until("n1 lists the node again", () => isListed(row.admin));
    const key = { namespace: `svc.${row.name}`, name: "web", instanceId: "new" };
    const direct = row.client(n2);
    await direct.call(DiscoveryService.method.register, { entries: [{ key, targets: [] }], ttl: { seconds: 60n } });
    await until("n1 has the new entry", () => row.nodeIds().length === LEASED + STATIC + 1);
    expect(row.reader.changes.filter((change) => change.startsWith("REMOVE"))).toEqual([]);
    // The node is a candidate again: when n1 resigns, no other node can lead.
    await until("n2 leads", async () => {
      const leader = await leaderOf(n1);
      if (leader?.nodeId === "n1") await callNode(n1, RESIGN, { scope: "global-control", reason: "test" });
      return leader?.nodeId === "n2";
    });
    await direct.call(DiscoveryService.method.unregister, { keys: [key] });
    await release();
  });

  test.each(rows)("killed in the step of $name, the node continues until it is drained", async ({ name, step, again, hold }) => {
    using row = new DrainedNode(`kill-${name.replace(" ", "-")}`);
    await row.register();
    const release = await hold(row);
    await row.drain();
    await row.step(step);
    await n2.stop("SIGKILL");
    n2 = await home2.start("n2", [n1]);
    await row.step(again);
    expect((await peerOf(row.client(n2), "n2")).desired).toBe(PeerDesired.DRAINED);
    await release();
    await row.step(Step.DRAINED);
    expect(row.reader.changes.filter((change) => change.startsWith("REMOVE"))).toEqual([]);
    expect(row.nodeIds()).toEqual(Array.from({ length: LEASED + STATIC }, () => "n1"));
    expect(await isListed(row.admin)).toBe(false);
    await row.uncordon();
    await until("n1 lists the node again", () => isListed(row.admin));
  });
});
