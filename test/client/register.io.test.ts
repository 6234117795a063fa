import { status } from "@grpc/grpc-js";
import { expect, test } from "vitest";
import { connect, HealthStatus, type RegistrationEvent } from "../../src/client/index.ts";
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
