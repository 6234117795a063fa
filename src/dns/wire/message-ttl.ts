/** How long HTTP may keep an answer (RFC 8484, section 5.1). It reads bytes that we wrote. */
import { RCODE } from "../plan/answer.ts";
import { HEADER_BYTES } from "./dns-query.ts";
import { nameEnd } from "./prepared-response.ts";

/** Type, class, TTL and length of a record, behind its name. */
const FIXED_BYTES = 10;
const TYPE_SOA = 6;

/** The least TTL of the answer, in seconds: of a denial that of its SOA. Undefined where nobody may keep it: failures, cut answers, and those that say nothing. */
export function minTtlSeconds(message: Uint8Array): number | undefined {
  if (message.length < HEADER_BYTES) return undefined;
  const view = new DataView(message.buffer, message.byteOffset, message.length);
  const rcode = view.getUint8(3) & 0x0f;
  const isTruncated = (view.getUint8(2) & 0x02) !== 0;
  if (isTruncated || (rcode !== RCODE.NOERROR && rcode !== RCODE.NXDOMAIN)) return undefined;
  const answerCount = view.getUint16(6);
  let at = HEADER_BYTES;
  for (let left = view.getUint16(4); left > 0; left--) at = nameEnd(message, at) + 4;
  let least: number | undefined;
  for (let i = 0; i < answerCount + view.getUint16(8); i++) {
    at = nameEnd(message, at);
    const end = at + FIXED_BYTES + view.getUint16(at + 8);
    const isDenial = i >= answerCount && view.getUint16(at) === TYPE_SOA;
    if (i < answerCount || isDenial) least = Math.min(least ?? Number.POSITIVE_INFINITY, view.getUint32(at + 4));
    // The last field of SOA is for how long a denial holds.
    if (isDenial) least = Math.min(least ?? 0, view.getUint32(end - 4));
    at = end;
  }
  return least;
}
