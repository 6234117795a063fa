/** Versions of this cluster's own keys outside that are higher than any known here: the next ones go above them (docs/design/summaries.md, Taking). */
import type { KeyText } from "../../catalog/record/record.ts";
import { summaryKeyOf } from "../keys.ts";
import type { Exceed } from "./options.ts";

/** Keys of which a version is remembered, and orders that wait. The oldest goes. */
const MAX_ECHOES = 20_000;

export class Echoes {
  readonly #versions = new Map<KeyText, number>();
  #exceeds: Exceed[] = [];

  /** 0 if none is known. */
  versionOf(key: KeyText): number {
    return this.#versions.get(key) ?? 0;
  }

  note(key: KeyText, version: number): void {
    this.#versions.delete(key);
    this.#versions.set(key, version);
    const [oldest] = this.#versions.keys();
    if (this.#versions.size > MAX_ECHOES && oldest !== undefined) this.#versions.delete(oldest);
    this.order(key, version);
  }

  /** The exporter of the key must say it again, above this version. */
  order(key: KeyText, version: number): void {
    if (this.#exceeds.length < MAX_ECHOES) this.#exceeds.push({ key: summaryKeyOf(key), version });
  }

  /** The orders since the last call. */
  take(): readonly Exceed[] {
    const exceeds = this.#exceeds;
    if (exceeds.length > 0) this.#exceeds = [];
    return exceeds;
  }
}
