/** The membership protocol of the fabric: SWIM (Das, Gupta, Motivala 2002) with Lifeguard (Dadgar, Phillips, Currey 2018); semantics.md, Membership. */

import { type Machine, NEVER, type Time } from "../../lib/machine.ts";
import type { Rng } from "../../lib/rng.ts";
import { type CallId, eventOutput, type FabricInput } from "../io-types.ts";
import type { FabricCallRequest, Hello, MemberFacts, MemberUpdate, NodeRef, PeerIdentity } from "../wire/messages.ts";
import { askedNode, MemberCalls } from "./calls.ts";
import { type ClockState, ClockWatch, LEAST_OTHERS } from "./clock-watch.ts";
import { FailureDetector } from "./failure-detector.ts";
import { type IdentityConflict, IdentityDispute } from "./identity-dispute.ts";
import { isListedElsewhere, type MemberCounts, type MemberEvidence } from "./members.ts";
import type { MembershipOptions } from "./options.ts";
import type { AcceptedInstance, InstanceStatus, MembershipOutput, MembershipStateParts } from "./process-instances.ts";
import { PushPull } from "./push-pull.ts";
import { MembershipState } from "./state.ts";

export type MembershipInput =
  | Extract<FabricInput, { readonly kind: "tick" | "asked" | "answered" | "forget" | "lagged" }>
  /** Seeds that are used to join. Each seed is retried while no listed member has its address. */
  | { readonly kind: "join"; readonly addresses: readonly string[] }
  /** This node leaves gracefully, so other nodes no longer list it. */
  | { readonly kind: "leave" }
  | { readonly kind: "facts"; readonly facts: MemberFacts }
  /** The hello from a link's peer shows that a node is running at the address. */
  | { readonly kind: "linkUp"; readonly member: NodeRef & { readonly address: string } }
  /** A link to the member broke, so the member is probed immediately. */
  | { readonly kind: "linkBroken"; readonly nodeId: string };

/** The reason why this node assigns a status to a member. */
export interface StateExplanation {
  readonly update: MemberUpdate;
  /** Oldest first. */
  readonly evidence: readonly MemberEvidence[];
  /** The members that accused a suspect so far. */
  readonly accusers: readonly string[];
  /** Time at which the suspicion becomes a death unless it is refuted. Undefined without a suspicion. */
  readonly deadlineMonoMs: number | undefined;
  readonly rttMs: number | undefined;
}

/** Number of members to which a leave is sent immediately, in addition to gossip. */
const LEAVE_FANOUT = 8;

export class Membership implements Machine<MembershipInput, MembershipOutput> {
  readonly #o: MembershipOptions;
  readonly #rng: Rng;
  readonly #state: MembershipState;
  readonly #memberCalls: MemberCalls;
  readonly #failureDetector: FailureDetector;
  readonly #pushPull: PushPull;
  readonly #clocks: ClockWatch;
  #sentHealth = 0;
  #isBegun = false;
  #gossipAtMs = NEVER;
  #gossipedMs = Number.NEGATIVE_INFINITY;
  #healthAtMs = NEVER;
  #refreshAtMs = NEVER;
  /** Cached between inputs, because it is read for every frame. */
  #dueMonoMs = NEVER;

  constructor(facts: MemberFacts, rng: Rng, options: MembershipOptions, parts: MembershipStateParts = {}) {
    this.#o = options;
    this.#rng = rng;
    this.#clocks = new ClockWatch(this.#o.maxClockSkewMs);
    this.#state = new MembershipState(facts, this.#o, parts);
    this.#memberCalls = new MemberCalls(this.#state, this.#o);
    this.#failureDetector = new FailureDetector(this.#memberCalls, rng, this.#o);
    this.#pushPull = new PushPull(this.#memberCalls, rng, this.#o);
  }

