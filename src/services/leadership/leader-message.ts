/** Encodes the record of a leader, its fence and the state of the control store as messages of the contract. */
import { create } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { FenceSchema } from "../../../gen/waymark/control/v1/fence_pb.js";
import { type Leader, LeaderSchema, LeaderScopeKind, StoreKind, StoreStatusSchema } from "../../../gen/waymark/control/v1/leadership_pb.js";
import type { LeaderRecord } from "../../control/leadership/records.ts";
import { scopeOf } from "../../control/leadership/scope.ts";
import { enumName } from "../../lib/enum-words.ts";
import type { FenceToken } from "../../lib/fence.ts";
import { timestampOf } from "../contract.ts";
import type { StoreStatus } from "./source.ts";

const UNREADABLE = "the record in the control store cannot be read, so the scope counts as held";

/** The leader of a scope, or its last leader. The record is undefined if it cannot be read. */
export function leaderMessage(scope: string, record: LeaderRecord | undefined): Leader {
  const kind = scopeOf(scope)?.kind;
  const named = { scope, kind: kind === undefined ? LeaderScopeKind.UNSPECIFIED : LeaderScopeKind[enumName(kind)] };
  if (record === undefined) return create(LeaderSchema, { ...named, reason: UNREADABLE });
  const { holderId, nodeId, term, fence, issuedWallMs, reason, correlationId, resign = "" } = record;
  return create(LeaderSchema, {
    ...named,
    holderId,
    nodeId,
    term: BigInt(term),
    fence: fenceOf(fence),
    issuedAt: timestampOf(issuedWallMs),
    reason,
    correlationId,
    resignReason: resign,
  });
}

export function fenceOf({ failoverVersion, storeEpoch, number }: FenceToken) {
  return create(FenceSchema, { failoverVersion: BigInt(failoverVersion), storeEpoch: BigInt(storeEpoch), number: BigInt(number) });
}

export function storeMessage({ kind, id, epoch, revision, ageMs, fault }: StoreStatus) {
  return create(StoreStatusSchema, {
    kind: StoreKind[enumName(kind)],
    id,
    epoch: BigInt(epoch),
    revision: BigInt(revision),
    age: durationFromMs(Math.round(ageMs)),
    fault,
  });
}
