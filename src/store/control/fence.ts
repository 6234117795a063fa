/** A fence: identifies one holder of a right, for example one leader. A write under a smaller fence than the greatest one seen must be refused. */
export interface FenceToken {
  /** The version of the failover that moved the right to another cluster. 0 for now. */
  readonly failoverVersion: number;
  /** The epoch of the control store, which an operator raises when the store was replaced or put back from a backup. */
  readonly storeEpoch: number;
  /** The number of the holder within that epoch of the store: 1, 2, 3, … */
  readonly number: number;
}

/** Below 0 when `a` is the earlier fence, 0 when they are equal. Compared by failover version, then by store epoch, then by number. */
export function compareFences(a: FenceToken, b: FenceToken): number {
  return a.failoverVersion - b.failoverVersion || a.storeEpoch - b.storeEpoch || a.number - b.number;
}
