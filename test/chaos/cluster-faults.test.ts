/** Five real nodes under load while the network and they themselves fail: what was acknowledged is kept, what was taken out stays out. */
import type { JsonObject } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { connect, type FollowEvent, follow } from "../../src/client/index.ts";
import { ClusterLoad } from "../fakes/cluster-load.ts";
import { FaultyCluster } from "../fakes/faulty-cluster.ts";
import { textOf } from "../fakes/node.ts";
import { ProvedWatch } from "../fakes/proved-watch.ts";
import { until } from "../fakes/until.ts";

const BAD_WEATHER = { delayMs: 20, jitterMs: 20, lossRatio: 0.05 };

async function loaded(seed: string, fabric: JsonObject = {}) {
  const cluster = await FaultyCluster.start({ count: 5, seed, fabric });
  try {
    cluster.net.setAll(cluster.names, BAD_WEATHER);
    const load = new ClusterLoad(cluster, seed);
    load.start();
    await load.progress(200);
    return { cluster, load };
  } catch (error) {
    await cluster[Symbol.asyncDispose]();
    throw error;
  }
}

test("loss of 5 %, 20 to 40 ms of delay and a partition of 20 s under load: healed, all hold the same, which is what was promised", async () => {
  await using cluster = await FaultyCluster.start({ count: 5, seed: "partition" });
  const { net, names } = cluster;
  net.setAll(names, BAD_WEATHER);
  await using atOne = new ProvedWatch([cluster.at("n1").process.grpc]);
  await using atFour = new ProvedWatch([cluster.at("n4").process.grpc]);
  const load = new ClusterLoad(cluster, "partition");
  load.start();
  await load.progress(200);
  net.partition(["n1", "n2"], ["n3", "n4", "n5"]);
  const cutMonoMs = performance.now();
  await until("each side is alone", async () => [...(await cluster.peersOf("n2")), ...(await cluster.peersOf("n5"))].slice(3));
  while (performance.now() - cutMonoMs < 20_000) await load.progress(20);
  net.heal();
  await load.progress(100);
  await load.stop();
  await load.isKept();
  await cluster.meet();
  for (const watch of [atOne, atFour]) await watch.holds(load.names);
  expect([atOne.fault, atFour.fault]).toEqual([undefined, undefined]);
  expect(net.strangers).toEqual([]);
});

test("kill -9 of two of five under load, and their return with their disks: nothing acknowledged is lost", async () => {
  const { cluster, load } = await loaded("kill");
  await using _ = cluster;
  await using watch = new ProvedWatch([cluster.at("n2").process.grpc]);
  await cluster.kill("n4", "n5");
  await load.progress(200);
  await cluster.run("n4", "n5");
  await load.progress(100);
  // Once more, others; this time one that was told of much by nobody else for a moment.
  await cluster.kill("n1", "n3");
  await cluster.run("n1", "n3");
  await load.progress(100);
  await load.stop();
  await load.isKept();
  await cluster.meet();
  await watch.holds(load.names);
  expect(watch.fault).toBeUndefined();
});

test("a node that lost its disk is a new origin: what it held is there as orphans, and whole when its clients come again", async () => {
  await using cluster = await FaultyCluster.start({ count: 5, seed: "disk" });
  cluster.net.setAll(cluster.names, BAD_WEATHER);
  const entries = Array.from({ length: 20 }, (_, i) => ({
    key: { kind: "ENTRY_KIND_SERVICE", namespace: "svc.market", name: `w${i}`, instanceId: "1" },
  }));
  const register = async () => expect((await cluster.at("n3").door.ask("register", { entries, ttl: "600s" })).code).toBe("OK");
  /** What each node has of health, 20 of it wanted. */
  const all = (health: string) => async () => {
    const faults: string[] = [];
    for (const { name } of cluster.running) {
      const found = [...(await cluster.dump(name)).values()].map((entry) => textOf(entry["health"]));
      if (found.length !== 20 || found.some((each) => each !== `HEALTH_STATUS_${health}`)) faults.push(`${name}: ${found.join()}`);
    }
    return faults;
  };
  await register();
  await until("all have them", all("HEALTHY"));
  await cluster.kill("n3");
  cluster.loseDisk("n3");
  await cluster.run("n3");
  await until("all have them as orphans, the node itself too", all("ORPHANED"));
  await register();
  await until("whole again", all("HEALTHY"));
  const keys = entries.map(({ key }) => key);
  expect((await cluster.at("n1").door.ask("unregister", { keys })).response["removed"]).toBe(20);
  await until("gone, and the old life's do not come back", async () =>
    (await Promise.all(cluster.names.map((name) => cluster.dump(name)))).flatMap((held) => [...held.keys()]),
  );
});

