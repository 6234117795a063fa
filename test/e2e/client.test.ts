/** The client against a real cluster of three nodes, from the first call until every node has been killed and is back. The tests run in this order. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  type Client,
  connect,
  follow,
  HealthStatus,
  type LiveMap,
  type RegistrationEvent,
  type RegistrationHandle,
} from "../../src/client/index.ts";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

const HOME = mkdtempSync(join(tmpdir(), "waymark-client-"));
const CONFIG = join(HOME, "node.json");
writeFileSync(
  CONFIG,
  JSON.stringify({
    fabric: { interval: "400ms", ping_timeout: "250ms", join_timeout: "1s" },
    observability: { log_level: "warn" },
  }),
);

const NAMES = ["a", "b", "c"] as const;
const nodes = new Map<string, NodeProcess>();

function nodeAt(name: string): NodeProcess {
  const node = nodes.get(name);
  if (node === undefined) throw new Error(`no node ${name}`);
  return node;
}

/** Starts a node, at the addresses that it had before. */
async function start(name: string): Promise<void> {
  const before = nodes.get(name)?.listeners ?? {};
  const ports = ["grpc", "fabric"].flatMap((listener) => {
    const port = before[listener]?.split(":").at(-1);
    return port === undefined ? [] : [`--${listener}-port`, port];
  });
  const others = [...nodes.values()].filter((node) => node !== nodes.get(name)).map(({ listeners }) => listeners["fabric"] ?? "");
  const joins = others.length === 0 ? [] : ["--join", others.join()];
  nodes.set(name, await startNodeProcess(["--node-id", name, "--config", CONFIG, "--data-dir", join(HOME, name), ...ports, ...joins]));
}

let client: Client;

beforeAll(async () => {
  for (const name of NAMES) await start(name);
  client = connect({ servers: [nodeAt("a").grpc], refreshMs: 1000 });
});

afterAll(async () => {
  client.close();
  for (const node of nodes.values()) await node[Symbol.asyncDispose]();
  rmSync(HOME, { recursive: true, force: true });
});

/** Instance ids of a name, with their health, as the client's server answers. */
async function instancesOf(name: string): Promise<readonly string[]> {
  const { items } = await client.discovery.catalogQuery({ namespace: "svc.market", names: [name] });
  return items.map(({ key, health }) => `${key?.instanceId ?? ""} ${HealthStatus[health]}`);
}

const entryOf = (name: string, instanceId: string) => ({
  key: { namespace: "svc.market", name, instanceId },
  targets: [{ host: "10.0.0.1", port: 8080 }],
});

/** The node that answers at this address. */
function nameOf(server: string): string {
  return NAMES.find((name) => nodeAt(name).grpc === server) ?? server;
}

test("from one seed the client finds all nodes, and goes on when the seed is killed", async () => {
  await client.discovery.catalogQuery({});
  await until("all nodes are found", () => client.servers.length === NAMES.length);
  expect(client.server).toBe(nodeAt("a").grpc);
  await until("calls go on without the seed", async () => {
    await nodeAt("a").stop("SIGKILL");
    await client.discovery.catalogQuery({});
    return client.server !== nodeAt("a").grpc;
  });
  expect(client.servers).toHaveLength(NAMES.length);
});

test("a registration outlives its ttl, reports health, is refused with a reason, and is gone when its handle is closed", async () => {
  {
    await using handle = await client.register([entryOf("reporter", "1")], { ttlMs: 1000 });
    const { leaseId } = handle.lease ?? {};
    handle.report({ health: HealthStatus.DEGRADED, load: { utilization: 0.5 } });
    await until("the health is reported", async () => (await instancesOf("reporter")).join() === "1 DEGRADED");
    const renewed = Promise.withResolvers<void>();
    const renewals: RegistrationEvent[] = [];
    await using other = await client.register([entryOf("renewed", "1")], {
      ttlMs: 1000,
      onEvent: (event) => {
        if (event.kind === "renewed" && renewals.push(event) === 4) renewed.resolve();
      },
    });
    await renewed.promise;
    expect([await instancesOf("renewed"), handle.lease?.leaseId, handle.error, other.error]).toEqual([
      ["1 HEALTHY"],
      leaseId,
      undefined,
      undefined,
    ]);
    await expect(client.register([entryOf("Not a name", "1")])).rejects.toThrow("entries[0].key.name");
  }
  expect([await instancesOf("reporter"), await instancesOf("renewed")]).toEqual([[], []]);
});

test("when the node of a lease is killed, the entries are registered at another node, with what was reported", async () => {
  await start("a");
  const events: RegistrationEvent[] = [];
  await using handle = await client.register([entryOf("mover", "1")], { ttlMs: 2000, onEvent: (event) => events.push(event) });
  handle.report({ health: HealthStatus.DEGRADED });
  const first = nameOf(handle.lease?.server ?? "");
  await until("it was reported", async () => (await instancesOf("mover")).join() === "1 DEGRADED");
  await nodeAt(first).stop("SIGKILL");
  await until("it is registered again", () => events.some((event) => event.kind === "registered" && event.isAgain));
  expect(nameOf(handle.lease?.server ?? "")).not.toBe(first);
  await until("it is there, as it was", async () => (await instancesOf("mover")).join() === "1 DEGRADED");
  expect(events).toContainEqual(expect.objectContaining({ kind: "lost", why: "server" }));
  await start(first);
});

