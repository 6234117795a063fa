/** How old the data here may be: the time since this node last lacked nothing of the slowest peer (semantics.md, Age). */
import { type UnreachableNodes, unreachableNodes } from "../catalog/unreachable-nodes.ts";
import { NEVER, type Time } from "../lib/machine.ts";
import type { Heartbeats } from "./heartbeats.ts";
import { isListed } from "./membership/members.ts";
import type { Membership } from "./membership/membership.ts";
import type { FabricHandlers, FabricPart } from "./part.ts";
import type { MemberUpdate } from "./wire/messages.ts";

export interface DataFreshnessParts {
  readonly nodeId: string;
  readonly clusterId: string;
  readonly membership: Pick<Membership, "find" | "members">;
  /** Heartbeats of nodes that no link is wanted to. */
  readonly heartbeats: Pick<Heartbeats, "provenMonoMs" | "version">;
  /** Whether this node holds records of an origin of that node. */
  readonly holdsOf: (nodeId: string) => boolean;
  /** The members of this node's cluster that are down or unreachable and have not left. */
  readonly roster: Pick<MemberRoster, "away" | "version">;
}

interface PeerFreshness {
  /** When this node was last in step with it. Before that, the time until which its records are taken to be here. */
  inStepMonoMs: number;
  /** There was a link to it. So its own statements count, and not those of others about it. */
  wasMet: boolean;
  clusterId: string;
  isWanted: boolean;
  /** It was dead and is listed again. Until then it counts although no link to it is wanted, as long as no heartbeat of it has come. */
  backUntilMonoMs: number;
  /** It said goodbye. Until then, or until it is heard of again, it is taken to write nothing. */
  goneUntilMonoMs: number;
  /** The life that said goodbye, as membership knew it then. */
  goneLife?: NodeIncarnation | undefined;
}

/** Membership counts these numbers up. A statement with higher ones was made by a node that lived on. */
type NodeIncarnation = Pick<MemberUpdate, "generation" | "incarnation">;

const NEW_PEER = { wasMet: false, isWanted: true, backUntilMonoMs: 0, goneUntilMonoMs: 0 } as const satisfies Partial<PeerFreshness>;

/** A node with a heartbeat that no link is wanted to. */
interface DistantNode {
  readonly nodeId: string;
  readonly provenMonoMs: number;
}

/** Heartbeats of a healthy node come at least this often, also by way of others. */
const HEARTBEAT_QUIET_MS = 15_000;

/** A node that said goodbye is most likely not back before this time. Later it may be back where this node cannot hear it. */
const GONE_MS = 60_000;

/** A node that is listed again, and has neither a link nor a heartbeat after this time, no longer counts: it does not talk to us, nor do others vouch for it. */
const BACK_MS = 30_000;

/** How far behind this node may be. */
export interface ReplicationAge {
  readonly ageMs: number;
  /** Peers that are out of step for longer than `quietMs`, and nodes without a heartbeat for three intervals. */
  readonly nodeIds: readonly string[];
  /** Peers of other clusters in that state. They do not make our data old. */
  readonly otherNodeIds: readonly string[];
}

/**
 * Only nodes of our own cluster count, because a node of another cluster could name records that it never gives and so make all our answers stale.
 * A peer counts as long as a link to it is wanted. Another member counts by its last heartbeat, once one has come. A node that died without goodbye
 * still counts while more than half of its cluster is missing, or the only other node of our cluster. Then it is more likely that this node is cut
 * off, and that the others go on writing.
 */
export class DataFreshness implements FabricPart {
  readonly #parts: DataFreshnessParts;
  readonly #peers = new Map<string, PeerFreshness>();
  /** Clusters of which so much is missing that the missing nodes count. Undefined when this must be computed again. */
  #halved: ReadonlySet<string> | undefined;
  /** From then on a node that said goodbye counts as missing too. */
  #halvedUntilMonoMs = Number.POSITIVE_INFINITY;
  /** The nodes without a link that count, and their oldest heartbeat, as of `#distantVersion`; -1 when this must be computed again. */
  #distant: readonly DistantNode[] = [];
  #oldestMonoMs = Number.POSITIVE_INFINITY;
  #distantVersion = -1;
  /** Undefined when it must be computed again. */
  #unreachable: { readonly nodes: UnreachableNodes | undefined; readonly rosterVersion: number; readonly untilMonoMs: number } | undefined;

