/** One link's comparing of origins: digests now and then, and what to do when they differ (semantics.md, Tombstones). */

import type { Origin } from "../../catalog/record/stored-record.ts";
import { BoundedMap } from "../../lib/bounded-map.ts";
import type { Time } from "../../lib/machine.ts";
import type { Rng } from "../../lib/rng.ts";
import type { OriginDigest } from "../wire/messages.ts";
import type { PeerProgress } from "./peer-progress.ts";
import type { Replicator } from "./replicator.ts";
import { MAX_DIGESTS } from "./sender.ts";

/** Between two slices of summing, in ms. */
const SLICE_MS = 10;

interface Strikes {
  readonly through: number;
  readonly count: number;
}

export class AntiEntropy {
  readonly #replicator: Replicator;
  readonly #view: PeerProgress;
  readonly #rng: Rng;
  readonly #tell: (digest: OriginDigest) => void;
  /** Digests to be told, or to be compared with the peer's, as soon as our own is summed. */
  readonly #waiting = new Map<string, OriginDigest | undefined>();
  readonly #strikes = new BoundedMap<string, Strikes>(MAX_DIGESTS);
  readonly #repairedMonoMs = new BoundedMap<string, number>(MAX_DIGESTS);
  /** Last origin told of: the round goes on after it. */
  #lastId = "";
  #dueMonoMs: number;
  #workMonoMs = Number.NEGATIVE_INFINITY;

  constructor(replicator: Replicator, view: PeerProgress, rng: Rng, tell: (digest: OriginDigest) => void, time: Time) {
    this.#replicator = replicator;
    this.#view = view;
    this.#rng = rng;
    this.#tell = tell;
    this.#dueMonoMs = this.#nextMonoMs(time);
  }

  nextDeadlineMs(): number {
    return this.#waiting.size > 0 ? this.#workMonoMs + SLICE_MS : this.#dueMonoMs;
  }

  /** The peer told of origins. */
  onDigests(digests: readonly OriginDigest[]): void {
    for (const digest of digests.slice(0, MAX_DIGESTS)) {
      const id = `${digest.nodeId}/${digest.generation}`;
      const origin = this.#replicator.replica.origins.get(id);
      if (origin !== undefined && origin.through === digest.through) this.#waiting.set(id, digest);
    }
  }

  /** Bounded work; returns the origins to be repaired by a whole transfer from this peer. */
  tick(time: Time): readonly Origin[] {
    if (time.monoMs >= this.#dueMonoMs) this.#choose(time);
    if (this.#waiting.size === 0 || time.monoMs < this.#workMonoMs + SLICE_MS) return [];
    this.#workMonoMs = time.monoMs;
    this.#replicator.workDigests(time);
    const repairs: Origin[] = [];
    for (const [id, theirs] of this.#waiting) {
      const origin = this.#replicator.replica.origins.get(id);
      if (origin === undefined || (theirs !== undefined && theirs.through !== origin.through)) {
        this.#waiting.delete(id);
        continue;
      }
      const ours = this.#replicator.digests.find(origin, this.#view.peer.relation, time);
      if (ours === undefined) {
        // Cannot be summed now; another time.
        if (!this.#replicator.digests.isBusy) this.#waiting.delete(id);
        continue;
      }
      this.#waiting.delete(id);
      const told: OriginDigest = { nodeId: origin.nodeId, generation: origin.generation, ...ours };
      if (theirs === undefined) this.#tell(told);
      else if (this.#isDivergent(origin, theirs, told) && this.#mayRepair(origin, time)) repairs.push(origin);
    }
    return repairs;
  }

  /** Twice in a row at the same number; the answer lets the other side see it too. */
  #isDivergent(origin: Origin, theirs: OriginDigest, ours: OriginDigest): boolean {
    const { stats } = this.#replicator;
    const { id } = origin;
    if (theirs.digest === ours.digest && theirs.liveCount === ours.liveCount) {
      stats.digestsEqual += 1;
      this.#strikes.delete(id);
      return false;
    }
    stats.digestsDifferent += 1;
    const before = this.#strikes.get(id);
    const count = before?.through === ours.through ? before.count + 1 : 1;
    this.#strikes.set(id, { through: ours.through, count });
    // Not into the origin's own cluster, which hears of it from its own.
    if (count <= 2 && this.#view.mayCarry(origin)) this.#tell(ours);
    return count >= 2;
  }

  /** Whether the peer is more to be believed than this node: it is the origin, or nearer to it. Of two equally far the lower id is. */
  #mayRepair(origin: Origin, time: Time): boolean {
    const { replica, linked, options, stats } = this.#replicator;
    if (origin === replica.self) return false;
    const isNearer = this.#view.isLinkedTo(origin.nodeId) || this.#view.peer.nodeId < replica.self.nodeId;
    if (!this.#view.isOfPeer(origin) && (linked.includes(origin.nodeId) || !isNearer)) return false;
    const lastMonoMs = this.#repairedMonoMs.get(origin.id) ?? Number.NEGATIVE_INFINITY;
    // A record that is refused here for good would otherwise be repaired for ever.
    if (time.monoMs < lastMonoMs + options.repairIntervalMs) return false;
    this.#repairedMonoMs.set(origin.id, time.monoMs);
    this.#strikes.delete(origin.id);
    stats.repairs += 1;
    return true;
  }

  /** The next few origins of the round of which both sides know the same number. */
  #choose(time: Time): void {
    this.#dueMonoMs = this.#nextMonoMs(time);
    const ids = [...this.#replicator.replica.origins.keys()];
    const from = ids.indexOf(this.#lastId) + 1;
    let left = this.#replicator.options.digestOrigins;
    for (let i = 0; i < ids.length && left > 0; i++) {
      const id = ids[(from + i) % ids.length] ?? "";
      const origin = this.#replicator.replica.origins.get(id);
      if (origin === undefined || origin.through === 0 || this.#view.find(id)?.at !== origin.through || !this.#view.mayCarry(origin))
        continue;
      this.#waiting.set(id, undefined);
      this.#lastId = id;
      left -= 1;
    }
  }

  #nextMonoMs(time: Time): number {
    return time.monoMs + this.#replicator.options.digestIntervalMs * (0.75 + 0.5 * this.#rng.next());
  }
}
