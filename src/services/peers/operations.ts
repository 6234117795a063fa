/** The operations of PeerService on nodes: they change the operators' records, and each of them is audited before it is answered. */
import { create } from "@bufbuild/protobuf";
import { type Duration, durationMs } from "@bufbuild/protobuf/wkt";
import type { Peer } from "../../../gen/waymark/catalog/v1/peer_pb.js";
import {
  type BlastRadius,
  BlastRadiusSchema,
  type PeerServiceCordonRequest,
  PeerServiceCordonResponseSchema,
  type PeerServiceDrainRequest,
  PeerServiceDrainResponseSchema,
  type PeerServiceForgetRequest,
  PeerServiceForgetResponseSchema,
  type PeerServiceSetLabelsRequest,
  PeerServiceSetLabelsResponseSchema,
  type PeerServiceUncordonRequest,
  PeerServiceUncordonResponseSchema,
} from "../../../gen/waymark/control/v1/peer_pb.js";
import type { CopiedItem } from "../../control/leadership/copy.ts";
import type { PeerChange, PeerOrder } from "../../control/peers/peers.ts";
import { DESIRED_STATES, type DesiredState, type PeerRecord } from "../../control/peers/records.ts";
import { isListed } from "../../fabric/membership/members.ts";
import { durationText } from "../../lib/duration.ts";
import { invalid, rethrowInvariant, WaymarkError } from "../../lib/errors.ts";
import type { Time } from "../../lib/machine.ts";
import { type Caller, demandRole } from "../../policy/identity/caller.ts";
import { isUnavailable } from "../recorded-operation.ts";
import type { CallContext } from "../service.ts";
import type { MemberRow } from "./members.ts";

/** The operators' records that the serving node knows, and its access to them. */
export interface PeerControl {
  /** Whether no other node has the control store of this node. */
  readonly isOwnStore: boolean;
  /** The record of a node. Undefined if there is none. */
  record(nodeId: string): CopiedItem<PeerRecord> | undefined;
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
  readonly action: `mesh.${"cordon" | "uncordon" | "drain" | "label" | "forget"}_peer`;
  readonly requestId: string;
  readonly nodeId: string;
  readonly ticket: string;
  /** The reason of the refusal. Empty if the operation was carried out, or if its outcome is unknown. */
  readonly refusal: string;
  readonly detail: string;
}

export interface PeerOperationParts {
  readonly control: PeerControl;
  readonly source: {
    members(time: Time): readonly MemberRow[];
    member(nodeId: string, time: Time): MemberRow | undefined;
  };
  readonly identity: { readonly nodeId: string; readonly clusterId: string };
  readonly contentsOf: (nodeId: string) => NodeContents;
  /** The URLs at which clients reach a node. Empty if they are unknown. */
  readonly urlsOf: (nodeId: string) => readonly string[];
  readonly onOperation: (caller: Caller, operation: PeerOperation) => void;
  /** Resolves when all audit records are on disk. */
  readonly audited: () => Promise<void>;
  /** Throws `not_ready` while it is possible that this node does not know all members yet. */
  readonly checkCaughtUp: () => void;
}

const DEFAULT_TIMEOUT_MS = 600_000;
const MAX_PRINCIPALS = 20;
const MAX_LISTED = 100;

interface OperationRequest {
  readonly nodeId: string;
  readonly reason: string;
  readonly ticket: string;
  readonly etag: string;
  readonly requestId: string;
  readonly dryRun: boolean;
  readonly force?: boolean;
  readonly timeout?: Duration | undefined;
}

/** An operation and its request. */
interface Asked {
  readonly kind: PeerChange["kind"];
  readonly request: OperationRequest & Partial<Pick<PeerServiceSetLabelsRequest, "labels" | "remove">>;
}

/** A node, and the things that the operation touches. */
interface Done {
  readonly row: MemberRow;
  readonly radius: BlastRadius;
}

/** `peerOf` returns the message of a member. */
export class PeerOperations {
  readonly #parts: PeerOperationParts;
  readonly #peerOf: (row: MemberRow) => Peer;

  constructor(parts: PeerOperationParts, peerOf: (row: MemberRow) => Peer) {
    this.#parts = parts;
    this.#peerOf = peerOf;
  }

