import { create, type DescMessage, type DescMethodServerStreaming, type DescMethodUnary, type MessageShape } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { DnsService } from "../../gen/waymark/dns/v1/dns_pb.js";
import { Client } from "../../src/client/client.ts";
import { RequestError, type RequestErrorFacts } from "../../src/client/request-error.ts";
import { ServerList } from "../../src/client/servers/server-list.ts";

/** The connection to one server. */
type Channel = ReturnType<ConstructorParameters<typeof Client>[1]>;

const INFO = DiscoveryService.method.serverInfo;

function failure(code: string, facts: Partial<RequestErrorFacts> = {}): RequestError {
  const none = { reason: undefined, violations: [], retryMs: undefined, metadata: {}, isReachable: true, isSent: true, server: "x" };
  return new RequestError(code, { code, ...none, ...facts });
}

/** A server that answers, or fails with what is given, taking `takesMs` of the test's clock. */
class FakeChannel implements Channel {
  readonly server: string;
  readonly #clock: { nowMs: number };
  failure: RequestError | undefined;
  takesMs = 0;
  readonly timeoutsMs: number[] = [];
  isClosed = false;

  constructor(server: string, clock: { nowMs: number }) {
    this.server = server;
    this.#clock = clock;
  }

  async unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    _request: MessageShape<I>,
    { timeoutMs }: { readonly timeoutMs: number },
  ): Promise<MessageShape<O>> {
    this.timeoutsMs.push(timeoutMs);
    this.#clock.nowMs += this.takesMs;
    if (this.failure) throw this.failure;
    return create(method.output);
  }

  // oxlint-disable-next-line require-yield -- no test opens a stream here
  async *serverStream<I extends DescMessage, O extends DescMessage>(
    _method: DescMethodServerStreaming<I, O>,
  ): AsyncIterable<MessageShape<O>> {
    throw failure("UNIMPLEMENTED");
  }

  close(): void {
    this.isClosed = true;
  }
}

function setUp() {
  const clock = { nowMs: 0 };
  const a = new FakeChannel("a:1", clock);
  const b = new FakeChannel("b:1", clock);
  return { a, b, client: clientFor([a, b], clock) };
}

function fail(server: string): never {
  throw new Error(`no server ${server}`);
}

/** Its waits take no time. */
function clientFor(
  channels: readonly Channel[],
  clock = { nowMs: 0 },
  seeds: readonly string[] = channels.map(({ server }) => server),
  more: Partial<ConstructorParameters<typeof Client>[2]> = {},
): Client {
  const servers = new ServerList({ seeds, place: undefined, random: () => 0.5 });
  const open = (server: string): Channel => channels.find((channel) => channel.server === server) ?? fail(server);
  return new Client(servers, open, {
    timeoutMs: 1000,
    lookupTtlMs: 5000,
    nowMs: () => clock.nowMs,
    random: () => 0.5,
    wait: () => Promise.resolve(),
    ...more,
  });
}

test.each([
  { name: "is away", error: failure("UNAVAILABLE") },
  { name: "is not reached in time", error: failure("DEADLINE_EXCEEDED", { isReachable: false }) },
])("when a server $name, the next is asked, and stays the first choice", async ({ error }) => {
  const { a, b, client } = setUp();
  a.failure = error;
  await client.call(INFO, {});
  expect(client.server).toBe("b:1");
  await client.call(INFO, {});
  expect([a.timeoutsMs.length, b.timeoutsMs.length]).toEqual([1, 2]);
});

test.each(["INVALID_ARGUMENT", "NOT_FOUND", "PERMISSION_DENIED", "DEADLINE_EXCEEDED"])(
  "a refusal with %s is the answer, wherever it comes from",
  async (code) => {
    const { a, b, client } = setUp();
    a.failure = failure(code);
    await expect(client.call(INFO, {})).rejects.toBe(a.failure);
    expect(b.timeoutsMs).toEqual([]);
  },
);

test("all tries share one deadline", async () => {
  const { a, b, client } = setUp();
  a.failure = failure("UNAVAILABLE");
  a.takesMs = 400;
  await client.call(INFO, {});
  expect([...a.timeoutsMs, ...b.timeoutsMs]).toEqual([1000, 600]);
});

test("a server that used up the time leaves none for the next", async () => {
  const { a, b, client } = setUp();
  a.failure = failure("UNAVAILABLE");
  a.takesMs = 950;
  await expect(client.call(INFO, {})).rejects.toBe(a.failure);
  expect(b.timeoutsMs).toEqual([]);
});

