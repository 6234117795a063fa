/** Requests that etcd refuses or does not answer. */
import { networkInterfaces } from "node:os";
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { RangeResponseSchema } from "../../../gen/etcd/api/etcdserverpb/rpc_pb.js";
import { allItems } from "../../../src/store/control/all-items.io.ts";
import type { ControlStore } from "../../../src/store/control/store.ts";
import type { EtcdOptions, EtcdOutcome } from "../../../src/store/etcd/client.io.ts";
import { ETCD_METHODS } from "../../../src/store/etcd/codec.ts";
import { MAX_ETCD_VALUE_BYTES, openEtcdStore } from "../../../src/store/etcd/store.io.ts";
import { EtcdCluster, isEtcdThere } from "../../fakes/etcd.ts";
import { unaryMethod } from "../../fakes/grpc-handlers.ts";
import { closeAll, serve } from "../../fakes/grpc-room.ts";
import { answering, closeServers, freePort } from "../../fakes/probed-servers.ts";
import { until } from "../../fakes/until.ts";

const bytes = (text: string) => new TextEncoder().encode(text);
const open = (options: Partial<EtcdOptions>): ControlStore =>
  openEtcdStore({ endpoints: [], prefix: "/waymark/faults/", timeoutMs: 1000, ...options });
const unavailable = (text: RegExp | string) => ({ reason: "store_unavailable", message: expect.stringMatching(text) as string });

const KEY = { key: bytes("/waymark/faults/a"), modRevision: 7n };

afterAll(closeServers);
afterAll(closeAll);

describe("without etcd", () => {
  test("a store opens, and its requests name an endpoint and the cause", async () => {
    const port = await freePort();
    await using store = open({ endpoints: [`127.0.0.1:${port}`] });
    await expect(store.get("a")).rejects.toMatchObject(unavailable(`^store_unavailable: etcd 127.0.0.1:${port}: .*ECONNREFUSED`));
    using watch = store.watch("");
    await expect(watch.next()).rejects.toMatchObject(unavailable("ECONNREFUSED"));
    await expect(watch.next()).rejects.toMatchObject(unavailable("ECONNREFUSED"));
  });

  test("a request to a server that does not answer fails within the timeout", async () => {
    const silent = await answering();
    await using store = open({ endpoints: [`127.0.0.1:${silent.port}`], timeoutMs: 200 });
    const startMs = performance.now();
    await expect(store.get("a")).rejects.toMatchObject(unavailable(/no connection .*within 200 ms/));
    expect(performance.now() - startMs).toBeLessThan(2000);
  });

  test.each([
    { what: "CA file", options: { tls: { caFile: "/absent/ca.pem" } }, says: "store.ca_file: /absent/ca.pem: " },
    { what: "key file", options: { tls: { keyFile: "/absent/key.pem" } }, says: "store.key_file: /absent/key.pem: " },
    {
      what: "password file",
      options: { user: "waymark", passwordFile: "/absent/password" },
      says: "store.password_file: /absent/password: ",
    },
  ])("an unreadable $what is named", async ({ options, says }) => {
    await using store = open({ endpoints: ["127.0.0.1:1"], ...options });
    await expect(store.get("a")).rejects.toMatchObject(unavailable(says));
  });
});

test("a password is not sent in plaintext to another machine", async () => {
  const host = Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .find(({ internal, family }) => !internal && family === "IPv4")?.address;
  if (host === undefined) return;
  const server = await answering(undefined, { host });
  await using store = open({ endpoints: [`${host}:${server.port}`], user: "waymark" });
  await expect(store.get("a")).rejects.toMatchObject(unavailable("the password is sent only over TLS or to a loopback address"));
  expect(server.said).toEqual([]);
});

