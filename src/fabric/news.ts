/** What a node makes of what it is told and finds out about members: believes, doubts, contradicts, and passes it on. */
import type { Time } from "../lib/machine.ts";
import type { Rng } from "../lib/rng.ts";
import type { Foreigners } from "./foreigners.ts";
import { GossipQueue } from "./gossip.ts";
import { addEvidence, type Evidence, isListed, type Member, Members, mergeVerdict } from "./members.ts";
import type { MembershipOptions } from "./membership-options.ts";
import type { MemberFacts, MemberStatus, MemberUpdate } from "./messages.ts";
import { Quarantine, type Waiting } from "./quarantine.ts";
import { eventOutput, type FabricOutput } from "./seam.ts";
import { Self } from "./self.ts";
import { LocalHealth, Suspicion, suspicionBounds } from "./suspicion.ts";
import { type UpdateRefusal, updateFault } from "./update-rules.ts";

export type MembershipOutput =
  | Extract<FabricOutput, { readonly kind: "call" | "answer" | "event" | "memberForgotten" }>
  | { readonly kind: "memberChanged"; readonly update: MemberUpdate; readonly before: MemberStatus | undefined }
  /** Others know this node's id in a later life, or somewhere else; said as seldom as it is told to the operator. */
  | { readonly kind: "ownIdUsed"; readonly told: MemberUpdate; readonly toldBy: string };

/** Who told us. `newcomer`: in the table we got when we knew nobody, which is news to nobody else. */
export interface Teller {
  readonly nodeId: string;
  readonly path: "gossip" | "table" | "newcomer";
}

/** Updates that were not believed, by why. */
export type RefusedCounts = Record<
  "status" | "number" | "ahead" | "text" | "list" | "foreign" | "full" | "quarantineFull" | "tooMany" | "ownAddress",
  number
>;

const FORGET_SWEEP_MS = 60_000;
/** An own conflict is told to the operator at most so often. */
const CONFLICT_EVENT_MS = 60_000;
/** A twin's address is contradicted at most so often. */
const TWIN_CONTRADICTED_MS = 10_000;
/** A death this old that is contradicted by an old word is told again: the speaker has been away. */
const RETELL_AFTER_MS = 60_000;

export class News {
  readonly self: Self;
  readonly members = new Members();
  readonly gossip = new GossipQueue();
  readonly health = new LocalHealth();
  readonly refused: RefusedCounts = {
    status: 0,
    number: 0,
    ahead: 0,
    text: 0,
    list: 0,
    foreign: 0,
    full: 0,
    quarantineFull: 0,
    tooMany: 0,
    ownAddress: 0,
  };
  /** Listed now, and not before; to be given turns. The owner empties it. */
  readonly newlyListed: Member[] = [];
  /** Members to be probed out of turn. The owner empties it. */
  readonly doubted: Member[] = [];
  refutationCount = 0;
  /** Others that do not take what this node says of itself, each with why. Bounded by the members there are. */
  readonly #refusers = new Map<string, string>();
  /** Dead members that turned out to live. The owner sets it back. */
  foundAgainCount = 0;
  readonly #options: MembershipOptions;
  readonly #rng: Rng;
  readonly #foreigners: Foreigners | undefined;
  readonly #quarantine: Quarantine;
  readonly #suspects = new Set<Member>();
  #suspectsAtMs = Number.POSITIVE_INFINITY;
  #sweepAtMs = Number.POSITIVE_INFINITY;
  #twinMs = Number.NEGATIVE_INFINITY;
  #conflictToldMs = Number.NEGATIVE_INFINITY;
  #isConflictGone = false;

  constructor(facts: MemberFacts, rng: Rng, options: MembershipOptions, foreigners?: Foreigners) {
    this.self = new Self(facts);
    this.#foreigners = foreigners;
    this.#rng = rng;
    this.#options = options;
    this.#quarantine = new Quarantine(options);
  }

  /** Listed members and self. */
  get count(): number {
    return this.members.listed.length + 1;
  }

  get quarantinedCount(): number {
    return this.#quarantine.size;
  }

  /** Takes in one update as another node told it; returns why it was refused, and undefined when it was not. */
  learn(told: MemberUpdate, teller: Teller, time: Time, out: MembershipOutput[]): UpdateRefusal | undefined {
    const refusal = this.#refusalOf(told, time);
    if (refusal !== undefined) this.refused[refusal] += 1;
    if (refusal === "foreign") this.#foreign(told, teller, out);
    if (refusal !== undefined) return refusal;
    if (told.nodeId === this.self.ref.nodeId) this.#aboutSelf(told, teller, time, out);
    else this.#aboutOther(told, teller, time, out);
    return undefined;
  }

