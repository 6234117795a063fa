/** Computes how old the data of this node may be: the time since this node last had everything that its slowest peer had (semantics.md, Age). */
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
  /** Heartbeats from nodes that this node does not link to. */
  readonly heartbeats: Pick<Heartbeats, "provenMonoMs" | "version">;
  /** Whether this node has records that were written by the given node. */
  readonly holdsOf: (nodeId: string) => boolean;
  /** The members of this node's cluster that are down or unreachable and have not left. */
  readonly roster: Pick<MemberRoster, "away" | "version">;
}

interface PeerFreshness {
  /**
   * Time at which this node was last in sync with the peer. Until the first sync, this is the time up to which this node is assumed to have the
   * peer's records.
   */
  inStepMonoMs: number;
  /** Whether a link to the peer was ever up. If so, only the peer's own reports are used, and reports about it from other nodes are ignored. */
  wasMet: boolean;
  clusterId: string;
  isWanted: boolean;
  /**
   * Set when a dead node is listed again. Until this time or until the node's next heartbeat, the age includes the node although this node does not
   * need a link to it.
   */
  backUntilMonoMs: number;
  /** Set when the peer sent a goodbye. Until this time, or until the next sign of life, the peer is assumed not to write anything. */
  goneUntilMonoMs: number;
  /** The incarnation that sent the goodbye, as membership knew it then. */
  goneIncarnation?: NodeIncarnation | undefined;
}

/** Membership never decreases these numbers. An update with higher numbers shows that the node kept running. */
type NodeIncarnation = Pick<MemberUpdate, "generation" | "incarnation">;

const NEW_PEER = { wasMet: false, isWanted: true, backUntilMonoMs: 0, goneUntilMonoMs: 0 } as const satisfies Partial<PeerFreshness>;

/** A node that has sent a heartbeat and that this node does not link to. */
interface DistantNode {
  readonly nodeId: string;
  readonly provenMonoMs: number;
}

/** A healthy node's heartbeats arrive at least this often, even when other nodes relay them. */
const HEARTBEAT_QUIET_MS = 15_000;

/**
 * A node that sent a goodbye is unlikely to return before this time. After this time, the node may have returned without being reachable from this
 * node.
 */
const GONE_MS = 60_000;

/**
 * After this time, the age no longer includes a node that was listed again but has neither a link nor a heartbeat. Such a node does not connect to
 * this node, and no other node relays its heartbeats.
 */
const BACK_MS = 30_000;

/** How far this node may be behind. */
export interface ReplicationAge {
  readonly ageMs: number;
  /** Peers that are out of sync for longer than `quietMs`, and nodes without a heartbeat for three intervals. */
  readonly nodeIds: readonly string[];
  /** Peers of other clusters in the same state. They do not increase the age of this node's data. */
  readonly otherNodeIds: readonly string[];
}

/**
 * Computes the age of this node's data. The age includes only nodes of this cluster. A node of another cluster could announce records that it never
 * sends, which would make all responses of this node stale. A peer is included as long as this node wants a link to it. Any other member is included
 * once its first heartbeat has arrived, according to its last heartbeat. A node that died without a goodbye is still included while more than half of
 * its cluster is missing, or if it was the only other node of this cluster. In both cases, it is more likely that this node is isolated and that the
 * others continue to write.
 */
export class DataFreshness implements FabricPart {
  readonly #parts: DataFreshnessParts;
  readonly #peers = new Map<string, PeerFreshness>();
  /** Clusters whose missing nodes are included in the age, because too many are missing. Undefined when the set must be recomputed. */
  #halved: ReadonlySet<string> | undefined;
  /** From this time on, a node that sent a goodbye is also treated as missing. */
  #halvedUntilMonoMs = Number.POSITIVE_INFINITY;
  /**
   * The nodes that have no link but are included in the age, and their oldest heartbeat, as of `#distantVersion`, which is -1 when they must be
   * recomputed.
   */
  #distant: readonly DistantNode[] = [];
  #oldestMonoMs = Number.POSITIVE_INFINITY;
  #distantVersion = -1;
  /** Undefined when it must be recomputed. */
  #unreachable: { readonly nodes: UnreachableNodes | undefined; readonly rosterVersion: number; readonly untilMonoMs: number } | undefined;

