/** Cutover windows: which is active at an instant, and when time alone changes that (semantics.md, Policy). */
import type { CutoverWindow } from "./rules.ts";

/** The active window with the latest start; the later in the list of equals. Undefined when none is active. */
export function activeWindow(windows: readonly CutoverWindow[], wallMs: number): CutoverWindow | undefined {
  let active: CutoverWindow | undefined;
  for (const window of windows) {
    const isActive = window.startsWallMs <= wallMs && (window.endsWallMs === undefined || wallMs < window.endsWallMs);
    if (isActive && (active === undefined || window.startsWallMs >= active.startsWallMs)) active = window;
  }
  return active;
}

/** The next edge of any window after `wallMs`; undefined when there is none. */
export function nextEdge(windows: readonly CutoverWindow[], wallMs: number): number | undefined {
  let next: number | undefined;
  for (const { startsWallMs, endsWallMs } of windows) {
    for (const edge of [startsWallMs, endsWallMs]) {
      if (edge !== undefined && edge > wallMs && (next === undefined || edge < next)) next = edge;
    }
  }
  return next;
}
