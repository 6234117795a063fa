/** Implements waymark.control.v1.PeerService: the members of the mesh as this node knows them, and the state of replication. */
import { create, type JsonObject, toJson } from "@bufbuild/protobuf";
import { durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Scope } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import {
  type Peer,
  PeerDesired,
  type PeerDrain,
  PeerDrainSchema,
  PeerDrainStep,
  PeerSchema,
  PeerStatus,
} from "../../../gen/waymark/catalog/v1/peer_pb.js";
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
  PeerServiceGetResponseSchema,
  type PeerServiceKeysRequest,
  type PeerServiceLagRequest,
  PeerServiceLagResponseSchema,
  type PeerServiceListRequest,
  PeerServiceListRequestSchema,
  PeerServiceListResponseSchema,
  type PeerServiceSetLabelsRequest,
  type PeerServiceStatusRequest,
  PeerServiceStatusResponseSchema,
  type PeerServiceUncordonRequest,
  type PeerServiceWatchRequest,
} from "../../../gen/waymark/control/v1/peer_pb.js";
import { scopeBetween } from "../../catalog/entry/scope.ts";
import type { OriginStatus } from "../../catalog/record/record.ts";
import { parseCursor, shortHolder } from "../../catalog/watch/cursor.ts";
import { DRAIN_STEPS } from "../../control/peers/drain.ts";
import type { LinkRow } from "../../fabric/links/link-state.ts";
import type { MemberEvidence } from "../../fabric/membership/members.ts";
import { MEMBER_STATUSES, type MemberStatus } from "../../fabric/wire/messages.ts";
import { enumName } from "../../lib/enum-words.ts";
import { invalid, WaymarkError } from "../../lib/errors.ts";
import type { Time } from "../../lib/machine.ts";
import type { Caller } from "../../policy/identity/caller.ts";
import { type ClusterKeyRow, keysAnswer } from "../cluster-keys.ts";
import { bookmarkMs, requestCheckOf, timestampOf } from "../contract.ts";
import { wireScope } from "../discovery/nodes.ts";
import { filterHash, listRoute, PAGE, type PageRequest, pageAnswer, paged, pageOf } from "../list-page.ts";
import { type SummaryLag, steadySummaryLag, wireSummaryLag } from "../regions/lag.ts";
import type { CallContext, HandlersOf, RouteParameters, ServiceDefinition, StreamSource } from "../service.ts";
import { StreamLimit } from "../stream-limit.ts";
import type { MemberRow } from "./member-row.ts";
import { desiredOf, type PeerOperationParts, PeerOperations } from "./operations.ts";
import { MemberChanges, PeerWatch } from "./peer-watch.ts";
import { type NodeStatus, statusMessage } from "./status.ts";

export interface MemberExplanation {
  /** Oldest first. */
  readonly events: readonly MemberEvidence[];
  /** Time after which a suspected member is declared dead. */
  readonly suspicionEndsWallMs: number | undefined;
  readonly confirmedBy: readonly string[];
}

export interface OriginLagRow {
  readonly nodeId: string;
  readonly generation: number;
  /** "unknown" if this node has no records of the origin. */
  readonly life: OriginStatus | "unknown";
  /** The value is 0 while this node lacks records from the origin because it refused some of them. */
  readonly through: number;
  /** The highest seq that a peer is known to have or that this node received. The value is at least `through`. */
  readonly known: number;
  readonly floor: number;
  /** Number of records refused since the origin was last complete on this node. */
  readonly refused: number;
  /** The reason why the origin is partial. Empty if it is not partial. */
  readonly whyPartial: string;
}

export interface LinkLagRow {
  readonly nodeId: string;
  readonly address: string;
  readonly state: LinkRow["state"];
  readonly isIncoming: boolean;
  readonly isCaughtUp: boolean;
  readonly framesSent: number;
  readonly framesReceived: number;
  /** Number of changes that the peer has and this node lacks. */
  readonly behind: number;
  /** How long the peer has been ahead. 0 if it is not ahead. */
  readonly behindMs: number;
}

export interface LagReport {
  readonly isReady: boolean;
  readonly isCaughtUp: boolean;
  /** Whether this node has stopped hiding origins, because too many of them vanished at the same time. */
  readonly isProtected: boolean;
  readonly detail: string;
  readonly ageMs: number;
  readonly origins: readonly OriginLagRow[];
  readonly links: readonly LinkLagRow[];
}

/** The members and the state of their replication, read from the fabric. */
export interface MemberDirectory {
  /** Returns every member, including this node, in no particular order. */
  members(time: Time): readonly MemberRow[];
  member(nodeId: string, time: Time): MemberRow | undefined;
  story(nodeId: string, time: Time): MemberExplanation;
  lag(time: Time): LagReport;
  /** Calls `onChange` with each member that changes, until the returned function is called. */
  follow(onChange: (nodeId: string) => void): () => void;
}

