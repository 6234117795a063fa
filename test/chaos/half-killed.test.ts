/** More than half of a cluster killed under load, at once: the rest goes on, hides nothing, and all is there when they are back. */
import { expect, test } from "vitest";
import { ClusterLoad } from "../fakes/cluster-load.ts";
import { FaultyCluster } from "../fakes/faulty-cluster.ts";
import { ProvedWatch } from "../fakes/proved-watch.ts";
import { until } from "../fakes/until.ts";

/** Longer than it takes to notice the last of three deaths after the first: until then nothing says that it was half of the cluster. */
const GRACE_MS = 15_000;

test("kill -9 of three of five under load: what they held stays shown beyond the grace, and nothing acknowledged is lost", async () => {
  await using cluster = await FaultyCluster.start({ count: 5, seed: "half", fabric: { orphan_grace: `${GRACE_MS}ms` } });
  const entries = [{ key: { kind: "ENTRY_KIND_SERVICE", namespace: "static", name: "of-n5", instanceId: "1" } }];
  expect((await cluster.at("n5").door.ask("register", { entries, staticLease: true })).code).toBe("OK");
  const health = async (): Promise<unknown> => {
    const { response } = await cluster.at("n1").door.ask("catalogQuery", { namespace: "static" });
    return ((response["items"] ?? []) as { health: string }[])[0]?.health;
  };
  await until("n1 has it", async () => (await health()) === "HEALTH_STATUS_HEALTHY");
  const load = new ClusterLoad(cluster, "half");
  load.start();
  await load.progress(60);
  await using watch = new ProvedWatch([cluster.at("n2").process.grpc]);
  await cluster.kill("n3", "n4", "n5");
  await until("it is protected", async () => (/^mesh_orphan_protected(\{\})? 1$/m.test(await cluster.metrics("n1")) ? [] : ["not yet"]));
  const protectedMonoMs = performance.now();
  while (performance.now() - protectedMonoMs < 2 * GRACE_MS) await load.progress(10);
  expect(await health()).toBe("HEALTH_STATUS_ORPHANED");
  await cluster.run("n3", "n4", "n5");
  await load.progress(40);
  await load.stop();
  await load.isKept();
  await cluster.meet();
  await until("no longer protected", async () => (/^mesh_orphan_protected(\{\})? 0$/m.test(await cluster.metrics("n1")) ? [] : ["still"]));
  expect(await health()).toBe("HEALTH_STATUS_HEALTHY");
  await watch.holds(load.names);
  expect(watch.fault).toBeUndefined();
});
