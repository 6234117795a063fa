/** The outcome of an alias check: the health of another entry, as this node knows it. */
import { type Checked, FAILURE, worstOf } from "../../catalog/entry/checks.ts";
import { type CatalogRecord, HEALTH, viewHealth } from "../../catalog/record/record.ts";
import { DEGRADED, failed, type Outcome, PASSED } from "./outcome.ts";

/** The other entry: its record, if readers see one and the registrant may, and what it says of its checks. */
export interface AliasOf {
  readonly record: CatalogRecord;
  readonly checked: Checked;
}

/** Undefined where the other entry says nothing: its node cannot be reached, and its program may be well. */
export function aliasOutcome(other: AliasOf | undefined): Outcome | undefined {
  if (other === undefined) return failed(FAILURE.ALIAS);
  if (viewHealth(other.record) === HEALTH.ORPHANED) return undefined;
  const health = ownHealth(other);
  if (health === HEALTH.DEGRADED) return DEGRADED;
  return health === HEALTH.HEALTHY || health === HEALTH.UNSET ? PASSED : failed(FAILURE.ALIAS);
}

/**
 * The health of an entry without its alias checks. Two nodes may accept entries that are aliases of each other at the same time. If these counted,
 * neither could become healthy again once one of them was not.
 */
function ownHealth({ record, checked: { checks, reportedHealth, checkStates, maintenance } }: AliasOf): number {
  if (maintenance !== undefined || !checks.some(({ probe }) => probe.case === "alias")) return record.health;
  return worstOf(
    reportedHealth,
    checkStates.filter((_, i) => checks[i]?.probe.case !== "alias"),
  );
}