  #refusalOf(told: MemberUpdate, time: Time): UpdateRefusal | undefined {
    const fault = updateFault(told, time.wallMs);
    if (fault !== undefined || told.nodeId === this.self.ref.nodeId) return fault;
    if (this.#foreigners?.refusalOf(told) !== undefined) return "foreign";
    if (this.members.find(told.nodeId) === undefined && this.members.size >= this.#options.maxMembers) return "full";
    return isListed(told.status) && told.address === this.self.update.address ? "ownAddress" : undefined;
  }

  /** Told of once a place: what would let it in, or that our own cluster is in two regions by mistake. */
  #foreign(told: MemberUpdate, teller: Teller, out: MembershipOutput[]): void {
    const { nodeId, address, clusterId, region, status } = told;
    const refusal = this.#foreigners?.refusalOf(told);
    if (refusal === undefined || this.#foreigners?.note(nodeId, told) !== true || !isListed(status)) return;
    const own = this.self.update;
    const detail = { nodeId, address, clusterId, region, toldBy: teller.nodeId };
    if (clusterId === own.clusterId) out.push(eventOutput("cluster_in_two_regions", "warn", { ...detail, ours: own.region }));
    else out.push(eventOutput("foreign_node_refused", "warn", { ...detail, ...refusal }));
  }

  #aboutOther(told: MemberUpdate, teller: Teller, time: Time, out: MembershipOutput[]): void {
    const member = this.members.find(told.nodeId);
    if (member === undefined) {
      this.#apply(told, teller, time, out);
      return;
    }
    // A table may be old. Whom it calls dead gets the time to contradict (as memberlist does), unless we know no better.
    const isDoubtful = teller.path !== "gossip" && told.status === "dead" && isListed(member.update.status);
    const update: MemberUpdate = isDoubtful ? { ...told, status: "suspect", accuser: teller.nodeId } : told;
    switch (mergeVerdict(member.update, update)) {
      case "apply":
        this.#apply(update, teller, time, out);
        return;
      case "confirm":
        this.#confirm(member, update, teller, time);
        return;
      case "challenge":
        this.#challenge(member, update, time, out);
        return;
      case "stale":
        if (!isListed(member.update.status) && isListed(update.status) && time.monoMs - member.changedMonoMs >= RETELL_AFTER_MS) {
          if (!this.gossip.has(update.nodeId)) this.gossip.add(member.update);
        }
    }
  }

  /** Own probes of the member failed. */
  accuse(member: Member, path: "direct" | "indirect", via: readonly string[], time: Time, out: MembershipOutput[]): void {
    const { update } = member;
    const accuser = this.self.ref.nodeId;
    if (update.status === "suspect") {
      if (member.suspicion?.confirm(accuser) === true) {
        this.#suspectsAtMs = Math.min(this.#suspectsAtMs, member.suspicion.deadlineMonoMs);
        this.gossip.add({ ...update, accuser });
        addEvidence(member, { atWallMs: time.wallMs, status: "suspect", incarnation: update.incarnation, accuser, path, via });
      }
      return;
    }
    if (update.status !== "alive") return;
    this.#put({ ...update, status: "suspect", accuser }, { accuser, path, via }, time, out);
    out.push(eventOutput("member_suspected", "info", { nodeId: update.nodeId, path, via: via.join(" ") }));
  }

  /** What another said of our own update when it answered; empty: it takes it. Told to the operator when it changes. */
  refusedBy(nodeId: string, why: string, out: MembershipOutput[]): void {
    const before = this.#refusers.get(nodeId) ?? "";
    if (why === "") this.#refusers.delete(nodeId);
    else this.#refusers.set(nodeId, why);
    if (why === before) return;
    if (why === "") out.push(eventOutput("own_update_taken", "info", { nodeId }));
    else out.push(eventOutput("own_update_refused", "error", { nodeId, why }));
  }

