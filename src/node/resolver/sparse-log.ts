/** Limits log lines that peers can cause at will to one line per minute for each kind and server. The line includes the number of lines left out. */
import { MINUTE_MS } from "../../lib/duration.ts";

export interface SparseFields {
  readonly upstream: string;
  readonly detail: string;
}

interface LineState {
  readonly atMonoMs: number;
  leftOutCount: number;
}

/** Maximum number of remembered pairs of kind and server. If there are more, all pairs are forgotten, so some lines are logged early. */
const MAX_LINES = 1000;

export class SparseLog {
  readonly #write: (fields: SparseFields & { readonly left_out?: number }, message: string) => void;
  readonly #lines = new Map<string, LineState>();

  constructor(write: (fields: SparseFields & { readonly left_out?: number }, message: string) => void) {
    this.#write = write;
  }

  warn(fields: SparseFields, message: string, monoMs: number): void {
    const key = `${fields.upstream} ${message}`;
    const last = this.#lines.get(key);
    if (last !== undefined && monoMs - last.atMonoMs < MINUTE_MS) {
      last.leftOutCount += 1;
      return;
    }
    if (this.#lines.size >= MAX_LINES) this.#lines.clear();
    this.#lines.set(key, { atMonoMs: monoMs, leftOutCount: 0 });
    const leftOut = last?.leftOutCount ?? 0;
    this.#write(leftOut === 0 ? fields : { ...fields, left_out: leftOut }, message);
  }
}
