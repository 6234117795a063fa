/** When people are told that no live node of the cluster exports summaries, and that one does again. */
import type { Time } from "../../../lib/machine.ts";

/** So many nodes export: none for long, or some again. `standing`: what this node says of itself. */
export interface ExporterNews {
  readonly exporterCount: number;
  readonly standing: string;
}

/** A cluster without an exporter for so long is told of. Nodes that start one after the other need some of it. */
const LACK_MS = 60_000;

export class ExporterLack {
  #sinceMonoMs: number | undefined;
  #isTold = false;

  /** Takes how many export now, and returns whether that is to be told. To be called each second, or more often. */
  judge(exporterCount: number, { monoMs }: Time): boolean {
    if (exporterCount !== 0) {
      const wasTold = this.#isTold;
      this.#sinceMonoMs = undefined;
      this.#isTold = false;
      return wasTold;
    }
    this.#sinceMonoMs ??= monoMs;
    if (this.#isTold || monoMs - this.#sinceMonoMs < LACK_MS) return false;
    this.#isTold = true;
    return true;
  }
}
