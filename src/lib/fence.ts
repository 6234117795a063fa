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

/** Name of the metadata in which a leader sends its fence. */
export const FENCE_METADATA = "waymark-fence";

const TEXT = /^(?<scope>[^;]+);(?<failoverVersion>\d{1,16})\.(?<storeEpoch>\d{1,16})\.(?<number>\d{1,16})$/;

/** The value of the metadata `waymark-fence`: `<scope>;<failover version>.<store epoch>.<number>`. */
export function fenceText(scope: string, { failoverVersion, storeEpoch, number }: FenceToken): string {
  return `${scope};${failoverVersion}.${storeEpoch}.${number}`;
}

/**
 * Parses the value of the metadata `waymark-fence`. Returns undefined for any other text. A resource compares the fence with the highest fence of the
 * same scope with `compareFences`, and rejects a lower fence.
 */
export function parseFence(text: string): { readonly scope: string; readonly fence: FenceToken } | undefined {
  const { scope, ...parts } = TEXT.exec(text)?.groups ?? {};
  const [failoverVersion, storeEpoch, number] = [parts["failoverVersion"], parts["storeEpoch"], parts["number"]].map(Number);
  if (scope === undefined || failoverVersion === undefined || storeEpoch === undefined || number === undefined) return undefined;
  return [failoverVersion, storeEpoch, number].every(Number.isSafeInteger)
    ? { scope, fence: { failoverVersion, storeEpoch, number } }
    : undefined;
}
