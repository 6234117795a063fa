/** A client that follows redirects and calls named clusters, with servers of three clusters. */
import { create } from "@bufbuild/protobuf";
import { durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { status } from "@grpc/grpc-js";
import { afterAll, afterEach, beforeEach, expect, test } from "vitest";
import { openClient } from "../../../src/client/connect.io.ts";
import { type Client, type ConnectOptions, EntryKind, EntrySchema, RequestError } from "../../../src/client/index.ts";
import { FakeDiscovery } from "../../fakes/discovery-server.ts";

const [home, us, ap] = [new FakeDiscovery("eu1"), new FakeDiscovery("us1"), new FakeDiscovery("ap1")];
const all = [home, us, ap];
await Promise.all(all.map((server) => server.start()));
const DEAD = "grpc://127.0.0.1:1";
const urlOf = ({ address }: FakeDiscovery) => `grpc://${address}`;

let client: Client;
/** How far the clock of the client is ahead of the machine's. */
let aheadMs = 0;
const nowMs = () => performance.now() + aheadMs;

function opened(options: Partial<ConnectOptions> = {}): Client {
  client.close();
  const usual = { servers: [home.address], findServers: false, autoSummaryRedirect: true, lookupTtlMs: 0, token: "of-home" };
  client = openClient({ ...usual, ...options }, nowMs);
  return client;
}

beforeEach(() => {
  aheadMs = 0;
  for (const server of all) {
    server.entries.clear();
    server.calls.length = 0;
    server.redirect = () => undefined;
    server.summaries = () => ({});
  }
  client = openClient({ servers: [home.address] }, nowMs);
  opened();
});
afterEach(() => {
  client.close();
});
afterAll(() => {
  for (const server of all) server.stop();
});

/** The cluster has the service. */
function has(server: FakeDiscovery, instanceId: string): void {
  const key = { kind: EntryKind.SERVICE, namespace: "svc", name: "web", instanceId };
  server.entries.set(instanceId, create(EntrySchema, { key, targets: [{ host: "10.0.0.1", port: 80 }] }));
}

/** What a server is told to say: the first of these clusters that was not visited. */
function names(
  server: FakeDiscovery,
  clusters: readonly { readonly clusterId: string; readonly urls: readonly string[]; readonly ttlMs?: number }[],
): void {
  server.redirect = ({ visitedClusters }) => {
    const named = clusters.find(({ clusterId }) => !visitedClusters.includes(clusterId));
    return named && { clusterId: named.clusterId, urls: [...named.urls], ttl: durationFromMs(named.ttlMs ?? 60_000) };
  };
}

async function chosen(): Promise<string | undefined> {
  return (await client.resolve("svc", "web"))?.entry.key?.instanceId;
}

async function failed(ended: Promise<unknown>): Promise<RequestError> {
  const error = await ended.catch((thrown: unknown) => thrown);
  if (!(error instanceof RequestError)) throw new Error("the call did not fail", { cause: error });
  return error;
}

/** Clusters that each question named as visited. */
const visitedAt = (server: FakeDiscovery) =>
  server.callsOf("resolve").map(({ request }) => (request as { visitedClusters: string[] }).visitedClusters);

test("nothing is followed unless the program wants it", async () => {
  names(home, [{ clusterId: "us1", urls: [urlOf(us)] }]);
  has(us, "us");
  opened({ autoSummaryRedirect: false });
  expect(await chosen()).toBeUndefined();
  expect(home.callsOf("resolve")).toEqual([]);
});

test("a redirect is followed and kept for its ttl, without the token of home; what home has comes first", async () => {
  names(home, [{ clusterId: "us1", urls: [urlOf(us)], ttlMs: 60_000 }]);
  has(us, "us");
  expect([await chosen(), await chosen()]).toEqual(["us", "us"]);
  expect(visitedAt(home)).toEqual([["eu1"]]);
  expect(new Set(us.calls.map(({ authorization }) => authorization))).toEqual(new Set([undefined]));
  expect(home.calls.every(({ authorization }) => authorization === "Bearer of-home")).toBe(true);
  aheadMs = 61_000;
  expect(await chosen()).toBe("us");
  expect(visitedAt(home)).toHaveLength(2);
  has(home, "home");
  expect(await chosen()).toBe("home");
});

test("that no cluster has the name is kept as long as any lookup", async () => {
  opened({ lookupTtlMs: 5000 });
  expect([await chosen(), await chosen()]).toEqual([undefined, undefined]);
  expect(home.callsOf("resolve")).toHaveLength(1);
  aheadMs = 5001;
  await chosen();
  expect(home.callsOf("resolve")).toHaveLength(2);
});

test("a cluster without the name is asked for the next one, and there are at most two redirects", async () => {
  const rest = [
    { clusterId: "us1", urls: [urlOf(us)] },
    { clusterId: "ap1", urls: [urlOf(ap)] },
    { clusterId: "sa1", urls: [DEAD] },
  ];
  for (const server of all) names(server, rest);
  expect(await chosen()).toBeUndefined();
  expect([visitedAt(home), visitedAt(us), visitedAt(ap)]).toEqual([[["eu1"]], [["eu1", "us1"]], []]);
  has(ap, "ap");
  expect(await chosen()).toBe("ap");
  // From then on the name leads there at once.
  const asked = us.calls.length;
  expect(await chosen()).toBe("ap");
  expect(us.calls).toHaveLength(asked);
});

test.each([["eu1"], ["us1"], ["not an id"], [""]])("a server that names %o again is not followed", async (clusterId) => {
  names(home, [{ clusterId: "us1", urls: [urlOf(us)] }]);
  us.redirect = () => ({ clusterId, urls: [urlOf(home)] });
  expect(await chosen()).toBeUndefined();
  // Home knows no other one either.
  expect([visitedAt(home), visitedAt(us)]).toEqual([[["eu1"], ["eu1", "us1"]], [["eu1", "us1"]]]);
});

test("a server that names itself is not followed", async () => {
  home.redirect = () => ({ clusterId: "eu1", urls: [urlOf(us)] });
  expect(await chosen()).toBeUndefined();
  expect(us.calls).toEqual([]);
});

test("urls are tried in turn: a dead one, and one that is another cluster's, are passed over", async () => {
  names(home, [{ clusterId: "us1", urls: [DEAD, urlOf(ap), urlOf(us)] }]);
  for (const server of [us, ap]) has(server, server === us ? "us" : "ap");
  expect(await chosen()).toBe("us");
  expect(ap.calls.map(({ method }) => method)).toEqual(["serverInfo"]);
});

test("instead of a cluster that does not answer another one is asked for, and that stays the target", async () => {
  names(home, [
    { clusterId: "us1", urls: [DEAD] },
    { clusterId: "ap1", urls: [urlOf(ap)] },
  ]);
  has(ap, "ap");
  expect([await chosen(), await chosen()]).toEqual(["ap", "ap"]);
  expect(visitedAt(home)).toEqual([["eu1"], ["eu1", "us1"]]);
});

test("a failure names the cluster and counts the urls of strangers, and is kept for a second", async () => {
  const strange = ["ftp://a:1", "grpc://me:secret@a:1", `grpc://${"a".repeat(600)}:1`];
  names(home, [{ clusterId: "us1", urls: [...strange, DEAD] }]);
  const error = await failed(chosen());
  expect(error.message).toMatch(
    /^cluster us1: .*; 3 of its URLs were rejected: scheme is not grpc or http, contains credentials, longer than 512 characters$/,
  );
  expect(error.message).not.toContain("secret");
  expect(error.facts).toMatchObject({ code: "UNAVAILABLE", metadata: { cluster: "us1", unusedUrls: "3" }, server: "127.0.0.1:1" });
  expect(await failed(chosen())).toBe(error);
  names(home, [{ clusterId: "us1", urls: strange }]);
  aheadMs = 1001;
  expect((await failed(chosen())).message).toContain("cluster us1: none of its URLs can be used; 3 of its");
});

test("a name changes its target after 30 s at the earliest, while the one before is offered", async () => {
  const [toUs, toAp] = [us, ap].map((server) => ({ clusterId: server === us ? "us1" : "ap1", urls: [urlOf(server)], ttlMs: 10 }));
  if (toUs === undefined || toAp === undefined) throw new Error("no clusters");
  for (const server of [us, ap]) has(server, server === us ? "us" : "ap");
  names(home, [toUs]);
  expect(await chosen()).toBe("us");
  names(home, [toAp, toUs]);
  aheadMs = 20_000;
  expect(await chosen()).toBe("us");
  aheadMs = 31_000;
  expect(await chosen()).toBe("ap");
  names(home, [toUs]);
  aheadMs = 32_000;
  // It is not offered any more.
  expect(await chosen()).toBe("us");
  names(home, []);
  aheadMs = 33_000;
  expect(await chosen()).toBeUndefined();
});

test("a call at a named cluster goes to an ingress that summaries tell, which are asked for once a ttl", async () => {
  const asked: unknown[] = [];
  home.summaries = (request) => {
    asked.push([request.namespace, request.serviceId, request.includeIngress, request.pageToken]);
    if (request.pageToken === "") return { ingress: { ap1: { urls: [urlOf(ap)] } }, nextPageToken: "2" };
    const item = { sourceCluster: "us1", ttl: durationFromMs(60_000), notAfter: timestampFromMs(Date.now() + 30_000) };
    return { items: [item], ingress: { us1: { urls: ["ftp://a", DEAD, urlOf(us)] } } };
  };
  const clusterAt = () =>
    client.callWithSummary("us1", async (at) => (await at.discovery.serverInfo({})).clusterId, { namespace: "svc", service: "web" });
  expect([await clusterAt(), await clusterAt()]).toEqual(["us1", "us1"]);
  expect(asked).toEqual([
    ["svc", "web", true, ""],
    ["svc", "web", true, "2"],
  ]);
  aheadMs = 30_001;
  await clusterAt();
  expect(asked).toHaveLength(4);
  expect(us.calls.every(({ authorization }) => authorization === undefined)).toBe(true);
  us.refusals.set("serverInfo", { code: status.PERMISSION_DENIED, message: "not you" });
  const error = await failed(clusterAt());
  us.refusals.clear();
  expect([error.message, error.facts.metadata["unusedUrls"]]).toEqual([
    "cluster us1: not you; 1 of its URLs were rejected: scheme is not grpc or http",
    "1",
  ]);
});

test.each<{
  readonly name: string;
  readonly rows: readonly { readonly ttlMs: number; readonly leftMs?: number }[];
  readonly keptMs: number;
}>([
  { name: "for the shortest ttl", rows: [{ ttlMs: 30_000 }, { ttlMs: 60_000 }], keptMs: 30_000 },
  { name: "for the shortest ttl, though one ends before", rows: [{ ttlMs: 30_000 }, { ttlMs: 60_000, leftMs: 5000 }], keptMs: 30_000 },
  { name: "until the last one ends", rows: [10_000, 20_000].map((leftMs) => ({ ttlMs: 60_000, leftMs })), keptMs: 20_000 },
])("an ingress that several summaries tell is kept $name", async ({ rows, keptMs }) => {
  let count = 0;
  home.summaries = () => {
    count += 1;
    const items = rows.map(({ ttlMs, leftMs }) => {
      const end = leftMs === undefined ? {} : { notAfter: timestampFromMs(Date.now() + leftMs) };
      return { sourceCluster: "us1", ttl: durationFromMs(ttlMs), ...end };
    });
    return { items, ingress: { us1: { urls: [urlOf(us)] } } };
  };
  for (const [ms, want] of [
    [0, 1],
    [keptMs - 1000, 1],
    [keptMs + 1000, 2],
  ] as const) {
    aheadMs = ms;
    await client.callWithSummary("us1", (at) => at.discovery.serverInfo({}));
    expect(count).toBe(want);
  }
});

test("an ingress is kept for a second at least, however short the ttl of its summary is", async () => {
  let count = 0;
  home.summaries = () => {
    count += 1;
    return { items: [{ sourceCluster: "us1", ttl: durationFromMs(1) }], ingress: { us1: { urls: [urlOf(us)] } } };
  };
  for (const ms of [0, 900, 2000]) {
    aheadMs = ms;
    await client.callWithSummary("us1", (at) => at.discovery.serverInfo({}));
    expect(count).toBe(ms === 2000 ? 2 : 1);
  }
});

test("a call at the own cluster runs here, and one at an unknown cluster is not found", async () => {
  expect(await client.callWithSummary("eu1", (at) => Promise.resolve(at === client))).toBe(true);
  const error = await failed(client.callWithSummary("xx1", () => Promise.resolve()));
  expect([error.facts.code, error.message]).toEqual(["NOT_FOUND", "no service summary contains an ingress address for cluster xx1"]);
});
