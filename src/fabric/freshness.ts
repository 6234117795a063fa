/** How old what is held here may be: the time since the slowest peer last said that this node lacks nothing of what it has (semantics.md, Age). */
import type { Time } from "../lib/machine.ts";
import type { Heartbeats } from "./heartbeats.ts";
import { isListed } from "./membership/members.ts";
import type { MemberUpdate } from "./wire/messages.ts";

/** What is asked of membership and of the replica. */
export interface FreshnessParts {
  readonly nodeId: string;
  readonly clusterId: string;
  readonly members: () => Iterable<MemberUpdate>;
  readonly findMember: (nodeId: string) => MemberUpdate | undefined;
  /** Of nodes that no link is wanted to. */
  readonly heartbeats: Pick<Heartbeats, "provenMonoMs" | "version" | "isPassedOn">;
  /** Whether anything is held of an origin of that node. */
  readonly holdsOf: (nodeId: string) => boolean;
}

interface Peer {
  /** When it was last in step; before that, up to when all that it had may be taken to be here. */
  inStepMonoMs: number;
  /** There was a link to it: what it says of itself counts, not what others say of it. */
  wasMet: boolean;
  clusterId: string;
  isWanted: boolean;
  /** It was called dead and is listed again: it counts until then, though no link to it is wanted, as long as no heartbeat of it has come. */
  backUntilMonoMs: number;
  /** It said goodbye: until then, or until it is heard of again, it is taken to write nothing. */
  goneUntilMonoMs: number;
  /** The life that said so, as membership knew it then. */
  goneLife?: Life | undefined;
}

/** Membership counts them up: whatever is said of a later one was heard of a node that went on. */
type Life = Pick<MemberUpdate, "generation" | "incarnation">;

const NEW_PEER = { wasMet: false, isWanted: true, backUntilMonoMs: 0, goneUntilMonoMs: 0 } as const satisfies Partial<Peer>;

/** One that no link is wanted to, of which a heartbeat came. */
interface Distant {
  readonly nodeId: string;
  readonly provenMonoMs: number;
}

/** A heartbeat of a node that is well comes at least so often, by way of others too. */
const HEARTBEAT_QUIET_MS = 15_000;

/** One that said goodbye is not back sooner, most likely; later it may be, where we cannot hear it. */
const GONE_MS = 60_000;

/** One that is listed again and has neither a link nor a heartbeat after so long is one that does not talk to us, and whom others do not vouch for. */
const BACK_MS = 30_000;

/** What is known of how far behind this node may be. */
export interface Behind {
  readonly ageMs: number;
  /** Peers out of step for longer than `quietMs`, and nodes without a heartbeat for three of their intervals. */
  readonly nodeIds: readonly string[];
  /** Peers of other clusters that are so: they make nothing of ours old. */
  readonly otherNodeIds: readonly string[];
}

/**
 * Only nodes of our own cluster count: one of another could name what it never gives, and make all that we answer stale. A peer counts as long
 * as a link to it is wanted. Another member counts by its last heartbeat, once one has come. One that died without goodbye counts on while more
 * than half of its cluster is missing, or the only other node of ours: then it is more likely that we are cut off, and the others go on writing.
 */
export class Freshness {
  readonly #parts: FreshnessParts;
  readonly #peers = new Map<string, Peer>();
  /** Clusters so much of which is missing that the missing count; undefined when it is to be found out anew. */
  #halved: ReadonlySet<string> | undefined;
  /** Then one that said goodbye is missing, too. */
  #halvedUntilMonoMs = Number.POSITIVE_INFINITY;
  /** Those without a link that count, and the oldest heartbeat of them; as of `#distantVersion`, -1: to be found out anew. */
  #distant: readonly Distant[] = [];
  #oldestMonoMs = Number.POSITIVE_INFINITY;
  #distantVersion = -1;

  /**
   * When a member was first listed that is no peer yet; undefined when there is none. Whether a link to it is wanted is chosen a while later, and
   * what it wrote in between counts then.
   */
  #heardMonoMs: number | undefined;

  constructor(parts: FreshnessParts) {
    this.#parts = parts;
  }

