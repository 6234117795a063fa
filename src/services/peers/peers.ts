/** Implements waymark.control.v1.PeerService: the members of the mesh as this node knows them, and the state of replication. */
import { create, toJson } from "@bufbuild/protobuf";
import { durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import {
  LinkLagSchema,
  LinkState,
  OriginLagSchema,
  OriginState,
  PeerEventKind,
  PeerEventPath,
  PeerEventSchema,
  PeerService,
  type PeerServiceGetRequest,
  PeerServiceGetResponseSchema,
  type PeerServiceKeysRequest,
  type PeerServiceLagRequest,
  PeerServiceLagResponseSchema,
  type PeerServiceListRequest,
  PeerServiceListRequestSchema,
  PeerServiceListResponseSchema,
  type PeerServiceStatusRequest,
  type PeerServiceWatchRequest,
  PeerServiceWatchRequestSchema,
  PeerSort,
} from "../../../gen/waymark/control/v1/peer_pb.js";
import { decodePageToken } from "../../catalog/query/query.ts";
import { parseCursor, shortHolder } from "../../catalog/watch/cursor.ts";
import { enumName } from "../../lib/enum-words.ts";
import { WaymarkError } from "../../lib/errors.ts";
import type { Time } from "../../lib/machine.ts";
import { type ClusterKeyRow, keysAnswer } from "../cluster-keys.ts";
import { bookmarkMs, timestampOf } from "../contract.ts";
import { filterHash, listRoute, type PageRequest, pageAnswer, paged, requestReader } from "../list-page.ts";
import { type SummaryLag, wireSummaryLag } from "../regions/lag.ts";
import type { CallContext, HandlersOf, HttpRoute, ServiceDefinition } from "../service.ts";
import { StreamLimit } from "../stream-limit.ts";
import type { MemberDirectory, MemberRow, OriginLagRow, ServingNode } from "./members.ts";
import { type PeerOperationParts, peerOperations } from "./operations.ts";
import { type PeerFilter, peerFilter, placeIn } from "./peer-filter.ts";
import { peerMessage } from "./peer-message.ts";
import { MemberChanges, PeerWatch } from "./peer-watch.ts";
import { type NodeStatus, statusMessage } from "./status.ts";

export interface PeerParts extends PeerOperationParts {
  readonly source: MemberDirectory;
  readonly identity: ServingNode;
  /** The keys that this node trusts or may trust, grouped by cluster. Empty on a node without summaries. */
  readonly clusterKeys: (time: Time) => readonly ClusterKeyRow[];
  /** Absent on a node without summaries. */
  readonly summaries?: ((time: Time) => SummaryLag) | undefined;
  /** The state of this node at the last evaluation of its findings. */
  readonly status: () => NodeStatus;
  /** Largest number of open streams. Each stream keeps a set of the members that its reader has. */
  readonly maxWatches: number;
  /** Calls `wake` several times a second until the returned function is called. */
  readonly tick: (wake: () => void) => () => void;
}

export function peerService(parts: PeerParts): ServiceDefinition {
  const { source, control, identity, clusterKeys } = parts;
  // The changes are recorded for as long as the process runs, because a reader may return with a cursor.
  const changes = new MemberChanges();
  const changed = (nodeId: string) => changes.changed(nodeId);
  source.follow(changed);
  control.followPeers(changed);
  const streams = new StreamLimit("member watches", parts.maxWatches);
  const { method } = PeerService;
  const answers = {
    get: (request: PeerServiceGetRequest, { time }: CallContext) => get(parts, request, time),
    lag: (request: PeerServiceLagRequest, { time }: CallContext) => lag(parts, request, time),
    keys: (request: PeerServiceKeysRequest, { time }: CallContext) =>
      keysAnswer({ rows: clusterKeys(time), servedBy: identity.nodeId, time }, request),
    status: (_request: PeerServiceStatusRequest, { time }: CallContext) => nodeStatus(parts, time),
  };
  return {
    desc: PeerService,
    handlers: {
      list: { kind: "unary", handle: (request: PeerServiceListRequest, { time }) => list(parts, request, time) },
      watch: {
        kind: "server_streaming",
        open: (request: PeerServiceWatchRequest, { caller }) =>
          new PeerWatch({ ...watchParts(parts, request), changes, onClose: streams.open(caller) }),
      },
      get: { kind: "unary", handle: answers.get },
      lag: { kind: "unary", handle: answers.lag },
      keys: { kind: "unary", handle: answers.keys },
      status: { kind: "unary", handle: answers.status },
      ...peerOperations(parts),
    } satisfies HandlersOf<typeof PeerService>,
    routes: [
      memberListRoute(parts, changes),
      { ...listRoute(method.get, answers.get), parameters: [] },
      {
        path: "/control/events/peers",
        parameters: WATCH_FILTER,
        rpc: "watch",
        events: { id: "cursor", resume: "cursor", names: ["snapshot", "bookmark", "deltas"] },
      },
      listRoute(method.lag, answers.lag),
      listRoute(method.status, answers.status),
      listRoute(method.keys, answers.keys),
      ...OPERATION_ROUTES,
    ],
  };
}

const OPERATION_ROUTES: NonNullable<ServiceDefinition["routes"]> = [
  { method: "POST", path: "/control/peers/{node_id}:cordon", parameters: [], rpc: "cordon" },
  { method: "POST", path: "/control/peers/{node_id}:uncordon", parameters: [], rpc: "uncordon" },
  { method: "POST", path: "/control/peers/{node_id}:drain", parameters: [], rpc: "drain" },
  { method: "POST", path: "/control/peers/{node_id}:forget", parameters: [], rpc: "forget" },
  { method: "PATCH", path: "/control/peers/{node_id}", parameters: [], rpc: "setLabels" },
];

const requestIn = requestReader(PeerServiceListRequestSchema);

/** Every change of a member has a revision, so a reader who has the answer gets none before the next change. The other answers change with time. */
function memberListRoute(parts: PeerParts, changes: MemberChanges): HttpRoute {
  return {
    ...listRoute(PeerService.method.list, (request, { time }) => list(parts, request, time)),
    answer: (asked, { time }) => {
      const request = requestIn(asked);
      // A request that is invalid gets no mark.
      decodePageToken(request.pageToken, listHash(request, peerFilter(request, parts)));
      const page = () => toJson(PeerServiceListResponseSchema, list(parts, request, time), { alwaysEmitImplicit: true });
      if (request.sort === PeerSort.RTT || request.sort === PeerSort.LAST_SEEN) return pageAnswer(page());
      return { kind: "marked", mark: JSON.stringify([parts.identity.boot, changes.revision, asked]), page };
    },
  };
}

function listHash({ sort }: PeerServiceListRequest, filter: PeerFilter): string {
  return filterHash(filter.hash, sort);
}

function list(parts: PeerParts, request: PeerServiceListRequest, time: Time) {
  const { limit, pageToken } = request;
  const filter = peerFilter(request, parts);
  const rows = parts.source.members(time).filter((row) => filter.matches(row));
  const { page, nextPageToken } = paged(rows, placeIn(request.sort), { limit, pageToken, hash: listHash(request, filter) });
  return create(PeerServiceListResponseSchema, {
    peers: page.map((row) => peerMessage(row, parts)),
    nextPageToken,
    servedBy: parts.identity.nodeId,
    generatedAt: timestampFromMs(time.wallMs),
  });
}

function get(parts: PeerParts, { nodeId }: PeerServiceGetRequest, time: Time) {
  const { source, checkCaughtUp } = parts;
  const row = source.member(nodeId, time);
  if (row === undefined) {
    checkCaughtUp();
    throw new WaymarkError(
      "not_found",
      `unknown member ${JSON.stringify(nodeId)}: PeerService.List (waymark mesh peers) lists the members that this node knows`,
    );
  }
  const { events, suspicionEndsWallMs, confirmedBy } = source.story(nodeId, time);
  const { security } = row;
  return create(PeerServiceGetResponseSchema, {
    peer: peerMessage(row, parts),
    events: events.map(({ atWallMs, status, accuser, path, incarnation, via }) =>
      create(PeerEventSchema, {
        at: timestampFromMs(atWallMs),
        kind: PeerEventKind[enumName(status)],
        by: accuser,
        path: PeerEventPath[enumName(path)],
        incarnation: BigInt(incarnation),
        detail: via.length === 0 ? "" : `via ${via.join(", ")}`,
      }),
    ),
    ...(suspicionEndsWallMs !== undefined && { suspicionEndsAt: timestampFromMs(Math.round(suspicionEndsWallMs)) }),
    confirmedBy: [...confirmedBy],
    security: security && { ...security, acceptedRoots: [...security.roots], expiresAt: timestampOf(security.expiresS * 1000) },
  });
}

function nodeStatus(parts: PeerParts, time: Time) {
  const row = parts.source.member(parts.identity.nodeId, time);
  return statusMessage(parts.status(), row && peerMessage(row, parts));
}

const LAG = filterHash("lag");

/** Returns the sort key of an origin. The list is sorted by node id and generation. */
function originPlace({ nodeId, generation }: Pick<OriginLagRow, "nodeId" | "generation">): string {
  return `${nodeId}\0${String(generation).padStart(16, "0")}`;
}

function lag({ source, identity, summaries }: PeerParts, { limit, pageToken }: PageRequest, time: Time) {
  const report = source.lag(time);
  const { page, nextPageToken } = paged(report.origins, originPlace, { limit, pageToken, hash: LAG });
  return create(PeerServiceLagResponseSchema, {
    servedBy: identity.nodeId,
    ready: report.isReady,
    detail: report.detail,
    age: durationFromMs(Math.round(report.ageMs)),
    originsProtected: report.isProtected,
    caughtUp: report.isCaughtUp,
    nextPageToken,
    ...(summaries !== undefined && pageToken === "" && wireSummaryLag(summaries(time), time)),
    origins: page.map((row) =>
      create(OriginLagSchema, {
        nodeId: row.nodeId,
        generation: BigInt(row.generation),
        state: row.life === "unknown" ? OriginState.ABSENT : OriginState[enumName(row.life)],
        through: BigInt(row.through),
        known: BigInt(row.known),
        behind: BigInt(Math.max(0, row.known - row.through)),
        floor: BigInt(row.floor),
        refused: BigInt(row.refused),
        whyPartial: row.whyPartial,
      }),
    ),
    links: (pageToken === "" ? report.links : []).map((row) =>
      create(LinkLagSchema, {
        nodeId: row.nodeId,
        address: row.address,
        state: LinkState[enumName(row.state)],
        incoming: row.isIncoming,
        caughtUp: row.isCaughtUp,
        framesSent: BigInt(row.framesSent),
        framesReceived: BigInt(row.framesReceived),
        behind: BigInt(row.behind),
        ...(row.behindMs > 0 && { behindFor: durationFromMs(Math.round(row.behindMs)) }),
      }),
    ),
  });
}

/** The parameters of the route of events. The id of an event contains the cursor. */
const WATCH_FILTER = PeerServiceWatchRequestSchema.fields.flatMap(({ name }) =>
  name === "cursor" || name === "bookmark_interval" ? [] : [name],
);

function watchParts(parts: PeerParts, request: PeerServiceWatchRequest) {
  const { source, identity, tick } = parts;
  const filter = peerFilter(request, parts);
  const holder = shortHolder(identity.boot, filter.hash);
  const cursor = request.cursor === "" ? undefined : parseCursor(request.cursor);
  const members = {
    ids: (time: Time) => source.members(time).flatMap((row) => (filter.matches(row) ? [row.nodeId] : [])),
    find: (nodeId: string, time: Time) => {
      const row = source.member(nodeId, time);
      return row !== undefined && filter.matches(row) ? row : undefined;
    },
    message: (row: MemberRow) => peerMessage(row, parts),
  };
  const from = cursor?.kind === "short" && cursor.holder === holder ? cursor.revision : undefined;
  return { members, holder, from, servedBy: identity.nodeId, bookmarkIntervalMs: bookmarkMs(request.bookmarkInterval), tick };
}
