/** The reads of a resolver over its machine: how good it says that each answer is, and why it refuses one. */
import assert from "node:assert/strict";
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { EntryKind } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { Source, type UnreachableNodes } from "../../gen/waymark/catalog/v1/watch_pb.js";
import {
  CatalogQueryRequestSchema,
  CatalogQueryResponseSchema,
  CatalogWatchRequestSchema,
  ResolveRequestSchema as FindRequestSchema,
  ResolveResponseSchema as FindResponseSchema,
  NamespaceStatusRequestSchema,
  NamespaceStatusResponseSchema,
} from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { ResolveRequestSchema, ResolveResponseSchema } from "../../gen/waymark/resolver/v1/resolver_pb.js";
import { BODY, keyParts, keyText } from "../../src/catalog/record/record.ts";
import { WaymarkError } from "../../src/lib/errors.ts";
import { Metrics } from "../../src/lib/metrics/metrics.ts";
import { anonymousCaller } from "../../src/policy/identity/caller.ts";
import { epochOf } from "../../src/policy/set/verdict.ts";
import { durationMs } from "../../src/services/contract.ts";
import { resolvingHandlers } from "../../src/services/resolving/reads.ts";
import type { MethodHandler } from "../../src/services/service.ts";
import { KEYS } from "../fakes/mesh.ts";
import { version } from "../fakes/policy-versions.ts";
import { ResolverWorld } from "../fakes/resolver-world.ts";

const SECOND = 1000;
const [DB1, OTHER1] = [KEYS[0]!, KEYS[12]!];
const OTHER = { namespace: "other", name: "db" };

