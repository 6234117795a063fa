/** What one link knows of one origin at its peer: where it stands, what was sent, what it asked for. */
import type { Origin } from "../../catalog/record/stored-record.ts";
import type { Frame } from "../../catalog/replica/frames.ts";
import type { Time } from "../../lib/machine.ts";
import type { VectorEntry } from "../wire/messages.ts";
import type { ReplicationOptions } from "./options.ts";

type AskBounds = Pick<ReplicationOptions, "fetchTimeoutMs" | "fetchMaxWaitMs"> & Pick<Time, "monoMs">;

/** Questions for the same before the answer is what there is. */
const PATIENCE = 3;

export class OriginProgress {
  /** As the peer's last vector said. */
  told = 0;
  /** The peer refused records of it, passes none on, and has heard of its changes up to here; 0: not so. */
  lackingThrough = 0;
  /** Of one of which the peer refused records: it is of another cluster than the peer, as that says. */
  isOfOtherCluster = false;
  /** As our last vector said, and whether one has called it by its name. */
  said = 0;
  isNamed = false;
  /** The peer told of it by its short hash, so it may be asked so. */
  isShort = false;
  /** Until when the peer was last known to have all that this origin wrote, by this node's clock. */
  provenMonoMs = Number.NEGATIVE_INFINITY;
  /** Known to be there, or sent on this link in order: the next frame starts here. */
  at = 0;
  /** It asked, and has not been given all of it yet. */
  isAsked = false;
  /** A frame of it was not to be taken here: it is not asked for on this link before that. */
  refusedUntilMonoMs = Number.NEGATIVE_INFINITY;
  /** The peer named numbers that it never wrote: nothing of it is taken over this link before that. */
  disbelievedUntilMonoMs = Number.NEGATIVE_INFINITY;
  /** A whole transfer: where it stands, and the origin's number and when it began. */
  #transfer: { after: number; readonly startThrough: number } | undefined;
  #isWholeWanted = false;
  #askSeq = -1;
  #askMonoMs = 0;
  #askCount = 0;

  /** The peer named more than there can be: nothing is taken of it, nor asked for, for a while. */
  disbelieve(untilMonoMs: number): void {
    this.disbelievedUntilMonoMs = untilMonoMs;
    this.refusedUntilMonoMs = untilMonoMs;
  }

  /** It does not any more. */
  believe(): void {
    if (this.isDisbelieved) this.disbelieve(Number.NEGATIVE_INFINITY);
  }

  /** The peer names still what it was not believed. */
  get isDisbelieved(): boolean {
    return this.disbelievedUntilMonoMs !== Number.NEGATIVE_INFINITY;
  }

  /** A whole transfer is under way, or was asked for in vain: it is not to wait for better. */
  get isPressing(): boolean {
    return this.#transfer !== undefined || this.#askCount >= PATIENCE;
  }

  get isInTransfer(): boolean {
    return this.#transfer !== undefined;
  }

  /** The peer has everything up to there. */
  reached(seq: number): void {
    this.at = Math.max(this.at, seq);
  }

  /**
   * The peer asks for what comes after `entry.seq`. A peer that asks for the same again and again is given it at ever longer
   * intervals: it may lie.
   */
  asked(entry: VectorEntry, origin: Origin, { monoMs, fetchTimeoutMs, fetchMaxWaitMs }: AskBounds): "taken" | "too_often" {
    const isProgress = entry.seq > this.#askSeq;
    if (!isProgress && monoMs < this.#askMonoMs) return "too_often";
    this.#askCount = isProgress ? 0 : this.#askCount + 1;
    this.#askMonoMs = monoMs + Math.min(fetchMaxWaitMs, (fetchTimeoutMs / 4) * 2 ** this.#askCount);
    this.#askSeq = entry.seq;
    this.at = entry.seq;
    this.isAsked = true;
    this.#transfer = undefined;
    this.#isWholeWanted = entry.floor > entry.seq;
    if (!this.#isWholeWanted && this.at >= origin.through) this.isAsked = false;
    return "taken";
  }

  /** Where the next frame starts. */
  from(origin: Origin): { readonly after: number; readonly isComplete: boolean } {
    // What was listed since the transfer began may be gone, and its tombstone collected: it starts again.
    if (this.#transfer !== undefined && origin.floor > this.#transfer.startThrough) this.#transfer = undefined;
    else if (this.#transfer !== undefined) return { after: this.#transfer.after, isComplete: true };
    else return this.#isWholeWanted ? { after: 0, isComplete: true } : { after: this.at, isComplete: false };
    return { after: 0, isComplete: true };
  }

  /** The frame that starts there is on its way; `upTo` is what there is to send now. */
  sent(frame: Frame, origin: Origin, upTo: number): void {
    this.#isWholeWanted = false;
    if (frame.isComplete && !frame.isLast) {
      this.#transfer = { after: frame.through, startThrough: this.#transfer?.startThrough ?? origin.through };
      return;
    }
    this.#transfer = undefined;
    this.at = Math.max(this.at, frame.through);
    if (this.at >= upTo) this.isAsked = false;
  }
}
