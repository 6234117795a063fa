/** What the peer of one link knows and this node does not, and when to ask for it. */
import { heldThrough, type Origin } from "../../catalog/record/stored-record.ts";
import { isOfOtherCluster } from "../../catalog/replica/origins.ts";
import { NEVER, type Time } from "../../lib/machine.ts";
import type { Fetcher } from "./fetches.ts";
import type { PeerProgress } from "./peer-progress.ts";
import type { Replicator } from "./replicator.ts";
import { refOf } from "./version-vector.ts";

/** Looks at what is behind at most so often, in ms. */
const CHECK_MS = 100;
/** Origins looked at in one go. */
const MAX_LOOKED = 1000;

/** How far this node is behind the peer of a link. */
export interface ReplicationLag {
  /** For how long it has known less than the peer says it knows, in ms; 0 when it does not. */
  readonly behindMs: number;
  /** By how many numbers; some of them were never anything, because changes of one key are told once. */
  readonly behindSeqs: number;
  /** Whether an origin that the peer has is partial here: all of what it said of that one counts as behind. */
  readonly isPartial: boolean;
}

export class LinkFetcher implements Fetcher {
  receivedMonoMs: number;
  readonly #replicator: Replicator;
  readonly #view: PeerProgress;
  readonly #ask: (id: string, seq: number) => void;
  /** Origins of which the peer said more than is known here, and since when. */
  readonly #behind = new Map<string, number>();
  /** What the peer's first whole vector named and is not here yet. */
  readonly #missing = new Map<string, number>();
  /** Origins of which the peer refused records, and has heard of more than is here; whether what is held is old for that. */
  readonly #lacking = new Map<string, boolean>();
  /** Until then somebody who has those whole is waited for. */
  #lackingUntilMonoMs: number;
  /** What it named and is not welcome for a while. */
  readonly #later = new Map<string, number>();
  #checkMonoMs: number;
  #behindMonoMs: number | undefined;

  constructor(replicator: Replicator, view: PeerProgress, ask: (id: string, seq: number) => void, time: Time) {
    this.#replicator = replicator;
    this.#view = view;
    this.#ask = ask;
    this.receivedMonoMs = time.monoMs;
    this.#checkMonoMs = time.monoMs;
    this.#lackingUntilMonoMs = time.monoMs + replicator.options.lackingWaitMs;
    replicator.addFetcher(this);
  }

  get peerNodeId(): string {
    return this.#view.peer.nodeId;
  }

