/** An audit record as a line of JSON, for files that other programs collect. */
import type { AuditRecord } from "./record.ts";

function hex(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += byte.toString(16).padStart(2, "0");
  return text;
}

/** One object with every field, the names in snake_case, hashes in hex; ends in a newline. */
export function auditLine(record: AuditRecord): string {
  const { number, atWallMs, hash, previousHash, ...texts } = record;
  const at = new Date(atWallMs).toISOString();
  return `${JSON.stringify({ number, at, ...texts, hash: hex(hash), previous_hash: hex(previousHash) })}\n`;
}
