/**
 * A fence identifies one holder of a right, for example one leader. A write must be rejected if its fence is lower than the highest fence seen so
 * far.
 */
export interface FenceToken {
  /** The version of the failover that moved the right to another cluster. Currently 0. */
  readonly failoverVersion: number;
  /** The epoch of the control store. An operator increases the epoch after the store was replaced or restored from a backup. */
  readonly storeEpoch: number;
  /** The number of the holder within this epoch of the store: 1, 2, 3, … */
  readonly number: number;
}

/**
 * Compares two fences by failover version, then by store epoch, then by number. The result is negative if `a` is the earlier fence, and 0 if the
 * fences are equal.
 */
export function compareFences(a: FenceToken, b: FenceToken): number {
  return a.failoverVersion - b.failoverVersion || a.storeEpoch - b.storeEpoch || a.number - b.number;
}
