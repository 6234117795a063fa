import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { credentials, Client as GrpcClient, Metadata, type MetadataOptions, type ServiceError, status } from "@grpc/grpc-js";
import { expect, test } from "vitest";
import { DiscoveryDelta_Action } from "../../../gen/waymark/catalog/v1/delta_pb.js";
import { EntryKind, HealthStatus } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { Snapshot } from "../../../gen/waymark/catalog/v1/watch_pb.js";
import { DiscoveryService, ServerInfoRequestSchema, ServerInfoResponseSchema } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { resolveNamesBy } from "../../../src/client/grpc/names.io.ts";
import { connect } from "../../../src/client/index.ts";
import { FakeDiscovery } from "../../fakes/discovery-server.ts";
import { heldAddress } from "../../fakes/held-address.ts";
import { until } from "../../fakes/until.ts";

/** A server of the program's own service, under the name svc.market/web. The fake registry's own service will do. */
async function backend(): Promise<FakeDiscovery> {
  const server = new FakeDiscovery();
  await server.start();
  return server;
}

function put(address: string, health = HealthStatus.HEALTHY, protocol = "grpc") {
  const [host = "", port = ""] = address.split(":");
  const key = { kind: EntryKind.SERVICE, namespace: "svc.market", name: "web", instanceId: address };
  const value = {
    key,
    health,
    targets: [
      { host: "unused", port: 1, protocol: "http" },
      { host, port: Number(port), protocol },
    ],
  };
  return { action: DiscoveryDelta_Action.CREATE, deltaId: `${address} ${health}`, payload: { case: "entry" as const, value } };
}

const snapshotOf = (...addresses: readonly string[]) => [
  { snapshot: Snapshot.BEGIN, deltas: addresses.map((address) => put(address)) },
  { snapshot: Snapshot.END, portableCursor: "p", servedBy: "n" },
];

/** Calls the service by its name: OK, or the message of the failure. */
function call(client: GrpcClient, options: MetadataOptions = {}): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  const { serverInfo } = DiscoveryService.method;
  client.makeUnaryRequest(
    `/${serverInfo.parent.typeName}/${serverInfo.name}`,
    () => Buffer.from(toBinary(ServerInfoRequestSchema, create(ServerInfoRequestSchema))),
    (bytes) => fromBinary(ServerInfoResponseSchema, bytes),
    {},
    new Metadata(options),
    { deadline: Date.now() + 20_000 },
    (error: ServiceError | null) => resolve(error === null ? "OK" : error.details),
  );
  return promise;
}

test("a channel calls a service by its name, at the instances that are fit for traffic, and outlives the registry", async () => {
  const [registry, a, b] = await Promise.all([backend(), backend(), backend()]);
  const both = snapshotOf(a.address, b.address);
  registry.watchScript = [[...both], [{ deltas: [put(a.address, HealthStatus.CRITICAL)], bookmark: true, portableCursor: "q" }]];
  const options = {
    "grpc.service_config": JSON.stringify({ loadBalancingConfig: [{ round_robin: {} }] }),
    "grpc.use_local_subchannel_pool": 1,
  };
  const client = new GrpcClient(`waymark://${registry.address}/svc.market/web`, credentials.createInsecure(), options);
  try {
    expect(await call(client)).toBe("OK");
    expect(registry.watchRequests[0]).toMatchObject({ namespace: "svc.market", names: ["web"] });
    await until("only the healthy one is called", async () => {
      const before = a.calls.length;
      for (let i = 0; i < 4; i++) await call(client);
      return a.calls.length === before;
    });
    expect(b.calls.length).toBeGreaterThan(3);
    registry.stop();
    for (let i = 0; i < 5; i++) expect(await call(client)).toBe("OK");
  } finally {
    client.close();
    for (const server of [registry, a, b]) server.stop();
  }
});

test.each([5, {}, { servers: ["127.0.0.1:1"] }, new GrpcClient("127.0.0.1:1", credentials.createInsecure())])(
  "resolveNamesBy refuses what is no client of ours",
  (wrong) => {
    // Programs without types pass such things, and their channels would never say why they do not connect.
    expect(() => resolveNamesBy(wrong as never)).toThrow(new TypeError("resolveNamesBy: expected a client created by connect()"));
  },
);

