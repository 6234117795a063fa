/** Tracks the records that the peer of a link has but this node lacks, and decides when to request them. */
import { heldThrough, type Origin } from "../../catalog/record/stored-record.ts";
import { isOfOtherCluster } from "../../catalog/replica/origins.ts";
import { NEVER, type Time } from "../../lib/machine.ts";
import type { PeerProgress } from "./peer-progress.ts";
import type { PullingLink } from "./pulls-in-flight.ts";
import type { Replicator } from "./replicator.ts";
import { refOf } from "./version-vector.ts";

/** Minimum time in ms between two checks of the origins that are behind. */
const CHECK_MS = 100;
/** Maximum number of origins in a single check. */
const MAX_LOOKED = 1000;

/** How far this node is behind the peer of a link. */
export interface ReplicationLag {
  /** For how long the peer has reported more records than this node has, in ms. The value is 0 when this node is not behind. */
  readonly behindMs: number;
  /** The difference between the seqs. Some seqs have no record, because several changes of one key are sent as one. */
  readonly behindSeqs: number;
  /** Whether an origin that the peer has is partial on this node. All seqs of that origin are then included. */
  readonly isPartial: boolean;
}

export class LinkPullScheduler implements PullingLink {
  receivedMonoMs: number;
  readonly #replicator: Replicator;
  readonly #view: PeerProgress;
  readonly #request: (id: string, seq: number) => void;
  /** Origins for which the peer has a higher seq than this node, and the time since which this is so. */
  readonly #behind = new Map<string, number>();
  /** Origins of the peer's first whole vector that have not arrived yet, with their seqs. */
  readonly #missing = new Map<string, number>();
  /** Origins for which the peer refused records and knows a higher seq than this node has, and whether that makes this node's data stale. */
  readonly #lacking = new Map<string, boolean>();
  /** Until this time, this node waits for a peer that has complete copies of the origins. */
  #lackingUntilMonoMs: number;
  /** Origins that the peer named but that this node refuses for a while. */
  readonly #later = new Map<string, number>();
  #checkMonoMs: number;
  #behindMonoMs: number | undefined;

  constructor(replicator: Replicator, view: PeerProgress, request: (id: string, seq: number) => void, time: Time) {
    this.#replicator = replicator;
    this.#view = view;
    this.#request = request;
    this.receivedMonoMs = time.monoMs;
    this.#checkMonoMs = time.monoMs;
    this.#lackingUntilMonoMs = time.monoMs + replicator.options.lackingWaitMs;
    replicator.addPuller(this);
  }

  get peerNodeId(): string {
    return this.#view.peer.nodeId;
  }

  get hasWholeVector(): boolean {
    return this.#view.hasWholeVector;
  }

