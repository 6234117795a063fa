/** Which targets of a name an answer shows, by the health of their entries (semantics.md, DNS). */
import { HEALTH } from "../../catalog/record/record.ts";
import { healthOrder } from "../../reading/levels.ts";
import type { SubjectTarget } from "../plan/subject.ts";

/** The targets of healthy entries; those that may be chosen when no entry is healthy (semantics.md, DNS). */
export function bestTargets(targets: readonly SubjectTarget[]): readonly SubjectTarget[] {
  const healthy = targets.filter(({ entry }) => healthOrder(entry.health) === 0);
  return healthy.length > 0 ? healthy : withoutMaintenance(targets);
}

/** The targets of entries that are not in maintenance; all targets when there are no others. */
export function withoutMaintenance(targets: readonly SubjectTarget[]): readonly SubjectTarget[] {
  const others = targets.filter(({ entry }) => entry.health !== HEALTH.MAINTENANCE);
  return others.length > 0 ? others : targets;
}