test("the servers of a target without any are those of the program's client", async () => {
  const [registry, a] = await Promise.all([backend(), backend()]);
  registry.watchScript = [snapshotOf(a.address)];
  const own = connect({ servers: [registry.address], findServers: false, token: "t" });
  resolveNamesBy(own);
  const client = new GrpcClient("waymark:///svc.market/web", credentials.createInsecure());
  try {
    expect(await call(client)).toBe("OK");
    expect(registry.watchRequests).toHaveLength(1);
  } finally {
    resolveNamesBy(undefined);
    client.close();
    own.close();
    for (const server of [registry, a]) server.stop();
  }
});

test.each([
  { target: "waymark:///web", says: 'waymark: invalid service name "web": expected namespace/name, as in waymark:///svc.market/web' },
  {
    target: "waymark:///SVC.market/web",
    says: "expected namespace/name, as in waymark:///svc.market/web; a namespace has 1 to 200 characters of a-z",
  },
  {
    target: "waymark://127.0.0.1:1/svc.market/web",
    says: "waymark: no Waymark server answered: 127.0.0.1:1: connect ECONNREFUSED 127.0.0.1:1",
  },
  { target: "waymark://127.0.0.1:1,127.0.0.1:2/svc.market/web", says: "waymark: no Waymark server answered: 127.0.0.1:" },
  { target: "waymark://a b/svc.market/web", says: 'waymark: invalid server "a b": expected host:port' },
])("a call to $target says what is wrong", async ({ target, says }) => {
  const client = new GrpcClient(target, credentials.createInsecure());
  expect(await call(client)).toContain(says);
  client.close();
});

test("a channel for a name that no server has room to watch says so, and goes to a server that has room", async () => {
  const [full, roomy, a] = await Promise.all([backend(), backend(), backend()]);
  full.refusals.set("catalogWatch", {
    code: status.RESOURCE_EXHAUSTED,
    message: "quota_exceeded: no more watches",
    reason: "QUOTA_EXCEEDED",
  });
  roomy.watchScript = [snapshotOf(a.address)];
  const opened = [full.address, `${full.address},${roomy.address}`].map(
    (servers) => new GrpcClient(`waymark://${servers}/svc.market/web`, credentials.createInsecure()),
  );
  try {
    expect(await Promise.all(opened.map((client) => call(client)))).toEqual([
      `waymark: no Waymark server accepted the watch: ${full.address}: quota_exceeded: no more watches`,
      "OK",
    ]);
  } finally {
    for (const client of opened) client.close();
    for (const server of [full, roomy, a]) server.stop();
  }
});

/** An entry in a zone. */
function putIn(zone: string, address: string, weight: number, region = "r") {
  const { action, deltaId, payload } = put(address);
  const targets = payload.value.targets.map((target) => ({ ...target, weight }));
  return { action, deltaId, payload: { case: "entry" as const, value: { ...payload.value, region, zone, targets } } };
}

test("by the policy waymark a channel keeps to the zone and to the weights, and leaves the zone only as far as that has lost instances", async () => {
  const [registry, heavy, light, ...far] = await Promise.all([backend(), backend(), backend(), backend(), backend()]);
  let farthestCount = 0;
  const farthest = createServer(() => (farthestCount += 1)).listen(0, "127.0.0.1");
  await once(farthest, "listening");
  const { port } = farthest.address() as AddressInfo;
  const deltas = [putIn("z", heavy.address, 3), putIn("z", light.address, 1), ...far.map(({ address }) => putIn("y", address, 1))];
  deltas.push(putIn("x", `127.0.0.1:${port}`, 1, "elsewhere"));
  registry.watchScript = [
    [
      { snapshot: Snapshot.BEGIN, deltas },
      { snapshot: Snapshot.END, portableCursor: "p", servedBy: "n" },
    ],
  ];
  const own = connect({ servers: [registry.address], findServers: false, region: "r", zone: "z" });
  resolveNamesBy(own);
  const options = { "grpc.service_config": JSON.stringify({ loadBalancingConfig: [{ waymark: {} }] }) };
  const client = new GrpcClient("waymark:///svc.market/web", credentials.createInsecure(), options);
  const countsOf = async (count: number): Promise<readonly number[]> => {
    const before = [heavy, light, ...far].map(({ calls }) => calls.length);
    for (let i = 0; i < count; i++) expect(await call(client)).toBe("OK");
    return [heavy, light, ...far].map(({ calls }, i) => calls.length - (before[i] ?? 0));
  };
  try {
    await until("both near ones are called", async () => (await countsOf(4)).filter((one) => one > 0).length === 2);
    expect(await countsOf(40)).toEqual([30, 10, 0, 0]);
    heavy.stop();
    await until("a far one is called", async () => (await countsOf(10))[3] !== 0);
    expect(await countsOf(100)).toEqual([0, 70, 15, 15]);
    light.stop();
    await until("only far ones are called", async () => (await call(client)) === "OK" && (await countsOf(10))[2] === 5);
    expect(farthestCount).toBe(0);
  } finally {
    resolveNamesBy(undefined);
    client.close();
    own.close();
    for (const server of [registry, heavy, light, ...far]) server.stop();
    farthest.close();
  }
});

