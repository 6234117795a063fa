/** The member table: which of two updates about a member overrides the other (SWIM §4.2), and which members are listed at which address. */
import { fnv64, type Hash64, mix32 } from "../../lib/hash64.ts";
import type { Rng } from "../../lib/rng.ts";
import type { MemberStatus, MemberUpdate } from "../wire/messages.ts";
import type { Suspicion } from "./suspicion.ts";

/**
 * Within one incarnation a higher rank overrides a lower one. `left` is sent by the member itself and overrides the status that other nodes report.
 */
const RANKS = { alive: 0, suspect: 1, dead: 2, left: 3 } as const satisfies Record<MemberStatus, number>;

export type MemberClaim = Pick<MemberUpdate, "status" | "incarnation" | "generation" | "address">;

/** `confirm`: the same suspicion again. `challenge`: another generation of the id at another address, while the older generation is listed. */
export type UpdateVerdict = "apply" | "confirm" | "stale" | "challenge";

/**
 * Compares an incoming update with the known one. The update with the greater (generation, incarnation, rank) wins, so updates produce the same table
 * in any order. There is one exception: a newer generation at another address waits until the older one is gone, because it may be a second node with
 * the same id.
 */
export function mergeVerdict(held: MemberClaim, incoming: MemberClaim): UpdateVerdict {
  if (incoming.generation !== held.generation) {
    if (incoming.generation < held.generation) return "stale";
    return isListed(held.status) && incoming.address !== held.address ? "challenge" : "apply";
  }
  if (incoming.incarnation !== held.incarnation) return incoming.incarnation > held.incarnation ? "apply" : "stale";
  if (incoming.status === "suspect" && held.status === "suspect") return "confirm";
  return RANKS[incoming.status] > RANKS[held.status] ? "apply" : "stale";
}

/** Returns whether the status is alive or suspect. Such a member is probed, included in gossip, and shown to other nodes. */
export function isListed(status: MemberStatus): status is "alive" | "suspect" {
  return status === "alive" || status === "suspect";
}

/** Returns whether the member is listed at another address than the given one. */
export function isListedElsewhere({ status, address }: MemberUpdate, other: { readonly address: string }): boolean {
  return isListed(status) && address !== other.address;
}

/**
 * Returns whether a member is in every table and its digest, no matter how long ago it died or left. A member that left entries behind is kept,
 * because its entries stay for as long as the reason is known.
 */
export function isInEveryTable({ status, keepsEntries }: MemberUpdate): boolean {
  return isListed(status) || keepsEntries === true;
}

/** Why this node assigned a status to a member. */
export interface MemberEvidence {
  readonly atWallMs: number;
  readonly status: MemberStatus;
  /** The member's incarnation that the update was about. */
  readonly incarnation: number;
  /** The node that was the first to accuse the member or to send the update. It is this node's own id if this node detected the fault itself. */
  readonly accuser: string;
  /** The source: own probes, an update from another node (gossip or table), or a suspicion that timed out. */
  readonly path: "direct" | "indirect" | "gossip" | "table" | "timeout";
  /** The helpers of the indirect probe, or the node that sent the update. */
  readonly via: readonly string[];
}

const MAX_EVIDENCE = 16;

/** One other member as this node knows it. */
export class Member {
  update: MemberUpdate;
  changedMonoMs = 0;
  /**
   * Whether this node saw the member listed before it died or left. Only in that case does this node spread the report of the death. Otherwise, such
   * reports would circulate forever.
   */
  isWitnessed = false;
  suspicion: Suspicion | undefined;
  /** Smoothed round-trip time, as in TCP (1/8). Undefined before the first response. */
  rttMs: number | undefined;
  /** Whether the member answered this node's last call or a link to it has come up since that call. Undefined before either. */
  isInReach: boolean | undefined;
  readonly evidence: MemberEvidence[] = [];
  /** Index in the list of listed members, or -1. */
  place = -1;
  /** Hash of the member's identity and state. It is part of the table's digest while `isInEveryTable` holds. */
  hash: Hash64;
  /** Hash of the id, which is the same on every node (see `idKey`). */
  readonly key: number;

  constructor(update: MemberUpdate) {
    this.update = update;
    this.hash = updateHash(update);
    this.key = idKey(update.nodeId);
  }
}

export interface MemberCounts {
  readonly alive: number;
  readonly suspect: number;
  readonly left: number;
  readonly dead: number;
}

