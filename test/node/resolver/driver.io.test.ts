/** A resolver between servers that misbehave, on real sockets. */
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { networkInterfaces } from "node:os";
import { create, toBinary } from "@bufbuild/protobuf";
import { afterEach, expect, test } from "vitest";
import { ClusterMapRequestSchema, DiscoveryService } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import type { InstanceName } from "../../../src/catalog/query/instances.ts";
import { KIND } from "../../../src/catalog/record/record.ts";
import { askOf, DrivenResolver } from "../../fakes/driven-resolver.ts";
import { FakeUpstream } from "../../fakes/fake-upstream.ts";
import { closeAll } from "../../fakes/grpc-room.ts";
import { KEYS } from "../../fakes/mesh.ts";
import { until } from "../../fakes/until.ts";

afterEach(closeAll);

/** Of a namespace that is followed; two instances. */
const DB: InstanceName = { kind: KIND.SERVICE, namespace: "svc", name: "db" };
const [DB1, DB2] = [KEYS[0]!, KEYS[1]!];
const OTHER: InstanceName = { kind: KIND.SERVICE, namespace: "other", name: "db" };
const OTHER1 = KEYS[12]!;

async function upstreams(...ids: readonly string[]): Promise<FakeUpstream[]> {
  const fakes = await Promise.all(ids.map((id) => new FakeUpstream(id).start()));
  for (const fake of fakes) fake.put(DB1, DB2, OTHER1);
  return fakes;
}

const ready = (resolver: DrivenResolver) =>
  until("it is ready", () => {
    const isReady = resolver.machine.isReady && resolver.instances(DB).length === 2;
    return isReady ? [] : ["not ready", ...resolver.warnings];
  });

test("a stream that is reset in mid-snapshot shows nothing of it, and another one begins anew", async () => {
  const [a] = await upstreams("a");
  a!.resetAfter = 1;
  using resolver = new DrivenResolver([a!.address]);
  await ready(resolver);
  expect(resolver.calls.watches).toHaveLength(2);
  expect(resolver.warnings).toEqual([expect.stringMatching(/a stream from an upstream ended: not_ready/)]);
});

test("a server that has no room for one of the prefixes is not left", async () => {
  const [a] = await upstreams("a");
  a!.roomless = ["other"];
  using resolver = new DrivenResolver([a!.address], { namespaces: ["other", "svc"] });
  await until("the other one is there", () => resolver.instances(DB).length === 2);
  expect([resolver.machine.upstreams.current, resolver.machine.isComplete("svc")]).toEqual([a!.address, true]);
  expect(resolver.warnings).toEqual([expect.stringContaining("no room")]);
});

test("servers of another cluster or region, and one that reads us, are not followed, and one that garbles is left alone", async () => {
  const [stranger, far, reader, garbled, mute, good] = await upstreams("stranger", "far", "reader", "garbled", "mute", "good");
  stranger!.facts = { clusterId: "other", region: "local", via: [] };
  far!.facts = { clusterId: "local", region: "other", via: [] };
  reader!.facts = { clusterId: "local", region: "local", via: ["reader", "me"] };
  garbled!.garble.watch = (bytes) => bytes.subarray(0, bytes.length - 1);
  mute!.garble.info = () => new Uint8Array([255]);
  using resolver = new DrivenResolver([stranger!, far!, reader!, garbled!, mute!].map(({ address }) => address));
  await until("the garbled one is left", () => resolver.warnings.some((line) => line.includes("sent invalid data")));
  expect([resolver.machine.isReady, resolver.machine.upstreams.usable]).toEqual([false, []]);
  expect([stranger!, far!, reader!, mute!].map(({ watchCount }) => watchCount)).toEqual([0, 0, 0, 0]);
  const said = resolver.readiness("upstream");
  for (const [{ address }, refusal, why] of [
    [stranger!, "cluster", 'it belongs to cluster "other", but this resolver belongs to "local"'],
    [far!, "region", 'it belongs to region "other", but this resolver belongs to "local"'],
    [reader!, "loop", `its data comes through a resolver with this resolver's id, "me"`],
  ] as const) {
    const lines = resolver.warnings.filter((line) => line.startsWith(address));
    expect(lines).toEqual([expect.stringContaining(`upstream refused (${refusal}): ${why}`)]);
    expect(said).toContain(`; ${address} is refused: ${why}`);
  }
  const { metrics } = resolver;
  for (const reason of ["cluster", "region", "loop", "garbled"] as const)
    expect(metrics.counter("discovery_cache_upstream_faults_total", { reason }).value).toBe(1);
  using second = new DrivenResolver([stranger!, far!, garbled!, mute!, good!].map(({ address }) => address));
  await ready(second);
  expect(second.machine.upstreams.current).toBe(good!.address);
  expect(second.readiness("upstream")).toBe(`reads ${good!.address}`);
});

