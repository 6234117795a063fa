/** Messages and bytes between nodes, of links and calls, by direction and kind: numbers for the metrics. */
import type { CallRequest, LinkFrame } from "../wire/messages.ts";

export type TrafficDirection = "sent" | "received";
export type TrafficKind = LinkFrame["kind"] | CallRequest["kind"];

export interface TrafficRow {
  readonly direction: TrafficDirection;
  readonly kind: TrafficKind;
  readonly frameCount: number;
  /** Encoded messages, without gRPC's and HTTP/2's frames around them. */
  readonly sizeBytes: number;
}

/** Counts only; one row for each direction and kind there was. */
export class WireTraffic {
  readonly #rows = new Map<string, { direction: TrafficDirection; kind: TrafficKind; frameCount: number; sizeBytes: number }>();

  count(direction: TrafficDirection, kind: TrafficKind, sizeBytes: number): void {
    const key = `${direction} ${kind}`;
    let row = this.#rows.get(key);
    if (row === undefined) {
      row = { direction, kind, frameCount: 0, sizeBytes: 0 };
      this.#rows.set(key, row);
    }
    row.frameCount += 1;
    row.sizeBytes += sizeBytes;
  }

  rows(): readonly TrafficRow[] {
    return [...this.#rows.values()];
  }
}