  async cordon(request: PeerServiceCordonRequest, context: CallContext) {
    return create(PeerServiceCordonResponseSchema, await this.#done({ kind: "cordon", request }, context));
  }

  async uncordon(request: PeerServiceUncordonRequest, context: CallContext) {
    return create(PeerServiceUncordonResponseSchema, await this.#done({ kind: "uncordon", request }, context));
  }

  async drain(request: PeerServiceDrainRequest, context: CallContext) {
    return create(PeerServiceDrainResponseSchema, await this.#done({ kind: "drain", request }, context));
  }

  async setLabels(request: PeerServiceSetLabelsRequest, context: CallContext) {
    const { peer } = await this.#done({ kind: "label", request }, context);
    return create(PeerServiceSetLabelsResponseSchema, { peer });
  }

  async forget(request: PeerServiceForgetRequest, context: CallContext) {
    return create(PeerServiceForgetResponseSchema, await this.#done({ kind: "forget", request }, context));
  }

  /** Runs an operation. It is on record before it is answered, whether it was carried out or refused. */
  async #done(asked: Asked, context: CallContext): Promise<{ readonly peer: Peer; readonly radius: BlastRadius }> {
    try {
      const { row, radius } = await this.#run(asked, context);
      await this.#audit(asked, context, radiusText(radius));
      return { peer: this.#peerOf(row), radius };
    } catch (error) {
      rethrowInvariant(error);
      if (error instanceof WaymarkError && error.cause !== AUDIT_FAILED) await this.#audit(asked, context, "", error);
      throw error;
    }
  }

  async #run(asked: Asked, context: CallContext): Promise<Done> {
    const { control, source, identity, urlsOf, checkCaughtUp } = this.#parts;
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
    const { readyIds, radius } = this.#radius(row, context.time);
    const { reason, ticket, requestId, dryRun: isDryRun } = request;
    const actor = context.caller.principal || "anonymous";
    const expectedVersion = request.etag === "" ? undefined : versionOf(request.etag);
    const change = changeOf(asked, readyIds.length);
    await control.changePeer({ nodeId, change, actor, reason, ticket, expectedVersion, requestId, isDryRun });
    return { row, radius };
  }

  #radius(row: MemberRow, time: Time): { readonly readyIds: readonly string[]; readonly radius: BlastRadius } {
    const { control, source, identity, contentsOf } = this.#parts;
    const isReady = (other: MemberRow) =>
      other.nodeId !== row.nodeId &&
      other.clusterId === row.clusterId &&
      other.status === "alive" &&
      other.isServing === true &&
      desiredOf(other, control) === "active";
    const ready = source.members(time).filter(isReady);
    const { leasedCount, staticCount, principals, leaderships, shards } = contentsOf(row.nodeId);
    const largest = [...principals].toSorted((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)).slice(0, MAX_PRINCIPALS);
    const radius = create(BlastRadiusSchema, {
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
    return { readyIds: ready.map(({ nodeId }) => nodeId), radius };
  }

  async #audit({ kind, request }: Asked, { caller, requestId }: CallContext, touched: string, error?: WaymarkError): Promise<void> {
    const { onOperation, audited } = this.#parts;
    const { nodeId, reason, ticket, dryRun, force = false, timeout, labels, remove } = request;
    const outcome = error === undefined ? touched : isUnavailable(error) ? "the outcome is unknown" : error.message;
    const detail = [
      dryRun ? "dry run" : "",
      force ? "forced" : "",
      kind === "drain" ? `timeout ${durationText(timeoutMs(timeout))}` : "",
      labels === undefined
        ? ""
        : Object.entries(labels)
            .map(([key, value]) => `${key}=${value}`)
            .join(" "),
      remove === undefined || remove.length === 0 ? "" : `without ${remove.join(" ")}`,
      reason,
      outcome,
    ];
    const refusal = error === undefined || isUnavailable(error) ? "" : error.reason;
    const text = detail.filter((part) => part !== "").join("; ");
    onOperation(caller, { action: `mesh.${kind}_peer`, requestId, nodeId, ticket, refusal, detail: text });
    try {
      await audited();
    } catch (cause) {
      rethrowInvariant(cause);
      if (error !== undefined) return;
      const message = "the operation was carried out, but its audit record is not on disk yet";
      throw new WaymarkError("store_unavailable", message, { cause: AUDIT_FAILED });
    }
  }
}

/** The cause of an error of an operation that was carried out. */
const AUDIT_FAILED = Symbol("audit failed");

/** The state in which operators want a node to be, from its record or from its own report. */
export function desiredOf({ nodeId, desired }: Pick<MemberRow, "desired" | "nodeId">, control: Pick<PeerControl, "record">): DesiredState {
  const reported = DESIRED_STATES.find((state) => state === desired) ?? "active";
  return control.record(nodeId)?.value?.desired ?? reported;
}

function wrongNode(nodeId: string, urls: readonly string[]): WaymarkError {
  const where = urls.length === 0 ? "" : `, at ${urls.join(" or ")}`;
  const message = `the nodes do not share a control store, so only ${nodeId} accepts this operation${where}`;
  return new WaymarkError("wrong_node", message, { metadata: { urls: urls.join(" ") } });
}

/** The version in an etag. */
function versionOf(etag: string): number {
  const [, digits] = /^"?(\d{1,16})"?$/.exec(etag) ?? [];
  if (digits === undefined) throw invalid("etag", `invalid value ${JSON.stringify(etag)}: expected the etag of the node`);
  return Number(digits);
}

function timeoutMs(timeout: Duration | undefined): number {
  return timeout === undefined ? DEFAULT_TIMEOUT_MS : durationMs(timeout);
}

function changeOf({ kind, request }: Asked, readyCount: number): PeerChange {
  const { force: isForced = false, timeout, labels = {}, remove: removed = [] } = request;
  switch (kind) {
    case "cordon":
    case "drain":
      return { kind, isForced, timeoutMs: timeoutMs(timeout), readyCount };
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