  /**
   * Time at which the first member that is not a peer yet was listed. Undefined when there is none. Links are chosen a little later, and the age must
   * cover records that the member writes in the meantime.
   */
  #firstListedMonoMs: number | undefined;

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
   * Sets the nodes that this node wants to link to from now on. For a new peer without a heartbeat, this node is assumed to have everything that the
   * peer wrote before `knownMonoMs`, or before `#firstListedMonoMs` if that is earlier.
   */
  want(nodeIds: readonly string[], knownMonoMs: number, { monoMs }: Time): void {
    this.changed();
    const newMonoMs = Math.min(knownMonoMs, this.#firstListedMonoMs ?? knownMonoMs);
    this.#firstListedMonoMs = undefined;
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
      // The first attempt to open a link must not discard the freshness that was learned without a link.
      const inStepMonoMs = (member && this.#provenMonoMs(member)) ?? newMonoMs;
      if (peer === undefined) this.#peers.set(nodeId, { ...NEW_PEER, inStepMonoMs, clusterId });
      else Object.assign(peer, { isWanted: true, clusterId, backUntilMonoMs: 0 });
    }
  }

  /** Notes that a link to the peer is up. */
  met(nodeId: string): void {
    const peer = this.#peers.get(nodeId);
    if (peer !== undefined) peer.wasMet = true;
  }

  /** Notes that this node has everything that the peer had at the given time. */
  inStep(nodeId: string, monoMs: number): void {
    const peer = this.#peers.get(nodeId);
    if (peer !== undefined) Object.assign(peer, { inStepMonoMs: Math.max(peer.inStepMonoMs, monoMs), wasMet: true, goneUntilMonoMs: 0 });
  }

  /** Notes that the peer sent a goodbye and that this node has everything that the peer had. */
  goodbye(nodeId: string, { monoMs }: Time): void {
    const peer = this.#peers.get(nodeId);
    if (peer !== undefined)
      Object.assign(peer, { goneUntilMonoMs: monoMs + GONE_MS, goneIncarnation: this.#parts.membership.find(nodeId) });
    this.changed();
  }

  /** Handles a state change of a member. */
  memberChanged(update: MemberUpdate, { monoMs }: Time): void {
    this.changed();
    const peer = this.#peers.get(update.nodeId);
    if (peer === undefined) {
      if (isListed(update.status)) this.#firstListedMonoMs ??= monoMs;
      return;
    }
    if (update.status === "left") {
      this.#peers.delete(update.nodeId);
      return;
    }
    // The node had returned, even if the first update about its return marks it as suspect again.
    if (update.status === "alive" || isLater(update, peer.goneIncarnation)) peer.goneUntilMonoMs = 0;
    if (!isListed(update.status)) return;
    // The node is present again. From now on, this node is missing the records that the member wrote while it was considered dead, even before this
    // node wants a link to it.
    if (!peer.isWanted) peer.backUntilMonoMs = monoMs + BACK_MS;
    peer.isWanted = true;
  }

  /**
   * Returns the members of this node's cluster that are excluded from the age although they may accept writes: they are down or unreachable and have
   * not left. A node that announced a restart is added only after a minute. HOT: runs for every response.
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

  /** Discards computed results after a member was forgotten or this node's records changed. */
  changed(): void {
    this.#unreachable = undefined;
    this.#halved = undefined;
    this.#distantVersion = -1;
  }

  /**
   * Returns whether the age includes a node although this node does not need a link to it. This is the case when the node was considered dead and no
   * heartbeat shows how many of its records have arrived.
   */
  #isBack(member: MemberUpdate, { backUntilMonoMs }: PeerFreshness, monoMs: number): boolean {
    return monoMs < backUntilMonoMs && this.#provenMonoMs(member) === undefined;
  }

  #provenMonoMs({ nodeId, generation }: MemberUpdate): number | undefined {
    return this.#parts.heartbeats.provenMonoMs(`${nodeId}/${generation}`);
  }

  /**
   * Returns the time up to which this node has a peer's records. If the peer has never had a link to this node, the newest heartbeat that other nodes
   * relayed is used too.
   */
  #untilMonoMs(nodeId: string, { inStepMonoMs }: PeerFreshness): number {
    const member = this.#parts.membership.find(nodeId);
    return Math.max(inStepMonoMs, (member && this.#provenMonoMs(member)) ?? inStepMonoMs);
  }

  /** Returns whether a node is no longer listed. The age may still include it, if too much of its cluster is missing. */
  isLost(nodeId: string): boolean {
    const { status = "left" } = this.#parts.membership.find(nodeId) ?? {};
    return !isListed(status);
  }

  /** Computes the age. A peer that was last in sync before `sinceMonoMs` is treated as out of sync. HOT: runs for every response. */
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

  /** Finds the nodes that have no link but are included in the age. O(members), after each heartbeat or change. */
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
      // From now on, the heartbeat of a returned node determines its age. A dead node keeps its state as a peer.
      if (isListed(status)) this.#peers.delete(nodeId);
      else if (this.#peers.has(nodeId)) continue;
      distant.push({ nodeId, provenMonoMs });
      this.#oldestMonoMs = Math.min(this.#oldestMonoMs, provenMonoMs);
    }
    this.#distant = distant;
  }

  /** Finds the clusters in which too many nodes are missing. O(members), only after a change. */
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
      // Membership remembers dead nodes only for a while. This node may have their records for longer.
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
 * The members of this node's own cluster that are not known to have left. The list is kept across restarts. A member that is down or unreachable may
 * return with a record that only a tombstone removes, even if this node has never had any of the member's records (semantics.md, Tombstones).
 */
interface RosterParts {
  readonly nodeId: string;
  readonly clusterId: string;
  /** Maximum number of remembered members: the capacity of the member table. */
  readonly maxMembers: number;
  /** A member that is down or unreachable for this long is forgotten, together with its origins. */
  readonly originForgetMs: number;
}

export class MemberRoster {
  readonly #parts: RosterParts;
  readonly #nodeIds = new Set<string>();
  /**
   * For each unlisted member, the time since which it has been down or unreachable, ordered by departure. The value is undefined until the next tick.
   */
  readonly #away = new Map<string, number | undefined>();
  #version = 0;

  /** `remembered`: the members before this node was restarted. They are treated as unreachable until this node sees them. */
  constructor(parts: RosterParts, remembered: readonly string[] = []) {
    this.#parts = parts;
    for (const nodeId of remembered) if (nodeId !== parts.nodeId) this.#setAway(nodeId);
  }

  /** Changes whenever the remembered members change. */
  get version(): number {
    return this.#version;
  }

  /** Returns the ids to remember across a restart. */
  list(): readonly string[] {
    return [...this.#nodeIds];
  }

  /** Whether a member is down or unreachable and could return. */
  get isAnybodyAway(): boolean {
    return this.#away.size > 0;
  }

  /** The members that are down or unreachable, with the start of their absence (monotonic ms). The value is undefined until the next tick. */
  get away(): ReadonlyMap<string, number | undefined> {
    return this.#away;
  }

  /** Handles a state change of a member. */
  memberChanged({ nodeId, clusterId, status }: MemberUpdate): void {
    if (nodeId === this.#parts.nodeId) return;
    if (clusterId !== this.#parts.clusterId || status === "left") this.remove(nodeId);
    else if (isListed(status)) this.#setThere(nodeId);
    else this.#setAway(nodeId);
  }

  /** Extends the time that unreachable members have to return by the length of a pause of this process. */
  postpone(byMs: number): void {
    for (const [nodeId, sinceMonoMs] of this.#away) if (sinceMonoMs !== undefined) this.#away.set(nodeId, sinceMonoMs + byMs);
  }

  /** Forgets members that have been down or unreachable for too long. Returns when the next one is due (monotonic ms), or `NEVER`. */
  tick({ monoMs }: Time): number {
    let nextMonoMs = NEVER;
    for (const [nodeId, sinceMonoMs = monoMs] of this.#away) {
      const forgetMonoMs = sinceMonoMs + this.#parts.originForgetMs;
      if (monoMs >= forgetMonoMs) this.remove(nodeId);
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

  /** Remembers a member. When the list is full, the new member replaces the member that has been gone longest, or else the oldest one. */
  #add(nodeId: string): void {
    if (this.#nodeIds.has(nodeId)) return;
    if (this.#nodeIds.size >= this.#parts.maxMembers) {
      const [first] = this.#away.size > 0 ? this.#away.keys() : this.#nodeIds;
      if (first !== undefined) this.remove(first);
    }
    this.#nodeIds.add(nodeId);
    this.#version += 1;
  }

  remove(nodeId: string): void {
    this.#away.delete(nodeId);
    if (this.#nodeIds.delete(nodeId)) this.#version += 1;
  }
}
