/** Between bytes and the calls of membership: probes and exchanges of tables; the shape of every field is checked here, by `validation.ts`. */

import type { MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs, durationMs } from "@bufbuild/protobuf/wkt";
import {
  type LostOrigin as LostMessage,
  type MemberUpdate as MemberMessage,
  type MemberUpdateSchema,
  ProbeIndirectRequestSchema,
  ProbeIndirectResponseSchema,
  ProbeRequestSchema,
  ProbeResponseSchema,
  PushPullRequestSchema,
  PushPullResponseSchema,
} from "../../../gen/waymark/fabric/v1/fabric_pb.js";
import { MAX_LOST } from "../../catalog/replica/lost-origins.ts";
import { invalid } from "../../lib/errors.ts";
import { bytesOf, heldStartOf, originInit, parseList, refOf, speakerInit, speakerOf, startOf } from "./codec-parts.ts";
import { type CallRequest, type CallResponse, type LostWord, MEMBER_STATUSES, type MemberStatus, type MemberUpdate } from "./messages.ts";
import {
  addressField,
  checkCount,
  detailField,
  healthScoreField,
  idField,
  idsField,
  labelsField,
  MESSAGE_BOUNDS,
  type MessageBounds,
  numberField,
  optionalIdField,
  placeFields,
  versionsField,
} from "./validation.ts";

type CallKind = CallRequest["kind"];

/** What a caller asks. Throws `invalid_argument` naming the field. */
export function decodeCallRequest(kind: CallKind, bytes: Uint8Array, bounds: MessageBounds = MESSAGE_BOUNDS): CallRequest {
  switch (kind) {
    case "probe": {
      const probe = parseList(ProbeRequestSchema, bytes, { field: 2, max: bounds.maxUpdates });
      const targetNodeId = optionalIdField(probe.targetNodeId, "target_node_id", bounds);
      return { kind, from: speakerOf(probe.origin, "origin", bounds), targetNodeId, updates: membersOf(probe.updates, bounds) };
    }
    case "probeIndirect": {
      const probe = parseList(ProbeIndirectRequestSchema, bytes, { field: 5, max: bounds.maxUpdates });
      const timeoutMs = probe.timeout === undefined ? 0 : durationMs(probe.timeout);
      if (!(timeoutMs > 0 && timeoutMs <= bounds.maxTimeoutMs))
        throw invalid("timeout", `must be more than 0 and at most ${bounds.maxTimeoutMs} ms`);
      return {
        kind,
        from: speakerOf(probe.origin, "origin", bounds),
        targetNodeId: idField(probe.targetNodeId, "target_node_id", bounds),
        targetAddress: addressField(probe.targetAddress, "target_address", bounds),
        timeoutMs,
        updates: membersOf(probe.updates, bounds),
      };
    }
    case "pushPull": {
      const table = parseList(PushPullRequestSchema, bytes, { field: 1, max: bounds.maxMembers });
      const request = {
        kind,
        from: speakerOf(table.origin, "origin", bounds),
        isJoin: table.join,
        members: membersOf(table.members, bounds),
      };
      return {
        ...request,
        ...(table.digest !== 0n && { digest: table.digest }),
        ...lostOf(table.lost, bounds),
        ...(table.takesLostKeys && { takesLostKeys: true }),
      };
    }
  }
}

/** What was answered to a request of that kind. Throws `invalid_argument` naming the field. */
export function decodeCallResponse(kind: CallKind, bytes: Uint8Array, bounds: MessageBounds = MESSAGE_BOUNDS): CallResponse {
  switch (kind) {
    case "probe": {
      const answer = parseList(ProbeResponseSchema, bytes, { field: 2, max: bounds.maxUpdates });
      const wallMs = numberField(answer.wallMs, "wall_ms");
      const said = { kind, from: speakerOf(answer.origin, "origin", bounds), updates: membersOf(answer.updates, bounds) } as const;
      return { ...said, ...(wallMs !== 0 && { wallMs }), ...heldStartOf(answer, bounds) };
    }
    case "probeIndirect": {
      const answer = parseList(ProbeIndirectResponseSchema, bytes, { field: 2, max: bounds.maxUpdates });
      return { kind, isAcknowledged: answer.acknowledged, updates: membersOf(answer.updates, bounds) };
    }
    case "pushPull": {
      const table = parseList(PushPullResponseSchema, bytes, { field: 1, max: bounds.maxMembers });
      const response = { kind, from: speakerOf(table.origin, "origin", bounds), members: membersOf(table.members, bounds) };
      const ownUpdateRefused = detailField(table.ownUpdateRefused, bounds);
      const refused = ownUpdateRefused !== "" && { ownUpdateRefused };
      return { ...response, ...refused, ...lostOf(table.lost, bounds), ...heldStartOf(table, bounds) };
    }
  }
}

