/** Probing: one member in each period and the doubted at once, directly and then by way of others (SWIM §3, Lifeguard §IV). */
import { NEVER, type Time } from "../../lib/machine.ts";
import type { Rng } from "../../lib/rng.ts";
import type { CallId } from "../io-types.ts";
import type { FabricCallRequest, FabricCallResponse } from "../wire/messages.ts";
import { MESSAGE_BOUNDS } from "../wire/messages.ts";
import type { MemberCalls, PendingMemberCall } from "./calls.ts";
import { isListed, type Member } from "./members.ts";
import type { MembershipOptions } from "./options.ts";
import { missedNacks, newRound, ProbeOrder, type ProbeRound } from "./probe-round.ts";
import type { MembershipOutput } from "./process-instances.ts";
import type { MembershipState } from "./state.ts";

/** Rounds beside the turn's own, started by doubts. */
const MAX_EXTRA_ROUNDS = 8;
/** A helper must say no before the asker's patience ends. */
const NACK_SHARE = 0.7;
/** Weight of a new round trip in the smoothed one, as TCP's. */
const RTT_SHARE = 1 / 8;

export class FailureDetector {
  readonly #options: MembershipOptions;
  readonly #rng: Rng;
  readonly #memberCalls: MemberCalls;
  readonly #state: MembershipState;
  readonly #ownTurns: ProbeOrder;
  readonly #otherTurns: ProbeOrder;
  /** Wall clock less monotonic clock at the begin: periods are counted from what all nodes share, and no later change of the clock turns them back. */
  #offsetMs = 0;
  #rounds: ProbeRound[] = [];
  #relayCount = 0;
  #turnAtMs = NEVER;

  constructor(memberCalls: MemberCalls, rng: Rng, options: MembershipOptions) {
    this.#options = options;
    this.#rng = rng;
    this.#memberCalls = memberCalls;
    this.#state = memberCalls.state;
    this.#ownTurns = new ProbeOrder(this.#state.self.ref.nodeId);
    this.#otherTurns = new ProbeOrder(this.#state.self.ref.nodeId);
  }

  begin(time: Time): void {
    this.#offsetMs = time.wallMs - time.monoMs;
    // Nodes started together do not probe together.
    this.#turnAtMs = time.monoMs + this.#rng.next() * this.#options.intervalMs;
  }

  /** No more probes of its own. */
  end(): void {
    this.forgetRounds();
    this.#turnAtMs = NEVER;
  }

