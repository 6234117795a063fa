/** The table of members: which word about a member beats which (SWIM §4.2), and who is listed at what address. */
import { fnv64, type Hash64, mix32 } from "../../lib/hash64.ts";
import type { Rng } from "../../lib/rng.ts";
import type { MemberStatus, MemberUpdate } from "../wire/messages.ts";
import type { Suspicion } from "./suspicion.ts";

/** Within one incarnation a worse word beats a better one; `left` is the member's own and beats what others think. */
const RANKS = { alive: 0, suspect: 1, dead: 2, left: 3 } as const satisfies Record<MemberStatus, number>;

export type MemberClaim = Pick<MemberUpdate, "status" | "incarnation" | "generation" | "address">;

/** `confirm`: the same suspicion again. `challenge`: another life of the id, elsewhere, while the older one is listed. */
export type UpdateVerdict = "apply" | "confirm" | "stale" | "challenge";

/**
 * What an incoming word does to the held one: greater (generation, incarnation, rank) wins, so any order of words ends in the
 * same table. Only a newer generation at another address waits until the older one is gone: it may be a second node with one id.
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

/** Alive or suspect: probed, told, and shown to others. */
export function isListed(status: MemberStatus): status is "alive" | "suspect" {
  return status === "alive" || status === "suspect";
}

/** Whether it is listed, at another place than the one that says where it is. */
export function isListedElsewhere({ status, address }: MemberUpdate, said: { readonly address: string }): boolean {
  return isListed(status) && address !== said.address;
}

/** In every table and its digest, however long ago it went: who left entries behind, they stand for as long as it is known why. */
export function isAlwaysTold({ status, keepsEntries }: MemberUpdate): boolean {
  return isListed(status) || keepsEntries === true;
}

/** Why a node believed something of a member. */
export interface MemberEvidence {
  readonly atWallMs: number;
  readonly status: MemberStatus;
  /** The member's, that the word was about. */
  readonly incarnation: number;
  /** Who accused, or said so first; this node's own id for its own finding. */
  readonly accuser: string;
  /** Own probes, what another node told (gossip or table), or a suspicion that ran out. */
  readonly path: "direct" | "indirect" | "gossip" | "table" | "timeout";
  /** Helpers of the indirect probe, or who told. */
  readonly via: readonly string[];
}

const MAX_EVIDENCE = 16;

/** One member as this node knows it. Never self. */
export class Member {
  update: MemberUpdate;
  changedMonoMs = 0;
  /** This node saw it listed before it went: so it tells others that it is gone. Else deaths would be told in circles for ever. */
  isWitnessed = false;
  suspicion: Suspicion | undefined;
  /** Smoothed as TCP does (1/8); undefined before the first answer. */
  rttMs: number | undefined;
  /** Whether it answered this node when it was last asked, or a link to it came up since; undefined before either. */
  isInReach: boolean | undefined;
  readonly evidence: MemberEvidence[] = [];
  /** Place among the listed, or -1. */
  place = -1;
  /** Of who it is said to be, in the table's digest while it is told to everybody (`isAlwaysTold`). */
  hash: Hash64;
  /** What its id chooses, the same on every node: see `idKey`. */
  readonly key: number;

