/** Implements waymark.control.v1.PeerService: the members of the mesh as this node knows them, and the state of replication. */
import { create, type JsonObject, toJson } from "@bufbuild/protobuf";
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
  type PeerServiceCordonRequest,
  type PeerServiceDrainRequest,
  type PeerServiceForgetRequest,
  type PeerServiceGetRequest,
  type PeerServiceGetResponse,
  PeerServiceGetResponseSchema,
  type PeerServiceKeysRequest,
  type PeerServiceLagRequest,
  PeerServiceLagResponseSchema,
  type PeerServiceListRequest,
  PeerServiceListRequestSchema,
  type PeerServiceSetLabelsRequest,
  type PeerServiceStatusRequest,
  PeerServiceStatusResponseSchema,
  type PeerServiceUncordonRequest,
  type PeerServiceWatchRequest,
  PeerServiceWatchRequestSchema,
} from "../../../gen/waymark/control/v1/peer_pb.js";
import { parseCursor, shortHolder } from "../../catalog/watch/cursor.ts";
import { enumName } from "../../lib/enum-words.ts";
import { WaymarkError } from "../../lib/errors.ts";
import type { Time } from "../../lib/machine.ts";
import type { Caller } from "../../policy/identity/caller.ts";
import { type ClusterKeyRow, keysAnswer } from "../cluster-keys.ts";
import { bookmarkMs } from "../contract.ts";
import { filterHash, listRoute, PAGE, type PageRequest, pageAnswer, paged, pageOf } from "../list-page.ts";
import { type SummaryLag, steadySummaryLag, wireSummaryLag } from "../regions/lag.ts";
import type { CallContext, HandlersOf, RouteParameters, ServiceDefinition, StreamSource } from "../service.ts";
import { StreamLimit } from "../stream-limit.ts";
import type { MemberDirectory, OriginLagRow, ServingNode } from "./members.ts";
import { type PeerOperationParts, PeerOperations } from "./operations.ts";
import { peerFilter } from "./peer-filter.ts";
import { PeerLists } from "./peer-lists.ts";
import { PeerMessages } from "./peer-messages.ts";
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
  const messages = new PeerMessages(parts);
  const watches = { messages, changes: new MemberChanges(), limit: new StreamLimit("member watches", parts.maxWatches) };
  // The changes are recorded for as long as the process runs, because a reader may return with a cursor.
  const changed = (nodeId: string) => {
    messages.changed(nodeId);
    watches.changes.changed(nodeId);
  };
  parts.source.follow(changed);
  parts.control.followPeers(changed);
  const operations = new PeerOperations(parts, (row) => messages.message(row));
  const lists = new PeerLists(parts, messages);
  const getPeer = (request: PeerServiceGetRequest, { time }: CallContext) => get(parts, messages, request, time);
  return {
    desc: PeerService,
    handlers: {
      list: { kind: "unary", handle: (request: PeerServiceListRequest, { time }) => lists.bytes(request, time) },
      watch: {
        kind: "server_streaming",
        open: (request: PeerServiceWatchRequest, { caller }) => watch(parts, request, { ...watches, caller }),
      },
      get: { kind: "unary", handle: getPeer },
      lag: { kind: "unary", handle: (request: PeerServiceLagRequest, context) => lag(parts, request, context.time) },
      keys: { kind: "unary", handle: (request: PeerServiceKeysRequest, context) => keysAnswer(keysOf(parts, context.time), request) },
      status: { kind: "unary", handle: (_request: PeerServiceStatusRequest, { time }) => nodeStatus(parts, messages, time) },
      cordon: { kind: "unary", handle: (request: PeerServiceCordonRequest, context) => operations.cordon(request, context) },
      uncordon: { kind: "unary", handle: (request: PeerServiceUncordonRequest, context) => operations.uncordon(request, context) },
      drain: { kind: "unary", handle: (request: PeerServiceDrainRequest, context) => operations.drain(request, context) },
      setLabels: { kind: "unary", handle: (request: PeerServiceSetLabelsRequest, context) => operations.setLabels(request, context) },
      forget: { kind: "unary", handle: (request: PeerServiceForgetRequest, context) => operations.forget(request, context) },
    } satisfies HandlersOf<typeof PeerService>,
    routes: [...peerRoutes(parts, { messages, lists, getPeer }), ...OPERATION_ROUTES],
  };
}

function keysOf({ clusterKeys, identity }: PeerParts, time: Time) {
  return { rows: clusterKeys(time), servedBy: identity.nodeId, time };
}

interface PeerReads {
  readonly messages: PeerMessages;
  readonly lists: PeerLists;
  readonly getPeer: (request: PeerServiceGetRequest, context: CallContext) => PeerServiceGetResponse;
}

