/** Computes how long HTTP caches may keep an answer (RFC 8484, section 5.1). The input consists of messages that this gateway wrote. */
import { RCODE } from "../plan/answer.ts";
import { HEADER_BYTES } from "./dns-query.ts";
import { nameEnd } from "./prepared-response.ts";

/** Type, class, TTL and length of a record, after its name. */
const FIXED_BYTES = 10;
const TYPE_SOA = 6;

/**
 * Returns the lowest TTL of the answer in seconds or, for a negative answer, the TTL of its SOA. Returns undefined for answers that must not be
 * cached: failures, truncated answers, and answers without records.
 */
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
    // The last field of the SOA is the negative TTL.
    if (isDenial) least = Math.min(least ?? 0, view.getUint32(end - 4));
    at = end;
  }
  return least;
}
