/** Draws an answer from a plan: the order of its records, and which of them where a set has a limit. */
import { assert } from "../../lib/errors.ts";
import type { DnsRecord } from "../records/record.ts";
import { areSampled, hostOf } from "../records/records.ts";
import type { Plan, Rcode } from "./answer.ts";

export interface Answer {
  readonly rcode: Rcode;
  readonly isAuthoritative: boolean;
  readonly answers: readonly DnsRecord[];
  readonly authority: readonly DnsRecord[];
  readonly additional: readonly DnsRecord[];
}

export interface Draw {
  /** Gives numbers in [0, 1). */
  readonly random: () => number;
  /** Most records of the set that is asked for; undefined for all. */
  readonly answerLimit: number | undefined;
}

/**
 * Draws the order of each group, and a sample of the set where it has more records than the limit: the first groups first, and of a group by weight. A signed
 * set is whole, because its signature stands for all of it.
 */
export function drawAnswer(plan: Plan, { random, answerLimit }: Draw): Answer {
  const answers: DnsRecord[] = [];
  let left = plan.signed === undefined ? (answerLimit ?? Number.POSITIVE_INFINITY) : Number.POSITIVE_INFINITY;
  for (const group of plan.groups) {
    const isSampled = areSampled(group);
    const wanted = isSampled ? Math.min(left, group.length) : group.length;
    answers.push(...shuffled(wanted < group.length ? sampled(group, wanted, random) : group, random));
    if (isSampled) left -= wanted;
  }
  const additional: DnsRecord[] = [];
  if (plan.glue.size > 0) {
    const added = new Set<string>();
    for (const record of answers) {
      const host = hostOf(record);
      if (host === undefined || added.has(host)) continue;
      added.add(host);
      additional.push(...(plan.glue.get(host) ?? []));
    }
  }
  return { rcode: plan.rcode, isAuthoritative: plan.isAuthoritative, answers, authority: plan.authority, additional };
}

/** So many of the records: each next one is drawn by weight, or evenly where no weight is left. */
function sampled(records: readonly DnsRecord[], wanted: number, random: () => number): readonly DnsRecord[] {
  const left = [...records];
  let total = left.reduce((sum, record) => sum + weightOf(record), 0);
  return Array.from({ length: wanted }, () => {
    const isEven = total === 0;
    let at = Math.floor(random() * (isEven ? left.length : total));
    const found = left.findIndex((record) => (at -= isEven ? 1 : weightOf(record)) < 0);
    const [drawn] = left.splice(found, 1);
    assert(drawn !== undefined, "a sample is of no more records than there are");
    total -= weightOf(drawn);
    return drawn;
  });
}

function weightOf(record: DnsRecord): number {
  return record.type === "SRV" ? record.data.weight : 0;
}

/** A random permutation (Fisher and Yates). `random` gives numbers in [0, 1). */
export function shuffled<T>(items: readonly T[], random: () => number): readonly T[] {
  if (items.length < 2) return items;
  const out = [...items];
  for (let i = out.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    const a = out[i];
    const b = out[j];
    if (a !== undefined && b !== undefined) {
      out[i] = b;
      out[j] = a;
    }
  }
  return out;
}
