/** Maintenance overrides between nodes: a call to the node where the entries are registered, and its response (semantics.md, Maintenance). */

import { findKind } from "../catalog/entry/kinds.ts";
import { type EntryKey, type KeyText, keyText } from "../catalog/record/record.ts";
import type { OriginLocation } from "../catalog/replica/origins.ts";
import { type ErrorReason, REASONS } from "../lib/errors.ts";
import type { FabricInput, FabricOutput } from "./io-types.ts";
import { isListed } from "./membership/members.ts";
import type { FabricHandlers, FabricNews, FabricPart } from "./part.ts";
import type { MaintainRequest, MemberUpdate, NodeRef } from "./wire/messages.ts";

/** Timeout for the other node's response. It is longer than a journal write and shorter than the time for which callers wait. */
const MAINTAIN_TIMEOUT_MS = 5000;

export interface MaintenanceCallsParts {
  readonly self: () => NodeRef & OriginLocation;
  readonly find: (nodeId: string) => MemberUpdate | undefined;
}

/** Sends maintenance overrides to other nodes and receives theirs. Its call numbers are negative, because the numbers of membership calls are positive. */
export class MaintenanceCalls implements FabricPart {
  readonly #parts: MaintenanceCallsParts;

  readonly handle: FabricHandlers = {
    maintain: (input, _, out) => this.ask(input, out),
    called: ({ call, request }, _, out) => {
      if (request.kind === "maintain") this.asked(call, request, out);
    },
    replied: (replied, _, out) => {
      if (replied.call < 0) this.answered(replied, out);
    },
  };

  constructor(parts: MaintenanceCallsParts) {
    this.#parts = parts;
  }

  /** Sends an override. `maintained` follows with the same `order` number, which must be new and above 0. */
  ask({ order, nodeId, maintain }: Extract<FabricInput, { kind: "maintain" }>, out: FabricOutput[]): void {
    const member = this.#parts.find(nodeId);
    if (member === undefined || !isListed(member.status)) {
      out.push({ kind: "maintained", order, maintained: { response: undefined } });
      return;
    }
    const request = { kind: "maintain", from: this.#parts.self(), targetNodeId: nodeId, ...maintain } as const;
    out.push({ kind: "call", call: -order, to: member.address, request, timeoutMs: MAINTAIN_TIMEOUT_MS });
  }

  answered({ call, response, refusal }: Omit<Extract<FabricNews, { kind: "replied" }>, "kind">, out: FabricOutput[]): void {
    const answer = response?.kind === "maintain" ? response : undefined;
    out.push({ kind: "maintained", order: -call, maintained: { response: answer, ...(refusal !== undefined && { refusal }) } });
  }

  /** Handles an override that another node sent. Only nodes of this cluster may send one. */
  asked(call: number, request: MaintainRequest, out: FabricOutput[]): void {
    const { nodeId, clusterId } = this.#parts.self();
    const from = request.from.clusterId;
    const isMeant = request.targetNodeId === nodeId;
    if (isMeant && from === clusterId) {
      out.push({ kind: "ordered", call, request });
      return;
    }
    const why = isMeant
      ? `permission denied: node ${nodeId} of cluster ${clusterId} rejects maintenance overrides from cluster ${from}`
      : `wrong target node "${request.targetNodeId}": this is node ${nodeId}`;
    out.push({ kind: "answer", call, response: undefined, why });
  }
}

/** Returns the keys of an override as texts. Undefined when a key has an unknown kind or no cluster id. */
export function keysOf({ keys }: Pick<MaintainRequest, "keys">): readonly KeyText[] | undefined {
  const known = keys.filter((key) => findKind(key.kind) !== undefined && key.clusterId !== "");
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- `findKind` checked the kind
  return known.length === keys.length ? known.map((key) => keyText(key as EntryKey)) : undefined;
}

/** Maps a reason that another node sent to a reason that this version knows. Newer versions may use more reasons. */
export function reasonOf(word: string): ErrorReason {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- `hasOwn` checked it
  return Object.hasOwn(REASONS, word) ? (word as ErrorReason) : "internal";
}