test("a name without an instance that can receive traffic fails calls, and says so, until there is one", async () => {
  const [registry, a] = await Promise.all([backend(), backend()]);
  registry.watchScript = [snapshotOf()];
  const client = new GrpcClient(`waymark://${registry.address}/svc.market/web`, credentials.createInsecure());
  try {
    expect(await call(client)).toBe("waymark: no entry of svc.market/web can receive traffic");
  } finally {
    client.close();
    for (const server of [registry, a]) server.stop();
  }
});

test("by the policy waymark an instance whose calls fail again and again is left out", async () => {
  const [registry, broken, sound] = await Promise.all([backend(), backend(), backend()]);
  broken.refusals.set("serverInfo", { code: status.UNAVAILABLE, message: "broken" });
  registry.watchScript = [snapshotOf(broken.address, sound.address)];
  const options = { "grpc.service_config": JSON.stringify({ loadBalancingConfig: [{ waymark: {} }] }) };
  const client = new GrpcClient(`waymark://${registry.address}/svc.market/web`, credentials.createInsecure(), options);
  try {
    await until("it has had its calls", async () => (await call(client)) === "broken" && broken.calls.length === 5);
    for (let i = 0; i < 10; i++) expect(await call(client)).toBe("OK");
  } finally {
    client.close();
    for (const server of [registry, broken, sound]) server.stop();
  }
});

test.each(["waymark", "round_robin"])(
  "a channel with the policy %s calls no instance any more that the registry took away",
  async (policy) => {
    const [registry, a] = await Promise.all([backend(), backend()]);
    registry.watchScript = [[...snapshotOf(a.address)], [{ deltas: [put(a.address, HealthStatus.MAINTENANCE)], bookmark: true }]];
    const options = { "grpc.service_config": JSON.stringify({ loadBalancingConfig: [{ [policy]: {} }] }) };
    const client = new GrpcClient(`waymark://${registry.address}/svc.market/web`, credentials.createInsecure(), options);
    try {
      expect(await call(client)).toBe("OK");
      let said = "";
      await until("calls say so", async () => (said = await call(client)) !== "OK");
      expect(said).toContain("waymark: no entry of svc.market/web can receive traffic");
    } finally {
      client.close();
      for (const server of [registry, a]) server.stop();
    }
  },
);

test("a name whose instances have ports for other protocols only calls none of them", async () => {
  const [registry, a] = await Promise.all([backend(), backend()]);
  registry.watchScript = [
    [{ snapshot: Snapshot.BEGIN, deltas: [put(a.address, HealthStatus.HEALTHY, "http")] }, { snapshot: Snapshot.END }],
  ];
  const client = new GrpcClient(`waymark://${registry.address}/svc.market/web`, credentials.createInsecure());
  try {
    expect(await call(client)).toBe("waymark: no entry of svc.market/web can receive traffic: none has a gRPC port");
    expect(a.calls).toHaveLength(0);
  } finally {
    client.close();
    for (const server of [registry, a]) server.stop();
  }
});

test("before any Waymark server was reached calls fail at once, and those that wait succeed when one comes", async () => {
  const [gone, a] = await Promise.all([backend(), backend()]);
  gone.stop();
  const held = await heldAddress(gone.address);
  const registry = new FakeDiscovery();
  registry.watchScript = [snapshotOf(a.address)];
  const client = new GrpcClient(`waymark://${gone.address}/svc.market/web`, credentials.createInsecure());
  try {
    expect(await call(client)).toContain(`waymark: no Waymark server answered: ${gone.address}: `);
    const waiting = call(client, { waitForReady: true });
    await held[Symbol.asyncDispose]();
    await registry.start(Number(gone.address.split(":").at(-1)));
    expect([await waiting, await call(client)]).toEqual(["OK", "OK"]);
  } finally {
    client.close();
    for (const server of [registry, a]) server.stop();
  }
});
