/**
 * Audit records: the stored data of an operation, its canonical bytes, and the hash chain that reveals later changes (semantics.md,
 * Policy).
 */
import { sha256 } from "../../lib/crypto.ts";
import { NEVER, type Time } from "../../lib/machine.ts";
import type { Caller } from "../identity/caller.ts";
import { callerKey } from "../limits/rate-limits.ts";

/** `access`: requests and writes by callers. `policy`: changes to rules. `admin`: operations on the node itself. */
export const AUDIT_KINDS = ["access", "policy", "admin"] as const;
export type AuditKind = (typeof AUDIT_KINDS)[number];
/** `noted`: an event that needs no permission. */
export const AUDIT_OUTCOMES = ["allowed", "denied", "noted"] as const;
export type AuditOutcome = (typeof AUDIT_OUTCOMES)[number];

/** One operation. Strings may be empty. Strings must not contain secrets: a caller is identified by its principal, never by its credential. */
export interface AuditEvent {
  readonly atWallMs: number;
  readonly kind: AuditKind;
  /** The caller's principal; empty for an anonymous caller. */
  readonly principal: string;
  readonly tenant: string;
  /** The address from which the call came. */
  readonly source: string;
  /** `query`, `register`, `policy.apply`, … */
  readonly action: string;
  readonly namespace: string;
  readonly outcome: AuditOutcome;
  /** Reason for the verdict or error: `viewer_denied`, `rate_limited`, … */
  readonly reason: string;
  /** Pattern of the rule that determined the verdict. */
  readonly rule: string;
  /** The policy's checksum before a change. */
  readonly before: string;
  /** The policy's checksum after a change. */
  readonly after: string;
  /** Further information for people to read: the author's reason, counts. */
  readonly detail: string;
  /**
   * The request id of the call. If an operation has too many subjects for one record, its records have the same id. Empty for operations of the node
   * itself.
   */
  readonly requestId: string;
  /** The subjects of the operation, one per line (`joinSubjects`): entry keys, and other subjects, which have a prefix (`subjectOf`). */
  readonly subjects: string;
  /** Identifies the caller's credential (`CallerIdentity.tokenId`); empty without one. */
  readonly tokenId: string;
  /** The change ticket that the caller gave. */
  readonly ticket: string;
}

/** Maximum number of subjects per record. An operation with more subjects is split into several records. */
export const MAX_SUBJECTS = 100;

/** Returns the string for a subject that is not an entry. An entry key cannot have such a prefix, because namespaces contain no colon. */
export function subjectOf(sort: "lease" | "node" | "policy" | "scope" | "zone", name: number | string): string {
  return `${sort}:${name}`;
}

export function joinSubjects(subjects: readonly string[]): string {
  return subjects.join("\n");
}

export function splitSubjects(subjects: string): readonly string[] {
  return subjects === "" ? [] : subjects.split("\n");
}

/** The fields of an operation that the node itself performs and that has no further data. */
export const NODE_ACT = {
  kind: "admin",
  principal: "",
  tenant: "",
  source: "",
  namespace: "",
  outcome: "noted",
  reason: "",
  rule: "",
  before: "",
  after: "",
  requestId: "",
  subjects: "",
  tokenId: "",
  ticket: "",
} as const satisfies Partial<AuditEvent>;

/** Returns the event for an operation that a caller requested. */
export function accessEvent(
  { principal, tenant, address, tokenId = "" }: Caller,
  act: Pick<AuditEvent, "action" | "namespace" | "outcome" | "reason" | "rule" | "detail"> &
    Partial<Pick<AuditEvent, "requestId" | "subjects" | "ticket">>,
  { wallMs }: Pick<Time, "wallMs">,
): AuditEvent {
  return { ...NODE_ACT, ...act, kind: "access", principal, tenant, source: address, tokenId, atWallMs: wallMs };
}

/** An event, and its position in the chain. */
export interface AuditRecord extends AuditEvent {
  /** The record's number: 1, 2, 3, …; a log never uses a number twice. */
  readonly number: number;
  /** SHA-256 over the previous hash and the canonical bytes. */
  readonly hash: Uint8Array;
  readonly previousHash: Uint8Array;
}

