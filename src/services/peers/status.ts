/** The state of the serving node and its findings, for PeerService.Status. */
import { create } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import type { Peer } from "../../../gen/waymark/catalog/v1/peer_pb.js";
import {
  FindingSeverity,
  type PeerServiceStatusResponse,
  PeerServiceStatusResponseSchema,
  type Finding as WireFinding,
} from "../../../gen/waymark/control/v1/peer_pb.js";
import { isKnownAge } from "../../lib/duration.ts";
import { enumName } from "../../lib/enum-words.ts";
import { timestampOf } from "../contract.ts";
import { storeMessage } from "../leadership/leader-message.ts";
import type { StoreStatus } from "../leadership/source.ts";

/** Something that is wrong with a node or with one of its peers. */
export interface Finding extends Readonly<Pick<WireFinding, "command" | "evidence" | "id" | "runbook" | "subject">> {
  readonly severity: "critical" | "warning";
}

export interface NodeStatus extends Readonly<Pick<PeerServiceStatusResponse, "configDigest" | "detail" | "leader" | "ready">> {
  /** Upper bound on the number of changes that the node has not received. */
  readonly behind: number;
  readonly ageMs: number;
  /** Undefined without certificates. */
  readonly certificateEndWallMs: number | undefined;
  /** 0 without a policy. */
  readonly policyNumber: number;
  readonly store: StoreStatus;
  /** Most severe first. */
  readonly findings: readonly Finding[];
  readonly evaluatedWallMs: number;
}

export function statusMessage({ certificateEndWallMs: endWallMs, ...status }: NodeStatus, peer: Peer | undefined) {
  return create(PeerServiceStatusResponseSchema, {
    ...status,
    peer,
    behind: BigInt(status.behind),
    age: isKnownAge(status.ageMs) ? durationFromMs(Math.round(status.ageMs)) : undefined,
    certificateExpiresAt: endWallMs === undefined ? undefined : timestampOf(endWallMs),
    policyNumber: BigInt(status.policyNumber),
    store: storeMessage(status.store),
    findings: status.findings.map((finding) => ({ ...finding, severity: FindingSeverity[enumName(finding.severity)] })),
    evaluatedAt: timestampOf(status.evaluatedWallMs),
  });
}
