/** Bounds and times of replication. */
import { MAX_VECTOR_FRAME_ENTRIES } from "../../../gen/waymark/fabric/v1/fabric_codec.ts";

export interface ReplicationOptions {
  /** Bytes of records in a frame, unless one record is larger; at most 256 KiB. Taking in 32 KiB is some 4 ms of work where a million entries are held. */
  readonly maxFrameBytes: number;
  /** Own news after other news is gathered for so long. */
  readonly gatherMs: number;
  /** Time between two vectors on a link, give or take a quarter. */
  readonly vectorIntervalMs: number;
  /** A peer is told again of an origin's heartbeat that is fresher by so much. */
  readonly heartbeatIntervalMs: number;
  /** Time between two digests of origins on a link, give or take a quarter. */
  readonly digestIntervalMs: number;
  /** Origins compared in one exchange. */
  readonly digestOrigins: number;
  /** Records hashed in one go. */
  readonly digestSliceRecords: number;
  /** An origin that was repaired over a link is not repaired again over it for so long. */
  readonly repairIntervalMs: number;
  /** News of others is offered or passed on after up to so long, at random. */
  readonly passDelayMs: number;
  /** Time between two offers on a link, at least. */
  readonly offerIntervalMs: number;
  /** News that was asked for and does not come is asked for again, of another peer if there is one, after so long. */
  readonly newsTimeoutMs: number;
  /** … but not while that peer goes on sending other records, up to so long. */
  readonly newsPatienceMs: number;
  /** An origin of which records were refused is fetched whole again after so long. */
  readonly partialRetryMs: number;
  /**
   * A newcomer waits so long for somebody who has an origin whole, where its peer refused records of it. Longer than the 30 s after which
   * a member is tried again that no link could be opened to (`fabric/links/unreachable.ts`).
   */
  readonly lackingWaitMs: number;
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
  readonly maxCachedFrames: number;
  readonly maxCachedBytes: number;
  /** Same event of one link at most so often. */
  readonly eventIntervalMs: number;
}

/** What is not a setting. */
export const REPLICATION_FIXED = {
  maxFrameBytes: 32 * 1024,
  gatherMs: 50,
  vectorIntervalMs: 1000,
  heartbeatIntervalMs: 5000,
  digestIntervalMs: 60_000,
  digestOrigins: 4,
  digestSliceRecords: 4000,
  repairIntervalMs: 600_000,
  passDelayMs: 20,
  offerIntervalMs: 200,
  newsTimeoutMs: 400,
  newsPatienceMs: 1000,
  partialRetryMs: 600_000,
  lackingWaitMs: 40_000,
  refusedMs: 60_000,
  lostIntervalMs: 60_000,
  fetchGraceMs: 500,
  fetchTimeoutMs: 1000,
  fetchMaxWaitMs: 30_000,
  maxOrigins: MAX_VECTOR_FRAME_ENTRIES,
  maxVectorEntries: 2000,
  maxCachedFrames: 64,
  maxCachedBytes: 4 * 1024 * 1024,
  eventIntervalMs: 10_000,
} as const satisfies Partial<ReplicationOptions>;
