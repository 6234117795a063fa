/** `update` of a registration: other entries in the place of those before, under the same lease. */
import { readFileSync } from "node:fs";
import { stripTypeScriptTypes } from "node:module";
import { join } from "node:path";
import { status } from "@grpc/grpc-js";
import { afterEach, expect, test } from "vitest";
import {
  connect,
  type Entry,
  HealthStatus,
  type RegisterOptions,
  type RegistrationEvent,
  type RegistrationHandle,
} from "../../src/client/index.ts";
import { FakeDiscovery } from "../fakes/discovery-server.ts";
import { until } from "../fakes/until.ts";

interface Sent {
  readonly leaseId: string;
  readonly entries: readonly Entry[];
  readonly keys: readonly { readonly instanceId: string }[];
}

const opened: { close(): void }[] = [];
afterEach(() => {
  for (const one of opened.splice(0)) one.close();
});

/** A registration of some instances at a fake server. */
async function setUp(ids: readonly string[], { timeoutMs = 10_000, ...options }: RegisterOptions & { readonly timeoutMs?: number } = {}) {
  const server = new FakeDiscovery();
  await server.start();
  const client = connect({ servers: [server.address], timeoutMs, findServers: false });
  const events: RegistrationEvent[] = [];
  const handle = await client.register(
    ids.map((id) => instance(id)),
    { ...options, onEvent: (event) => void events.push(event) },
  );
  opened.push(client, { close: () => server.stop() });
  const kinds = () => events.map(({ kind }) => kind);
  return { server, client, handle, events, kinds };
}

const instance = (instanceId: string, more: Record<string, unknown> = {}) => ({
  key: { namespace: "svc", name: "web", instanceId },
  ...more,
});

/** Requests to register and unregister, as text: what was put, and what was removed, under which lease. */
function told({ calls }: FakeDiscovery): readonly string[] {
  return calls.flatMap(({ method, request }) => {
    const { leaseId, entries, keys } = request as Sent;
    if (method === "register") return [`${leaseId} + ${entries.map(({ key, tags }) => [key?.instanceId, ...tags].join(":")).join()}`];
    return method === "unregister" ? [`${leaseId} - ${keys.map((key) => key.instanceId).join()}`] : [];
  });
}

const ids = ({ entries }: FakeDiscovery) => [...entries.values()].map(({ key }) => key?.instanceId ?? "").toSorted();
const lastRegistered = (server: FakeDiscovery) => (server.callsOf("register").at(-1)?.request as Sent | undefined)?.entries ?? [];
const REFUSED = { code: status.INVALID_ARGUMENT, message: "entries[0].key.name: no", reason: "INVALID_ARGUMENT" };

/** The server loses the lease `leaseId`, and the handle registers again, because a renewal is due. */
async function loseLease(server: FakeDiscovery, handle: RegistrationHandle): Promise<void> {
  const leaseId = handle.lease?.leaseId ?? "";
  server.expired.add(leaseId);
  handle.report({ health: HealthStatus.DEGRADED });
  await until("it is registered again", () => handle.lease !== undefined && handle.lease.leaseId !== leaseId);
}

test("new entries are registered, changed ones change, those that are not named are removed, and the rest is left alone", async () => {
  const { server, handle, kinds } = await setUp(["1", "2", "3"]);
  await handle.update([instance("1"), instance("2", { tags: ["blue"] }), instance("4")]);
  expect(told(server)).toEqual([" + 1,2,3", "lease-1 + 2:blue,4", "lease-1 - 3"]);
  expect([ids(server), handle.lease?.leaseId, kinds()]).toEqual([["1", "2", "4"], "lease-1", ["registered", "updated"]]);
  await handle.update([instance("4"), instance("1"), instance("2", { tags: ["blue"] })]);
  expect(told(server)).toHaveLength(3);
  // A key that comes back is new again.
  await handle.update([instance("3")]);
  expect(told(server).slice(3)).toEqual(["lease-1 + 3", "lease-1 - 4,1,2"]);
});

