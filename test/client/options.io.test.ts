/** What a program without types may pass to a client: each wrong option is refused at once, by its name, and the program goes on. */
import { afterAll, expect, test } from "vitest";
import { type Client, connect, EntryKind, follow, ResolvePolicy } from "../../src/client/index.ts";
import { FakeDiscovery } from "../fakes/discovery-server.ts";

const ENTRY = { key: { namespace: "svc", name: "web", instanceId: "1" } };
const registry = new FakeDiscovery();
await registry.start();
const client = connect({ servers: [registry.address], findServers: false });

afterAll(() => {
  client.close();
  registry.stop();
});

async function drained(all: AsyncIterable<unknown>): Promise<void> {
  for await (const one of all) expect(one).toBeDefined();
}

/** The calls that take options. */
const CALLS: Readonly<Record<string, (client: Client, options: never) => Promise<unknown>>> = {
  register: (of, options) => of.register([ENTRY], options),
  "discovery.serverInfo": (of, options) => of.discovery.serverInfo({}, options),
  "discovery.catalogWatch": (of, options) => drained(of.discovery.catalogWatch({ namespace: "svc" }, options)),
  query: async (of, options) => drained(of.query({ namespace: "svc" }, options)),
  watch: (of, options) => of.watch({ namespace: "svc" }, options),
  follow: (of, options) => drained(follow(of, { namespace: "svc" }, options)),
  resolve: (of, options) => of.resolve("svc", "web", options),
  callWithSummary: (of, options) => of.callWithSummary("us1", () => Promise.resolve(), options),
};

test.each([
  ["register", { ttlMs: Number.NaN }, "RangeError: register: invalid ttlMs NaN: expected a number of milliseconds from 1000 to 86400000"],
  ["register", { ttlMs: Number.POSITIVE_INFINITY }, "RangeError: register: invalid ttlMs Infinity: expected"],
  ["register", { ttlMs: 1e300 }, "RangeError: register: invalid ttlMs 1e+300: expected"],
  ["register", { ttlMs: 999 }, "RangeError: register: invalid ttlMs 999: expected"],
  ["register", { ttlMs: "x" }, 'RangeError: register: invalid ttlMs "x": expected'],
  ["register", { ttl: 5000 }, "TypeError: register: unknown option ttl; the options are ttlMs, waitsForServer, signal, onEvent"],
  ["register", { waitsForServer: "no" }, 'TypeError: register: invalid waitsForServer "no": expected true or false'],
  ["register", { onEvent: 5 }, "TypeError: register: invalid onEvent 5: expected a function"],
  ["register", { signal: "x" }, 'TypeError: register: invalid signal "x": expected an AbortSignal'],
  ["register", 5, "TypeError: register: invalid options 5: expected an object"],
  [
    "discovery.serverInfo",
    { timeoutMs: 1e12 },
    "RangeError: serverInfo: invalid timeoutMs 1000000000000: expected a number of milliseconds from 1",
  ],
  ["discovery.serverInfo", { toString: 1 }, "TypeError: serverInfo: unknown option toString; the options are timeoutMs, signal"],
  ["discovery.catalogWatch", { timeoutMs: 5 }, "TypeError: catalogWatch: unknown option timeoutMs; the options are signal"],
  ["query", { timeoutMs: 1e12 }, "RangeError: query: invalid timeoutMs 1000000000000: expected"],
  ["query", { timeoutMs: -1 }, "RangeError: query: invalid timeoutMs -1: expected"],
  ["query", { signal: {} }, "TypeError: query: invalid signal of type object: expected an AbortSignal"],
  [
    "watch",
    { silentms: 1 },
    "TypeError: watch: unknown option silentms; the options are waitsForServer, signal, silentMs, onChange, onBreak",
  ],
  ["watch", { silentMs: -1 }, "RangeError: watch: invalid silentMs -1: expected"],
  ["watch", { silentMs: Number.NaN }, "RangeError: watch: invalid silentMs NaN: expected"],
  ["watch", { onChange: [] }, "TypeError: watch: invalid onChange of type array: expected a function"],
  ["follow", { signal: new AbortController().signal, chance: 1 }, "TypeError: follow: invalid chance 1: expected a function"],
  ["resolve", { policy: 99 }, "RangeError: resolve: invalid policy 99: expected a value of ResolvePolicy"],
  ["resolve", { policy: ResolvePolicy.HASH }, "RangeError: resolve: policy HASH requires a hashKey"],
  ["resolve", { kind: 99 }, "RangeError: resolve: invalid kind 99: expected a value of EntryKind"],
  ["resolve", { avoid: [{}] }, "TypeError: resolve: invalid avoid of type array: expected a list of choices"],
  ["resolve", { zone: "z" }, "TypeError: resolve: unknown option zone; the options are kind, policy, hashKey, avoid"],
  ["callWithSummary", { namespace: 7 }, "TypeError: callWithSummary: invalid namespace 7: expected a string"],
  ["callWithSummary", { kind: 1 }, "TypeError: callWithSummary: unknown option kind; the options are namespace, service, signal"],
])("%s with %o says what is wrong", async (call, options, says) => {
  const asked = registry.calls.length;
  const thrown = await CALLS[call]?.(client, options as never).catch((error: unknown) => error);
  expect(String(thrown)).toContain(says);
  expect(registry.calls.length).toBe(asked);
});

test("a map checks the options of each choice, and takes those that are right", async () => {
  registry.watchScript = [[{ snapshot: 1 }, { snapshot: 3, portableCursor: "p" }]];
  await using map = await client.watch({ namespace: "svc" }, { silentMs: 60_000, onChange: () => {}, signal: undefined as never });
  expect(() => map.resolve("svc", "web", { policy: 99 as never })).toThrow("resolve: invalid policy 99");
  expect(map.resolve("svc", "web", { kind: EntryKind.SERVICE, policy: ResolvePolicy.HASH, hashKey: "k", avoid: [] })).toBeUndefined();
});

test.each([
  ["a fraction", [{ ...ENTRY, targets: [{ host: "h", port: 1.5 }] }], "RequestError: Target.port: invalid uint32: 1.5"],
  ["a text for a list", [{ ...ENTRY, targets: "h:1" }], "RequestError: the request cannot be encoded"],
  ["no list", undefined, "TypeError: register: invalid entries undefined: expected a list"],
])("entries with %s are refused before a server is asked", async (_name, entries, says) => {
  const asked = registry.calls.length;
  expect(String(await client.register(entries as never).catch((error: unknown) => error))).toContain(says);
  expect(registry.calls.length).toBe(asked);
});

test("a request that cannot be encoded is refused like one that a server refuses, and is not sent", async () => {
  const thrown = await client.discovery.catalogQuery({ namespace: "svc", limit: 1.5 }).catch((error: unknown) => error);
  expect(thrown).toMatchObject({
    message: "CatalogQueryRequest.limit: invalid int32: 1.5",
    facts: {
      code: "INVALID_ARGUMENT",
      isSent: false,
      violations: [{ field: "CatalogQueryRequest.limit", description: "invalid int32: 1.5" }],
    },
  });
});
