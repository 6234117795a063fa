/** Which targets of a name an answer shows, and how it ranks them, by health and distance (semantics.md, DNS). */
import { bestTierOf, type Fitness, healthOrder } from "../../consumer/health-tiers.ts";
import { levelOf } from "../../consumer/locality-levels.ts";
import type { DnsSubject, DnsView, SubjectTarget } from "../subject/subject.ts";

const PER_TIER = 10_000;
const PER_STEP = 1_000;

/** The targets of the best tier that there is: HEALTHY, then DEGRADED, then CRITICAL with ORPHANED. */
export function bestTargets(targets: readonly SubjectTarget[]): readonly SubjectTarget[] {
  return bestTierOf(targets, ({ entry }) => withTarget(entry));
}

/** The entries of the best tier, for a name whose entries all have no target. */
export function bestEntries(entries: readonly SubjectTarget["entry"][]): readonly SubjectTarget["entry"][] {
  return bestTierOf(entries, withTarget);
}

/** The inputs for the tier of an entry, if its targets are known to exist or do not matter. */
export function withTarget({ health }: SubjectTarget["entry"]): Fitness {
  return { health, hasTarget: true };
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
export function areEntriesCut(subject: DnsSubject): boolean {
  return subject.kind === "entries" && subject.cut === "entries";
}

/** Whether there may be more hosts of targets. */
export function areHostsCut(subject: DnsSubject): boolean {
  return areEntriesCut(subject) || (subject.kind === "entries" && subject.cut === "hosts");
}

/** Whether there are more targets. */
export function areTargetsCut(subject: DnsSubject): boolean {
  return subject.kind === "entries" && subject.cut !== "nothing";
}
