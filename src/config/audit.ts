/** Settings of what is kept of acts: the group `audit` of SETTINGS in settings.ts, which is where to look first. */
import { bytes, int, ms, optionalText } from "./field.ts";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const PATH = { pattern: /^[^\0]{1,4096}$/, what: "a file path" } as const;

export const AUDIT_SETTINGS = {
  retentionMs: ms({ default: 90 * DAY_MS, min: HOUR_MS, max: 3650 * DAY_MS, doc: "How long audit records are kept." }),
  maxBytes: bytes({
    default: 268_435_456,
    min: 1_048_576,
    max: 1_099_511_627_776,
    doc: "Size of the audit log above which the oldest records go, however young they are.",
  }),
  file: optionalText({ ...PATH, doc: "File that each audit record is appended to as a line of JSON; opened again on SIGHUP." }),
  sampleReads: int({
    default: 0,
    min: 0,
    max: 1_000_000_000,
    doc: "One allowed read in this many leaves an audit record; 0 means none. Denials, writes and acts of operators always do.",
  }),
} as const;