test("all five killed and started at once: everything is there again, everywhere", async () => {
  const { cluster, load } = await loaded("all");
  await using _ = cluster;
  await cluster.kill(...cluster.names);
  await cluster.run(...cluster.names);
  await load.progress(100);
  await load.stop();
  await load.isKept();
  await cluster.meet();
  expect(cluster.net.strangers).toEqual([]);
});

test("a node frozen for 15 s is dead for so long and no longer, holds nobody else for dead, and loses nothing", async () => {
  // As it is set by default: whom a busy machine keeps silent for two seconds is called dead by those of the other tests.
  const { cluster, load } = await loaded("freeze", { interval: "1s", ping_timeout: "500ms" });
  await using _ = cluster;
  const { process: frozen } = cluster.at("n2");
  // What it was asked before would be carried out when it is back, after what was asked of others since.
  cluster.leaveAside("n2");
  await load.isAnswered("n2");
  await load.progress(20);
  frozen.command.kill("SIGSTOP");
  await until("the others know", async () => ((await cluster.peersOf("n1")).includes("n2 alive") ? ["alive"] : []));
  await cluster.at("n1").process.command.errorLine(/"nodeId":"n2".*member is dead/);
  await new Promise((resolve) => setTimeout(resolve, 15_000));
  frozen.command.kill("SIGCONT");
  cluster.takeBack("n2");
  await cluster.meet();
  await load.progress(50);
  await load.stop();
  await load.isKept();
  // All it said: what it has not written yet comes before its end.
  const { stderr } = await frozen.stop();
  const deaths = stderr.split("\n").filter((line) => line.includes("member is dead"));
  expect(deaths).toEqual([]);
});

test("a rolling restart with --on-stop keep: a client that follows two servers is told of no removal", async () => {
  await using cluster = await FaultyCluster.start({ count: 5, seed: "rolling" });
  cluster.net.setAll(cluster.names, { delayMs: 5, jitterMs: 10 });
  const wanted: string[] = [];
  for (const { name, door } of cluster.running) {
    const entries = Array.from({ length: 10 }, (_, i) => ({
      key: { kind: "ENTRY_KIND_SERVICE", namespace: "svc.market", name: `${name}-${i}`, instanceId: "1" },
    }));
    wanted.push(...entries.map(({ key }) => key.name));
    expect((await door.ask("register", { entries, ttl: "600s" })).code).toBe("OK");
  }
  const has = (name: string) => async () => {
    const held = await cluster.dump(name);
    return wanted.filter((each) => held.get(each)?.["health"] !== "HEALTH_STATUS_HEALTHY");
  };
  for (const name of cluster.names) await until(`${name} has all`, has(name));
  const client = connect({ servers: ["n1", "n2"].map((name) => cluster.at(name).process.grpc), findServers: false });
  const end = new AbortController();
  const events: FollowEvent[] = [];
  const following = (async () => {
    for await (const event of follow(client, { namespacePrefix: "svc" }, { signal: end.signal, chance: () => 0.5 })) events.push(event);
  })();
  await until("followed", () => Promise.resolve(events.some(({ kind }) => kind === "synced") ? [] : ["not yet"]));
  for (const name of cluster.names) {
    await cluster.stop(name);
    for (const other of cluster.running)
      await until(`${other.name} keeps all`, async () => {
        const held = await cluster.dump(other.name);
        return wanted.filter((each) => !held.has(each));
      });
    await cluster.run(name);
    for (const each of cluster.names) await until(`${each} has all`, has(each));
  }
  const syncedCount = events.filter(({ kind }) => kind === "synced").length;
  await until("in step", () => Promise.resolve(events.filter(({ kind }) => kind === "synced").length > syncedCount ? [] : ["not yet"]));
  end.abort();
  await following;
  client.close();
  expect(events.filter(({ kind }) => kind === "remove")).toEqual([]);
  expect(new Set(events.flatMap((event) => (event.kind === "put" ? [event.key.name] : [])))).toEqual(new Set(wanted));
});
