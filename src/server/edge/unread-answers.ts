/**
 * Answers that clients have not read yet, across all connections of the edge. A budget bounds their bytes, and each answer must make progress in time.
 * A client that reads nothing therefore costs at most an open connection and a part of this budget, whatever it requests.
 */

export interface UnreadLimits {
  /** Maximum bytes of unread answers. When it is exceeded, the answer that has waited longest is cut. */
  readonly maxUnreadBytes: number;
  /** An answer is cut if its client reads nothing of it for this time. */
  readonly progressTimeoutMs: number;
}

/** An answer, or a part of an answer, that its client has not read yet. */
export interface UnreadAnswer {
  /** The client read these bytes. */
  progress(sizeBytes: number): void;
  /** The client read everything, or the answer was given up. */
  end(): void;
}

interface PendingAnswer {
  leftBytes: number;
  sinceMs: number;
  readonly address: string;
  readonly cut: () => void;
}

export interface UnreadPorts {
  /** Patient ms. */
  readonly nowMs: () => number;
  /** An answer to this address was cut. */
  readonly onCut: (address: string) => void;
}

export class UnreadAnswers {
  readonly #limits: UnreadLimits;
  readonly #ports: UnreadPorts;
  /** In the order of their last progress: the first has waited longest. */
  readonly #waiting = new Set<PendingAnswer>();
  #bytes = 0;

  constructor(limits: UnreadLimits, ports: UnreadPorts) {
    this.#limits = limits;
    this.#ports = ports;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Adds an unread answer for the client at this address. `cut` ends the answer: it is called at most once, and not after `end`. */
  add(sizeBytes: number, address: string, cut: () => void): UnreadAnswer {
    const waiting: PendingAnswer = { leftBytes: sizeBytes, sinceMs: this.#ports.nowMs(), address, cut };
    this.#waiting.add(waiting);
    this.#bytes += sizeBytes;
    for (const first of this.#waiting) {
      if (this.#bytes <= this.#limits.maxUnreadBytes || first === waiting) break;
      this.#cut(first);
    }
    return { progress: (readBytes) => this.#progress(waiting, readBytes), end: () => this.#remove(waiting) };
  }

  /** Cuts the answers that made no progress in time. `dueMs`: patient ms up to which deadlines are due. */
  check(dueMs: number): void {
    for (const waiting of this.#waiting) {
      if (dueMs - waiting.sinceMs < this.#limits.progressTimeoutMs) return;
      this.#cut(waiting);
    }
  }

  #progress(waiting: PendingAnswer, sizeBytes: number): void {
    if (!this.#waiting.delete(waiting)) return;
    this.#waiting.add(waiting);
    waiting.sinceMs = this.#ports.nowMs();
    waiting.leftBytes -= sizeBytes;
    this.#bytes -= sizeBytes;
  }

  #cut(waiting: PendingAnswer): void {
    this.#remove(waiting);
    this.#ports.onCut(waiting.address);
    waiting.cut();
  }

  #remove(waiting: PendingAnswer): void {
    if (this.#waiting.delete(waiting)) this.#bytes -= waiting.leftBytes;
  }
}
