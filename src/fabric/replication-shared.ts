/** What all links of a node share in replication: the vector, the shelf of frames, and who fetches which origin from whom. */
import type { Origin } from "../catalog/cell.ts";
import type { Drafter } from "../catalog/codec.ts";
import type { Bounds } from "../catalog/names.ts";
import type { OriginPlace } from "../catalog/origins.ts";
import type { Replica } from "../catalog/replica.ts";
import type { Hlc } from "../lib/hlc.ts";
import type { Time } from "../lib/machine.ts";
import type { Rng } from "../lib/rng.ts";
import { FrameShelf } from "./frame-shelf.ts";
import { OriginDigests } from "./origin-digests.ts";
import { Vector } from "./vector.ts";

export interface ReplicationOptions {
  /** Bytes of records in a frame, unless one record is larger; at most 256 KiB. Taking in 64 KiB is some 5 ms of work. */
  readonly maxFrameBytes: number;
  /** Own news after other news is gathered for so long. */
  readonly gatherMs: number;
  /** Time between two vectors on a link, give or take a quarter. */
  readonly vectorIntervalMs: number;
  /** Time between two digests of origins on a link, give or take a quarter. */
  readonly digestIntervalMs: number;
  /** Origins compared in one exchange. */
  readonly digestOrigins: number;
  /** Records hashed in one go. */
  readonly digestSliceRecords: number;
  /** An origin that was repaired over a link is not repaired again over it for so long. */
  readonly repairIntervalMs: number;
  /** News of others is passed on after up to so long, at random. */
  readonly passDelayMs: number;
  /** An origin that is not taken here is not asked for again over the same link for so long. */
  readonly refusedMs: number;
  /** A peer may say only so often that it knows more of our own origin than we do: each time costs a new generation. */
  readonly lostIntervalMs: number;
  /** A peer that knows more than this node is asked only when that has been so for this long: most is on its way already. */
  readonly fetchGraceMs: number;
  /** An origin that does not come is asked for again, of another peer if there is one, after so long. */
  readonly fetchTimeoutMs: number;
  /** Longest wait before a peer that does not give is asked again, or one that asks for the same again is given it. */
  readonly fetchMaxWaitMs: number;
  /** Origins known at most; others are refused. */
  readonly maxOrigins: number;
  /** Records kept of one origin, tombstones too; entries of other keys are refused one by one. */
  readonly maxOriginRecords: number;
  /** Entries in one vector frame. */
  readonly maxVectorEntries: number;
  readonly maxClockSkewMs: number;
  /** Frames kept for other links. */
  readonly shelfFrames: number;
  readonly shelfBytes: number;
  /** Same event of one link at most so often. */
  readonly eventIntervalMs: number;
}

export const REPLICATION_DEFAULTS: ReplicationOptions = {
  maxFrameBytes: 64 * 1024,
  gatherMs: 50,
  vectorIntervalMs: 1000,
  digestIntervalMs: 60_000,
  digestOrigins: 4,
  digestSliceRecords: 4000,
  repairIntervalMs: 600_000,
  passDelayMs: 20,
  refusedMs: 60_000,
  lostIntervalMs: 60_000,
  fetchGraceMs: 500,
  fetchTimeoutMs: 1000,
  fetchMaxWaitMs: 30_000,
  maxOrigins: 10_000,
  maxOriginRecords: 2_000_000,
  maxVectorEntries: 2000,
  maxClockSkewMs: 60_000,
  shelfFrames: 64,
  shelfBytes: 4 * 1024 * 1024,
  eventIntervalMs: 10_000,
};

/** Counted since the start; each is a metric (`node-mesh-metrics.ts`). */
export interface ReplicationStats {
  sentRecords: number;
  receivedRecords: number;
  /** Records that changed something. */
  appliedRecords: number;
  /** Records refused alone. */
  refusedRecords: number;
  /** Frames and entries of vectors, of an origin not taken here: forgotten, too many, our own, out of place. */
  refusedOrigins: number;
  /** Origins asked of peers, given to peers that asked, and held back because they asked too often. */
  originsAsked: number;
  originsGiven: number;
  originsHeldBack: number;
  /** Origins sent whole. */
  wholeTransfers: number;
  vectorsEqual: number;
  vectorsDifferent: number;
  digestsEqual: number;
  digestsDifferent: number;
  /** Origins that a peer was asked for whole because digests differed. */
  repairs: number;
  /** Stamps too far ahead of this node's wall clock. */
  beyondSkew: number;
}

const NO_STATS: ReplicationStats = {
  sentRecords: 0,
  receivedRecords: 0,
  appliedRecords: 0,
  refusedRecords: 0,
  refusedOrigins: 0,
  originsAsked: 0,
  originsGiven: 0,
  originsHeldBack: 0,
  wholeTransfers: 0,
  vectorsEqual: 0,
  vectorsDifferent: 0,
  digestsEqual: 0,
  digestsDifferent: 0,
  repairs: 0,
  beyondSkew: 0,
};