/** The routes of reads. */
function peerRoutes(parts: PeerParts, { messages, lists, getPeer }: PeerReads): NonNullable<ServiceDefinition["routes"]> {
  return [
    {
      path: "/control/peers",
      parameters: PeerServiceListRequestSchema.fields.map(({ name }) => name),
      rpc: "list",
      answer: (asked, { time }) => lists.answer(asked, time),
    },
    { ...listRoute(PeerService.method.get, getPeer), parameters: [] },
    {
      path: "/control/events/peers",
      parameters: WATCH_FILTER,
      rpc: "watch",
      events: { id: "cursor", resume: "cursor", names: ["snapshot", "bookmark", "deltas"] },
    },
    {
      path: "/discovery/lag",
      parameters: PAGE,
      rpc: "lag",
      answer: (asked, { time }) => ({ kind: "page", ...lagJson(parts, asked, time) }),
    },
    {
      path: "/control/status",
      parameters: [],
      rpc: "status",
      answer: (_asked, { time }) => pageAnswer(statusJson(parts, messages, time)),
    },
    listRoute(PeerService.method.keys, (request, { time }) => keysAnswer(keysOf(parts, time), request)),
  ];
}

const OPERATION_ROUTES: NonNullable<ServiceDefinition["routes"]> = [
  { method: "POST", path: "/control/peers/{node_id}:cordon", parameters: [], rpc: "cordon" },
  { method: "POST", path: "/control/peers/{node_id}:uncordon", parameters: [], rpc: "uncordon" },
  { method: "POST", path: "/control/peers/{node_id}:drain", parameters: [], rpc: "drain" },
  { method: "POST", path: "/control/peers/{node_id}:forget", parameters: [], rpc: "forget" },
  { method: "PATCH", path: "/control/peers/{node_id}", parameters: [], rpc: "setLabels" },
];

function get({ source, checkCaughtUp }: PeerParts, messages: PeerMessages, { nodeId }: PeerServiceGetRequest, time: Time) {
  const row = source.member(nodeId, time);
  if (row === undefined) {
    checkCaughtUp();
    throw new WaymarkError(
      "not_found",
      `unknown member ${JSON.stringify(nodeId)}: PeerService.List (waymark mesh peers) lists the members that this node knows`,
    );
  }
  const { events, suspicionEndsWallMs, confirmedBy } = source.story(nodeId, time);
  return create(PeerServiceGetResponseSchema, {
    peer: messages.message(row),
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
  });
}

function nodeStatus({ status, source, identity }: PeerParts, messages: PeerMessages, time: Time) {
  const row = source.member(identity.nodeId, time);
  return statusMessage(row && messages.message(row), status());
}

function statusJson(parts: PeerParts, messages: PeerMessages, time: Time): JsonObject {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the JSON form of a message is an object
  return toJson(PeerServiceStatusResponseSchema, nodeStatus(parts, messages, time), { alwaysEmitImplicit: true }) as JsonObject;
}

/** Returns the answer of `Lag`, and the same answer without the values that change with time and with every frame. Throws `invalid_argument`. */
function lagJson(parts: PeerParts, asked: RouteParameters, time: Time) {
  const answer = lag(parts, pageOf(asked), time);
  const page = toJson(PeerServiceLagResponseSchema, answer, { alwaysEmitImplicit: true });
  delete answer.age;
  for (const link of answer.links) {
    link.framesSent = 0n;
    link.framesReceived = 0n;
    delete link.behindFor;
  }
  steadySummaryLag(answer);
  return { page, steady: toJson(PeerServiceLagResponseSchema, answer) };
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

interface OpenWatches {
  readonly messages: PeerMessages;
  readonly changes: MemberChanges;
  readonly limit: StreamLimit;
  readonly caller: Caller;
}

/** The parameters of the route of events. The id of an event contains the cursor. */
const WATCH_FILTER = PeerServiceWatchRequestSchema.fields.flatMap(({ name }) =>
  name === "cursor" || name === "bookmark_interval" ? [] : [name],
);

function watch(parts: PeerParts, request: PeerServiceWatchRequest, { messages, changes, limit, caller }: OpenWatches): StreamSource {
  const { source, identity, tick } = parts;
  const filter = peerFilter(request, messages);
  const bookmarkIntervalMs = bookmarkMs(request.bookmarkInterval);
  const holder = shortHolder(identity.boot, filter.hash);
  const cursor = request.cursor === "" ? undefined : parseCursor(request.cursor);
  const members = {
    ids: (time: Time) => source.members(time).flatMap((row) => (filter.matches(row) ? [row.nodeId] : [])),
    peer: (nodeId: string, time: Time) => {
      const row = source.member(nodeId, time);
      return row === undefined || !filter.matches(row) ? undefined : messages.watched(row);
    },
  };
  const from = cursor?.kind === "short" && cursor.holder === holder ? cursor.revision : undefined;
  const common = { changes, members, holder, from, servedBy: identity.nodeId, bookmarkIntervalMs, tick };
  return new PeerWatch({ ...common, onClose: limit.open(caller) });
}