  /** Without a verdict. */
  forgetRounds(): void {
    for (const round of this.#rounds) round.isOver = true;
    this.#rounds = [];
  }

  nextDeadlineMs(): number {
    let next = this.#turnAtMs;
    for (const round of this.#rounds) next = Math.min(next, round.endsMonoMs);
    return next;
  }

  tick(time: Time, out: MembershipOutput[]): void {
    for (let i = this.#rounds.length - 1; i >= 0; i--) {
      const round = this.#rounds[i];
      if (round !== undefined && time.monoMs >= round.endsMonoMs) this.#fail(round, time, out);
    }
    if (time.monoMs < this.#turnAtMs) return;
    const periodMs = this.#state.health.scaleMs(this.#options.intervalMs);
    this.#turnAtMs = time.monoMs + periodMs;
    const target = this.#nextInTurn(time, periodMs);
    if (target !== undefined) this.#start(target, time, out);
  }

  /** Our own cluster has its share of the turns: who makes up nodes of another one does not keep us from finding out who is dead here. */
  #nextInTurn({ monoMs }: Time, periodMs: number): Member | undefined {
    const { ownShare, ours, others } = this.#state.members;
    const period = Math.floor((this.#offsetMs + monoMs) / periodMs);
    // How many of the periods so far were for our own; this one is where the next makes it one more.
    const ownCount = Math.floor(period * ownShare);
    return Math.floor((period + 1) * ownShare) > ownCount
      ? this.#ownTurns.at(ownCount, ours)
      : this.#otherTurns.at(period - ownCount, others);
  }

  /** Probes the members that were reported as suspect, and the newcomers that wait in a conflict. */
  settle(time: Time, out: MembershipOutput[]): void {
    const { doubted, self } = this.#state;
    if (doubted.length > 0) {
      for (const member of doubted.splice(0)) {
        const isUnderWay = this.#rounds.some((round) => round.target === member);
        if (isUnderWay || self.isLeft || this.#rounds.length > MAX_EXTRA_ROUNDS || !isListed(member.update.status)) continue;
        this.#start(member, time, out);
      }
    }
    for (const { update, reason } of this.#state.checks(time)) {
      const older = this.#state.members.find(update.nodeId);
      if (reason !== "address" && older !== undefined) {
        this.#state.doubted.push(older);
        continue;
      }
      this.#memberCalls.probe({ kind: "check", nodeId: update.nodeId }, update, this.#options.pingTimeoutMs, time, out);
    }
  }

  directAnswered(
    round: ProbeRound,
    pending: PendingMemberCall,
    response: FabricCallResponse | undefined,
    time: Time,
    out: MembershipOutput[],
  ): void {
    const { target } = round;
    if (this.#memberCalls.hearProbe(target.update.nodeId, response, time, out)) {
      const rttMs = time.monoMs - pending.sentMonoMs;
      target.rttMs = target.rttMs === undefined ? rttMs : target.rttMs + (rttMs - target.rttMs) * RTT_SHARE;
      target.isInReach = true;
      if (response?.kind === "probe") this.#state.stillThere(target, response.from, time, out);
      this.#endWell(round);
      return;
    }
    target.isInReach = false;
    if (round.isOver) return;
    round.failCount += 1;
    if (round.helpers === undefined) this.#askHelpers(round, time, out);
    else this.#judge(round, time, out);
  }

  #askHelpers(round: ProbeRound, time: Time, out: MembershipOutput[]): void {
    const { target } = round;
    const helpers = this.#helpersFor(target);
    round.helpers = helpers.map((helper) => helper.update.nodeId);
    const leftMs = Math.max(1, round.endsMonoMs - time.monoMs);
    const wantedMs = Math.min(leftMs * NACK_SHARE, this.#state.health.scaleMs(this.#options.pingTimeoutMs));
    // A helper refuses to be made to wait for longer, whatever this node's settings are.
    const timeoutMs = Math.min(Math.ceil(wantedMs), MESSAGE_BOUNDS.maxTimeoutMs);
    // Once more directly, as memberlist does by another transport: one lost message among friends is not worth a suspicion.
    this.#memberCalls.probe({ kind: "direct", round, helper: target }, target.update, timeoutMs, time, out);
    for (const helper of helpers) {
      const request = {
        kind: "probeIndirect",
        from: this.#state.self.ref,
        targetNodeId: target.update.nodeId,
        targetAddress: target.update.address,
        timeoutMs,
        updates: this.#memberCalls.take(),
      } as const;
      this.#memberCalls.call({ kind: "indirect", round, helper }, helper.update.address, request, leftMs, time, out);
    }
  }

  /** Others to ask; rather those that this node can reach: where not everybody reaches everybody, the rest cannot be asked at all. */
  #helpersFor(target: Member): readonly Member[] {
    const { indirectCount } = this.#options;
    const { members } = this.#state;
    const inReach = members.listed.filter((member) => member.isInReach === true && member !== target);
    const helpers: Member[] = [];
    while (helpers.length < indirectCount && inReach.length > 0) helpers.push(...inReach.splice(this.#rng.int(inReach.length), 1));
    for (const member of members.pick(this.#rng, indirectCount, target)) {
      if (helpers.length < indirectCount && !helpers.includes(member)) helpers.push(member);
    }
    return helpers;
  }

  /** There is a link to it. */
  met(nodeId: string): void {
    const member = this.#state.members.find(nodeId);
    if (member !== undefined) member.isInReach = true;
  }

  indirectAnswered(round: ProbeRound, helper: Member, response: FabricCallResponse | undefined, time: Time, out: MembershipOutput[]): void {
    helper.isInReach = response !== undefined;
    if (response?.kind !== "probeIndirect") return;
    const { nodeId, clusterId } = helper.update;
    this.#memberCalls.hear(response.updates, { nodeId, clusterId, path: "gossip" }, time, out);
    if (response.isAcknowledged) {
      this.#endWell(round);
      return;
    }
    round.nackCount += 1;
    this.#judge(round, time, out);
  }

  /** Everybody has said no: nothing is gained by waiting for the end of the period. */
  #judge(round: ProbeRound, time: Time, out: MembershipOutput[]): void {
    const helperCount = round.helpers?.length ?? 0;
    if (round.isOver || round.failCount < 2 || helperCount < 2 || round.nackCount < helperCount) return;
    this.#fail(round, time, out);
  }

  relay(call: CallId, request: FabricCallRequest & { readonly kind: "probeIndirect" }, time: Time, out: MembershipOutput[]): void {
    const target = this.#state.members.find(request.targetNodeId);
    // Only members are probed for others: nobody makes us call an address of his choice.
    if (target === undefined || target.update.address !== request.targetAddress || this.#relayCount >= this.#options.maxRelays) {
      out.push({
        kind: "answer",
        call,
        response: { kind: "probeIndirect", isAcknowledged: false, updates: this.#memberCalls.reply(request.updates) },
      });
      return;
    }
    this.#relayCount += 1;
    const timeoutMs = Math.min(Math.max(1, request.timeoutMs), this.#options.pingTimeoutMs * 10);
    const { update } = target;
    this.#memberCalls.probe({ kind: "relay", asked: call, nodeId: update.nodeId }, update, timeoutMs, time, out);
  }

  relayAnswered(asked: CallId, nodeId: string, response: FabricCallResponse | undefined, time: Time, out: MembershipOutput[]): void {
    this.#relayCount -= 1;
    const isAcknowledged = this.#memberCalls.hearProbe(nodeId, response, time, out);
    out.push({ kind: "answer", call: asked, response: { kind: "probeIndirect", isAcknowledged, updates: this.#memberCalls.reply([]) } });
  }

  #start(target: Member, time: Time, out: MembershipOutput[]): void {
    const round = newRound(target, time.monoMs + this.#state.health.scaleMs(this.#options.intervalMs));
    this.#rounds.push(round);
    const timeoutMs = this.#state.health.scaleMs(this.#options.pingTimeoutMs);
    this.#memberCalls.probe({ kind: "direct", round, helper: target }, target.update, timeoutMs, time, out);
  }

  #endWell(round: ProbeRound): void {
    if (round.isOver) return;
    this.#state.health.improve();
    this.#remove(round);
  }

  #fail(round: ProbeRound, time: Time, out: MembershipOutput[]): void {
    this.#remove(round);
    this.#state.health.worsen(missedNacks(round));
    const via = round.helpers ?? [];
    this.#state.accuse(round.target, via.length > 0 ? "indirect" : "direct", via, time, out);
  }

  #remove(round: ProbeRound): void {
    round.isOver = true;
    const place = this.#rounds.indexOf(round);
    if (place >= 0) this.#rounds.splice(place, 1);
  }
}
