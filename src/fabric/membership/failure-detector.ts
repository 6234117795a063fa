/**
 * Detects failures: probes one member in each period and probes reported suspects immediately. Probes are sent directly at first and then through
 * helpers (SWIM §3, Lifeguard §IV).
 */
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

/** Maximum number of concurrent rounds for suspects, in addition to the period's own round. */
const MAX_EXTRA_ROUNDS = 8;
/** Share of the remaining time within which a helper must send a nack, so that it arrives before the round ends. */
const NACK_SHARE = 0.7;
/** Weight of a new round-trip time in the smoothed value, as in TCP. */
const RTT_SHARE = 1 / 8;

export class FailureDetector {
  readonly #options: MembershipOptions;
  readonly #rng: Rng;
  readonly #memberCalls: MemberCalls;
  readonly #state: MembershipState;
  readonly #ownTurns: ProbeOrder;
  readonly #otherTurns: ProbeOrder;
  /**
   * Wall clock minus monotonic clock at the start. Periods are counted by this time, which all nodes share and which is unaffected by later changes
   * of the wall clock.
   */
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
    // Random offset, so that nodes that were started together do not probe at the same time.
    this.#turnAtMs = time.monoMs + this.#rng.next() * this.#options.intervalMs;
  }

  /** Stops sending probes. */
  end(): void {
    this.forgetRounds();
    this.#turnAtMs = NEVER;
  }

  /** Drops all rounds without evaluating them. */
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
    const target = this.#nextTarget(time, periodMs);
    if (target !== undefined) this.#start(target, time, out);
  }

  /**
   * Returns the next member to probe. Members of this node's own cluster get a fixed share of the rounds, so another cluster with forged nodes cannot
   * delay the detection of dead nodes in this cluster.
   */
  #nextTarget({ monoMs }: Time, periodMs: number): Member | undefined {
    const { ownShare, ours, others } = this.#state.members;
    const period = Math.floor((this.#offsetMs + monoMs) / periodMs);
    // The number of past periods in which the target was a member of this node's own cluster. The current period's target is one too if the count
    // increases with this period.
    const ownCount = Math.floor(period * ownShare);
    return Math.floor((period + 1) * ownShare) > ownCount
      ? this.#ownTurns.at(ownCount, ours)
      : this.#otherTurns.at(period - ownCount, others);
  }

  /** Probes the members that were reported as suspect, and the newcomers that are waiting because of a conflict. */
  settle(time: Time, out: MembershipOutput[]): void {
    const { toProbe, self } = this.#state;
    if (toProbe.length > 0) {
      for (const member of toProbe.splice(0)) {
        const isUnderWay = this.#rounds.some((round) => round.target === member);
        if (isUnderWay || self.isLeft || this.#rounds.length > MAX_EXTRA_ROUNDS || !isListed(member.update.status)) continue;
        this.#start(member, time, out);
      }
    }
    for (const { update, reason } of this.#state.checks(time)) {
      const older = this.#state.members.find(update.nodeId);
      if (reason !== "address" && older !== undefined) {
        this.#state.toProbe.push(older);
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
    if (this.#memberCalls.receiveProbe(target.update.nodeId, response, time, out)) {
      const rttMs = time.monoMs - pending.sentMonoMs;
      target.rttMs = target.rttMs === undefined ? rttMs : target.rttMs + (rttMs - target.rttMs) * RTT_SHARE;
      target.isInReach = true;
      if (response?.kind === "probe") this.#state.stillThere(target, response.from, time, out);
      this.#succeed(round);
      return;
    }
    target.isInReach = false;
    if (round.isOver) return;
    round.failCount += 1;
    if (round.helpers === undefined) this.#askHelpers(round, time, out);
    else this.#endIfAllNacked(round, time, out);
  }

  #askHelpers(round: ProbeRound, time: Time, out: MembershipOutput[]): void {
    const { target } = round;
    const helpers = this.#helpersFor(target);
    round.helpers = helpers.map((helper) => helper.update.nodeId);
    const leftMs = Math.max(1, round.endsMonoMs - time.monoMs);
    const wantedMs = Math.min(leftMs * NACK_SHARE, this.#state.health.scaleMs(this.#options.pingTimeoutMs));
    // A helper rejects longer timeouts, regardless of this node's settings.
    const timeoutMs = Math.min(Math.ceil(wantedMs), MESSAGE_BOUNDS.maxTimeoutMs);
    // Probe once more directly (memberlist uses another transport for this probe): a single lost message must not start a suspicion.
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

  /**
   * Returns the helpers of an indirect probe. Reachable members come first, because this node cannot send requests to the others if not all members
   * can reach each other.
   */
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

  /** Notes that a link to a member is up. */
  met(nodeId: string): void {
    const member = this.#state.members.find(nodeId);
    if (member !== undefined) member.isInReach = true;
  }

  /** Ends a round without a verdict. */
  abandon(round: ProbeRound): void {
    if (!round.isOver) this.#remove(round);
  }

  indirectAnswered(round: ProbeRound, helper: Member, response: FabricCallResponse | undefined, time: Time, out: MembershipOutput[]): void {
    helper.isInReach = response !== undefined;
    if (response?.kind !== "probeIndirect") return;
    const { nodeId, clusterId } = helper.update;
    this.#memberCalls.receive(response.updates, { nodeId, clusterId, path: "gossip" }, time, out);
    if (response.isAcknowledged) {
      this.#succeed(round);
      return;
    }
    round.nackCount += 1;
    this.#endIfAllNacked(round, time, out);
  }

  /** Ends a round early when all helpers have sent a nack, because waiting longer cannot change the result. */
  #endIfAllNacked(round: ProbeRound, time: Time, out: MembershipOutput[]): void {
    const helperCount = round.helpers?.length ?? 0;
    if (round.isOver || round.failCount < 2 || helperCount < 2 || round.nackCount < helperCount) return;
    this.#fail(round, time, out);
  }

  relay(call: CallId, request: FabricCallRequest & { readonly kind: "probeIndirect" }, time: Time, out: MembershipOutput[]): void {
    const target = this.#state.members.find(request.targetNodeId);
    // Only listed members are probed on behalf of others, so a caller cannot make this node call an arbitrary address.
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
    const isAcknowledged = this.#memberCalls.receiveProbe(nodeId, response, time, out);
    out.push({ kind: "answer", call: asked, response: { kind: "probeIndirect", isAcknowledged, updates: this.#memberCalls.reply([]) } });
  }

  #start(target: Member, time: Time, out: MembershipOutput[]): void {
    const round = newRound(target, time.monoMs + this.#state.health.scaleMs(this.#options.intervalMs));
    this.#rounds.push(round);
    const timeoutMs = this.#state.health.scaleMs(this.#options.pingTimeoutMs);
    this.#memberCalls.probe({ kind: "direct", round, helper: target }, target.update, timeoutMs, time, out);
  }

  #succeed(round: ProbeRound): void {
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
