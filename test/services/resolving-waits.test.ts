/** What a resolver answers to those that waited for its upstream, where that one names a policy that the resolver lacks. */
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { EntryKind, Scope } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { CatalogQueryRequestSchema, CatalogQueryResponseSchema, DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { KIND } from "../../src/catalog/record/record.ts";
import { PendingNameError } from "../../src/dns/subject/remote-lookup.ts";
import type { WaymarkError } from "../../src/lib/errors.ts";
import { Metrics } from "../../src/lib/metrics/metrics.ts";
import { anonymousCaller } from "../../src/policy/identity/caller.ts";
import { epochOf } from "../../src/policy/set/verdict.ts";
import type { ResolverOrder } from "../../src/resolver/io-types.ts";
import { openRemoteLookups } from "../../src/services/resolving/remote-lookups.ts";
import { resolverServices } from "../../src/services/resolving/services.ts";
import { KEYS } from "../fakes/mesh.ts";
import { version } from "../fakes/policy-versions.ts";
import { ResolverWorld } from "../fakes/resolver-world.ts";

/** Not followed. Version 1 shows it to nobody. */
const OTHER = { kind: KIND.SERVICE, namespace: "other", name: "db" } as const;
const NEWER = epochOf(version(1).head);
const OTHER_DB = { namespace: "other", names: ["db"], kinds: [EntryKind.SERVICE] };
const RED = { ...anonymousCaller("c1", "127.0.0.1", []), tenant: "red" };

/** A resolver that follows `svc`, and needs no policy so far. */
class Resolver {
  readonly world = new ResolverWorld(["a"]);
  readonly ports: Parameters<typeof resolverServices>[0]["ports"];
  adjustCount = 0;
  /** Whether the last answer was. */
  isStale: boolean | undefined;
  /** What its upstream answers to queries that are passed on. */
  passed: MessageInitShape<typeof CatalogQueryResponseSchema> = {};
  readonly #orders: ResolverOrder[] = [];
  /** Calls that wait for the policy. */
  readonly #waiting: ((isSo: boolean) => void)[] = [];

  constructor() {
    for (const key of [KEYS[0]!, KEYS[12]!]) this.world.put("a", key);
    this.world.run(2000);
    const { machine } = this.world;
    this.ports = {
      machine,
      ask: (name, asked, told) => {
        const later = (outcome: object): void => told("error" in outcome ? (outcome.error as WaymarkError) : undefined);
        return machine.ask(name, later, this.world.now, this.#orders, asked);
      },
      call: () => Promise.reject(new Error("nothing is called")),
      callBytes: () => Promise.resolve({ bytes: bytesOf(this.passed), upstream: "a" }),
      garbled: (_, fault) => expect.fail(fault),
      adjust: () => {
        this.adjustCount += 1;
      },
      until: (isSo) => (isSo() ? Promise.resolve(true) : new Promise((resolve) => this.#waiting.push(resolve))),
    };
  }

  /** How many entries a caller is told, or why it is refused. */
  async query(asked: MessageInitShape<typeof CatalogQueryRequestSchema>): Promise<number | string> {
    const { world, ports } = this;
    const { reads, fanout, dnsNames, bytes, loads, policies } = world.rooms;
    const rooms = { reads, fanout, dnsNames, bytes, loads, policies };
    const nodeParts = {
      mesh: { ageMs: () => 0, hasPeers: () => true },
      isReady: () => true,
      checkStart: () => {},
      checkCaughtUp: () => {},
    };
    const rest = { identity: { nodeId: "me", clusterId: "c1" }, metrics: new Metrics(), random: () => 0, isTls: true, onRead: () => {} };
    const beside = { ports, upstreams: [], cache: {}, audit: {}, now: () => world.now };
    const services = resolverServices({ ...rooms, ...nodeParts, ...rest, ...beside } as never);
    const query = services.find(({ desc }) => desc === DiscoveryService)?.handlers["catalogQuery"];
    if (query?.kind !== "unary") return expect.fail("no query");
    const request = create(CatalogQueryRequestSchema, asked);
    try {
      const said = await query.handle(request as never, { caller: RED, time: world.now, requestId: "1" });
      const { items, stale } = fromBinary(CatalogQueryResponseSchema, said as Uint8Array);
      this.isStale = stale;
      return items.length;
    } catch (error) {
      return (error as WaymarkError).reason;
    }
  }

  /** The upstream answers the fetches that are under way. Returns their number. */
  answer(policyEpoch: string): number {
    const fetches = this.#orders.splice(0).filter((order) => order.kind === "fetch");
    for (const { call, name } of fetches)
      this.world.rooms.inputs.handle({ kind: "fetched", call, bytes: fetchedBytes(name, policyEpoch) }, this.world.now, []);
    return fetches.length;
  }

  /** The policy arrives for which calls wait. */
  takeVersion(): void {
    const server = this.world.server("a");
    Object.assign(server, { versions: [version(1)], policyEpoch: NEWER });
    this.world.server("a").isUp = false;
    this.world.run(1000);
    server.isUp = true;
    this.world.run(12_000);
    this.endWaits(true);
  }

  endWaits(isSo: boolean): void {
    for (const end of this.#waiting.splice(0)) end(isSo);
  }
}

function bytesOf(answer: MessageInitShape<typeof CatalogQueryResponseSchema>): Uint8Array {
  return toBinary(CatalogQueryResponseSchema, create(CatalogQueryResponseSchema, answer));
}

/** What a node answers that has one entry of the name. */
function fetchedBytes(name: typeof OTHER | object, policyEpoch: string): Uint8Array {
  const node = new ResolverWorld(["a"]);
  node.put("a", KEYS[12]!);
  node.run(2000);
  let bytes = new Uint8Array();
  node.server("a").policyEpoch = policyEpoch;
  node.server("a").garbleFetched = (sent) => (bytes = sent as typeof bytes);
  node.ask(name as typeof OTHER);
  return bytes;
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

test("who waits for an answer under a policy that the resolver lacks is told nothing of it", async () => {
  const resolver = new Resolver();
  const told = resolver.query(OTHER_DB);
  expect(resolver.answer(NEWER)).toBe(1);
  expect(resolver.world.machine.policy.isReady).toBe(false);
  await turn();
  resolver.endWaits(false);
  expect(await told).toBe("not_ready");
});

test("when that policy arrives, who waited is judged by it", async () => {
  const resolver = new Resolver();
  const told = resolver.query(OTHER_DB);
  resolver.answer(NEWER);
  await turn();
  resolver.takeVersion();
  expect([resolver.world.machine.policy.isReady, await told]).toEqual([true, 0]);
});

test("the answer under the policy that is here is told to who waited", async () => {
  const resolver = new Resolver();
  const told = resolver.query(OTHER_DB);
  resolver.answer("none");
  expect(await told).toBe(1);
});

test("an answer that was fetched while a watch told of a put there is told as stale, and the one that nothing exists is asked for again", async () => {
  const resolver = new Resolver();
  const { machine, now } = resolver.world;
  const [there, absent] = [resolver.query(OTHER_DB), resolver.query({ ...OTHER_DB, names: ["absent"] })];
  machine.policyChanged();
  resolver.answer("none");
  await turn();
  expect([await there, resolver.isStale, machine.fetchedAnswer(OTHER, now)?.isStale]).toEqual([1, true, true]);
  expect(resolver.answer("none")).toBe(1);
  expect([await absent, resolver.isStale]).toEqual([0, false]);
});

test("what was fresh when a caller began to wait for another name is told as it is when that one arrives", async () => {
  const resolver = new Resolver();
  const first = resolver.query(OTHER_DB);
  resolver.answer("none");
  await first;
  const told = resolver.query({ ...OTHER_DB, names: ["absent", "db"] });
  resolver.world.run(16_000);
  expect(resolver.answer("none")).toBe(1);
  expect([await told, resolver.isStale]).toEqual([1, true]);
});

test("what goes on changing while it is fetched is refused after some tries", async () => {
  const resolver = new Resolver();
  const told = resolver.query({ ...OTHER_DB, names: ["absent"] });
  const counts: number[] = [];
  for (let n = 0; n < 5; n++) {
    resolver.world.machine.policyChanged();
    counts.push(resolver.answer("none"));
    await turn();
  }
  expect([await told, counts]).toEqual(["not_ready", [1, 1, 1, 1, 0]]);
  expect(resolver.world.machine.counts.missCount).toBe(1);
});

test("what is followed does not stand in for an answer that names a policy that the resolver lacks", async () => {
  const resolver = resolverAnswered(NEWER);
  const told = resolver.query({ namespace: "svc", maxStaleness: { seconds: 0n, nanos: 1_000_000 } });
  await turn();
  resolver.endWaits(false);
  expect([await told, resolver.adjustCount]).toEqual(["not_ready", 1]);
});

test("what DNS asks about a name makes the resolver hear of the policy under which that is answered", async () => {
  const { world, ports } = resolverAnswered(NEWER);
  const options = { clusterId: "c1", name: "me", maxStaleMs: 0, ttls: { zoneMs: 15_000, negativeMs: 15_000 } };
  const viewers = [anonymousCaller(options.clusterId, "")];
  const remoteLookups = openRemoteLookups(world.rooms, { ports, resolver: options as never, now: () => world.now, viewers });
  const view = { sees: () => true, counts: () => true };
  const remoteLookup = remoteLookups.of(anonymousCaller("c1", ""));
  expect(() => remoteLookup.findAlias("shop.example", "waymark", view, false)).toThrow("not cached by this resolver yet");
  await turn();
  expect(world.machine.policy.isReady).toBe(false);
});

test("what DNS asks about a name is kept for the viewers of the settings, and for so many classes of callers with credentials that asked last", () => {
  const { world, ports } = new Resolver();
  const options = { clusterId: "c1", name: "me", maxStaleMs: 0, ttls: { zoneMs: 15_000, negativeMs: 15_000 } };
  const nobody = anonymousCaller("c1", "");
  const remoteLookups = openRemoteLookups(world.rooms, { ports, resolver: options as never, now: () => world.now, viewers: [nobody] });
  const of = (tenant: string, cluster = "c1") => remoteLookups.of({ tenant, cluster });
  const [anonymous, red] = [of(""), of("red")];
  expect(new Set([anonymous, red, of("blue"), of("red", "c2")]).size).toBe(4);
  for (let i = 0; i < 14; i++) of(`t${i}`);
  expect(of("red")).not.toBe(red);
  const again = of("red");
  for (let i = 0; i < 100; i++) {
    of(`more${i}`);
    expect(of("red")).toBe(again);
  }
  expect([of(""), remoteLookups.of(anonymousCaller("c1", "127.0.0.1"))]).toEqual([anonymous, anonymous]);
});

test.each([
  { whose: "of the settings", viewer: (i: number) => ({ ...anonymousCaller("c1", ""), tenant: `t${i}` }) },
  { whose: "with a credential", viewer: () => RED },
])("what the upstream tells of a name is known, however much it is and however many classes $whose share the room", async ({ viewer }) => {
  const resolver = new Resolver();
  const { world, ports } = resolver;
  const items = Array.from({ length: 100 }, (_, i) => ({
    key: { kind: EntryKind.SERVICE, namespace: "shop", name: "web", instanceId: `i${i}`, clusterId: "c1" },
    clusterId: "c1",
    scope: Scope.ZONE,
    aliases: ["www.shop"],
    metadata: { note: "x".repeat(4000) },
  }));
  resolver.passed = { policyEpoch: "none", items };
  const options = { clusterId: "c1", name: "me", maxStaleMs: 0, ttls: { zoneMs: 15_000, negativeMs: 15_000 } };
  const viewers = Array.from({ length: 64 }, (_, i) => ({ ...anonymousCaller("c1", ""), tenant: `t${i}` }));
  const remoteLookup = openRemoteLookups(world.rooms, { ports, resolver: options as never, now: () => world.now, viewers }).of(viewer(1));
  const view = { sees: () => true, counts: () => true };
  const known = async <T>(ask: () => T): Promise<T> => {
    try {
      return ask();
    } catch (error) {
      if (!(error instanceof PendingNameError)) throw error;
      await error.arrival;
    }
    return ask();
  };
  const [isAbove, aliasOwners] = [
    await known(() => remoteLookup.hasNameUnder("shop", "waymark", view)),
    await known(() => remoteLookup.findAlias("www.shop", "waymark", view, false)),
  ];
  expect([isAbove, aliasOwners[0]?.entry.key.name]).toEqual([true, "web"]);
  // A question needs both at a time.
  expect(remoteLookup.hasNameUnder("shop", "waymark", view)).toBe(true);
});

/** Queries that are passed on are answered under that policy. */
function resolverAnswered(policyEpoch: string): Resolver {
  const resolver = new Resolver();
  resolver.passed = { policyEpoch };
  return resolver;
}