/** Accepts events for the audit log. */
export interface AuditSink {
  /**
   * This method never throws or blocks. The event is added to the chain and written to disk soon after. If the queue is full, the event is dropped
   * and counted.
   */
  record(event: AuditEvent): void;
  /**
   * Resolves when all events so far are on disk. Rejects with `store_unavailable` if the disk fails. The events then remain in the queue.
   */
  durable(): Promise<void>;
}

/** Maximum length of each field, in UTF-16 units after escaping. A truncated string ends with an ellipsis. */
const MAX_LENGTHS = {
  principal: 256,
  tenant: 128,
  source: 128,
  action: 64,
  namespace: 256,
  reason: 64,
  rule: 256,
  before: 128,
  after: 128,
  detail: 2048,
  requestId: 128,
  tokenId: 128,
  ticket: 128,
} as const;
/** This is enough for the longest entry key (`RECORD_BOUNDS`). */
const MAX_SUBJECT_LENGTH = 1500;
const MAX_SUBJECTS_LENGTH = MAX_SUBJECTS * (MAX_SUBJECT_LENGTH + 1);
/** The latest time that a `Date` can represent. */
const MAX_DATE_MS = 8.64e15;
type TextField = keyof typeof MAX_LENGTHS;

// Control characters, line separators and changes of the reading direction are escaped, because an audit line must be displayed exactly as it was
// written.
// oxlint-disable-next-line no-control-regex -- the pattern looks for them
const UNPRINTABLE = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/;
const EVERY_UNPRINTABLE = new RegExp(UNPRINTABLE.source, "g");
/** The same pattern, but without the line feed, which separates subjects. */
// oxlint-disable-next-line no-control-regex -- the pattern looks for them
const UNPRINTABLE_SUBJECT = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/;

