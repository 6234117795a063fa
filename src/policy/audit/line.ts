/** Audit records as JSON lines, for files that other programs collect. This module writes the lines, and verifies a copy of a log. */
import { equalBytes } from "../../lib/crypto.ts";
import { ChainCheck, type ChainedRecord } from "./chain.ts";
import { type AuditRecord, canonicalBytes, eventOf, HASH_BYTES, joinSubjects, splitSubjects } from "./record.ts";

/** Returns one JSON object with every field, followed by a newline. Field names are in snake_case, and hashes are in hex. */
export function auditLine(record: AuditRecord): string {
  const { number, atWallMs, hash, previousHash, requestId, subjects, tokenId, ...texts } = record;
  const at = new Date(atWallMs).toISOString();
  const about = { request_id: requestId, subjects: splitSubjects(subjects), token_id: tokenId };
  return `${JSON.stringify({ number, at, ...texts, ...about, hash: hex(hash), previous_hash: hex(previousHash) })}\n`;
}

export interface LinesReading {
  readonly isIntact: boolean;
  /** Number of records before the first fault. */
  readonly checked: number;
  /** Number of the first record; 0 if there are no records. */
  readonly firstNumber: number;
  readonly lastNumber: number;
  /**
   * Hash of the last record in hex; empty if there are no records. Compare it with the server's hash: a copy that lacks the newest records is also
   * reported as intact.
   */
  readonly lastHash: string;
  /** Kind of the first fault; empty if the copy is intact. */
  readonly fault: string;
  readonly faultNumber: number;
  readonly detail: string;
}

/** The only format that `auditLine` writes. If the Z were missing, for example, JavaScript would interpret the string as a local time. */
const AT = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

interface AuditLine {
  readonly stored: ChainedRecord;
  readonly previousHash: Uint8Array;
  readonly hashText: string;
}

/**
 * Verifies the hash chain of a copy of an audit log in JSON lines, without access to the server. The copy may begin anywhere, because each line
 * contains the previous hash. Cost: one hash per record, about 5 µs.
 */
export function verifyLines(text: string): LinesReading {
  let check: ChainCheck | undefined;
  let state = { firstNumber: 0, checked: 0, lastNumber: 0, lastHash: "" };
  const broken = (fault: string, faultNumber: number, detail: string): LinesReading => ({
    ...state,
    isIntact: false,
    fault,
    faultNumber,
    detail,
  });
  let row = 0;
  for (const each of linesOf(text)) {
    row += 1;
    if (each === "") continue;
    const line = parseLine(each);
    if (line === undefined) return broken("altered", state.lastNumber + 1, `line ${row} is not an audit record`);
    const { stored, previousHash, hashText } = line;
    check ??= new ChainCheck({ number: stored.place - 1, hash: previousHash });
    const said = !equalBytes(check.last.hash, previousHash) && stored.place === check.last.number + 1;
    const problem = check.add(stored);
    if (problem !== undefined) return broken(problem.kind, problem.number, `line ${row}: ${problem.message}`);
    if (said)
      return broken("altered", stored.place, `line ${row}: record ${stored.place} does not contain the hash of the previous record`);
    state = {
      firstNumber: state.checked === 0 ? stored.place : state.firstNumber,
      checked: state.checked + 1,
      lastNumber: stored.place,
      lastHash: hashText,
    };
  }
  return { ...state, isIntact: true, fault: "", faultNumber: 0, detail: "" };
}

function* linesOf(text: string): Generator<string> {
  let start = 0;
  while (start < text.length) {
    const end = text.indexOf("\n", start);
    yield text.slice(start, end < 0 ? text.length : end).trim();
    start = end < 0 ? text.length : end + 1;
  }
}

/** Returns the record that a line from `auditLine` contains. Undefined for lines that it did not write. */
function parseLine(line: string): AuditLine | undefined {
  const fields = parseFields(line);
  const { number, at } = fields;
  const atWallMs = typeof at === "string" && AT.test(at) ? Date.parse(at) : Number.NaN;
  const [hash, previousHash] = [unhex(fields["hash"]), unhex(fields["previous_hash"])];
  if (typeof number !== "number" || !Number.isSafeInteger(number) || number < 1 || Number.isNaN(atWallMs)) return undefined;
  const named = { requestId: fields["request_id"], subjects: subjectsOf(fields["subjects"]), tokenId: fields["token_id"] };
  const texts: Readonly<Record<string, unknown>> = { ...fields, ...named };
  const event = eventOf(atWallMs, (field) => texts[field]);
  if (event === undefined || hash === undefined || previousHash === undefined) return undefined;
  return { stored: { place: number, canonical: canonicalBytes(number, event), hash }, previousHash, hashText: String(fields["hash"]) };
}

/** Returns the subjects in a line as one string. Undefined if the value is not a list of strings. */
function subjectsOf(value: unknown): string | undefined {
  if (!Array.isArray(value)) return undefined;
  const subjects = value.filter((subject) => typeof subject === "string" && !subject.includes("\n"));
  return subjects.length === value.length ? joinSubjects(subjects) : undefined;
}

function parseFields(line: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === "object" && value !== null ? Object.fromEntries(Object.entries(value)) : {};
  } catch {
    return {}; // If the line is not JSON, it has no fields, and the caller reports the fault.
  }
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}

function unhex(text: unknown): Uint8Array | undefined {
  if (typeof text !== "string" || text.length !== HASH_BYTES * 2 || !/^[0-9a-f]*$/.test(text)) return undefined;
  return Buffer.from(text, "hex");
}
