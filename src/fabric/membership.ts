/** Who is there: SWIM (Das, Gupta, Motivala 2002) with Lifeguard (Dadgar, Phillips, Currey 2018); semantics.md, Membership. */
import { backoffMs } from "../lib/backoff.ts";
import type { Machine, Time } from "../lib/machine.ts";
import type { Rng } from "../lib/rng.ts";
import type { CallId, FabricInput } from "./fabric.ts";
import { retransmitLimit } from "./gossip.ts";
import { type Evidence, isListed, type Member, type MemberCounts } from "./members.ts";
import { DEFAULTS, type MembershipOptions } from "./membership-options.ts";
import type { CallRequest, CallResponse, MemberFacts, MemberUpdate, NodeRef, PeerProof } from "./messages.ts";
import { type MembershipOutput, News, type RefusedCounts, type Teller } from "./news.ts";
import { missedNacks, newRound, ProbeTurns, type Round } from "./probe.ts";
import { makeTable, pushPullPeriodMs } from "./table.ts";

export type MembershipInput =
  | Extract<FabricInput, { readonly kind: "tick" | "asked" | "answered" | "lagged" }>
  /** Seeds to know others by; tried again for as long as nobody listed has their address. */
  | { readonly kind: "join"; readonly addresses: readonly string[] }
  /** Goes in good order: others list it no more. */
  | { readonly kind: "leave" }
  | { readonly kind: "facts"; readonly facts: MemberFacts }
  /** A link peer's hello: somebody lives at the address. */
  | { readonly kind: "heardOf"; readonly member: NodeRef & { readonly address: string } }
  /** A link to the member broke: it is probed at once. */
  | { readonly kind: "doubted"; readonly nodeId: string };

/** Why this node believes what it believes of a member. */
export interface Explanation {
  readonly update: MemberUpdate;
  /** Oldest first. */
  readonly evidence: readonly Evidence[];
  /** Of a suspect: who accused it so far. */
  readonly accusers: readonly string[];
  readonly rttMs: number | undefined;
}

/** Calls by what came of them, for `mesh_gossip_messages_total`. */
export interface TrafficCounts {
  sent: number;
  answered: number;
  failed: number;
  asked: number;
  refused: number;
}

/** What a call of ours was for. */
type Purpose =
  | { readonly kind: "direct" | "indirect"; readonly round: Round; readonly helper: Member }
  | { readonly kind: "gossip"; readonly nodeId: string }
  | { readonly kind: "check"; readonly nodeId: string }
  | { readonly kind: "relay"; readonly asked: CallId; readonly nodeId: string }
  | { readonly kind: "pushPull"; readonly address: string; readonly isJoin: boolean };

interface Pending {
  readonly purpose: Purpose;
  readonly sentMonoMs: number;
}

const NEVER = Number.POSITIVE_INFINITY;
/** Rounds beside the turn's own, started by doubts. */
const MAX_EXTRA_ROUNDS = 8;
/** Exchanges of tables at a time. */
const MAX_PUSH_PULLS = 4;
/** Members told at once of the own leave, beside gossip. */
const LEAVE_FANOUT = 8;
/** A helper must say no before the asker's patience ends. */
const NACK_SHARE = 0.7;

export class Membership implements Machine<MembershipInput, MembershipOutput> {
  readonly traffic: TrafficCounts = { sent: 0, answered: 0, failed: 0, asked: 0, refused: 0 };
  readonly #o: MembershipOptions;
  readonly #rng: Rng;
  readonly #news: News;
  readonly #turns: ProbeTurns;
  readonly #pending = new Map<CallId, Pending>();
  #nextCall = 1;
  #rounds: Round[] = [];
  #relayCount = 0;
  #pushPullCount = 0;
  #seeds: readonly string[] = [];
  #joinAttempt = 0;
  #hasJoined = false;
  #toldHealth = 0;
  #isBegun = false;
  #turnAtMs = 0;
  #gossipAtMs = NEVER;
  #gossipedMs = Number.NEGATIVE_INFINITY;
  #pushPullAtMs = NEVER;
  #reconnectAtMs = NEVER;
  #joinAtMs = NEVER;
  #healthAtMs = NEVER;

  constructor(facts: MemberFacts, rng: Rng, options: Partial<MembershipOptions> = {}) {
    this.#o = { ...DEFAULTS, ...options };
    this.#rng = rng;
    this.#news = new News(facts, rng, this.#o);
    this.#turns = new ProbeTurns(rng);
  }

