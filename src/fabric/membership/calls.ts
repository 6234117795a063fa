/** Calls to other nodes with news riding along, and what comes back with them. */
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

/** Calls that ended, since the start. */
export interface TrafficCounts {
  /** Own ones. */
  answered: number;
  failed: number;
  /** Others'. */
  taken: number;
  refused: number;
}

/** What a call of membership's own was for. */
export type CallPurpose =
  | { readonly kind: "direct" | "indirect"; readonly round: ProbeRound; readonly helper: Member }
  | { readonly kind: "gossip"; readonly nodeId: string }
  /** Does a newcomer that waits in a conflict answer at its address? */
  | { readonly kind: "check"; readonly nodeId: string }
  | { readonly kind: "relay"; readonly asked: CallId; readonly nodeId: string }
  | { readonly kind: "pushPull"; readonly address: string; readonly isJoin: boolean; readonly step: TableStep };

/**
 * `whole`: the table goes to a seed or to somebody lost. `digest`: a listed member, in its turn, is asked whether it holds the
 * same. `rest`: it does not, and gets what it did not say.
 */
export type TableStep = "whole" | "digest" | "rest";

/** Whom a probe was for; undefined of other calls. */
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
  // Bounded by those who call: rounds, fanout times timeout, relays, exchanges.
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

  /** What the answered call was for; undefined when it is none of ours, or was answered before. */
  finish(call: CallId, response: FabricCallResponse | undefined): PendingMemberCall | undefined {
    const pending = this.#pending.get(call);
    if (pending === undefined) return undefined;
    this.#pending.delete(call);
    if (response === undefined) this.traffic.failed += 1;
    else this.traffic.answered += 1;
    return pending;
  }

  probe(purpose: CallPurpose, target: MemberUpdate, timeoutMs: number, time: Time, out: MembershipOutput[]): void {
    // The buddy system (Lifeguard §IV-C): a suspect hears of it first of all.
    const updates = this.take(this.wrongAbout(target.nodeId));
    this.call(
      purpose,
      target.address,
      { kind: "probe", from: this.state.self.ref, targetNodeId: target.nodeId, updates },
      timeoutMs,
      time,
      out,
    );
  }

  /** What is held of a member that is not alive in our table: told to it first, it can contradict. */
  wrongAbout(nodeId: string): MemberUpdate | undefined {
    const update = this.state.members.find(nodeId)?.update;
    return update === undefined || update.status === "alive" ? undefined : update;
  }

  /** News for a response to somebody who said this. */
  reply(said: readonly MemberUpdate[], first?: MemberUpdate): readonly MemberUpdate[] {
    return this.state.broadcasts.peek(this.#options.maxUpdatesBytes, said, first);
  }

  /** What a probe is answered. */
  answerTo({ from, updates }: FabricCallRequest & { readonly kind: "probe" }, { wallMs }: Time): FabricCallResponse {
    const { self, instances: boots } = this.state;
    const state = this.reply(updates, this.wrongAbout(from.nodeId));
    return { kind: "probe", from: self.ref, updates: state, wallMs, ...boots.insteadOf(from) };
  }

  /** News for one message. */
  take(first?: MemberUpdate): readonly MemberUpdate[] {
    const { retransmitMult, maxUpdatesBytes } = this.#options;
    return this.state.broadcasts.take({ maxBytes: maxUpdatesBytes, limit: retransmitLimit(retransmitMult, this.state.count) }, first);
  }

  /** Returns why what the teller said of itself was refused; undefined when it was taken, or when it said nothing of itself. */
  hear(updates: readonly MemberUpdate[], updateSource: UpdateSource, time: Time, out: MembershipOutput[]): UpdateRefusal | undefined {
    let refusal: UpdateRefusal | undefined;
    const count = Math.min(updates.length, updateSource.path === "gossip" ? this.#options.maxUpdatesRead : this.#options.maxMembers);
    this.state.refused.tooMany += updates.length - count;
    for (let i = 0; i < count; i++) {
      const update = updates[i];
      if (update === undefined) continue;
      const why = this.state.learn(update, updateSource, time, out);
      if (update.nodeId === updateSource.nodeId) refusal = why;
    }
    return refusal;
  }

  /** Whether the one who was meant answered. */
  hearProbe(nodeId: string, response: FabricCallResponse | undefined, time: Time, out: MembershipOutput[]): boolean {
    if (response?.kind !== "probe" || response.from.nodeId !== nodeId) return false;
    this.hear(response.updates, { nodeId, path: "gossip", clusterId: response.from.clusterId }, time, out);
    return true;
  }
}
