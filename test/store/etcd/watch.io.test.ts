/** Watches whose connection, history or reader fails. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CODES } from "../../../src/lib/errors.ts";
import { type ControlStore, MAX_PAGE_ITEMS, type StoreChanges, type StoreWatch } from "../../../src/store/control/store.ts";
import { EtcdClient } from "../../../src/store/etcd/client.io.ts";
import type { WatchMessage } from "../../../src/store/etcd/codec.ts";
import { openEtcdStore } from "../../../src/store/etcd/store.io.ts";
import { EtcdCluster, isEtcdThere } from "../../fakes/etcd.ts";
import { Relay } from "../../fakes/relay.ts";
import { until } from "../../fakes/until.ts";

const bytes = (text: string) => new TextEncoder().encode(text);

/** Reads a watch up to a revision, as `reset`, `+key@version` and `-key@version`. */
async function readTo(watch: StoreWatch, revision: number, steps: StoreChanges[] = []): Promise<readonly string[]> {
  const lines: string[] = [];
  for (;;) {
    const step = await watch.next();
    if (step === undefined) return [...lines, "closed"];
    steps.push(step);
    if (step.isReset) lines.push("reset");
    lines.push(...step.changes.map(({ key, version, item }) => `${item === undefined ? "-" : "+"}${key}@${version}`));
    if (step.isCurrent && step.revision >= revision) return lines;
  }
}

describe.runIf(isEtcdThere())("a watch of etcd", () => {
  let etcd: EtcdCluster;
  let storeCount = 0;
  beforeAll(async () => {
    etcd = await EtcdCluster.start();
  });
  afterAll(() => etcd[Symbol.asyncDispose]());

  /** A store with keys of its own, through a relay. */
  async function openRelayed(): Promise<{ readonly store: ControlStore; readonly direct: ControlStore; readonly relay: Relay }> {
    storeCount += 1;
    const prefix = `/waymark/watch-${storeCount}/`;
    const relay = await Relay.to(etcd.endpoints[0] ?? "");
    const options = { prefix, timeoutMs: 1000 };
    return {
      store: openEtcdStore({ ...options, endpoints: [relay.address] }),
      direct: openEtcdStore({ ...options, endpoints: etcd.endpoints }),
      relay,
    };
  }

  const put = async (store: ControlStore, ...keys: readonly string[]): Promise<number> =>
    (
      await store.transact(
        [],
        keys.map((key) => ({ key, value: bytes("x") })),
      )
    ).revision;
  const remove = async (store: ControlStore, key: string): Promise<number> =>
    (await store.transact([], [{ key, value: undefined }])).revision;

  test("a watch whose connection is lost fails once, and then starts over", async () => {
    const { store, direct, relay } = await openRelayed();
    const a = await put(direct, "a");
    using watch = store.watch("");
    expect(await readTo(watch, a)).toEqual(["reset", `+a@${a}`]);
    const waiting = watch.next();
    const b = await put(direct, "b");
    expect(await waiting).toMatchObject({ revision: b });
    const failing = watch.next();
    relay.heal();
    await expect(failing).rejects.toMatchObject({ reason: "store_unavailable" });
    const c = await put(direct, "c", "d");
    const removal = await remove(direct, "a");
    expect(await readTo(watch, removal)).toEqual(["reset", `+b@${b}`, `+c@${c}`, `+d@${c}`]);
    const e = await put(direct, "e");
    expect(await readTo(watch, e)).toEqual([`+e@${e}`]);
    await Promise.all([store.close(), direct.close(), relay[Symbol.asyncDispose]()]);
  });

  test("a watch whose connection is lost does not report the changes that arrived before", async () => {
    const { store, direct, relay } = await openRelayed();
    const a = await put(direct, "a");
    using watch = store.watch("");
    await readTo(watch, a);
    const next = watch.next();
    await put(direct, "b");
    await next;
    await put(direct, "unread");
    await until("the change arrives", () => relay.passed.back.includes("unread"));
    relay.heal();
    await until("the store has another connection", async () => (await store.get("a").catch(() => undefined)) !== undefined);
    const removal = await remove(direct, "unread");
    await expect(watch.next()).rejects.toMatchObject({ reason: "store_unavailable" });
    expect(await readTo(watch, removal)).toHaveLength(3);
    const c = await put(direct, "c");
    expect(await readTo(watch, c)).toEqual([`+c@${c}`]);
    await Promise.all([store.close(), direct.close(), relay[Symbol.asyncDispose]()]);
  });

  test("a watch starts over if etcd forgets the changes between its items and its stream", async () => {
    const { store, direct, relay } = await openRelayed();
    const a = await put(direct, "a", "b");
    using watch = store.watch("");
    await readTo(watch, a);
    const removal = await remove(direct, "a");
    await put(direct, "c");
    await direct.compact(removal);
    expect(await watch.next()).toMatchObject({ isReset: true, changes: [{ key: "b" }, { key: "c" }], isCurrent: true });
    const d = await put(direct, "d");
    expect(await readTo(watch, d)).toEqual([`+d@${d}`]);
    await Promise.all([store.close(), direct.close(), relay[Symbol.asyncDispose]()]);
  });

  test("a slow reader receives the newest change of each key, in steps of whole transactions, and etcd waits meanwhile", async () => {
    const { store, direct, relay } = await openRelayed();
    const first = await put(direct, "first");
    using watch = store.watch("");
    await readTo(watch, first);
    const next = watch.next();
    await put(direct, "second");
    await next;
    relay.forget();
    // 24 MB, which is more than the bounds of the waiting changes and of the flow-control window together.
    const value = new Uint8Array(4000);
    let last = 0;
    for (let round = 0; round < 4; round++)
      for (let at = 0; at < 15; at++) {
        const changes = Array.from({ length: 100 }, (_, key) => ({ key: `k${at}-${key}`, value }));
        last = (await direct.transact([], changes)).revision;
      }
    expect(await store.get("first")).toMatchObject({ version: first });
    expect(relay.passed.back.length).toBeLessThan(10_000_000);
    const steps: StoreChanges[] = [];
    const lines = await readTo(watch, last, steps);
    const newest = new Map(lines.map((line) => [line.split("@")[0], Number(line.split("@")[1])]));
    const { items } = await direct.list("k", { limit: 1000 });
    expect(newest.size).toBe(1500);
    expect(items.every(({ key, version }) => newest.get(`+${key}`) === version)).toBe(true);
    for (const { changes, revision } of steps) {
      expect(changes.length).toBeLessThanOrEqual(MAX_PAGE_ITEMS);
      expect(changes.at(-1)?.version).toBe(revision);
    }
    const revisions = steps.map(({ changes }) => new Set(changes.map(({ version }) => version)));
    expect(revisions.reduce((sum, each) => sum + each.size, 0)).toBe(new Set(revisions.flatMap((each) => [...each])).size);
    await Promise.all([store.close(), direct.close(), relay[Symbol.asyncDispose]()]);
  });

  test("changes and items larger than one message of etcd arrive, and each step has whole transactions", async () => {
    const { store, direct, relay } = await openRelayed();
    const first = await put(direct, "first");
    using watch = store.watch("");
    await readTo(watch, first);
    // etcd splits messages above 2 MiB, here after 4 changes.
    const value = new Uint8Array(450_000);
    let last = 0;
    for (let at = 0; at < 12; at++)
      last = (
        await direct.transact(
          [],
          ["a", "b", "c"].map((key) => ({ key: `${key}${at}`, value })),
        )
      ).revision;
    const steps: StoreChanges[] = [];
    expect(await readTo(watch, last, steps)).toHaveLength(36);
    for (const { changes } of steps) expect(changes.length % 3).toBe(0);
    using other = store.watch("");
    expect(await readTo(other, last)).toHaveLength(38);
    await Promise.all([store.close(), direct.close(), relay[Symbol.asyncDispose]()]);
  });

  test("etcd refuses a watch from before a removal that it has forgotten", async () => {
    const prefix = "/waymark/forgotten/";
    const store = openEtcdStore({ endpoints: etcd.endpoints, prefix, timeoutMs: 1000 });
    const revision = await put(store, "a");
    const removal = await remove(store, "a");
    await store.compact(removal);
    const client = new EtcdClient({ endpoints: etcd.endpoints, prefix, timeoutMs: 1000 });
    const ended = Promise.withResolvers<WatchMessage["canceled"]>();
    const { session } = await client.page("", { after: "", limit: 1, revision: 0 });
    const listener = {
      message: (message: Uint8Array) => {
        const { canceled } = client.codec.readWatch(message);
        if (canceled !== undefined) ended.resolve(canceled);
      },
      closed: () => {},
    };
    const message = client.codec.watchRequest("", revision);
    const { call } = await client.openWatch(session, message, listener);
    expect(await ended.promise).toMatchObject({ code: CODES.OUT_OF_RANGE });
    call.cancel();
    await Promise.all([store.close(), client.close()]);
  });

  test("a request that is lost after it was sent fails, and is not repeated", async () => {
    const { store, direct, relay } = await openRelayed();
    const a = await put(direct, "a");
    expect(await store.get("a")).toMatchObject({ version: a });
    relay.cut();
    const lost = store.compareAndSwap("a", a, bytes("lost"));
    await expect(lost).rejects.toMatchObject({ reason: "store_unavailable" });
    relay.heal();
    expect((await direct.get("a"))?.version).toBe(a);
    expect(await store.compareAndSwap("a", a, bytes("again"))).toMatchObject({ isSwapped: true });
    await Promise.all([store.close(), direct.close(), relay[Symbol.asyncDispose]()]);
  });
});