test("when all are away, the last failure is told, after one try each", async () => {
  const { a, b, client } = setUp();
  [a.failure, b.failure] = [failure("UNAVAILABLE"), failure("UNAVAILABLE")];
  await expect(client.call(INFO, {})).rejects.toBe(b.failure);
  expect([a.timeoutsMs.length, b.timeoutsMs.length]).toEqual([1, 1]);
});

test("a server left by one call is not left again by a slower one", () => {
  const { client } = setUp();
  client.failOver("a:1");
  client.failOver("a:1");
  expect(client.server).toBe("b:1");
});

test("closing closes every connection that was opened, and opens none; a client without servers is refused", async () => {
  const { a, b, client } = setUp();
  a.failure = failure("UNAVAILABLE");
  await client.call(INFO, {});
  client.close();
  expect([a.isClosed, b.isClosed]).toEqual([true, true]);
  await expect(client.call(INFO, {})).rejects.toThrow("the client is closed");
  expect(() => clientFor([])).toThrow("the list of servers is empty");
});

const LOST = failure("UNAVAILABLE", { isReachable: false });
const { register, unregister, renew } = DiscoveryService.method;
const { registerName } = DnsService.method;

test.each([
  { name: "a registration without a key, lost on the way", method: register, request: {}, error: LOST, tries: 1 },
  { name: "a registration with a key, lost on the way", method: register, request: { idempotencyKey: "k" }, error: LOST, tries: 2 },
  { name: "a registration that was never sent", method: register, request: {}, error: failure("UNAVAILABLE", { isSent: false }), tries: 2 },
  {
    name: "a registration refused with a reason",
    method: register,
    request: {},
    error: failure("UNAVAILABLE", { reason: "DRAINING" }),
    tries: 2,
  },
  { name: "a renewal, lost on the way", method: renew, request: {}, error: LOST, tries: 2 },
  { name: "a removal, lost on the way", method: unregister, request: {}, error: LOST, tries: 2 },
  { name: "a read, lost on the way", method: INFO, request: {}, error: LOST, tries: 2 },
  { name: "a name registered without a key, lost on the way", method: registerName, request: {}, error: LOST, tries: 1 },
  { name: "a name registered with a key, lost on the way", method: registerName, request: { idempotencyKey: "k" }, error: LOST, tries: 2 },
  { name: "the removal of a name, lost on the way", method: DnsService.method.unregisterName, request: {}, error: LOST, tries: 2 },
  { name: "a question about a name, lost on the way", method: DnsService.method.resolveName, request: {}, error: LOST, tries: 2 },
])("$name has $tries tries", async ({ method, request, error, tries }) => {
  const { a, b, client } = setUp();
  a.failure = error;
  const any: DescMethodUnary = method;
  const ended = client.call(any, request);
  if (tries === 1) await expect(ended).rejects.toBe(error);
  else await ended;
  expect(a.timeoutsMs.length + b.timeoutsMs.length).toBe(tries);
  // The next call does not ask the lost server again.
  expect(client.server).toBe("b:1");
});

test("a write that a resolver refuses goes to the next server, and so do all later ones; reads stay", async () => {
  const { a, b, client } = setUp();
  a.failure = failure("FAILED_PRECONDITION", { reason: "READ_ONLY" });
  await client.call(register, {});
  await client.call(register, {});
  expect([a.timeoutsMs.length, b.timeoutsMs.length, client.writeServer, client.server]).toEqual([1, 2, "b:1", "a:1"]);
  b.failure = failure("UNAVAILABLE", { reason: "DRAINING" });
  await expect(client.call(register, {})).rejects.toBe(b.failure);
});

test("after a resolver rejects a write, writes go to the next server, and reads stay on the resolver", () => {
  const { client } = setUp();
  client.failOver("a:1", failure("FAILED_PRECONDITION", { reason: "READ_ONLY" }));
  expect([client.writeServer, client.server]).toEqual(["b:1", "a:1"]);
  client.failOver("b:1", failure("UNAVAILABLE"));
  expect(client.server).toBe("a:1");
});

