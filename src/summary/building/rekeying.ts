/** When what is held is said again because the cluster signs with another key now (docs/design/summaries.md, Changing a key). */
import type { Time } from "../../lib/machine.ts";
import type { Sent } from "./drafts.ts";

/**
 * What another exporter signed waits for so long after exporters last changed. That doubles each time, so that two exporters with different keys, of which
 * one comes and goes, do not sign all again in turn.
 */
const CALM_MS = 60_000;
const MAX_CALM_MS = 3_600_000;

export class Rekeying {
  readonly #nodeId: string;
  readonly #holdDownMs: number;
  #keyId: string;
  #calmMs = CALM_MS;
  #isHandedOver = false;
  #handedOverMonoMs = Number.NEGATIVE_INFINITY;
  /** Something of another exporter was signed again since exporters changed. */
  #hasTakenOver = false;

  constructor({ nodeId, holdDownMs }: { readonly nodeId: string; readonly holdDownMs: number }, keyId: string) {
    this.#nodeId = nodeId;
    this.#holdDownMs = holdDownMs;
    this.#keyId = keyId;
  }

  /** Other nodes export than before. */
  handedOver(): void {
    this.#isHandedOver = true;
  }

  /** A tick begins. Returns whether this node has another key than before. */
  begin(keyId: string, { monoMs }: Time): boolean {
    const isChanged = keyId !== this.#keyId;
    if (isChanged) this.#calmMs = CALM_MS;
    else if (this.#isHandedOver && this.#hasTakenOver) this.#calmMs = Math.min(this.#calmMs * 2, MAX_CALM_MS);
    if (this.#isHandedOver || isChanged) this.#hasTakenOver = false;
    if (this.#isHandedOver) this.#handedOverMonoMs = monoMs;
    this.#isHandedOver = false;
    this.#keyId = keyId;
    return isChanged;
  }

  /** Whether this is the key that this node had in its last tick. */
  isWith(keyId: string): boolean {
    return keyId === this.#keyId;
  }

  /** When it is to be said again. */
  dueMonoMs({ exporter }: Sent, sentMonoMs: number): number {
    return exporter === this.#nodeId ? sentMonoMs + this.#holdDownMs : Math.max(sentMonoMs, this.#handedOverMonoMs) + this.#calmMs;
  }

  done({ exporter }: Sent): void {
    if (exporter !== this.#nodeId) this.#hasTakenOver = true;
  }
}
