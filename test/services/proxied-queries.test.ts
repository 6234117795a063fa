/** Queries that a resolver passes on: what it asks its upstream for, how much work one call makes, and whose fault it is when the answer cannot be. */
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { EntryKind, EntrySchema, HealthStatus, Scope } from "../../gen/waymark/catalog/v1/entry_pb.js";
import {
  type CatalogQueryRequest,
  CatalogQueryRequestSchema,
  type CatalogQueryResponse,
  CatalogQueryResponseSchema,
} from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { shownBytes } from "../../src/catalog/entry/view.ts";
import { filterHash } from "../../src/catalog/query/filter.ts";
import { NamespacePrefixes } from "../../src/catalog/query/prefixes.ts";
import { decodePageToken, encodePageToken } from "../../src/catalog/query/query.ts";
import { WaymarkError } from "../../src/lib/errors.ts";
import { filterOf } from "../../src/services/discovery/filter.ts";
import { encodedPage, proxyQuery, type UpstreamQuery } from "../../src/services/resolving/upstream-query.ts";

interface Stored {
  readonly namespace: string;
  readonly name: string;
  /** The cluster that registered it. */
  readonly clusterId?: string;
}

/** An upstream with these entries, and what it was asked. */
class Upstream {
  readonly limits: number[] = [];
  readonly faults: string[] = [];
  /** Changes what it sends. */
  garble: (answer: CatalogQueryResponse, request: CatalogQueryRequest) => CatalogQueryResponse | Uint8Array = (answer) => answer;
  readonly #stored: readonly Stored[];

  constructor(stored: readonly Stored[]) {
    this.#stored = stored.toSorted((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1));
  }

  readonly ports: Parameters<typeof proxyQuery>[0] = {
    adjust: () => {},
    machine: { policy: { isReady: true, noteEpoch: () => {} } } as never,
    callBytes: (_method, asked) => {
      const request = asked as unknown as CatalogQueryRequest;
      const answer = this.garble(this.#answer(request), request);
      const bytes = answer instanceof Uint8Array ? answer : toBinary(CatalogQueryResponseSchema, answer);
      return Promise.resolve({ bytes, upstream: "a:1" });
    },
    garbled: (upstream, fault) => void this.faults.push(`${upstream} ${fault}`),
  };

  #answer(request: CatalogQueryRequest): CatalogQueryResponse {
    this.limits.push(request.limit);
    const afterKey = decodePageToken(request.pageToken, hashOf(request));
    const left = this.after(afterKey);
    const page = left.slice(0, request.limit);
    const nextPageToken = left.length > page.length ? encodePageToken(keyOf(page.at(-1)!), hashOf(request)) : "";
    const items = page.map((stored) => this.entryOf(stored));
    return create(CatalogQueryResponseSchema, { items, nextPageToken, policyEpoch: "none" });
  }

  after(afterKey: string): readonly Stored[] {
    return this.#stored.filter((stored) => keyOf(stored) > afterKey);
  }

  entryOf({ namespace, name, clusterId = "c1" }: Stored) {
    return { key: { kind: EntryKind.SERVICE, namespace, name, instanceId: "1", clusterId: "c1" }, scope: Scope.ZONE, clusterId };
  }

  page(request: MessageInitShape<typeof CatalogQueryRequestSchema>, passed: Partial<UpstreamQuery> = {}): ReturnType<typeof proxyQuery> {
    const message = create(CatalogQueryRequestSchema, request);
    const of = { request: message, filter: filterOf(message), salt: "query", seesIn: () => true, isShown: () => true };
    return proxyQuery(this.ports, {
      ...of,
      heldAfter: () => undefined,
      via: ["me"],
      clusterId: "c1",
      now: () => ({ monoMs: 0, wallMs: 0 }),
      ...passed,
    });
  }

  /** The names that a caller is told, page for page. */
  async ask(request: MessageInitShape<typeof CatalogQueryRequestSchema>, passed: Partial<UpstreamQuery> = {}): Promise<readonly string[]> {
    const names: string[] = [];
    for (let pageToken = ""; ; ) {
      const { response } = await this.page({ ...request, pageToken }, passed);
      names.push(response.items.map(({ key }) => key?.name).join(" "));
      if (response.nextPageToken === "") return names;
      pageToken = response.nextPageToken;
    }
  }
}