  constructor(update: MemberUpdate) {
    this.update = update;
    this.hash = wordHash(update);
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
  /** Remembered members of each cluster. */
  readonly #clusters = new Map<string, number>();
  /** The listed of this node's cluster, and of others; undefined when they are to be found out anew. */
  #ours: readonly Member[] | undefined;
  #others: readonly Member[] | undefined;
  /** Sum of the hashes of those that are told to everybody, modulo 2^32 each. */
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

  /** Alive and suspect members, in no promised but a deterministic order. */
  get listed(): readonly Member[] {
    return this.#listed;
  }

  /** Of `listed` those of this node's cluster: the same array until they change. O(n) after a change. */
  get ours(): readonly Member[] {
    this.#ours ??= this.#listed.filter((member) => this.isOurs(member));
    return this.#ours;
  }

  /** The other ones, likewise. */
  get others(): readonly Member[] {
    this.#others ??= this.#listed.filter((member) => !this.isOurs(member));
    return this.#others;
  }

  isOurs({ update }: Member): boolean {
    return update.clusterId === this.#here;
  }

  /** The part of this node's probes that goes to its own cluster: at least half of them, however many nodes other clusters name. */
  get ownShare(): number {
    return this.ours.length === 0 ? 0 : Math.max(0.5, this.ours.length / this.#listed.length);
  }

  /**
   * Whether this node is one of the `count` that look for themselves whether a suspect is there; for one of ours its own cluster is enough. Who knows the
   * same members chooses the same ones, so it is never luck that nobody looks (rendezvous hashing, Thaler and Ravishankar 1998). O(n), few in most cases.
   */
  isLooker(selfId: string, suspect: Member, count: number): boolean {
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

  /** Whether one more is remembered, of `max`. Of other clusters one has a quarter of the room, and all of them half. */
  hasRoomFor(clusterId: string, max: number): boolean {
    const countOf = (cluster: string) => this.#clusters.get(cluster) ?? 0;
    if (clusterId === this.#here || this.size >= max) return this.size < max;
    return countOf(clusterId) < max / 4 && this.size - countOf(this.#here) < max / 2;
  }

  /** Equal for tables that always tell the same lives of the same members, `own` included; suspicions pass and do not count. Never 0. */
  digestWith(own: MemberUpdate): bigint {
    const { high, low } = wordHash(own);
    return (BigInt((this.#high + high) >>> 0) << 32n) | BigInt(((this.#low + low) | 1) >>> 0);
  }

  find(nodeId: string): Member | undefined {
    return this.#byId.get(nodeId);
  }

  /** The listed member at the address. */
  holderOf(address: string): Member | undefined {
    return this.#byAddress.get(address);
  }

  all(): Iterable<Member> {
    return this.#byId.values();
  }

  /** Takes the update as the truth; the caller merged. Returns the member and what it was before. */
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
    if (known !== undefined && isAlwaysTold(known.update)) this.#sum(member, -1);
    if (member.update !== update && !isSameLife(member.update, update)) member.hash = wordHash(update);
    member.update = update;
    if (isAlwaysTold(update)) this.#sum(member, 1);
    if (before !== update.status) member.changedMonoMs = nowMonoMs;
    this.#counts[update.status] += 1;
    if (isListed(update.status)) {
      // Whose address was given to another, because that one answers there, does not take it back by being doubted.
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
    if (isAlwaysTold(member.update)) this.#sum(member, -1);
    if (member.place >= 0) this.#unlist(member);
    if (this.#byAddress.get(member.update.address) === member) this.#byAddress.delete(member.update.address);
    this.#byId.delete(member.update.nodeId);
  }

  /**
   * Up to `count` different listed members, by chance; of those out of reach only when there are no others. Half of them are of our own cluster,
   * where other clusters' nodes are more.
   */
  pick(rng: Rng, count: number, except?: Member): Member[] {
    if (this.ownShare !== 0.5) return draw(this.#listed, rng, count, { except });
    return draw(this.#listed, rng, count, { except, picked: this.pickOurs(rng, Math.floor(count / 2 + rng.next()), except) });
  }

  /** The same, of our own cluster. */
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

/** Spread evenly over 32 bits; two ids may have the same. */
export function idKey(nodeId: string): number {
  return mix32(fnv64(nodeId).low);
}

/** Keeps the newest. */
export function addEvidence(member: Member, evidence: MemberEvidence): void {
  member.evidence.push(evidence);
  if (member.evidence.length > MAX_EVIDENCE) member.evidence.shift();
}

/** Adds to the picked until there are `count`. */
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

function isSameLife(a: MemberUpdate, b: MemberUpdate): boolean {
  const isSameWord = a.incarnation === b.incarnation && a.generation === b.generation && a.address === b.address;
  return isSameWord && goneWord(a) === goneWord(b);
}

/** How it went; empty of one that is listed. */
function goneWord({ status }: MemberUpdate): string {
  return isListed(status) ? "" : ` ${status}`;
}

function wordHash(update: MemberUpdate): Hash64 {
  const { nodeId, generation, incarnation, address } = update;
  return fnv64(`${nodeId} ${generation} ${incarnation} ${address}${goneWord(update)}`);
}
