/** Joins the mesh: calls the seeds, exchanges full member tables (memberlist's push-pull), and retries members that were declared dead. */
import { backoffMs } from "../../lib/backoff.ts";
import { NEVER, type Time } from "../../lib/machine.ts";
import type { Rng } from "../../lib/rng.ts";
import type { CallId } from "../io-types.ts";
import type { FabricCallRequest, FabricCallResponse, MemberUpdate, NodeRef } from "../wire/messages.ts";
import type { CallPurpose, MemberCalls } from "./calls.ts";
import { isInEveryTable, isListed, type Member } from "./members.ts";
import type { MembershipOptions } from "./options.ts";
import type { MembershipOutput } from "./process-instances.ts";
import type { MembershipState } from "./state.ts";
import { UPDATE_REFUSALS, updateFault } from "./update-rules.ts";

/** Maximum number of concurrent push-pulls. */
const MAX_PUSH_PULLS = 4;
/** Maximum number of seeds that are called concurrently. It leaves one push-pull for other members. */
const SEEDS_AT_ONCE = MAX_PUSH_PULLS - 1;
/** If there are more members than this, push-pulls become less frequent. */
const SCALE_FROM_MEMBERS = 32;

/** Returns the push-pull period. It increases by one base period for each doubling above 32 members (as in memberlist). */
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
  /** The number of passes over all seeds, and the seeds that must still be called in the current pass. */
  #passCount = 0;
  #passSeeds: string[] = [];
  #hasJoined = false;
  /** Seeds that have neither answered nor failed since `join`. */
  readonly #pendingSeeds = new Set<string>();
  /** The address that last refused a call from this node. The address is called again in each round while it refuses. */
  #refuser: string | undefined;
  /**
   * Increases to the usual period. It starts short because a node that has just joined, or that found lost members again, may have missed some
   * members.
   */
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

  /** Number of rounds of calls to the seeds since `join`. */
  get joinAttempts(): number {
    return this.#joinAttempt;
  }

  /** Whether every seed has answered, refused, or failed. Until then, it is unknown whether this node is the only member. */
  get areSeedsTried(): boolean {
    return this.#pendingSeeds.size === 0;
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
    for (const member of this.#state.toContact.splice(0)) this.contact(member, time, out);
    if (this.#state.foundAgainCount > 0) this.#scheduleSoon(time);
    if (time.monoMs >= this.#joinAtMs) this.#join(time, out);
    if (time.monoMs >= this.#pushPullAtMs) this.#exchange(time, out);
    if (time.monoMs >= this.#reconnectAtMs) this.#reconnect(time, out);
    if (time.monoMs >= this.#state.identityDispute.nextDeadlineMs()) this.#askForStart(time, out);
  }

  /** Handles the process instance that another node has accepted for this node's id. */
  heldStart(
    purpose: CallPurpose,
    { from, heldStart }: Exclude<FabricCallResponse, { kind: "probeIndirect" | "maintain" }>,
    time: Time,
    out: MembershipOutput[],
  ): void {
    const { members, identityDispute, self } = this.#state;
    // The cluster to which an id belongs decides which process instance is accepted under the id.
    if (from.clusterId !== self.update.clusterId) return;
    // A response from this node itself does not contain any information.
    if (from.nodeId === self.ref.nodeId && heldStart === undefined) return;
    const address = purpose.kind === "pushPull" ? purpose.address : members.find(from.nodeId)?.update.address;
    if (address === undefined || !identityDispute.receive({ ...from, address }, heldStart, time) || heldStart === undefined) return;
    // Send an update that is newer than the last instance's update, because a node that restarts within a second starts counting from the same
    // number.
    this.#state.reannounce();
    this.#state.follow(heldStart);
    this.#compare(address, time, out);
  }

  /** Sends this node's own update again to the nodes that have accepted another process instance under its id, and to that instance. */
  #askForStart(time: Time, out: MembershipOutput[]): void {
    for (const { address, held } of this.#state.identityDispute.takeDue(time)) {
      this.#state.follow(held);
      this.#compare(address, time, out);
      if (held.address !== "" && held.address !== address) this.#compare(held.address, time, out);
    }
  }

  /** Answers a node that calls under this node's own id, to show that this node is running. */
  askedByTwin(request: FabricCallRequest, time: Time, out: MembershipOutput[]): FabricCallResponse | undefined {
    const { self } = this.#state;
    const { boot, address } = self.update;
    // This node called itself, because a seed is another name for its own address. That is not treated as a refusal.
    if (request.kind === "pushPull" && request.from.generation === self.ref.generation && request.from.boot === boot)
      return { kind: "pushPull", from: self.ref, members: [] };
    if (request.kind !== "pushPull" || boot === undefined || request.from.boot === undefined || request.from.boot === boot)
      return undefined;
    const twin = request.members.find(({ nodeId }) => nodeId === self.ref.nodeId);
    if (twin !== undefined) this.#state.askedBySecond(twin, time, out);
    return { kind: "pushPull", from: self.ref, members: [], heldStart: { boot, address } };
  }

  join(addresses: readonly string[], time: Time): void {
    this.#seeds = addresses.slice(0, this.#options.maxSeeds).filter((seed) => seed !== this.#state.self.update.address);
    this.#joinAttempt = 0;
    this.#passCount = 0;
    this.#passSeeds = [];
    this.#pendingSeeds.clear();
    for (const seed of this.#seeds) this.#pendingSeeds.add(seed);
    this.#joinAtMs = time.monoMs;
  }

  /**
   * Handles a node that is known to be running at an address. Starts a push-pull if this node does not know the other node, or if it differs from the
   * known member.
   */
  contact(member: NodeRef & { readonly address: string }, time: Time, out: MembershipOutput[]): void {
    const update = this.#state.members.find(member.nodeId)?.update;
    const isKnown = update !== undefined && isListed(update.status) && update.generation >= member.generation;
    if (!isKnown) this.#pushPull(member.address, time, out);
  }

  asked(call: CallId, request: FabricCallRequest & { readonly kind: "pushPull" }, time: Time, out: MembershipOutput[]): void {
    const { nodeId, clusterId } = request.from;
    const refusal = this.#memberCalls.receive(request.members, { nodeId, clusterId, path: "table" }, time, out);
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
    this.#pendingSeeds.delete(purpose.address);
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
    this.#memberCalls.receive(response.members, { nodeId, clusterId, path: purpose.isJoin ? "newcomer" : "table" }, time, out);
    const answerer = members.find(nodeId);
    if (answerer !== undefined) {
      answerer.isInReach = true;
      const { identityDispute } = this.#state;
      const event = identityDispute.refusedBy(nodeId, identityDispute.lastingRefusal(response));
      if (event !== undefined) out.push(event);
    }
    if (response.ownUpdateRefused === UPDATE_REFUSALS.ahead) this.#recount(time);
    if (purpose.isJoin) this.#scheduleSoon(time);
    if (purpose.step === "digest" && response.members.length > 0) this.#sendRest(purpose.address, response, time, out);
    if (this.#state.refutationCount === refutations || answerer === undefined) return;
    // The peer considers this node dead and will not contact it, so send the refutation immediately.
    const request = { kind: "probe", from: self.ref, targetNodeId: nodeId, updates: [self.update] } as const;
    this.#memberCalls.call({ kind: "gossip", nodeId }, purpose.address, request, this.#options.pingTimeoutMs, time, out);
  }

  /**
   * Lowers the incarnation if it was derived from a clock that was years ahead and was corrected later. Peers that refuse the high number accept the
   * lower one.
   */
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
   * Returns the table to send: this node, all listed members, and members that died or left less than `deadGossipMs` ago. In a response, it also contains the
   * caller, whatever its status, and omits the updates that the caller sent itself. At most `maxMembers`. O(n).
   */
  #table({ monoMs }: Time, caller?: { readonly from: NodeRef; readonly members: readonly MemberUpdate[] }): readonly MemberUpdate[] {
    const { deadGossipMs, maxMembers } = this.#options;
    const sent = new Map<string, MemberUpdate>();
    for (const update of caller?.members ?? []) sent.set(update.nodeId, update);
    const table = [this.#state.self.update];
    for (const { update, isWitnessed, changedMonoMs } of this.#state.members.all()) {
      const isIncluded =
        isInEveryTable(update) || (isWitnessed && monoMs - changedMonoMs < deadGossipMs) || update.nodeId === caller?.from.nodeId;
      if (table.length >= maxMembers) break;
      if (isIncluded && !isSame(sent.get(update.nodeId), update)) table.push(update);
    }
    return table;
  }

  #digest(): bigint {
    return this.#state.members.digestWith(this.#state.self.update);
  }

  /** Sends the full table to a node whose table may differ. */
  #pushPull(to: string, time: Time, out: MembershipOutput[]): void {
    const isJoin = this.#state.members.listed.length === 0;
    this.#call({ kind: "pushPull", address: to, isJoin, step: "whole" }, { isJoin, members: this.#table(time) }, time, out);
  }

  /** Sends only a digest. In most cases the peer has the same table, and tables of large groups are not small. */
  #compare(to: string, time: Time, out: MembershipOutput[]): void {
    const sent = { isJoin: false, members: [this.#state.self.update], digest: this.#digest() };
    this.#call({ kind: "pushPull", address: to, isJoin: false, step: "digest" }, sent, time, out);
  }

  #sendRest(to: string, peer: FabricCallResponse & { readonly kind: "pushPull" }, time: Time, out: MembershipOutput[]): void {
    const sent = { isJoin: false, members: this.#table(time, peer), digest: this.#digest() };
    this.#call({ kind: "pushPull", address: to, isJoin: false, step: "rest" }, sent, time, out);
  }

  #call(
    purpose: CallPurpose & { readonly kind: "pushPull" },
    sent: Pick<FabricCallRequest & { readonly kind: "pushPull" }, "isJoin" | "members" | "digest">,
    time: Time,
    out: MembershipOutput[],
  ): void {
    if (this.#count >= MAX_PUSH_PULLS || purpose.address === this.#state.self.update.address) return;
    this.#count += 1;
    const request = { kind: "pushPull", from: this.#state.self.ref, ...sent } as const;
    this.#memberCalls.call(purpose, purpose.address, request, this.#options.pushPullTimeoutMs, time, out);
  }

  /**
   * Calls each seed once, even if others have already answered, because the first one may have no members to report. Then repeats this with all seeds
   * until one of them answers.
   */
  #join(time: Time, out: MembershipOutput[]): void {
    this.#joinAtMs = NEVER;
    if (this.#passSeeds.length === 0 && !this.#beginPass()) return;
    // The refusing seed is called first, so that its refusal stays known for as long as it lasts, with any number of seeds.
    if (this.#refuser !== undefined) this.#pushPull(this.#refuser, time, out);
    while (this.#count < SEEDS_AT_ONCE) {
      const seed = this.#passSeeds.shift();
      if (seed === undefined) break;
      if (seed === this.#refuser) continue;
      // A seed that is already a member is contacted as a member.
      if (this.#hasJoined && this.#state.members.holderOf(seed) !== undefined) this.#pendingSeeds.delete(seed);
      else this.#pushPull(seed, time, out);
    }
    const { joinBaseMs, joinMaxMs } = this.#options;
    this.#joinAtMs = time.monoMs + backoffMs(this.#passCount - 1, this.#rng.next(), { baseMs: joinBaseMs, maxMs: joinMaxMs });
    this.#joinAttempt += 1;
  }

  /** Starts another pass over all seeds. Returns false when none is needed. */
  #beginPass(): boolean {
    // The members that are known only from gossip may be few, so this node has not joined until it receives a table.
    if (this.#seeds.length === 0 || (this.#hasJoined && this.#state.members.listed.length > 0)) return false;
    const start = this.#rng.int(this.#seeds.length);
    this.#passSeeds = [...this.#seeds.slice(start), ...this.#seeds.slice(0, start)];
    this.#passCount += 1;
    return true;
  }

  /** Occasionally contacts a dead member or an unlisted seed, so that two halves of a cluster that declared each other dead reconnect. */
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

  /** Contacts a random dead member. The probability is such that `count` members together make about one attempt for each dead member, as in serf. */
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
