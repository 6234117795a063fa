/** Limits and intervals of replication. */
import { MAX_VECTOR_FRAME_ENTRIES } from "../../../gen/waymark/fabric/v1/fabric_codec.ts";
import type { OptionsOf } from "../../lib/machine.ts";

/** Values that are not settings. */
export const REPLICATION_FIXED = {
  /** Bytes of records in a frame, unless one record is larger; at most 256 KiB. A node with a million entries needs about 4 ms to apply 32 KiB. */
  maxFrameBytes: 32 * 1024,
  /**
   * After an announcement, own changes are batched for this long per link, and for at most `maxGatherMs`. With these values, a node with up to 25
   * links sends at most 500 frames of own changes per second over all links, and with three nodes in a region a change is delayed by at most 4 ms.
   */
  gatherMsALink: 2,
  maxGatherMs: 50,
  /** Time between two vectors on a link, ±25 %. */
  vectorIntervalMs: 1000,
  /** Time between two vectors on a link while there is nothing new to report, ±25 %. */
  idleVectorIntervalMs: 1000,
  /** A peer receives an origin's next heartbeat only if it is newer than the last one by at least this much. */
  heartbeatIntervalMs: 5000,
  /** Time between two origin digests on a link, ±25 %. */
  digestIntervalMs: 60_000,
  /** Number of origins that are compared in one exchange. */
  digestOrigins: 4,
  /** Number of records that are hashed in one slice. */
  digestSliceRecords: 4000,
  /** Minimum time between two repairs of the same origin over one link. */
  repairIntervalMs: 600_000,
  /** Changes from other nodes are offered after a random delay of up to this long. */
  passDelayMs: 20,
  /** Minimum time between two offers on a link. */
  offerIntervalMs: 200,
  /** Requested changes that have not arrived after this time are requested again, from another peer if there is one. */
  newsTimeoutMs: 400,
  /** While the peer is still sending other records, the repeated request is delayed by at most this much. */
  newsMaxWaitMs: 1000,
  /** After this time, an origin with refused records is fetched again as a whole transfer. */
  partialRetryMs: 600_000,
  /**
   * If the linked peer refused some of an origin's records, a new node waits this long for another peer that has the complete origin. This is longer
   * than the 30 s for which an unreachable member is skipped at first (`fabric/links/unreachable.ts`).
   */
  lackingWaitMs: 40_000,
  /** An origin that was refused is not requested over the same link again for this long. */
  refusedMs: 60_000,
  /**
   * Minimum time between two accepted reports that a peer has a higher seq of this node's own origin than this node has. Each accepted report starts
   * a new generation.
   */
  lostIntervalMs: 60_000,
  /** Records that a peer has and this node lacks are requested only after this time, because most of them are in transit. */
  fetchGraceMs: 500,
  /** A requested origin that has not arrived after this time is requested again, from another peer if there is one. */
  fetchTimeoutMs: 1000,
  /** Maximum backoff before an unanswered request is repeated, and before a repeated request from a peer is answered again. */
  fetchMaxWaitMs: 30_000,
  /** Maximum number of known origins. Additional origins are refused. */
  maxOrigins: MAX_VECTOR_FRAME_ENTRIES,
  /** Maximum number of entries in one vector frame. */
  maxVectorEntries: 2000,
  /** Maximum number of frames that are cached for other links. */
  maxCachedFrames: 64,
  maxCachedBytes: 4 * 1024 * 1024,
  /** Minimum time between two log entries with the same event name from one link. */
  eventIntervalMs: 10_000,
} as const;

export interface ReplicationOptions extends OptionsOf<typeof REPLICATION_FIXED> {
  /** Maximum number of records that are kept per origin, including tombstones. Beyond this number, each record with a new key is refused. */
  readonly maxOriginRecords: number;
  readonly maxClockSkewMs: number;
}