test.each<{ readonly what: string; readonly answer: MessageInitShape<typeof RangeResponseSchema>; readonly says: string }>([
  { what: "repeats its last key", answer: { header: { revision: 7n }, kvs: [KEY], more: true }, says: "no later key" },
  { what: "has no key before the next page", answer: { header: { revision: 7n }, more: true }, says: "no later key" },
  { what: "has the largest revision", answer: { header: { revision: 2n ** 63n - 1n } }, says: "revision 9223372036854775807" },
  { what: "has no revision", answer: {}, says: "revision 0" },
  { what: "has an item of no revision", answer: { header: { revision: 7n }, kvs: [{ key: KEY.key }] }, says: "revision 0" },
])("a page that $what is not accepted", async ({ answer, says }) => {
  let count = 0;
  const range = unaryMethod(ETCD_METHODS.range, () => {
    count += 1;
    return toBinary(RangeResponseSchema, create(RangeResponseSchema, answer));
  });
  const { address } = await serve({ methods: [range] });
  await using store = open({ endpoints: [address] });
  using watch = store.watch("");
  const readAll = async (): Promise<void> => {
    while ((await watch.next())?.isCurrent === false);
  };
  const listAll = async (): Promise<void> => {
    for await (const { version } of allItems(store, "")) expect(version).toBe(7);
  };
  for (const read of [readAll, listAll]) await expect(read()).rejects.toMatchObject(unavailable(says));
  expect(count).toBeLessThanOrEqual(4);
});

describe.runIf(isEtcdThere())("with etcd", () => {
  let etcd: EtcdCluster;
  beforeAll(async () => {
    etcd = await EtcdCluster.start({ flags: ["--quota-backend-bytes=4194304"] });
  });
  afterAll(() => etcd[Symbol.asyncDispose]());

  test("the first endpoint that can be reached answers, in the same request", async () => {
    await using store = open({ endpoints: [`127.0.0.1:${await freePort()}`, ...etcd.endpoints] });
    expect(await store.get("absent")).toBeUndefined();
  });

  test("a member that was paused does not answer in time, and the next request goes to the next endpoint", async () => {
    const [member] = etcd.members;
    const silent = await answering();
    await using store = open({ endpoints: [`127.0.0.1:${member?.endpoint.split(":")[1]}`, `127.0.0.1:${silent.port}`], timeoutMs: 300 });
    await until("the member answers", async () => (await store.list("")).revision > 0);
    member?.signal("SIGSTOP");
    try {
      const says = `etcd ${member?.endpoint}: the deadline passed`;
      await until("it is paused", async () => String(await store.get("a").catch((error: unknown) => error)).includes(says));
      await expect(store.get("a")).rejects.toMatchObject(unavailable(`etcd 127.0.0.1:${silent.port}: no connection`));
    } finally {
      member?.signal("SIGCONT");
    }
    await until("the member answers again", async () => (await store.list("")).revision > 0);
  });

  test("a transaction above etcd's limit for requests is refused, and its values could be stored one by one", async () => {
    await using store = open({ endpoints: etcd.endpoints });
    const value = new Uint8Array(MAX_ETCD_VALUE_BYTES);
    const both = ["a", "b"].map((key) => ({ key, value }));
    await expect(store.transact([], both)).rejects.toMatchObject({ reason: "quota_exceeded" });
    expect((await store.list("")).items).toEqual([]);
  });

  test("each request is counted with its outcome, and a full etcd is named and still answers reads", async () => {
    const outcomes: EtcdOutcome[] = [];
    await using store = open({ endpoints: etcd.endpoints, onRequest: (outcome) => outcomes.push(outcome) });
    // etcd notices only after its next commit, up to 100 ms later, that it is full.
    const fill = async (): Promise<void> => {
      for (let at = 0; at < 200; at++) await store.compareAndSwap(`k${at}`, 0, new Uint8Array(MAX_ETCD_VALUE_BYTES));
    };
    await expect(fill()).rejects.toMatchObject(unavailable("etcdserver: mvcc: database space exceeded"));
    await expect(store.compareAndSwap("small", 0, bytes("x"))).rejects.toMatchObject(unavailable("database space exceeded"));
    expect((await store.list("k", { limit: 1 })).items).toHaveLength(1);
    expect(outcomes.slice(-3)).toEqual(["refused", "refused", "ok"]);
    expect(outcomes[0]).toBe("ok");
    await store.close();
    await expect(store.get("a")).rejects.toMatchObject(unavailable("closed"));
  });
});
