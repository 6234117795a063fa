/** A bounded queue of audit events that are not on disk yet. It counts lost events and records the loss in the log itself. */

import { assert } from "../../lib/errors.ts";
import { counted } from "../../lib/text/visible-text.ts";
import { type AuditEvent, NODE_ACT } from "./record.ts";

/** The event that records the loss of other events, without its time and reason. */
export const LOSS = { ...NODE_ACT, action: "audit.lost" } as const;

/**
 * Maximum total length of the subjects of all queued events, in UTF-16 units. Without this limit, 10,000 events could have 1.5 GB of subjects.
 */
const MAX_SUBJECT_CHARS = 32 * 1024 * 1024;

/** Events in order. Only one batch, which contains the oldest events, is written at a time. Its events remain in the queue until they are on disk. */
export class AuditQueue {
  readonly #maxEvents: number;
  readonly #waiting: AuditEvent[] = [];
  #batch: readonly AuditEvent[] = [];
  /** Total length of the subjects of all events that are not written yet. */
  #subjectChars = 0;
  /** Number of events lost since the loss was last recorded. */
  #lostCount = 0;
  #lastWallMs = 0;
  /** Number of accepted events, including the events that record losses. */
  #takenCount = 0;
  #writtenCount = 0;

  constructor(maxEvents: number) {
    this.#maxEvents = maxEvents;
  }

  /** Number of events that are not written yet. */
  get pendingCount(): number {
    return this.#waiting.length + this.#batch.length;
  }

  /** Number of accepted events. All accepted events are on disk when `writtenCount` has reached this number. */
  get takenCount(): number {
    return this.#takenCount;
  }

  get writtenCount(): number {
    return this.#writtenCount;
  }

  /** Accepts an event. If the queue is full, drops the event and counts it as lost. */
  push(event: AuditEvent): "taken" | "lost" {
    this.#lastWallMs = event.atWallMs;
    this.#recordLoss();
    if (this.#isFullFor(event)) {
      this.#lostCount++;
      return "lost";
    }
    this.#add(event);
    return "taken";
  }

  /** Returns the oldest events, at most `maxEvents`. Repeated calls return the same events until these are written. */
  takeBatch(maxEvents: number): readonly AuditEvent[] {
    if (this.#batch.length === 0) {
      this.#recordLoss();
      this.#batch = this.#waiting.splice(0, maxEvents);
    }
    return this.#batch;
  }

  /** Removes the current batch after it has been written to disk. */
  batchWritten(): void {
    assert(this.#batch.length > 0, "no audit batch is being written");
    this.#writtenCount += this.#batch.length;
    for (const { subjects } of this.#batch) this.#subjectChars -= subjects.length;
    this.#batch = [];
    this.#recordLoss();
  }

  /** Records a loss as soon as there is room, and before all later events. */
  #recordLoss(): void {
    if (this.#lostCount === 0 || this.pendingCount >= this.#maxEvents) return;
    this.#add({ ...LOSS, atWallMs: this.#lastWallMs, reason: "audit_overflow", detail: `${counted(this.#lostCount, "event")} lost` });
    this.#lostCount = 0;
  }

  #isFullFor({ subjects }: AuditEvent): boolean {
    return this.pendingCount >= this.#maxEvents || this.#subjectChars + subjects.length > MAX_SUBJECT_CHARS;
  }

  #add(event: AuditEvent): void {
    this.#waiting.push(event);
    this.#subjectChars += event.subjects.length;
    this.#takenCount++;
  }
}
