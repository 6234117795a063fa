/**
 * How good an answer is that is kept for those who ask next. Resolvers and clients follow the same rule (semantics.md, Resolver 12): it is told as it is for its ttl,
 * and for some ttls more while somebody asks for it again; then whoever asks has to wait.
 */

/** `fresh`: good as it is. `stale`: to be told, and asked for again. `miss`: to be asked for first. */
export type AnswerState = "fresh" | "stale" | "miss";

/** After its ttl an answer is told for so many ttls more. */
const STALE_TTLS = 2;

export function answerState(keptMs: number, ttlMs: number): AnswerState {
  if (keptMs < ttlMs) return "fresh";
  return keptMs < ttlMs * (1 + STALE_TTLS) ? "stale" : "miss";
}
