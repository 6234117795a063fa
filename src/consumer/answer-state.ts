/**
 * Determines the freshness of a cached answer. Resolvers and clients follow the same rule (semantics.md, Resolver 12): within its TTL, an answer is
 * used without a refresh. For some more TTLs, it is used while it is being refreshed. After that, callers wait for a new answer.
 */

/** `fresh`: use the answer. `stale`: use the answer, and refresh it. `miss`: fetch an answer first. */
export type AnswerState = "fresh" | "stale" | "miss";

/** Number of additional TTLs during which a stale answer is used. */
const STALE_TTLS = 2;

export function answerState(keptMs: number, ttlMs: number): AnswerState {
  if (keptMs < ttlMs) return "fresh";
  return keptMs < ttlMs * (1 + STALE_TTLS) ? "stale" : "miss";
}