test("a server whose watch is silent is left for another one", async () => {
  const [a, b] = await upstreams("a", "b");
  a!.isSilent = true;
  using resolver = new DrivenResolver([a!.address]);
  await until("it is followed", () => a!.watches.size === 1);
  resolver.pass(9000);
  await until("it is asked how it is", () => a!.calls.filter((call) => call.startsWith("ServerInfo")).length > 1);
  expect(a!.watches.size).toBe(1);
  resolver.pass(1000);
  await until("it is left", () => a!.watches.size === 0);
  using second = new DrivenResolver([b!.address, a!.address]);
  await ready(second);
  b!.isSilent = true;
  a!.isSilent = false;
  await until("both answer", () => second.machine.upstreams.usable.length === 2);
  second.pass(10_000);
  await until("the other one is followed", () => second.machine.upstreams.current === a!.address && a!.watches.size === 1);
  expect(second.instances(DB)).toEqual(["1", "2"]);
  await until("the one before hears that it is followed no more", () => b!.watches.size === 0);
});

test("who waits for a fetch is told that it failed; nobody has to listen, and what comes after the end is not told", async () => {
  const [a] = await upstreams("a");
  const resolver = new DrivenResolver([a!.address]);
  await ready(resolver);
  a!.garble.page = (bytes) => bytes.subarray(0, bytes.length - 1);
  void askOf(resolver.driver, { ...OTHER, name: "unheard" });
  await expect(askOf(resolver.driver, OTHER)).rejects.toMatchObject({ reason: "not_ready" });
  const { changeCount } = resolver;
  resolver.driver.close();
  resolver.driver.close();
  a!.put(DB1);
  await expect(askOf(resolver.driver, OTHER)).rejects.toMatchObject({ reason: "draining" });
  await until("the server sees it gone", () => a!.watches.size === 0 && (a!.serving?.sockets.size ?? 0) === 0);
  expect(resolver.changeCount).toBe(changeCount);
});

test("without any server it refuses at once, and says what is wrong once a minute", async () => {
  using resolver = new DrivenResolver(["127.0.0.1:1", "no address", "[::1]:1"]);
  await until("three failed", () => resolver.warnings.length >= 3);
  await expect(askOf(resolver.driver, DB)).rejects.toMatchObject({ reason: "not_ready" });
  const request = toBinary(ClusterMapRequestSchema, create(ClusterMapRequestSchema, {}));
  await expect(resolver.driver.unary(DiscoveryService.method.clusterMap, request, 1000)).rejects.toMatchObject({ reason: "not_ready" });
  await until("it is tried again", () => resolver.changeCount > 8);
  expect(resolver.warnings.toSorted()).toEqual([
    expect.stringMatching(/^127\.0\.0\.1:1: an upstream does not answer: not_ready: .*ECONNREFUSED/),
    expect.stringMatching(/^\[::1\]:1: an upstream does not answer/),
    expect.stringMatching(/^no address: an upstream does not answer: .*expected host or host:port/),
  ]);
});

test("a call is passed on to another server when the first is not reached, which may take half of the time, and not when it refused", async () => {
  const [a, b] = await upstreams("a", "b");
  using resolver = new DrivenResolver([a!.address, b!.address]);
  await until("both answer", () => resolver.machine.upstreams.usable.length === 2);
  const [first, second] = resolver.machine.upstreams.usable[0] === a!.address ? [a!, b!] : [b!, a!];
  const request = toBinary(ClusterMapRequestSchema, create(ClusterMapRequestSchema, {}));
  const timeoutMs = 600_000;
  const asked = () => resolver.driver.unary(DiscoveryService.method.clusterMap, request, timeoutMs);
  await expect(asked()).rejects.toThrow(`not_ready: the upstream ${first.address}`);
  for (const socket of first.serving!.sockets) socket.destroy();
  first.serving!.server.stop();
  resolver.calls.passed.length = 0;
  await expect(asked()).rejects.toThrow(`the upstream ${second.address}`);
  // If the first had said nothing, half of the time would have been left; so the second gets more than that.
  const { passed } = resolver.calls;
  expect(passed.map(({ upstream }) => upstream)).toEqual([first.address, second.address]);
  expect(passed.map((call) => call.timeoutMs <= timeoutMs / 2)).toEqual([true, false]);
});

test("a token is shown on this machine, and never sent in plain text to another one", async () => {
  const access = () => ({ token: "a-token", tls: undefined });
  const [a] = await upstreams("a");
  using resolver = new DrivenResolver([a!.address], {}, access);
  await ready(resolver);
  await askOf(resolver.driver, OTHER);
  expect(new Set(a!.calls)).toEqual(
    new Set(["ServerInfo", "WatchPolicy", "CatalogWatch", "CatalogQuery"].map((name) => `${name} Bearer a-token`)),
  );

  const elsewhere = Object.values(networkInterfaces())
    .flatMap((list) => list ?? [])
    .find(({ internal, family }) => !internal && family === "IPv4");
  if (elsewhere === undefined) return;
  let received = 0;
  const listener = createServer((socket) => socket.on("data", ({ length }) => (received += length)).on("error", () => {}));
  listener.listen(0, elsewhere.address);
  await once(listener, "listening");
  const { port } = listener.address() as AddressInfo;
  using open = new DrivenResolver([`${elsewhere.address}:${port}`], {}, access);
  await until("it is not probed", () => open.warnings.some((line) => line.includes("sent only over TLS")));
  open.driver.close();
  await new Promise((resolve) => listener.close(resolve));
  expect(received).toBe(0);
});
