/** What a node makes of what it is told and finds out about members: believes, doubts, contradicts, and passes it on. */
import { NEVER, type Time } from "../../lib/machine.ts";
import { eventOutput } from "../io-types.ts";
import type { ForeignPeers } from "../links/foreign-peers.ts";
import type { HeldInstance, MemberFacts, MemberUpdate, NodeRef, ProcessInstance } from "../wire/messages.ts";
import { BroadcastQueue } from "./broadcast-queue.ts";
import { IdConflicts, isStartElsewhere, type WaitingUpdate } from "./id-conflicts.ts";
import { IdentityDispute } from "./identity-dispute.ts";
import { LocalMember } from "./local-member.ts";
import {
  addEvidence,
  isAlwaysGossiped,
  isListed,
  isListedElsewhere,
  type Member,
  type MemberEvidence,
  Members,
  mergeVerdict,
} from "./members.ts";
import type { MembershipOptions } from "./options.ts";
import type { MembershipOutput, MembershipStateParts } from "./process-instances.ts";
import { ProcessInstances, startOf, type UnknownInstanceState } from "./process-instances.ts";
import { LocalHealth, SuspicionTable } from "./suspicion.ts";
import { isForeignClaim, isSelfReported, shouldAsk, shouldContact, type UpdateSource } from "./update-authority.ts";
import { noRefusals, type UpdateRefusal, updateFault } from "./update-rules.ts";

const FORGET_SWEEP_MS = 60_000;
/** A twin's address is contradicted at most so often. */
const TWIN_CONTRADICTED_MS = 10_000;
/** Nodes that are asked themselves, at a time. */
const MAX_UNTOLD = 8;
/** A death this old that is contradicted by an old word is told again: the speaker has been away. */
const RETELL_AFTER_MS = 60_000;

export class MembershipState {
  readonly self: LocalMember;
  readonly members: Members;
  readonly broadcasts = new BroadcastQueue();
  readonly health = new LocalHealth();
  readonly refused = noRefusals();
  /** Members to be probed out of turn. The owner empties it. */
  readonly doubted: Member[] = [];
  /** Nodes of our cluster of which only another cluster told: they are to be asked themselves. The owner empties it. */
  readonly untold: MemberUpdate[] = [];
  refutationCount = 0;
  readonly instances: ProcessInstances;
  readonly identityDispute: IdentityDispute;
  /** Dead members that turned out to live. The owner sets it back. */
  foundAgainCount = 0;
  readonly #options: MembershipOptions;
  readonly #foreignPeers: ForeignPeers | undefined;
  readonly #conflicts: IdConflicts;
  readonly #suspicions: SuspicionTable<Member>;
  #sweepAtMs = NEVER;
  #twinMs = Number.NEGATIVE_INFINITY;

  constructor(facts: MemberFacts, options: MembershipOptions, parts: MembershipStateParts = {}) {
    this.self = new LocalMember(facts);
    this.members = new Members(facts.clusterId);
    this.instances = new ProcessInstances(options.maxMembers, facts.clusterId, parts.acceptedStarts);
    this.identityDispute = new IdentityDispute(parts.earlierBoots ?? []);
    this.#foreignPeers = parts.foreignPeers;
    this.#options = options;
    this.#conflicts = new IdConflicts(options, facts.clusterId);
    this.#suspicions = new SuspicionTable(options);
  }

  /** Listed members and self. */
  get count(): number {
    return this.members.listed.length + 1;
  }

  get conflictCount(): number {
    return this.#conflicts.size;
  }

  /** Takes in one update as another node told it; returns why it was refused, and undefined when it was not. */
  learn(told: MemberUpdate, updateSource: UpdateSource, time: Time, out: MembershipOutput[]): UpdateRefusal | undefined {
    const refusal = this.#refusalOf(told, updateSource, time);
    if (refusal !== undefined) this.refused[refusal] += 1;
    if (refusal === "foreign") this.#foreign(told, updateSource, out);
    // A word about an earlier start is old; only from itself it may be the word of a second node.
    if (refusal === "start" && isSelfReported(told, updateSource) && this.meet(told, time) === "two") this.#twoNodes(told, time, out);
    if (refusal !== undefined) return refusal;
    if (told.nodeId === this.self.ref.nodeId) this.#aboutSelf(told, updateSource, time, out);
    else this.#aboutOther(told, updateSource, time, out);
    return undefined;
  }