/** A resolver that follows `svc`, and whose server has entries there and in `other`. */
function started({ namespaces = ["svc"], isHidden = false, maxWatches = 256 } = {}) {
  const world = new ResolverWorld(["a"], { namespaces, maxWatches });
  // It shows nothing of these namespaces to a caller without a tenant.
  if (isHidden) Object.assign(world.server("a"), { versions: [version(1)], policyEpoch: epochOf(version(1).head) });
  for (const key of [DB1, OTHER1]) world.put("a", key);
  world.run(2 * SECOND);
  const { machine, rooms } = world;
  /** The time that each call to the upstream got. */
  const withinMs: (number | undefined)[] = [];
  /** What the upstream answers to a query that is passed on. Undefined: it is away. */
  /** The unreachable nodes in the answers. */
  const unreachable: ({ readonly nodeIds: readonly string[]; readonly count: number } | undefined)[] = [];
  const noted = <A extends { readonly unreachableNodes?: UnreachableNodes | undefined }>(answer: A): A => {
    const { unreachableNodes: nodes } = answer;
    unreachable.push(nodes && { nodeIds: nodes.nodeIds, count: nodes.count });
    return answer;
  };
  /** The ages of answers to queries. */
  const ages: number[] = [];
  const proxied: { answer: MessageInitShape<typeof CatalogQueryResponseSchema> | undefined; asked: () => void } = {
    answer: undefined,
    asked: () => {},
  };
  const never = (): never => assert.fail("it is not asked for");
  const { resolveName, handlers } = resolvingHandlers({
    reads: rooms.reads,
    fanout: rooms.fanout,
    dnsNames: rooms.dnsNames,
    bytes: rooms.bytes,
    loads: rooms.loads,
    policies: rooms.policies,
    identity: {
      version: "0",
      nodeId: "me",
      clusterId: "c1",
      region: "r1",
      zone: "z1",
      roles: [],
      listeners: {},
      generation: 1,
      boot: "b",
      startedMonoMs: 0,
    },
    endedStaticCount: () => 0,
    mesh: { ageMs: () => 0, unreachable: () => undefined, hasPeers: () => true },
    isReady: () => true,
    checkCaughtUp: () => {},
    checkStart: () => {},
    caughtUp: undefined,
    now: () => world.now,
    random: () => 0.5,
    allowsViewerOverride: false,
    metrics: new Metrics(),
    isTls: true,
    onRead: () => {},
    ports: {
      machine,
      ask: world.port,
      call: () => Promise.reject(new WaymarkError("not_ready", "nobody")),
      callBytes: (_method, _request, ms) => {
        withinMs.push(ms);
        proxied.asked();
        if (proxied.answer === undefined) return Promise.reject(new WaymarkError("not_ready", "nobody"));
        const bytes = toBinary(CatalogQueryResponseSchema, create(CatalogQueryResponseSchema, proxied.answer));
        return Promise.resolve({ bytes, upstream: "a" });
      },
      garbled: never,
      adjust: () => world.run(100),
      until: (isSo) => Promise.resolve(isSo()),
    },
  });
  /** When callers give up, and how much of that time passes before something is told that takes a part of it. */
  const waiting: { deadlineMonoMs: number | undefined; passMs: number } = { deadlineMonoMs: undefined, passMs: 100 };
  /** What a call is answered, in bytes, once what it waits for is here; or the reason of its refusal. */
  const call = async (handler: MethodHandler | undefined, request: object): Promise<Uint8Array | string> => {
    assert(handler?.kind === "unary", "a unary method");
    const context = { caller: anonymousCaller("c1", ""), time: world.now, requestId: "", deadlineMonoMs: waiting.deadlineMonoMs };
    try {
      const said = handler.handle(request as never, context);
      world.run(waiting.passMs);
      const answer = await said;
      if (answer instanceof Uint8Array) return answer;
      return handler === handlers["resolve"]
        ? toBinary(FindResponseSchema, answer as never)
        : toBinary(NamespaceStatusResponseSchema, answer as never);
    } catch (error) {
      assert(error instanceof WaymarkError, String(error));
      return error.reason;
    }
  };
  const resolve = async (request: MessageInitShape<typeof ResolveRequestSchema>) => {
    const bytes = await call(resolveName, create(ResolveRequestSchema, request));
    if (typeof bytes === "string") return bytes;
    const { entries, source, stale } = noted(fromBinary(ResolveResponseSchema, bytes));
    return lineOf(source, stale, entries.length);
  };
  const query = async (request: MessageInitShape<typeof CatalogQueryRequestSchema>) => {
    const bytes = await call(handlers["catalogQuery"], create(CatalogQueryRequestSchema, request));
    if (typeof bytes === "string") return bytes;
    const { items, source, stale, age } = noted(fromBinary(CatalogQueryResponseSchema, bytes));
    ages.push(durationMs(age!));
    return lineOf(source, stale, items.length);
  };
  const status = async (namespace: string) => {
    const bytes = await call(handlers["namespaceStatus"], create(NamespaceStatusRequestSchema, { namespace }));
    if (typeof bytes === "string") return bytes;
    const { endpointCount, source, stale } = noted(fromBinary(NamespaceStatusResponseSchema, bytes));
    return lineOf(source, stale, Number(endpointCount));
  };
  /** As `DiscoveryService` does. */
  const find = async (request: MessageInitShape<typeof FindRequestSchema>) => {
    const bytes = await call(handlers["resolve"], create(FindRequestSchema, request));
    if (typeof bytes === "string") return bytes;
    const { entry, alternatives, source, stale } = noted(fromBinary(FindResponseSchema, bytes));
    return lineOf(source, stale, alternatives.length + Number(entry !== undefined));
  };
  return { world, resolve, find, query, status, waiting, withinMs, proxied, handlers, ages, unreachable };
}

function lineOf(source: Source, isStale: boolean, count: number): string {
  return `${Source[source]}${isStale ? " stale" : ""} ${count}`;
}

