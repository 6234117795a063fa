/** Checks a copy of an audit log in JSON lines, with nothing but the copy: its hash chain from the first line to the last. */

import { ChainCheck, type ChainedRecord } from "./chain.ts";
import { AUDIT_KINDS, AUDIT_OUTCOMES, type AuditEvent, type ChainPoint, canonicalBytes, HASH_BYTES } from "./record.ts";

export interface LinesReading {
  readonly isIntact: boolean;
  /** Records up to the first fault. */
  readonly checked: number;
  /** 0 when there are no records. */
  readonly firstNumber: number;
  readonly lastNumber: number;
  /** In hex; empty when there are no records. Compare with what the server says, for a copy that lacks its newest records is whole too. */
  readonly lastHash: string;
  /** Empty when intact. */
  readonly fault: string;
  readonly faultNumber: number;
  readonly detail: string;
}

interface Line {
  readonly stored: ChainedRecord;
  readonly previousHash: Uint8Array;
  readonly hashText: string;
}

/** The copy may begin anywhere: the first line names the hash before it. Cost: a hash a record, some 5 µs. */
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
    if (line === undefined) return broken("altered", state.lastNumber + 1, `line ${row} is no record of an audit log`);
    const { stored, previousHash, hashText } = line;
    check ??= new ChainCheck({ number: stored.place - 1, hash: previousHash });
    const said = differs(check.last, previousHash) && stored.place === check.last.number + 1;
    const problem = check.add(stored);
    if (problem !== undefined) return broken(problem.kind, problem.number, `line ${row}: ${problem.message}`);
    if (said) return broken("altered", stored.place, `line ${row}: record ${stored.place} does not name the hash of the one before it`);
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

function differs({ hash }: ChainPoint, other: Uint8Array): boolean {
  return hash.some((byte, at) => byte !== other[at]);
}

const TEXTS = ["principal", "tenant", "source", "action", "namespace", "reason", "rule", "before", "after", "detail"] as const;

/** The record of a line that `auditLine` wrote; undefined when it is none. */
function parseLine(line: string): Line | undefined {
  const fields = parseFields(line);
  const number = fields["number"];
  const at = fields["at"];
  const atWallMs = typeof at === "string" ? Date.parse(at) : Number.NaN;
  const kind = AUDIT_KINDS.find((word) => word === fields["kind"]);
  const outcome = AUDIT_OUTCOMES.find((word) => word === fields["outcome"]);
  const [hash, previousHash] = [unhex(fields["hash"]), unhex(fields["previous_hash"])];
  if (typeof number !== "number" || !Number.isSafeInteger(number) || number < 1 || Number.isNaN(atWallMs)) return undefined;
  if (kind === undefined || outcome === undefined || hash === undefined || previousHash === undefined) return undefined;
  const texts: Partial<Record<(typeof TEXTS)[number], string>> = {};
  for (const name of TEXTS) {
    const value = fields[name];
    if (typeof value !== "string") return undefined;
    texts[name] = value;
  }
  const { principal = "", tenant = "", source = "", action = "", namespace = "", reason = "" } = texts;
  const { rule = "", before = "", after = "", detail = "" } = texts;
  const who = { principal, tenant, source };
  const event: AuditEvent = { atWallMs, kind, ...who, action, namespace, outcome, reason, rule, before, after, detail };
  return { stored: { place: number, canonical: canonicalBytes(number, event), hash }, previousHash, hashText: String(fields["hash"]) };
}

function parseFields(line: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === "object" && value !== null ? Object.fromEntries(Object.entries(value)) : {};
  } catch {
    return {}; // What is no JSON has no fields: the caller says so.
  }
}

function unhex(text: unknown): Uint8Array | undefined {
  if (typeof text !== "string" || text.length !== HASH_BYTES * 2 || !/^[0-9a-f]*$/.test(text)) return undefined;
  return Uint8Array.from({ length: HASH_BYTES }, (_, at) => Number.parseInt(text.slice(at * 2, at * 2 + 2), 16));
}
