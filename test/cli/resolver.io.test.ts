import { status } from "@grpc/grpc-js";
import { afterEach, expect, test } from "vitest";
import { waymark } from "../fakes/cli-world.ts";
import { FakeDiscovery } from "../fakes/discovery-server.ts";

const started: FakeDiscovery[] = [];

async function startFake(): Promise<FakeDiscovery> {
  const fake = new FakeDiscovery();
  await fake.start();
  started.push(fake);
  return fake;
}

afterEach(() => {
  for (const fake of started.splice(0)) fake.stop();
});

test.each(["resolver", "discovery"])("%s cache-stats shows a line for each field, or all of it for a program", async (group) => {
  const fake = await startFake();
  const lag = { seconds: 0n, nanos: 0 };
  fake.cache.set("cacheStats", () => ({ entries: 12n, hits: 9n, hitRate: 0.75, lag, resyncs: { digest: 2n, gap: 0n }, upstream: "a:1" }));
  const table = await waymark([group, "cache-stats", "--server", fake.address]);
  expect([table.exit, table.stdout.split("\n").map((line) => line.trim().replaceAll(/ +/g, " "))]).toEqual([
    0,
    expect.arrayContaining(["FIELD VALUE", "entries 12", "hit_rate 0.75", "lag 0s", "upstream a:1"]) as string[],
  ]);
  expect(table.stdout).toMatch(/^resyncs +(digest=2,gap=0|gap=0,digest=2)$/m);
  const { stdout } = await waymark([group, "cache-stats", "-o", "json", "--server", fake.address]);
  expect(JSON.parse(stdout)).toMatchObject({ entries: "12", misses: "0", hitRate: 0.75, lag: "0s", upstream: "a:1" });
});

const MANY = 5n;

test.each([
  { argv: ["resolver", "resync"], act: "resync", namespaces: [], says: "5 entries were fetched again" },
  { argv: ["discovery", "resync", "svc", "a.b"], act: "resync", namespaces: ["svc", "a.b"], says: "5 entries were fetched again" },
  { argv: ["resolver", "prewarm", "svc"], act: "prewarm", namespaces: ["svc"], says: "5 entries are cached in these namespaces" },
  { argv: ["resolver", "evict", "svc"], act: "evict", namespaces: ["svc"], says: "5 entries were evicted" },
  { argv: ["resolver", "resync"], act: "resync", namespaces: [], count: 1n, says: "1 entry was fetched again" },
  { argv: ["resolver", "prewarm", "svc"], act: "prewarm", namespaces: ["svc"], count: 1n, says: "1 entry is cached in these namespaces" },
  { argv: ["resolver", "evict", "svc"], act: "evict", namespaces: ["svc"], count: 1n, says: "1 entry was evicted" },
])("$argv names the namespaces, and says how many entries: $says", async ({ argv, act, namespaces, count = MANY, says }) => {
  const fake = await startFake();
  const asked: unknown[] = [];
  fake.cache.set(act, (request: { readonly namespaces: readonly string[] }) => {
    asked.push(request.namespaces);
    return { entries: count };
  });
  const ran = await waymark([...argv, "--server", fake.address]);
  expect([ran.exit, ran.stdout + ran.stderr, asked]).toEqual([0, `${says}\n`, [namespaces]]);
  const { stdout } = await waymark([...argv, "-o", "json", "--server", fake.address]);
  expect(JSON.parse(stdout)).toEqual({ entries: String(count) });
});

test.each([
  { namespaces: [], says: /^this resolver does not follow any namespace with entries; / },
  {
    namespaces: ["svc.typo"],
    says: /^no followed namespace with entries matches svc\.typo; names that were fetched from it will be fetched again on their next lookup$/m,
  },
  { namespaces: ["a", "b"], says: /^no followed namespace with entries matches a or b; names that were fetched from them / },
])("resync of $namespaces says it where nothing is followed that it could fetch again", async ({ namespaces, says }) => {
  const fake = await startFake();
  fake.cache.set("resync", () => ({ entries: 0n }));
  const { exit, stdout, stderr } = await waymark(["resolver", "resync", ...namespaces, "--server", fake.address]);
  expect([exit, stdout + stderr]).toEqual([0, expect.stringMatching(says)]);
});

test("prewarm without a namespace is bad usage", async () => {
  expect(await waymark(["resolver", "prewarm"])).toMatchObject({
    exit: 2,
    stderr: expect.stringContaining("missing: <namespaces>") as string,
  });
});

test("lag of a server that has no other nodes is that of its cache", async () => {
  const fake = await startFake();
  fake.refusals.set("lag", {
    code: status.UNIMPLEMENTED,
    message: "unimplemented: /waymark.control.v1.PeerService/Lag comes with a later version",
  });
  fake.cache.set("cacheStats", () => ({ entries: 12n, lag: { seconds: 2n, nanos: 0 }, upstream: "a:1" }));
  const { exit, stdout } = await waymark(["discovery", "lag", "-o", "json", "--server", fake.address]);
  expect([exit, JSON.parse(stdout)]).toEqual([0, expect.objectContaining({ entries: "12", lag: "2s", upstream: "a:1" })]);
  const said = async () => (await waymark(["discovery", "lag", "--server", fake.address])).stderr;
  expect(await said()).toBe("this resolver reads from a:1, and its cache is 2s behind\n");
  fake.cache.set("cacheStats", () => ({}));
  expect(await said()).toMatch(/^this resolver cannot reach any of its upstreams, and its cache has never been complete; GET \/readyz/);
});
