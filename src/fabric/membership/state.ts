/**
 * Applies updates and probe results to the member table: accepts updates, suspects members, refutes suspicions, and queues updates for other nodes.
 */
import { NEVER, type Time } from "../../lib/machine.ts";
import { eventOutput } from "../io-types.ts";
import type { ForeignPeers } from "../links/foreign-peers.ts";
import type { HeldInstance, MemberFacts, MemberUpdate, NodeRef, ProcessInstance } from "../wire/messages.ts";
import { BroadcastQueue } from "./broadcast-queue.ts";
import { IdConflicts, isStartElsewhere, type PendingUpdate } from "./id-conflicts.ts";
import { IdentityDispute } from "./identity-dispute.ts";
import { LocalMember } from "./local-member.ts";
import {
  addEvidence,
  isInEveryTable,
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
import { isOwnUpdate, isUnauthorizedReport, needsProbe, shouldContact, type UpdateSource } from "./update-authority.ts";
import { noRefusals, type UpdateRefusal, updateFault } from "./update-rules.ts";

const FORGET_SWEEP_MS = 60_000;
/** Minimum time between two refutations of updates that have this node's id and another node's address. */
const TWIN_REFUTED_MS = 10_000;
/** Maximum number of pending nodes to contact directly. */
const MAX_TO_CONTACT = 8;
/**
 * When an old update contradicts a death that is at least this old, the death is sent again, because the sender of the update was probably
 * unreachable the first time.
 */
const RESEND_DEATH_AFTER_MS = 60_000;

export class MembershipState {
  readonly self: LocalMember;
  readonly members: Members;
  readonly broadcasts = new BroadcastQueue();
  readonly health = new LocalHealth();
  readonly refused = noRefusals();
  /** Members to probe outside the normal order. The owner empties this list. */
  readonly toProbe: Member[] = [];
  /** Nodes of this cluster that have been reported only by another cluster. These nodes must be contacted directly. The owner empties this list. */
  readonly toContact: MemberUpdate[] = [];
  refutationCount = 0;
  readonly instances: ProcessInstances;
  readonly identityDispute: IdentityDispute;
  /** Number of dead members that turned out to be alive. The owner resets it. */
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

  /** Listed members and this node itself. */
  get count(): number {
    return this.members.listed.length + 1;
  }

  get conflictCount(): number {
    return this.#conflicts.size;
  }

  /** Applies an update from another node. Returns why it was refused, or undefined when it was accepted. */
  learn(received: MemberUpdate, sender: UpdateSource, time: Time, out: MembershipOutput[]): UpdateRefusal | undefined {
    const refusal = this.#refusalOf(received, sender, time);
    if (refusal !== undefined) this.refused[refusal] += 1;
    if (refusal === "foreign") this.#foreign(received, sender, out);
    // An update about an earlier process instance is outdated. It can indicate a second node only if the node itself sends the update.
    if (refusal === "start" && isOwnUpdate(received, sender) && this.meet(received, time) === "two") this.#twoNodes(received, time, out);
    if (refusal !== undefined) return refusal;
    if (received.nodeId === this.self.ref.nodeId) this.#aboutSelf(received, sender, time, out);
    else this.#aboutOther(received, sender, time, out);
    return undefined;
  }

  #refusalOf(received: MemberUpdate, sender: UpdateSource, time: Time): UpdateRefusal | undefined {
    const isOfSelf = received.nodeId === this.self.ref.nodeId;
    const fault = updateFault(received, time.wallMs, isOfSelf || isOwnUpdate(received, sender));
    if (fault !== undefined) return fault;
    const member = this.members.find(received.nodeId)?.update;
    const known = { own: this.self.update, member };
    if (isUnauthorizedReport(received, sender, known)) {
      if (shouldContact(received, known) && this.toContact.length < MAX_TO_CONTACT) this.toContact.push(received);
      return "border";
    }
    if (isOfSelf) return undefined;
    if (this.#foreignPeers?.refusalOf(received) !== undefined) return "foreign";
    if (this.instances.verdict(received, isOwnUpdate(received, sender)) === "stranger") return "start";
    if (member === undefined && !this.members.hasRoomFor(received.clusterId, this.#options.maxMembers)) return "full";
    return isListed(received.status) && received.address === this.self.update.address ? "ownAddress" : undefined;
  }

  /**
   * Logs a refused cluster and region once. The text names the setting that would allow the cluster, or reports the error that this node's own
   * cluster is in two regions.
   */
  #foreign(received: MemberUpdate, sender: UpdateSource, out: MembershipOutput[]): void {
    const { nodeId, address, clusterId, region, status } = received;
    const refusal = this.#foreignPeers?.refusalOf(received);
    if (refusal === undefined || this.#foreignPeers?.note(nodeId, received) !== true || !isListed(status)) return;
    const own = this.self.update;
    const detail = { nodeId, address, clusterId, region, toldBy: sender.nodeId };
    if (clusterId === own.clusterId) out.push(eventOutput("cluster_in_two_regions", "warn", { ...detail, ours: own.region }));
    else out.push(eventOutput("foreign_node_refused", "warn", { ...detail, ...refusal }));
  }

  #aboutOther(received: MemberUpdate, sender: UpdateSource, time: Time, out: MembershipOutput[]): void {
    const member = this.members.find(received.nodeId);
    if (member === undefined) {
      this.#apply(received, sender, time, out);
      return;
    }
    // A table may be outdated. A member that the table declares dead gets time to refute (as in memberlist), unless this node does not list the
    // member.
    const isUnconfirmedDeath = sender.path !== "gossip" && received.status === "dead" && isListed(member.update.status);
    const claim: MemberUpdate = isUnconfirmedDeath ? { ...received, status: "suspect", accuser: sender.nodeId } : received;
    const start = this.instances.verdict(received, isOwnUpdate(received, sender));
    const update = start === "unnamed" ? { ...claim, ...startOf(member.update) } : claim;
    switch (mergeVerdict(member.update, update)) {
      case "apply":
        if (isListed(member.update.status) && needsProbe(received, sender, member.update, start))
          this.#challenge(member, claim, "start", sender, time, out);
        else this.#apply(update, sender, time, out);
        return;
      case "confirm":
        this.#confirm(member, update, sender, time);
        return;
      case "challenge":
        this.#challenge(member, update, "life", sender, time, out);
        return;
      case "stale":
        if (!isListed(member.update.status) && isListed(update.status) && time.monoMs - member.changedMonoMs >= RESEND_DEATH_AFTER_MS) {
          if (!this.broadcasts.has(update.nodeId)) this.broadcasts.add(member.update);
        }
    }
  }

  /** Handles failed probes of a member that this node sent. */
  accuse(member: Member, path: "direct" | "indirect", via: readonly string[], time: Time, out: MembershipOutput[]): void {
    const { update } = member;
    const accuser = this.self.ref.nodeId;
    const next = this.#conflicts.find(update.nodeId);
    const isSilent = !this.instances.hasCalled(update.nodeId, this.#options.intervalMs, time);
    if (isSilent && next !== undefined && isStartElsewhere(next, update)) {
      // The node was moved with its disk, or was restored. Its earlier process instance does not answer, so the pending one is accepted.
      this.#apply(next.update, { nodeId: next.senderId, path: "gossip", clusterId: update.clusterId }, time, out);
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

  /**
   * Handles an unknown process instance that announces itself. The accepted instance is probed at its own address, because there are two nodes only
   * if it answers too.
   */
  meet(stranger: NodeRef & ProcessInstance & { readonly address: string }, time: Time): UnknownInstanceState {
    const standing = this.instances.meet(stranger, time);
    const member = this.members.find(stranger.nodeId);
    if (standing === "first" && member !== undefined && isListedElsewhere(member.update, stranger)) this.toProbe.push(member);
    return standing;
  }

  isListed(nodeId: string): boolean {
    return isListed(this.members.find(nodeId)?.update.status ?? "dead");
  }

  /** Announces the process instance that another node has accepted as this node's predecessor, if it was one of this node's earlier instances. */
  follow({ boot }: HeldInstance): void {
    if (!this.self.isLeft && this.identityDispute.isEarlier(boot) && this.self.update.bootBefore !== boot)
      this.broadcasts.add(this.self.change({ ...this.self.update, bootBefore: boot }));
  }

  /** Handles a call from a node. The caller is running, even if this node cannot reach it. */
  asked(from: NodeRef & ProcessInstance, time: Time, out: MembershipOutput[]): void {
    this.instances.called(from, time);
    const next = this.#conflicts.find(from.nodeId);
    if (next?.reason === "life" && next.update.generation > from.generation) this.#twoNodes(next.update, time, out);
  }

  /**
   * Handles a probe response from the process instance in `from`. If there is another pending update for the id, it comes from a second node or is
   * forged.
   */
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

  /** Replaces this node's facts. */
  changeFacts(facts: MemberFacts): void {
    if (!this.self.isLeft) this.broadcasts.add(this.self.change(facts));
  }

  /** Sends a new update that this node is alive, although it was not suspected. */
  reannounce(): void {
    this.broadcasts.add(this.self.refute(0));
  }

  leave(): void {
    if (!this.self.isLeft) this.broadcasts.add(this.self.leave());
  }

  /** Handles a newcomer's probe response: the newcomer is running at the address, so the member that was listed there is not. */
  answeredAs(nodeId: string, time: Time, out: MembershipOutput[]): void {
    const waiting = this.#conflicts.find(nodeId);
    if (waiting === undefined || waiting.reason !== "address") return;
    this.#conflicts.drop(nodeId);
    const holder = this.members.holderOf(waiting.update.address);
    this.#put(waiting.update, { accuser: "", path: "direct", via: [] }, time, out);
    if (holder !== undefined) this.accuse(holder, "direct", [nodeId], time, out);
  }

  /** Returns the newcomers whose address must be probed now. */
  checks(time: Time): PendingUpdate[] {
    return this.#conflicts.size === 0 ? [] : this.#conflicts.due(time.monoMs);
  }

  tick(time: Time, out: MembershipOutput[]): void {
    this.#expire(time, out);
    if (time.monoMs >= this.#sweepAtMs) this.#sweep(time, out);
  }

  nextDeadlineMs(): number {
    return Math.min(this.#suspicions.nextDeadlineMs(), this.#sweepAtMs, this.#conflicts.nextDeadlineMs());
  }

  /** Extends all deadlines by the length of a pause of this process. Responses that are missing because of the pause prove nothing. */
  postpone(byMs: number, nowMonoMs: number): void {
    this.#conflicts.postpone(byMs);
    this.instances.postpone(byMs);
    this.#suspicions.postpone(byMs, nowMonoMs);
  }

  #apply(update: MemberUpdate, sender: UpdateSource, time: Time, out: MembershipOutput[]): void {
    if (isListed(update.status) && this.#isAddressTaken(update, sender, time, out)) return;
    this.#conflicts.dropUpTo(update);
    const source = {
      accuser: update.accuser,
      path: sender.path === "gossip" ? "gossip" : "table",
      via: [sender.nodeId],
    } as const;
    this.#put(update, source, time, out, sender.path !== "newcomer");
    if (isOwnUpdate(update, sender)) this.instances.prove(update, time);
  }

  #isAddressTaken(update: MemberUpdate, sender: UpdateSource, time: Time, out: MembershipOutput[]): boolean {
    const holder = this.members.holderOf(update.address);
    if (holder === undefined || holder.update.nodeId === update.nodeId) return false;
    this.#hold(update, "address", sender, time, out);
    return true;
  }

  #challenge(
    member: Member,
    update: MemberUpdate,
    reason: "life" | "start",
    sender: UpdateSource,
    time: Time,
    out: MembershipOutput[],
  ): void {
    if (!isListed(update.status)) {
      this.#conflicts.dropUpTo(update);
      return;
    }
    this.#hold(update, reason, sender, time, out);
    this.toProbe.push(member);
  }

  #hold(update: MemberUpdate, reason: PendingUpdate["reason"], sender: UpdateSource, time: Time, out: MembershipOutput[]): void {
    const held = this.#conflicts.add(update, reason, time.monoMs, sender.nodeId);
    if (held === "full") this.refused.conflictsFull += 1;
    if (held !== "new" || reason === "start") return;
    // All members must know the update by the time the older node is gone. An event about two nodes is logged only after the older one has proved
    // that it is running.
    this.broadcasts.add(update);
    if (reason === "life") return;
    const { nodeId, generation, address } = update;
    out.push(eventOutput("address_of_another_member", "warn", { nodeId, generation, address }, { isAudited: true }));
  }

  #confirm(member: Member, update: MemberUpdate, sender: UpdateSource, time: Time): void {
    if (update.accuser === "" || !this.#suspicions.confirm(member, update.accuser)) return;
    this.broadcasts.add(update);
    const { status, incarnation, accuser } = update;
    const path = sender.path === "gossip" ? "gossip" : "table";
    addEvidence(member, { atWallMs: time.wallMs, status, incarnation, accuser, path, via: [sender.nodeId] });
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
    this.#updateSuspicion(member, source.path, time);
    if (update.status !== "alive" || (before !== undefined && before !== "alive")) {
      addEvidence(member, { atWallMs: time.wallMs, status: update.status, incarnation: update.incarnation, ...source });
    }
    if (isListed(update.status)) {
      if (before === "dead") this.foundAgainCount += 1;
    } else {
      this.#sweepAtMs = Math.min(this.#sweepAtMs, time.monoMs + FORGET_SWEEP_MS);
      for (const waiting of this.#conflicts.release(update.nodeId, update.address)) {
        this.learn(waiting.update, { ...this.self.ref, path: "gossip" }, time, out);
        // The pending update was sent by the node itself.
        if (waiting.senderId === waiting.update.nodeId) this.instances.prove(waiting.update, time);
      }
    }
    // The death or departure of a member that this node has never listed is not gossiped. Only nodes that had listed it spread this status.
    if (isNews && (before !== undefined || isListed(update.status) || source.path === "gossip")) this.broadcasts.add(update);
    out.push({ kind: "memberChanged", update, before });
  }

  /** Starts or ends the suspicion of a member, according to its status. */
  #updateSuspicion(member: Member, path: MemberEvidence["path"], time: Time): void {
    if (member.update.status === "suspect") {
      this.#suspicions.start(member, this.count, time.monoMs);
      // A few nodes verify the suspicion immediately, so that real deaths are confirmed early and live members refute early.
      const isReceived = path === "gossip" || path === "table";
      if (isReceived && this.members.isVerifier(this.self.ref.nodeId, member, this.#options.verifyCount)) this.toProbe.push(member);
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
      // A member that left entries behind is remembered, because its entries stay for as long as the reason is known.
      if (isInEveryTable(member.update)) continue;
      if (time.monoMs - member.changedMonoMs < this.#options.deadForgetMs) {
        isAnyGone = true;
        continue;
      }
      this.#drop(member, out);
    }
    this.#sweepAtMs = isAnyGone ? time.monoMs + FORGET_SWEEP_MS : NEVER;
  }

  #drop(member: Member, out: MembershipOutput[]): void {
    const { nodeId } = member.update;
    this.members.forget(member);
    this.identityDispute.forget(nodeId);
    this.broadcasts.drop(nodeId);
    out.push({ kind: "memberForgotten", nodeId });
  }

  /** Forgets a member that is dead or has left. */
  forget(nodeId: string, out: MembershipOutput[]): void {
    const member = this.members.find(nodeId);
    if (member !== undefined && !isListed(member.update.status)) this.#drop(member, out);
  }

  #aboutSelf(received: MemberUpdate, sender: UpdateSource, time: Time, out: MembershipOutput[]): void {
    const own = this.self.update;
    if (received.generation > own.generation) {
      this.#conflict(received, sender, time, out);
      return;
    }
    if (received.generation < own.generation || received.incarnation < own.incarnation || this.self.isLeft) return;
    if (received.status === "alive" && received.incarnation === own.incarnation && received.address === own.address) return;
    if (received.status === "alive" && received.address !== own.address) {
      this.#conflict(received, sender, time, out);
      // Otherwise, two nodes that run from copies of one journal would refute each other as fast as gossip spreads.
      if (time.monoMs - this.#twinMs < TWIN_REFUTED_MS) return;
      this.#twinMs = time.monoMs;
    }
    this.broadcasts.add(this.self.refute(received.incarnation));
    this.refutationCount += 1;
    if (received.status === "alive") return;
    // Other nodes had a reason to suspect this node (Lifeguard §IV-A).
    this.health.worsen(1);
    const detail = { said: received.status, accuser: received.accuser, toldBy: sender.nodeId, incarnation: received.incarnation };
    out.push(eventOutput("contradicted_own_death", "info", detail));
  }

  /** Handles a call from another node that uses this node's own id. */
  askedBySecond(received: MemberUpdate, time: Time, out: MembershipOutput[]): void {
    this.identityDispute.second(received.address, time);
    this.#conflict(received, { nodeId: received.nodeId, path: "table", clusterId: received.clusterId }, time, out);
  }

  /** Reports that another node uses this node's id, or started to use it later than this node. */
  #conflict(received: MemberUpdate, sender: UpdateSource, time: Time, out: MembershipOutput[]): void {
    const event = this.identityDispute.conflict(received, { address: this.self.update.address, toldBy: sender.nodeId }, time);
    if (event !== undefined) out.push(event, { kind: "ownIdUsed", told: received, toldBy: sender.nodeId });
  }
}
