/**
 * Caches frames that were just built, so that one change sent to twenty peers is read and encoded only once (semantics.md, Replication: bytes
 * are kept once and shared by all links).
 */
import type { Origin } from "../../catalog/record/stored-record.ts";
import { buildFrame, type FrameReceiverSide, type OriginFrame } from "../../catalog/replica/frames.ts";
import type { Replica } from "../../catalog/replica/replica.ts";
import type { ReplicationOptions } from "./options.ts";

type FrameCacheOptions = Pick<ReplicationOptions, "maxCachedFrames" | "maxCachedBytes">;

interface CachedFrame {
  readonly frame: OriginFrame;
  readonly floor: number;
  readonly sizeBytes: number;
}

export class FrameCache {
  readonly #options: FrameCacheOptions;
  /** Oldest first. */
  readonly #frames = new Map<string, CachedFrame>();
  #bytes = 0;
  /**
   * Number of frames that were built, and number of frames that were served from the cache. They are only for tests, which cannot observe the sharing
   * in any other way.
   */
  builtCount = 0;
  sharedCount = 0;

  constructor(options: FrameCacheOptions) {
    this.#options = options;
  }

  /** Total size of the cached records, which is at most `maxCachedBytes` plus one frame. */
  get bytes(): number {
    return this.#bytes;
  }

  /**
   * Returns a frame of the origin's records after `after` and up to `upTo` that the link may carry. While the floor is unchanged, the same arguments
   * return the same object, because later changes have a seq above `upTo` and are therefore sent in another frame.
   */
  frame(
    replica: Replica,
    origin: Origin,
    from: { readonly after: number; readonly isComplete: boolean; readonly upTo: number },
    link: FrameReceiverSide,
    budgetBytes: number,
  ): OriginFrame {
    // Each frame of a whole transfer is specific to one link, so it is not cached.
    if (from.isComplete || from.after < origin.floor) {
      this.builtCount += 1;
      return buildFrame(replica, origin, from, link, budgetBytes);
    }
    const reader = link.relation === "cluster" ? "" : link.clusterId;
    const key = `${origin.id} ${from.after} ${from.upTo} ${budgetBytes} ${link.relation} ${reader}`;
    const cached = this.#frames.get(key);
    if (cached !== undefined && cached.floor === origin.floor) {
      this.sharedCount += 1;
      return cached.frame;
    }
    const frame = buildFrame(replica, origin, from, link, budgetBytes);
    this.builtCount += 1;
    this.#keep(key, { frame, floor: origin.floor, sizeBytes: frame.records.reduce((sum, record) => sum + record.length, key.length) });
    return frame;
  }

  clear(): void {
    this.#frames.clear();
    this.#bytes = 0;
  }

  #keep(key: string, cached: CachedFrame): void {
    this.#drop(key);
    this.#frames.set(key, cached);
    this.#bytes += cached.sizeBytes;
    for (const oldest of this.#frames.keys()) {
      if (this.#frames.size <= this.#options.maxCachedFrames && this.#bytes <= this.#options.maxCachedBytes) return;
      this.#drop(oldest);
    }
  }

  #drop(key: string): void {
    const cached = this.#frames.get(key);
    if (cached === undefined) return;
    this.#frames.delete(key);
    this.#bytes -= cached.sizeBytes;
  }
}
