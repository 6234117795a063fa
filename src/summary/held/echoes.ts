/** Versions of this cluster's own keys outside that are higher than any known here: the next ones go above them (docs/design/summaries.md, Taking). */

import type { KeyText } from "../../catalog/record/record.ts";
import { BoundedMap } from "../../lib/bounded-map.ts";
import { summaryKeyOf } from "../keys.ts";
import type { Exceed } from "./options.ts";

/** Keys of which a version is remembered, and orders that wait. The oldest goes. */
const MAX_ECHOES = 20_000;

interface Echo {
  readonly version: number;
  /** Of a summary; 0 of a beacon. */
  readonly tag: bigint;
  /** Of the key that signed it. */
  readonly keyId: string;
}

export class Echoes {
  readonly #versions = new BoundedMap<KeyText, Echo>(MAX_ECHOES);
  readonly #exceeds = new BoundedMap<KeyText, number>(MAX_ECHOES);

  /** 0 if none is known. */
  versionOf(key: KeyText): number {
    return this.#versions.get(key)?.version ?? 0;
  }

  /** The tag under which others know the key. */
  tagOf(key: KeyText): bigint | undefined {
    return this.#versions.get(key)?.tag;
  }

  note(key: KeyText, { version, tag, keyId }: Echo): void {
    if (version > this.versionOf(key)) this.#versions.set(key, { version, tag, keyId });
    this.order(key, version);
  }

  /** Keys of this cluster count no more, so nothing need be above what they signed. */
  distrust(isGone: (keyId: string) => boolean): void {
    for (const [key, { keyId }] of this.#versions) if (isGone(keyId)) this.#versions.delete(key);
  }

  /** The exporter of the key must say it again, above this version. The order comes again with the next echo, until it does. */
  order(key: KeyText, version: number): void {
    this.#exceeds.set(key, version);
  }

  /** The orders since the last call. */
  take(): readonly Exceed[] {
    if (this.#exceeds.size === 0) return [];
    const exceeds = [...this.#exceeds].map(([key, version]) => ({ key: summaryKeyOf(key), version }));
    this.#exceeds.clear();
    return exceeds;
  }
}