/** The serving node. */
interface ServingNode {
  readonly nodeId: string;
  readonly clusterId: string;
  readonly region: string;
  /** Id of this process instance of the node. */
  readonly boot: string;
}

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
  const watches = { changes: new MemberChanges(), limit: new StreamLimit("member watches", parts.maxWatches) };
  // The changes are recorded for as long as the process runs, because a reader may return with a cursor.
  const changed = (nodeId: string) => watches.changes.changed(nodeId);
  parts.source.follow(changed);
  parts.control.followPeers(changed);
  const operations = new PeerOperations(parts, (row) => wirePeer(row, parts));
  const keys = (time: Time) => ({ rows: parts.clusterKeys(time), servedBy: parts.identity.nodeId, time });
  return {
    desc: PeerService,
    handlers: {
      list: { kind: "unary", handle: (request: PeerServiceListRequest, context) => list(parts, request, context.time) },
      watch: {
        kind: "server_streaming",
        open: (request: PeerServiceWatchRequest, { caller }) => watch(parts, request, { ...watches, caller }),
      },
      get: { kind: "unary", handle: (request: PeerServiceGetRequest, context) => get(parts, request, context) },
      lag: { kind: "unary", handle: (request: PeerServiceLagRequest, context) => lag(parts, request, context.time) },
      keys: { kind: "unary", handle: (request: PeerServiceKeysRequest, context) => keysAnswer(keys(context.time), request) },
      status: { kind: "unary", handle: (_request: PeerServiceStatusRequest, { time }) => nodeStatus(parts, time) },
      cordon: { kind: "unary", handle: (request: PeerServiceCordonRequest, context) => operations.cordon(request, context) },
      uncordon: { kind: "unary", handle: (request: PeerServiceUncordonRequest, context) => operations.uncordon(request, context) },
      drain: { kind: "unary", handle: (request: PeerServiceDrainRequest, context) => operations.drain(request, context) },
      setLabels: { kind: "unary", handle: (request: PeerServiceSetLabelsRequest, context) => operations.setLabels(request, context) },
      forget: { kind: "unary", handle: (request: PeerServiceForgetRequest, context) => operations.forget(request, context) },
    } satisfies HandlersOf<typeof PeerService>,
    routes: [
      {
        path: "/control/peers",
        parameters: ["status", "cluster_id", "region", ...PAGE],
        rpc: "list",
        answer: (asked, { time }) => ({ kind: "page", ...peersJson(parts, asked, time) }),
      },
      {
        path: "/control/events/peers",
        parameters: ["cluster_id", "region"],
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
        answer: (_asked, { time }) => pageAnswer(statusJson(parts, time)),
      },
      listRoute(PeerService.method.keys, (request, { time }) => keysAnswer(keys(time), request)),
      { method: "POST", path: "/control/peers/{node_id}:cordon", parameters: [], rpc: "cordon" },
      { method: "POST", path: "/control/peers/{node_id}:uncordon", parameters: [], rpc: "uncordon" },
      { method: "POST", path: "/control/peers/{node_id}:drain", parameters: [], rpc: "drain" },
      { method: "POST", path: "/control/peers/{node_id}:forget", parameters: [], rpc: "forget" },
      { method: "PATCH", path: "/control/peers/{node_id}", parameters: [], rpc: "setLabels" },
    ],
  };
}

interface MemberFilter {
  readonly statuses: readonly MemberStatus[];
  readonly clusterId: string;
  readonly region: string;
}

function matchesMember({ statuses, clusterId, region }: MemberFilter, row: MemberRow): boolean {
  return (
    (statuses.length === 0 || statuses.includes(row.status)) &&
    (clusterId === "" || row.clusterId === clusterId) &&
    (region === "" || row.region === region)
  );
}

/** Parses a comma-separated list of statuses. */
function statusesIn(text: string): PeerStatus[] {
  const words = text === "" ? [] : text.split(",");
  return words.map((word) => {
    const status = MEMBER_STATUSES.find((each) => each === word);
    if (status === undefined)
      throw invalid("status", `must be one of ${MEMBER_STATUSES.join(", ")}; got ${JSON.stringify(word.slice(0, 64))}`);
    return PeerStatus[enumName(status)];
  });
}

function list(parts: PeerParts, request: PeerServiceListRequest, time: Time) {
  const { source, identity } = parts;
  const { clusterId, region } = request;
  const statuses = MEMBER_STATUSES.filter((status) => request.statuses.includes(PeerStatus[enumName(status)]));
  const filter: MemberFilter = { statuses, clusterId, region };
  const hash = filterHash("peers", ...filter.statuses.toSorted(), filter.clusterId, filter.region);
  const rows = source.members(time).filter((row) => matchesMember(filter, row));
  const { page, nextPageToken } = paged(rows, ({ nodeId }) => nodeId, { ...request, hash });
  return create(PeerServiceListResponseSchema, {
    peers: page.map((row) => wirePeer(row, parts)),
    nextPageToken,
    servedBy: identity.nodeId,
    generatedAt: timestampFromMs(time.wallMs),
  });
}

