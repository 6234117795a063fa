/** Meeting others: seeds, exchange of whole tables (memberlist's push-pull), and finding those again who were called dead. */
import { backoffMs } from "../../lib/backoff.ts";
import { NEVER, type Time } from "../../lib/machine.ts";
import type { Rng } from "../../lib/rng.ts";
import type { CallId } from "../io-types.ts";
import type { FabricCallRequest, FabricCallResponse, MemberUpdate, NodeRef } from "../wire/messages.ts";
import type { CallPurpose, MemberCalls } from "./calls.ts";
import { isAlwaysTold, isListed, type Member } from "./members.ts";
import type { MembershipOptions } from "./options.ts";
import type { MembershipOutput } from "./process-instances.ts";
import type { MembershipState } from "./state.ts";
import { UPDATE_REFUSALS, updateFault } from "./update-rules.ts";

/** Exchanges of tables at a time. */
const MAX_PUSH_PULLS = 4;
/** Seeds asked at a time: one exchange is left for others. */
const SEEDS_AT_ONCE = MAX_PUSH_PULLS - 1;
/** Above this many members the exchanges become rarer. */
const SCALE_FROM_MEMBERS = 32;

/** Longer by one period for each doubling above 32 members (memberlist). */
function pushPullPeriodMs(baseMs: number, memberCount: number): number {
  if (memberCount <= SCALE_FROM_MEMBERS) return baseMs;
  return baseMs * (Math.ceil(Math.log2(memberCount) - Math.log2(SCALE_FROM_MEMBERS)) + 1);
}

export class PushPull {
  readonly #options: MembershipOptions;
  readonly #rng: Rng;
  readonly #memberCalls: MemberCalls;
  readonly #state: MembershipState;
  #count = 0;
  #seeds: readonly string[] = [];
  #joinAttempt = 0;
  /** Times that all seeds were asked, and those that are still to be asked this time. */
  #passCount = 0;
  #unasked: string[] = [];
  #hasJoined = false;
  /** Seeds that have neither answered nor failed since `join`. */
  readonly #unheard = new Set<string>();
  /** Where this node was turned away last: asked again in each round, for as long as it is. */
  #refuser: string | undefined;
  /** Grows to the usual period: who has just come, or found others again, may have missed some. */
  #periodMs: number;
  #pushPullAtMs = NEVER;
  #reconnectAtMs = NEVER;
  #joinAtMs = NEVER;

  constructor(memberCalls: MemberCalls, rng: Rng, options: MembershipOptions) {
    this.#options = options;
    this.#rng = rng;
    this.#memberCalls = memberCalls;
    this.#state = memberCalls.state;
    this.#periodMs = options.pushPullMs;
  }

  get hasJoined(): boolean {
    return this.#hasJoined;
  }

  /** Rounds of asking seeds, since `join`. */
  get joinAttempts(): number {
    return this.#joinAttempt;
  }

  /** Whether every seed has answered, refused, or was not reached: before that nobody knows whether this node is alone. */
  get areSeedsHeard(): boolean {
    return this.#unheard.size === 0;
  }

  begin(time: Time): void {
    this.#pushPullAtMs = time.monoMs + this.#jittered(this.#options.pushPullMs);
    this.#reconnectAtMs = time.monoMs + this.#jittered(this.#options.reconnectMs);
  }

  end(): void {
    this.#pushPullAtMs = NEVER;
    this.#reconnectAtMs = NEVER;
    this.#joinAtMs = NEVER;
  }