/** A link as seen by who shares the fetching out. */
export interface Fetcher {
  /** When records last came over it. */
  readonly receivedMonoMs: number;
  /** An origin is taken again that was refused before. */
  reconsider(id: string): void;
}

interface Fetch {
  fetcher: Fetcher;
  sinceMonoMs: number;
  through: number;
  /** Asked again without an answer. */
  attempts: number;
}

export interface SharedParts {
  readonly replica: Replica;
  readonly drafter: Drafter;
  readonly bounds: Bounds;
  readonly hlc: Hlc;
  readonly rng: Rng;
  /** Where this node is at home. */
  readonly place: OriginPlace;
  readonly options?: Partial<ReplicationOptions>;
}

/**
 * One a node. Whoever composes the room tells it: `changed` when own records were committed, `setLinked` when links come and go,
 * `forgetOrigin` and `readmit` instead of the replica's methods of those names. What the replica holds already is noted at once.
 */
export class ReplicationShared {
  readonly replica: Replica;
  readonly drafter: Drafter;
  readonly bounds: Bounds;
  readonly hlc: Hlc;
  readonly rng: Rng;
  readonly place: OriginPlace;
  readonly options: ReplicationOptions;
  readonly vector: Vector;
  readonly shelf: FrameShelf;
  readonly digests: OriginDigests;
  readonly stats: ReplicationStats = { ...NO_STATS };
  /** Origins not known here when a peer said that it hides them; at most `maxOrigins`. */
  readonly hiddenElsewhere = new Set<string>();
  readonly #fetches = new Map<string, Fetch>();
  readonly #fetchers = new Set<Fetcher>();
  #selfId: string;
  #edgeMonoMs = Number.NEGATIVE_INFINITY;
  #workMonoMs = Number.NEGATIVE_INFINITY;
  #lostId = "";
  #lostMonoMs = Number.NEGATIVE_INFINITY;
  #linked: readonly string[] = [];

  constructor(parts: SharedParts) {
    this.replica = parts.replica;
    this.drafter = parts.drafter;
    this.bounds = parts.bounds;
    this.hlc = parts.hlc;
    this.rng = parts.rng;
    this.place = parts.place;
    this.options = { ...REPLICATION_DEFAULTS, ...parts.options };
    this.vector = new Vector(parts.place);
    this.shelf = new FrameShelf({ maxFrames: this.options.shelfFrames, maxBytes: this.options.shelfBytes });
    this.digests = new OriginDigests(this.replica, this.options.digestSliceRecords);
    this.#selfId = this.replica.self.id;
    const { self } = this.replica;
    self.clusterId = parts.place.clusterId;
    self.region = parts.place.region;
    for (const origin of this.replica.origins.values()) this.noteOrigin(origin);
  }

  // ---- own news ----

  /** The seq up to which own records are told of: those since are still being gathered. */
  get horizon(): number {
    return this.vector.find(this.replica.self.id)?.seq ?? 0;
  }

