import { status } from "@grpc/grpc-js";
import { expect, test } from "vitest";
import { connect, type Entry, HealthStatus, type RegistrationEvent } from "../../src/client/index.ts";
import { FakeDiscovery } from "../fakes/discovery-server.ts";
import { until } from "../fakes/until.ts";

const ENTRY = { key: { namespace: "svc", name: "web", instanceId: "1" } };
const NOBODY = "127.0.0.1:1";

function clientOf(server: string, timeoutMs = 10_000) {
  return connect({ servers: [server], timeoutMs, findServers: false });
}

/** A client of a fake server, and what is told of its registrations. */
async function setUp() {
  const server = new FakeDiscovery();
  await server.start();
  const client = clientOf(server.address);
  const events: RegistrationEvent[] = [];
  const kinds = () => events.map(({ kind }) => kind);
  const onEvent = (event: RegistrationEvent) => events.push(event);
  return {
    server,
    client,
    events,
    kinds,
    onEvent,
    end: () => {
      client.close();
      server.stop();
    },
  };
}

test("without a server, register gives up after the client's timeout, with the failure of the last try", async () => {
  const client = clientOf(NOBODY, 300);
  const events: RegistrationEvent[] = [];
  await expect(client.register([ENTRY], { onEvent: (event) => events.push(event) })).rejects.toMatchObject({
    facts: { code: "UNAVAILABLE" },
  });
  expect(events.at(-1)).toEqual({ kind: "closed", isUnregistered: true });
  client.close();
});

test("a server that takes no registration now is left for another one", async () => {
  const { server, onEvent, kinds, end } = await setUp();
  const other = new FakeDiscovery();
  await other.start();
  server.refusals.set("register", { code: status.RESOURCE_EXHAUSTED, message: "busy" });
  const client = connect({ servers: [server.address, other.address], findServers: false });
  const handle = await client.register([ENTRY], { onEvent });
  expect([handle.lease?.server, server.callsOf("register").length, kinds()]).toEqual([other.address, 1, ["retrying", "registered"]]);
  await handle.close();
  client.close();
  other.stop();
  end();
});

test("one that waits for a server goes on until it is aborted", async () => {
  const client = clientOf(NOBODY, 100);
  const abort = new AbortController();
  const events: RegistrationEvent[] = [];
  const options = { waitsForServer: true, signal: abort.signal, onEvent: (event: RegistrationEvent) => events.push(event) };
  const ended = client.register([ENTRY], options).catch((error: unknown) => error);
  await until("several tries", () => events.filter(({ kind }) => kind === "retrying").length > 2);
  abort.abort();
  expect(await ended).toMatchObject({ facts: { code: "UNAVAILABLE" } });
  client.close();
});

test("what is reported goes with a renewal, and a report that is refused costs no lease", async () => {
  const { server, client, events, kinds, onEvent, end } = await setUp();
  const handle = await client.register([ENTRY], { onEvent });
  handle.report({ health: HealthStatus.CRITICAL });
  await until("it is renewed", () => kinds().includes("renewed"));
  const key = { namespace: "svc", name: "web", instanceId: "1", kind: 1 };
  expect(server.callsOf("renew")[0]?.request).toMatchObject({ leaseIds: ["lease-1"], reports: [{ key, health: HealthStatus.CRITICAL }] });
  server.refusals.set("renew", { code: status.INVALID_ARGUMENT, message: "no", reason: "INVALID_ARGUMENT" });
  handle.report({ health: HealthStatus.HEALTHY });
  await until("it is refused", () => kinds().includes("reportRefused"));
  // The fake refuses the plain renewal too, and that cannot be mended.
  await until("it failed", () => kinds().includes("failed"));
  expect([server.callsOf("renew").length, String(handle.error), handle.lease]).toEqual([3, "RequestError: no", undefined]);
  expect(events.at(-1)).toMatchObject({ kind: "failed" });
  await handle.close();
  end();
});

