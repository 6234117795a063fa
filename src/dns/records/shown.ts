/** Which targets of a name an answer shows, and how it ranks them, by health and distance (semantics.md, DNS). */
import { healthOrder, levelOf } from "../../reading/levels.ts";
import type { Subject, SubjectTarget } from "../subject/subject.ts";
import type { DnsView } from "../subject/view.ts";

/** The worst tier of answers that show only the best one. CRITICAL and ORPHANED share it. */
const LAST_TIER = 2;
const PER_TIER = 10_000;
const PER_STEP = 1_000;

/** The targets of the best tier that there is: HEALTHY, then DEGRADED, then CRITICAL with ORPHANED. */
export function bestTargets(targets: readonly SubjectTarget[]): readonly SubjectTarget[] {
  return bestOf(targets, ({ entry }) => entry);
}

/** The items of the best tier that there is. */
export function bestOf<T>(items: readonly T[], entryOf: (item: T) => SubjectTarget["entry"]): readonly T[] {
  const tiers = items.map((item) => tierOf(entryOf(item)));
  const best = Math.min(...tiers);
  return items.filter((_, at) => tiers[at] === best);
}

/** 0 for the best one. */
export function tierOf({ health }: SubjectTarget["entry"]): number {
  return Math.min(healthOrder(health), LAST_TIER);
}

/** How far behind the best ones a target stands: its tier (HEALTHY 0, DEGRADED 1, CRITICAL 2, ORPHANED 3) times 10,000, and its distance from the view times 1,000. */
export function rankOf({ entry }: SubjectTarget, locality: DnsView["locality"]): number {
  return PER_TIER * healthOrder(entry.health) + distanceRank(entry, locality);
}

/** 1,000 for each step away from the view: 0 in its zone, 1 in its region, 2 elsewhere. 0 where the view has no place. */
export function distanceRank(entry: SubjectTarget["entry"], locality: DnsView["locality"]): number {
  return locality === undefined ? 0 : PER_STEP * levelOf(entry, locality);
}

/** The target's own priority beside its rank. */
export function ownPriority({ target }: SubjectTarget): number {
  return Math.min(target.priority, PER_STEP - 1);
}

/** Whether there are more entries than the subject has. */
export function areEntriesCut(subject: Subject): boolean {
  return subject.kind === "entries" && subject.cut === "entries";
}

/** Whether there may be more hosts of targets. */
export function areHostsCut(subject: Subject): boolean {
  return areEntriesCut(subject) || (subject.kind === "entries" && subject.cut === "hosts");
}

/** Whether there are more targets. */
export function areTargetsCut(subject: Subject): boolean {
  return subject.kind === "entries" && subject.cut !== "nothing";
}
