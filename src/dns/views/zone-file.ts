/** The file with the serials of the zone, so that they do not go back at a restart: one line of JSON with a checksum. */
import { sha256Hex } from "../../lib/crypto.ts";
import type { Serials } from "./zone-versions.ts";

/** Most serials in a file: those of all views, and of some that there were. */
const MAX_SERIALS = 256;
/** The largest file. A key has four ids of at most 128 characters. */
export const MAX_ZONE_FILE_BYTES = 1 << 20;
const FORMAT = 1;

/** The content of the file. Of more serials than it has room for, the last ones are kept. */
export function writeZoneFile(serials: Serials): Uint8Array {
  const body = JSON.stringify([...serials].slice(-MAX_SERIALS));
  return new TextEncoder().encode(`${JSON.stringify({ format: FORMAT, sum: sha256Hex(body) })}\n${body}\n`);
}

/** The serials of a file. Undefined for anything else, also where one byte differs. */
export function readZoneFile(bytes: Uint8Array): Serials | undefined {
  const [head, body, end] = new TextDecoder().decode(bytes).split("\n");
  if (head === undefined || body === undefined || end !== "") return undefined;
  if (head !== JSON.stringify({ format: FORMAT, sum: sha256Hex(body) })) return undefined;
  const pairs: unknown = JSON.parse(body);
  if (!Array.isArray(pairs)) return undefined;
  const serials = new Map<string, number>();
  for (const pair of pairs) {
    const items: readonly unknown[] = Array.isArray(pair) ? pair : [];
    const [key, serial] = items;
    if (typeof key !== "string" || typeof serial !== "number" || serial !== serial >>> 0) return undefined;
    serials.set(key, serial);
  }
  return serials;
}