  #refusalOf(told: MemberUpdate, updateSource: UpdateSource, time: Time): UpdateRefusal | undefined {
    const isOfSelf = told.nodeId === this.self.ref.nodeId;
    const fault = updateFault(told, time.wallMs, isOfSelf || isSelfReported(told, updateSource));
    if (fault !== undefined) return fault;
    const member = this.members.find(told.nodeId)?.update;
    const known = { own: this.self.update, member };
    if (isForeignClaim(told, updateSource, known)) {
      if (shouldContact(told, known) && this.untold.length < MAX_UNTOLD) this.untold.push(told);
      return "border";
    }
    if (isOfSelf) return undefined;
    if (this.#foreignPeers?.refusalOf(told) !== undefined) return "foreign";
    if (this.instances.verdict(told, isSelfReported(told, updateSource)) === "stranger") return "start";
    if (member === undefined && !this.members.hasRoomFor(told.clusterId, this.#options.maxMembers)) return "full";
    return isListed(told.status) && told.address === this.self.update.address ? "ownAddress" : undefined;
  }

  /** Told of once a place: what would let it in, or that our own cluster is in two regions by mistake. */
  #foreign(told: MemberUpdate, updateSource: UpdateSource, out: MembershipOutput[]): void {
    const { nodeId, address, clusterId, region, status } = told;
    const refusal = this.#foreignPeers?.refusalOf(told);
    if (refusal === undefined || this.#foreignPeers?.note(nodeId, told) !== true || !isListed(status)) return;
    const own = this.self.update;
    const detail = { nodeId, address, clusterId, region, toldBy: updateSource.nodeId };
    if (clusterId === own.clusterId) out.push(eventOutput("cluster_in_two_regions", "warn", { ...detail, ours: own.region }));
    else out.push(eventOutput("foreign_node_refused", "warn", { ...detail, ...refusal }));
  }

  #aboutOther(told: MemberUpdate, updateSource: UpdateSource, time: Time, out: MembershipOutput[]): void {
    const member = this.members.find(told.nodeId);
    if (member === undefined) {
      this.#apply(told, updateSource, time, out);
      return;
    }
    // A table may be old. Whom it calls dead gets the time to contradict (as memberlist does), unless we know no better.
    const isDoubtful = updateSource.path !== "gossip" && told.status === "dead" && isListed(member.update.status);
    const said: MemberUpdate = isDoubtful ? { ...told, status: "suspect", accuser: updateSource.nodeId } : told;
    const start = this.instances.verdict(told, isSelfReported(told, updateSource));
    const update = start === "unsaid" ? { ...said, ...startOf(member.update) } : said;
    switch (mergeVerdict(member.update, update)) {
      case "apply":
        if (isListed(member.update.status) && shouldAsk(told, updateSource, member.update, start))
          this.#challenge(member, said, "start", updateSource, time, out);
        else this.#apply(update, updateSource, time, out);
        return;
      case "confirm":
        this.#confirm(member, update, updateSource, time);
        return;
      case "challenge":
        this.#challenge(member, update, "life", updateSource, time, out);
        return;
      case "stale":
        if (!isListed(member.update.status) && isListed(update.status) && time.monoMs - member.changedMonoMs >= RETELL_AFTER_MS) {
          if (!this.broadcasts.has(update.nodeId)) this.broadcasts.add(member.update);
        }
    }
  }

  /** Own probes of the member failed. */
  accuse(member: Member, path: "direct" | "indirect", via: readonly string[], time: Time, out: MembershipOutput[]): void {
    const { update } = member;
    const accuser = this.self.ref.nodeId;
    const next = this.#conflicts.find(update.nodeId);
    const isSilent = !this.instances.isHeard(update.nodeId, this.#options.intervalMs, time);
    if (isSilent && next !== undefined && isStartElsewhere(next, update)) {
      // It moved with its disk, or was restored: its earlier start is silent, and that is enough.
      this.#apply(next.update, { nodeId: next.tellerId, path: "gossip", clusterId: update.clusterId }, time, out);
      return;
    }
    if (update.status === "suspect") {
      if (this.#suspicions.confirm(member, accuser)) {
        this.broadcasts.add({ ...update, accuser });
        addEvidence(member, { atWallMs: time.wallMs, status: "suspect", incarnation: update.incarnation, accuser, path, via });
      }
      return;
    }
    if (update.status !== "alive") return;
    out.push(eventOutput("member_suspected", "info", { nodeId: update.nodeId, path, via: via.join(" ") }));
    this.#put({ ...update, status: "suspect", accuser }, { accuser, path, via }, time, out);
  }

  /** A stranger speaks of itself: the accepted start is looked for at its own address, for only if it is there too there are two. */
  meet(stranger: NodeRef & ProcessInstance & { readonly address: string }, time: Time): UnknownInstanceState {
    const standing = this.instances.meet(stranger, time);
    const member = this.members.find(stranger.nodeId);
    if (standing === "first" && member !== undefined && isListedElsewhere(member.update, stranger)) this.doubted.push(member);
    return standing;
  }

  isListed(nodeId: string): boolean {
    return isListed(this.members.find(nodeId)?.update.status ?? "dead");
  }

  /** What this node says of itself names the start that another one holds, if it was one of ours. */
  follow({ boot }: HeldInstance): void {
    if (!this.self.isLeft && this.identityDispute.isEarlier(boot) && this.self.update.bootBefore !== boot)
      this.broadcasts.add(this.self.change({ ...this.self.update, bootBefore: boot }));
  }

  /** It asked something: it is still there, even where this node cannot reach it. */
  asked(from: NodeRef & ProcessInstance, time: Time, out: MembershipOutput[]): void {
    this.instances.heard(from, time);
    const next = this.#conflicts.find(from.nodeId);
    if (next?.reason === "life" && next.update.generation > from.generation) this.#twoNodes(next.update, time, out);
  }

  /** It answered, in the start `from` says: another one of its id that waits is a second node, or what others made up. */
  stillThere({ update }: Member, from: NodeRef & ProcessInstance, time: Time, out: MembershipOutput[]): void {
    this.instances.prove(from, time);
    const next = this.#conflicts.find(update.nodeId);
    if (next === undefined || next.reason === "address" || from.generation !== update.generation) return;
    if (next.reason === "life" || next.update.address !== update.address) return this.#twoNodes(next.update, time, out);
    this.#conflicts.drop(update.nodeId);
    if (next.update.boot === from.boot)
      this.#apply(next.update, { nodeId: update.nodeId, path: "gossip", clusterId: update.clusterId }, time, out);
  }

  #twoNodes(second: MemberUpdate, time: Time, out: MembershipOutput[]): void {
    out.push(...this.instances.second(second, time, this.members.find(second.nodeId)?.update));
  }

  /** Own facts are others now. */
  changeFacts(facts: MemberFacts): void {
    if (!this.self.isLeft) this.broadcasts.add(this.self.change(facts));
  }

  /** A new word that this node lives, though nobody was heard to doubt it. */
  reassure(): void {
    this.broadcasts.add(this.self.contradict(0));
  }

  leave(): void {
    if (!this.self.isLeft) this.broadcasts.add(this.self.leave());
  }

  /** Somebody answered at the address as the newcomer: whoever was listed there is there no more. */
  answeredAs(nodeId: string, time: Time, out: MembershipOutput[]): void {
    const waiting = this.#conflicts.find(nodeId);
    if (waiting === undefined || waiting.reason !== "address") return;
    this.#conflicts.drop(nodeId);
    const holder = this.members.holderOf(waiting.update.address);
    this.#put(waiting.update, { accuser: "", path: "direct", via: [] }, time, out);
    if (holder !== undefined) this.accuse(holder, "direct", [nodeId], time, out);
  }

  /** Newcomers whose address should be probed now. */
  checks(time: Time): WaitingUpdate[] {
    return this.#conflicts.size === 0 ? [] : this.#conflicts.due(time.monoMs);
  }

  tick(time: Time, out: MembershipOutput[]): void {
    this.#expire(time, out);
    if (time.monoMs >= this.#sweepAtMs) this.#sweep(time, out);
  }

  nextDeadlineMs(): number {
    return Math.min(this.#suspicions.nextDeadlineMs(), this.#sweepAtMs, this.#conflicts.nextDeadlineMs());
  }

  /** The process slept: what was not heard meanwhile proves nothing. */
  postpone(byMs: number, nowMonoMs: number): void {
    this.#conflicts.postpone(byMs);
    this.instances.postpone(byMs);
    this.#suspicions.postpone(byMs, nowMonoMs);
  }

  #apply(update: MemberUpdate, updateSource: UpdateSource, time: Time, out: MembershipOutput[]): void {
    if (isListed(update.status) && this.#isAddressTaken(update, updateSource, time, out)) return;
    this.#conflicts.dropUpTo(update);
    const source = {
      accuser: update.accuser,
      path: updateSource.path === "gossip" ? "gossip" : "table",
      via: [updateSource.nodeId],
    } as const;
    this.#put(update, source, time, out, updateSource.path !== "newcomer");
    if (isSelfReported(update, updateSource)) this.instances.prove(update, time);
  }

  #isAddressTaken(update: MemberUpdate, updateSource: UpdateSource, time: Time, out: MembershipOutput[]): boolean {
    const holder = this.members.holderOf(update.address);
    if (holder === undefined || holder.update.nodeId === update.nodeId) return false;
    this.#hold(update, "address", updateSource, time, out);
    return true;
  }

  #challenge(
    member: Member,
    update: MemberUpdate,
    reason: "life" | "start",
    updateSource: UpdateSource,
    time: Time,
    out: MembershipOutput[],
  ): void {
    if (!isListed(update.status)) {
      this.#conflicts.dropUpTo(update);
      return;
    }
    this.#hold(update, reason, updateSource, time, out);
    this.doubted.push(member);
  }

  #hold(update: MemberUpdate, reason: WaitingUpdate["reason"], updateSource: UpdateSource, time: Time, out: MembershipOutput[]): void {
    const held = this.#conflicts.add(update, reason, time.monoMs, updateSource.nodeId);
    if (held === "full") this.refused.conflictsFull += 1;
    if (held !== "new" || reason === "start") return;
    // Everybody has to know of it when the older one is gone. That there are two is told once that one has shown that it is still there.
    this.broadcasts.add(update);
    if (reason === "life") return;
    const { nodeId, generation, address } = update;
    out.push(eventOutput("address_of_another_member", "warn", { nodeId, generation, address }, { isAudited: true }));
  }

