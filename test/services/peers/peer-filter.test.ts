/** The filters, orders and pages of members, over the rpc and over HTTP. */
import { create, fromBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { PeerDesired, PeerStatus } from "../../../gen/waymark/catalog/v1/peer_pb.js";
import {
  PeerHealth,
  PeerServiceListRequestSchema,
  type PeerServiceListResponse,
  PeerServiceWatchRequestSchema,
  PeerServiceWatchResponseSchema,
  PeerSort,
} from "../../../gen/waymark/control/v1/peer_pb.js";
import { anonymousCaller } from "../../../src/policy/identity/caller.ts";
import { requestCheckOf } from "../../../src/services/contract.ts";
import type { MemberRow } from "../../../src/services/peers/members.ts";
import { peerService } from "../../../src/services/peers/peers.ts";
import type { RouteParameters } from "../../../src/services/service.ts";
import { NO_OPERATIONS, recordOf } from "../../fakes/peer-operations.ts";
import { askRoute } from "../../fakes/route.ts";
import { FakeMembers, memberRow } from "../../fakes/watched-members.ts";

const TIME = { monoMs: 5000, wallMs: 1_760_000_005_000 };
const CONTEXT = { caller: anonymousCaller("c1", "127.0.0.1", ["mesh.read"]), time: TIME, requestId: "r" };

type Listed = MessageInitShape<typeof PeerServiceListRequestSchema>;

const member = (nodeId: string, more: Partial<MemberRow>) => memberRow(nodeId, { isServing: true, healthScore: 0, labels: {}, ...more });
const MEMBERS: readonly MemberRow[] = [
  member("a", { zone: "z2", version: "1.10.0", roles: ["gateway", "api"], rttMs: 3, lastSeenWallMs: 30, labels: { rack: "7" } }),
  member("b", { zone: "z1", version: "1.9.0", roles: ["api"], rttMs: 20, lastSeenWallMs: 10, healthScore: 2, desired: "cordoned" }),
  member("c", { zone: "z1", version: "1.9.0", rttMs: undefined, lastSeenWallMs: undefined, status: "suspect", labels: { rack: "8" } }),
  member("d", { zone: "z3", version: "1.9.0", status: "left", rttMs: 100, lastSeenWallMs: 20 }),
  member("e", { zone: "", version: "2.0.0", status: "dead", rttMs: 1, lastSeenWallMs: 5 }),
  member("f", { zone: "zé", version: "0.1.0", isServing: false, rttMs: 2, lastSeenWallMs: 40 }),
];
/** Operators labelled and drained `d`. */
const RECORDS = new Map([["d", recordOf({ desired: "drained", labels: { rack: "9", constructor: "x" } })]]);

function served(members: readonly MemberRow[] | FakeMembers = MEMBERS) {
  const parts = {
    ...NO_OPERATIONS,
    control: { ...NO_OPERATIONS.control, record: (nodeId: string) => RECORDS.get(nodeId) },
    source: members instanceof FakeMembers ? members : new FakeMembers(...members),
    identity: { nodeId: "a", clusterId: MEMBERS[0]?.clusterId ?? "", region: "r1", boot: "b1" },
    clusterKeys: () => [],
    checkCaughtUp: () => {},
    maxWatches: 1000,
    tick: () => () => {},
  };
  const service = peerService(parts);
  const { list, watch } = service.handlers;
  if (list?.kind !== "unary" || watch?.kind !== "server_streaming") throw new Error("not the service that was");
  const open = (init: MessageInitShape<typeof PeerServiceWatchRequestSchema>) =>
    watch.open(create(PeerServiceWatchRequestSchema, init) as never, CONTEXT);
  const listed = (init: Listed) => {
    const request = create(PeerServiceListRequestSchema, init);
    requestCheckOf(PeerServiceListRequestSchema)(request);
    return list.handle(request as never, CONTEXT) as PeerServiceListResponse;
  };
  return {
    open,
    list: listed,
    ids: (init: Listed) => joined(listed(init).peers),
    watched: (init: MessageInitShape<typeof PeerServiceWatchRequestSchema>) => {
      const stream = open(init);
      const ids: string[] = [];
      for (let bytes = stream.pull(TIME); bytes !== undefined; bytes = stream.pull(TIME))
        for (const { payload } of fromBinary(PeerServiceWatchResponseSchema, bytes).deltas)
          if (payload.case === "peer") ids.push(payload.value.nodeId);
      return ids.join("");
    },
    get: (parameters: RouteParameters, path = "/control/peers") => askRoute(service, { path, parameters, time: TIME }),
  };
}

const joined = (peers: readonly { readonly nodeId: string }[]) => peers.map(({ nodeId }) => nodeId).join("");
const idsOf = (page: unknown) => joined((page as { readonly peers: readonly { readonly nodeId: string }[] }).peers);

test.each([
  { filter: {}, asked: {}, want: "abcdef" },
  { filter: { health: [PeerHealth.HEALTHY] }, asked: { health: "healthy" }, want: "a" },
  { filter: { health: [PeerHealth.DEGRADED] }, asked: { health: "degraded" }, want: "bf" },
  { filter: { health: [PeerHealth.DEGRADED, PeerHealth.UNHEALTHY] }, asked: { health: "unhealthy,degraded" }, want: "bcef" },
  { filter: { statuses: [PeerStatus.LEFT, PeerStatus.DEAD] }, asked: { statuses: "left,dead" }, want: "de" },
  { filter: { roles: ["gateway"] }, asked: { roles: "gateway" }, want: "a" },
  { filter: { roles: ["gateway", "api"] }, asked: { roles: "gateway,api" }, want: "ab" },
  { filter: { zone: "z1" }, asked: { zone: "z1" }, want: "bc" },
  { filter: { version: "1.9.0" }, asked: { version: "1.9.0" }, want: "bcd" },
  { filter: { labelSelector: "rack in (7,9)" }, asked: { label_selector: "rack in (7,9)" }, want: "ad" },
  { filter: { labelSelector: "!rack,!constructor" }, asked: { label_selector: "!rack,!constructor" }, want: "bef" },
  { filter: { desired: [PeerDesired.CORDONED, PeerDesired.DRAINED] }, asked: { desired: "cordoned,drained" }, want: "bd" },
  { filter: { desired: [PeerDesired.ACTIVE], zone: "z1" }, asked: { desired: "active", zone: "z1" }, want: "c" },
] satisfies readonly { filter: object; asked: RouteParameters; want: string }[])(
  "lists, watches and the HTTP route with the filter $asked have the members $want",
  ({ filter, asked, want }) => {
    const on = served();
    expect([on.ids(filter), on.watched(filter), idsOf(on.get(asked).page)]).toEqual([want, want, want]);
  },
);

test.each([
  { sort: PeerSort.NODE, word: "node", want: "abcdef" },
  { sort: PeerSort.RTT, word: "rtt", want: "efabdc" },
  { sort: PeerSort.ZONE, word: "zone", want: "ebcadf" },
  { sort: PeerSort.VERSION, word: "version", want: "fbcdae" },
  { sort: PeerSort.STATUS, word: "status", want: "abfcde" },
  { sort: PeerSort.LAST_SEEN, word: "last-seen", want: "ebdafc" },
])("sorted by $word, the members are $want, on one page and on many", ({ sort, word, want }) => {
  const on = served(MEMBERS.toReversed());
  expect([on.ids({ sort }), idsOf(on.get({ sort: word }).page)]).toEqual([want, want]);
  let [ids, pageToken] = ["", ""];
  do {
    const page = on.list({ sort, limit: 2, pageToken });
    ids += joined(page.peers);
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
  expect(ids).toBe(want);
});

test.each([
  { asked: { sort: "ping" }, says: 'sort: must be one of node, rtt, zone, version, status, last-seen, got "ping"' },
  { asked: { sort: "rtt,zone" }, says: "sort: must be one of node, rtt, zone, version, status, last-seen" },
  { asked: { health: "ill" }, says: 'health: must be one of healthy, degraded, unhealthy, got "ill"' },
  { asked: { desired: "gone" }, says: 'desired: must be one of active, cordoned, drained, got "gone"' },
  { asked: { label_selector: "rack=" + "7".repeat(1020) }, says: "label_selector: must have at most 1024 characters" },
  { asked: { label_selector: "rack in 7" }, says: "label_selector: must be requirements such as" },
  { asked: { roles: "a,," }, says: "roles[1]" },
])("$asked is refused with its field", ({ asked, says }) => {
  expect(() => served().get(asked)).toThrow(says);
});

test.each([{ sort: PeerSort.RTT }, { zone: "z1" }, { health: [PeerHealth.HEALTHY] }, { labelSelector: "rack" }, { roles: ["api"] }])(
  "a page token is refused for the list $0",
  (other) => {
    const on = served();
    const { nextPageToken: pageToken } = on.list({ limit: 1 });
    expect(() => on.list({ ...other, pageToken })).toThrow("page_token: was issued for a different filter");
  },
);

test("a list has the values of each probe as they are now, and its mark is the same without them", () => {
  const rows = [...MEMBERS];
  const before = served(rows).get({});
  rows[0] = { ...member("a", MEMBERS[0] ?? {}), rttMs: 9, lastSeenWallMs: 99_000 };
  const on = served(rows);
  const after = on.get({});
  expect(after.steady).toBe(before.steady);
  expect(after.page).toHaveProperty("peers.0", expect.objectContaining({ nodeId: "a", rtt: "0.009s", lastSeen: "1970-01-01T00:01:39Z" }));
  expect(on.list({}).peers[0]).toMatchObject({ rtt: { nanos: 9_000_000 }, lastSeen: { seconds: 99n } });
  expect(on.get({ zone: "z1" }).steady).not.toBe(on.get({}).steady);
});

test("members are read once for each change and filter, and streams with one filter send the same bytes", () => {
  let reads = 0;
  const counted = (row: MemberRow): MemberRow =>
    Object.defineProperty({ ...row }, "transports", {
      enumerable: false,
      get: () => {
        reads += 1;
        return ["h2"];
      },
    });
  const source = new FakeMembers(...Array.from({ length: 20 }, (_, i) => counted(member(`n${i}`, { zone: `z${i % 2}` }))));
  const on = served(source);
  const streams = [{ zone: "z0" }, {}].flatMap((filter) => Array.from({ length: 200 }, () => on.open(filter)));
  for (const stream of streams) {
    stream.attach(
      () => {},
      () => {},
    );
    while (stream.pull(TIME) !== undefined);
  }
  expect(reads).toBe(30);
  for (let change = 0; change < 50; change++) {
    source.put(counted(member(`n${change % 20}`, { zone: `z${change % 2}`, incarnation: change + 10 })));
    const sent = streams.map((stream) => stream.pull(TIME));
    const half = (from: number) => new Set(sent.slice(from, from + 200));
    expect([reads, half(0).size, half(200).size]).toEqual([30 + change + 1 + Math.floor(change / 2) + 1, 1, 1]);
    expect(sent[0] === undefined).toBe(change % 2 === 1);
    for (const bytes of [sent[0], sent[200]])
      if (bytes !== undefined) expect(fromBinary(PeerServiceWatchResponseSchema, bytes).deltas).toHaveLength(1);
  }
});

test("bytes are shared for one second, because they have the time at which they were sent", () => {
  const source = new FakeMembers(member("a", {}));
  const on = served(source);
  const pulled = [0, 400, 1000].map((laterMs) => {
    const stream = on.open({});
    const time = { monoMs: TIME.monoMs + laterMs, wallMs: TIME.wallMs + laterMs };
    return [stream.pull(time), stream.pull(time)][1];
  });
  expect(pulled[1]).toBe(pulled[0]);
  expect(fromBinary(PeerServiceWatchResponseSchema, pulled[2] ?? new Uint8Array()).deltas[0]?.sentAt?.seconds).toBe(1_760_000_006n);
});

test("the route of one member has its history, and an ETag that probes leave unchanged", () => {
  const rows = [...MEMBERS];
  const get = () => served(rows).get({ node_id: "a" }, "/control/peers/{node_id}");
  const before = get();
  expect(before.page).toMatchObject({ peer: { nodeId: "a", status: "PEER_STATUS_ALIVE" }, events: [], confirmedBy: [] });
  rows[0] = { ...member("a", MEMBERS[0] ?? {}), rttMs: 9, lastSeenWallMs: 99_000 };
  expect(get().steady).toEqual(before.steady);
  expect(() => served().get({ node_id: "z" }, "/control/peers/{node_id}")).toThrow('unknown member "z"');
});
