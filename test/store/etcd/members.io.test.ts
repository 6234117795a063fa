/**
 * Three members of etcd, some of which die.
 * @module-tag path
 */
import { describe, expect, test } from "vitest";
import { openEtcdStore } from "../../../src/store/etcd/store.io.ts";
import { EtcdCluster, isEtcdThere } from "../../fakes/etcd.ts";
import { until } from "../../fakes/until.ts";

const bytes = (text: string) => new TextEncoder().encode(text);

describe.runIf(isEtcdThere())("three members of etcd", () => {
  test("requests and watches move to another member when one dies, and end when there is no leader", async () => {
    await using etcd = await EtcdCluster.start({ memberCount: 3 });
    const [first, second, third] = etcd.members;
    await using store = openEtcdStore({ endpoints: etcd.endpoints, prefix: "/waymark/members/", timeoutMs: 1000 });
    await using other = openEtcdStore({ endpoints: [third?.endpoint ?? ""], prefix: "/waymark/members/", timeoutMs: 3000 });
    await store.compareAndSwap("n", 0, bytes("0"));
    using watch = store.watch("");
    await watch.next();

    const isUnavailable = { reason: "store_unavailable" };
    await Promise.all([expect(watch.next()).rejects.toMatchObject(isUnavailable), first?.kill()]);
    const written: number[] = [];
    await until("ten changes were made", async () => {
      const { version = 0 } = (await other.get("n")) ?? {};
      const swap = await other.compareAndSwap("n", version, bytes("x"));
      if (swap.isSwapped) written.push(swap.version);
      return written.length === 10;
    });
    expect(await watch.next()).toMatchObject({ isReset: true, changes: [{ key: "n", version: written.at(-1) }] });
    expect(await store.get("n")).toMatchObject({ version: written.at(-1) });

    await Promise.all([expect(watch.next()).rejects.toMatchObject(isUnavailable), third?.kill()]);
    await expect(store.get("n")).rejects.toMatchObject(isUnavailable);
    await until("the member that is left says that it has no leader", async () => {
      const fault: unknown = await openEtcdStore({ endpoints: [second?.endpoint ?? ""], prefix: "/x/", timeoutMs: 1000 })
        .get("n")
        .catch((error: unknown) => error);
      return String(fault).includes("etcdserver: no leader");
    });

    if (third !== undefined) etcd.startMember(third);
    await until("the store answers again", async () => (await store.get("n")) !== undefined);
    const { version = 0 } = (await store.get("n")) ?? {};
    const last = await store.compareAndSwap("n", version, bytes("last"));
    await until("the watch continues", async () => (await watch.next())?.revision === last.version);
  });
});
