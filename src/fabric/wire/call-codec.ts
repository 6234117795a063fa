/** Encodes and decodes the calls between nodes: probes, exchanges of member tables, and maintenance overrides. */
import { CALLS } from "../../../gen/waymark/fabric/v1/fabric_calls.ts";
import type { MemberUpdateFields } from "../../../gen/waymark/fabric/v1/fabric_codec.ts";
import { timeMs, timeOf } from "../../lib/protowire.ts";
import { WORST_SCORE } from "../membership/suspicion.ts";
import { checked, detailField, type FabricCallRequest, type FabricCallResponse, MEMBER_STATUSES, type MemberUpdate } from "./messages.ts";

type CallKind = FabricCallRequest["kind"];

const { maintain, probe, probeIndirect, pushPull } = CALLS;

/** Returns the path of a `FabricService` method. */
export function pathOf(kind: CallKind | "link"): string {
  return CALLS[kind].path;
}

/** Decodes a request. Throws `invalid_argument` with the name of the invalid field. */
export function decodeCallRequest(kind: CallKind, bytes: Uint8Array): FabricCallRequest {
  switch (kind) {
    case "probe":
      return { kind, ...checked(withUpdates(probe.request.decode(bytes)), probe.request.check) };
    case "probeIndirect": {
      const { timeout, ...fields } = checked(withUpdates(probeIndirect.request.decode(bytes)), probeIndirect.request.check);
      return { kind, ...fields, timeoutMs: Math.max(1, timeMs(timeout)) };
    }
    case "pushPull":
      return { kind, ...checked(withMembers(pushPull.request.decode(bytes)), pushPull.request.check) };
    case "maintain":
      return { kind, ...checked(maintain.request.decode(bytes), maintain.request.check) };
  }
}

/** Decodes the response to a request of the given kind. Throws `invalid_argument` with the name of the invalid field. */
export function decodeCallResponse(kind: CallKind, bytes: Uint8Array): FabricCallResponse {
  switch (kind) {
    case "probe":
      return { kind, ...checked(withUpdates(probe.response.decode(bytes)), probe.response.check) };
    case "probeIndirect":
      return { kind, ...checked(withUpdates(probeIndirect.response.decode(bytes)), probeIndirect.response.check) };
    case "pushPull": {
      const { ownUpdateRefused, ...table } = checked(withMembers(pushPull.response.decode(bytes)), pushPull.response.check);
      return { kind, ...table, ...(ownUpdateRefused !== undefined && { ownUpdateRefused: detailField(ownUpdateRefused) }) };
    }
    case "maintain": {
      const { refusals, ...fields } = checked(maintain.response.decode(bytes), maintain.response.check);
      return { kind, ...fields, refusals: refusals.map((refusal) => ({ ...refusal, detail: detailField(refusal.detail) })) };
    }
  }
}

export function encodeCallRequest(request: FabricCallRequest): Uint8Array {
  switch (request.kind) {
    case "probe":
      return probe.request.encode(request);
    case "probeIndirect":
      return probeIndirect.request.encode({ ...request, timeout: timeOf(request.timeoutMs) });
    case "pushPull":
      return pushPull.request.encode(request);
    case "maintain":
      return maintain.request.encode(request);
  }
}

export function encodeCallResponse(response: FabricCallResponse): Uint8Array {
  switch (response.kind) {
    case "probe":
      return probe.response.encode({ ...response, wallMs: Math.max(0, Math.floor(response.wallMs ?? 0)) });
    case "probeIndirect":
      return probeIndirect.response.encode(response);
    case "pushPull":
      return pushPull.response.encode(response);
    case "maintain":
      return maintain.response.encode(response);
  }
}

function withUpdates<Message extends { readonly updates: readonly MemberUpdateFields[] }>(message: Message) {
  return { ...message, updates: knownOf(message.updates) };
}

function withMembers<Message extends { readonly members: readonly MemberUpdateFields[] }>(message: Message) {
  return { ...message, members: knownOf(message.members) };
}

/** Drops updates with an unknown status, which is either newer or invalid, because no other field of an update can be used without the status. */
function knownOf(updates: readonly MemberUpdateFields[]): readonly MemberUpdate[] {
  return updates.flatMap((update) => {
    const status = MEMBER_STATUSES.find((word) => word === update.status);
    // A newer version may have higher scores. They are treated as the worst score that this version knows.
    return status === undefined ? [] : [{ ...update, status, healthScore: Math.min(update.healthScore, WORST_SCORE) }];
  });
}
