/** Cutover windows: which is active at an instant, and when time alone changes that (semantics.md, Policy). */
import type { Scope } from "../../catalog/entry/scope.ts";
import type { CutoverWindow, PolicySet, Rule } from "./rules.ts";

/** The active window with the latest start; the later in the list of equals. Undefined when none is active. */
export function activeWindow(windows: readonly CutoverWindow[], wallMs: number): CutoverWindow | undefined {
  let active: CutoverWindow | undefined;
  for (const window of windows) {
    const isActive = window.startsWallMs <= wallMs && (window.endsWallMs === undefined || wallMs < window.endsWallMs);
    if (isActive && (active === undefined || window.startsWallMs >= active.startsWallMs)) active = window;
  }
  return active;
}

/** Scopes a rule lets out at an instant: those of its active window when that names some, else its own. Empty: any. */
export function exportScopesAt(rule: Pick<Rule, "cutoverWindows" | "exportScopes">, wallMs: number): readonly Scope[] {
  const window = activeWindow(rule.cutoverWindows, wallMs);
  return window !== undefined && window.exportScopes.length > 0 ? window.exportScopes : rule.exportScopes;
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

/** Every instant at which a window of any rule opens or closes, ascending. */
export function edgesOf({ rules }: PolicySet): readonly number[] {
  const edges = new Set<number>();
  for (const { cutoverWindows } of rules) {
    for (const { startsWallMs, endsWallMs } of cutoverWindows) {
      edges.add(startsWallMs);
      if (endsWallMs !== undefined) edges.add(endsWallMs);
    }
  }
  return [...edges].toSorted((a, b) => a - b);
}