  /**
   * From now on links are wanted to these. Of one that was no peer before, and of which no heartbeat came, it is taken that all is here that it wrote
   * before `knownMonoMs`, or before `#heardMonoMs`, whichever is earlier.
   */
  want(nodeIds: readonly string[], knownMonoMs: number, { monoMs }: Time): void {
    this.changed();
    const newMonoMs = Math.min(knownMonoMs, this.#heardMonoMs ?? knownMonoMs);
    this.#heardMonoMs = undefined;
    const wanted = new Set(nodeIds);
    for (const [nodeId, peer] of this.#peers) {
      if (wanted.has(nodeId)) continue;
      peer.isWanted = false;
      const member = this.#parts.findMember(nodeId);
      if (member?.status === "left" || (member !== undefined && isListed(member.status) && !this.#isBack(member, peer, monoMs)))
        this.#peers.delete(nodeId);
    }
    for (const nodeId of wanted) {
      const peer = this.#peers.get(nodeId);
      const member = this.#parts.findMember(nodeId);
      const clusterId = member?.clusterId ?? "";
      // What was known of it without a link is not forgotten with the first attempt.
      const inStepMonoMs = (member && this.#provenMonoMs(member)) ?? newMonoMs;
      if (peer === undefined) this.#peers.set(nodeId, { ...NEW_PEER, inStepMonoMs, clusterId });
      else Object.assign(peer, { isWanted: true, clusterId, backUntilMonoMs: 0 });
    }
  }

  /** A link to the peer is up. */
  met(nodeId: string): void {
    const peer = this.#peers.get(nodeId);
    if (peer !== undefined) peer.wasMet = true;
  }

  /** We lack nothing of what the peer had then. */
  inStep(nodeId: string, monoMs: number): void {
    const peer = this.#peers.get(nodeId);
    if (peer !== undefined) Object.assign(peer, { inStepMonoMs: Math.max(peer.inStepMonoMs, monoMs), wasMet: true, goneUntilMonoMs: 0 });
  }

  /** The peer's last word was that it goes, and we have all that it had. */
  goodbye(nodeId: string, { monoMs }: Time): void {
    const peer = this.#peers.get(nodeId);
    if (peer !== undefined) Object.assign(peer, { goneUntilMonoMs: monoMs + GONE_MS, goneLife: this.#parts.findMember(nodeId) });
    this.changed();
  }

  /** Membership says something else of a member. */
  memberChanged(update: MemberUpdate, { monoMs }: Time): void {
    this.changed();
    const peer = this.#peers.get(update.nodeId);
    if (peer === undefined) {
      if (isListed(update.status)) this.#heardMonoMs ??= monoMs;
      return;
    }
    if (update.status === "left") {
      this.#peers.delete(update.nodeId);
      return;
    }
    // It was back, also where the first word of that is that it is silent again.
    if (update.status === "alive" || isLater(update, peer.goneLife)) peer.goneUntilMonoMs = 0;
    if (!isListed(update.status)) return;
    // It is there again: what it wrote while it was called dead is lacked from now on, not only once a link to it is wanted.
    if (!peer.isWanted) peer.backUntilMonoMs = monoMs + BACK_MS;
    peer.isWanted = true;
  }

  /** A member is forgotten, or what is held is other than before. */
  changed(): void {
    this.#halved = undefined;
    this.#distantVersion = -1;
  }

  /** Whether one that no link is wanted to counts all the same: it was called dead, and no heartbeat tells how far it is known. */
  #isBack(member: MemberUpdate, { backUntilMonoMs }: Peer, monoMs: number): boolean {
    return monoMs < backUntilMonoMs && this.#provenMonoMs(member) === undefined;
  }

  #provenMonoMs({ nodeId, generation }: MemberUpdate): number | undefined {
    const { heartbeats } = this.#parts;
    return heartbeats.isPassedOn ? heartbeats.provenMonoMs(`${nodeId}/${generation}`) : undefined;
  }

  /** Of a peer that was never met: what others have passed on of it is here. */
  #untilMonoMs(nodeId: string, { inStepMonoMs }: Peer): number {
    const member = this.#parts.findMember(nodeId);
    return Math.max(inStepMonoMs, (member && this.#provenMonoMs(member)) ?? inStepMonoMs);
  }

  // HOT: asked at every answer.
  read({ monoMs }: Time, quietMs: number): Behind {
    if (monoMs >= this.#halvedUntilMonoMs) this.changed();
    this.#halved ??= this.#findHalved(monoMs);
    if (this.#distantVersion !== this.#parts.heartbeats.version) this.#findDistant(this.#halved);
    const nodeIds: string[] = [];
    const otherNodeIds: string[] = [];
    let ageMs = 0;
    for (const [nodeId, peer] of this.#peers) {
      const { isWanted, backUntilMonoMs, goneUntilMonoMs, clusterId } = peer;
      if (monoMs < goneUntilMonoMs || !(isWanted || monoMs < backUntilMonoMs || this.#halved.has(clusterId))) continue;
      const silentMs = monoMs - (peer.wasMet ? peer.inStepMonoMs : this.#untilMonoMs(nodeId, peer));
      const isOurs = clusterId === this.#parts.clusterId || clusterId === "";
      if (isOurs) ageMs = Math.max(ageMs, silentMs);
      if (silentMs > quietMs) (isOurs ? nodeIds : otherNodeIds).push(nodeId);
    }
    const distantMs = monoMs - this.#oldestMonoMs;
    if (distantMs > HEARTBEAT_QUIET_MS)
      for (const { nodeId, provenMonoMs } of this.#distant) if (monoMs - provenMonoMs > HEARTBEAT_QUIET_MS) nodeIds.push(nodeId);
    return { ageMs: Math.max(ageMs, distantMs), nodeIds, otherNodeIds };
  }

  /** O(members), after a heartbeat or a change. */
  #findDistant(halved: ReadonlySet<string>): void {
    const { members, heartbeats, nodeId: self, clusterId: own } = this.#parts;
    const distant: Distant[] = [];
    this.#distantVersion = heartbeats.version;
    this.#oldestMonoMs = Number.POSITIVE_INFINITY;
    for (const member of members()) {
      const { nodeId, status, clusterId } = member;
      if (nodeId === self || clusterId !== own || this.#peers.get(nodeId)?.isWanted === true) continue;
      if (status === "left" || (!isListed(status) && !halved.has(clusterId))) continue;
      const provenMonoMs = this.#provenMonoMs(member);
      if (provenMonoMs === undefined) continue;
      // One that is back is as old as its heartbeat from now on; one that is dead counts as the peer that it was.
      if (isListed(status)) this.#peers.delete(nodeId);
      else if (this.#peers.has(nodeId)) continue;
      distant.push({ nodeId, provenMonoMs });
      this.#oldestMonoMs = Math.min(this.#oldestMonoMs, provenMonoMs);
    }
    this.#distant = distant;
  }

  /** O(members), after a change only. */
  #findHalved(monoMs: number): ReadonlySet<string> {
    const { nodeId: self, clusterId: own, members, findMember, holdsOf } = this.#parts;
    const present = new Map([[own, 1]]);
    const missing = new Map<string, number>();
    this.#halvedUntilMonoMs = Number.POSITIVE_INFINITY;
    const add = (counts: Map<string, number>, clusterId: string) => counts.set(clusterId, (counts.get(clusterId) ?? 0) + 1);
    for (const { nodeId, clusterId, status } of members()) {
      if (nodeId === self || status === "left") continue;
      if (isListed(status)) add(present, clusterId);
      else {
        const goneUntilMonoMs = this.#peers.get(nodeId)?.goneUntilMonoMs ?? 0;
        if (monoMs >= goneUntilMonoMs) add(missing, clusterId);
        else this.#halvedUntilMonoMs = Math.min(this.#halvedUntilMonoMs, goneUntilMonoMs);
      }
    }
    for (const [nodeId, { clusterId, isWanted }] of this.#peers) {
      if (isWanted || findMember(nodeId) !== undefined) continue;
      // Membership remembers the dead for a while only; what is held of them may stand longer.
      if (holdsOf(nodeId)) add(missing, clusterId);
      else this.#peers.delete(nodeId);
    }
    const isHalved = ([clusterId, count]: readonly [string, number]) => {
      const presentCount = present.get(clusterId) ?? 0;
      return count > presentCount || (clusterId === own && presentCount === 1);
    };
    return new Set([...missing].filter(isHalved).map(([clusterId]) => clusterId));
  }
}

function isLater({ generation, incarnation }: Life, than: Life | undefined): boolean {
  if (than === undefined || generation > than.generation) return true;
  return generation === than.generation && incarnation > than.incarnation;
}
