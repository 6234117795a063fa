/** Audit records: what is kept of an act, its canonical bytes, and the hash chain that shows every later change (semantics.md, Policy). */
import { sha256 } from "../../lib/crypto.ts";

/** access: who asked for or wrote what; policy: who changed which rule; admin: what operates the node. */
export const AUDIT_KINDS = ["access", "policy", "admin"] as const;
export type AuditKind = (typeof AUDIT_KINDS)[number];
/** noted: something happened that nobody was to be allowed or denied. */
export const AUDIT_OUTCOMES = ["allowed", "denied", "noted"] as const;
export type AuditOutcome = (typeof AUDIT_OUTCOMES)[number];

/** One act. Texts may be empty; none may hold a secret: a caller is named by its principal, never by what it showed. */
export interface AuditEvent {
  readonly atWallMs: number;
  readonly kind: AuditKind;
  /** Who; empty for an anonymous caller. */
  readonly principal: string;
  readonly tenant: string;
  /** Address the call came from. */
  readonly source: string;
  /** `query`, `register`, `policy.apply`, … */
  readonly action: string;
  readonly namespace: string;
  readonly outcome: AuditOutcome;
  /** Of the verdict or error: `viewer_denied`, `rate_limited`, … */
  readonly reason: string;
  /** Pattern of the rule that decided. */
  readonly rule: string;
  /** Checksum before a change. */
  readonly before: string;
  /** Checksum after it. */
  readonly after: string;
  /** What else a person would ask: the reason given, the change ticket, counts. */
  readonly detail: string;
}

/** An event in its place in the chain. */
export interface AuditRecord extends AuditEvent {
  /** 1, 2, 3, …; never used twice by one log. */
  readonly number: number;
  /** SHA-256 of the hash before and of the canonical bytes. */
  readonly hash: Uint8Array;
  readonly previousHash: Uint8Array;
}

/** Where acts are told. */
export interface AuditSink {
  /** Never throws and never blocks; chained and on disk soon after. Above the queue's bound events are counted as lost. */
  record(event: AuditEvent): void;
  /** Resolves when everything recorded so far is on disk; rejects with `store_unavailable` when the disk refuses, the records still waiting. */
  durable(): Promise<void>;
}

/** Longest text of each field, in UTF-16 units after escaping; what is cut ends in an ellipsis. */
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
} as const;
/** Times beyond it are no dates. */
const MAX_DATE_MS = 8.64e15;
type TextField = keyof typeof MAX_LENGTHS;

// Control characters, line separators and what turns the reading direction: an audit line must be shown as it is.
// oxlint-disable-next-line no-control-regex -- they are what is looked for
const UNPRINTABLE = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/;
const EVERY_UNPRINTABLE = new RegExp(UNPRINTABLE.source, "g");

function boundText(text: string, maxLength: number): string {
  // Cut before it is escaped as well, so that the cost is bounded by what is kept.
  let bounded = text.length > maxLength ? text.slice(0, maxLength) : text;
  if (UNPRINTABLE.test(bounded)) {
    bounded = bounded.replaceAll(EVERY_UNPRINTABLE, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`);
  }
  // Half a surrogate pair has no bytes of its own: as it stands it would not be the same after a reading.
  if (text.length > maxLength || bounded.length > maxLength) bounded = `${bounded.slice(0, maxLength - 1)}…`;
  return bounded.isWellFormed() ? bounded : bounded.toWellFormed();
}

/** The event as it is kept: texts bounded, control characters escaped as `\u001b`. HOT: per audited call, 1 µs. */
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
  };
}

const VERSION = 1;
const LENGTH_BYTES = 4;
const FIELD_COUNT = 14;
export const HASH_BYTES = 32;
/** What the first record of a log follows. */
export const NO_HASH: Uint8Array = new Uint8Array(HASH_BYTES);

const ENCODER = new TextEncoder();
const DECODER = new TextDecoder("utf-8", { fatal: true });

/** The version, then each field as four bytes of length (big-endian) and UTF-8, in an order that never changes. */
export function canonicalBytes(number: number, event: AuditEvent): Uint8Array {
  const fields = [
    `${number}`,
    `${event.atWallMs}`,
    event.kind,
    event.principal,
    event.tenant,
    event.source,
    event.action,
    event.namespace,
    event.outcome,
    event.reason,
    event.rule,
    event.before,
    event.after,
    event.detail,
  ];
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

/** The number and event of canonical bytes; undefined when they are none. */
export function parseCanonical(bytes: Uint8Array): { readonly number: number; readonly event: AuditEvent } | undefined {
  const fields = splitFields(bytes);
  if (fields === undefined) return undefined;
  const [number = "", at = "", kind = "", principal = "", tenant = "", source = "", action = "", ...rest] = fields;
  const [namespace = "", outcome = "", reason = "", rule = "", before = "", after = "", detail = ""] = rest;
  const knownKind = AUDIT_KINDS.find((word) => word === kind);
  const knownOutcome = AUDIT_OUTCOMES.find((word) => word === outcome);
  const [parsed, atWallMs] = [Number(number), Number(at)];
  if (knownKind === undefined || knownOutcome === undefined || !Number.isSafeInteger(parsed) || !Number.isSafeInteger(atWallMs))
    return undefined;
  return {
    number: parsed,
    event: {
      atWallMs,
      kind: knownKind,
      principal,
      tenant,
      source,
      action,
      namespace,
      outcome: knownOutcome,
      reason,
      rule,
      before,
      after,
      detail,
    },
  };
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
    return undefined; // Cut off inside a length, or no UTF-8: not what was written.
  }
  return fields.length === FIELD_COUNT ? fields : undefined;
}

/** The hash of a record: over the hash before it and its canonical bytes. */
export function chainHash(previousHash: Uint8Array, canonical: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(HASH_BYTES + canonical.length);
  bytes.set(previousHash);
  bytes.set(canonical, HASH_BYTES);
  return sha256(bytes);
}

/** A place in the chain: before the oldest record that is kept (anchor), or at the newest (head). */
export interface ChainPoint {
  /** 0 before the first record. */
  readonly number: number;
  readonly hash: Uint8Array;
}

export const CHAIN_START: ChainPoint = { number: 0, hash: NO_HASH };

/** The next record of a chain, and its canonical bytes. The event is one that `boundEvent` made. */
export function chainEvent(event: AuditEvent, after: ChainPoint): { readonly record: AuditRecord; readonly canonical: Uint8Array } {
  const number = after.number + 1;
  const canonical = canonicalBytes(number, event);
  const hash = chainHash(after.hash, canonical);
  return { record: { ...event, number, hash, previousHash: after.hash }, canonical };
}
