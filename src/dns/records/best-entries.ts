/** Selects and ranks the targets in an answer by health and distance (semantics.md, DNS). */
import { bestTierOf, type Fitness, healthOrder } from "../../consumer/health-tiers.ts";
import { levelOf } from "../../consumer/locality-levels.ts";
import type { DnsSubject, DnsView, SubjectTarget } from "../subject/subject.ts";

const PER_TIER = 10_000;
const PER_STEP = 1_000;

/** Returns the targets of the best nonempty tier: HEALTHY, then DEGRADED, then CRITICAL together with ORPHANED. */
export function bestTargets(targets: readonly SubjectTarget[]): readonly SubjectTarget[] {
  return bestTierOf(targets, ({ entry }) => withTarget(entry));
}

/** Returns the entries of the best tier, for a name whose entries have no targets. */
export function bestEntries(entries: readonly SubjectTarget["entry"][]): readonly SubjectTarget["entry"][] {
  return bestTierOf(entries, withTarget);
}

/** Returns the inputs for the tier of an entry whose targets are known to exist or do not matter. */
export function withTarget({ health }: SubjectTarget["entry"]): Fitness {
  return { health, hasTarget: true };
}

/**
 * Returns the rank of a target, where 0 is best: its tier (HEALTHY 0, DEGRADED 1, CRITICAL 2, ORPHANED 3) times 10,000, plus its distance from the
 * view times 1,000.
 */
export function rankOf({ entry }: SubjectTarget, locality: DnsView["locality"]): number {
  return PER_TIER * healthOrder(entry.health) + distanceRank(entry, locality);
}

/** Returns 1,000 for each step of distance from the view: 0 steps in its zone, 1 in its region, 2 outside. Returns 0 if the view has no location. */
export function distanceRank(entry: SubjectTarget["entry"], locality: DnsView["locality"]): number {
  return locality === undefined ? 0 : PER_STEP * levelOf(entry, locality);
}

/** Returns the priority configured for the target, which is added to its rank. */
export function ownPriority({ target }: SubjectTarget): number {
  return Math.min(target.priority, PER_STEP - 1);
}

/** Returns whether some entries of the subject were omitted. */
export function areEntriesCut(subject: DnsSubject): boolean {
  return subject.kind === "entries" && subject.cut === "entries";
}

/** Returns whether some target hosts may have been omitted. */
export function areHostsCut(subject: DnsSubject): boolean {
  return areEntriesCut(subject) || (subject.kind === "entries" && subject.cut === "hosts");
}

/** Returns whether some targets were omitted. */
export function areTargetsCut(subject: DnsSubject): boolean {
  return subject.kind === "entries" && subject.cut !== "nothing";
}