export function encodeCallRequest(request: CallRequest): Uint8Array {
  const { origin } = speakerInit(request.from);
  switch (request.kind) {
    case "probe":
      return bytesOf(ProbeRequestSchema, { origin, targetNodeId: request.targetNodeId, updates: request.updates.map(memberInit) });
    case "probeIndirect": {
      const { targetNodeId, targetAddress, timeoutMs, updates } = request;
      const timeout = durationFromMs(timeoutMs);
      return bytesOf(ProbeIndirectRequestSchema, { origin, targetNodeId, targetAddress, timeout, updates: updates.map(memberInit) });
    }
    case "pushPull": {
      const { isJoin: join, members, digest = 0n, lost = [], takesLostKeys = false } = request;
      const words = { members: members.map(memberInit), digest, lost: lost.map(lostInit), takesLostKeys };
      return bytesOf(PushPullRequestSchema, { origin, join, ...words });
    }
  }
}

export function encodeCallResponse(response: CallResponse): Uint8Array {
  switch (response.kind) {
    case "probe":
      return bytesOf(ProbeResponseSchema, {
        ...speakerInit(response.from),
        updates: response.updates.map(memberInit),
        wallMs: BigInt(Math.max(0, Math.floor(response.wallMs ?? 0))),
        ...(response.heldStart !== undefined && { heldStart: response.heldStart }),
      });
    case "probeIndirect":
      return bytesOf(ProbeIndirectResponseSchema, { acknowledged: response.isAcknowledged, updates: response.updates.map(memberInit) });
    case "pushPull":
      return bytesOf(PushPullResponseSchema, {
        ...speakerInit(response.from),
        members: response.members.map(memberInit),
        ownUpdateRefused: response.ownUpdateRefused ?? "",
        lost: (response.lost ?? []).map(lostInit),
        ...(response.heldStart !== undefined && { heldStart: response.heldStart }),
      });
  }
}

function lostInit({ through, mark, keysThrough = 0, keys, ...ref }: LostWord) {
  const said = { through: BigInt(through), mark: BigInt(mark), keysThrough: BigInt(keysThrough) };
  return { ...originInit(ref), ...said, ...(keys !== undefined && { keys }) };
}

function lostOf(words: readonly LostMessage[], bounds: MessageBounds): { readonly lost?: readonly LostWord[] } {
  checkCount(words.length, "lost", MAX_LOST);
  if (words.length === 0) return {};
  const lost = words.map(({ origin, through, mark, keysThrough, keys }) => ({
    ...refOf(origin, "lost.origin", bounds),
    through: numberField(through, "lost.through"),
    mark: numberField(mark, "lost.mark"),
    ...(keysThrough > 0n && { keysThrough: numberField(keysThrough, "lost.keys_through") }),
    ...(keys !== undefined && { keys }),
  }));
  return { lost };
}

function memberOf(update: MemberMessage, status: MemberStatus, bounds: MessageBounds): MemberUpdate {
  return {
    nodeId: idField(update.nodeId, "updates.node_id", bounds),
    generation: numberField(update.generation, "updates.generation"),
    status,
    incarnation: numberField(update.incarnation, "updates.incarnation"),
    ...placeFields(update, "updates", bounds),
    protocolVersions: versionsField(update.protocolVersions, "updates.protocol_versions", bounds),
    transports: idsField(update.transports, "updates.transports", bounds),
    roles: idsField(update.roles, "updates.roles", bounds),
    labels: labelsField(update.labels, "updates.labels", bounds),
    healthScore: healthScoreField(update.healthScore),
    accuser: optionalIdField(update.accuser, "updates.accuser", bounds),
    ...(update.keepsEntries && { keepsEntries: true }),
    ...startOf(update, "updates", bounds),
  };
}

function membersOf(updates: readonly MemberMessage[], bounds: MessageBounds): readonly MemberUpdate[] {
  return updates.flatMap((update) => {
    const status = MEMBER_STATUSES.find((word) => word === update.status);
    // A newer version's word, or nonsense: we can do nothing with what it says of this one member.
    return status === undefined ? [] : [memberOf(update, status, bounds)];
  });
}

function memberInit(update: MemberUpdate): MessageInitShape<typeof MemberUpdateSchema> {
  const { generation, incarnation, protocolVersions, transports, roles, labels, ...plain } = update;
  return {
    ...plain,
    generation: BigInt(generation),
    incarnation: BigInt(incarnation),
    protocolVersions: [...protocolVersions],
    transports: [...transports],
    roles: [...roles],
    labels: { ...labels },
  };
}