  /** Listed members that do not take what this node says of itself, each with why. */
  refusers(): readonly { readonly nodeId: string; readonly why: string }[] {
    if (this.#refusers.size === 0) return [];
    const all = [...this.#refusers].map(([nodeId, why]) => ({ nodeId, why }));
    return all.filter(({ nodeId }) => isListed(this.members.find(nodeId)?.update.status ?? "dead"));
  }

  /** Own facts are others now. */
  changeFacts(facts: MemberFacts): void {
    if (!this.self.isLeft) this.gossip.add(this.self.change(facts));
  }

  /** A new word that this node lives, though nobody was heard to doubt it. */
  reassure(): void {
    this.gossip.add(this.self.contradict(0));
  }

  leave(): void {
    if (!this.self.isLeft) this.gossip.add(this.self.leave());
  }

  /** Somebody answered at the address as the newcomer: whoever was listed there is there no more. */
  answeredAs(nodeId: string, time: Time, out: MembershipOutput[]): void {
    const waiting = this.#quarantine.find(nodeId);
    if (waiting === undefined || waiting.reason !== "address") return;
    this.#quarantine.drop(nodeId);
    const holder = this.members.holderOf(waiting.update.address);
    this.#put(waiting.update, { accuser: "", path: "direct", via: [] }, time, out);
    if (holder !== undefined) this.accuse(holder, "direct", [nodeId], time, out);
  }

  /** Newcomers whose address should be probed now. */
  checks(time: Time): Waiting[] {
    return this.#quarantine.size === 0 ? [] : this.#quarantine.due(time.monoMs);
  }

  tick(time: Time, out: MembershipOutput[]): void {
    if (time.monoMs >= this.#suspectsAtMs) this.#expire(time, out);
    if (time.monoMs >= this.#sweepAtMs) this.#sweep(time, out);
  }

  nextDeadlineMs(): number {
    return Math.min(this.#suspectsAtMs, this.#sweepAtMs, this.#quarantine.nextDeadlineMs());
  }

  /** The process slept: what was not heard meanwhile proves nothing. */
  postpone(byMs: number, nowMonoMs: number): void {
    this.#quarantine.postpone(byMs);
    // Others may have been contradicted meanwhile: who slept long does not hear that word again unless it says what it suspects.
    const isLong = byMs >= this.#options.intervalMs;
    for (const { suspicion } of this.#suspects) {
      const notBeforeMonoMs = isLong ? nowMonoMs + (suspicion?.bounds.minMs ?? 0) : undefined;
      suspicion?.postpone(byMs, notBeforeMonoMs);
    }
    this.#schedule();
  }

  #apply(update: MemberUpdate, teller: Teller, time: Time, out: MembershipOutput[]): void {
    if (isListed(update.status) && this.#isAddressTaken(update, time, out)) return;
    this.#quarantine.dropUpTo(update);
    const path = teller.path === "gossip" ? "gossip" : "table";
    this.#put(update, { accuser: update.accuser, path, via: [teller.nodeId] }, time, out, teller.path !== "newcomer");
  }

  #isAddressTaken(update: MemberUpdate, time: Time, out: MembershipOutput[]): boolean {
    const holder = this.members.holderOf(update.address);
    if (holder === undefined || holder.update.nodeId === update.nodeId) return false;
    this.#hold(update, "address", time, out);
    return true;
  }

  #challenge(member: Member, update: MemberUpdate, time: Time, out: MembershipOutput[]): void {
    if (!isListed(update.status)) {
      this.#quarantine.dropUpTo(update);
      return;
    }
    this.#hold(update, "life", time, out);
    this.doubted.push(member);
  }

  #hold(update: MemberUpdate, reason: Waiting["reason"], time: Time, out: MembershipOutput[]): void {
    const held = this.#quarantine.add(update, reason, time.monoMs);
    if (held === "full") this.refused.quarantineFull += 1;
    if (held !== "new") return;
    // Everybody has to know of it when the older one is gone.
    this.gossip.add(update);
    const detail = { nodeId: update.nodeId, generation: update.generation, address: update.address };
    const name = reason === "address" ? "address_of_another_member" : "two_nodes_with_one_id";
    out.push(eventOutput(name, "warn", detail, { isAudited: true }));
  }

  #confirm(member: Member, update: MemberUpdate, teller: Teller, time: Time): void {
    if (update.accuser === "" || member.suspicion?.confirm(update.accuser) !== true) return;
    this.#suspectsAtMs = Math.min(this.#suspectsAtMs, member.suspicion.deadlineMonoMs);
    this.gossip.add(update);
    const { status, incarnation, accuser } = update;
    const path = teller.path === "gossip" ? "gossip" : "table";
    addEvidence(member, { atWallMs: time.wallMs, status, incarnation, accuser, path, via: [teller.nodeId] });
  }

  #put(update: MemberUpdate, source: Pick<Evidence, "accuser" | "path" | "via">, time: Time, out: MembershipOutput[], isNews = true): void {
    const { member, before } = this.members.put(update, time.monoMs);
    this.#doubt(member, source.path, time);
    if (update.status !== "alive" || (before !== undefined && before !== "alive")) {
      addEvidence(member, { atWallMs: time.wallMs, status: update.status, incarnation: update.incarnation, ...source });
    }
    if (isListed(update.status)) {
      if (before === "dead") this.foundAgainCount += 1;
      if (!member.isInTurn) this.newlyListed.push(member);
    } else {
      this.#sweepAtMs = Math.min(this.#sweepAtMs, time.monoMs + FORGET_SWEEP_MS);
      for (const waiting of this.#quarantine.release(update.nodeId, update.address)) {
        this.learn(waiting, { nodeId: this.self.ref.nodeId, path: "gossip" }, time, out);
      }
    }
    // Somebody unknown who is gone concerns nobody else: only who saw it go tells it.
    if (isNews && (before !== undefined || isListed(update.status) || source.path === "gossip")) this.gossip.add(update);
    out.push({ kind: "memberChanged", update, before });
  }