test("an update takes the place of what was registered, under the same lease, or is refused as a registration is", async () => {
  await using handle = await client.register([entryOf("changing", "1"), entryOf("changing", "2")]);
  const { leaseId } = handle.lease ?? {};
  handle.report({ health: HealthStatus.DEGRADED });
  await until("the health is reported", async () => (await instancesOf("changing")).join() === "1 DEGRADED,2 DEGRADED");
  await handle.update([entryOf("changing", "2"), { ...entryOf("changing", "3"), tags: ["new"] }]);
  expect(await instancesOf("changing")).toEqual(["2 DEGRADED", "3 HEALTHY"]);
  await expect(handle.update([])).rejects.toThrow("entries: must have at least one entry");
  await expect(handle.update([entryOf("Not a name", "1")])).rejects.toMatchObject({ facts: { code: "INVALID_ARGUMENT" } });
  await handle.update([{ ...entryOf("changing", "2"), tags: ["blue"] }]);
  expect([await instancesOf("changing"), handle.lease?.leaseId, handle.error]).toEqual([["2 DEGRADED"], leaseId, undefined]);
});

test.each([{ next: "a" }, { next: "b" }])(
  "in a rolling deploy the old process at a leaves what the new one has registered at $next",
  async ({ next }) => {
    const name = `rolling-${next}`;
    const [oldClient, newClient] = ["a", next].map((node) => connect({ servers: [nodeAt(node).grpc], findServers: false }));
    if (oldClient === undefined || newClient === undefined) throw new Error("no clients");
    const tagsAtA = async () => {
      const { items } = await oldClient.discovery.catalogQuery({ namespace: "svc.market", names: [name] });
      return items.map(({ tags }) => tags.join());
    };
    const before = await oldClient.register([entryOf(name, "1")]);
    const after = await newClient.register([{ ...entryOf(name, "1"), tags: ["new"] }]);
    await until("a knows of it", async () => (await tagsAtA()).join() === "new");
    await before.close();
    expect(await tagsAtA()).toEqual(["new"]);
    await after.close();
    await until("it is gone", async () => (await tagsAtA()).length === 0);
    oldClient.close();
    newClient.close();
  },
);

/** Instances of a name that the map shows as fit for traffic. */
function shown(map: LiveMap, name: string): readonly string[] {
  const fit = map.named("svc.market", name).filter(({ health }) => health !== HealthStatus.ORPHANED);
  return fit.map(({ key }) => key?.instanceId ?? "").toSorted();
}

test("with every node killed under traffic no lookup fails, and when they are back the map goes on without a snapshot", {
  tags: ["night"],
}, async () => {
  const handles: RegistrationHandle[] = [];
  for (const id of ["1", "2", "3"]) handles.push(await client.register([entryOf("web", id)], { ttlMs: 60_000 }));
  const map = await client.watch({ namespace: "svc.market" });
  await until("the map has all", () => shown(map, "web").length === 3);
  let [lookups, failed, removals, snapshots] = [0, 0, 0, 0];
  const abort = new AbortController();
  const followed = (async () => {
    for await (const event of follow(client, { namespace: "svc.market" }, { signal: abort.signal }))
      if (event.kind === "synced" && event.isSnapshot) snapshots += 1;
  })();
  await until("another watch has all", () => snapshots === 1);
  const traffic = setInterval(() => {
    lookups += 1;
    if (map.resolve("svc.market", "web")?.target?.port !== 8080) failed += 1;
  }, 1);
  try {
    for (const name of NAMES) await nodeAt(name).stop("SIGKILL");
    const before = lookups;
    await until("lookups go on without a server", () => lookups > before + 200);
    await expect(client.discovery.catalogQuery({}, { timeoutMs: 1000 })).rejects.toMatchObject({ isAway: true });
    expect([failed, map.size, map.error]).toEqual([0, 3, undefined]);
    const told = (async () => {
      for await (const changes of map) removals += changes.filter(({ kind }) => kind === "remove").length;
    })();
    await Promise.all(NAMES.map((name) => start(name)));
    await using late = await client.register([entryOf("late", "1")], { waitsForServer: true });
    await until("the map goes on", () => shown(map, "late").length === 1);
    expect([failed, removals, snapshots, shown(map, "web"), late.error]).toEqual([0, 0, 1, ["1", "2", "3"], undefined]);
    await map.close();
    await told;
  } finally {
    clearInterval(traffic);
    abort.abort();
    await followed;
  }
  for (const handle of handles) await handle.close();
  expect(await instancesOf("web")).toEqual([]);
});

/** Sockets, timers and streams that keep the process alive. */
const handleCount = () => process.getActiveResourcesInfo().length;

test("opened and closed watches, registrations and channels leave no handle behind", async () => {
  const rounds = 30;
  const once = async (): Promise<void> => {
    const other = connect({ servers: [client.server], findServers: false });
    const handle = await other.register([entryOf("leak", "1")]);
    const map = await other.watch({ namespace: "svc.market" });
    await map.close();
    await handle.close();
    other.close();
  };
  await once();
  const before = handleCount();
  for (let i = 0; i < rounds; i++) await once();
  await expect.poll(handleCount).toBeLessThanOrEqual(before + 2);
});