export class Members {
  readonly #byId = new Map<string, Member>();
  readonly #byAddress = new Map<string, Member>();
  readonly #listed: Member[] = [];
  /** This node's cluster. */
  readonly #here: string;
  /** Number of remembered members of each cluster. */
  readonly #clusters = new Map<string, number>();
  /** The listed members of this node's cluster, and of other clusters. Undefined when they must be recomputed. */
  #ours: readonly Member[] | undefined;
  #others: readonly Member[] | undefined;
  /** Sums of the two halves of the hashes of the members with `isInEveryTable`, each modulo 2^32. */
  #high = 0;
  #low = 0;
  readonly #counts = { alive: 0, suspect: 0, left: 0, dead: 0 };

  /** `here`: this node's cluster. */
  constructor(here = "") {
    this.#here = here;
  }

  get size(): number {
    return this.#byId.size;
  }

  get counts(): MemberCounts {
    return { ...this.#counts };
  }

  /** Members that are alive or suspect. The order is unspecified but deterministic. */
  get listed(): readonly Member[] {
    return this.#listed;
  }

  /** The listed members in this node's cluster. Returns the same array until the members change. O(n) after a change. */
  get ours(): readonly Member[] {
    this.#ours ??= this.#listed.filter((member) => this.isOurs(member));
    return this.#ours;
  }

  /** The listed members in other clusters, returned in the same way. */
  get others(): readonly Member[] {
    this.#others ??= this.#listed.filter((member) => !this.isOurs(member));
    return this.#others;
  }

  isOurs({ update }: Member): boolean {
    return update.clusterId === this.#here;
  }

  /**
   * The share of this node's probes that is reserved for its own cluster. It is at least half, regardless of how many nodes other clusters announce.
   */
  get ownShare(): number {
    return this.ours.length === 0 ? 0 : Math.max(0.5, this.ours.length / this.#listed.length);
  }

  /**
   * Returns whether this node is one of the `count` nodes that verify a suspicion themselves. For a member of this node's cluster, only nodes of that
   * cluster are chosen. All nodes with the same members choose the same ones, so the verification never depends on chance (rendezvous hashing, Thaler
   * and Ravishankar 1998). O(n), but usually only a few steps.
   */
  isVerifier(selfId: string, suspect: Member, count: number): boolean {
    const { nodeId, incarnation, accuser } = suspect.update;
    const about = fnv64(`${nodeId} ${incarnation}`).low;
    const own = mix32(idKey(selfId) ^ about);
    let before = 0;
    for (const { update, key } of this.isOurs(suspect) ? this.ours : this.#listed) {
      if (before >= count) return false;
      if (update.status === "alive" && update.nodeId !== accuser && mix32(key ^ about) < own) before += 1;
    }
    return before < count;
  }

  /**
   * Returns whether there is capacity for another member, out of a total of `max`. Each other cluster gets at most a quarter of the capacity, and all
   * other clusters together get half.
   */
  hasRoomFor(clusterId: string, max: number): boolean {
    const countOf = (cluster: string) => this.#clusters.get(cluster) ?? 0;
    if (clusterId === this.#here || this.size >= max) return this.size < max;
    return countOf(clusterId) < max / 4 && this.size - countOf(this.#here) < max / 2;
  }

  /**
   * Returns a digest of the table, including `own`. The digests are equal for tables with the same incarnations of the same members. Suspicions are
   * temporary and are not included. Never 0.
   */
  digestWith(own: MemberUpdate): bigint {
    const { high, low } = updateHash(own);
    return (BigInt((this.#high + high) >>> 0) << 32n) | BigInt(((this.#low + low) | 1) >>> 0);
  }

  find(nodeId: string): Member | undefined {
    return this.#byId.get(nodeId);
  }

  /** Returns the listed member at the address. */
  holderOf(address: string): Member | undefined {
    return this.#byAddress.get(address);
  }

  all(): Iterable<Member> {
    return this.#byId.values();
  }

  /** Stores an update that the caller has already merged. Returns the member and its previous status. */
  put(update: MemberUpdate, nowMonoMs: number): { readonly member: Member; readonly before: MemberStatus | undefined } {
    const known = this.#byId.get(update.nodeId);
    const before = known?.update.status;
    const formerAddress = known?.update.address;
    const isHolder = formerAddress !== undefined && this.#byAddress.get(formerAddress) === known;
    const member = known ?? new Member(update);
    this.#count(update.clusterId, 1);
    if (known === undefined) this.#byId.set(update.nodeId, member);
    else {
      this.#count(known.update.clusterId, -1);
      this.#counts[known.update.status] -= 1;
      if (isHolder) this.#byAddress.delete(known.update.address);
    }
    const wasListed = before !== undefined && isListed(before);
    if (wasListed !== isListed(update.status) || known?.update.clusterId !== update.clusterId) this.#regroup();
    if (known !== undefined && isInEveryTable(known.update)) this.#sum(member, -1);
    if (member.update !== update && !isSameIncarnation(member.update, update)) member.hash = updateHash(update);
    member.update = update;
    if (isInEveryTable(update)) this.#sum(member, 1);
    if (before !== update.status) member.changedMonoMs = nowMonoMs;
    this.#counts[update.status] += 1;
    if (isListed(update.status)) {
      // A member whose address was reassigned because another member answers at that address does not get it back by being suspected.
      const isMoved = !wasListed || formerAddress !== update.address || isHolder;
      if (isMoved) this.#byAddress.set(update.address, member);
      if (member.place < 0) member.place = this.#listed.push(member) - 1;
      member.isWitnessed = true;
    } else {
      if (wasListed) this.#unlist(member);
    }
    return { member, before };
  }

  forget(member: Member): void {
    this.#regroup();
    this.#count(member.update.clusterId, -1);
    this.#counts[member.update.status] -= 1;
    if (isInEveryTable(member.update)) this.#sum(member, -1);
    if (member.place >= 0) this.#unlist(member);
    if (this.#byAddress.get(member.update.address) === member) this.#byAddress.delete(member.update.address);
    this.#byId.delete(member.update.nodeId);
  }

  /**
   * Draws up to `count` different listed members at random. Unreachable members are drawn only when there are no others. When other clusters have
   * more nodes, half of the drawn members belong to this node's cluster.
   */
  pick(rng: Rng, count: number, except?: Member): Member[] {
    if (this.ownShare !== 0.5) return draw(this.#listed, rng, count, { except });
    return draw(this.#listed, rng, count, { except, picked: this.pickOurs(rng, Math.floor(count / 2 + rng.next()), except) });
  }

  /** Draws members in the same way, but only from this node's cluster. */
  pickOurs(rng: Rng, count: number, except?: Member): Member[] {
    return draw(this.ours, rng, count, { except });
  }

  #regroup(): void {
    this.#ours = undefined;
    this.#others = undefined;
  }

  #count(clusterId: string, more: 1 | -1): void {
    const count = (this.#clusters.get(clusterId) ?? 0) + more;
    if (count > 0) this.#clusters.set(clusterId, count);
    else this.#clusters.delete(clusterId);
  }

  #sum({ hash }: Member, sign: 1 | -1): void {
    this.#high = (this.#high + sign * hash.high) >>> 0;
    this.#low = (this.#low + sign * hash.low) >>> 0;
  }

  #unlist(member: Member): void {
    const last = this.#listed.pop();
    if (last !== undefined && last !== member) {
      this.#listed[member.place] = last;
      last.place = member.place;
    }
    member.place = -1;
  }
}

/** Hashes a node id to 32 evenly distributed bits. Two ids may have the same hash. */
export function idKey(nodeId: string): number {
  return mix32(fnv64(nodeId).low);
}

/** Adds evidence and keeps only the newest `MAX_EVIDENCE` items. */
export function addEvidence(member: Member, evidence: MemberEvidence): void {
  member.evidence.push(evidence);
  if (member.evidence.length > MAX_EVIDENCE) member.evidence.shift();
}

/** Draws members until `picked` has `count`. */
function draw(
  from: readonly Member[],
  rng: Rng,
  count: number,
  { except, picked = [] }: { readonly except: Member | undefined; readonly picked?: Member[] },
): Member[] {
  const size = from.length;
  const isFree = (member: Member) => member !== except && !picked.includes(member);
  if (size === 0 || picked.length >= count) return picked;
  if (from.some(({ isInReach }) => isInReach === false)) {
    const inReach = from.filter((member) => member.isInReach !== false && isFree(member));
    while (picked.length < count && inReach.length > 0) picked.push(...inReach.splice(rng.int(inReach.length), 1));
    if (picked.length > 0) return picked;
  }
  const start = rng.int(size);
  if (size <= count + 1) {
    for (let i = 0; i < size && picked.length < count; i++) {
      const member = from[(start + i) % size];
      if (member !== undefined && isFree(member)) picked.push(member);
    }
    return picked;
  }
  for (let tries = 0; tries < count * 4 && picked.length < count; tries++) {
    const member = from[rng.int(size)];
    if (member !== undefined && isFree(member)) picked.push(member);
  }
  return picked;
}

function isSameIncarnation(a: MemberUpdate, b: MemberUpdate): boolean {
  const isSameUpdate = a.incarnation === b.incarnation && a.generation === b.generation && a.address === b.address;
  return isSameUpdate && goneStatus(a) === goneStatus(b);
}

/** Returns the status of a member that died or left. Returns an empty text for a listed member. */
function goneStatus({ status }: MemberUpdate): string {
  return isListed(status) ? "" : ` ${status}`;
}

function updateHash(update: MemberUpdate): Hash64 {
  const { nodeId, generation, incarnation, address } = update;
  return fnv64(`${nodeId} ${generation} ${incarnation} ${address}${goneStatus(update)}`);
}
