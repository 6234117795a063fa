/** Membership calls to other nodes. Updates are piggybacked on the calls and on their responses. */
import type { Time } from "../../lib/machine.ts";
import type { CallId } from "../io-types.ts";
import type { FabricCallRequest, FabricCallResponse, MemberUpdate } from "../wire/messages.ts";
import { retransmitLimit } from "./broadcast-queue.ts";
import type { Member } from "./members.ts";
import type { MembershipOptions } from "./options.ts";
import type { ProbeRound } from "./probe-round.ts";
import type { MembershipOutput } from "./process-instances.ts";
import type { MembershipState } from "./state.ts";
import type { UpdateSource } from "./update-authority.ts";
import type { UpdateRefusal } from "./update-rules.ts";

/** Number of completed calls since the start. */
export interface TrafficCounts {
  /** Calls from this node. */
  answered: number;
  failed: number;
  /** Calls from other nodes. */
  taken: number;
  refused: number;
}

/** The purpose of a membership call. */
export type CallPurpose =
  | { readonly kind: "direct" | "indirect"; readonly round: ProbeRound; readonly helper: Member }
  | { readonly kind: "gossip"; readonly nodeId: string }
  /** Checks whether a newcomer that is waiting because of a conflict answers at its address. */
  | { readonly kind: "check"; readonly nodeId: string }
  | { readonly kind: "relay"; readonly asked: CallId; readonly nodeId: string }
  | { readonly kind: "pushPull"; readonly address: string; readonly isJoin: boolean; readonly step: TableStep };

/**
 * `whole`: the full table is sent to a seed or to a member that was lost. `digest`: a listed member is asked whether its table is the same. `rest`:
 * the tables differ, and the member receives the updates that it did not send itself.
 */
export type TableStep = "whole" | "digest" | "rest";

/** Returns the target of a probe. Undefined for other calls. */
export function askedNode(purpose: CallPurpose): string | undefined {
  switch (purpose.kind) {
    case "direct":
      return purpose.round.target.update.nodeId;
    case "gossip":
    case "check":
    case "relay":
      return purpose.nodeId;
    case "indirect":
    case "pushPull":
      return undefined;
  }
}

export interface PendingMemberCall {
  readonly purpose: CallPurpose;
  readonly sentMonoMs: number;
}

export class MemberCalls {
  readonly state: MembershipState;
  readonly traffic: TrafficCounts = { answered: 0, failed: 0, taken: 0, refused: 0 };
  readonly #options: MembershipOptions;
  // The size is limited by the callers, that is, by probe rounds, fanout times timeout, relays, and push-pulls.
  readonly #pending = new Map<CallId, PendingMemberCall>();
  #nextCall = 1;

  constructor(state: MembershipState, options: MembershipOptions) {
    this.state = state;
    this.#options = options;
  }

  call(purpose: CallPurpose, to: string, request: FabricCallRequest, timeoutMs: number, time: Time, out: MembershipOutput[]): void {
    const call = this.#nextCall++;
    this.#pending.set(call, { purpose, sentMonoMs: time.monoMs });
    out.push({ kind: "call", call, to, request, timeoutMs });
  }

  /** Returns the purpose of an answered call. Undefined when the call is unknown or has been answered before. */
  finish(call: CallId, response: FabricCallResponse | undefined): PendingMemberCall | undefined {
    const pending = this.#pending.get(call);
    if (pending === undefined) return undefined;
    this.#pending.delete(call);
    if (response === undefined) this.traffic.failed += 1;
    else this.traffic.answered += 1;
    return pending;
  }

  probe(purpose: CallPurpose, target: MemberUpdate, timeoutMs: number, time: Time, out: MembershipOutput[]): void {
    // Lifeguard's buddy system (§IV-C): the update that suspects the target is sent first.
    const updates = this.take(this.suspicionOf(target.nodeId));
    this.call(
      purpose,
      target.address,
      { kind: "probe", from: this.state.self.ref, targetNodeId: target.nodeId, updates },
      timeoutMs,
      time,
      out,
    );
  }

  /** Returns the update about a member that this node does not consider alive. It is sent to the member first, so that the member can refute it. */
  suspicionOf(nodeId: string): MemberUpdate | undefined {
    const update = this.state.members.find(nodeId)?.update;
    return update === undefined || update.status === "alive" ? undefined : update;
  }

  /** Returns updates for a response to a caller that sent these updates. */
  reply(received: readonly MemberUpdate[], first?: MemberUpdate): readonly MemberUpdate[] {
    return this.state.broadcasts.peek(this.#options.maxUpdatesBytes, received, first);
  }

  /** Returns the response to a probe request. */
  answerTo({ from, updates }: FabricCallRequest & { readonly kind: "probe" }, { wallMs }: Time): FabricCallResponse {
    const { self, instances: boots } = this.state;
    const state = this.reply(updates, this.suspicionOf(from.nodeId));
    return { kind: "probe", from: self.ref, updates: state, wallMs, ...boots.insteadOf(from) };
  }

  /** Returns updates for one message. */
  take(first?: MemberUpdate): readonly MemberUpdate[] {
    const { retransmitMult, maxUpdatesBytes } = this.#options;
    return this.state.broadcasts.take({ maxBytes: maxUpdatesBytes, limit: retransmitLimit(retransmitMult, this.state.count) }, first);
  }

  /**
   * Applies received updates. Returns why the sender's update about itself was refused. Undefined when the update was accepted or when the sender
   * sent none.
   */
  receive(updates: readonly MemberUpdate[], sender: UpdateSource, time: Time, out: MembershipOutput[]): UpdateRefusal | undefined {
    let refusal: UpdateRefusal | undefined;
    const count = Math.min(updates.length, sender.path === "gossip" ? this.#options.maxUpdatesRead : this.#options.maxMembers);
    this.state.refused.tooMany += updates.length - count;
    for (let i = 0; i < count; i++) {
      const update = updates[i];
      if (update === undefined) continue;
      const why = this.state.learn(update, sender, time, out);
      if (update.nodeId === sender.nodeId) refusal = why;
    }
    return refusal;
  }

  /** Applies the updates of a probe response. Returns whether the probed node itself answered. */
  receiveProbe(nodeId: string, response: FabricCallResponse | undefined, time: Time, out: MembershipOutput[]): boolean {
    if (response?.kind !== "probe" || response.from.nodeId !== nodeId) return false;
    this.receive(response.updates, { nodeId, path: "gossip", clusterId: response.from.clusterId }, time, out);
    return true;
  }
}
