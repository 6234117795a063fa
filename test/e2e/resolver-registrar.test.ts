/** What a resolver that registers itself says to servers, and what it does when they fail. */
import { create, type DescMethod, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import {
  CatalogQueryResponseSchema,
  RegisterRequestSchema,
  RegisterResponseSchema,
  RenewResponseSchema,
  UnregisterRequestSchema,
  UnregisterResponseSchema,
} from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { WaymarkError } from "../../src/lib/errors.ts";
import { SelfRegistrar } from "../../src/node/resolver/self-registration.io.ts";
import type { UpstreamCallOutcome } from "../../src/node/resolver/upstream-calls.io.ts";
import { resolverEntry } from "../../src/services/resolving/own-entry.ts";
import { until } from "../fakes/until.ts";

const REGISTERED: MessageInitShape<typeof RegisterResponseSchema> = { leaseId: "a/1", ttl: { seconds: 30n } };

type Answer = Uint8Array | WaymarkError | Promise<never>;

/** A registrar and the servers that it calls; each answers by `answer`. */
class World implements AsyncDisposable {
  upstream = "a:1";
  version = "1";
  readonly calls: string[] = [];
  readonly requests: { readonly name: string; readonly bytes: Uint8Array }[] = [];
  readonly lines: string[] = [];
  answer: (call: string) => Answer = (call) => accepted(call);
  readonly registrar = new SelfRegistrar({
    upstream: () => this.upstream,
    entry: () => resolverEntry({ nodeId: "edge", zone: "z", version: this.version, followed: ["svc"], listeners: {} }),
    calls: { unary: (server, method, bytes) => this.#call(server, method, bytes) },
    log: {
      info: (_fields, line) => this.lines.push(line),
      warn: ({ detail, other }, line) => this.lines.push(`${line}: ${String(detail ?? other)}`),
    },
    now: () => ({ monoMs: performance.now(), wallMs: 0 }),
    random: () => 0,
  });

  async #call(server: string, { name }: DescMethod, bytes: Uint8Array): Promise<UpstreamCallOutcome> {
    const call = `${name} ${server}`;
    this.calls.push(call);
    this.requests.push({ name, bytes });
    const answer = await this.answer(call);
    return answer instanceof WaymarkError ? { bytes: undefined, error: answer, isUnreached: false } : { bytes: answer };
  }

  async registered(): Promise<this> {
    this.registrar.begin();
    await until("it is registered", () => (this.registrar.lease === undefined ? this.calls.concat(this.lines, "not registered") : []));
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.registrar.stop(1);
  }
}

function accepted(call: string): Uint8Array {
  if (call.startsWith("Register")) return toBinary(RegisterResponseSchema, create(RegisterResponseSchema, REGISTERED));
  if (call.startsWith("Renew")) return toBinary(RenewResponseSchema, create(RenewResponseSchema, { ttl: { seconds: 30n } }));
  return toBinary(UnregisterResponseSchema, create(UnregisterResponseSchema, { removed: 1 }));
}

const refused = new WaymarkError("not_ready", "no");

test("it registers its entry for 30 s, and unregisters its lease at the end, once", async () => {
  const world = await new World().registered();
  expect(fromBinary(RegisterRequestSchema, world.requests[0]!.bytes)).toMatchObject({
    ttl: { seconds: 30n },
    entries: [{ key: { name: "edge" } }],
    staticLease: false,
  });
  expect(await Promise.all([world.registrar.stop(1000), world.registrar.stop(1000)])).toEqual([true, true]);
  expect(world.calls).toEqual(["Register a:1", "Unregister a:1"]);
  expect(fromBinary(UnregisterRequestSchema, world.requests[1]!.bytes)).toMatchObject({ leaseId: "a/1", keys: [] });
});

test("what fails is told of once and tried again", async () => {
  await using world = new World();
  world.answer = (call) => (world.calls.length < 3 ? refused : accepted(call));
  await world.registered();
  expect(world.calls).toEqual(["Register a:1", "Register a:1", "Register a:1"]);
  expect(world.lines).toEqual(["registration of this resolver failed; it will be retried: not_ready: no", "this resolver was registered"]);
});

test("an answer that cannot be read is a failure", async () => {
  await using world = new World();
  world.answer = (call) => (world.calls.length < 2 ? new Uint8Array([255]) : accepted(call));
  await world.registered();
  expect(world.lines[0]).toContain("a:1 sent a malformed answer");
});

test("of the urls that a resolver names it calls those that are addresses of gRPC, at most four", async () => {
  await using world = new World();
  const urls = "http://n:1 grpc://n1:7/path n2 grpc://user@n3:1 grpc://[fd00::1]:7 grpc://n4:7 n5:7";
  world.answer = (call) => {
    if (call === "Register a:1") return new WaymarkError("read_only", "no", { metadata: { urls } });
    return call === "Register n4:7" ? refused : call === "Register [fd00::1]:7" ? refused : accepted(call);
  };
  await world.registered();
  expect(world.calls).toEqual(["Register a:1", "Register [fd00::1]:7", "Register n4:7", "Register n5:7"]);
  expect(world.registrar.lease?.server).toBe("n5:7");
});

test("an upstream that takes no writes and names nobody is told of", async () => {
  await using world = new World();
  world.answer = () => new WaymarkError("read_only", "no");
  world.registrar.begin();
  await until("it is told of", () => world.lines.length > 0);
  expect(world.lines).toEqual([
    expect.stringContaining("clients cannot discover it: the upstream is a resolver and does not list any node"),
  ]);
});

test("when the server of its lease is away at the end, another one removes its key", async () => {
  const world = await new World().registered();
  world.upstream = "b:1";
  world.answer = (call) => (call === "Unregister b:1" ? accepted(call) : refused);
  expect(await world.registrar.stop(1000)).toBe(true);
  expect(fromBinary(UnregisterRequestSchema, world.requests.at(-1)!.bytes).keys).toMatchObject([
    { namespace: "discovery.resolvers", name: "edge" },
  ]);
});

test("a stop does not wait longer than it may for a call that is under way, and servers that fail do not matter to it", async () => {
  const world = new World();
  world.answer = () => new Promise<never>(() => {});
  world.registrar.begin();
  await until("the call is under way", () => world.calls.length === 1);
  expect(await world.registrar.stop(1)).toBe(true);
  const other = await new World().registered();
  other.answer = () => refused;
  expect(await other.registrar.stop(1000)).toBe(false);
});

test("a process that takes its key again and again is told of by its address, and the key is left to it for a while", async () => {
  await using world = new World();
  const other = resolverEntry({
    nodeId: "edge",
    zone: "z",
    version: "1",
    followed: [],
    listeners: { grpc: { host: "10.0.0.9", port: 7 } },
  });
  world.answer = (call) => {
    if (call.startsWith("CatalogQuery"))
      return toBinary(CatalogQueryResponseSchema, create(CatalogQueryResponseSchema, { items: [other] }));
    // It is renewed after 10 ms.
    const granted = create(RegisterResponseSchema, { leaseId: "a/1", ttl: { nanos: 30_000_000 } });
    if (call.startsWith("Register")) return toBinary(RegisterResponseSchema, granted);
    return call.startsWith("Renew")
      ? toBinary(RenewResponseSchema, create(RenewResponseSchema, { expiredLeaseIds: ["a/1"] }))
      : accepted(call);
  };
  world.registrar.begin();
  await until("it is told of", () => world.lines.some((line) => line.includes("with the id of this resolver")));
  expect(world.calls).toEqual(["Register a:1", "Renew a:1", "Register a:1", "Renew a:1", "CatalogQuery a:1"]);
  expect(world.lines.at(-1)).toMatch(/give each resolver its own node\.id.*: 10\.0\.0\.9:7$/);
});