  get lacking(): Iterable<string> {
    return [...this.#lacking.keys()].filter((id) => this.#isLacking(id));
  }

  postpone(byMs: number): void {
    this.#lackingUntilMonoMs += byMs;
  }

  get isCaughtUp(): boolean {
    if (!this.#view.isWholeTold) return false;
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
   * Whether we are behind the peer. So we are when it has said that it knows more of an origin than we do. So we are, too, when it knows an origin that
   * is not whole: of which records were refused, here or there, or of which frames left something out. To a peer of our own cluster an origin that is
   * not whole counts only where it is of our cluster: else another cluster could make all of us stale by one bad record.
   */
  // HOT: asked after every frame. Ends at the first that is so; what has come meanwhile is looked at once.
  get isBehind(): boolean {
    const { partial, unsettled } = this.#replicator;
    for (const origin of partial.origins) {
      if (!this.#makesOld(origin)) continue;
      const known = this.#view.find(origin.id);
      if (known !== undefined && (known.told > 0 || known.lackingThrough > 0)) return true;
    }
    for (const origin of unsettled) if (this.#makesOld(origin) && this.#view.toldOf(origin.id) > heldThrough(origin)) return true;
    for (const [id, makesOld] of this.#lacking) {
      if (!makesOld) continue;
      if (this.#isLacking(id)) return true;
      this.#lacking.delete(id);
    }
    for (const id of this.#behind.keys()) {
      if (this.#view.toldOf(id) > this.#throughOf(id)) return true;
      this.#behind.delete(id);
      this.#replicator.endFetch(id, this);
    }
    return false;
  }

  /** O(n) in the origins it is behind of. */
  lag(time: Time): ReplicationLag {
    const { partial, replica } = this.#replicator;
    let behindSeqs = 0;
    for (const id of this.#behind.keys())
      if (replica.origins.get(id)?.lacks === undefined) behindSeqs += Math.max(0, this.#view.toldOf(id) - this.#throughOf(id));
    const behindMs = behindSeqs > 0 && this.#behindMonoMs !== undefined ? time.monoMs - this.#behindMonoMs : 0;
    let refusedSeqs = 0;
    for (const { id } of partial.origins) {
      const { told = 0, at = 0, lackingThrough = 0 } = this.#view.find(id) ?? {};
      // What the peer sent it has, also before its next vector says so.
      refusedSeqs += lackingThrough > 0 ? told : Math.max(told, at);
    }
    return { behindMs, behindSeqs: behindSeqs + refusedSeqs, isPartial: refusedSeqs > 0 };
  }

  /** The peer's vector named an origin. */
  told(id: string, seq: number, time: Time): void {
    if (this.#isLacking(id) && this.#isWelcome(id, time)) {
      this.#noteLacking(id);
      if (!this.#view.isWholeTold) this.#missing.set(id, this.#view.lackingThroughOf(id));
    }
    if (seq <= this.#throughOf(id)) return;
    if (!this.#isWelcome(id, time)) {
      this.#later.set(id, time.monoMs);
      return;
    }
    if (!this.#behind.has(id)) this.#behind.set(id, time.monoMs);
    if (!this.#view.isWholeTold) this.#missing.set(id, seq);
    this.#behindMonoMs ??= time.monoMs;
  }

  reconsider(id: string): void {
    if (this.#view.toldOf(id) > this.#throughOf(id)) this.#behind.set(id, Number.NEGATIVE_INFINITY);
    if (this.#isLacking(id)) this.#noteLacking(id);
  }

  disbelieve(id: string, seq: number, time: Time): void {
    const known = this.#view.find(id);
    if (known !== undefined && known.told > seq) known.disbelieve(time.monoMs + this.#replicator.options.refusedMs);
  }

  /** A frame did not join what is known. */
  gap(id: string, knows: number, time: Time): void {
    if (this.#replicator.takeFetch(id, this, time, this.#wish(id))) this.#ask(id, knows);
  }

  tick(time: Time): void {
    if (time.monoMs - this.#checkMonoMs >= CHECK_MS) this.check(time);
  }

  /** Asks for what the peer has, where nobody else is at it and it does not come by itself. */
  check(time: Time): void {
    this.#checkMonoMs = time.monoMs;
    for (const [id, seq] of this.#missing) {
      // It may have been forgotten there meanwhile, and be nowhere to be had.
      const isAwaited = time.monoMs < this.#lackingUntilMonoMs && this.#isLacking(id);
      const isWithdrawn = this.#view.toldOf(id) < seq && !isAwaited;
      if (isWithdrawn || this.#throughOf(id) >= seq || !this.#isWelcome(id, time)) this.#missing.delete(id);
    }
    for (const id of this.#lacking.keys()) if (!this.#isLacking(id) || !this.#isWelcome(id, time)) this.#lacking.delete(id);
    for (const [id] of turn(this.#later)) {
      if (this.#throughOf(id) < this.#view.toldOf(id) && !this.#isWelcome(id, time)) continue;
      this.#later.delete(id);
      this.told(id, this.#view.toldOf(id), time);
    }
    for (const [id, sinceMonoMs] of turn(this.#behind)) {
      const through = this.#throughOf(id);
      if (through >= this.#view.toldOf(id) || !this.#isWelcome(id, time)) {
        if (through < this.#view.toldOf(id)) this.#later.set(id, time.monoMs);
        this.#behind.delete(id);
        this.#replicator.endFetch(id, this);
      } else if (this.#isOverdue(id, sinceMonoMs, time) && this.#replicator.takeFetch(id, this, time, this.#wish(id)))
        this.#ask(id, through);
    }
    if (this.#behind.size === 0) this.#behindMonoMs = undefined;
  }

  close(): void {
    this.#replicator.dropFetcher(this);
    this.#behind.clear();
    this.#missing.clear();
    this.#lacking.clear();
    this.#later.clear();
  }

  /** Most of what a peer has more is on its way here already; what was named at the start is not, unless it is the peer's own. */
  #isOverdue(id: string, sinceMonoMs: number, time: Time): boolean {
    if (!this.#view.isWholeTold) return false;
    const { fetchGraceMs } = this.#replicator.options;
    if (this.#view.isOwn(id)) return time.monoMs >= Math.max(sinceMonoMs, this.receivedMonoMs) + 2 * fetchGraceMs;
    return this.#missing.has(id) || this.#isOffered(id) || time.monoMs >= sinceMonoMs + fetchGraceMs;
  }

  /** Whether nobody sends it unasked: the peer does not pass it on, and there is no link to its origin. */
  #isOffered(id: string): boolean {
    return this.#view.peer.takesOffers === true && !this.#replicator.isLinked(refOf(id).nodeId);
  }

  #wish(id: string): { readonly wanted: number; readonly isNews: boolean } {
    return { wanted: this.#view.toldOf(id), isNews: !this.#missing.has(id) && this.#isOffered(id) };
  }

  /** Whether the peer refused records of an origin, and has heard of more than is here: more than it gives. */
  #isLacking(id: string): boolean {
    return this.#view.lackingThroughOf(id) > this.#throughOf(id);
  }

  #makesOld(origin: Origin): boolean {
    return !(this.#isWithin && isOfOtherCluster(origin, this.#replicator.place.clusterId));
  }

  #noteLacking(id: string): void {
    const isAbroad = this.#view.find(id)?.isOfOtherCluster === true;
    this.#lacking.set(id, !(isAbroad && this.#isWithin));
  }

  /** Whether the peer is of our own cluster. */
  get #isWithin(): boolean {
    return this.#view.peer.relation === "cluster";
  }

  #throughOf(id: string): number {
    return this.#replicator.replica.origins.get(id)?.through ?? 0;
  }

  /** Whether frames of that origin are taken here, from this peer. */
  #isWelcome(id: string, time: Time): boolean {
    const { replica, place } = this.#replicator;
    const { peer } = this.#view;
    if (id === replica.self.id || replica.forgotten.has(id)) return false;
    // Vectors name no cluster: what a node of another one tells of may be of that.
    const of = peer.relation === "cluster" ? place.clusterId : peer.clusterId;
    if (!this.#replicator.hasRoomFor(id, this.#view.isOwn(id), of)) return false;
    if (this.#replicator.isForeign(id)) return false;
    const { clusterId = "" } = replica.origins.get(id) ?? {};
    if (this.#replicator.hearsay.isHearsay(peer, clusterId, time)) return false;
    return time.monoMs >= (this.#view.find(id)?.refusedUntilMonoMs ?? 0);
  }
}

/** Whose turn it is to be looked at: of very many some, and those that come next the next time. A peer may name what it never gives. */
function turn(ids: Map<string, number>): readonly (readonly [string, number])[] {
  if (ids.size <= MAX_LOOKED) return [...ids];
  const first = ids.entries().take(MAX_LOOKED).toArray();
  for (const [id, sinceMonoMs] of first) {
    ids.delete(id);
    ids.set(id, sinceMonoMs);
  }
  return first;
}
