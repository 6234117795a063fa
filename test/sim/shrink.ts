/** Cuts a failing schedule down to a short one that fails in the same way: delta debugging (Zeller and Hildebrandt, 2002: ddmin). */

export interface Shrunk<T> {
  readonly items: readonly T[];
  readonly runs: number;
}

/**
 * A short sublist for which `fails` still holds, as it does for the whole list; 1-minimal unless the runs or the time ran out.
 * `mayGoOn` is asked before every run.
 */
export function shrink<T>(items: readonly T[], fails: (items: readonly T[]) => boolean, mayGoOn: (runs: number) => boolean): Shrunk<T> {
  let kept = items;
  let runs = 0;
  const test = (candidate: readonly T[]) => {
    runs += 1;
    return fails(candidate);
  };
  // What comes late matters least: cut the end off first.
  for (let cut = Math.floor(kept.length / 2); cut >= 1 && mayGoOn(runs); cut = Math.floor(cut / 2)) {
    while (kept.length > cut && mayGoOn(runs) && test(kept.slice(0, -cut))) kept = kept.slice(0, -cut);
  }
  for (let parts = 2; kept.length >= 2 && mayGoOn(runs); ) {
    const size = Math.ceil(kept.length / parts);
    let isSmaller = false;
    for (let start = 0; start < kept.length && mayGoOn(runs); ) {
      const candidate = [...kept.slice(0, start), ...kept.slice(start + size)];
      if (candidate.length < kept.length && test(candidate)) {
        kept = candidate;
        isSmaller = true;
      } else start += size;
    }
    if (size === 1 && !isSmaller) break;
    parts = isSmaller ? Math.max(2, parts - 1) : Math.min(kept.length, parts * 2);
  }
  return { items: kept, runs };
}