test("a query without kinds counts as one answer, and as a negative one only where no kind has the name", async () => {
  const { world, query } = started();
  const count = () => {
    const { hitCount, missCount, negativeCount } = world.machine.statistics(world.now);
    return [hitCount, missCount, negativeCount];
  };
  for (const names of [["db"], ["db"], ["none"], ["none"]]) await query({ namespace: "other", names });
  expect(count()).toEqual([2, 2, 1]);
});

test("a name is fetched once for all kinds, and that a kind has it not is good for as long as any negative answer", async () => {
  const { world, query } = started();
  const ask = async (kinds: readonly number[]) =>
    `${await query({ namespace: "other", names: ["db"], kinds: [...kinds] })}, ${world.server("a").fetchCount}`;
  expect([await ask([]), await ask([1]), await ask([2])]).toEqual(["FETCHED 1, 1", "FETCHED 1, 1", "FETCHED 0, 1"]);
  // The negative ttl is over, and not that of the entries: who asks for what is there waits for nobody.
  world.run(12 * SECOND);
  world.server("a").isUp = false;
  expect(await query({ namespace: "other", names: ["db"] })).toMatch(/^FETCHED(?: stale)? 1$/);
});

test("while the server that is followed stands still, what was fetched is told beyond its time", async () => {
  const { world, query } = started();
  expect(await query({ namespace: "other", names: ["db"] })).toBe("FETCHED 1");
  world.run(60 * SECOND);
  world.server("a").isSilent = true;
  world.run(5 * SECOND);
  expect(await query({ namespace: "other", names: ["db"] })).toBe("FETCHED stale 1");
});

test("a name that is held and too old for its caller is refused as too old where no server answers, and one that is not held as not known", async () => {
  const { world, resolve, query } = started();
  expect(await resolve(OTHER)).toBe("FETCHED 1");
  world.server("a").isUp = false;
  world.run(5 * SECOND);
  const maxStaleness = durationFromMs(SECOND);
  expect([await resolve(OTHER), await resolve({ ...OTHER, maxStaleness })]).toEqual(["FETCHED stale 1", "too_stale"]);
  expect(await query({ namespace: "other", names: ["db"], kinds: [1], maxStaleness })).toBe("too_stale");
  expect(await resolve({ namespace: "svc", name: "db", maxStaleness })).toBe("too_stale");
  expect(await query({ namespace: "svc", maxStaleness })).toBe("too_stale");
  expect(await resolve({ ...OTHER, name: "none", maxStaleness })).toBe("not_ready");
  expect(await query({ namespace: "other", maxStaleness })).toBe("not_ready");
});

test("a name that is held is refused as too old, too, when the server that is asked for it fails", async () => {
  const { world, resolve } = started();
  expect(await resolve(OTHER)).toBe("FETCHED 1");
  world.run(5 * SECOND);
  world.server("a").garbleFetched = (bytes) => bytes.subarray(0, bytes.length - 2);
  const maxStaleness = durationFromMs(SECOND);
  expect(await resolve({ ...OTHER, maxStaleness })).toBe("too_stale");
});

test("a caller with a deadline is told in time that what is held is too old for it, while the server that is asked stands still", async () => {
  const { world, resolve, query, waiting, withinMs } = started();
  expect(await resolve(OTHER)).toBe("FETCHED 1");
  world.run(5 * SECOND);
  const maxStaleness = durationFromMs(SECOND);
  waiting.deadlineMonoMs = world.now.monoMs + SECOND;
  expect(await resolve({ ...OTHER, maxStaleness })).toBe("FETCHED 1");
  world.run(5 * SECOND);
  waiting.passMs = 0;
  waiting.deadlineMonoMs = world.now.monoMs + SECOND;
  expect([await resolve({ ...OTHER, maxStaleness }), await resolve(OTHER)]).toEqual(["too_stale", "FETCHED 1"]);
  expect([await query({ namespace: "svc", maxStaleness: durationFromMs(0) }), withinMs]).toEqual(["too_stale", [800]]);
});