test.each([
  { report: { load: { activeClients: 7.5 } }, says: "LoadReport.active_clients: invalid uint32: 7.5" },
  { report: { load: { activeClients: 2 ** 33 } }, says: "LoadReport.active_clients: invalid uint32: 8589934592" },
  { report: { load: { utilization: 5 } }, says: "load.utilization: must be from 0 to 1, got 5" },
  { report: { load: { errorRate: Number.NaN } }, says: "load.error_rate: must be from 0 to 1, got NaN" },
  { report: { load: { latencyMs: -1 } }, says: "load.latency_ms: must be from 0 to 1000000000, got -1" },
  { report: { health: 1.5 }, says: "EntryReport.health: invalid int32: 1.5" },
  { report: { health: "x" }, says: "EntryReport.health: invalid int32" },
  { report: { health: 99 }, says: "health: 99 is not a health status that an instance can report" },
  { report: { health: HealthStatus.ORPHANED }, says: "health: 5 is not a health status that an instance can report" },
])("the report $report changes nothing, and is told", async ({ report, says }) => {
  const { server, client, events, onEvent, end } = await setUp();
  const handle = await client.register([ENTRY], { onEvent });
  handle.report(report as never);
  expect(events.at(-1)).toMatchObject({ kind: "reportRefused", error: { facts: { code: "INVALID_ARGUMENT", isSent: false } } });
  expect(String(events.map((event) => ("error" in event ? event.error.message : "")).at(-1))).toContain(says);
  handle.report({ health: HealthStatus.DEGRADED });
  await until("it is renewed", () => server.callsOf("renew").length > 0);
  expect(server.callsOf("renew")[0]?.request).toMatchObject({ reports: [{ health: HealthStatus.DEGRADED }] });
  await handle.close();
  end();
});

test("a number that came as a text is a number from then on, also in a later registration", async () => {
  const { server, client, onEvent, end } = await setUp();
  const handle = await client.register([{ ...ENTRY, targets: [{ host: "h", port: "80" as never }] }], { onEvent });
  handle.report({ health: HealthStatus.DEGRADED, load: { activeClients: "5" as never } });
  await until("it is renewed", () => server.callsOf("renew").length > 0);
  server.expired.add("lease-1");
  handle.report({ health: HealthStatus.HEALTHY });
  await until("it is registered again", () => handle.lease?.leaseId === "lease-2");
  expect(server.callsOf("register").at(-1)?.request).toMatchObject({ entries: [{ targets: [{ port: 80 }], load: { activeClients: 5 } }] });
  await handle.close();
  end();
});

test("a report with an unknown name is refused, and a later registration does not say what a server refused", async () => {
  const { server, client, kinds, onEvent, end } = await setUp();
  const refuse = () => server.refusals.set("renew", { code: status.INVALID_ARGUMENT, message: "no", reason: "INVALID_ARGUMENT" });
  const other = { key: { ...ENTRY.key, instanceId: "2" } };
  const handle = await client.register([ENTRY, other], {
    onEvent: (event) => {
      if (event.kind === "reportRefused") server.refusals.delete("renew");
      onEvent(event);
    },
  });
  expect(() => handle.report({ helth: 1 } as never)).toThrow("report: unknown option helth; the options are health, load");
  refuse();
  handle.report({ health: HealthStatus.CRITICAL, load: { activeClients: 7 } }, "1");
  await until("the lease is renewed without it", () => kinds().includes("renewed"));
  server.expired.add("lease-1");
  handle.report({ health: HealthStatus.DEGRADED, load: { activeClients: 8 } }, "2");
  await until("it is registered again", () => handle.lease?.leaseId === "lease-2");
  const again = server.callsOf("register").at(-1)?.request as { readonly entries: readonly Entry[] } | undefined;
  expect(again?.entries.map(({ health, load }) => [health, load?.activeClients])).toEqual([
    [HealthStatus.UNSPECIFIED, undefined],
    [HealthStatus.DEGRADED, 8],
  ]);
  // The health that was refused is news when it is said again.
  handle.report({ health: HealthStatus.CRITICAL }, "1");
  await until("it is said", () => server.callsOf("renew").length > 3);
  expect(server.callsOf("renew").at(-1)?.request).toMatchObject({ reports: [{ key: { instanceId: "1" }, health: HealthStatus.CRITICAL }] });
  await handle.close();
  end();
});