test("what is registered again is the updated list, with the last health and load", async () => {
  const { server, handle } = await setUp(["1", "2", "3"]);
  handle.report({ load: { activeClients: 7 } });
  await handle.update([instance("1"), instance("3", { load: { activeClients: 1 } })]);
  // The load was not told yet. It goes to the entries that are left, but for one of which the update says a newer load.
  await loseLease(server, handle);
  expect(lastRegistered(server).map(({ key, health, load }) => [key?.instanceId, health, load?.activeClients])).toEqual([
    ["1", HealthStatus.DEGRADED, 7],
    ["3", HealthStatus.DEGRADED, 1],
  ]);
  expect(told(server).at(-1)).toBe(" + 1,3");
  // What an update says itself is newer than what was reported, and what is reported while it waits is newer still.
  const first = handle.update([instance("1", { health: HealthStatus.HEALTHY }), instance("4")]);
  const second = handle.update([instance("1", { tags: ["x"] }), instance("4", { health: HealthStatus.CRITICAL }), instance("5")]);
  handle.report({ health: HealthStatus.MAINTENANCE }, "4");
  handle.report({ load: { activeClients: 9 } }, "5");
  await Promise.all([first, second]);
  await loseLease(server, handle);
  const said = lastRegistered(server).map(({ key, health, load }) => [key?.instanceId, health, load?.activeClients]);
  expect(said).toEqual([
    ["1", HealthStatus.DEGRADED, 7],
    ["4", HealthStatus.DEGRADED, undefined],
    ["5", HealthStatus.DEGRADED, 9],
  ]);
  const healths = server.calls.flatMap(({ request }) => {
    const { entries = [], reports = [] } = request as { readonly entries?: readonly Entry[]; readonly reports?: readonly Entry[] };
    return [...entries, ...reports].map(({ key, health }) => `${key?.instanceId ?? ""} ${HealthStatus[health]}`);
  });
  expect(healths).toEqual(expect.arrayContaining(["1 HEALTHY", "4 MAINTENANCE"]));
  expect(healths).not.toContain("4 CRITICAL");
});

test("updates are carried out one after the other, each with its own outcome", async () => {
  const { server, handle, kinds } = await setUp(["1"]);
  const release = Promise.withResolvers<void>();
  server.held.set("register", release.promise);
  const all = [["2"], ["3"], ["2", "4"]].map((list) => handle.update(list.map((id) => instance(id))));
  // The caller may change its list afterwards.
  const mine = [instance("5")];
  all.push(handle.update(mine));
  mine.pop();
  await until("the first one is under way", () => server.callsOf("register").length === 2);
  server.held.clear();
  release.resolve();
  await Promise.all(all);
  const calls = [
    " + 1",
    "lease-1 + 2",
    "lease-1 - 1",
    "lease-1 + 3",
    "lease-1 - 2",
    "lease-1 + 2,4",
    "lease-1 - 3",
    "lease-1 + 5",
    "lease-1 - 2,4",
  ];
  expect(told(server)).toEqual(calls);
  expect([ids(server), kinds()]).toEqual([["5"], ["registered", "updated", "updated", "updated", "updated"]]);
});

test("an update that is refused changes nothing, and the next one is carried out", async () => {
  const { server, handle, kinds } = await setUp(["1"]);
  server.refusals.set("register", REFUSED);
  const refused = handle.update([instance("2")]);
  const next = handle.update([instance("1"), instance("3")]);
  await expect(refused).rejects.toMatchObject({
    message: REFUSED.message,
    facts: { code: "INVALID_ARGUMENT", reason: "INVALID_ARGUMENT" },
  });
  server.refusals.clear();
  await expect(next.catch(() => handle.update([instance("1"), instance("3")]))).resolves.toBeUndefined();
  await expect(handle.update(undefined as never)).rejects.toThrow("update: invalid entries undefined: expected a list");
  const fraction = instance("4", { targets: [{ host: "h", port: 1.5 }] });
  await expect(handle.update([fraction])).rejects.toMatchObject({ message: "Target.port: invalid uint32: 1.5", facts: { isSent: false } });
  await loseLease(server, handle);
  expect([told(server).at(-1), ids(server), handle.error, kinds().includes("failed")]).toEqual([" + 1,3", ["1", "3"], undefined, false]);
});

test("the same key twice, or no entry at all, is for the server to refuse", async () => {
  const { server, handle } = await setUp(["1", "2"]);
  server.refusals.set("register", REFUSED);
  await expect(handle.update([])).rejects.toThrow(REFUSED.message);
  await expect(handle.update([instance("1"), instance("2"), instance("2")])).rejects.toThrow(REFUSED.message);
  expect(told(server)).toEqual([" + 1,2", "lease-1 + ", "lease-1 + 1,2,2"]);
});

test("a lease that is lost meanwhile is replaced first, by one with the entries before the update", async () => {
  const { server, handle, kinds } = await setUp(["1", "2"]);
  server.expired.add("lease-1");
  server.refusals.set("register", { code: status.NOT_FOUND, message: "no lease", reason: "LEASE_NOT_FOUND" });
  const updated = handle.update([instance("2"), instance("3")]);
  await until("the lease is lost", () => kinds().includes("lost"));
  server.refusals.clear();
  await updated;
  expect(told(server).filter((call) => !call.startsWith("lease-1"))).toEqual([" + 1,2", " + 1,2", "lease-2 + 3", "lease-2 - 1"]);
  expect(kinds()).toEqual(["registered", "lost", "registered", "updated"]);
});

