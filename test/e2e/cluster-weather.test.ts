/**
 * Five real nodes in bad weather and a short partition: the short form of `test/chaos/cluster-faults.test.ts`; and DNS through the same weather.
 * @module-tag night
 */
import { afterAll, beforeAll, expect, test } from "vitest";
import { ClusterLoad } from "../fakes/cluster-load.ts";
import { dig, isDigThere } from "../fakes/dig.ts";
import { FaultyUdp } from "../fakes/fault-net.ts";
import { FaultyCluster } from "../fakes/faulty-cluster.ts";
import { ProvedWatch } from "../fakes/proved-watch.ts";
import { until } from "../fakes/until.ts";

const WEATHER = { delayMs: 20, jitterMs: 20, lossRatio: 0.05 };

let cluster: FaultyCluster;

beforeAll(async () => {
  cluster = await FaultyCluster.start({ count: 5, seed: "weather" });
  cluster.net.setAll(cluster.names, WEATHER);
});

afterAll(() => cluster[Symbol.asyncDispose]());

test("under load, with loss, delay and a partition that heals, all five hold what was promised, and so do watches", async () => {
  const { net } = cluster;
  const watches = ["n2", "n5"].map((name) => new ProvedWatch([cluster.at(name).process.grpc]));
  const load = new ClusterLoad(cluster, "weather");
  load.start();
  await load.progress(60);
  net.partition(["n1", "n2"], ["n3", "n4", "n5"]);
  await until("each side is alone", async () => [...(await cluster.peersOf("n2")), ...(await cluster.peersOf("n5"))].slice(3));
  await load.progress(60);
  net.heal();
  await load.progress(30);
  await load.stop();
  await load.isKept();
  for (const watch of watches) await watch.holds(load.names);
  expect(watches.map(({ fault }) => fault)).toEqual([undefined, undefined]);
  for (const watch of watches) await watch[Symbol.asyncDispose]();
  // Every connection was known for whose it is, so the faults were there.
  expect(net.strangers).toEqual([]);
});

test.skipIf(!isDigThere())("dig gets the same answer of any node, though a third of its packets is lost", async () => {
  const entry = {
    key: { kind: "ENTRY_KIND_SERVICE", namespace: "svc.dns", name: "web", instanceId: "1" },
    targets: [{ host: "10.9.8.7", port: 8080 }],
  };
  expect((await cluster.at("n1").door.ask("register", { entries: [entry], staticLease: true })).code).toBe("OK");
  for (const [at, name] of cluster.names.entries()) {
    await until(`${name} has it`, async () => ((await cluster.dump(name)).has("web") ? [] : ["not yet"]));
    const [host = "", port] = (cluster.at(name).process.listeners["dns"] ?? "").split(":");
    // Of every second node the first question is lost, and of the others the first answer.
    const isLost = (packet: number) => packet % 3 === at % 2;
    await using way = await FaultyUdp.open(cluster.net, { host, port: Number(port) }, WEATHER, isLost);
    const often = ["+time=5", "+tries=12", "+short"];
    const said = await dig(`127.0.0.1:${way.port}`, ...often, "SRV", "_svc._tcp.web.svc.dns.waymark");
    expect(said.split("\n")).toContainEqual(expect.stringMatching(/^0 \d+ 8080 /));
    expect(way.lostCount).toBeGreaterThan(0);
  }
});