function keyOf({ namespace, name }: Stored): string {
  return [namespace, name, "1", "1", "c1"].join("\0");
}

/** That of a resolver's request. */
function hashOf(request: CatalogQueryRequest): string {
  return filterHash({ ...filterOf(request), resolved: new NamespacePrefixes([""]) }, "query");
}

const many = (count: number, namespace: string, more: object = {}): Stored[] =>
  Array.from({ length: count }, (_, n) => ({ namespace, name: `n${String(n).padStart(6, "0")}`, ...more }));

test("of the upstream not much more is asked for than the caller wants", async () => {
  const upstream = new Upstream(many(5000, "svc"));
  expect((await upstream.ask({ namespacePrefix: "svc", limit: 1000 })).map((page) => page.split(" ").length)).toEqual([
    1000, 1000, 1000, 1000, 1000,
  ]);
  upstream.limits.length = 0;
  const few = new Upstream(many(3, "svc"));
  expect(await few.ask({ namespacePrefix: "svc", limit: 1 })).toEqual(["n000000", "n000001", "n000002"]);
  expect(few.limits).toEqual([17, 17, 17]);
});

test("what an owner's rule hides keeps nothing of its namespace from the caller, and a namespace that is hidden as a whole is passed over", async () => {
  const foreign = { clusterId: "c2" };
  const upstream = new Upstream([
    ...many(2000, "svc.mixed", foreign),
    { namespace: "svc.mixed", name: "z" },
    ...many(2000, "svc.secret"),
    { namespace: "svc.x", name: "last" },
  ]);
  const isShown: UpstreamQuery["isShown"] = ({ clusterId }) => clusterId === "c1";
  const seesIn = (namespace: string) => namespace !== "svc.secret";
  expect(await upstream.ask({ namespacePrefix: "svc", limit: 10 }, { isShown, seesIn })).toEqual(["z last"]);
  expect(upstream.limits.length).toBeLessThan(12);
  expect(upstream.limits.every((limit) => limit <= 1000)).toBe(true);
});

/** What is held, by `limit` entries at a time. */
function held(stored: readonly Stored[], limit: number): UpstreamQuery["heldAfter"] {
  const upstream = new Upstream(stored);
  return (afterKey) => {
    const left = upstream.after(afterKey);
    const items = left.slice(0, limit).map((one) => upstream.entryOf(one));
    const bytes = toBinary(CatalogQueryResponseSchema, create(CatalogQueryResponseSchema, { items }));
    return items.length === 0 ? undefined : { bytes, isMore: left.length > limit };
  };
}

test.each([1, 2, 3, 100])("what is held is in its place of the pages, %i at a time, once, and is judged as all else", async (limit) => {
  const named = (...names: readonly string[]) => names.map((name) => ({ namespace: "svc", name }));
  const upstream = new Upstream([...named("b", "d", "f", "g"), { namespace: "svc.x", name: "o", clusterId: "c2" }]);
  const ours = [
    ...named("a", "c", "d", "h", "i"),
    { namespace: "svc.secret", name: "s" },
    { namespace: "svc.x", name: "p", clusterId: "c2" },
  ];
  const isShown: UpstreamQuery["isShown"] = ({ clusterId }) => clusterId === "c1";
  const seesIn = (namespace: string) => namespace !== "svc.secret";
  const told = await upstream.ask({ namespacePrefix: "svc", limit }, { isShown, seesIn, heldAfter: held(ours, limit) });
  expect(told.join(" ").trim()).toBe("a b c d f g h i");
  expect(told.every((page) => page.split(" ").length <= limit)).toBe(true);
});