function get(parts: PeerParts, request: PeerServiceGetRequest, { time }: CallContext) {
  const { source, checkCaughtUp } = parts;
  const { nodeId } = request;
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
    peer: wirePeer(row, parts),
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

function nodeStatus({ status: current, source, identity, ...parts }: PeerParts, time: Time) {
  const row = source.member(identity.nodeId, time);
  return statusMessage(row && wirePeer(row, { identity, ...parts }), current());
}

function statusJson(parts: PeerParts, time: Time): JsonObject {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the JSON form of a message is an object
  return toJson(PeerServiceStatusResponseSchema, nodeStatus(parts, time), { alwaysEmitImplicit: true }) as JsonObject;
}

const checkList = requestCheckOf(PeerServiceListRequestSchema);

/**
 * Returns the answer of `List`, and the same answer without the time and the values that each probe measures. A reader compares the second form to
 * detect changes. Throws `invalid_argument`.
 */
function peersJson(parts: PeerParts, asked: RouteParameters, time: Time) {
  const { status = "", cluster_id: clusterId = "", region = "" } = asked;
  const request = create(PeerServiceListRequestSchema, { statuses: statusesIn(status), clusterId, region, ...pageOf(asked) });
  checkList(request);
  const answer = list(parts, request, time);
  const page = toJson(PeerServiceListResponseSchema, answer, { alwaysEmitImplicit: true });
  for (const peer of answer.peers) {
    delete peer.lastSeen;
    delete peer.rtt;
  }
  delete answer.generatedAt;
  return { page, steady: toJson(PeerServiceListResponseSchema, answer) };
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

function wirePeer(row: MemberRow, { identity, control }: Pick<PeerParts, "control" | "identity">): Peer {
  const { nodeId, clusterId, region, zone, status, address, version, healthScore, accuser, drain } = row;
  const record = clusterId === identity.clusterId ? control.record(nodeId) : undefined;
  const operation = record?.value;
  return create(PeerSchema, {
    nodeId,
    clusterId,
    region,
    zone,
    status: PeerStatus[enumName(status)],
    address,
    version,
    healthScore,
    accuser: status === "suspect" ? accuser : "",
    incarnation: BigInt(row.incarnation),
    generation: BigInt(row.generation),
    protocolVersions: [...row.protocolVersions],
    transports: [...row.transports],
    roles: [...row.roles],
    labels: { ...row.labels, ...operation?.labels },
    configDigest: row.configDigest ?? "",
    isSelf: row.isSelf,
    linked: row.isLinked,
    scope: row.isSelf ? Scope.LOCAL : wireScope(scopeBetween(identity, row)),
    desired: PeerDesired[enumName(desiredOf(row, control))],
    serving: row.isServing ?? false,
    etag: control.isOwnStore && !row.isSelf ? "" : `"${record?.version ?? 0}"`,
    ...(drain !== undefined && { drain: wireDrain(drain) }),
    ...(operation !== undefined && {
      lastOperation: { ...operation, at: timestampOf(operation.atWallMs) },
    }),
    ...(row.lastSeenWallMs !== undefined && { lastSeen: timestampFromMs(row.lastSeenWallMs) }),
    ...(row.rttMs !== undefined && { rtt: durationFromMs(Math.max(1, Math.round(row.rttMs))) }),
  });
}

/** A step that this version does not know is not set. */
function wireDrain({ step, sinceMs, isStuck, left }: NonNullable<MemberRow["drain"]>): PeerDrain {
  const known = DRAIN_STEPS.find((each) => each === step);
  return create(PeerDrainSchema, {
    step: known === undefined ? PeerDrainStep.UNSPECIFIED : PeerDrainStep[enumName(known)],
    left: Object.fromEntries(left.map(({ kind, count }) => [kind, BigInt(count)])),
    since: timestampOf(sinceMs),
    stuck: isStuck,
  });
}

interface OpenWatches {
  readonly changes: MemberChanges;
  readonly limit: StreamLimit;
  readonly caller: Caller;
}

function watch(parts: PeerParts, request: PeerServiceWatchRequest, { changes, limit, caller }: OpenWatches): StreamSource {
  const { source, identity, tick } = parts;
  const filter: MemberFilter = { statuses: [], clusterId: request.clusterId, region: request.region };
  const bookmarkIntervalMs = bookmarkMs(request.bookmarkInterval);
  const holder = shortHolder(identity.boot, filterHash("peers watched", filter.clusterId, filter.region));
  const cursor = request.cursor === "" ? undefined : parseCursor(request.cursor);
  const members = {
    ids: (time: Time) => source.members(time).flatMap((row) => (matchesMember(filter, row) ? [row.nodeId] : [])),
    peer: (nodeId: string, time: Time) => {
      const row = source.member(nodeId, time);
      return row === undefined || !matchesMember(filter, row) ? undefined : wirePeer(row, parts);
    },
  };
  const from = cursor?.kind === "short" && cursor.holder === holder ? cursor.revision : undefined;
  const common = { changes, members, holder, from, servedBy: identity.nodeId, bookmarkIntervalMs, tick };
  return new PeerWatch({ ...common, onClose: limit.open(caller) });
}