  /**
   * When a member that is no peer yet was first listed. Undefined when there is none. Links are chosen a while later, and then the member's records
   * from in between count.
   */
  #heardMonoMs: number | undefined;

  readonly handle: FabricHandlers = {
    up: ({ hello }) => this.met(hello.nodeId),
    down: ({ hello, goodbye }, time) => {
      if (goodbye === "restart" || goodbye === "leave") this.goodbye(hello.nodeId, time);
    },
    inStep: ({ nodeId, monoMs }) => this.inStep(nodeId, monoMs),
    memberChanged: ({ update }, time) => this.memberChanged(update, time),
    memberForgotten: () => this.changed(),
  };

  constructor(parts: DataFreshnessParts) {
    this.#parts = parts;
  }

  /**
   * From now on links are wanted to these nodes. For a node that was no peer before and has no heartbeat, this node is taken to have everything that
   * it wrote before `knownMonoMs`, or before `#heardMonoMs` if that is earlier.
   */
  want(nodeIds: readonly string[], knownMonoMs: number, { monoMs }: Time): void {
    this.changed();
    const newMonoMs = Math.min(knownMonoMs, this.#heardMonoMs ?? knownMonoMs);
    this.#heardMonoMs = undefined;
    const wanted = new Set(nodeIds);
    for (const [nodeId, peer] of this.#peers) {
      if (wanted.has(nodeId)) continue;
      peer.isWanted = false;
      const member = this.#parts.membership.find(nodeId);
      if (member?.status === "left" || (member !== undefined && isListed(member.status) && !this.#isBack(member, peer, monoMs)))
        this.#peers.delete(nodeId);
    }
    for (const nodeId of wanted) {
      const peer = this.#peers.get(nodeId);
      const member = this.#parts.membership.find(nodeId);
      const clusterId = member?.clusterId ?? "";
      // The first attempt to link does not discard what was known without a link.
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

  /** This node lacks nothing of what the peer had at that time. */
  inStep(nodeId: string, monoMs: number): void {
    const peer = this.#peers.get(nodeId);
    if (peer !== undefined) Object.assign(peer, { inStepMonoMs: Math.max(peer.inStepMonoMs, monoMs), wasMet: true, goneUntilMonoMs: 0 });
  }

  /** The peer said goodbye, and this node has everything that it had. */
  goodbye(nodeId: string, { monoMs }: Time): void {
    const peer = this.#peers.get(nodeId);
    if (peer !== undefined) Object.assign(peer, { goneUntilMonoMs: monoMs + GONE_MS, goneLife: this.#parts.membership.find(nodeId) });
    this.changed();
  }

  /** The state of a member changed. */
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
    // It was back, also when the first news of that is that it is silent again.
    if (update.status === "alive" || isLater(update, peer.goneLife)) peer.goneUntilMonoMs = 0;
    if (!isListed(update.status)) return;
    // It is there again. Its records from the time when it was called dead are lacked from now on, and not only when a link to it is wanted.
    if (!peer.isWanted) peer.backUntilMonoMs = monoMs + BACK_MS;
    peer.isWanted = true;
  }

  /**
   * The members of this node's cluster that the age does not include although they may accept writes: they are down or unreachable and have not left. A node that
   * announced a restart is included only after a minute. HOT: called for every answer.
   */
  unreachable({ monoMs }: Time): UnreachableNodes | undefined {
    const { version } = this.#parts.roster;
    const known = this.#unreachable;
    if (known !== undefined && known.rosterVersion === version && monoMs < known.untilMonoMs) return known.nodes;
    const nodeIds: string[] = [];
    let untilMonoMs = NEVER;
    for (const [nodeId, sinceMonoMs = monoMs] of this.#parts.roster.away) {
      const isKept = this.#parts.membership.find(nodeId)?.keepsEntries === true;
      const goneUntilMonoMs = Math.max(this.#peers.get(nodeId)?.goneUntilMonoMs ?? 0, isKept ? sinceMonoMs + GONE_MS : 0);
      if (monoMs < goneUntilMonoMs) untilMonoMs = Math.min(untilMonoMs, goneUntilMonoMs);
      else nodeIds.push(nodeId);
    }
    const nodes = unreachableNodes(nodeIds);
    this.#unreachable = { nodes, rosterVersion: version, untilMonoMs };
    return nodes;
  }

  /** A member was forgotten, or the held records changed. */
  changed(): void {
    this.#unreachable = undefined;
    this.#halved = undefined;
    this.#distantVersion = -1;
  }

  /** Whether a node counts although no link to it is wanted: it was called dead, and no heartbeat says how far its records are here. */
  #isBack(member: MemberUpdate, { backUntilMonoMs }: PeerFreshness, monoMs: number): boolean {
    return monoMs < backUntilMonoMs && this.#provenMonoMs(member) === undefined;
  }

  #provenMonoMs({ nodeId, generation }: MemberUpdate): number | undefined {
    return this.#parts.heartbeats.provenMonoMs(`${nodeId}/${generation}`);
  }

  /** For a peer that was never met: the time of its newest heartbeat that others passed on counts too. */
  #untilMonoMs(nodeId: string, { inStepMonoMs }: PeerFreshness): number {
    const member = this.#parts.membership.find(nodeId);
    return Math.max(inStepMonoMs, (member && this.#provenMonoMs(member)) ?? inStepMonoMs);
  }

  /** Whether a node is not listed any more. It may count all the same, because so much of its cluster is missing. */
  isLost(nodeId: string): boolean {
    const { status = "left" } = this.#parts.membership.find(nodeId) ?? {};
    return !isListed(status);
  }

  /** Also out of step is who was in step last before `sinceMonoMs`. HOT: asked at every answer. */
  read({ monoMs }: Time, quietMs: number, sinceMonoMs = Number.NEGATIVE_INFINITY): ReplicationAge {
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
      if (silentMs > Math.min(quietMs, monoMs - sinceMonoMs)) (isOurs ? nodeIds : otherNodeIds).push(nodeId);
    }
    const distantMs = monoMs - this.#oldestMonoMs;
    const distantQuietMs = Math.min(HEARTBEAT_QUIET_MS, monoMs - sinceMonoMs);
    if (distantMs > distantQuietMs)
      for (const { nodeId, provenMonoMs } of this.#distant) if (monoMs - provenMonoMs > distantQuietMs) nodeIds.push(nodeId);
    return { ageMs: Math.max(ageMs, distantMs), nodeIds, otherNodeIds };
  }

  /** O(members), after a heartbeat or a change. */
  #findDistant(halved: ReadonlySet<string>): void {
    const { membership, heartbeats, nodeId: self, clusterId: own } = this.#parts;
    const distant: DistantNode[] = [];
    this.#distantVersion = heartbeats.version;
    this.#oldestMonoMs = Number.POSITIVE_INFINITY;
    for (const member of membership.members()) {
      const { nodeId, status, clusterId } = member;
      if (nodeId === self || clusterId !== own || this.#peers.get(nodeId)?.isWanted === true) continue;
      if (status === "left" || (!isListed(status) && !halved.has(clusterId))) continue;
      const provenMonoMs = this.#provenMonoMs(member);
      if (provenMonoMs === undefined) continue;
      // From now on a node that is back is as old as its heartbeat. A dead node counts as the peer that it was.
      if (isListed(status)) this.#peers.delete(nodeId);
      else if (this.#peers.has(nodeId)) continue;
      distant.push({ nodeId, provenMonoMs });
      this.#oldestMonoMs = Math.min(this.#oldestMonoMs, provenMonoMs);
    }
    this.#distant = distant;
  }

  /** O(members), after a change only. */
  #findHalved(monoMs: number): ReadonlySet<string> {
    const { nodeId: self, clusterId: own, membership, holdsOf } = this.#parts;
    const present = new Map([[own, 1]]);
    const missing = new Map<string, number>();
    this.#halvedUntilMonoMs = Number.POSITIVE_INFINITY;
    const add = (counts: Map<string, number>, clusterId: string) => counts.set(clusterId, (counts.get(clusterId) ?? 0) + 1);
    for (const { nodeId, clusterId, status } of membership.members()) {
      if (nodeId === self || status === "left") continue;
      if (isListed(status)) add(present, clusterId);
      else {
        const goneUntilMonoMs = this.#peers.get(nodeId)?.goneUntilMonoMs ?? 0;
        if (monoMs >= goneUntilMonoMs) add(missing, clusterId);
        else this.#halvedUntilMonoMs = Math.min(this.#halvedUntilMonoMs, goneUntilMonoMs);
      }
    }
    for (const [nodeId, { clusterId, isWanted }] of this.#peers) {
      if (isWanted || membership.find(nodeId) !== undefined) continue;
      // Membership remembers dead nodes only for a while. Their records may be held for longer.
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

function isLater({ generation, incarnation }: NodeIncarnation, than: NodeIncarnation | undefined): boolean {
  if (than === undefined || generation > than.generation) return true;
  return generation === than.generation && incarnation > than.incarnation;
}

/**
 * The members of this node's own cluster that are not known to have left. They are remembered over a restart. A member that is away may return
 * with a record that only a tombstone ends, even if none of its records was ever held here (semantics.md, Tombstones).
 */
interface RosterParts {
  readonly nodeId: string;
  readonly clusterId: string;
  /** Most members that are remembered: the room of the table of members. */
  readonly maxMembers: number;
  /** A member that is away for this time is forgotten, as its origins are. */
  readonly originForgetMs: number;
}

export class MemberRoster {
  readonly #parts: RosterParts;
  readonly #nodeIds = new Set<string>();
  /** Since when each unlisted member is away, in the order in which they went. Undefined until the next tick. */
  readonly #away = new Map<string, number | undefined>();
  #version = 0;

  /** `remembered`: the members before this node was restarted. They are away until they are met. */
  constructor(parts: RosterParts, remembered: readonly string[] = []) {
    this.#parts = parts;
    for (const nodeId of remembered) if (nodeId !== parts.nodeId) this.#setAway(nodeId);
  }

  /** Another number whenever the remembered members change. */
  get version(): number {
    return this.#version;
  }

  /** The ids to remember over a restart. */
  list(): readonly string[] {
    return [...this.#nodeIds];
  }

  /** Whether one of the members is away and may come back. */
  get isAnybodyAway(): boolean {
    return this.#away.size > 0;
  }

  /** The members that are down or unreachable, and since when (monotonic ms). The time is undefined until the next tick. */
  get away(): ReadonlyMap<string, number | undefined> {
    return this.#away;
  }

  /** The state of a member changed. */
  memberChanged({ nodeId, clusterId, status }: MemberUpdate): void {
    if (nodeId === this.#parts.nodeId) return;
    if (clusterId !== this.#parts.clusterId || status === "left") this.#remove(nodeId);
    else if (isListed(status)) this.#setThere(nodeId);
    else this.#setAway(nodeId);
  }

  /** This node stood still. Members that are away have that much longer to come back. */
  postpone(byMs: number): void {
    for (const [nodeId, sinceMonoMs] of this.#away) if (sinceMonoMs !== undefined) this.#away.set(nodeId, sinceMonoMs + byMs);
  }

  /** Forgets members that were away for too long. Returns when the next one is due (monotonic ms), or `NEVER`. */
  tick({ monoMs }: Time): number {
    let nextMonoMs = NEVER;
    for (const [nodeId, sinceMonoMs = monoMs] of this.#away) {
      const forgetMonoMs = sinceMonoMs + this.#parts.originForgetMs;
      if (monoMs >= forgetMonoMs) this.#remove(nodeId);
      else {
        this.#away.set(nodeId, sinceMonoMs);
        nextMonoMs = Math.min(nextMonoMs, forgetMonoMs);
      }
    }
    return nextMonoMs;
  }

  #setThere(nodeId: string): void {
    this.#add(nodeId);
    this.#away.delete(nodeId);
  }

  #setAway(nodeId: string): void {
    this.#add(nodeId);
    if (!this.#away.has(nodeId)) this.#away.set(nodeId, undefined);
  }

  /** Remembers a member. Without room it replaces the member that went first. */
  #add(nodeId: string): void {
    if (this.#nodeIds.has(nodeId)) return;
    if (this.#nodeIds.size >= this.#parts.maxMembers) {
      const [first] = this.#away.size > 0 ? this.#away.keys() : this.#nodeIds;
      if (first !== undefined) this.#remove(first);
    }
    this.#nodeIds.add(nodeId);
    this.#version += 1;
  }

  #remove(nodeId: string): void {
    this.#away.delete(nodeId);
    if (this.#nodeIds.delete(nodeId)) this.#version += 1;
  }
}
