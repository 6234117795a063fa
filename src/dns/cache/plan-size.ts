/** Memory that a plan takes, and a part of a plan that takes too much. */

import type { AnswerPlan } from "../plan/answer.ts";
import { AnswerDrawer } from "../plan/answer-drawer.ts";
import type { DnsRecord } from "../records/record.ts";
import { dataBytes, namedHost } from "../records/records.ts";

/** Memory of a text (a key, a hidden namespace) besides its characters. */
const TEXT_BYTES = 24;
/** Memory of a record without its texts. This and the three below were measured on Node 24 and rounded up. */
const RECORD_BYTES = 352;
/** Memory of one more string of a record. */
const STRING_BYTES = 48;
const BEYOND_LATIN1 = /[\u0100-\uffff]/;
/** The lists of an SVCB or HTTPS record take as much as so many strings. */
const BINDING_STRINGS = 4;
/** Memory of a name of the glue. */
const GLUE_BYTES = 160;
/** Memory of a plan without records. */
const PLAN_BYTES = 640;
/** Memory of what is kept of a plan, with its place in the index. */
const KEPT_BYTES = 192;
const REFERENCE_BYTES = 8;
/** Twice the largest answer (65,535 bytes). A part of a plan holds at least this much, so that each answer from it is as full as one from the whole plan. */
const ANSWER_ROOM_BYTES = 131_070;

/** Memory of what is kept of a plan besides the plan, what is prepared of it and the facts themselves. The first of its texts is its key. */
export function keptBytes(texts: readonly string[], factCount: number): number {
  return texts.reduce((sum, text) => sum + TEXT_BYTES + text.length, KEPT_BYTES + REFERENCE_BYTES * factCount);
}

/** Bytes of memory that a plan takes, rather too many than too few. Records that it shares with other plans are counted in full. Cost: its records. */
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
 * A part of a plan, with as many records as the largest answer has room for and at most `maxBytes` of memory. Its records are drawn as for an answer:
 * groups in order, and from each group any records. One answer from the part is like one from the whole plan; after some answers, another
 * part must be drawn.
 */
export function thinned(plan: AnswerPlan, random: () => number, maxBytes: number): AnswerPlan {
  const groups: (readonly DnsRecord[])[] = [];
  const glue = new Map<string, readonly DnsRecord[]>();
  let room = ANSWER_ROOM_BYTES;
  let left = maxBytes - planBytes({ ...plan, groups: [], glue });
  const drawer = new AnswerDrawer(random);
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

/** What a text takes beside one byte for each character. With a character beyond Latin-1 all of them have two. */
function wideBytes(text: string): number {
  return BEYOND_LATIN1.test(text) ? text.length : 0;
}
