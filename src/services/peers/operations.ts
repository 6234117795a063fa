/** The operations of PeerService on nodes: they change the operators' records, and each of them is audited before it is answered. */
import { create, type DescMethodUnary } from "@bufbuild/protobuf";
import { type Duration, durationMs } from "@bufbuild/protobuf/wkt";
import {
  type BlastRadius,
  BlastRadiusSchema,
  PeerService,
  type PeerServiceDrainRequest,
  type PeerServiceSetLabelsRequest,
  type PeerServiceUncordonRequest,
} from "../../../gen/waymark/control/v1/peer_pb.js";
import type { PeerChange, PeerOrder } from "../../control/peers/peers.ts";
import { requestKind } from "../../control/peers/records.ts";
import { isListed } from "../../fabric/membership/members.ts";
import { durationText } from "../../lib/duration.ts";
import { invalid, rethrowInvariant, WaymarkError } from "../../lib/errors.ts";
import type { Time } from "../../lib/machine.ts";
import { type Caller, demandRole } from "../../policy/identity/caller.ts";
import { isUnavailable } from "../recorded-operation.ts";
import type { CallContext } from "../service.ts";
import type { MemberDirectory, MemberRow, ServingNode } from "./members.ts";
import { desiredOf, type PeerRecords, peerMessage } from "./peer-message.ts";

/** The operators' records that the serving node knows, and its access to them. */
export interface PeerControl extends PeerRecords {
  /** Makes a change. Rejects with `last_ready_node`, `quota_exceeded`, `store_unavailable` or `version_conflict`. */
  changePeer(order: PeerOrder): Promise<void>;
  /** Calls `onChange` when the record of a node has changed, until the returned function is called. */
  followPeers(onChange: (nodeId: string) => void): () => void;
}

/** The contents of a node, as far as the serving node knows. */
export interface NodeContents {
  readonly leasedCount: number;
  readonly staticCount: number;
  /** Number of entries by principal. */
  readonly principals: ReadonlyMap<string, number>;
  readonly leaderships: readonly string[];
  readonly shards: readonly string[];
}

/** An operation on a node, as recorded in the audit log. */
export interface PeerOperation {
  readonly action: `mesh.${PeerChange["kind"]}_peer`;
  readonly requestId: string;
  readonly nodeId: string;
  readonly ticket: string;
  /** The reason of the refusal. Empty if the operation was carried out, or if its outcome is unknown. */
  readonly refusal: string;
  readonly detail: string;
}

export interface PeerOperationParts {
  readonly control: PeerControl;
  readonly source: Pick<MemberDirectory, "member" | "members">;
  readonly identity: Omit<ServingNode, "boot">;
  readonly contentsOf: (nodeId: string) => NodeContents;
  /** The URLs at which clients reach a node. Empty if they are unknown. */
  readonly urlsOf: (nodeId: string) => readonly string[];
  readonly onOperation: (caller: Caller, operation: PeerOperation) => void;
  /** Resolves when all audit records are on disk. */
  readonly audited: () => Promise<void>;
  /** Throws `not_ready` while it is possible that this node does not know all members yet. */
  readonly checkCaughtUp: () => void;
}

const DEFAULT_DEADLINE_MS = 600_000;
const MAX_PRINCIPALS = 20;
const MAX_LISTED = 100;

/** The fields of all requests, and those that only some operations have. */
type OperationRequest = Omit<PeerServiceUncordonRequest, "$typeName"> &
  Partial<Pick<PeerServiceDrainRequest, "deadline" | "force"> & Pick<PeerServiceSetLabelsRequest, "labels" | "remove">>;

/** An operation and its request. */
interface Asked {
  readonly kind: PeerChange["kind"];
  readonly request: OperationRequest;
}

/** Returns the handlers of the operations. */
export function peerOperations(parts: PeerOperationParts) {
  const { method } = PeerService;
  const handler = (kind: PeerChange["kind"], { output }: DescMethodUnary) => ({
    kind: "unary" as const,
    handle: async (request: OperationRequest, context: CallContext) => create(output, await recorded(parts, { kind, request }, context)),
  });
  return {
    cordon: handler("cordon", method.cordon),
    uncordon: handler("uncordon", method.uncordon),
    drain: handler("drain", method.drain),
    setLabels: handler("label", method.setLabels),
    forget: handler("forget", method.forget),
  };
}

/** Runs an operation. It is on record before it is answered, whether it was carried out or refused. */
async function recorded(parts: PeerOperationParts, asked: Asked, context: CallContext) {
  const outcome = await run(parts, asked, context).catch((error: unknown) => {
    if (error instanceof WaymarkError) return error;
    throw error;
  });
  await audit(parts, asked, context, outcome);
  if (outcome instanceof WaymarkError) throw outcome;
  const { row, radius } = outcome;
  // The response of labels has no radius.
  return { peer: peerMessage(row, parts), ...(asked.kind !== "label" && { radius }) };
}

