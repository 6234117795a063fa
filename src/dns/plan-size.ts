/** What a plan takes in memory, and how one that takes too much is made smaller without any record losing its chance. */
import { type Plan, shuffled, targetOf } from "./answer.ts";
import type { DnsRecord } from "./records.ts";

/** Measured on Node 24 and rounded up: a record without its texts, one more string of it, a name of the glue, a plan without records. */
const RECORD_BYTES = 352;
const STRING_BYTES = 48;
const GLUE_BYTES = 160;
const PLAN_BYTES = 896;
/** Twice the largest answer (65,535 bytes): what a small plan holds at least, so that each answer from it is as full as one from the whole. */
const ANSWER_ROOM_BYTES = 131_070;

/** Bytes of memory that a plan takes, rather too many than too few; what it shares with others is counted as its own. Cost: its records. */
export function planBytes({ groups, authority, glue }: Plan): number {
  let bytes = PLAN_BYTES;
  for (const group of groups) for (const record of group) bytes += recordBytes(record);
  for (const record of authority) bytes += recordBytes(record);
  for (const [name, records] of glue) {
    bytes += GLUE_BYTES + name.length;
    for (const record of records) bytes += recordBytes(record);
  }
  return bytes;
}

/**
 * A plan of as many records as the largest answer has room for, drawn as an answer is: groups in order, of each any of its records. One
 * answer from it is like one from the whole; after some, another part is to be drawn. Of very many small records only those are taken that fit into `maxBytes`
 * of memory.
 */
export function thinned(plan: Plan, random: () => number, maxBytes: number): Plan {
  const groups: (readonly DnsRecord[])[] = [];
  const glue = new Map<string, readonly DnsRecord[]>();
  let room = ANSWER_ROOM_BYTES;
  let left = maxBytes - planBytes({ ...plan, groups: [], glue });
  for (const group of plan.groups) {
    const part: DnsRecord[] = [];
    for (const record of shuffled(group, random)) {
      const target = targetOf(record);
      const addresses = target === undefined ? undefined : plan.glue.get(target);
      left -=
        recordBytes(record) +
        (addresses ?? []).reduce(
          (sum, address) => sum + recordBytes(address),
          addresses === undefined ? 0 : GLUE_BYTES + (target ?? "").length,
        );
      if (room <= 0 || left < 0) break;
      part.push(record);
      room -= dataBytes(record);
      if (target !== undefined && addresses !== undefined) glue.set(target, addresses);
    }
    if (part.length > 0) groups.push(part);
  }
  return { ...plan, groups, glue };
}

function recordBytes(record: DnsRecord): number {
  const strings = record.type === "TXT" ? record.data.strings.length : 0;
  return RECORD_BYTES + dataBytes(record) + strings * STRING_BYTES;
}

/** Characters and address bytes of a record's data. A message has each of them too, but for the few names that are compressed. */
function dataBytes({ type, data }: DnsRecord): number {
  switch (type) {
    case "A":
    case "AAAA":
      return data.address.length;
    case "SRV":
    case "CNAME":
    case "NS":
      return data.target.length;
    case "TXT":
      return data.strings.reduce((sum, text) => sum + text.length, 0);
    case "SOA":
      return data.primary.length + data.mailbox.length;
    case "HINFO":
      return data.cpu.length + data.os.length;
  }
}
