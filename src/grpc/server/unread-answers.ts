/**
 * Limits the answers that clients have not read yet, across all connections of a listener. A budget limits their bytes, and each holder must make
 * progress in time. A client that does not read therefore uses at most an open connection and part of this budget, regardless of its requests.
 * When the budget is exceeded, the holder with the largest product is cut. The product is the number of unread bytes of all holders in its network,
 * multiplied by the time since its client last read any data (at least 1 s). If two products are equal, the holder with more unread bytes is cut. A
 * client that reads slowly is therefore kept while another client has more unread bytes, in few large or many small answers, or does not read at all.
 */
import { networkOf } from "../../lib/addresses.ts";

export interface UnreadLimits {
  /** Maximum number of unread answer bytes over all connections. */
  readonly maxUnreadBytes: number;
  /** A holder is cut if its client does not read any data for this time. */
  readonly progressTimeoutMs: number;
}

/** A holder of unread bytes: an answer, part of an answer, or a connection with all its answers. */
export interface UnreadAnswer {
  /** Reports additional bytes that the client must read. */
  grow(sizeBytes: number): void;
  /** Reports that the client has read this number of bytes, or 0 if it is not known yet which answer it has read. */
  progress(sizeBytes: number): void;
  /** Reports that the client has read all bytes or that the answer was aborted. */
  end(): void;
}

/** All holders in one network. */
interface UnreadNetwork {
  bytes: number;
  holderCount: number;
}

interface UnreadHolder {
  leftBytes: number;
  sinceMs: number;
  isEnded: boolean;
  readonly address: string;
  readonly network: UnreadNetwork;
  readonly cut: () => void;
}

export interface UnreadPorts {
  /** Stall-aware ms. */
  readonly nowMs: () => number;
  /** Called when a holder for this address was cut. */
  readonly onCut?: (address: string) => void;
}

/** If a client has read any data within this time, it is treated as reading now, because a slow client does not read every ms. */
const READING_MS = 1_000;

export class UnreadAnswers {
  readonly #limits: UnreadLimits;
  readonly #ports: UnreadPorts;
  /** Holders with unread bytes, in the order of their last progress. The first holder has waited longest. */
  readonly #waiting = new Set<UnreadHolder>();
  readonly #networks = new Map<string, UnreadNetwork>();
  #bytes = 0;

  constructor(limits: UnreadLimits, ports: UnreadPorts) {
    this.#limits = limits;
    this.#ports = ports;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Adds an unread answer for the client at this address. See `open`. */
  add(sizeBytes: number, address: string, cut: () => void): UnreadAnswer {
    const answer = this.open(address, cut);
    answer.grow(sizeBytes);
    return answer;
  }

  /** Adds a holder without unread bytes. `cut` ends the holder. It is called at most once, and never after `end`. */
  open(address: string, cut: () => void): UnreadAnswer {
    const key = networkOf(address);
    const network = this.#networks.get(key) ?? { bytes: 0, holderCount: 0 };
    this.#networks.set(key, network);
    network.holderCount += 1;
    const holder: UnreadHolder = { leftBytes: 0, sinceMs: 0, isEnded: false, address, network, cut };
    return {
      grow: (sizeBytes) => this.#grow(holder, sizeBytes),
      progress: (sizeBytes) => this.#progress(holder, sizeBytes),
      end: () => this.#end(holder),
    };
  }

  /** Cuts the holders that have not made progress in time. `dueMs`: stall-aware ms up to which deadlines are due. */
  check(dueMs: number): void {
    for (const holder of this.#waiting) {
      if (dueMs - holder.sinceMs < this.#limits.progressTimeoutMs) return;
      this.#cut(holder);
    }
  }

  // HOT: once per gRPC call.
  #grow(holder: UnreadHolder, sizeBytes: number): void {
    if (holder.isEnded) return;
    if (holder.leftBytes === 0) this.#wait(holder);
    this.#resize(holder, sizeBytes);
    while (this.#bytes > this.#limits.maxUnreadBytes && this.#waiting.size > 1) this.#cut(this.#heaviest(holder));
  }

  // HOT: once per gRPC call.
  #progress(holder: UnreadHolder, sizeBytes: number): void {
    if (!this.#waiting.delete(holder)) return;
    this.#resize(holder, -sizeBytes);
    if (holder.leftBytes > 0) this.#wait(holder);
  }

  #wait(holder: UnreadHolder): void {
    holder.sinceMs = this.#ports.nowMs();
    this.#waiting.add(holder);
  }

  #resize(holder: UnreadHolder, sizeBytes: number): void {
    holder.leftBytes += sizeBytes;
    holder.network.bytes += sizeBytes;
    this.#bytes += sizeBytes;
  }

  /** Returns the holder with the largest product. Cost: O(waiting holders). */
  #heaviest(first: UnreadHolder): UnreadHolder {
    const nowMs = this.#ports.nowMs();
    let [heaviest, most] = [first, 0];
    for (const holder of this.#waiting) {
      const weight = holder.network.bytes * Math.max(nowMs - holder.sinceMs, READING_MS);
      if (weight < most || (weight === most && holder.leftBytes <= heaviest.leftBytes)) continue;
      [heaviest, most] = [holder, weight];
    }
    return heaviest;
  }

  #cut(holder: UnreadHolder): void {
    this.#end(holder);
    this.#ports.onCut?.(holder.address);
    holder.cut();
  }

  #end(holder: UnreadHolder): void {
    if (holder.isEnded) return;
    holder.isEnded = true;
    this.#waiting.delete(holder);
    this.#resize(holder, -holder.leftBytes);
    holder.network.holderCount -= 1;
    if (holder.network.holderCount === 0) this.#networks.delete(networkOf(holder.address));
  }
}