test("while the server is too busy an update is tried again; if its time is over it fails with the last failure", async () => {
  const { server, handle, kinds } = await setUp(["1"], { timeoutMs: 500 });
  const busy = { code: status.RESOURCE_EXHAUSTED, message: "busy", reason: "DISCOVERY_RATE_LIMITED" };
  server.refusals.set("unregister", busy);
  const updated = handle.update([instance("2")]);
  await until("a removal was tried twice", () => server.callsOf("unregister").length > 1);
  server.refusals.clear();
  await updated;
  // What was put is not put again.
  expect([server.callsOf("register").length, ids(server), kinds().includes("retrying")]).toEqual([2, ["2"], true]);
  server.refusals.set("register", busy);
  await expect(handle.update([instance("3")])).rejects.toThrow("busy");
  server.refusals.clear();
  await loseLease(server, handle);
  expect(told(server).at(-1)).toBe(" + 2");
});

test("when nobody knows whether a server took an update that was given up, it is taken back", async () => {
  const { server, handle } = await setUp(["1", "2"], { timeoutMs: 200 });
  const release = Promise.withResolvers<void>();
  server.held.set("register", release.promise);
  await expect(handle.update([instance("2", { tags: ["x"] }), instance("3")])).rejects.toMatchObject({
    facts: { code: "DEADLINE_EXCEEDED" },
  });
  release.resolve();
  server.held.clear();
  await until("the handle's entries are those of the server", () => server.callsOf("unregister").length > 0);
  expect(told(server).slice(-2)).toEqual(["lease-1 + 2", "lease-1 - 3"]);
  await until("they are", () => ids(server).join() === "1,2");
  expect([...server.entries.values()].flatMap(({ tags }) => tags)).toEqual([]);
});

test("taking back goes on until a server has done it, and ends with a refusal; an update that comes meanwhile is not held up", async () => {
  const { server, handle } = await setUp(["1"], { timeoutMs: 200 });
  const release = Promise.withResolvers<void>();
  server.held.set("register", release.promise);
  server.refusals.set("unregister", { code: status.RESOURCE_EXHAUSTED, message: "busy", reason: "DISCOVERY_RATE_LIMITED" });
  await expect(handle.update([instance("1"), instance("2")])).rejects.toMatchObject({ facts: { code: "DEADLINE_EXCEEDED" } });
  release.resolve();
  server.held.clear();
  await until("it is tried again", () => server.callsOf("unregister").length > 1);
  const updated = handle.update([instance("1"), instance("3")]).catch((error: unknown) => error);
  await until("the update is carried out", () => ids(server).includes("3"));
  server.refusals.set("unregister", REFUSED);
  // It was put, but what is left cannot be removed.
  expect(await updated).toMatchObject({ message: expect.stringMatching(/busy|no/) as string });
  const isQuiet = async () => {
    const before = server.calls.length;
    await handle.update([instance("1"), instance("3")]);
    return server.calls.length === before;
  };
  await until("no more is tried", isQuiet);
  expect([handle.error, handle.lease?.leaseId]).toEqual([undefined, "lease-1"]);
});

test("an update that comes while something is being taken back removes it, should that fail", async () => {
  const { server, handle, kinds } = await setUp(["1"], { timeoutMs: 200 });
  const [put, removed] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  server.held.set("register", put.promise);
  await expect(handle.update([instance("2")])).rejects.toMatchObject({ facts: { code: "DEADLINE_EXCEEDED" } });
  server.held.clear();
  server.held.set("unregister", removed.promise);
  put.resolve();
  await until("it is being removed", () => server.callsOf("unregister").length > 0);
  // Its own time may run out before the removal is tried again; then that goes on without it.
  const updated = handle.update([instance("1"), instance("3")]).catch(() => {});
  server.refusals.set("unregister", { code: status.RESOURCE_EXHAUSTED, message: "busy", reason: "DISCOVERY_RATE_LIMITED" });
  server.held.clear();
  const next = Promise.withResolvers<void>();
  server.held.set("register", next.promise);
  const retries = () => kinds().filter((kind) => kind === "retrying").length;
  const [retriesBefore, putsBefore] = [retries(), server.callsOf("register").length];
  removed.resolve();
  // It does not wait for another try of what is taken back.
  await until("the update is under way", () => server.callsOf("register").length > putsBefore);
  expect(retries()).toBe(retriesBefore);
  server.held.clear();
  next.resolve();
  await until("the update is carried out", () => ids(server).includes("3"));
  server.refusals.clear();
  await updated;
  await until("it is removed", () => ids(server).join() === "1,3");
});