test("an answer of several pages has the age of its oldest page since the request, and is stale if one page is", async () => {
  const upstream = new Upstream([...many(40, "svc", { clusterId: "c2" }), { namespace: "svc", name: "z" }]);
  const ages = [7, 3];
  upstream.garble = (answer) => {
    const page = upstream.limits.length - 1;
    return Object.assign(answer, { age: durationFromMs((ages[page] ?? 0) * 1000), stale: page === 0 });
  };
  const request = create(CatalogQueryRequestSchema, { namespacePrefix: "svc", limit: 1 });
  const { ageMs, isStale } = await proxyQuery(upstream.ports, {
    request,
    filter: filterOf(request),
    salt: "query",
    seesIn: () => true,
    isShown: ({ clusterId }) => clusterId === "c1",
    heldAfter: () => undefined,
    via: ["me"],
    clusterId: "c1",
    // Each page takes half a second.
    now: () => ({ monoMs: upstream.limits.length * 500, wallMs: 0 }),
  });
  expect([upstream.limits.length, ageMs, isStale]).toEqual([2, 8000, true]);
});

test("one call reads a bounded number of entries, and says so where it found nothing that may be shown", async () => {
  const upstream = new Upstream([...many(30_000, "svc", { clusterId: "c2" }), { namespace: "svc", name: "z" }]);
  const isShown: UpstreamQuery["isShown"] = ({ clusterId }) => clusterId === "c1";
  await expect(upstream.ask({ namespacePrefix: "svc", limit: 10 }, { isShown })).rejects.toMatchObject({ reason: "quota_exceeded" });
  expect(upstream.limits.reduce((sum, limit) => sum + limit, 0)).toBeLessThan(11_000);
});

test.each<{ what: string; garble: Upstream["garble"] }>([
  { what: "an entry with an impossible key", garble: (answer) => spoiled(answer, { namespace: "Not A Namespace" }) },
  {
    what: "an entry without a key",
    garble: (answer) => Object.assign(answer, { items: [create(CatalogQueryResponseSchema, { items: [{}] }).items[0]] }),
  },
  { what: "bytes that are no answer", garble: () => new Uint8Array([0x0a, 200]) },
  { what: "a token of something else", garble: (answer) => Object.assign(answer, { nextPageToken: "abc" }) },
  {
    what: "a token that leads back",
    garble: (answer, request) => Object.assign(answer, { nextPageToken: encodePageToken("a", hashOf(request)) }),
  },
])("$what is the fault of the upstream, and counts as one", async ({ garble }) => {
  const upstream = new Upstream(many(100, "svc"));
  upstream.garble = garble;
  const refused = await upstream
    .ask({ namespacePrefix: "svc", limit: 10 }, { isShown: () => upstream.limits.length > 1 })
    .catch((error: unknown) => error);
  expect(refused).toBeInstanceOf(WaymarkError);
  expect(refused).toMatchObject({ reason: "not_ready" });
  expect(upstream.faults).toEqual([expect.stringMatching(/^a:1 /)]);
});

function spoiled(answer: CatalogQueryResponse, fields: object): CatalogQueryResponse {
  for (const { key } of answer.items) if (key !== undefined) Object.assign(key, fields);
  return answer;
}

test("what is in maintenance is passed on so while its node is away; another resolver is told of its node", async () => {
  const upstream = new Upstream([]);
  const time = timestampFromMs(1);
  const away = (name: string, health: HealthStatus) => {
    const entry = create(EntrySchema, { ...upstream.entryOf({ namespace: "svc", name }), health, registeredAt: time, updatedAt: time });
    return shownBytes(toBinary(EntrySchema, entry), true, undefined);
  };
  upstream.garble = (answer) => encodedPage(answer, [away("a", HealthStatus.MAINTENANCE), away("b", HealthStatus.HEALTHY)]);
  const told = async (forResolver: boolean) => {
    const { response, entries } = await upstream.page({ namespacePrefix: "svc", forResolver });
    const encoded = fromBinary(CatalogQueryResponseSchema, encodedPage(create(CatalogQueryResponseSchema), entries));
    expect(encoded.items.map(({ health }) => health)).toEqual(response.items.map(({ health }) => health));
    return response.items.map(({ health }) => health);
  };
  expect(await told(false)).toEqual([HealthStatus.MAINTENANCE, HealthStatus.ORPHANED]);
  expect(await told(true)).toEqual([HealthStatus.ORPHANED, HealthStatus.ORPHANED]);
});
