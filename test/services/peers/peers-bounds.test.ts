/** Bounds of PeerService: streams at a time, tokens of one filter, and what the JSON route filters by. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import {
  PeerServiceListRequestSchema,
  type PeerServiceListResponse,
  PeerServiceWatchRequestSchema,
} from "../../../gen/waymark/control/v1/peer_pb.js";
import { anonymousCaller } from "../../../src/policy/identity/caller.ts";
import type { MemberDirectory, MemberRow } from "../../../src/services/peers/members.ts";
import { peerService } from "../../../src/services/peers/peers.ts";
import type { RouteParameters } from "../../../src/services/service.ts";
import { updateOf } from "../../fakes/fabric-values.ts";
import { NO_OPERATIONS } from "../../fakes/peer-operations.ts";
import { askRoute } from "../../fakes/route.ts";

const TIME = { monoMs: 5000, wallMs: 1_760_000_005_000 };
const CONTEXT = { caller: anonymousCaller("c1", "127.0.0.1", ["mesh.read"]), time: TIME, requestId: "r" };
const MAX_STREAMS = 100;

function row(nodeId: string, region: string): MemberRow {
  return { ...updateOf(nodeId, { region }), lastSeenWallMs: 1, rttMs: 1, isSelf: false, isLinked: true };
}

function served(rows: readonly MemberRow[]) {
  const lag = { isReady: true, isCaughtUp: true, isProtected: false, detail: "", ageMs: 0, origins: [], links: [] };
  const source: MemberDirectory = {
    members: () => rows,
    member: (nodeId) => rows.find((each) => each.nodeId === nodeId),
    story: () => ({ events: [], suspicionEndsWallMs: undefined, confirmedBy: [] }),
    lag: () => lag,
    follow: () => () => {},
  };
  const parts = {
    source,
    identity: { nodeId: "n1", clusterId: "c1", region: "r1", boot: "b1" },
    clusterKeys: () => [],
    checkCaughtUp: () => {},
    maxWatches: MAX_STREAMS,
    ...NO_OPERATIONS,
    tick: () => () => {},
  };
  const { list, watch } = peerService(parts).handlers;
  if (list?.kind !== "unary" || watch?.kind !== "server_streaming") throw new Error("not the service that was");
  return {
    parts,
    list: (init: MessageInitShape<typeof PeerServiceListRequestSchema>) =>
      list.handle(create(PeerServiceListRequestSchema, init) as never, CONTEXT) as PeerServiceListResponse,
    watch: (principal = "") =>
      watch.open(create(PeerServiceWatchRequestSchema, {}) as never, { ...CONTEXT, caller: { ...CONTEXT.caller, principal } }),
  };
}

const TWO_REGIONS = ["eu", "us", "eu", "us"].map((region, i) => row(`n${i}`, region));

test("one caller has at most half of the hundred streams of members, and a stream that ended gives its place to another", () => {
  const on = served(TWO_REGIONS);
  const streams = Array.from({ length: MAX_STREAMS / 2 }, () => on.watch());
  expect(() => on.watch()).toThrow("too many member watches: this address has 50 on this node, and only 50 of 100 are free");
  streams[7]?.close();
  streams.push(on.watch());
  expect(() => on.watch()).toThrow("quota_exceeded");
  on.watch("admin").close();
  for (const stream of streams) stream.close();
  for (let i = 0; i < 3 * MAX_STREAMS; i++) on.watch().close();
});

test("a page token of one region is of no use for another", () => {
  const on = served(TWO_REGIONS);
  const first = on.list({ region: "eu", limit: 1 });
  expect(on.list({ region: "eu", limit: 1, pageToken: first.nextPageToken }).peers.map(({ nodeId }) => nodeId)).toEqual(["n2"]);
  expect(() => on.list({ region: "us", limit: 1, pageToken: first.nextPageToken })).toThrow("page_token");
});

test("the JSON route filters by region and cluster as the rpc does", () => {
  const { parts } = served([...TWO_REGIONS, { ...row("n9", "eu"), clusterId: "c2" }]);
  const idsOf = (parameters: RouteParameters) =>
    (askRoute(peerService(parts), { path: "/control/peers", parameters, time: TIME }).page as { peers: { nodeId: string }[] }).peers.map(
      ({ nodeId: id }) => id,
    );
  expect(idsOf({ region: "us" })).toEqual(["n1", "n3"]);
  expect(idsOf({ region: "eu" })).toEqual(["n0", "n2", "n9"]);
  expect(idsOf({ region: "eu", cluster_id: "c2" })).toEqual(["n9"]);
});
