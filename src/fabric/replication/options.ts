/** Bounds and times of replication. */
import { MAX_VECTOR_FRAME_ENTRIES } from "../../../gen/waymark/fabric/v1/fabric_codec.ts";
import type { OptionsOf } from "../../lib/machine.ts";

/** What is not a setting. */
export const REPLICATION_FIXED = {
  /** Bytes of records in a frame, unless one record is larger; at most 256 KiB. Taking in 32 KiB is some 4 ms of work where a million entries are held. */
  maxFrameBytes: 32 * 1024,
  /**
   * Own news after other news is gathered for so long for each link, and at most for `maxGatherMs`. A node with up to 25 links then sends at most
   * 500 frames of it a second over all of them, and in a region of three nodes news waits for 4 ms at most.
   */
  gatherMsALink: 2,
  maxGatherMs: 50,
  /** Time between two vectors on a link, give or take a quarter. */
  vectorIntervalMs: 1000,
  /** … after one that told everything, until there is more to tell. */
  idleVectorIntervalMs: 1000,
  /** A peer is told again of an origin's heartbeat that is fresher by so much. */
  heartbeatIntervalMs: 5000,
  /** Time between two digests of origins on a link, give or take a quarter. */
  digestIntervalMs: 60_000,
  /** Origins compared in one exchange. */
  digestOrigins: 4,
  /** Records hashed in one go. */
  digestSliceRecords: 4000,
  /** An origin that was repaired over a link is not repaired again over it for so long. */
  repairIntervalMs: 600_000,
  /** News of others is offered or passed on after up to so long, at random. */
  passDelayMs: 20,
  /** Time between two offers on a link, at least. */
  offerIntervalMs: 200,
  /** News that was asked for and does not come is asked for again, of another peer if there is one, after so long. */
  newsTimeoutMs: 400,
  /** … but not while that peer goes on sending other records, up to so long. */
  newsPatienceMs: 1000,
  /** An origin of which records were refused is fetched whole again after so long. */
  partialRetryMs: 600_000,
  /**
   * A newcomer waits so long for somebody who has an origin whole, where its peer refused records of it. Longer than the 30 s after which
   * a member is tried again that no link could be opened to (`fabric/links/unreachable.ts`).
   */
  lackingWaitMs: 40_000,
  /** An origin that is not taken here is not asked for again over the same link for so long. */
  refusedMs: 60_000,
  /** A peer may say only so often that it knows more of our own origin than we do: each time costs a new generation. */
  lostIntervalMs: 60_000,
  /** A peer that knows more than this node is asked only when that has been so for this long: most is on its way already. */
  fetchGraceMs: 500,
  /** An origin that does not come is asked for again, of another peer if there is one, after so long. */
  fetchTimeoutMs: 1000,
  /** Longest wait before a peer that does not give is asked again, or one that asks for the same again is given it. */
  fetchMaxWaitMs: 30_000,
  /** Origins known at most; others are refused. */
  maxOrigins: MAX_VECTOR_FRAME_ENTRIES,
  /** Entries in one vector frame. */
  maxVectorEntries: 2000,
  /** Frames kept for other links. */
  maxCachedFrames: 64,
  maxCachedBytes: 4 * 1024 * 1024,
  /** Same event of one link at most so often. */
  eventIntervalMs: 10_000,
} as const;

export interface ReplicationOptions extends OptionsOf<typeof REPLICATION_FIXED> {
  /** Records kept of one origin, tombstones too; entries of other keys are refused one by one. */
  readonly maxOriginRecords: number;
  readonly maxClockSkewMs: number;
}