test.runIf(isEtcdThere())("a watch starts over after etcd has lost its data, although the new revisions are higher", async () => {
  await using etcd = await EtcdCluster.start();
  const open = (): ControlStore => openEtcdStore({ endpoints: etcd.endpoints, prefix: "/waymark/wiped/", timeoutMs: 1000 });
  await using store = open();
  const put = (keys: readonly string[]) =>
    store.transact(
      [],
      keys.map((key) => ({ key, value: bytes("x") })),
    );
  for (let at = 0; at < 11; at++) await put(Array.from({ length: 100 }, (_, key) => `old/${at}-${key}`));
  const { revision } = await put(["few/a"]);
  using quiet = store.watch("few/");
  await readTo(quiet, revision);
  const failing = quiet.next();
  using unopened = store.watch("few/");
  await readTo(unopened, revision);
  using partial = store.watch("");
  expect(await partial.next()).toMatchObject({ isReset: true, isCurrent: false });

  await Promise.all([expect(failing).rejects.toMatchObject({ reason: "store_unavailable" }), etcd.wipe()]);
  let last = 0;
  for (let at = 0; last < revision + 10; at++) last = (await put(["few/b"])).revision;
  for (const watch of [quiet, unopened, partial]) {
    const steps: StoreChanges[] = [];
    expect(await readTo(watch, last, steps)).toEqual(["reset", `+few/b@${last}`]);
    expect(steps[0]?.isReset).toBe(true);
  }
});
