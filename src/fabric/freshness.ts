/** How old what is held here may be: the time since the slowest peer last said that this node lacks nothing of what it has (semantics.md, Age). */
import type { Time } from "../lib/machine.ts";
import type { Heartbeats } from "./heartbeats.ts";
import { isListed } from "./members.ts";
import type { MemberUpdate } from "./messages.ts";

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
  /** It said goodbye: until it is heard of again it writes nothing. */
  hasSaidGoodbye: boolean;
}

/** One that no link is wanted to, of which a heartbeat came. */
interface Distant {
  readonly nodeId: string;
  readonly provenMonoMs: number;
}

/** A heartbeat of a node that is well comes at least so often, by way of others too. */
const HEARTBEAT_QUIET_MS = 15_000;

/** What waited while this node stood still is worked off by then. */
const MAX_OLD_MS = 4000;

/** What is known of how far behind this node may be. */
export interface Behind {
  readonly ageMs: number;
  /** Peers out of step for longer than `quietMs`, and nodes without a heartbeat for three of their intervals. */
  readonly nodeIds: readonly string[];
  /** Peers of other clusters that are so: they make nothing of ours old. */
  readonly otherNodeIds: readonly string[];
}

/**
 * Nodes of our own cluster count; one of another could name what it never gives, and make all that we answer stale. Peers count as long as a link to them is wanted; other members by their last heartbeat, once one has come. One that died without goodbye counts on while more than half of its cluster is missing,
 * or the only other node of ours: then it is more likely that we are cut off, and the others go on writing.
 */
export class Freshness {
  readonly #parts: FreshnessParts;
  readonly #peers = new Map<string, Peer>();
  /** Clusters so much of which is missing that the missing count; undefined when it is to be found out anew. */
  #halved: ReadonlySet<string> | undefined;
  /** Those without a link that count, and the oldest heartbeat of them; as of `#distantVersion`, -1: to be found out anew. */
  #distant: readonly Distant[] = [];
  #oldestMonoMs = Number.POSITIVE_INFINITY;
  #distantVersion = -1;
  #stillSinceMonoMs = Number.NEGATIVE_INFINITY;
  /** Until then what is heard may have been said since `#stillSinceMonoMs`. */
  #oldUntilMonoMs = Number.NEGATIVE_INFINITY;

  constructor(parts: FreshnessParts) {
    this.#parts = parts;
  }

  /** From now on links are wanted to these. Of one that was no peer before, of which no heartbeat came, all until `knownMonoMs` is taken to be here. */
  want(nodeIds: readonly string[], knownMonoMs: number): void {
    this.#changed();
    const wanted = new Set(nodeIds);
    for (const [nodeId, peer] of this.#peers) {
      if (wanted.has(nodeId)) continue;
      peer.isWanted = false;
      const status = this.#parts.findMember(nodeId)?.status;
      if (status === "left" || (status !== undefined && isListed(status))) this.#peers.delete(nodeId);
    }
    for (const nodeId of wanted) {
      const peer = this.#peers.get(nodeId);
      const member = this.#parts.findMember(nodeId);
      const clusterId = member?.clusterId ?? "";
      // What was known of it without a link is not forgotten with the first attempt.
      const inStepMonoMs = (member && this.#provenMonoMs(member)) ?? knownMonoMs;
      if (peer === undefined) this.#peers.set(nodeId, { inStepMonoMs, wasMet: false, clusterId, isWanted: true, hasSaidGoodbye: false });
      else Object.assign(peer, { isWanted: true, clusterId });
    }
  }

  /** A link to the peer is up. */
  met(nodeId: string): void {
    const peer = this.#peers.get(nodeId);
    if (peer !== undefined) peer.wasMet = true;
  }

  /** The peer has just said that we lack nothing of what it has. */
  inStep(nodeId: string, { monoMs }: Time): void {
    const peer = this.#peers.get(nodeId);
    if (peer === undefined) return;
    const saidMonoMs = monoMs < this.#oldUntilMonoMs ? Math.max(peer.inStepMonoMs, this.#stillSinceMonoMs) : monoMs;
    Object.assign(peer, { inStepMonoMs: saidMonoMs, wasMet: true, hasSaidGoodbye: false });
  }

  /** This node stood still until now: what waited for it was said meanwhile, nobody knows when, and takes a while to be worked off. */
  stoodStill(byMs: number, { monoMs }: Time): void {
    this.#stillSinceMonoMs = monoMs - byMs;
    this.#oldUntilMonoMs = monoMs + Math.min(byMs, MAX_OLD_MS);
  }

  /** The peer's last word was that it goes, and we have all that it had. */
  goodbye(nodeId: string): void {
    const peer = this.#peers.get(nodeId);
    if (peer !== undefined) peer.hasSaidGoodbye = true;
    this.#changed();
  }

  /** Membership, or what is held, is other than before. */
  memberChanged(update: MemberUpdate | undefined): void {
    this.#changed();
    const peer = update === undefined ? undefined : this.#peers.get(update.nodeId);
    if (update === undefined || peer === undefined) return;
    if (update.status === "left") this.#peers.delete(update.nodeId);
    else if (isListed(update.status)) {
      // It is there again: what it wrote while it was called dead is lacked from now on, not only once a link to it is wanted.
      peer.isWanted = true;
      if (update.status === "alive") peer.hasSaidGoodbye = false;
    }
  }

  #changed(): void {
    this.#halved = undefined;
    this.#distantVersion = -1;
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
    this.#halved ??= this.#findHalved();
    const nodeIds: string[] = [];
    const otherNodeIds: string[] = [];
    let ageMs = 0;
    for (const [nodeId, peer] of this.#peers) {
      const { isWanted, hasSaidGoodbye, clusterId } = peer;
      if (hasSaidGoodbye || (!isWanted && !this.#halved.has(clusterId))) continue;
      const silentMs = monoMs - (peer.wasMet ? peer.inStepMonoMs : this.#untilMonoMs(nodeId, peer));
      const isOurs = clusterId === this.#parts.clusterId || clusterId === "";
      if (isOurs) ageMs = Math.max(ageMs, silentMs);
      if (silentMs > quietMs) (isOurs ? nodeIds : otherNodeIds).push(nodeId);
    }
    if (this.#distantVersion !== this.#parts.heartbeats.version) this.#findDistant(this.#halved);
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
      if (nodeId === self || clusterId !== own || this.#peers.has(nodeId)) continue;
      if (status === "left" || (!isListed(status) && !halved.has(clusterId))) continue;
      const provenMonoMs = this.#provenMonoMs(member);
      if (provenMonoMs === undefined) continue;
      distant.push({ nodeId, provenMonoMs });
      this.#oldestMonoMs = Math.min(this.#oldestMonoMs, provenMonoMs);
    }
    this.#distant = distant;
  }

  /** O(members), after a change only. */
  #findHalved(): ReadonlySet<string> {
    const { nodeId: self, clusterId: own, members, findMember, holdsOf } = this.#parts;
    const present = new Map([[own, 1]]);
    const missing = new Map<string, number>();
    const add = (counts: Map<string, number>, clusterId: string) => counts.set(clusterId, (counts.get(clusterId) ?? 0) + 1);
    for (const { nodeId, clusterId, status } of members()) {
      if (nodeId === self || status === "left") continue;
      if (isListed(status)) add(present, clusterId);
      else if (this.#peers.get(nodeId)?.hasSaidGoodbye !== true) add(missing, clusterId);
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
