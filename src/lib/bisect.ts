/** Binary search. */

/**
 * Index of the first of `length` items that `isReached` accepts, or `length` if there is none. `isReached` must also accept all items after that one.
 */
export function firstIndex(length: number, isReached: (index: number) => boolean): number {
  let [low, high] = [0, length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (isReached(middle)) high = middle;
    else low = middle + 1;
  }
  return low;
}