test("the age of a proxied query is counted from the request, and the query is refused if its caller accepts less", async () => {
  const { query, proxied, waiting, ages } = started();
  proxied.answer = { age: durationFromMs(500) };
  for (const [passMs, answer] of [
    [400, "FETCHED 0"],
    [600, "too_stale"],
    [60_000, "too_stale"],
  ] as const) {
    waiting.passMs = passMs;
    expect(await query({ namespace: "other", maxStaleness: durationFromMs(SECOND) })).toBe(answer);
  }
  await query({ namespace: "other" });
  expect(ages).toEqual([900, 60_500]);
});

test("if the server that was asked first fails, the followed data is returned with its age at that time", async () => {
  const { world, query, proxied, waiting, ages } = started();
  const server = world.server("a");
  server.isSilent = true;
  world.run(2 * SECOND);
  proxied.asked = () => void (server.isSilent = false);
  waiting.passMs = 2 * SECOND;
  const maxStaleness = durationFromMs(1500);
  expect(await query({ namespace: "svc", maxStaleness })).toBe("FOLLOWED 1");
  expect(ages[0]).toBeLessThan(1500);
  server.isSilent = true;
  proxied.asked = () => {};
  world.run(2 * SECOND);
  expect(await query({ namespace: "svc", maxStaleness })).toBe("too_stale");
});

test("each answer from a server's data lists the nodes that the server cannot reach, and a strict caller is refused", async () => {
  const { world, resolve, query, find, status, proxied, unreachable } = started();
  const server = world.server("a");
  const lost = { nodeIds: ["n7", "n9"], count: 2 };
  const strict = { maxStalenessStrict: true };
  expect([await query({ namespace: "svc", ...strict }), await resolve({ ...OTHER, ...strict })]).toEqual(["FOLLOWED 1", "FETCHED 1"]);
  server.unreachable = lost;
  proxied.answer = { unreachableNodes: { nodeIds: ["n3"], count: 20 } };
  world.run(60 * SECOND);
  unreachable.length = 0;
  await query({ namespace: "svc" });
  await resolve({ namespace: "svc", name: "db" });
  await find({ namespace: "svc", name: "db" });
  await status("svc");
  await resolve({ ...OTHER, name: "none" });
  await query({ namespace: "other" });
  expect(unreachable).toEqual([lost, lost, lost, lost, lost, { nodeIds: ["n3"], count: 20 }]);
  expect([
    await query({ namespace: "svc", ...strict }),
    await resolve({ namespace: "svc", name: "db", ...strict }),
    await resolve({ ...OTHER, name: "none", ...strict }),
    await query({ namespace: "other", ...strict }),
  ]).toEqual(["too_stale", "too_stale", "too_stale", "too_stale"]);
  server.unreachable = undefined;
  world.run(2 * SECOND);
  expect(await query({ namespace: "svc", ...strict })).toBe("FOLLOWED 1");
});

test("the answer to a caller that may not see a namespace says the same whether others ask for that or not, and what is configured", async () => {
  const { world, resolve, query, status } = started({ isHidden: true });
  const asked = async () => [
    await status("other"),
    await resolve(OTHER),
    await query({ namespace: "other" }),
    await query({ namespace: "other", names: ["db"], kinds: [1] }),
    await resolve({ ...OTHER, maxStaleness: durationFromMs(1) }),
  ];
  const hidden = ["FETCHED 0", "FETCHED 0", "FETCHED 0", "FETCHED 0", "FETCHED 0"];
  expect(await asked()).toEqual(hidden);
  world.machine.following.watch("other");
  world.run(SECOND);
  expect([world.machine.isComplete("other"), await asked()]).toEqual([true, hidden]);
  expect([await resolve({ namespace: "svc", name: "db" }), await query({ namespace: "svc" })]).toEqual(["FOLLOWED 0", "FOLLOWED 0"]);
  const nothing = started({ isHidden: true, namespaces: [] });
  expect(await nothing.resolve(OTHER)).toBe("FETCHED 0");
});

