/** Draws a response from a plan: the order of the records and, if the RRset has a limit, the subset to send. */
import type { DnsRecord } from "../records/record.ts";
import { areSampled, namedHost } from "../records/records.ts";
import type { AnswerPlan, Rcode } from "./answer.ts";
import { AnswerSampler } from "./answer-sampler.ts";

export interface DrawnAnswer {
  readonly rcode: Rcode;
  readonly isAuthoritative: boolean;
  readonly answers: readonly DnsRecord[];
  readonly authority: readonly DnsRecord[];
  readonly additional: readonly DnsRecord[];
}

export interface AnswerDraw {
  /** Returns numbers in [0, 1). */
  readonly random: () => number;
  /** Maximum number of records of the requested RRset. If undefined, there is no limit. */
  readonly answerLimit: number | undefined;
}

/**
 * Draws the record order of each group. If the RRset has more records than the limit, it also draws a sample: earlier groups first, and by weight
 * within a group. A signed RRset is always sent complete, because its signature covers all records.
 */
export function drawAnswer(plan: AnswerPlan, { random, answerLimit }: AnswerDraw): DrawnAnswer {
  const answers: DnsRecord[] = [];
  const drawer = new AnswerSampler(random);
  let left = plan.signed === undefined ? (answerLimit ?? Number.POSITIVE_INFINITY) : Number.POSITIVE_INFINITY;
  for (const group of plan.groups) {
    const isSampled = areSampled(group);
    const wanted = isSampled ? Math.min(left, group.length) : group.length;
    answers.push(...drawn(group, wanted, drawer));
    if (isSampled) left -= wanted;
  }
  const additional: DnsRecord[] = [];
  if (plan.glue.size > 0) {
    const added = new Set<string>();
    for (const record of answers) {
      const host = namedHost(record);
      if (host === undefined || added.has(host)) continue;
      added.add(host);
      additional.push(...(plan.glue.get(host) ?? []));
    }
  }
  return { rcode: plan.rcode, isAuthoritative: plan.isAuthoritative, answers, authority: plan.authority, additional };
}

/** Returns `wanted` records in the order in which they were drawn. */
function drawn(records: readonly DnsRecord[], wanted: number, drawer: AnswerSampler): readonly DnsRecord[] {
  if (records.length === 1 && wanted === 1) return records;
  drawer.begin(records.length, wanted, (place) => weightOf(records[place]));
  const out = Array.from({ length: wanted }, () => records[drawer.next()]).filter((record) => record !== undefined);
  drawer.end();
  return out;
}

function weightOf(record: DnsRecord | undefined): number {
  return record?.type === "SRV" ? record.data.weight : 0;
}
