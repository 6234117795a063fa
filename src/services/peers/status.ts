/** The state of the serving node and its findings, for PeerService.Status. */
import { create } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import type { Peer } from "../../../gen/waymark/catalog/v1/peer_pb.js";
import { FindingSeverity, PeerServiceStatusResponseSchema } from "../../../gen/waymark/control/v1/peer_pb.js";
import { enumName } from "../../lib/enum-words.ts";
import { timestampOf } from "../contract.ts";
import { storeMessage } from "../leadership/leader-message.ts";
import type { StoreStatus } from "../leadership/source.ts";

export const SEVERITIES = ["critical", "warning"] as const;

/** Something that is wrong with a node or with one of its peers. */
export interface Finding {
  readonly id: string;
  readonly severity: (typeof SEVERITIES)[number];
  /** The node that the finding is about. */
  readonly subject: string;
  readonly evidence: string;
  /** The name of the runbook, without the extension. */
  readonly runbook: string;
  /** A command that shows more. */
  readonly command: string;
}

export interface NodeStatus {
  readonly isReady: boolean;
  /** Why the node is not ready. Empty if it is. */
  readonly detail: string;
  /** Upper bound on the number of changes that the node has not received. */
  readonly behind: number;
  readonly ageMs: number;
  /** Undefined without certificates. */
  readonly certificateEndWallMs: number | undefined;
  /** 0 without a policy. */
  readonly policyNumber: number;
  /** The node that leads `global-control`. Empty if there is none. */
  readonly leader: string;
  readonly store: StoreStatus;
  /** Most severe first. */
  readonly findings: readonly Finding[];
  readonly evaluatedWallMs: number;
  /** The digest of the settings that are the same on all nodes of a cluster. */
  readonly configDigest: string;
}

export function statusMessage(peer: Peer | undefined, status: NodeStatus) {
  const {
    isReady: ready,
    detail,
    behind,
    ageMs,
    certificateEndWallMs,
    policyNumber,
    leader,
    store,
    findings,
    evaluatedWallMs,
    configDigest,
  } = status;
  return create(PeerServiceStatusResponseSchema, {
    ...(peer !== undefined && { peer }),
    ready,
    detail,
    behind: BigInt(behind),
    age: durationFromMs(Math.round(ageMs)),
    ...(certificateEndWallMs !== undefined && { certificateExpiresAt: timestampOf(certificateEndWallMs) }),
    policyNumber: BigInt(policyNumber),
    leader,
    store: storeMessage(store),
    findings: findings.map((finding) => ({ ...finding, severity: FindingSeverity[enumName(finding.severity)] })),
    evaluatedAt: timestampOf(evaluatedWallMs),
    configDigest,
  });
}
