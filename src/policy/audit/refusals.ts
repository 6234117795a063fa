/**
 * Refusals in the audit log: at most one record a second and caller, because a flood of refused calls must leave a trace and not a
 * second flood (semantics.md, Policy).
 */
import { NEVER, type Time } from "../../lib/machine.ts";
import type { Caller } from "../identity/caller.ts";
import { callerKey } from "../limits/rate-limits.ts";
import { type AuditEvent, type AuditSink, accessEvent } from "./record.ts";

/** Least time between two records of one caller. */
const SPACING_MS = 1000;

/** A refused act: a call over a limit, by an unknown caller, or without the role that it needs. */
export interface RefusedAct {
  readonly caller: Caller;
  readonly action: string;
  readonly namespace: string;
  readonly reason: string;
  /** Says more to a person; never holds the caller's credential. */
  readonly detail: string;
  /** The entries that the caller must not write. */
  readonly subjects?: string;
}

/** A caller's refusals since its last record. */
interface Pending {
  lastRecordMonoMs: number;
  /** Refusals that are not recorded yet. */
  count: number;
  newest: RefusedAct;
}

export class RefusalAudit {
  readonly #sink: Pick<AuditSink, "record">;
  readonly #maxKeys: number;
  /** In the order of each caller's last record. */
  readonly #pending = new Map<string, Pending>();

  /** With more than `maxKeys` refused callers within a second, the oldest is recorded early and forgotten. */
  constructor(sink: Pick<AuditSink, "record">, maxKeys: number) {
    this.#sink = sink;
    this.#maxKeys = maxKeys;
  }

  get size(): number {
    return this.#pending.size;
  }

  /** Records the first refusal of a caller at once, and counts those within the next second. `count`: of so many that were counted already. */
  note(refusal: RefusedAct, time: Time, count = 1): void {
    // By principal too: an auditor asks who was denied, and a stranger cannot invent principals.
    const key = `${refusal.reason} ${callerKey(refusal.caller)} ${refusal.caller.principal}`;
    const known = this.#pending.get(key);
    if (known !== undefined && time.monoMs - known.lastRecordMonoMs < SPACING_MS) {
      known.count += count;
      known.newest = refusal;
      return;
    }
    this.#sink.record(eventOf(refusal, (known?.count ?? 0) + count, time));
    this.#pending.delete(key);
    this.#pending.set(key, { lastRecordMonoMs: time.monoMs, count: 0, newest: refusal });
    if (this.#pending.size <= this.#maxKeys) return;
    const [oldest] = this.#pending;
    if (oldest !== undefined) this.#settle(oldest[0], oldest[1], time);
  }

  /** Records the refusals that were counted in seconds that are over. A tick that is early, or comes twice, changes nothing. */
  tick(time: Time): void {
    for (const [key, pending] of this.#pending) {
      if (time.monoMs - pending.lastRecordMonoMs < SPACING_MS) return;
      this.#settle(key, pending, time);
    }
  }

  /** Records all refusals that were counted, at the end. */
  close(time: Time): void {
    for (const [key, pending] of this.#pending) this.#settle(key, pending, time);
  }

  nextDeadlineMs(): number {
    const [oldest] = this.#pending.values();
    return oldest === undefined ? NEVER : oldest.lastRecordMonoMs + SPACING_MS;
  }

  #settle(key: string, pending: Pending, time: Time): void {
    this.#pending.delete(key);
    if (pending.count === 0) return;
    this.#sink.record(eventOf(pending.newest, pending.count, time));
    // The next record comes a second after this one at the earliest.
    if (this.#pending.size < this.#maxKeys) this.#pending.set(key, { ...pending, lastRecordMonoMs: time.monoMs, count: 0 });
  }
}

function eventOf({ caller, detail, ...act }: RefusedAct, count: number, time: Time): AuditEvent {
  const told = count === 1 ? detail : `${detail}; ${count} calls refused`;
  return accessEvent(caller, { ...act, outcome: "denied", rule: "", detail: told }, time);
}
