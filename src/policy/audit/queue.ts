/** Audit events on their way to the disk: a bounded queue that counts what it loses and says so in the log itself. */
import { assert } from "../../lib/errors.ts";
import type { AuditEvent } from "./record.ts";

/** What stands in the log for events that were lost, but for when and why. */
export const LOSS = {
  kind: "admin",
  principal: "",
  tenant: "",
  source: "",
  action: "audit.lost",
  namespace: "",
  outcome: "noted",
  rule: "",
  before: "",
  after: "",
} as const satisfies Partial<AuditEvent>;

/** Events in order; a batch of the oldest is on its way at a time and stays here until it is written. */
export class AuditQueue {
  readonly #maxEvents: number;
  readonly #waiting: AuditEvent[] = [];
  #batch: readonly AuditEvent[] = [];
  /** Lost since the last record that says so. */
  #lostCount = 0;
  #lastWallMs = 0;
  /** Events taken so far, and those of them that were written. */
  #takenCount = 0;
  #writtenCount = 0;

  constructor(maxEvents: number) {
    this.#maxEvents = maxEvents;
  }

  /** Events that are not written yet. */
  get pendingCount(): number {
    return this.#waiting.length + this.#batch.length;
  }

  /** How many events there were when everything so far is written, losses told included. */
  get takenCount(): number {
    return this.#takenCount;
  }

  get writtenCount(): number {
    return this.#writtenCount;
  }

  /** Takes an event, or loses it when the queue is full. */
  push(event: AuditEvent): "taken" | "lost" {
    this.#lastWallMs = event.atWallMs;
    this.#tellLoss();
    if (this.pendingCount >= this.#maxEvents) {
      this.#lostCount++;
      return "lost";
    }
    this.#add(event);
    return "taken";
  }

  /** The oldest events, at most `maxEvents`; the same ones again until they are written. */
  takeBatch(maxEvents: number): readonly AuditEvent[] {
    if (this.#batch.length === 0) {
      this.#tellLoss();
      this.#batch = this.#waiting.splice(0, maxEvents);
    }
    return this.#batch;
  }

  /** The batch is on disk. */
  batchWritten(): void {
    assert(this.#batch.length > 0, "no audit batch was on its way");
    this.#writtenCount += this.#batch.length;
    this.#batch = [];
    this.#tellLoss();
  }

  /** As soon as there is room, and before anything that came later. */
  #tellLoss(): void {
    if (this.#lostCount === 0 || this.pendingCount >= this.#maxEvents) return;
    this.#add({ ...LOSS, atWallMs: this.#lastWallMs, reason: "audit_overflow", detail: `${this.#lostCount} events lost` });
    this.#lostCount = 0;
  }

  #add(event: AuditEvent): void {
    this.#waiting.push(event);
    this.#takenCount++;
  }
}

/** Every so many-th allowed read is audited. */
export class ReadSample {
  readonly #oneInReads: number;
  #reads = 0;

  /** 0: none. */
  constructor(oneInReads: number) {
    this.#oneInReads = oneInReads;
  }

  /** Whether this read is one to record. HOT: per read. */
  take(): boolean {
    if (this.#oneInReads === 0) return false;
    this.#reads++;
    if (this.#reads < this.#oneInReads) return false;
    this.#reads = 0;
    return true;
  }
}