test("a held entry makes stale only the answers that it is in", async () => {
  const { world, resolve, find, query, status } = started();
  const WEB = { namespace: "svc", name: "web", kind: EntryKind.FUNCTION };
  const keys = ["1", "2", "3"].map((instanceId) => keyText({ ...keyParts(DB1), instanceId }));
  for (const key of [...keys, KEYS[2]!]) world.put("a", key);
  world.run(SECOND);
  for (const key of keys) world.end("a", key, BODY.EXPIRED);
  world.run(SECOND);
  const db = { namespace: "svc", name: "db" };
  expect([await resolve(db), await query({ namespace: "svc", names: ["db"] }), await query({ namespace: "svc" }), await query({})]).toEqual(
    ["FOLLOWED stale 3", "FOLLOWED stale 3", "FOLLOWED stale 4", "not_ready"],
  );
  expect([await find(db), await find(WEB)]).toEqual(["FOLLOWED stale 3", "FOLLOWED 1"]);
  expect([await resolve(WEB), await query({ namespace: "svc", names: ["web"] }), await query({ namespace: "svc.eu" })]).toEqual([
    "FOLLOWED 1",
    "FOLLOWED 1",
    "FOLLOWED 0",
  ]);
  expect([await query({ namespace: "svc", kinds: [EntryKind.FUNCTION] }), await status("svc")]).toEqual(["FOLLOWED 1", "FOLLOWED stale 1"]);
});

test("a held entry that the policy hides from a caller makes no answer to it stale", async () => {
  const { world, query } = started({ isHidden: true, namespaces: [""] });
  const keys = ["1", "2", "3"].map((instanceId) => keyText({ ...keyParts(DB1), namespace: "n1.x0", instanceId }));
  for (const key of keys) world.put("a", key);
  world.run(SECOND);
  for (const key of keys) world.end("a", key, BODY.EXPIRED);
  world.run(SECOND);
  expect([world.machine.statistics(world.now).heldCount, await query({})]).toEqual([3, "FOLLOWED 0"]);
});

test("queries by alias and by host find what is held, and are stale for it", async () => {
  const { world, query } = started();
  const keys = ["2", "3", "4"].map((instanceId) => keyText({ ...keyParts(DB1), instanceId }));
  const { node } = world.server("a");
  node.aliases = ["shop.example"];
  for (const key of keys) world.put("a", key);
  node.aliases = ["live.example"];
  world.put("a", KEYS[2]!);
  world.run(SECOND);
  const ask = async () =>
    Promise.all(
      [{ aliases: ["shop.example"] }, { aliases: ["live.example"] }, { hosts: ["example"] }, { hosts: ["svc"] }].map((names) =>
        query({ namespace: "svc", ...names }),
      ),
    );
  expect(await ask()).toEqual(["FOLLOWED 3", "FOLLOWED 1", "FOLLOWED 4", "FOLLOWED 5"]);
  for (const key of keys) world.end("a", key, BODY.EXPIRED);
  world.run(SECOND);
  expect(await ask()).toEqual(["FOLLOWED stale 3", "FOLLOWED 1", "FOLLOWED stale 4", "FOLLOWED stale 5"]);
  node.aliases = ["shop.example"];
  world.put("a", keys[0]!);
  world.endAgain("a", keys[1]!);
  world.run(SECOND);
  expect(await ask()).toEqual(["FOLLOWED stale 2", "FOLLOWED 1", "FOLLOWED stale 3", "FOLLOWED stale 4"]);
  world.run(300 * SECOND, SECOND);
  expect(await ask()).toEqual(["FOLLOWED 1", "FOLLOWED 1", "FOLLOWED 2", "FOLLOWED 3"]);
});