test("what is taken back under a lease that is lost meanwhile is not removed under the next one", async () => {
  const { server, handle } = await setUp(["1"], { timeoutMs: 200 });
  const release = Promise.withResolvers<void>();
  server.held.set("register", release.promise);
  server.refusals.set("unregister", { code: status.RESOURCE_EXHAUSTED, message: "busy", reason: "DISCOVERY_RATE_LIMITED" });
  await expect(handle.update([instance("2")])).rejects.toMatchObject({ facts: { code: "DEADLINE_EXCEEDED" } });
  release.resolve();
  server.held.clear();
  await until("it is to be removed", () => server.callsOf("unregister").length > 0);
  await loseLease(server, handle);
  server.refusals.clear();
  await handle.update([instance("1"), instance("3")]);
  expect(told(server).filter((call) => call.startsWith("lease-2"))).toEqual(["lease-2 + 3"]);
});

test("while no server is there an update fails in time, and the handle goes on with what it had", async () => {
  const { server, handle, kinds } = await setUp(["1"], { timeoutMs: 200, ttlMs: 1000 });
  server.stop();
  await until("the lease is lost", () => kinds().includes("lost"));
  await expect(handle.update([instance("2")])).rejects.toMatchObject({ facts: { code: "UNAVAILABLE" } });
  const back = new FakeDiscovery();
  await back.start(Number(server.address.split(":").at(-1)));
  opened.push({ close: () => back.stop() });
  await until("it is registered again", () => handle.lease !== undefined);
  await handle.update([instance("1"), instance("3")]);
  expect(told(back)).toEqual([" + 1", "lease-1 + 3"]);
});

test("updates fail with the handle, and a report of what no update brought is forgotten", async () => {
  const { server, handle } = await setUp(["1"]);
  server.refusals.set("register", REFUSED);
  const refused = handle.update([instance("1"), instance("2")]);
  handle.report({ health: HealthStatus.CRITICAL }, "2");
  await expect(refused).rejects.toThrow(REFUSED.message);
  server.refusals.clear();
  await handle.update([instance("1"), instance("2")]);
  handle.report({ health: HealthStatus.DEGRADED }, "1");
  await until("a health is told", () => server.callsOf("renew").length > 0);
  await handle.update([instance("1"), instance("2"), instance("3")]);
  const reports = server.callsOf("renew").flatMap(({ request }) => (request as { readonly reports: readonly Entry[] }).reports);
  expect(reports.map(({ key, health }) => [key?.instanceId, health])).toEqual([["1", HealthStatus.DEGRADED]]);
  // The server knows the lease no more, and does not take the entries again.
  server.refusals.set("register", { code: status.NOT_FOUND, message: "no lease", reason: "LEASE_NOT_FOUND" });
  const waiting = [handle.update([instance("4")]), handle.update([instance("5")])].map((one) => one.catch((error: unknown) => error));
  const failures = await Promise.all(waiting);
  expect([handle.error?.message, failures]).toEqual(["no lease", [handle.error, handle.error]]);
});

test("a handle that is closed, or over, takes no update, and fails those that wait", async () => {
  const { server, handle } = await setUp(["1"]);
  const release = Promise.withResolvers<void>();
  server.held.set("register", release.promise);
  const waiting = [handle.update([instance("2")]), handle.update([instance("3")])].map((one) => one.catch((error: unknown) => error));
  await until("it is under way", () => server.callsOf("register").length === 2);
  const closed = handle.close();
  const failure = { message: "the registration is closed", facts: { code: "FAILED_PRECONDITION" } };
  expect(await Promise.all(waiting)).toMatchObject([failure, failure]);
  await expect(handle.update([instance("4")])).rejects.toMatchObject(failure);
  await closed;
  release.resolve();
  expect(told(server)).toEqual([" + 1", "lease-1 + 2", "lease-1 - "]);
  const over = await setUp(["1"]);
  over.server.refusals.set("renew", REFUSED);
  over.handle.report({ health: HealthStatus.CRITICAL });
  await until("it is over", () => over.handle.error !== undefined);
  await expect(over.handle.update([instance("2")])).rejects.toBe(over.handle.error);
});

test("the guide's example does what its text says", async () => {
  const guide = readFileSync(join(import.meta.dirname, "../../docs/guides/client.md"), "utf8");
  const [, text = ""] = [...guide.matchAll(/^```typescript\n(.*?)^```$/gms)].find(([, block = ""]) => block.includes(".update(")) ?? [];
  const server = new FakeDiscovery();
  await server.start();
  opened.push({ close: () => server.stop() });
  const program = stripTypeScriptTypes(text.replace(/^import .*;$/m, "")).replaceAll("10.0.0.1:17420", server.address);
  // oxlint-disable-next-line typescript/no-implied-eval, typescript/no-unsafe-call -- the example of our own guide
  await new Function("connect", `return (async () => { ${program} })();`)(connect);
  expect(told(server)).toEqual([" + web-1,web-2", "lease-1 + web-2,web-3", "lease-1 - web-1", "lease-1 - "]);
});