  /** Monotonic ms from which gathered own news may be told; undefined when there is none. */
  get edgeDueMonoMs(): number | undefined {
    const { self } = this.replica;
    if (self.id === this.#selfId && self.through === this.horizon) return undefined;
    return this.#edgeMonoMs + this.options.gatherMs;
  }

  /** When own news was last made known. */
  get edgeMonoMs(): number {
    return this.#edgeMonoMs;
  }

  /** Own records may have been committed: told at once when nothing was lately, else gathered. */
  changed(time: Time): void {
    const due = this.edgeDueMonoMs;
    if (due === undefined || time.monoMs < due) return;
    const { self } = this.replica;
    if (self.id !== this.#selfId) this.#renewed(this.#selfId);
    this.#selfId = self.id;
    this.#edgeMonoMs = time.monoMs;
    this.noteOrigin(self);
  }

  /** What peers hold of our old generation is another origin's now. */
  #renewed(oldId: string): void {
    this.vector.drop(oldId);
    for (const fetcher of this.#fetchers) fetcher.reconsider(oldId);
  }

  /** A peer's vector names our own origin above what our journal ever gave out: believed once a generation, and not often. */
  isLost(seq: number, time: Time): boolean {
    const { self, lastSeq } = this.replica;
    if (seq <= lastSeq || this.#lostId === self.id || time.monoMs < this.#lostMonoMs + this.options.lostIntervalMs) return false;
    this.#lostId = self.id;
    this.#lostMonoMs = time.monoMs;
    return true;
  }

  // ---- origins ----

  /** An origin's number may have moved; links tell of it. Returns whether it had. */
  noteOrigin(origin: Origin): boolean {
    return this.vector.note(origin, origin.through);
  }

  /** What is held of an origin may have changed without its number. */
  heldChanged(origin: Origin): void {
    this.shelf.clear();
    this.digests.drop(origin);
  }

  /** A slice of summing, for all links together. */
  workDigests(time: Time): void {
    if (time.monoMs <= this.#workMonoMs) return;
    this.#workMonoMs = time.monoMs;
    this.digests.work(time);
  }

  /** Forgets an origin, records and number together (semantics.md, Orphans). */
  forgetOrigin(origin: Origin, time: Time): void {
    this.replica.forgetOrigin(origin, time);
    this.vector.drop(origin.id);
    this.#fetches.delete(origin.id);
  }

  /** A forgotten origin is a live member again. */
  readmit(nodeId: string, generation: number): void {
    this.replica.readmit(nodeId, generation);
    for (const fetcher of this.#fetchers) fetcher.reconsider(`${nodeId}/${generation}`);
  }

  /** Where an origin is at home, as it says itself. */
  rehome(origin: Origin, { clusterId, region }: OriginPlace): void {
    if (origin.clusterId === clusterId && origin.region === region) return;
    origin.clusterId = clusterId;
    origin.region = region;
    this.noteOrigin(origin);
    this.heldChanged(origin);
  }

  /** A peer hides an origin, or does not: of one that is not known here yet that is how its life begins. */
  noteLife(id: string, isHidden: boolean): void {
    if (!isHidden) this.hiddenElsewhere.delete(id);
    else if (!this.replica.origins.has(id) && this.hiddenElsewhere.size < this.options.maxOrigins) this.hiddenElsewhere.add(id);
  }

  /**
   * Whether an origin that is not known yet may become so. Of those that peers speak of, up to the bound; a peer itself is let in
   * beyond it (`isOwn`), up to twice as many: whoever made up the others keeps no newcomer out.
   */
  hasRoomFor(id: string, isOwn: boolean): boolean {
    const { maxOrigins } = this.options;
    return this.replica.origins.has(id) || this.replica.origins.size < (isOwn ? 2 * maxOrigins : maxOrigins);
  }

  // ---- links ----

  /** Ids of the nodes this one has a link to; at most `MAX_LINKED` are told. */
  get linked(): readonly string[] {
    return this.#linked;
  }

  setLinked(nodeIds: readonly string[]): void {
    const linked = nodeIds.toSorted().slice(0, MAX_LINKED);
    if (linked.length === this.#linked.length && linked.every((id, i) => id === this.#linked[i])) return;
    this.#linked = linked;
  }

  /**
   * Whether this link is to ask its peer for an origin now. One link at a time fetches an origin, so that a newcomer with twenty
   * peers gets everything once; when nothing comes another takes over.
   */
  takeFetch(id: string, fetcher: Fetcher, time: Time): boolean {
    const through = this.replica.origins.get(id)?.through ?? 0;
    const fetch = this.#fetches.get(id);
    if (fetch === undefined) {
      this.#fetches.set(id, { fetcher, sinceMonoMs: time.monoMs, through, attempts: 0 });
      return true;
    }
    if (through > fetch.through) {
      fetch.through = through;
      fetch.sinceMonoMs = time.monoMs;
      fetch.attempts = 0;
      return false;
    }
    const isSame = fetch.fetcher === fetcher;
    const { fetchTimeoutMs, fetchMaxWaitMs } = this.options;
    // Another goes first; and who does not give after a few questions is asked ever more rarely.
    const growth = 1.5 ** Math.max(0, fetch.attempts - QUICK_ATTEMPTS);
    const waitMs = Math.min(fetchMaxWaitMs, fetchTimeoutMs * (isSame ? 1.5 : 1) * growth);
    const busyMonoMs = Math.min(fetch.fetcher.receivedMonoMs, fetch.sinceMonoMs + fetchMaxWaitMs);
    if (time.monoMs - Math.max(fetch.sinceMonoMs, busyMonoMs) < waitMs) return false;
    fetch.attempts += 1;
    fetch.fetcher = fetcher;
    fetch.sinceMonoMs = time.monoMs;
    return true;
  }

  addFetcher(fetcher: Fetcher): void {
    this.#fetchers.add(fetcher);
  }

  /** The link is gone: what it fetched is for others to ask for. */
  dropFetcher(fetcher: Fetcher): void {
    this.#fetchers.delete(fetcher);
    for (const [id, fetch] of this.#fetches) if (fetch.fetcher === fetcher) this.#fetches.delete(id);
  }

  /** What this link fetched is here, or not to be had. */
  endFetch(id: string, fetcher: Fetcher): void {
    if (this.#fetches.get(id)?.fetcher === fetcher) this.#fetches.delete(id);
  }
}

/** Questions for an origin before the waits grow: a net that loses a fifth of all frames needs some. */
const QUICK_ATTEMPTS = 5;

/** Linked nodes named in a frame. */
export const MAX_LINKED = 256;