test("queries that are passed on find what is held of what is followed, and are stale for it", async () => {
  const { world, query, proxied } = started();
  const keys = ["2", "3", "4"].map((instanceId) => keyText({ ...keyParts(DB1), instanceId }));
  const { node } = world.server("a");
  node.aliases = ["shop.example"];
  for (const key of keys) world.put("a", key);
  world.run(SECOND);
  for (const key of keys) world.end("a", key, BODY.EXPIRED);
  world.run(SECOND);
  proxied.answer = { items: [{ key: { ...keyParts(OTHER1), kind: EntryKind.SERVICE }, scope: 2, clusterId: "c1" }], policyEpoch: "none" };
  const asked = [{}, { names: ["db"] }, { limit: 2 }, { kinds: [EntryKind.FUNCTION] }, { scope: 4 }, { clusterId: "c9" }];
  const ask = async (requests: readonly object[]) => Promise.all(requests.map((request) => query(request)));
  const hosts = [{ aliases: ["shop.example"] }, { hosts: ["example"] }, { hosts: ["svc"] }, { aliases: ["no.example"] }];
  const others = ["FETCHED 1", "FETCHED 1", "FETCHED 1"];
  expect(await ask(asked)).toEqual(["FETCHED stale 4", "FETCHED stale 4", "FETCHED stale 2", ...others]);
  proxied.answer = { items: [], policyEpoch: "none" };
  expect(await ask(hosts)).toEqual(["FETCHED stale 3", "FETCHED stale 3", "FETCHED stale 3", "FETCHED 0"]);
  world.run(300 * SECOND, SECOND);
  expect(await ask([{}, ...hosts])).toEqual(["FETCHED 0", "FETCHED 0", "FETCHED 0", "FETCHED 0", "FETCHED 0"]);
});

test("a watch whose first snapshot does not come makes the resolver follow nothing any more", async () => {
  const { world, handlers } = started();
  world.server("a").isSilent = true;
  const handler = handlers["catalogWatch"];
  assert(handler?.kind === "server_streaming", "a stream");
  const context = { caller: anonymousCaller("c1", ""), time: world.now, requestId: "" };
  const source = handler.open(create(CatalogWatchRequestSchema, { namespace: "other" }) as never, context);
  expect(world.machine.following.prefixes.covers("other")).toBe(true);
  source.attach(
    () => {},
    () => {},
  );
  await new Promise((resolve) => setImmediate(resolve));
  expect(world.machine.following.prefixes.covers("other")).toBe(false);
});

test("a watch of several prefixes of which one is too many is refused, and none of them is followed for it", () => {
  const { world, handlers } = started({ maxWatches: 2 });
  const handler = handlers["catalogWatch"];
  assert(handler?.kind === "server_streaming", "a stream");
  const context = { caller: { ...anonymousCaller("c1", "", ["mesh.resolve"]) }, time: world.now, requestId: "" };
  const open = (namespacePrefixes: readonly string[]) =>
    handler.open(
      create(CatalogWatchRequestSchema, { forResolver: true, via: ["other"], namespacePrefixes: [...namespacePrefixes] }) as never,
      context,
    );
  expect(() => open(["other", "svc", "third"])).toThrow(/quota_exceeded.*max_watches is 2/);
  expect(world.machine.following.prefixes.list).toEqual(["svc"]);
  expect(() => open(["third"])).not.toThrow();
});

test("a prefix below which the policy shows a caller nothing is empty for it, and the upstream is not asked", async () => {
  const { query, withinMs } = started({ isHidden: true });
  for (const namespacePrefix of ["other", "nowhere", "n1", "n1.x0"]) expect(await query({ namespacePrefix })).toBe("FETCHED 0");
  expect(await query({ namespacePrefix: "svc.market" })).toBe("FOLLOWED 0");
  expect(withinMs).toEqual([]);
  // Of these it shows something.
  for (const namespacePrefix of ["", "discovery"]) expect(await query({ namespacePrefix })).toBe("not_ready");
  expect(withinMs).toHaveLength(2);
});
