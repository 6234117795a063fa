/** Between bytes and the calls of membership: probes and exchanges of tables. */
import {
  decodeProbeIndirectRequest,
  decodeProbeIndirectResponse,
  decodeProbeRequest,
  decodeProbeResponse,
  decodePushPullRequest,
  decodePushPullResponse,
  encodeProbeIndirectRequest,
  encodeProbeIndirectResponse,
  encodeProbeRequest,
  encodeProbeResponse,
  encodePushPullRequest,
  encodePushPullResponse,
  type MemberUpdateFields,
} from "../../../gen/waymark/fabric/v1/fabric_codec.ts";
import {
  checkProbeIndirectRequest,
  checkProbeIndirectResponse,
  checkProbeRequest,
  checkProbeResponse,
  checkPushPullRequest,
  checkPushPullResponse,
} from "../../../gen/waymark/fabric/v1/fabric_rules.ts";
import { timeMs, timeOf } from "../../lib/protowire.ts";
import { WORST_SCORE } from "../membership/suspicion.ts";
import { type CallRequest, type CallResponse, MEMBER_STATUSES, type MemberUpdate } from "./messages.ts";
import { checked, detailField } from "./validation.ts";

type CallKind = CallRequest["kind"];

/** What a caller asks. Throws `invalid_argument` naming the field. */
export function decodeCallRequest(kind: CallKind, bytes: Uint8Array): CallRequest {
  switch (kind) {
    case "probe":
      return { kind, ...checked(withUpdates(decodeProbeRequest(bytes)), checkProbeRequest) };
    case "probeIndirect": {
      const { timeout, ...probe } = checked(withUpdates(decodeProbeIndirectRequest(bytes)), checkProbeIndirectRequest);
      return { kind, ...probe, timeoutMs: Math.max(1, timeMs(timeout)) };
    }
    case "pushPull":
      return { kind, ...checked(withMembers(decodePushPullRequest(bytes)), checkPushPullRequest) };
  }
}

/** What was answered to a request of that kind. Throws `invalid_argument` naming the field. */
export function decodeCallResponse(kind: CallKind, bytes: Uint8Array): CallResponse {
  switch (kind) {
    case "probe":
      return { kind, ...checked(withUpdates(decodeProbeResponse(bytes)), checkProbeResponse) };
    case "probeIndirect":
      return { kind, ...checked(withUpdates(decodeProbeIndirectResponse(bytes)), checkProbeIndirectResponse) };
    case "pushPull": {
      const { ownUpdateRefused, ...table } = checked(withMembers(decodePushPullResponse(bytes)), checkPushPullResponse);
      return { kind, ...table, ...(ownUpdateRefused !== undefined && { ownUpdateRefused: detailField(ownUpdateRefused) }) };
    }
  }
}

export function encodeCallRequest(request: CallRequest): Uint8Array {
  switch (request.kind) {
    case "probe":
      return encodeProbeRequest(request);
    case "probeIndirect":
      return encodeProbeIndirectRequest({ ...request, timeout: timeOf(request.timeoutMs) });
    case "pushPull":
      return encodePushPullRequest(request);
  }
}

export function encodeCallResponse(response: CallResponse): Uint8Array {
  switch (response.kind) {
    case "probe":
      return encodeProbeResponse({ ...response, wallMs: Math.max(0, Math.floor(response.wallMs ?? 0)) });
    case "probeIndirect":
      return encodeProbeIndirectResponse(response);
    case "pushPull":
      return encodePushPullResponse(response);
  }
}

function withUpdates<Message extends { readonly updates: readonly MemberUpdateFields[] }>(message: Message) {
  return { ...message, updates: knownOf(message.updates) };
}

function withMembers<Message extends { readonly members: readonly MemberUpdateFields[] }>(message: Message) {
  return { ...message, members: knownOf(message.members) };
}

/** With a newer version's status, or nonsense, nothing can be done with what is said of that one member; whatever else it says. */
function knownOf(updates: readonly MemberUpdateFields[]): readonly MemberUpdate[] {
  return updates.flatMap((update) => {
    const status = MEMBER_STATUSES.find((word) => word === update.status);
    // A version whose score counts further is at our worst.
    return status === undefined ? [] : [{ ...update, status, healthScore: Math.min(update.healthScore, WORST_SCORE) }];
  });
}
