/** Queries that know what a query is made of: names, types, options, whole and damaged; and what must hold for the answer to each. */
import packet from "dns-packet";
import type { Rng } from "../../src/lib/rng.ts";
import { hiddenIn, SECRET_NAMES } from "./dns-secrets.ts";
import { queryBytes } from "./dns-text.ts";

const TYPES = [1, 1, 2, 5, 6, 12, 12, 16, 28, 33, 33, 41, 43, 48, 64, 65, 250, 251, 252, 255, 257, 65_535];
const CODES = [3, 5, 8, 9, 10, 11, 12, 15, 65_001];
const HEADER_BYTES = 12;

/** Of half of the answers one in so many is read by another implementation, because that takes long. */
const READ_EACH = 20;

export function anyQuery(rng: Rng): Uint8Array {
  const bytes = [...queryBytes({ name: SECRET_NAMES[rng.int(SECRET_NAMES.length)] ?? "", type: "A", id: rng.int(65_536) })];
  const type = TYPES[rng.int(TYPES.length)] ?? 1;
  bytes.splice(-4, 2, type >> 8, type & 255);
  // The case of letters comes back.
  for (let i = 13; i < bytes.length - 4; i++)
    if (rng.int(4) === 0 && (bytes[i] ?? 0) >= 97 && (bytes[i] ?? 0) <= 122) bytes[i] = (bytes[i] ?? 0) - 32;
  for (let opts = [0, 1, 1, 1, 2][rng.int(5)] ?? 0; opts > 0; opts--) {
    bytes.push(...optOf(rng));
    bytes[11] = (bytes[11] ?? 0) + 1;
  }
  if (rng.int(6) === 0) for (let n = 1 + rng.int(4); n > 0; n--) bytes[rng.int(bytes.length)] = rng.int(256);
  return Uint8Array.from(rng.int(8) === 0 ? bytes.slice(0, rng.int(bytes.length + 1)) : bytes);
}

/** An OPT record with options, some of them of the right size. */
function optOf(rng: Rng): readonly number[] {
  const data: number[] = [];
  for (let options = rng.int(4); options > 0; options--) {
    const code = CODES[rng.int(CODES.length)] ?? 0;
    const length = rng.int(3) === 0 ? rng.int(45) : code === 10 ? ([8, 24, 16, 40][rng.int(4)] ?? 8) : code === 8 ? 7 : 0;
    const value = Array.from({ length }, () => rng.int(256));
    if (code === 8 && length === 7 && rng.int(2) === 0) value.splice(0, 4, 0, 1, 24, 0);
    data.push(code >> 8, code & 255, 0, length, ...value);
  }
  const size = [0, 511, 512, 1232, 4096, 65_535][rng.int(6)] ?? 0;
  const version = rng.int(8) === 0 ? rng.int(256) : 0;
  return [0, 0, 41, size >> 8, size & 255, 0, version, rng.int(256), rng.int(256), data.length >> 8, data.length & 255, ...data];
}

/** Whether anybody may answer: it has a header, and is no response itself. */
export function isAnswerable(query: Uint8Array): boolean {
  return query.length >= HEADER_BYTES && (query[2] ?? 0) < 0x80;
}

/** What follows the question, without the name that was asked for: a denial has it in full, and who asks knows it. */
function withoutAsked(answer: Buffer, name: Buffer): Buffer {
  if (name.length <= 1) return answer;
  // Only the letters of ASCII have a case.
  const lower = name.toString("latin1").replaceAll(/[A-Z]/g, (letter) => letter.toLowerCase());
  return Buffer.from(answer.toString("latin1").replaceAll(lower, ""), "latin1");
}

/** The largest UDP response that the client accepts, in bytes, as another implementation reads the query. */
function udpLimitOf(query: Uint8Array, response: Buffer): number {
  // HOT: most are no larger than anybody has room for.
  if (response.length <= 512) return 512;
  try {
    const opt = packet.decode(Buffer.from(query)).additionals?.find(({ type }) => type === "OPT");
    return opt?.type === "OPT" ? Math.min(1232, Math.max(512, opt.udpPayloadSize)) : 512;
  } catch {
    // This implementation cannot read options with short data, which a server has to ignore.
    return 1232;
  }
}

/** What is wrong with the answer to a query of a view; undefined if nothing is. `nth`: of how many. */
export function wrongWith(
  query: Uint8Array,
  answer: Uint8Array,
  { isTcp, view, nth }: { readonly isTcp: boolean; readonly view: number; readonly nth: number },
): string | undefined {
  const response = Buffer.from(answer.buffer, answer.byteOffset, answer.length);
  if (response.length < HEADER_BYTES) return "it has no header";
  if (response[0] !== query[0] || response[1] !== query[1] || (response[2] ?? 0) < 0x80) return "it is no response to this id";
  if (response.length > (isTcp ? 65_535 : udpLimitOf(query, response))) return `it has ${response.length} bytes`;
  let end = HEADER_BYTES;
  if (response.readUInt16BE(4) === 1) {
    while ((response[end] ?? 0) > 0) end += 1 + (response[end] ?? 0);
    end += 5;
    if (!response.subarray(HEADER_BYTES, end).equals(Buffer.from(query.subarray(HEADER_BYTES, end)))) return "it has another question";
  }
  const hidden = hiddenIn(withoutAsked(response.subarray(end), response.subarray(HEADER_BYTES, end - 4)), 0, view);
  if (hidden !== undefined) return `it shows ${hidden}`;
  if (nth % READ_EACH === 0 && packet.decode(response).type !== "response") return "it cannot be read";
  return undefined;
}