  handle(input: MembershipInput, time: Time, out: MembershipOutput[]): void {
    if (!this.#isBegun) this.#begin(time);
    this.#notice(time, out);
    switch (input.kind) {
      case "tick":
        break;
      case "asked":
        this.traffic.asked += 1;
        this.#asked(input.call, input.request, input.proof, time, out);
        break;
      case "answered":
        this.#answered(input.call, input.response, time, out);
        break;
      case "lagged":
        if (input.lagMs >= this.#o.lagMs) this.#news.health.worsen(Math.ceil(input.lagMs / this.#o.intervalMs));
        break;
      case "join":
        this.#seeds = input.addresses.slice(0, this.#o.maxSeeds);
        this.#joinAttempt = 0;
        this.#joinAtMs = time.monoMs;
        break;
      case "leave":
        this.#leave(time, out);
        break;
      case "facts":
        this.#news.changeFacts(input.facts);
        break;
      case "heardOf":
        this.#heardOf(input.member, time, out);
        break;
      case "doubted": {
        const member = this.#news.members.find(input.nodeId);
        if (member !== undefined) this.#news.doubted.push(member);
      }
    }
    this.#tick(time, out);
  }

  nextDeadlineMs(): number | undefined {
    if (!this.#isBegun) return undefined;
    let next = Math.min(this.#turnAtMs, this.#gossipAtMs, this.#pushPullAtMs, this.#reconnectAtMs, this.#joinAtMs, this.#healthAtMs);
    for (const round of this.#rounds) next = Math.min(next, round.endsMonoMs);
    next = Math.min(next, this.#news.nextDeadlineMs());
    return next === NEVER ? undefined : next;
  }

  /** Everybody remembered, whatever the status, self first. O(n). */
  members(): readonly MemberUpdate[] {
    const all = [this.#news.self.update];
    for (const member of this.#news.members.all()) all.push(member.update);
    return all;
  }

  /** Alive and suspect others. O(n). */
  listed(): readonly MemberUpdate[] {
    return this.#news.members.listed.map((member) => member.update);
  }

  find(nodeId: string): MemberUpdate | undefined {
    if (this.isSelf(nodeId)) return this.#news.self.update;
    return this.#news.members.find(nodeId)?.update;
  }

  /** The listed member whose address it is. */
  findAt(address: string): MemberUpdate | undefined {
    return this.#news.members.holderOf(address)?.update;
  }

  isSelf(nodeId: string): boolean {
    return nodeId === this.#news.self.ref.nodeId;
  }

  /** Others by status, self not counted. */
  counts(): MemberCounts & { readonly quarantined: number } {
    return { ...this.#news.members.counts, quarantined: this.#news.quarantinedCount };
  }

  explain(nodeId: string): Explanation | undefined {
    const member = this.#news.members.find(nodeId);
    if (member === undefined) return undefined;
    const { update, evidence, suspicion, rttMs } = member;
    return { update, evidence: [...evidence], accusers: suspicion?.accusers ?? [], rttMs };
  }

  /** 0 is well, 8 is worst. */
  get healthScore(): number {
    return this.#news.health.score;
  }

  /** Somebody answered with a table. */
  get hasJoined(): boolean {
    return this.#hasJoined;
  }

  /** Rounds of attempts to reach a seed that failed, since `join`. */
  get joinAttempts(): number {
    return this.#joinAttempt;
  }

  /** Nothing is left to be told: after `leave`, the node may go. */
  get isQuiet(): boolean {
    return this.#news.gossip.size === 0;
  }

  get refused(): Readonly<RefusedCounts> {
    return this.#news.refused;
  }

  get refutationCount(): number {
    return this.#news.refutationCount;
  }

  #begin(time: Time): void {
    this.#isBegun = true;
    this.#news.self.begin(time.wallMs);
    // Nodes started together do not probe together.
    this.#turnAtMs = time.monoMs + this.#rng.next() * this.#o.intervalMs;
    this.#pushPullAtMs = time.monoMs + this.#o.pushPullMs * (0.5 + this.#rng.next());
    this.#reconnectAtMs = time.monoMs + this.#o.reconnectMs * (0.5 + this.#rng.next());
    this.#healthAtMs = time.monoMs + this.#o.healthTellMs;
  }

  /** A deadline long past: we were frozen, and whatever ran out meanwhile says nothing about others. */
  #notice(time: Time, out: MembershipOutput[]): void {
    const lateMs = time.monoMs - (this.nextDeadlineMs() ?? time.monoMs);
    if (lateMs < this.#o.lagMs) return;
    for (const round of this.#rounds) round.isOver = true;
    this.#rounds = [];
    this.#news.postpone(lateMs);
    this.#news.health.worsen(Math.ceil(lateMs / this.#o.intervalMs));
    out.push({
      kind: "event",
      event: { name: "woke up late", severity: "warn", isAudited: false, detail: { lateMs: Math.round(lateMs) } },
    });
  }

  #tick(time: Time, out: MembershipOutput[]): void {
    const nowMs = time.monoMs;
    this.#endRounds(time, out);
    this.#news.tick(time, out);
    if (this.#news.self.isLeft) this.#turnAtMs = this.#pushPullAtMs = this.#reconnectAtMs = this.#joinAtMs = NEVER;
    if (nowMs >= this.#turnAtMs) this.#takeTurn(time, out);
    this.#settle(time, out);
    if (nowMs >= this.#joinAtMs) this.#join(time, out);
    if (nowMs >= this.#pushPullAtMs) {
      this.#pushPullAtMs = nowMs + pushPullPeriodMs(this.#o.pushPullMs, this.#news.count) * (0.75 + this.#rng.next() / 2);
      for (const member of this.#news.members.pick(this.#rng, 1)) this.#pushPull(member.update.address, time, out);
    }
    if (nowMs >= this.#reconnectAtMs) this.#reconnect(time, out);
    if (nowMs >= this.#healthAtMs) this.#tellHealth(time);
    if (this.#news.gossip.size === 0) this.#gossipAtMs = NEVER;
    else if (this.#gossipAtMs === NEVER) this.#gossipAtMs = Math.max(nowMs + this.#o.gossipDelayMs, this.#gossipedMs + this.#o.gossipMs);
    else if (nowMs >= this.#gossipAtMs) this.#gossipRound(time, out);
  }

  /** Does what the news asks for. */
  #settle(time: Time, out: MembershipOutput[]): void {
    const { newlyListed, doubted } = this.#news;
    if (newlyListed.length > 0) for (const member of newlyListed.splice(0)) this.#turns.add(member);
    if (doubted.length > 0) {
      for (const member of doubted.splice(0)) {
        const isUnderWay = this.#rounds.some((round) => round.target === member);
        if (isUnderWay || this.#rounds.length > MAX_EXTRA_ROUNDS || !isListed(member.update.status)) continue;
        this.#startRound(member, time, out);
      }
    }
    for (const { update } of this.#news.checks(time)) {
      if (update.address === this.#news.self.update.address) continue;
      this.#probe({ kind: "check", nodeId: update.nodeId }, update, update.address, this.#o.pingTimeoutMs, time, out);
    }
  }

  #takeTurn(time: Time, out: MembershipOutput[]): void {
    this.#turnAtMs = time.monoMs + this.#news.health.scaleMs(this.#o.intervalMs);
    const target = this.#turns.next();
    if (target !== undefined) this.#startRound(target, time, out);
  }

  #startRound(target: Member, time: Time, out: MembershipOutput[]): void {
    const round = newRound(target, time.monoMs + this.#news.health.scaleMs(this.#o.intervalMs));
    this.#rounds.push(round);
    const timeoutMs = this.#news.health.scaleMs(this.#o.pingTimeoutMs);
    this.#probe({ kind: "direct", round, helper: target }, target.update, target.update.address, timeoutMs, time, out);
  }

  #probe(purpose: Purpose, target: MemberUpdate, to: string, timeoutMs: number, time: Time, out: MembershipOutput[]): void {
    // The buddy system (Lifeguard §IV-C): a suspect hears of it first of all.
    const updates = this.#take(target.status === "alive" ? undefined : this.#news.members.find(target.nodeId)?.update);
    const request = { kind: "probe", from: this.#news.self.ref, targetNodeId: target.nodeId, updates } as const;
    this.#call(purpose, to, request, timeoutMs, time, out);
  }

  #call(purpose: Purpose, to: string, request: CallRequest, timeoutMs: number, time: Time, out: MembershipOutput[]): void {
    const call = this.#nextCall++;
    this.#pending.set(call, { purpose, sentMonoMs: time.monoMs });
    this.traffic.sent += 1;
    out.push({ kind: "call", call, to, request, timeoutMs });
  }

  #take(first?: MemberUpdate): readonly MemberUpdate[] {
    const limit = retransmitLimit(this.#o.retransmitMult, this.#news.count);
    return this.#news.gossip.take({ maxBytes: this.#o.maxUpdatesBytes, limit }, first);
  }

  #answered(call: CallId, response: CallResponse | undefined, time: Time, out: MembershipOutput[]): void {
    const pending = this.#pending.get(call);
    if (pending === undefined) return;
    this.#pending.delete(call);
    if (response === undefined) this.traffic.failed += 1;
    else this.traffic.answered += 1;
    const { purpose } = pending;
    switch (purpose.kind) {
      case "direct":
        this.#directAnswered(purpose.round, pending, response, time, out);
        return;
      case "indirect":
        this.#indirectAnswered(purpose.round, purpose.helper, response, time, out);
        return;
      case "gossip":
        this.#hearProbe(purpose.nodeId, response, time, out);
        return;
      case "check":
        if (this.#hearProbe(purpose.nodeId, response, time, out)) this.#news.answeredAs(purpose.nodeId, time, out);
        return;
      case "relay": {
        this.#relayCount -= 1;
        const isAcknowledged = this.#hearProbe(purpose.nodeId, response, time, out);
        out.push({ kind: "answer", call: purpose.asked, response: { kind: "probeIndirect", isAcknowledged, updates: this.#take() } });
        return;
      }
      case "pushPull":
        this.#pushPullCount -= 1;
        this.#pushPullAnswered(purpose.address, purpose.isJoin, response, time, out);
    }
  }

  /** Whether the one who was meant answered. */
  #hearProbe(nodeId: string, response: CallResponse | undefined, time: Time, out: MembershipOutput[]): boolean {
    if (response?.kind !== "probe" || response.from.nodeId !== nodeId) return false;
    this.#hear(response.updates, { nodeId, path: "gossip" }, time, out);
    return true;
  }

  #hear(updates: readonly MemberUpdate[], teller: Teller, time: Time, out: MembershipOutput[]): void {
    const count = Math.min(updates.length, teller.path === "gossip" ? this.#o.maxUpdatesRead : this.#o.maxMembers);
    this.#news.refused.tooMany += updates.length - count;
    for (let i = 0; i < count; i++) {
      const update = updates[i];
      if (update !== undefined) this.#news.learn(update, teller, time, out);
    }
  }

  #directAnswered(round: Round, pending: Pending, response: CallResponse | undefined, time: Time, out: MembershipOutput[]): void {
    const { target } = round;
    if (this.#hearProbe(target.update.nodeId, response, time, out)) {
      const rttMs = time.monoMs - pending.sentMonoMs;
      target.rttMs = target.rttMs === undefined ? rttMs : target.rttMs + (rttMs - target.rttMs) / 8;
      this.#endWell(round);
      return;
    }
    if (round.isOver) return;
    const helpers = this.#news.members.pick(this.#rng, this.#o.indirectCount, target);
    round.helpers = helpers.map((helper) => helper.update.nodeId);
    const leftMs = Math.max(1, round.endsMonoMs - time.monoMs);
    for (const helper of helpers) {
      const request = {
        kind: "probeIndirect",
        from: this.#news.self.ref,
        targetNodeId: target.update.nodeId,
        targetAddress: target.update.address,
        timeoutMs: Math.ceil(Math.min(leftMs * NACK_SHARE, this.#news.health.scaleMs(this.#o.pingTimeoutMs))),
        updates: this.#take(),
      } as const;
      this.#call({ kind: "indirect", round, helper }, helper.update.address, request, leftMs, time, out);
    }
  }

  #indirectAnswered(round: Round, helper: Member, response: CallResponse | undefined, time: Time, out: MembershipOutput[]): void {
    if (response?.kind !== "probeIndirect") return;
    this.#hear(response.updates, { nodeId: helper.update.nodeId, path: "gossip" }, time, out);
    if (response.isAcknowledged) {
      this.#endWell(round);
      return;
    }
    round.nackCount += 1;
    // Everybody has said no: nothing is gained by waiting for the end of the period.
    if (!round.isOver && round.nackCount === round.helpers?.length && round.nackCount > 1) this.#fail(round, time, out);
  }

  #endWell(round: Round): void {
    if (round.isOver) return;
    this.#news.health.improve();
    this.#remove(round);
  }

  #remove(round: Round): void {
    round.isOver = true;
    const place = this.#rounds.indexOf(round);
    if (place >= 0) this.#rounds.splice(place, 1);
  }

  #fail(round: Round, time: Time, out: MembershipOutput[]): void {
    this.#remove(round);
    this.#news.health.worsen(missedNacks(round));
    const via = round.helpers ?? [];
    this.#news.accuse(round.target, via.length > 0 ? "indirect" : "direct", via, time, out);
  }

  #endRounds(time: Time, out: MembershipOutput[]): void {
    for (let i = this.#rounds.length - 1; i >= 0; i--) {
      const round = this.#rounds[i];
      if (round !== undefined && time.monoMs >= round.endsMonoMs) this.#fail(round, time, out);
    }
  }

  #gossipRound(time: Time, out: MembershipOutput[], fanout = this.#o.fanout): void {
    this.#gossipedMs = time.monoMs;
    for (const member of this.#news.members.pick(this.#rng, fanout)) {
      const { update } = member;
      this.#probe({ kind: "gossip", nodeId: update.nodeId }, update, update.address, this.#o.pingTimeoutMs, time, out);
    }
    // With nobody to tell it to there is no news.
    if (this.#news.members.listed.length === 0) while (this.#news.gossip.size > 0) this.#take();
    this.#gossipAtMs = this.#news.gossip.size === 0 ? NEVER : time.monoMs + this.#o.gossipMs;
  }

  #asked(call: CallId, request: CallRequest, proof: PeerProof, time: Time, out: MembershipOutput[]): void {
    const { self } = this.#news;
    const { certificate } = proof;
    const isProven = certificate === undefined || certificate.nodeId === request.from.nodeId;
    const isMeant = request.kind !== "probe" || request.targetNodeId === self.ref.nodeId;
    if (!isProven || !isMeant || request.from.nodeId === self.ref.nodeId) {
      this.traffic.refused += 1;
      out.push({ kind: "answer", call, response: undefined });
      return;
    }
    const { nodeId } = request.from;
    switch (request.kind) {
      case "probe":
        this.#hear(request.updates, { nodeId, path: "gossip" }, time, out);
        out.push({ kind: "answer", call, response: { kind: "probe", from: self.ref, updates: this.#take(this.#wrongAbout(nodeId)) } });
        return;
      case "probeIndirect":
        this.#hear(request.updates, { nodeId, path: "gossip" }, time, out);
        this.#relay(call, request, time, out);
        return;
      case "pushPull":
        this.#hear(request.members, { nodeId, path: "table" }, time, out);
        out.push({ kind: "answer", call, response: { kind: "pushPull", from: self.ref, members: this.#table(time, request) } });
    }
  }

  /** What we hold of somebody who speaks to us and is not alive in our table: it will contradict. */
  #wrongAbout(nodeId: string): MemberUpdate | undefined {
    const update = this.#news.members.find(nodeId)?.update;
    return update === undefined || update.status === "alive" ? undefined : update;
  }

  #relay(call: CallId, request: CallRequest & { readonly kind: "probeIndirect" }, time: Time, out: MembershipOutput[]): void {
    const target = this.#news.members.find(request.targetNodeId);
    // Only members are probed for others: nobody makes us call an address of his choice.
    if (target === undefined || target.update.address !== request.targetAddress || this.#relayCount >= this.#o.maxRelays) {
      out.push({ kind: "answer", call, response: { kind: "probeIndirect", isAcknowledged: false, updates: this.#take() } });
      return;
    }
    this.#relayCount += 1;
    const timeoutMs = Math.min(Math.max(1, request.timeoutMs), this.#o.pingTimeoutMs * 10);
    const { update } = target;
    this.#probe({ kind: "relay", asked: call, nodeId: update.nodeId }, update, update.address, timeoutMs, time, out);
  }

  #table(time: Time, asker?: { readonly from: NodeRef; readonly members: readonly MemberUpdate[] }): readonly MemberUpdate[] {
    return makeTable(this.#news, { nowMonoMs: time.monoMs, deadTellMs: this.#o.deadTellMs }, asker);
  }

  #pushPull(to: string, time: Time, out: MembershipOutput[]): void {
    if (this.#pushPullCount >= MAX_PUSH_PULLS || to === this.#news.self.update.address) return;
    this.#pushPullCount += 1;
    const isJoin = this.#news.members.listed.length === 0;
    const request = { kind: "pushPull", from: this.#news.self.ref, isJoin, members: this.#table(time) } as const;
    this.#call({ kind: "pushPull", address: to, isJoin }, to, request, this.#o.pushPullTimeoutMs, time, out);
  }

  #pushPullAnswered(address: string, isJoin: boolean, response: CallResponse | undefined, time: Time, out: MembershipOutput[]): void {
    if (response?.kind !== "pushPull" || this.isSelf(response.from.nodeId)) return;
    this.#hasJoined = true;
    const refutations = this.#news.refutationCount;
    this.#hear(response.members, { nodeId: response.from.nodeId, path: isJoin ? "newcomer" : "table" }, time, out);
    if (this.#news.refutationCount === refutations) return;
    // It holds us dead, and so has us nowhere on its way: it is told at once that it is wrong.
    const peer = this.#news.members.find(response.from.nodeId);
    if (peer === undefined) return;
    const first = { ...this.#news.self.update };
    const request = { kind: "probe", from: this.#news.self.ref, targetNodeId: peer.update.nodeId, updates: [first] } as const;
    this.#call({ kind: "gossip", nodeId: peer.update.nodeId }, address, request, this.#o.pingTimeoutMs, time, out);
  }

  #join(time: Time, out: MembershipOutput[]): void {
    this.#joinAtMs = NEVER;
    if (this.#seeds.length === 0 || this.#news.members.listed.length > 0) return;
    const start = this.#rng.int(this.#seeds.length);
    for (let i = 0; i < Math.min(3, this.#seeds.length); i++) {
      this.#pushPull(this.#seeds[(start + i) % this.#seeds.length] ?? "", time, out);
    }
    const { joinBaseMs, joinMaxMs } = this.#o;
    this.#joinAtMs = time.monoMs + backoffMs(this.#joinAttempt, this.#rng.next(), { baseMs: joinBaseMs, maxMs: joinMaxMs });
    this.#joinAttempt += 1;
  }

  /** Now and then a dead member or an unlisted seed is asked: so halves that called each other dead find together again. */
  #reconnect(time: Time, out: MembershipOutput[]): void {
    this.#reconnectAtMs = time.monoMs + this.#o.reconnectMs * (0.75 + this.#rng.next() / 2);
    const { members } = this.#news;
    if (members.listed.length === 0 && this.#joinAtMs === NEVER) this.#joinAtMs = time.monoMs;
    const missing = this.#seeds.filter((seed) => members.holderOf(seed) === undefined && seed !== this.#news.self.update.address);
    if (missing.length > 0) this.#pushPull(missing[this.#rng.int(missing.length)] ?? "", time, out);
    const { dead } = members.counts;
    // As serf does: the whole group together makes about one attempt for each of the dead.
    if (dead === 0 || this.#rng.next() * this.#news.count >= dead) return;
    let skip = this.#rng.int(dead);
    for (const { update } of members.all()) {
      if (update.status !== "dead" || skip-- > 0) continue;
      this.#pushPull(update.address, time, out);
      return;
    }
  }

  #heardOf(member: NodeRef & { readonly address: string }, time: Time, out: MembershipOutput[]): void {
    const known = this.#news.members.find(member.nodeId);
    if (known === undefined || !isListed(known.update.status) || known.update.generation < member.generation) {
      this.#pushPull(member.address, time, out);
    }
  }

  #tellHealth(time: Time): void {
    this.#healthAtMs = time.monoMs + this.#o.healthTellMs;
    const { score } = this.#news.health;
    // A score that moves between well and nearly well is not worth a word to everybody.
    if (score === this.#toldHealth || Math.max(score, this.#toldHealth) < 2) return;
    this.#toldHealth = score;
    this.#news.changeFacts({ ...this.#news.self.update, healthScore: score });
  }

  #leave(time: Time, out: MembershipOutput[]): void {
    if (this.#news.self.isLeft) return;
    this.#news.leave();
    this.#rounds = [];
    this.#gossipRound(time, out, LEAVE_FANOUT);
  }
}
