/** PeerService over a mesh that a test writes down. */

import { create, type DescMessage, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { Scope } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { PeerStatus } from "../../../gen/waymark/catalog/v1/peer_pb.js";
import {
  PeerEventKind,
  PeerEventPath,
  PeerServiceGetRequestSchema,
  type PeerServiceGetResponse,
  PeerServiceGetResponseSchema,
  PeerServiceLagRequestSchema,
  type PeerServiceLagResponse,
  PeerServiceListRequestSchema,
  type PeerServiceListResponse,
} from "../../../gen/waymark/control/v1/peer_pb.js";
import { WaymarkError } from "../../../src/lib/errors.ts";
import { anonymousCaller } from "../../../src/policy/identity/caller.ts";
import { requestCheckOf } from "../../../src/services/contract.ts";
import type { LagReport, MemberDirectory, MemberExplanation, MemberRow, OriginLagRow } from "../../../src/services/peers/members.ts";
import { peerService } from "../../../src/services/peers/peers.ts";
import type { SummaryLag } from "../../../src/services/regions/lag.ts";
import { NO_OPERATIONS } from "../../fakes/peer-operations.ts";
import { askRoute } from "../../fakes/route.ts";

const TIME = { monoMs: 5000, wallMs: 1_760_000_005_000 };
const CONTEXT = { caller: anonymousCaller("c1", "127.0.0.1", ["mesh.read"]), time: TIME, requestId: "r" };

function row(nodeId: string, more: Partial<MemberRow> = {}): MemberRow {
  const place = { clusterId: "c1", region: "r1", zone: "z1", address: `${nodeId}:17421` };
  const facts = { version: "1", protocolVersions: [2], transports: ["h2"], roles: [], labels: {}, healthScore: 0 };
  const state = { status: "alive", incarnation: 1, accuser: "", generation: 7 } as const;
  return { nodeId, ...place, ...facts, ...state, lastSeenWallMs: 1, rttMs: 0.2, isSelf: false, isLinked: true, ...more };
}

class FakeMesh implements MemberDirectory {
  readonly rows = new Map<string, MemberRow>();
  #onChange = (_nodeId: string) => {};

  constructor(...rows: MemberRow[]) {
    for (const each of rows) this.rows.set(each.nodeId, each);
  }

  put(changed: MemberRow): void {
    this.rows.set(changed.nodeId, changed);
    this.#onChange(changed.nodeId);
  }

  members = () => [...this.rows.values()];
  member = (nodeId: string) => this.rows.get(nodeId);
  story = (): MemberExplanation => ({
    events: [{ atWallMs: 1, status: "suspect", accuser: "n3", path: "indirect", incarnation: 4, via: ["n4"] }],
    // As it comes of a monotonic clock.
    suspicionEndsWallMs: 1_760_000_009_000.1125,
    confirmedBy: ["n5"],
  });
  lag = (): LagReport => ({
    isReady: true,
    isCaughtUp: true,
    isProtected: false,
    detail: "in sync with all peers",
    ageMs: 1500,
    origins: [{ nodeId: "n1", generation: 7, life: "live", through: 4, known: 9, floor: 0, refused: 0, whyPartial: "" }],
    links: [
      {
        nodeId: "n2",
        address: "n2:17421",
        state: "up",
        isIncoming: true,
        isCaughtUp: false,
        framesSent: 1,
        framesReceived: 2,
        behind: 5,
        behindMs: 250,
      },
    ],
  });
  follow = (onChange: (nodeId: string) => void) => {
    this.#onChange = onChange;
    return () => {};
  };
}

function served(mesh: FakeMesh) {
  const parts = {
    source: mesh,
    identity: { nodeId: "n1", clusterId: "c1", region: "r1", boot: "b1" },
    clusterKeys: () => [],
    checkCaughtUp: () => {},
    maxWatches: 100,
    ...NO_OPERATIONS,
    tick: () => () => {},
  };
  const { handlers } = peerService(parts);
  const unary = <D extends DescMessage>(name: string, schema: D, init: MessageInitShape<D>): unknown => {
    const handler = handlers[name];
    if (handler?.kind !== "unary") throw new Error(`${name} is not unary`);
    const request = create(schema, init);
    requestCheckOf(schema)(request);
    return handler.handle(request as never, CONTEXT);
  };
  return {
    parts,
    list: (init: MessageInitShape<typeof PeerServiceListRequestSchema>) =>
      unary("list", PeerServiceListRequestSchema, init) as PeerServiceListResponse,
    get: (nodeId: string) => unary("get", PeerServiceGetRequestSchema, { nodeId }) as PeerServiceGetResponse,
    lag: (init: MessageInitShape<typeof PeerServiceLagRequestSchema>) =>
      unary("lag", PeerServiceLagRequestSchema, init) as PeerServiceLagResponse,
  };
}

const THREE = () =>
  new FakeMesh(
    row("n2", { status: "suspect", accuser: "n3" }),
    row("n1", { isSelf: true }),
    row("n3", { clusterId: "c2", status: "dead" }),
  );

test.each([
  { filter: {}, want: ["n1", "n2", "n3"] },
  { filter: { statuses: [PeerStatus.SUSPECT, PeerStatus.DEAD] }, want: ["n2", "n3"] },
  { filter: { clusterId: "c1" }, want: ["n1", "n2"] },
  { filter: { region: "r2" }, want: [] },
])("a list of $filter has $want, in order of node id", ({ filter, want }) => {
  expect(
    served(THREE())
      .list(filter)
      .peers.map(({ nodeId }) => nodeId),
  ).toEqual(want);
});

test("pages join to the list, though members come and go; a token is of its filter", () => {
  const mesh = THREE();
  const on = served(mesh);
  const first = on.list({ limit: 1 });
  mesh.rows.delete("n1");
  mesh.put(row("n0"));
  const second = on.list({ limit: 1, pageToken: first.nextPageToken });
  const third = on.list({ limit: 1, pageToken: second.nextPageToken });
  expect([first, second, third].flatMap(({ peers }) => peers.map(({ nodeId }) => nodeId))).toEqual(["n1", "n2", "n3"]);
  expect(third.nextPageToken).toBe("");
  expect(() => on.list({ limit: 1, clusterId: "c2", pageToken: first.nextPageToken })).toThrow("page_token");
});

test.each([
  { asked: { statuses: "alive,undead" }, says: 'statuses: must be one of alive, suspect, left, dead, got "undead"' },
  { asked: { limit: "-1" }, says: 'limit: must be a whole number of at most 6 digits, got "-1"' },
])("the JSON route refuses $asked by its own names, with what would be right", ({ asked, says }) => {
  expect(() => askRoute(peerService(served(THREE()).parts), { path: "/control/peers", parameters: asked, time: TIME })).toThrow(says);
  expect(() => served(THREE()).list({ statuses: [PeerStatus.DEAD, PeerStatus.UNSPECIFIED] })).toThrow("statuses[1]: must be one of ALIVE");
  expect(() => served(THREE()).list({ statuses: Array<PeerStatus>(5).fill(PeerStatus.DEAD) })).toThrow(
    "statuses: must have at most 4 items, got 5",
  );
});

test("a member's scope is how it stands to the serving node", () => {
  const mesh = new FakeMesh(
    row("n1", { isSelf: true }),
    row("n2"),
    row("n3", { clusterId: "c2" }),
    row("n4", { clusterId: "c2", region: "r2" }),
  );
  const { peers } = served(mesh).list({});
  expect(peers.map(({ scope }) => scope)).toEqual([Scope.LOCAL, Scope.ZONE, Scope.REGION, Scope.GLOBAL]);
});

test("lag is paged by origin, in the order of node id and generation, and tells of links once", () => {
  const origin = (nodeId: string, generation: number): OriginLagRow => {
    return { nodeId, generation, life: "live", through: 1, known: 1, floor: 0, refused: 0, whyPartial: "" };
  };
  const mesh = THREE();
  const report = mesh.lag();
  mesh.lag = () => ({ ...report, origins: [origin("n2", 3), origin("n1", 10), origin("n1-a", 1), origin("n1", 9)] });
  const on = served(mesh);
  const pages = [on.lag({ limit: 3 })];
  pages.push(on.lag({ limit: 3, pageToken: pages[0]?.nextPageToken ?? "" }));
  expect(pages.map(({ origins }) => origins.map(({ nodeId, generation }) => `${nodeId} ${generation}`))).toEqual([
    ["n1 9", "n1 10", "n1-a 1"],
    ["n2 3"],
  ]);
  expect(pages.map(({ links, nextPageToken }) => [links.length, nextPageToken === ""])).toEqual([
    [1, false],
    [0, true],
  ]);
  expect(() => on.lag({ pageToken: on.list({ limit: 1 }).nextPageToken })).toThrow("a different filter");
  expect(() => on.lag({ limit: -1 })).toThrow("limit");
});

const SUMMARIES: SummaryLag = {
  exports: {
    isExporting: false,
    exporterCount: 0,
    detail: "not exporting summaries; not exported by any node of the cluster",
    lagMs: 12_000,
    failedCount: 3,
  },
  borders: [
    {
      clusterId: "us1",
      region: "us",
      links: 1,
      regionLinks: 2,
      lagMs: 12_000,
      unsent: 7,
      exportedEqualMonoMs: 1000.25,
      importedEqualMonoMs: undefined,
    },
    {
      clusterId: "ap1",
      region: "ap",
      links: 0,
      regionLinks: 0,
      lagMs: 0,
      unsent: 0,
      exportedEqualMonoMs: undefined,
      importedEqualMonoMs: undefined,
    },
  ],
  sources: [
    { clusterId: "us1", region: "us", state: "stale", ageMs: 130_000.5, summaries: 20_000, isFull: true, refused: new Map([["limit", 4]]) },
    { clusterId: "x", region: "", state: "dropped", ageMs: undefined, summaries: 0, isFull: false, refused: new Map() },
  ],
};

test("lag tells on its first page what other regions have not taken, and whom the node hears", () => {
  const mesh = THREE();
  const { parts } = served(mesh);
  const asked = { path: "/discovery/lag", time: TIME };
  const { page, steady } = askRoute(peerService({ ...parts, summaries: () => SUMMARIES }), asked);
  expect(page).toMatchObject({
    exports: {
      exporting: false,
      exporters: 0,
      detail: "not exporting summaries; not exported by any node of the cluster",
      lag: "12s",
      failed: "3",
    },
    borders: [
      { clusterId: "us1", region: "us", links: 1, regionLinks: 2, dueFor: "12s", unsent: "7", exportedEqualAt: "2025-10-09T08:53:21Z" },
      { clusterId: "ap1", links: 0, unsent: "0" },
    ],
    sources: [
      { clusterId: "us1", state: "SOURCE_STATE_STALE", beaconAge: "130.001s", summaries: "20000", full: true, refused: { limit: "4" } },
      { clusterId: "x", state: "SOURCE_STATE_DROPPED", full: false, refused: {} },
    ],
  });
  expect(page).not.toHaveProperty("borders.1.dueFor");
  expect(page).not.toHaveProperty("borders.1.exportedEqualAt");
  expect(page).not.toHaveProperty("sources.1.beaconAge");
  // What time alone changes is no news.
  expect(JSON.stringify(steady)).not.toMatch(/dueFor|EqualAt|beaconAge|"lag"/);
  expect(askRoute(peerService(parts), asked).page).not.toHaveProperty("exports");
  const origin = { generation: 1, life: "live", through: 1, known: 1, floor: 0, refused: 0, whyPartial: "" } as const;
  const report = mesh.lag();
  mesh.lag = () => ({
    ...report,
    origins: [
      { nodeId: "n1", ...origin },
      { nodeId: "n2", ...origin },
    ],
  });
  const first = askRoute(peerService({ ...parts, summaries: () => SUMMARIES }), { ...asked, parameters: { limit: "1" } });
  const { nextPageToken } = first.page as { readonly nextPageToken: string };
  const more = { ...asked, parameters: { limit: "1", page_token: nextPageToken } };
  const second = askRoute(peerService({ ...parts, summaries: () => SUMMARIES }), more).page;
  expect(second).toMatchObject({ origins: [{ nodeId: "n2" }], borders: [], sources: [] });
  expect(second).not.toHaveProperty("exports");
});

test("a draining node has the URLs that it reports, because it is not in ClusterMap", () => {
  const urls = ["grpc://n2:1"];
  const drain = { step: "watches", sinceMs: 1, isStuck: false, left: [], urls };
  const { peers } = served(new FakeMesh(row("n2", { drain }), row("n3"))).list({});
  expect(peers.map((peer) => peer.urls)).toEqual([urls, []]);
});

test("an accuser is shown only of a suspect", () => {
  const [one, two] = served(new FakeMesh(row("n1", { accuser: "n9" }), row("n2", { status: "suspect", accuser: "n9" }))).list({}).peers;
  expect([one?.accuser, two?.accuser]).toEqual(["", "n9"]);
});

test("a member is explained; one that is not known is not found", () => {
  const on = served(THREE());
  expect(on.get("n2")).toMatchObject({
    peer: { nodeId: "n2", status: PeerStatus.SUSPECT },
    events: [{ kind: PeerEventKind.SUSPECT, by: "n3", path: PeerEventPath.INDIRECT, incarnation: 4n, detail: "via n4" }],
    confirmedBy: ["n5"],
  });
  expect(fromBinary(PeerServiceGetResponseSchema, toBinary(PeerServiceGetResponseSchema, on.get("n2"))).suspicionEndsAt).toMatchObject({
    seconds: 1_760_000_009n,
    nanos: 0,
  });
  expect(() => on.get("n9")).toThrow(WaymarkError);
  expect(() => on.get("")).toThrow("node_id");
});

test("the JSON routes say what the rpcs say", () => {
  const { parts } = served(THREE());
  const lag = askRoute(peerService(parts), { path: "/discovery/lag", time: TIME });
  expect(lag.page).toMatchObject({
    servedBy: "n1",
    ready: true,
    age: "1.500s",
    origins: [{ nodeId: "n1", state: "ORIGIN_STATE_LIVE", behind: "5" }],
    links: [{ nodeId: "n2", state: "LINK_STATE_UP", behind: "5", behindFor: "0.250s" }],
  });
  const { steady } = lag;
  expect(JSON.stringify(steady)).not.toMatch(/"age"|frames|behindFor/);
  expect(steady).toMatchObject({ servedBy: "n1", origins: [{ through: "4" }], links: [{ behind: "5" }] });
  const mesh = THREE();
  const service = peerService(served(mesh).parts);
  const steadyOf = (parameters = {}, time = TIME) => askRoute(service, { path: "/control/peers", parameters, time }).steady;
  const before = steadyOf();
  expect(steadyOf({}, { monoMs: 1, wallMs: 2 })).toEqual(before);
  expect(steadyOf({ limit: "2" })).not.toEqual(before);
  mesh.put(row("n2", { status: "dead" }));
  expect(steadyOf()).not.toEqual(before);
  // The order of these changes with each probe.
  for (const sort of ["rtt", "last-seen"]) expect(steadyOf({ sort })).toMatchObject({ peers: [{}, {}, {}] });
  const suspects = { path: "/control/peers", parameters: { statuses: "suspect", limit: "5" }, time: TIME };
  expect(askRoute(peerService(parts), suspects).page).toMatchObject({
    peers: [{ nodeId: "n2", status: "PEER_STATUS_SUSPECT" }],
    nextPageToken: "",
  });
});
