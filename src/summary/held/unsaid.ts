/** What this cluster would say, and nobody would take: it is left out, and ends nothing. */
import { type KeyText, keyParts } from "../../catalog/record/record.ts";
import { WaymarkError } from "../../lib/errors.ts";
import type { Time } from "../../lib/machine.ts";

/** Keys of which the reason is known. Of more it is only counted that they were not said. */
const MAX_KEYS = 64;
/** What was not tried for so long is gone, or another node exports it now: the builder tries once a minute what is not held. */
const FORGET_MS = 150_000;

/** A summary that was left out; of a beacon the name is that of its cluster. */
export interface UnsaidEvent {
  readonly namespace: string;
  readonly name: string;
  /** The field, and the rule that it breaks. */
  readonly why: string;
}

interface Tried extends UnsaidEvent {
  readonly triedMonoMs: number;
}

export class Unsaid {
  /** The one that was tried longest ago is the first. */
  readonly #events = new Map<KeyText, Tried>();
  readonly #news: UnsaidEvent[] = [];

  /** The text to sign; undefined if nobody would take it. */
  encoded(key: KeyText, encode: () => Uint8Array, time: Time): Uint8Array | undefined {
    try {
      const text = encode();
      this.#events.delete(key);
      return text;
    } catch (error) {
      if (!(error instanceof WaymarkError)) throw error;
      this.#note(key, error.message, time);
      return undefined;
    }
  }

  #note(key: KeyText, why: string, { monoMs }: Time): void {
    this.#forget(monoMs);
    const known = this.#events.get(key);
    if (known === undefined && this.#events.size >= MAX_KEYS) return;
    const { namespace, name } = keyParts(key);
    this.#events.delete(key);
    this.#events.set(key, { namespace, name, why, triedMonoMs: monoMs });
    // What is tried again is no news.
    if (known !== undefined) return;
    this.#news.push({ namespace, name, why });
    if (this.#news.length > MAX_KEYS) this.#news.shift();
  }

  /** Those that are new since the last call. */
  take(): readonly UnsaidEvent[] {
    return this.#news.splice(0);
  }

  #forget(monoMs: number): void {
    for (const [key, event] of this.#events) {
      if (isTried(event, monoMs)) return;
      this.#events.delete(key);
    }
  }

  /** For people; empty when everything could be said. */
  textAt({ monoMs }: Time): string {
    const [first, ...others] = this.#events.values().filter((event) => isTried(event, monoMs));
    if (first === undefined) return "";
    return `${first.namespace}/${first.name} cannot be exported: ${first.why}${others.length > 0 ? ` (and ${others.length} more)` : ""}`;
  }
}

function isTried({ triedMonoMs }: Tried, monoMs: number): boolean {
  return monoMs - triedMonoMs < FORGET_MS;
}