  /** Starts or ends the member's suspicion, as its status asks. */
  #doubt(member: Member, path: Evidence["path"], time: Time): void {
    if (member.update.status === "suspect") {
      member.suspicion = new Suspicion(member.update.accuser, time.monoMs, suspicionBounds(this.count, this.#options));
      this.#suspects.add(member);
      this.#suspectsAtMs = Math.min(this.#suspectsAtMs, member.suspicion.deadlineMonoMs);
      // A few look for themselves at once: real deaths are confirmed soon, and the living contradict soon.
      const isTold = path === "gossip" || path === "table";
      if (isTold && this.#rng.next() * Math.max(1, this.count - 2) < this.#options.verifyCount) this.doubted.push(member);
    } else if (member.suspicion !== undefined) {
      member.suspicion = undefined;
      this.#suspects.delete(member);
      this.#schedule();
    }
  }

  #schedule(): void {
    let next = Number.POSITIVE_INFINITY;
    for (const member of this.#suspects) next = Math.min(next, member.suspicion?.deadlineMonoMs ?? next);
    this.#suspectsAtMs = next;
  }

  #expire(time: Time, out: MembershipOutput[]): void {
    for (const member of this.#suspects) {
      const { suspicion, update } = member;
      if (suspicion === undefined || suspicion.deadlineMonoMs > time.monoMs) continue;
      const { accusers } = suspicion;
      this.#put({ ...update, status: "dead" }, { accuser: update.accuser, path: "timeout", via: accusers }, time, out);
      out.push(eventOutput("member_dead", "warn", { nodeId: update.nodeId, accusers: accusers.join(" ") }));
    }
    this.#schedule();
  }

  #sweep(time: Time, out: MembershipOutput[]): void {
    let isAnyGone = false;
    for (const member of this.members.all()) {
      // Who left entries behind is remembered: they stand for as long as it is known why.
      if (isListed(member.update.status) || member.update.keepsEntries === true) continue;
      if (time.monoMs - member.changedMonoMs < this.#options.deadForgetMs) {
        isAnyGone = true;
        continue;
      }
      this.members.forget(member);
      this.#refusers.delete(member.update.nodeId);
      this.gossip.drop(member.update.nodeId);
      out.push({ kind: "memberForgotten", nodeId: member.update.nodeId });
    }
    this.#sweepAtMs = isAnyGone ? time.monoMs + FORGET_SWEEP_MS : Number.POSITIVE_INFINITY;
  }

  #aboutSelf(told: MemberUpdate, teller: Teller, time: Time, out: MembershipOutput[]): void {
    const own = this.self.update;
    if (told.generation > own.generation) {
      this.#conflict(told, teller, time, out);
      return;
    }
    if (told.generation < own.generation || told.incarnation < own.incarnation || this.self.isLeft) return;
    const isEcho = told.status === "alive" && told.incarnation === own.incarnation && told.address === own.address;
    if (isEcho) return;
    if (told.status === "alive" && told.address !== own.address) {
      this.#conflict(told, teller, time, out);
      // Two that run from copies of one journal would contradict each other as fast as gossip goes.
      if (time.monoMs - this.#twinMs < TWIN_CONTRADICTED_MS) return;
      this.#twinMs = time.monoMs;
    }
    this.gossip.add(this.self.contradict(told.incarnation));
    this.refutationCount += 1;
    if (told.status === "alive") return;
    // Others had reason to doubt us (Lifeguard §IV-A).
    this.health.worsen(1);
    const detail = { said: told.status, accuser: told.accuser, toldBy: teller.nodeId, incarnation: told.incarnation };
    out.push(eventOutput("contradicted_own_death", "info", detail));
  }

  /** Somebody else uses our id, or did so after us. */
  #conflict(told: MemberUpdate, teller: Teller, time: Time, out: MembershipOutput[]): void {
    // That the other one is gone is worth a word of its own: then its life is to be followed by ours.
    const isGone = !isListed(told.status);
    if (time.monoMs - this.#conflictToldMs < CONFLICT_EVENT_MS && (!isGone || this.#isConflictGone)) return;
    this.#conflictToldMs = time.monoMs;
    this.#isConflictGone = isGone;
    const detail = { nodeId: told.nodeId, generation: told.generation, address: told.address, status: told.status, toldBy: teller.nodeId };
    out.push(eventOutput("own_id_used_by_another", "error", detail, { isAudited: true }));
    out.push({ kind: "ownIdUsed", told, toldBy: teller.nodeId });
  }
}