function boundText(text: string, maxLength: number): string {
  // Strings are also truncated before they are escaped, so that the cost depends only on the stored length.
  let bounded = text.length > maxLength ? text.slice(0, maxLength) : text;
  if (UNPRINTABLE.test(bounded)) {
    bounded = bounded.replaceAll(EVERY_UNPRINTABLE, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`);
  }
  // Half a surrogate pair cannot be encoded in UTF-8, so the string would be different when it is read back.
  if (text.length > maxLength || bounded.length > maxLength) bounded = `${bounded.slice(0, maxLength - 1)}…`;
  return bounded.isWellFormed() ? bounded : bounded.toWellFormed();
}

/** Checks all subjects in one pass, because checking each separately would cost as much as the rest of the record. */
function boundSubjects(subjects: string): string {
  if (subjects.length <= MAX_SUBJECTS_LENGTH && !UNPRINTABLE_SUBJECT.test(subjects) && subjects.isWellFormed()) return subjects;
  const bounded = splitSubjects(subjects.slice(0, MAX_SUBJECTS_LENGTH)).slice(0, MAX_SUBJECTS);
  return joinSubjects(bounded.map((subject) => boundText(subject, MAX_SUBJECT_LENGTH)));
}

/**
 * Returns the event in the form in which it is stored: the length of strings is limited, and control characters are escaped as `\u001b`. HOT: costs
 * 1 µs for each audited call.
 */
export function boundEvent(event: AuditEvent): AuditEvent {
  const text = (field: TextField) => boundText(event[field], MAX_LENGTHS[field]);
  return {
    atWallMs: Math.trunc(Math.min(Math.max(event.atWallMs, -MAX_DATE_MS), MAX_DATE_MS)) || 0,
    kind: event.kind,
    principal: text("principal"),
    tenant: text("tenant"),
    source: text("source"),
    action: text("action"),
    namespace: text("namespace"),
    outcome: event.outcome,
    reason: text("reason"),
    rule: text("rule"),
    before: text("before"),
    after: text("after"),
    detail: text("detail"),
    requestId: text("requestId"),
    subjects: boundSubjects(event.subjects),
    tokenId: text("tokenId"),
    ticket: text("ticket"),
  };
}

const LENGTH_BYTES = 4;
export const HASH_BYTES = 32;
/** The value that the first record of a log has as its previous hash. */
export const NO_HASH: Uint8Array = new Uint8Array(HASH_BYTES);

const ENCODER = new TextEncoder();
const DECODER = new TextDecoder("utf-8", { fatal: true });

/** The fields that follow the number and the time, in their canonical order, which never changes. */
export const AUDIT_FIELDS = [
  "kind",
  "principal",
  "tenant",
  "source",
  "action",
  "namespace",
  "outcome",
  "reason",
  "rule",
  "before",
  "after",
  "detail",
  "requestId",
  "subjects",
  "tokenId",
  "ticket",
] as const satisfies readonly (keyof AuditEvent)[];
type CanonicalField = (typeof AUDIT_FIELDS)[number];
/** The first byte of canonical bytes. */
const VERSION = 3;
/** Returns the format version, followed by each field as its length in four bytes (big-endian) and its UTF-8 bytes. */
export function canonicalBytes(number: number, event: AuditEvent): Uint8Array {
  const fields = [`${number}`, `${event.atWallMs}`, ...AUDIT_FIELDS.map((field) => event[field])];
  let maxBytes = 1;
  for (const field of fields) maxBytes += LENGTH_BYTES + field.length * 3;
  const bytes = new Uint8Array(maxBytes);
  const view = new DataView(bytes.buffer);
  bytes[0] = VERSION;
  let at = 1;
  for (const field of fields) {
    const { written } = ENCODER.encodeInto(field, bytes.subarray(at + LENGTH_BYTES));
    view.setUint32(at, written);
    at += LENGTH_BYTES + written;
  }
  return bytes.slice(0, at);
}

/** Returns the number and the event that canonical bytes contain. Undefined if the bytes are not in the canonical format. */
export function parseCanonical(bytes: Uint8Array): { readonly number: number; readonly event: AuditEvent } | undefined {
  const fields = splitFields(bytes);
  if (fields === undefined) return undefined;
  const [number, atWallMs] = [Number(fields[0]), Number(fields[1])];
  const event = eventOf(atWallMs, (_field, index) => fields[index + 2] ?? "");
  if (event === undefined || !Number.isSafeInteger(number) || !Number.isSafeInteger(atWallMs)) return undefined;
  return { number, event };
}

/** Builds an event from its fields as strings. Undefined if a field is missing, or if the kind or the outcome is unknown. */
export function eventOf(atWallMs: number, textOf: (field: CanonicalField, index: number) => unknown): AuditEvent | undefined {
  const texts: string[] = [];
  for (const [index, field] of AUDIT_FIELDS.entries()) {
    const text = textOf(field, index);
    if (typeof text !== "string") return undefined;
    texts.push(text);
  }
  const [kind, principal = "", tenant = "", source = "", action = "", namespace = "", outcome, ...rest] = texts;
  const [reason = "", rule = "", before = "", after = "", detail = "", requestId = "", subjects = "", tokenId = "", ticket = ""] = rest;
  const knownKind = AUDIT_KINDS.find((word) => word === kind);
  const knownOutcome = AUDIT_OUTCOMES.find((word) => word === outcome);
  if (knownKind === undefined || knownOutcome === undefined) return undefined;
  const who = { principal, tenant, source };
  const about = { requestId, subjects, tokenId, ticket };
  return { atWallMs, kind: knownKind, ...who, action, namespace, outcome: knownOutcome, reason, rule, before, after, detail, ...about };
}

function splitFields(bytes: Uint8Array): readonly string[] | undefined {
  if (bytes[0] !== VERSION) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const fields: string[] = [];
  let at = 1;
  try {
    while (at < bytes.length) {
      const end = at + LENGTH_BYTES + view.getUint32(at);
      if (end > bytes.length) return undefined;
      fields.push(DECODER.decode(bytes.subarray(at + LENGTH_BYTES, end)));
      at = end;
    }
  } catch {
    return undefined; // The bytes end within a length, or are not valid UTF-8.
  }
  return fields.length === 2 + AUDIT_FIELDS.length ? fields : undefined;
}

/** Returns the hash of a record, which covers the previous hash and the canonical bytes. */
export function chainHash(previousHash: Uint8Array, canonical: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(HASH_BYTES + canonical.length);
  bytes.set(previousHash);
  bytes.set(canonical, HASH_BYTES);
  return sha256(bytes);
}

/** A position in the chain: immediately before the oldest stored record (the anchor), or at the newest record (the head). */
export interface ChainPoint {
  /** 0 if it is before the first record. */
  readonly number: number;
  readonly hash: Uint8Array;
}

export const CHAIN_START: ChainPoint = { number: 0, hash: NO_HASH };

/** Returns the next record in a chain, and its canonical bytes. The event must come from `boundEvent`. */
export function chainEvent(event: AuditEvent, after: ChainPoint): { readonly record: AuditRecord; readonly canonical: Uint8Array } {
  const number = after.number + 1;
  const canonical = canonicalBytes(number, event);
  const hash = chainHash(after.hash, canonical);
  return { record: { ...event, number, hash, previousHash: after.hash }, canonical };
}

// Writes refusals to the audit log, at most one record per second and caller. A flood of refused calls must leave a trace, but must not cause a flood
// of records (semantics.md, Policy).

/** Minimum time between two records for the same caller. */
const SPACING_MS = 1000;

/** A refused operation: the call was over a limit, its caller could not be identified, or its caller did not have the required role. */
export interface RefusedAct {
  readonly caller: Caller;
  readonly action: string;
  readonly namespace: string;
  readonly reason: string;
  /** Further information for people to read; it never contains the caller's credential. */
  readonly detail: string;
  /** The entries that the caller must not write. */
  readonly subjects?: string;
}

/** The refusals of a caller since its last record. */
interface PendingRefusals {
  lastRecordMonoMs: number;
  /** Number of refusals that have not been recorded yet. */
  count: number;
  newest: RefusedAct;
}

export class RefusalAudit {
  readonly #sink: Pick<AuditSink, "record">;
  readonly #maxKeys: number;
  /** The callers are in the order of their last records. */
  readonly #pending = new Map<string, PendingRefusals>();

  /** If more than `maxKeys` callers are refused within a second, the refusals of the oldest caller are recorded early, and the caller is dropped. */
  constructor(sink: Pick<AuditSink, "record">, maxKeys: number) {
    this.#sink = sink;
    this.#maxKeys = maxKeys;
  }

  get size(): number {
    return this.#pending.size;
  }

  /**
   * Records the first refusal of a caller immediately, and counts the refusals within the next second. `count` is the number of refusals, including
   * refusals that were already counted elsewhere.
   */
  note(refusal: RefusedAct, time: Time, count = 1): void {
    // The key also contains the principal: auditors search for principals that were denied, and an anonymous caller cannot forge a principal.
    const key = `${refusal.reason} ${callerKey(refusal.caller)} ${refusal.caller.principal}`;
    const known = this.#pending.get(key);
    if (known !== undefined && time.monoMs - known.lastRecordMonoMs < SPACING_MS) {
      known.count += count;
      known.newest = refusal;
      return;
    }
    this.#sink.record(refusalEvent(refusal, (known?.count ?? 0) + count, time));
    this.#pending.delete(key);
    this.#pending.set(key, { lastRecordMonoMs: time.monoMs, count: 0, newest: refusal });
    if (this.#pending.size <= this.#maxKeys) return;
    const [oldest] = this.#pending;
    if (oldest !== undefined) this.#settle(oldest[0], oldest[1], time);
  }

  /** Records counted refusals one second after the caller's last record. An early or repeated call has no effect. */
  tick(time: Time): void {
    for (const [key, pending] of this.#pending) {
      if (time.monoMs - pending.lastRecordMonoMs < SPACING_MS) return;
      this.#settle(key, pending, time);
    }
  }

  /** Records all counted refusals because the log is being closed. */
  close(time: Time): void {
    for (const [key, pending] of this.#pending) this.#settle(key, pending, time);
  }

  nextDeadlineMs(): number {
    const [oldest] = this.#pending.values();
    return oldest === undefined ? NEVER : oldest.lastRecordMonoMs + SPACING_MS;
  }

  #settle(key: string, pending: PendingRefusals, time: Time): void {
    this.#pending.delete(key);
    if (pending.count === 0) return;
    this.#sink.record(refusalEvent(pending.newest, pending.count, time));
    // The next record is written at least a second after this one.
    if (this.#pending.size < this.#maxKeys) this.#pending.set(key, { ...pending, lastRecordMonoMs: time.monoMs, count: 0 });
  }
}

function refusalEvent({ caller, detail, ...act }: RefusedAct, count: number, time: Time): AuditEvent {
  const text = count === 1 ? detail : `${detail}; ${count} calls refused`;
  return accessEvent(caller, { ...act, outcome: "denied", rule: "", detail: text }, time);
}
