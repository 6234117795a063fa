/** The messages of members. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Scope } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import {
  type Peer,
  PeerDesired,
  type PeerDrainSchema,
  PeerDrainStep,
  PeerSchema,
  PeerStatus,
} from "../../../gen/waymark/catalog/v1/peer_pb.js";
import { scopeBetween } from "../../catalog/entry/scope.ts";
import type { CopiedItem } from "../../control/leadership/copy.ts";
import { DRAIN_STEPS } from "../../control/peers/drain.ts";
import { DESIRED_STATES, type DesiredState, type PeerRecord } from "../../control/peers/records.ts";
import { enumName } from "../../lib/enum-words.ts";
import { timestampOf } from "../contract.ts";
import { wireScope } from "../discovery/nodes.ts";
import type { MemberRow, ServingNode } from "./members.ts";

/** The operators' records that the serving node knows. */
export interface PeerRecords {
  /** Whether no other node has the control store of this node. */
  readonly isOwnStore: boolean;
  /** The record of a node. Undefined if operators have not changed the node. */
  record(nodeId: string): CopiedItem<PeerRecord> | undefined;
}

/** The serving node, whose view of the members the messages contain. */
export interface PeerView {
  readonly control: PeerRecords;
  readonly identity: Pick<ServingNode, "clusterId" | "region">;
}

/** The state in which operators want a node to be, from its record or from its own report. */
export function desiredOf({ nodeId, desired }: Pick<MemberRow, "desired" | "nodeId">, control: Pick<PeerRecords, "record">): DesiredState {
  const reported = DESIRED_STATES.find((state) => state === desired) ?? "active";
  return control.record(nodeId)?.value?.desired ?? reported;
}

/** The labels of a node. Those in its record have priority over those in its settings. */
export function labelsOf(row: MemberRow, view: PeerView): Readonly<Record<string, string>> {
  return { ...row.labels, ...recordOf(row, view)?.value?.labels };
}

/** Returns the operators' record of a member. Undefined if they have not changed it, and for members of other clusters. */
function recordOf({ nodeId, clusterId }: MemberRow, { identity, control }: PeerView): CopiedItem<PeerRecord> | undefined {
  return clusterId === identity.clusterId ? control.record(nodeId) : undefined;
}

/** The texts of a row have the names of the fields. */
export function peerMessage(row: MemberRow, view: PeerView): Peer {
  const { status, drain, lastSeenWallMs, rttMs, isSelf } = row;
  const { identity, control } = view;
  const record = recordOf(row, view);
  const operation = record?.value;
  return create(PeerSchema, {
    ...row,
    status: PeerStatus[enumName(status)],
    accuser: status === "suspect" ? row.accuser : "",
    incarnation: BigInt(row.incarnation),
    generation: BigInt(row.generation),
    protocolVersions: [...row.protocolVersions],
    transports: [...row.transports],
    roles: [...row.roles],
    labels: labelsOf(row, view),
    linked: row.isLinked,
    scope: isSelf ? Scope.LOCAL : wireScope(scopeBetween(identity, row)),
    desired: PeerDesired[enumName(desiredOf(row, control))],
    serving: row.isServing ?? false,
    etag: control.isOwnStore && !isSelf ? "" : `"${record?.version ?? 0}"`,
    drain: drain && wireDrain(drain),
    urls: [...(drain?.urls ?? [])],
    // The shortest time shown is 1 ms.
    rtt: rttMs === undefined ? undefined : durationFromMs(Math.max(1, Math.round(rttMs))),
    lastSeen: lastSeenWallMs === undefined ? undefined : timestampFromMs(lastSeenWallMs),
    lastOperation: operation && { ...operation, at: timestampOf(operation.atWallMs) },
  });
}

/** A step that this version does not know is not set. */
function wireDrain({ step, sinceMs, isStuck, left }: NonNullable<MemberRow["drain"]>): MessageInitShape<typeof PeerDrainSchema> {
  const known = DRAIN_STEPS.find((each) => each === step);
  return {
    step: known === undefined ? PeerDrainStep.UNSPECIFIED : PeerDrainStep[enumName(known)],
    left: Object.fromEntries(left.map(({ kind, count }) => [kind, BigInt(count)])),
    since: timestampOf(sinceMs),
    stuck: isStuck,
  };
}
