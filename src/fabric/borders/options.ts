/** Bounds and times of what is said on border links, and what it is counted as. */
import type { OptionsOf } from "../../lib/machine.ts";
import type { HeldSummaries } from "../../summary/held/summaries.ts";
import { SUMMARY_REFUSALS, type SummaryRefusal } from "../../summary/summary.ts";

/** What is not a setting. */
export const BORDER_FIXED = {
  /** Bytes of seals in a batch, unless one is larger; with their envelopes below 64 KiB. */
  maxBatchBytes: 56 * 1024,
  maxBatchSeals: 1000,
  /** Changed keys that wait on one link. What changed after them waits in the replica. */
  maxGathered: 1000,
  /** Keys that the other side was found to lack and that wait. No node holds more. */
  maxOwed: 200_000,
  /** A link that takes nothing for so long is stalled. */
  stalledMs: 5000,
  /** The time between two digests of a direction. */
  digestIntervalMs: 20_000,
  /** One that is due waits so long until nothing is to be sent. A link on which something always is compares each `comparisonEveryMs`. */
  busyMs: 5000,
  /** The first digest of a link comes after up to so long, so that the links of a pair of regions compare one after another. */
  maxStaggerMs: 1200,
  /** What a region may hear directly is given by others only so long after their link came up, */
  othersAfterMs: 2500,
  /** and not while it is younger than this. */
  youngMs: 3000,
  /** Comparisons that the other side may cause at once, and the time in which one more is allowed. */
  comparisonBurst: 6,
  comparisonEveryMs: 60_000,
  /** What the other side lacks of a source though it was given is given again so often, and once more in this time. A giving of fewer than `leastGiving` costs as much as one of so many. */
  fullGivings: 2,
  fullGivingEveryMs: 3_600_000,
  leastGiving: 32,
  /** Before a digest, once in the time between two, so many of it are sent all the same, of all sources so many. If one of them is taken, all are given. */
  triedOfSource: 4,
  maxTried: 64,
  /** Summaries of one answer, so that its frame stays below 64 KiB. */
  maxListed: 3500,
  /** An older word of the other side's own cluster is answered with what is held of its key at most this often, */
  echoEveryMs: 60_000,
  /** for so many keys in that time. */
  maxEchoed: 4096,
  /** Keys that are asked for in one comparison, because the other side knows more of them. */
  maxWanted: 20_000,
  /** After a standstill of this node what it reads for so long may have waited for it. */
  heldUpMs: 2000,
  /** Summaries, beacons and announcements that are read a second. */
  readPerSecond: 1000,
  /** Of all links together: seals that are judged in one step, some 3 ms, and the time in which one more may be. */
  judgedAtOnce: 32,
  judgeEveryMs: 0.25,
  /** Seals that came over the link and are not sent back. */
  maxEchoes: 4096,
  /** A source counts as heard directly while its beacon is younger. This is half of the default ttl; a node sets half of its own (`Summaries.atBorders`). */
  heardMs: 60_000,
  /** The time between two looks at what is heard directly. */
  rulesIntervalMs: 1000,
  /** Rules that the other side may tell at once, and the time in which one more is allowed. */
  rulesBurst: 20,
  rulesEveryMs: 500,
  /** Export rules that no link has yet and that a region may tell at once, and the time in which one more is allowed: each costs a sum over all that is held. */
  newRulesBurst: 8,
  newRulesEveryMs: 10_000,
  /** Times that a link tells at once, before its time, that its region holds of more regions or namespaces, and the time in which one more is allowed: what neighbours tell of others may change as they like. */
  moreReachBurst: 3,
  moreReachEveryMs: 10_000,
  /** Looks at whether it is more, at once, and the time in which one more is allowed: each may sum up all that is held, and any neighbour causes one. */
  reachLooksBurst: 16,
  reachLooksEveryMs: 1000,
  /** Times that a side may tell the same rules once more, which asks for all beacons, and the time in which one more is allowed. */
  askedBurst: 3,
  askedEveryMs: 10_000,
  /** New links with one neighbour that may compare at once, and the time in which one more may. */
  anewBurst: 3,
  anewEveryMs: 10_000,
  /** Times that there is room at once for another full giving because something was taken, and the time in which there is once more. */
  roomBurst: 3,
  roomEveryMs: 600_000,
  /** Changes of what neighbours tell that the other nodes of a cluster are told, or that are used, at once, and the time in which one more is. All that is held is looked at for them, so a rule that flaps must cost little. */
  heardBurst: 3,
  heardEveryMs: 20_000,
  /** Of what neighbours hold of others more are told at once: where words go in a circle, each is told a few times with another distance before it ends. */
  heardReachBurst: 16,
} as const;

/** So many summaries are looked at in one step: some 3 ms. */
export const LOOKED_A_SLICE = 2000;

export interface BorderOptions extends OptionsOf<typeof BORDER_FIXED> {
  /** A link that cannot send for so long, or is stalled with so much to send, drops its list, and digests decide. */
  readonly storeForwardMs: number;
  readonly storeForwardCount: number;
}

/** What was done on all border links of a node since its start. */
export interface BorderCounts {
  sentSummaries: number;
  sentBeacons: number;
  sentKeys: number;
  sentBytes: number;
  taken: number;
  /** What came and was held already. */
  known: number;
  readonly refused: Map<SummaryRefusal, number>;
  /** Seals that were dropped unread, because the link sent on though it was not to be read. */
  flooded: number;
  /** Lists of unsent summaries that were dropped. */
  dropped: number;
  /** Comparisons: answers and lists for the other side, and summaries that it was found to lack. */
  answers: number;
  lists: number;
  given: number;
  /** What the other side asked or answered more often than it may, or unasked. */
  ignored: number;
}

export function newCounts(): BorderCounts {
  const refused = new Map(SUMMARY_REFUSALS.map((why) => [why, 0]));
  const none = { sentSummaries: 0, sentBeacons: 0, sentKeys: 0, sentBytes: 0, taken: 0, known: 0 };
  return { ...none, refused, flooded: 0, dropped: 0, answers: 0, lists: 0, given: 0, ignored: 0 };
}

// What border links need of the summaries that their node holds.

export type BorderSummaries = Pick<
  HeldSummaries,
  | "announce"
  | "announcements"
  | "beacons"
  | "changesSince"
  | "digest"
  | "find"
  | "letGo"
  | "list"
  | "regionOf"
  | "resumedCount"
  | "revision"
  | "take"
  | "takeBeacon"
>;