  #confirm(member: Member, update: MemberUpdate, updateSource: UpdateSource, time: Time): void {
    if (update.accuser === "" || !this.#suspicions.confirm(member, update.accuser)) return;
    this.broadcasts.add(update);
    const { status, incarnation, accuser } = update;
    const path = updateSource.path === "gossip" ? "gossip" : "table";
    addEvidence(member, { atWallMs: time.wallMs, status, incarnation, accuser, path, via: [updateSource.nodeId] });
  }

  #put(
    update: MemberUpdate,
    source: Pick<MemberEvidence, "accuser" | "path" | "via">,
    time: Time,
    out: MembershipOutput[],
    isNews = true,
  ): void {
    const { member, before } = this.members.put(update, time.monoMs);
    this.instances.accept(update);
    this.#doubt(member, source.path, time);
    if (update.status !== "alive" || (before !== undefined && before !== "alive")) {
      addEvidence(member, { atWallMs: time.wallMs, status: update.status, incarnation: update.incarnation, ...source });
    }
    if (isListed(update.status)) {
      if (before === "dead") this.foundAgainCount += 1;
    } else {
      this.#sweepAtMs = Math.min(this.#sweepAtMs, time.monoMs + FORGET_SWEEP_MS);
      for (const waiting of this.#conflicts.release(update.nodeId, update.address)) {
        this.learn(waiting.update, { ...this.self.ref, path: "gossip" }, time, out);
        // It was the node's own word that waited.
        if (waiting.tellerId === waiting.update.nodeId) this.instances.prove(waiting.update, time);
      }
    }
    // Somebody unknown who is gone concerns nobody else: only who saw it go tells it.
    if (isNews && (before !== undefined || isListed(update.status) || source.path === "gossip")) this.broadcasts.add(update);
    out.push({ kind: "memberChanged", update, before });
  }

  /** Starts or ends the member's suspicion, as its status asks. */
  #doubt(member: Member, path: MemberEvidence["path"], time: Time): void {
    if (member.update.status === "suspect") {
      this.#suspicions.start(member, this.count, time.monoMs);
      // A few look for themselves at once: real deaths are confirmed soon, and the living contradict soon.
      const isTold = path === "gossip" || path === "table";
      if (isTold && this.members.isLooker(this.self.ref.nodeId, member, this.#options.verifyCount)) this.doubted.push(member);
    } else if (member.suspicion !== undefined) {
      this.#suspicions.end(member);
    }
  }

  #expire(time: Time, out: MembershipOutput[]): void {
    for (const { member, accusers } of this.#suspicions.expired(time.monoMs)) {
      const { update } = member;
      out.push(eventOutput("member_dead", "warn", { nodeId: update.nodeId, accusers: accusers.join(" ") }));
      this.#put({ ...update, status: "dead" }, { accuser: update.accuser, path: "timeout", via: accusers }, time, out);
    }
  }

  #sweep(time: Time, out: MembershipOutput[]): void {
    let isAnyGone = false;
    for (const member of this.members.all()) {
      // Who left entries behind is remembered: they stand for as long as it is known why.
      if (isAlwaysGossiped(member.update)) continue;
      if (time.monoMs - member.changedMonoMs < this.#options.deadForgetMs) {
        isAnyGone = true;
        continue;
      }
      this.members.forget(member);
      this.identityDispute.forget(member.update.nodeId);
      this.broadcasts.drop(member.update.nodeId);
      out.push({ kind: "memberForgotten", nodeId: member.update.nodeId });
    }
    this.#sweepAtMs = isAnyGone ? time.monoMs + FORGET_SWEEP_MS : NEVER;
  }

  #aboutSelf(told: MemberUpdate, updateSource: UpdateSource, time: Time, out: MembershipOutput[]): void {
    const own = this.self.update;
    if (told.generation > own.generation) {
      this.#conflict(told, updateSource, time, out);
      return;
    }
    if (told.generation < own.generation || told.incarnation < own.incarnation || this.self.isLeft) return;
    if (told.status === "alive" && told.incarnation === own.incarnation && told.address === own.address) return;
    if (told.status === "alive" && told.address !== own.address) {
      this.#conflict(told, updateSource, time, out);
      // Two that run from copies of one journal would contradict each other as fast as gossip goes.
      if (time.monoMs - this.#twinMs < TWIN_CONTRADICTED_MS) return;
      this.#twinMs = time.monoMs;
    }
    this.broadcasts.add(this.self.contradict(told.incarnation));
    this.refutationCount += 1;
    if (told.status === "alive") return;
    // Others had reason to doubt us (Lifeguard §IV-A).
    this.health.worsen(1);
    const detail = { said: told.status, accuser: told.accuser, toldBy: updateSource.nodeId, incarnation: told.incarnation };
    out.push(eventOutput("contradicted_own_death", "info", detail));
  }

  /** Another node asks under our own id. */
  askedBySecond(told: MemberUpdate, time: Time, out: MembershipOutput[]): void {
    this.identityDispute.second(told.address, time);
    this.#conflict(told, { nodeId: told.nodeId, path: "table", clusterId: told.clusterId }, time, out);
  }

  /** Somebody else uses our id, or did so after us. */
  #conflict(told: MemberUpdate, updateSource: UpdateSource, time: Time, out: MembershipOutput[]): void {
    const event = this.identityDispute.conflict(told, { address: this.self.update.address, toldBy: updateSource.nodeId }, time);
    if (event !== undefined) out.push(event, { kind: "ownIdUsed", told, toldBy: updateSource.nodeId });
  }
}
