/** Versions of this cluster's own keys outside that are higher than any known here: the next ones go above them (docs/design/summaries.md, Taking). */
import type { KeyText } from "../../catalog/record/record.ts";
import { summaryKeyOf } from "../keys.ts";
import type { Exceed } from "./options.ts";

/** Keys of which a version is remembered, and orders that wait. The oldest goes. */
const MAX_ECHOES = 20_000;

export class Echoes {
  readonly #versions = new Map<KeyText, number>();
  #exceeds = new Map<KeyText, number>();

  /** 0 if none is known. */
  versionOf(key: KeyText): number {
    return this.#versions.get(key) ?? 0;
  }

  note(key: KeyText, version: number): void {
    remember(this.#versions, key, Math.max(version, this.versionOf(key)));
    this.order(key, version);
  }

  /** The exporter of the key must say it again, above this version. The order comes again with the next echo, until it does. */
  order(key: KeyText, version: number): void {
    remember(this.#exceeds, key, version);
  }

  /** The orders since the last call. */
  take(): readonly Exceed[] {
    if (this.#exceeds.size === 0) return [];
    const exceeds = [...this.#exceeds].map(([key, version]) => ({ key: summaryKeyOf(key), version }));
    this.#exceeds = new Map();
    return exceeds;
  }
}

function remember(map: Map<KeyText, number>, key: KeyText, version: number): void {
  map.delete(key);
  map.set(key, version);
  const [oldest] = map.keys();
  if (map.size > MAX_ECHOES && oldest !== undefined) map.delete(oldest);
}