/** Returns the node, and the things that the operation touches. */
async function run(parts: PeerOperationParts, asked: Asked, context: CallContext) {
  const { control, source, identity, urlsOf, checkCaughtUp } = parts;
  const { kind, request } = asked;
  const { nodeId, force: isForced = false } = request;
  if (isForced) demandRole(context.caller, "mesh.admin", " to use force");
  const row = source.member(nodeId, context.time);
  if (row === undefined || row.clusterId !== identity.clusterId) {
    checkCaughtUp();
    throw new WaymarkError(
      "not_found",
      `node_id: this node knows no member ${JSON.stringify(nodeId)} of the cluster ${identity.clusterId}`,
    );
  }
  if (kind === "forget" && isListed(row.status))
    throw invalid("node_id", `${nodeId} is ${row.status}; only nodes that are dead or have left can be forgotten`);
  if (control.isOwnStore && kind !== "forget" && nodeId !== identity.nodeId) throw wrongNode(nodeId, urlsOf(nodeId));
  const radius = radiusOf(parts, row, context.time);
  const { reason, ticket, requestId, dryRun: isDryRun } = request;
  const used = requestKind(control.record(nodeId)?.value?.requestIds, requestId);
  if (used !== undefined && used !== kind)
    throw invalid("request_id", `the request ${JSON.stringify(requestId)} was a ${used}; use another id`);
  const actor = context.caller.principal || "anonymous";
  const expectedVersion = request.etag === "" ? undefined : versionOf(request.etag);
  const change = changeOf(asked, radius.readyInCluster);
  await control.changePeer({ nodeId, change, actor, reason, ticket, expectedVersion, requestId, isDryRun });
  return { row, radius, isRepeated: used !== undefined };
}

function radiusOf({ control, source, identity, contentsOf }: PeerOperationParts, row: MemberRow, time: Time): BlastRadius {
  const isReady = (other: MemberRow) =>
    other.nodeId !== row.nodeId &&
    other.clusterId === row.clusterId &&
    other.status === "alive" &&
    other.isServing === true &&
    desiredOf(other, control) === "active";
  const ready = source.members(time).filter(isReady);
  const { leasedCount, staticCount, principals, leaderships, shards } = contentsOf(row.nodeId);
  const largest = [...principals].toSorted((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)).slice(0, MAX_PRINCIPALS);
  return create(BlastRadiusSchema, {
    leasedEntries: BigInt(leasedCount),
    staticEntries: BigInt(staticCount),
    principals: largest.map(([principal, count]) => ({ principal, entries: BigInt(count) })),
    leaderships: leaderships.slice(0, MAX_LISTED),
    leadershipCount: BigInt(leaderships.length),
    shards: shards.slice(0, MAX_LISTED),
    shardCount: BigInt(shards.length),
    readyInCluster: ready.length,
    readyInZone: ready.filter(({ zone, region }) => zone === row.zone && region === row.region).length,
    unknown: row.nodeId === identity.nodeId ? [] : ["LOCAL entries", "watches"],
  });
}

async function audit(
  { onOperation, audited }: PeerOperationParts,
  { kind, request }: Asked,
  { caller, requestId }: CallContext,
  outcome: Awaited<ReturnType<typeof run>> | WaymarkError,
): Promise<void> {
  const { nodeId, reason, ticket, dryRun, force = false, deadline, labels = {}, remove = [] } = request;
  const isRefused = outcome instanceof WaymarkError;
  const isUnknown = isUnavailable(outcome);
  const detail = [
    dryRun ? "dry run" : "",
    force ? "forced" : "",
    kind === "drain" ? `deadline ${durationText(deadlineMs(deadline))}` : "",
    ...Object.entries(labels).map(([key, value]) => `${key}=${JSON.stringify(value)}`),
    remove.length === 0 ? "" : `without ${remove.map((key) => JSON.stringify(key)).join(" ")}`,
    reason === "" ? "" : `reason ${JSON.stringify(reason)}`,
    isUnknown ? "the outcome is unknown" : isRefused ? outcome.message : radiusText(outcome.radius),
    !isRefused && outcome.isRepeated ? "repeated, nothing changed" : "",
  ];
  const refusal = isRefused && !isUnknown ? outcome.reason : "";
  const text = detail.filter((part) => part !== "").join("; ");
  onOperation(caller, { action: `mesh.${kind}_peer`, requestId, nodeId, ticket, refusal, detail: text });
  try {
    await audited();
  } catch (cause) {
    rethrowInvariant(cause);
    if (isRefused) return;
    throw new WaymarkError("store_unavailable", "the operation was carried out, but its audit record is not on disk yet", { cause });
  }
}

function wrongNode(nodeId: string, urls: readonly string[]): WaymarkError {
  const where = urls.length === 0 ? "" : `, at ${urls.join(" or ")}`;
  const message = `the nodes do not share a control store, so only ${nodeId} accepts this operation${where}`;
  return new WaymarkError("wrong_node", message, { metadata: { urls: urls.join(" ") } });
}

/** The version in an etag. */
function versionOf(etag: string): number {
  const [, digits] = /^"?(\d{1,16})"?$/.exec(etag) ?? [];
  if (digits === undefined) throw invalid("etag", `invalid value ${JSON.stringify(etag)}: expected the etag of the node, such as "3"`);
  return Number(digits);
}

function deadlineMs(deadline: Duration | undefined): number {
  return deadline === undefined ? DEFAULT_DEADLINE_MS : durationMs(deadline);
}

function changeOf({ kind, request }: Asked, readyCount: number): PeerChange {
  const { force: isForced = false, deadline, labels = {}, remove: removed = [] } = request;
  switch (kind) {
    case "cordon":
    case "drain":
      return { kind, isForced, deadlineMs: deadlineMs(deadline), readyCount };
    case "label":
      return { kind, labels, removed };
    case "forget":
    case "uncordon":
      return { kind };
  }
}

function radiusText({ leasedEntries, staticEntries, leadershipCount, shardCount, readyInCluster, readyInZone }: BlastRadius): string {
  const entries = `${leasedEntries} leased and ${staticEntries} static entries`;
  return `${entries}, ${leadershipCount} leaderships, ${shardCount} shards; ready nodes left: ${readyInCluster} in the cluster, ${readyInZone} in the zone`;
}