test("names are looked up at a resolver, which refuses to register them", async () => {
  const { a, b, client } = setUp();
  await client.dns.resolveName({ name: "web.svc.market" });
  a.failure = failure("FAILED_PRECONDITION", { reason: "READ_ONLY" });
  await client.dns.registerName({});
  a.failure = undefined;
  await client.dns.listNames({});
  await client.dns.describeName({ name: "web.svc.market" });
  expect([a.timeoutsMs.length, b.timeoutsMs.length, client.writeServer, client.server]).toEqual([4, 1, "b:1", "a:1"]);
});

test.each([
  { urls: "node:1 other:1", isFinding: true, asked: ["node:1"] },
  { urls: "grpc://node:1", isFinding: true, asked: ["node:1"] },
  { urls: "https://x/ node:99999  [::1]:7 node:1", isFinding: true, asked: ["[::1]:7"] },
  { urls: "a:1 a:1 a:1 a:1 node:1", isFinding: true, asked: [] },
  { urls: "node:1", isFinding: false, asked: [] },
  { urls: "", isFinding: true, asked: [] },
])("a write that the only seed refuses, which names $urls, goes on to $asked; it may find servers: $isFinding", async (row) => {
  const clock = { nowMs: 0 };
  const [resolver, ...nodes] = ["a:1", "node:1", "[::1]:7", "other:1"].map((server) => new FakeChannel(server, clock));
  if (resolver === undefined) throw new Error("no channel");
  resolver.failure = failure("FAILED_PRECONDITION", { reason: "READ_ONLY", metadata: { urls: row.urls } });
  const finding = row.isFinding ? { startFinding: () => ({ close: () => {} }) } : {};
  const client = clientFor([resolver, ...nodes], clock, ["a:1"], finding);
  const ended = client.call(register, {});
  if (row.asked.length === 0) await expect(ended).rejects.toBe(resolver.failure);
  else await ended;
  expect(nodes.flatMap(({ server, timeoutsMs }) => (timeoutsMs.length === 1 ? [server] : []))).toEqual(row.asked);
  // Reads stay at the resolver.
  expect(client.server).toBe("a:1");
});

test("while all servers are away, the tries are at most the calls, a tenth of the calls, and ten", async () => {
  const { a, b, client } = setUp();
  [a.failure, b.failure] = [failure("UNAVAILABLE"), failure("UNAVAILABLE")];
  const tries = () => a.timeoutsMs.length + b.timeoutsMs.length;
  for (let i = 0; i < 1000; i++) await client.call(INFO, {}).catch(() => {});
  expect(tries()).toBeLessThanOrEqual(1000 + 100 + 10);
  expect(tries()).toBeGreaterThan(1090);
});

/** A client of one server that notes what it is asked, and answers with empty messages. */
function clientOf(asked: unknown[]): Client {
  const channel: Channel = {
    server: "a:1",
    unary: (method, request, { timeoutMs }) => {
      asked.push([method.name, request, timeoutMs]);
      return Promise.resolve(create(method.output));
    },
    async *serverStream(method, request) {
      asked.push([method.name, request]);
      yield await Promise.resolve(create(method.output));
    },
    close: () => {},
  };
  return clientFor([channel]);
}

test("a unary method is a call with its request and options, and one that streams to the client an iterable", async () => {
  const asked: unknown[] = [];
  const { discovery } = clientOf(asked);
  const { items } = await discovery.catalogQuery({ namespacePrefix: "svc" }, { timeoutMs: 5 });
  const deltas = [];
  for await (const delta of discovery.catalogWatch({ namespace: "svc.market" })) deltas.push(delta);
  expect(items).toEqual([]);
  expect(deltas).toHaveLength(1);
  expect(asked).toEqual([
    ["CatalogQuery", expect.objectContaining({ namespacePrefix: "svc" }), 5],
    ["CatalogWatch", expect.objectContaining({ namespace: "svc.market" })],
  ]);
});

test("a method to which the client streams has no function", () => {
  const names = Object.keys(clientOf([]).discovery);
  const streaming = DiscoveryService.methods.filter(
    ({ methodKind }) => methodKind === "client_streaming" || methodKind === "bidi_streaming",
  );
  expect(streaming.map(({ localName }) => localName)).toContain("keepAlive");
  expect(streaming.filter(({ localName }) => names.includes(localName))).toEqual([]);
});

test("a client that was created for another cluster cannot lead scopes or own shards", async () => {
  const { client } = setUp();
  await expect(client.lead("custom/orders/cleaner", () => 1)).rejects.toMatchObject({
    message: "a client that was created for another cluster cannot lead scopes or own shards",
    facts: { code: "FAILED_PRECONDITION" },
  });
});