  nextDeadlineMs(): number {
    return Math.min(this.#pushPullAtMs, this.#reconnectAtMs, this.#joinAtMs, this.#state.identityDispute.nextDeadlineMs());
  }

  tick(time: Time, out: MembershipOutput[]): void {
    for (const member of this.#state.untold.splice(0)) this.heardOf(member, time, out);
    if (this.#state.foundAgainCount > 0) this.#scheduleSoon(time);
    if (time.monoMs >= this.#joinAtMs) this.#join(time, out);
    if (time.monoMs >= this.#pushPullAtMs) this.#exchange(time, out);
    if (time.monoMs >= this.#reconnectAtMs) this.#reconnect(time, out);
    if (time.monoMs >= this.#state.identityDispute.nextDeadlineMs()) this.#askForStart(time, out);
  }

  /** Somebody answered: which start goes under our id there. */
  heldStart(
    purpose: CallPurpose,
    { from, heldStart }: Exclude<FabricCallResponse, { kind: "probeIndirect" | "maintain" }>,
    time: Time,
    out: MembershipOutput[],
  ): void {
    const { members, identityDispute, self } = this.#state;
    // Which start goes under an id is for the id's own cluster to say.
    if (from.clusterId !== self.update.clusterId) return;
    // Our own answer says nothing about how we stand with others.
    if (from.nodeId === self.ref.nodeId && heldStart === undefined) return;
    const address = purpose.kind === "pushPull" ? purpose.address : members.find(from.nodeId)?.update.address;
    if (address === undefined || !identityDispute.hear({ ...from, address }, heldStart, time) || heldStart === undefined) return;
    // A newer word than the last start's: one that was restarted within a second counts from the same number.
    this.#state.reassure();
    this.#state.follow(heldStart);
    this.#compare(address, time, out);
  }

  /** Who holds another start under our id hears our own word again, and so does that one. */
  #askForStart(time: Time, out: MembershipOutput[]): void {
    for (const { address, held } of this.#state.identityDispute.takeDue(time)) {
      this.#state.follow(held);
      this.#compare(address, time, out);
      if (held.address !== "" && held.address !== address) this.#compare(held.address, time, out);
    }
  }

  /** Another node asks under our id: it is told that we are there. */
  askedByTwin(request: FabricCallRequest, time: Time, out: MembershipOutput[]): FabricCallResponse | undefined {
    const { self } = this.#state;
    const { boot, address } = self.update;
    // It is this node itself, by a seed that is another name of its own address: nobody is turned away by that.
    if (request.kind === "pushPull" && request.from.generation === self.ref.generation && request.from.boot === boot)
      return { kind: "pushPull", from: self.ref, members: [] };
    if (request.kind !== "pushPull" || boot === undefined || request.from.boot === undefined || request.from.boot === boot)
      return undefined;
    const told = request.members.find(({ nodeId }) => nodeId === self.ref.nodeId);
    if (told !== undefined) this.#state.askedBySecond(told, time, out);
    return { kind: "pushPull", from: self.ref, members: [], heldStart: { boot, address } };
  }

  join(addresses: readonly string[], time: Time): void {
    this.#seeds = addresses.slice(0, this.#options.maxSeeds).filter((seed) => seed !== this.#state.self.update.address);
    this.#joinAttempt = 0;
    this.#passCount = 0;
    this.#unasked = [];
    this.#unheard.clear();
    for (const seed of this.#seeds) this.#unheard.add(seed);
    this.#joinAtMs = time.monoMs;
  }

  /** Somebody lives at the address: if that is news, or contradicts what is held, tables are exchanged. */
  heardOf(member: NodeRef & { readonly address: string }, time: Time, out: MembershipOutput[]): void {
    const update = this.#state.members.find(member.nodeId)?.update;
    const isKnown = update !== undefined && isListed(update.status) && update.generation >= member.generation;
    if (!isKnown) this.#pushPull(member.address, time, out);
  }

  asked(call: CallId, request: FabricCallRequest & { readonly kind: "pushPull" }, time: Time, out: MembershipOutput[]): void {
    const { nodeId, clusterId } = request.from;
    const refusal = this.#memberCalls.hear(request.members, { nodeId, clusterId, path: "table" }, time, out);
    const members = request.digest === this.#digest() ? [] : this.#table(time, request);
    out.push({
      kind: "answer",
      call,
      response: {
        kind: "pushPull",
        from: this.#state.self.ref,
        members,
        ...(refusal !== undefined && { ownUpdateRefused: UPDATE_REFUSALS[refusal] }),
        ...this.#state.instances.insteadOf(request.from),
      },
    });
  }

  answered(
    purpose: CallPurpose & { readonly kind: "pushPull" },
    { response, refusal }: { readonly response: FabricCallResponse | undefined; readonly refusal?: string | undefined },
    time: Time,
    out: MembershipOutput[],
  ): void {
    this.#count -= 1;
    this.#unheard.delete(purpose.address);
    if (refusal !== undefined) {
      this.#refuser = purpose.address;
      out.push({ kind: "turnedAway", address: purpose.address, why: refusal });
    } else if (this.#refuser === purpose.address) this.#refuser = undefined;
    const { self, members } = this.#state;
    if (response === undefined) this.#state.identityDispute.unanswered(self.ref.nodeId, purpose.address);
    if (response === undefined && purpose.step !== "whole") {
      this.#pushPullAtMs = Math.min(this.#pushPullAtMs, time.monoMs + this.#jittered(this.#options.intervalMs));
    }
    if (response?.kind !== "pushPull" || response.from.nodeId === self.ref.nodeId) return;
    const { nodeId, clusterId } = response.from;
    this.#hasJoined = true;
    const refutations = this.#state.refutationCount;
    this.#memberCalls.hear(response.members, { nodeId, clusterId, path: purpose.isJoin ? "newcomer" : "table" }, time, out);
    const answerer = members.find(nodeId);
    if (answerer !== undefined) {
      answerer.isInReach = true;
      const { identityDispute } = this.#state;
      const event = identityDispute.refusedBy(nodeId, identityDispute.lastingRefusal(response));
      if (event !== undefined) out.push(event);
    }
    if (response.ownUpdateRefused === UPDATE_REFUSALS.ahead) this.#recount(time);
    if (purpose.isJoin) this.#scheduleSoon(time);
    if (purpose.step === "digest" && response.members.length > 0) this.#tellRest(purpose.address, response, time, out);
    if (this.#state.refutationCount === refutations || answerer === undefined) return;
    // It holds us dead, and so will tell us nothing by itself: it hears at once that it is wrong.
    const request = { kind: "probe", from: self.ref, targetNodeId: nodeId, updates: [self.update] } as const;
    this.#memberCalls.call({ kind: "gossip", nodeId }, purpose.address, request, this.#options.pingTimeoutMs, time, out);
  }

  /** It began to count while its clock stood years ahead, which has been set since: who refuses such a number takes a lower one. */
  #recount(time: Time): void {
    const { self, broadcasts } = this.#state;
    const isAhead = updateFault(self.update, time.wallMs, true) === "ahead";
    const lower = isAhead ? self.recount(time.wallMs) : undefined;
    if (lower !== undefined) broadcasts.add(lower);
  }

  #scheduleSoon(time: Time): void {
    this.#state.foundAgainCount = 0;
    this.#periodMs = this.#options.intervalMs;
    this.#pushPullAtMs = Math.min(this.#pushPullAtMs, time.monoMs + this.#jittered(this.#periodMs));
  }

  #exchange(time: Time, out: MembershipOutput[]): void {
    const usualMs = pushPullPeriodMs(this.#options.pushPullMs, this.#state.count);
    this.#periodMs = Math.min(usualMs, this.#periodMs * 2);
    this.#pushPullAtMs = time.monoMs + this.#jittered(this.#periodMs);
    for (const member of this.#state.members.pick(this.#rng, 1)) this.#compare(member.update.address, time, out);
  }

  #jittered(ms: number): number {
    return ms * (0.75 + this.#rng.next() / 2);
  }

  /**
   * Self, everybody listed, and who is gone for less than `deadTellMs`; to an asker, who it is itself whatever its state, and
   * nothing that it said itself. At most `maxMembers`. O(n).
   */
  #table({ monoMs }: Time, asker?: { readonly from: NodeRef; readonly members: readonly MemberUpdate[] }): readonly MemberUpdate[] {
    const { deadTellMs, maxMembers } = this.#options;
    const said = new Map<string, MemberUpdate>();
    for (const update of asker?.members ?? []) said.set(update.nodeId, update);
    const table = [this.#state.self.update];
    for (const { update, isWitnessed, changedMonoMs } of this.#state.members.all()) {
      const isTold = isAlwaysTold(update) || (isWitnessed && monoMs - changedMonoMs < deadTellMs) || update.nodeId === asker?.from.nodeId;
      if (table.length >= maxMembers) break;
      if (isTold && !isSame(said.get(update.nodeId), update)) table.push(update);
    }
    return table;
  }

  #digest(): bigint {
    return this.#state.members.digestWith(this.#state.self.update);
  }

  /** The whole table, for somebody who may hold another. */
  #pushPull(to: string, time: Time, out: MembershipOutput[]): void {
    const isJoin = this.#state.members.listed.length === 0;
    this.#call({ kind: "pushPull", address: to, isJoin, step: "whole" }, { isJoin, members: this.#table(time) }, time, out);
  }

  /** Only a digest: most of the time the other holds the same, and a large group's tables are not small. */
  #compare(to: string, time: Time, out: MembershipOutput[]): void {
    const said = { isJoin: false, members: [this.#state.self.update], digest: this.#digest() };
    this.#call({ kind: "pushPull", address: to, isJoin: false, step: "digest" }, said, time, out);
  }

  #tellRest(to: string, peer: FabricCallResponse & { readonly kind: "pushPull" }, time: Time, out: MembershipOutput[]): void {
    const said = { isJoin: false, members: this.#table(time, peer), digest: this.#digest() };
    this.#call({ kind: "pushPull", address: to, isJoin: false, step: "rest" }, said, time, out);
  }

  #call(
    purpose: CallPurpose & { readonly kind: "pushPull" },
    said: Pick<FabricCallRequest & { readonly kind: "pushPull" }, "isJoin" | "members" | "digest">,
    time: Time,
    out: MembershipOutput[],
  ): void {
    if (this.#count >= MAX_PUSH_PULLS || purpose.address === this.#state.self.update.address) return;
    this.#count += 1;
    const request = { kind: "pushPull", from: this.#state.self.ref, ...said } as const;
    this.#memberCalls.call(purpose, purpose.address, request, this.#options.pushPullTimeoutMs, time, out);
  }

  /** Each seed is asked once, whoever has answered by then: who answers first may have nothing to give. Then all of them again until one answers. */
  #join(time: Time, out: MembershipOutput[]): void {
    this.#joinAtMs = NEVER;
    if (this.#unasked.length === 0 && !this.#beginPass()) return;
    // First, so that what it refuses is known for as long as it does, however many seeds there are.
    if (this.#refuser !== undefined) this.#pushPull(this.#refuser, time, out);
    while (this.#count < SEEDS_AT_ONCE) {
      const seed = this.#unasked.shift();
      if (seed === undefined) break;
      if (seed === this.#refuser) continue;
      // A seed that is a member by now is asked as members are.
      if (this.#hasJoined && this.#state.members.holderOf(seed) !== undefined) this.#unheard.delete(seed);
      else this.#pushPull(seed, time, out);
    }
    const { joinBaseMs, joinMaxMs } = this.#options;
    this.#joinAtMs = time.monoMs + backoffMs(this.#passCount - 1, this.#rng.next(), { baseMs: joinBaseMs, maxMs: joinMaxMs });
    this.#joinAttempt += 1;
  }

  /** All seeds are to be asked, if they still are to be. */
  #beginPass(): boolean {
    // Who is known by gossip only may be few: without a table we have not joined.
    if (this.#seeds.length === 0 || (this.#hasJoined && this.#state.members.listed.length > 0)) return false;
    const start = this.#rng.int(this.#seeds.length);
    this.#unasked = [...this.#seeds.slice(start), ...this.#seeds.slice(0, start)];
    this.#passCount += 1;
    return true;
  }

  /** Now and then a dead member or an unlisted seed is asked: so halves that called each other dead find together again. */
  #reconnect(time: Time, out: MembershipOutput[]): void {
    this.#reconnectAtMs = time.monoMs + this.#jittered(this.#options.reconnectMs);
    const { members } = this.#state;
    if (members.listed.length === 0 && this.#joinAtMs === NEVER) this.#joinAtMs = time.monoMs;
    const missing = this.#seeds.filter((seed) => members.holderOf(seed) === undefined);
    if (missing.length > 0) this.#pushPull(missing[this.#rng.int(missing.length)] ?? "", time, out);
    const dead = [...members.all()].filter(({ update }) => update.status === "dead");
    const [ours, others] = [dead.filter((member) => members.isOurs(member)), dead.filter((member) => !members.isOurs(member))];
    this.#retry(ours, members.ours.length + 1, time, out);
    this.#retry(others, this.#state.count - members.ours.length, time, out);
  }

  /** As serf does: the `count` that are there make together about one attempt for each of the dead. */
  #retry(dead: readonly Member[], count: number, time: Time, out: MembershipOutput[]): void {
    if (dead.length === 0 || this.#rng.next() * count >= dead.length) return;
    const member = dead[this.#rng.int(dead.length)];
    if (member !== undefined) this.#pushPull(member.update.address, time, out);
  }
}

function isSame(a: MemberUpdate | undefined, b: MemberUpdate): boolean {
  return (
    a !== undefined && a.address === b.address && a.status === b.status && a.incarnation === b.incarnation && a.generation === b.generation
  );
}
