/** What this cluster would say, and nobody would take: it is left out, and ends nothing. */
import { type KeyText, keyParts } from "../../catalog/record/record.ts";
import { WaymarkError } from "../../lib/errors.ts";

/** Keys of which the reason is known. Of more it is only counted that they were not said. */
const MAX_KEYS = 64;

/** A summary that was left out; of a beacon the name is that of its cluster. */
export interface UnsaidEvent {
  readonly namespace: string;
  readonly name: string;
  /** The field, and the rule that it breaks. */
  readonly why: string;
}

export class Unsaid {
  readonly #events = new Map<KeyText, UnsaidEvent>();
  readonly #news: UnsaidEvent[] = [];

  /** The text to sign; undefined if nobody would take it. */
  encoded(key: KeyText, encode: () => Uint8Array): Uint8Array | undefined {
    try {
      const text = encode();
      this.#events.delete(key);
      return text;
    } catch (error) {
      if (!(error instanceof WaymarkError)) throw error;
      this.#note(key, error.message);
      return undefined;
    }
  }

  #note(key: KeyText, why: string): void {
    // What is tried again for the same reason is no news.
    if (this.#events.has(key) || this.#events.size >= MAX_KEYS) return;
    const { namespace, name } = keyParts(key);
    this.#events.set(key, { namespace, name, why });
    this.#news.push({ namespace, name, why });
    if (this.#news.length > MAX_KEYS) this.#news.shift();
  }

  /** Those that are new since the last call. */
  take(): readonly UnsaidEvent[] {
    return this.#news.splice(0);
  }

  /** For people; empty when everything could be said. */
  get text(): string {
    const [first, ...others] = this.#events.values();
    if (first === undefined) return "";
    return `${first.namespace}/${first.name} cannot be exported: ${first.why}${others.length > 0 ? ` (and ${others.length} more)` : ""}`;
  }
}