  handle(input: MembershipInput, time: Time, out: MembershipOutput[]): void {
    if (!this.#isBegun) this.#begin(time);
    this.#detectPause(time, out);
    switch (input.kind) {
      case "tick":
        break;
      case "asked":
        this.#asked(input.call, input.request, input.identity, time, out);
        break;
      case "answered":
        this.#answered(input, time, out);
        break;
      case "lagged":
        if (input.lagMs >= this.#o.lagMs) this.#state.health.worsen(Math.ceil(input.lagMs / this.#o.intervalMs));
        if (input.lagMs >= this.#o.intervalMs / 2) this.#state.identityDispute.onWake(time);
        break;
      case "join":
        this.#pushPull.join(input.addresses, time);
        break;
      case "leave":
        this.#leave(time, out);
        break;
      case "facts":
        this.#state.changeFacts(input.facts);
        break;
      case "forget":
        this.#state.forget(input.nodeId, out);
        break;
      case "linkUp":
        out.push({ kind: "letIn", address: input.member.address });
        this.#pushPull.contact(input.member, time, out);
        this.#failureDetector.met(input.member.nodeId);
        break;
      case "linkBroken": {
        const member = this.#state.members.find(input.nodeId);
        if (member !== undefined) this.#state.toProbe.push(member);
      }
    }
    this.#tick(time, out);
    this.#dueMonoMs = this.#computeDue();
  }

  nextDeadlineMs(): number {
    return this.#dueMonoMs;
  }

  #computeDue(): number {
    return Math.min(
      this.#gossipAtMs,
      this.#healthAtMs,
      this.#refreshAtMs,
      this.#failureDetector.nextDeadlineMs(),
      this.#pushPull.nextDeadlineMs(),
      this.#state.nextDeadlineMs(),
      this.#state.identityDispute.confirmMonoMs,
    );
  }

  /** Returns all remembered members of any status, this node first. O(n). */
  members(): readonly MemberUpdate[] {
    const all = [this.#state.self.update];
    for (const member of this.#state.members.all()) all.push(member.update);
    return all;
  }

  /** Returns the other members that are alive or suspect. O(n). */
  listed(): readonly MemberUpdate[] {
    return this.#state.members.listed.map((member) => member.update);
  }

  /** Returns how this node's wall clock differs from other clocks in its own cluster. Clocks of other clusters are ignored. O(n). */
  clock(time: Time): ClockState {
    return this.#clocks.read(new Set(this.#state.members.ours.map(({ update }) => update.nodeId)), time);
  }

  /**
   * On the next input, probes members of this node's cluster whose clocks are unknown. It probes as many members as are needed to judge this node's
   * clock.
   */
  askClocks(): void {
    const unheard = this.#state.members.ours.filter(({ update }) => !this.#clocks.has(update.nodeId));
    this.#state.toProbe.push(...unheard.slice(0, LEAST_OTHERS));
  }

  find(nodeId: string): MemberUpdate | undefined {
    if (this.isSelf(nodeId)) return this.#state.self.update;
    return this.#state.members.find(nodeId)?.update;
  }

  isSelf(nodeId: string): boolean {
    return nodeId === this.#state.self.ref.nodeId;
  }

  /** Returns the other members, grouped by status. */
  counts(): MemberCounts & { readonly conflicts: number } {
    return { ...this.#state.members.counts, conflicts: this.#state.conflictCount };
  }

  explain(nodeId: string): StateExplanation | undefined {
    const member = this.#state.members.find(nodeId);
    if (member === undefined) return undefined;
    const { update, evidence, suspicion, rttMs } = member;
    return { update, evidence: [...evidence], accusers: suspicion?.accusers ?? [], deadlineMonoMs: suspicion?.deadlineMonoMs, rttMs };
  }

  /** Whether another node has sent its member table. */
  get hasJoined(): boolean {
    return this.#pushPull.hasJoined;
  }

  /** Whether every seed of the first round has answered, refused, or failed. */
  get areSeedsTried(): boolean {
    return this.#pushPull.areSeedsTried;
  }

  /** Whether all updates have been sent. After `leave`, the node may stop when this is true. */
  get isQuiet(): boolean {
    return this.#state.broadcasts.size === 0;
  }

  /** The number of updates in the queue, and the number of members that a gossip round reaches. */
  get gossip(): { readonly queueLength: number; readonly fanout: number } {
    const { broadcasts, members } = this.#state;
    return { queueLength: broadcasts.size, fanout: Math.min(this.#o.fanout, members.listed.length) };
  }

  /** Returns the listed members that refuse this node's updates about itself, each with its reason. */
  refusers(): readonly { readonly nodeId: string; readonly why: string }[] {
    return this.#state.identityDispute.refusers((nodeId) => this.#state.isListed(nodeId));
  }

  /** Returns why this node must not operate under its id. Undefined while it may do so. */
  dispute(time: Time): IdentityConflict | undefined {
    return this.#state.identityDispute.dispute((nodeId) => this.isSelf(nodeId) || this.#state.isListed(nodeId), time);
  }

  /**
   * Returns whether this node was paused and no majority has confirmed yet that it may still operate under its id. In this state, writes are not
   * acknowledged. The state ends after a timeout even if no node answers.
   */
  isUnconfirmed(time: Time): boolean {
    return this.#state.identityDispute.isUnconfirmed(this.#state.members.ours.length, this.#o.pingTimeoutMs, time);
  }

  /** Returns the most recently accepted process instance of each other node. The list is kept across restarts. */
  acceptedStarts(): readonly AcceptedInstance[] {
    return this.#state.instances.list();
  }

  /** Returns the address from which a second node with this id recently called. */
  secondAddress(time: Time): string | undefined {
    return this.#state.identityDispute.secondAddress(time);
  }

  /**
   * Returns how the process instance that sent a hello relates to the accepted instance of its id, and whether the accepted instance is listed at
   * another address.
   */
  startOf(hello: Hello, time: Time): InstanceStatus {
    const verdict = this.#state.instances.verdict(hello, true);
    if (verdict === "stranger") return { verdict, standing: this.#state.meet(hello, time) };
    const update = this.#state.members.find(hello.nodeId)?.update;
    return { verdict, isElsewhere: update !== undefined && isListedElsewhere(update, hello) };
  }

  /** Returns whether the accepted process instance of the id is a different one from the sender of the hello. This check has no side effects. */
  isStranger(hello: Hello): boolean {
    return this.#state.instances.verdict(hello, true) === "stranger";
  }

  /**
   * Counters since the start, and the health score. `healthScore`: 0 is healthy, 8 is worst. `joinAttempts`: rounds of calls to seeds. `traffic`:
   * calls with other members. `refused`: member updates that were refused. `refutationCount`: how often this node refuted an update about itself.
   */
  stats() {
    const { health, refused, refutationCount } = this.#state;
    return {
      healthScore: health.score,
      refused,
      refutationCount,
      joinAttempts: this.#pushPull.joinAttempts,
      traffic: this.#memberCalls.traffic,
    };
  }

  #begin(time: Time): void {
    this.#isBegun = true;
    this.#state.self.begin(time.wallMs);
    this.#failureDetector.begin(time);
    this.#pushPull.begin(time);
    this.#healthAtMs = time.monoMs + this.#o.healthUpdateMs;
    if (this.#o.refreshMs > 0) this.#refreshAtMs = time.monoMs + this.#o.refreshMs;
  }

  /** Detects a pause of the process from a deadline that passed long ago. Timeouts that expired during the pause prove nothing about other nodes. */
  #detectPause(time: Time, out: MembershipOutput[]): void {
    const lateMs = time.monoMs - this.nextDeadlineMs();
    if (lateMs < this.#o.lagMs) return;
    this.#failureDetector.forgetRounds();
    this.#state.postpone(lateMs, time.monoMs);
    this.#state.health.worsen(Math.ceil(lateMs / this.#o.intervalMs));
    out.push(eventOutput("woke_up_late", "warn", { lateMs: Math.round(lateMs) }));
    if (lateMs >= this.#o.intervalMs / 2) this.#state.identityDispute.onWake(time);
    if (lateMs < this.#o.intervalMs || this.#state.self.isLeft) return;
    // Another node may have probed this one without an answer. Refute a possible suspicion before it arrives, because the next pause may come soon.
    this.#state.reannounce();
    this.#gossipRound(time, out);
  }

  #tick(time: Time, out: MembershipOutput[]): void {
    const nowMs = time.monoMs;
    this.#failureDetector.tick(time, out);
    this.#state.tick(time, out);
    this.#failureDetector.settle(time, out);
    this.#pushPull.tick(time, out);
    if (nowMs >= this.#healthAtMs) this.#sendHealth(time);
    if (nowMs >= this.#refreshAtMs) this.#refresh(time);
    if (nowMs >= this.#state.identityDispute.confirmMonoMs) this.#confirm(time, out);
    if (this.#state.broadcasts.size === 0) this.#gossipAtMs = NEVER;
    else if (this.#gossipAtMs === NEVER) this.#gossipAtMs = Math.max(nowMs + this.#o.gossipDelayMs, this.#gossipedMs + this.#o.gossipMs);
    else if (nowMs >= this.#gossipAtMs) this.#gossipRound(time, out);
  }

  #answered(
    { call, response, refusal, hasEnded = false }: Extract<FabricInput, { kind: "answered" }>,
    time: Time,
    out: MembershipOutput[],
  ): void {
    const pending = this.#memberCalls.finish(call, response);
    if (pending === undefined) return;
    const { purpose } = pending;
    if (response !== undefined && response.kind !== "probeIndirect" && response.kind !== "maintain") {
      this.#pushPull.heldStart(purpose, response, time, out);
      const isOurs = response.from.clusterId === this.#state.self.update.clusterId;
      if (isOurs && response.heldStart === undefined) this.#state.identityDispute.confirmed(response.from.nodeId, pending.sentMonoMs);
    }
    if (response?.kind === "probe" && response.wallMs !== undefined && response.from.nodeId === askedNode(purpose))
      this.#clocks.note(response.from.nodeId, { wallMs: response.wallMs, sentMonoMs: pending.sentMonoMs }, time);
    switch (purpose.kind) {
      case "direct":
        if (hasEnded) this.#failureDetector.abandon(purpose.round);
        else this.#failureDetector.directAnswered(purpose.round, pending, response, time, out);
        return;
      case "indirect":
        this.#failureDetector.indirectAnswered(purpose.round, purpose.helper, response, time, out);
        return;
      case "relay":
        this.#failureDetector.relayAnswered(purpose.asked, purpose.nodeId, response, time, out);
        return;
      case "gossip":
        this.#memberCalls.receiveProbe(purpose.nodeId, response, time, out);
        return;
      case "check":
        if (this.#memberCalls.receiveProbe(purpose.nodeId, response, time, out)) this.#state.answeredAs(purpose.nodeId, time, out);
        return;
      case "pushPull":
        this.#pushPull.answered(purpose, { response, refusal }, time, out);
        if (response !== undefined) out.push({ kind: "letIn", address: purpose.address });
    }
  }

  #gossipRound(time: Time, out: MembershipOutput[], fanout = this.#o.fanout): void {
    this.#gossipedMs = time.monoMs;
    for (const member of this.#state.members.pick(this.#rng, fanout)) {
      const { update } = member;
      this.#memberCalls.probe({ kind: "gossip", nodeId: update.nodeId }, update, this.#o.pingTimeoutMs, time, out);
    }
    // Without other members, no update needs to be sent.
    if (this.#state.members.listed.length === 0) while (this.#state.broadcasts.size > 0) this.#memberCalls.take();
    this.#gossipAtMs = this.#state.broadcasts.size === 0 ? NEVER : time.monoMs + this.#o.gossipMs;
  }

  #asked(call: CallId, request: FabricCallRequest, identity: PeerIdentity, time: Time, out: MembershipOutput[]): void {
    const { self } = this.#state;
    const { certificate } = identity;
    const { nodeId, clusterId } = request.from;
    const isProven = certificate === undefined || certificate.nodeId === nodeId;
    const isMeant = request.kind !== "probe" || request.targetNodeId === self.ref.nodeId;
    const isTwin = nodeId === self.ref.nodeId;
    if (!isProven || !isMeant || isTwin) {
      this.#memberCalls.traffic.refused += 1;
      const isAnswered = isProven && isTwin && this.dispute(time) === undefined;
      out.push({ kind: "answer", call, response: isAnswered ? this.#pushPull.askedByTwin(request, time, out) : undefined });
      return;
    }
    this.#memberCalls.traffic.taken += 1;
    this.#state.asked(request.from, time, out);
    switch (request.kind) {
      case "probe":
        this.#memberCalls.receive(request.updates, { nodeId, clusterId, path: "gossip" }, time, out);
        out.push({ kind: "answer", call, response: this.#memberCalls.answerTo(request, time) });
        return;
      case "probeIndirect":
        this.#memberCalls.receive(request.updates, { nodeId, clusterId, path: "gossip" }, time, out);
        this.#failureDetector.relay(call, request, time, out);
        return;
      case "pushPull":
        this.#pushPull.asked(call, request, time, out);
        return;
      case "maintain":
      // Handled by another part.
    }
  }

  /**
   * Asks other nodes whether this process instance is still accepted. A node that accepted another instance of this id reports it in its response.
   */
  #confirm(time: Time, out: MembershipOutput[]): void {
    if (!this.isUnconfirmed(time)) {
      this.#state.identityDispute.settle();
      return;
    }
    this.#state.identityDispute.asked(time.monoMs + this.#o.pingTimeoutMs);
    for (const { update } of this.#state.members.pickOurs(this.#rng, IdentityDispute.askedOf(this.#state.members.ours.length)))
      this.#memberCalls.probe({ kind: "gossip", nodeId: update.nodeId }, update, this.#o.pingTimeoutMs, time, out);
  }

  /** Sends the same facts again with a new incarnation, for the benefit of nodes that missed the last update. */
  #refresh(time: Time): void {
    this.#refreshAtMs = time.monoMs + this.#o.refreshMs;
    if (!this.#state.self.isLeft) this.#state.reannounce();
  }

  #sendHealth(time: Time): void {
    this.#healthAtMs = time.monoMs + this.#o.healthUpdateMs;
    const { score } = this.#state.health;
    // A score that changes between healthy and nearly healthy is not worth an update to all members.
    if (score === this.#sentHealth || Math.max(score, this.#sentHealth) < 2) return;
    this.#sentHealth = score;
    this.#state.changeFacts({ ...this.#state.self.update, healthScore: score });
  }

  #leave(time: Time, out: MembershipOutput[]): void {
    if (this.#state.self.isLeft) return;
    this.#state.leave();
    this.#failureDetector.end();
    this.#pushPull.end();
    this.#gossipRound(time, out, LEAVE_FANOUT);
  }
}
