/** Estimates the memory use of a plan, and draws part of a plan that is too large. */

import type { AnswerPlan } from "../plan/answer.ts";
import { AnswerSampler } from "../plan/answer-sampler.ts";
import type { DnsRecord } from "../records/record.ts";
import { dataBytes, namedHost } from "../records/records.ts";

/** Memory of a string (such as a key or a hidden namespace) without its characters. */
const TEXT_BYTES = 24;
/** Memory of a record without its strings. This value and the three below were measured on Node 24 and rounded up. */
const RECORD_BYTES = 352;
/** Memory of each additional string in a record. */
const STRING_BYTES = 48;
const BEYOND_LATIN1 = /[\u0100-\uffff]/;
/** The lists in an SVCB or HTTPS record use as much memory as this many strings. */
const BINDING_STRINGS = 4;
/** Memory of a name in the glue records. */
const GLUE_BYTES = 160;
/** Memory of a plan without records. */
const PLAN_BYTES = 640;
/** Memory of a cache entry and its index slot. */
const KEPT_BYTES = 192;
const REFERENCE_BYTES = 8;
/**
 * Twice the largest response (65,535 bytes). A part of a plan has at least this size, so that it can fill a response as well as the complete plan
 * can.
 */
const ANSWER_ROOM_BYTES = 131_070;

/** Returns the memory that a cache entry uses, excluding the plan, its prepared form and the facts themselves. The first text is the key. */
export function keptBytes(texts: readonly string[], factCount: number): number {
  return texts.reduce((sum, text) => sum + TEXT_BYTES + text.length, KEPT_BYTES + REFERENCE_BYTES * factCount);
}

/**
 * Returns the estimated memory of a plan in bytes, rounded up. Records shared with other plans are counted in full. The cost is proportional to the
 * number of records.
 */
export function planBytes({ groups, authority, glue }: AnswerPlan): number {
  let bytes = PLAN_BYTES;
  for (const group of groups) for (const record of group) bytes += recordBytes(record);
  for (const record of authority) bytes += recordBytes(record);
  for (const [name, records] of glue) bytes += glueBytes(name, records);
  return bytes;
}

function glueBytes(name: string, records: readonly DnsRecord[]): number {
  return records.reduce((sum, record) => sum + recordBytes(record), GLUE_BYTES + name.length);
}

/**
 * Returns part of a plan, with enough records for the largest response and at most `maxBytes` of memory. Records are drawn as for an answer: group by
 * group in order, at random within a group. An answer from the part is equivalent to one from the complete plan. After several answers, another part
 * must be drawn.
 */
export function thinned(plan: AnswerPlan, random: () => number, maxBytes: number): AnswerPlan {
  const groups: (readonly DnsRecord[])[] = [];
  const glue = new Map<string, readonly DnsRecord[]>();
  let room = ANSWER_ROOM_BYTES;
  let left = maxBytes - planBytes({ ...plan, groups: [], glue });
  const drawer = new AnswerSampler(random);
  for (const group of plan.groups) {
    const part: DnsRecord[] = [];
    drawer.begin(group.length, group.length);
    for (let drawn = 0; drawn < group.length; drawn++) {
      const record = group[drawer.next()];
      if (record === undefined) break;
      const host = namedHost(record);
      const addresses = host === undefined ? undefined : plan.glue.get(host);
      left -= recordBytes(record);
      if (host !== undefined && addresses !== undefined) left -= glueBytes(host, addresses);
      if (room <= 0 || left < 0) break;
      part.push(record);
      room -= dataBytes(record);
      if (host !== undefined && addresses !== undefined) glue.set(host, addresses);
    }
    drawer.end();
    if (part.length > 0) groups.push(part);
  }
  return { ...plan, groups, glue };
}

function recordBytes(record: DnsRecord): number {
  const bytes = RECORD_BYTES + dataBytes(record);
  if (record.type === "TXT") return record.data.strings.reduce((sum, text) => sum + STRING_BYTES + wideBytes(text), bytes);
  return record.type === "SVCB" || record.type === "HTTPS" ? bytes + BINDING_STRINGS * STRING_BYTES : bytes;
}

/**
 * Returns the memory of a string beyond one byte per character. V8 uses two bytes for every character of a string that has a character outside
 * Latin-1.
 */
function wideBytes(text: string): number {
  return BEYOND_LATIN1.test(text) ? text.length : 0;
}