test("a lease that the server lost is registered again with what was reported, under another key for repetitions", async () => {
  const { server, client, kinds, onEvent, end } = await setUp();
  const handle = await client.register([ENTRY], { onEvent });
  server.expired.add("lease-1");
  handle.report({ health: HealthStatus.DEGRADED });
  await until("it is registered again", () => handle.lease?.leaseId === "lease-2");
  const requests = server.callsOf("register").map(({ request }) => request as { entries: { health: number }[]; idempotencyKey: string });
  expect(requests.map(({ entries }) => entries[0]?.health)).toEqual([HealthStatus.UNSPECIFIED, HealthStatus.DEGRADED]);
  expect(new Set(requests.map(({ idempotencyKey }) => idempotencyKey)).size).toBe(2);
  expect(kinds().slice(0, 3)).toEqual(["registered", "lost", "registered"]);
  end();
});

test("closing removes the lease once; without a server it says that it could not", async () => {
  const { server, client, events, onEvent, end } = await setUp();
  const handle = await client.register([ENTRY], { onEvent });
  await Promise.all([handle.close(), handle.close()]);
  expect(server.callsOf("unregister").map(({ request }) => request)).toEqual([expect.objectContaining({ leaseId: "lease-1" })]);
  const lost = await client.register([ENTRY], { onEvent });
  server.stop();
  await lost.close();
  expect(events.filter(({ kind }) => kind === "closed")).toEqual([
    { kind: "closed", isUnregistered: true },
    { kind: "closed", isUnregistered: false },
  ]);
  end();
});

test("one that is aborted while its registration is under way ends the lease that it then gets", async () => {
  const { server, client, events, onEvent, end } = await setUp();
  const [abort, release] = [new AbortController(), Promise.withResolvers<void>()];
  server.held.set("register", release.promise);
  const ended = client.register([ENTRY], { signal: abort.signal, onEvent }).catch((error: unknown) => error);
  await until("it is under way", () => server.callsOf("register").length === 1);
  abort.abort();
  release.resolve();
  await until("the handle is closed", () => events.some(({ kind }) => kind === "closed"));
  await ended;
  expect(server.callsOf("unregister").map(({ request }) => request)).toEqual([expect.objectContaining({ leaseId: "lease-1" })]);
  expect(events.at(-1)).toEqual({ kind: "closed", isUnregistered: true });
  end();
});

test("without the server of its lease a handle that is closed removes nothing elsewhere: a newer process may have the keys by now", async () => {
  const { server, events, onEvent, end } = await setUp();
  const other = new FakeDiscovery();
  await other.start();
  const client = connect({ servers: [server.address, other.address], findServers: false });
  const handle = await client.register([ENTRY], { onEvent });
  server.stop();
  await handle.close();
  expect([other.callsOf("unregister"), events.at(-1)]).toEqual([[], { kind: "closed", isUnregistered: false }]);
  client.close();
  other.stop();
  end();
});

test("once it is registered a handle goes on trying, however long no server is there", async () => {
  const { server, client: other, events, kinds, onEvent, end } = await setUp();
  const client = clientOf(server.address, 100);
  const handle = await client.register([ENTRY], { ttlMs: 1000, onEvent });
  server.stop();
  await until("the lease is lost, and no server takes the entries", () => kinds().slice(kinds().indexOf("lost")).length > 3);
  expect([handle.error, handle.lease, events.find(({ kind }) => kind === "lost")]).toMatchObject([undefined, undefined, { why: "server" }]);
  const back = new FakeDiscovery();
  await back.start(Number(server.address.split(":").at(-1)));
  await until("it is registered again", () => handle.lease !== undefined);
  await handle.close();
  client.close();
  other.close();
  back.stop();
  end();
});

test("a registration that is given up before a server was asked fails as a call does", async () => {
  const { client, end } = await setUp();
  const closed = { message: "the registration is closed", facts: { code: "FAILED_PRECONDITION" } };
  await expect(client.register([ENTRY], { signal: AbortSignal.abort() })).rejects.toMatchObject(closed);
  end();
});

test("a handle whose client is closed ends, and says why", async () => {
  const { client, events, onEvent, end } = await setUp();
  const handle = await client.register([ENTRY], { onEvent });
  client.close();
  handle.report({ health: HealthStatus.CRITICAL });
  await until("it failed", () => handle.error !== undefined);
  expect(handle.error?.message).toBe("the client is closed");
  await handle.close();
  expect(events.map(({ kind }) => kind)).toEqual(["registered", "reportRefused", "failed", "closed"]);
  end();
});