  get lacking(): Iterable<string> {
    return [...this.#lacking.keys()].filter((id) => this.#isLacking(id));
  }

  postpone(byMs: number): void {
    this.#lackingUntilMonoMs += byMs;
  }

  get isCaughtUp(): boolean {
    if (!this.#view.hasWholeVector) return false;
    for (const [id, seq] of this.#missing) {
      if (this.#throughOf(id) < seq) return false;
      this.#missing.delete(id);
    }
    return true;
  }

  nextDeadlineMs(): number {
    return this.#behind.size > 0 || this.#missing.size > 0 ? this.#checkMonoMs + CHECK_MS : NEVER;
  }

  /**
   * Whether this node is behind the peer, because the peer has reported a higher seq for an origin or knows an origin that is incomplete. An origin
   * is incomplete if this node or the peer refused some of its records, or if frames omitted some data. For a peer of this node's cluster, an
   * incomplete origin counts only if it belongs to the cluster. Otherwise, another cluster could make the data of all nodes stale with one bad
   * record.
   */
  // HOT: called after every frame. Stops at the first origin that is behind, and does not visit an origin again after it has arrived.
  get isBehind(): boolean {
    const { partial, unsettled } = this.#replicator;
    for (const origin of partial.origins) {
      if (!this.#makesStale(origin)) continue;
      const known = this.#view.find(origin.id);
      if (known !== undefined && (known.reportedSeq > 0 || known.lackingThrough > 0)) return true;
    }
    for (const origin of unsettled) if (this.#makesStale(origin) && this.#view.reportedSeqOf(origin.id) > heldThrough(origin)) return true;
    for (const [id, makesOld] of this.#lacking) {
      if (!makesOld) continue;
      if (this.#isLacking(id)) return true;
      this.#lacking.delete(id);
    }
    for (const id of this.#behind.keys()) {
      if (this.#view.reportedSeqOf(id) > this.#throughOf(id)) return true;
      this.#behind.delete(id);
      this.#replicator.endFetch(id, this);
    }
    return false;
  }

  /** O(n) in the number of origins that are behind. */
  lag(time: Time): ReplicationLag {
    const { partial, replica } = this.#replicator;
    let behindSeqs = 0;
    for (const id of this.#behind.keys())
      if (replica.origins.get(id)?.lacks === undefined) behindSeqs += Math.max(0, this.#view.reportedSeqOf(id) - this.#throughOf(id));
    const behindMs = behindSeqs > 0 && this.#behindMonoMs !== undefined ? time.monoMs - this.#behindMonoMs : 0;
    let refusedSeqs = 0;
    for (const { id } of partial.origins) {
      const { reportedSeq = 0, at = 0, lackingThrough = 0 } = this.#view.find(id) ?? {};
      // The peer has the records that it sent, even before its next vector reports them.
      refusedSeqs += lackingThrough > 0 ? reportedSeq : Math.max(reportedSeq, at);
    }
    return { behindMs, behindSeqs: behindSeqs + refusedSeqs, isPartial: refusedSeqs > 0 };
  }

  /** Handles an entry from the peer's vector. */
  onVectorEntry(id: string, seq: number, time: Time): void {
    if (this.#isLacking(id) && this.#isWelcome(id, time)) {
      this.#noteLacking(id);
      if (!this.#view.hasWholeVector) this.#missing.set(id, this.#view.lackingThroughOf(id));
    }
    if (seq <= this.#throughOf(id)) return;
    if (!this.#isWelcome(id, time)) {
      this.#later.set(id, time.monoMs);
      return;
    }
    if (!this.#behind.has(id)) this.#behind.set(id, time.monoMs);
    if (!this.#view.hasWholeVector) this.#missing.set(id, seq);
    this.#behindMonoMs ??= time.monoMs;
  }

  reconsider(id: string): void {
    if (this.#view.reportedSeqOf(id) > this.#throughOf(id)) this.#behind.set(id, Number.NEGATIVE_INFINITY);
    if (this.#isLacking(id)) this.#noteLacking(id);
  }

  disbelieve(id: string, seq: number, time: Time): void {
    const known = this.#view.find(id);
    if (known !== undefined && known.reportedSeq > seq) known.disbelieve(time.monoMs + this.#replicator.options.refusedMs);
  }

  /** Requests the records after the seq that this node has, because a frame began above that seq. */
  gap(id: string, knows: number, time: Time): void {
    if (this.#replicator.takeFetch(id, this, time, this.#pullRequest(id))) this.#request(id, knows);
  }

  tick(time: Time): void {
    if (time.monoMs - this.#checkMonoMs >= CHECK_MS) this.check(time);
  }

  /** Requests the records that the peer has, unless another link is fetching them or they arrive without a request. */
  check(time: Time): void {
    this.#checkMonoMs = time.monoMs;
    const hasSilentMember = this.#missing.size > 0 && this.#replicator.hasSilentMember();
    for (const [id, seq] of this.#missing) {
      // The peer may have forgotten the origin in the meantime, and possibly no other node has it.
      const mayCome = time.monoMs < this.#lackingUntilMonoMs && (hasSilentMember || !this.#replicator.hasLeft(id));
      const isAwaited = mayCome && this.#isLacking(id);
      const isWithdrawn = this.#view.reportedSeqOf(id) < seq && !isAwaited;
      if (isWithdrawn || this.#throughOf(id) >= seq || !this.#isWelcome(id, time)) this.#missing.delete(id);
    }
    for (const id of this.#lacking.keys()) if (!this.#isLacking(id) || !this.#isWelcome(id, time)) this.#lacking.delete(id);
    for (const [id] of turn(this.#later)) {
      if (this.#throughOf(id) < this.#view.reportedSeqOf(id) && !this.#isWelcome(id, time)) continue;
      this.#later.delete(id);
      this.onVectorEntry(id, this.#view.reportedSeqOf(id), time);
    }
    for (const [id, sinceMonoMs] of turn(this.#behind)) {
      const through = this.#throughOf(id);
      if (through >= this.#view.reportedSeqOf(id) || !this.#isWelcome(id, time)) {
        if (through < this.#view.reportedSeqOf(id)) this.#later.set(id, time.monoMs);
        this.#behind.delete(id);
        this.#replicator.endFetch(id, this);
      } else if (this.#isOverdue(id, sinceMonoMs, time) && this.#replicator.takeFetch(id, this, time, this.#pullRequest(id)))
        this.#request(id, through);
    }
    if (this.#behind.size === 0) this.#behindMonoMs = undefined;
  }

  close(): void {
    this.#replicator.dropPuller(this);
    this.#behind.clear();
    this.#missing.clear();
    this.#lacking.clear();
    this.#later.clear();
  }

  /**
   * Most of a peer's new records are already in transit. Records that were named when the link came up are not in transit, unless they are the peer's
   * own records.
   */
  #isOverdue(id: string, sinceMonoMs: number, time: Time): boolean {
    if (!this.#view.hasWholeVector) return false;
    const { fetchGraceMs } = this.#replicator.options;
    if (this.#view.isOwn(id)) return time.monoMs >= Math.max(sinceMonoMs, this.receivedMonoMs) + 2 * fetchGraceMs;
    return this.#missing.has(id) || this.#isOffered(id) || time.monoMs >= sinceMonoMs + fetchGraceMs;
  }

  /** Whether no node sends the origin without a request, because the peer only offers it and this node has no link to the origin's own node. */
  #isOffered(id: string): boolean {
    return !this.#replicator.isLinked(refOf(id).nodeId);
  }

  #pullRequest(id: string): { readonly wanted: number; readonly isNews: boolean } {
    return { wanted: this.#view.reportedSeqOf(id), isNews: !this.#missing.has(id) && this.#isOffered(id) };
  }

  /** Whether the peer refused some of an origin's records and knows a higher seq than this node has. The peer cannot send the refused records. */
  #isLacking(id: string): boolean {
    return this.#view.lackingThroughOf(id) > this.#throughOf(id);
  }

  #makesStale(origin: Origin): boolean {
    return !(this.#isWithin && isOfOtherCluster(origin, this.#replicator.place.clusterId));
  }

  #noteLacking(id: string): void {
    const isAbroad = this.#view.find(id)?.isOfOtherCluster === true;
    this.#lacking.set(id, !(isAbroad && this.#isWithin));
  }

  /** Whether the peer belongs to this node's cluster. */
  get #isWithin(): boolean {
    return this.#view.peer.relation === "cluster";
  }

  #throughOf(id: string): number {
    return this.#replicator.replica.origins.get(id)?.through ?? 0;
  }

  /** Whether this node accepts frames of that origin from this peer. */
  #isWelcome(id: string, time: Time): boolean {
    const { replica, place } = this.#replicator;
    const { peer } = this.#view;
    if (id === replica.self.id || replica.forgotten.has(id)) return false;
    // Vector entries do not contain the cluster. An origin that a node of another cluster names may belong to that cluster.
    const of = peer.relation === "cluster" ? place.clusterId : peer.clusterId;
    if (!this.#replicator.hasRoomFor(id, this.#view.isOwn(id), of)) return false;
    if (this.#replicator.isForeign(id)) return false;
    const { clusterId = "" } = replica.origins.get(id) ?? {};
    if (this.#replicator.hearsay.isHearsay(peer, clusterId, time)) return false;
    return time.monoMs >= (this.#view.find(id)?.refusedUntilMonoMs ?? 0);
  }
}

/**
 * Returns the origins to check now: at most `MAX_LOOKED`, and different ones on the next call, because a peer may name origins that it never sends.
 */
function turn(ids: Map<string, number>): readonly (readonly [string, number])[] {
  if (ids.size <= MAX_LOOKED) return [...ids];
  const first = ids.entries().take(MAX_LOOKED).toArray();
  for (const [id, sinceMonoMs] of first) {
    ids.delete(id);
    ids.set(id, sinceMonoMs);
  }
  return first;
}
