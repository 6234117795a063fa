/** Times and bounds of origins' lives. */

export interface LivesOptions {
  /** Orphans are served, ranked last, for so long. */
  readonly orphanGraceMs: number;
  /** An origin gone for so long is forgotten with its records. */
  readonly originForgetMs: number;
  /** When more than this part of a cluster's origins vanishes at once, nothing of it is hidden. */
  readonly orphanProtectRatio: number;
  /** … and at least so many: a cluster's only node is believed to be dead. */
  readonly orphanProtectMinCount: number;
  /** What "at once" is: the longest suspicion. */
  readonly suspicionWindowMs: number;
  /** A node that said it restarts is taken for away so long, unless it greets before. */
  readonly restartMs: number;
  /** Records visited a tick, so that a large origin does not hold up the loop. */
  readonly maxTouches: number;
}

export const LIVES_DEFAULTS: LivesOptions = {
  orphanGraceMs: 300_000,
  originForgetMs: 86_400_000,
  orphanProtectRatio: 0.5,
  orphanProtectMinCount: 2,
  suspicionWindowMs: 30_000,
  restartMs: 30_000,
  maxTouches: 250,
};
