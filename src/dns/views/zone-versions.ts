import { sha256Hex } from "../../lib/crypto.ts";

/**
 * The versions of the zone, one count for each class of viewers: what SOA tells a secondary server (semantics.md, DNS). A change is noted for the
 * classes that see its namespace; a cut gives a new serial to those that have noted any, at most once a second.
 */
import { sha256Hex } from "../../lib/crypto.ts";

const SERIALS = 0x1_0000_0000;
/** Least time between two cuts. */
export const CUT_MS = 1000;
/** Most namespaces that are remembered to be seen by no class that is still to be cut, so that none is judged for each of its changes. */
const MAX_JUDGED = 4096;

/** Viewers that see the same. */
export interface ZoneClass {
  /** Names the class in the file, over restarts. */
  readonly key: string;
  readonly sees: (namespace: string) => boolean;
}

/** Serials by the key of the class. */
export type Serials = ReadonlyMap<string, number>;

/**
 * The serial after `last`: max(last + 1, seconds since 1970), where "max" and the wrap at 2^32 are those of serial arithmetic (RFC 1982). So it never goes
 * back, also when the clock was set back.
 */
export function nextSerial(last: number | undefined, wallMs: number): number {
  const seconds = Math.floor(wallMs / 1000) % SERIALS;
  if (last === undefined) return seconds;
  return isNewer(seconds, last) ? seconds : (last + 1) % SERIALS;
}

/** Whether a serial is newer than another one (RFC 1982, 3.2). */
export function isNewer(serial: number, than: number): boolean {
  return ((serial - than) | 0) > 0;
}

export interface ZoneVersionsOptions {
  /** The first one is that of anonymous viewers. */
  readonly classes: readonly ZoneClass[];
  /** What was kept before this start; empty if nothing was. */
  readonly kept: Serials;
  /** No serial before this start was newer than this; undefined if nothing is known of it. */
  readonly atLeast?: number | undefined;
  /** Where the serials that are told stand, by class. Other threads may read them there. */
  readonly told: Uint32Array;
}

export class ZoneVersions {
  readonly classes: readonly ZoneClass[];
  readonly #kept: Serials;
  readonly #told: Uint32Array;
  /** The last serials that were cut, by class. They are told once they are kept. */
  readonly #cut: number[];
  readonly #isNoted: boolean[];
  #unnotedCount = 0;
  readonly #judged = new Set<string>();
  #cutMonoMs = Number.NEGATIVE_INFINITY;

  /** A start cuts a version for every class: what changed before it was perhaps not kept. Nothing is told before `tell`. */
  constructor({ classes, kept, atLeast, told }: ZoneVersionsOptions, wallMs: number) {
    this.classes = classes;
    this.#kept = kept;
    this.#told = told;
    // A class that is new may be an old one under another name, so it begins above all.
    const highest = [...kept.values()].reduce<number | undefined>((most, each) => newest(most, each), atLeast);
    this.#cut = classes.map(({ key }) => nextSerial(newest(kept.get(key) ?? highest, atLeast), wallMs));
    this.#isNoted = classes.map(() => false);
    this.#unnotedCount = classes.length;
  }

  /** Something in this namespace changed. Cost: a verdict for each class that has noted nothing yet, once a cut. */
  noteChange(namespace: string): void {
    if (this.#unnotedCount === 0 || this.#judged.has(namespace)) return;
    for (const [index, { sees }] of this.classes.entries()) if (!this.#isNoted[index] && sees(namespace)) this.noteFor(index);
    if (this.#judged.size >= MAX_JUDGED) this.#judged.clear();
    this.#judged.add(namespace);
  }

  /** Something changed that this class sees. */
  noteFor(index: number): void {
    if (this.#isNoted[index] !== false) return;
    this.#isNoted[index] = true;
    this.#unnotedCount -= 1;
  }

  /** What may have changed is not known. */
  noteEverything(): void {
    for (const index of this.classes.keys()) this.noteFor(index);
  }

  /** What classes see has changed, so that namespaces must be judged anew. */
  forgetVerdicts(): void {
    this.#judged.clear();
  }

  /** Whether every class has noted something, so that a further change adds nothing. */
  get isAllNoted(): boolean {
    return this.#unnotedCount === 0;
  }

  /** Cuts a version for the classes that have noted something. Returns the serials to keep; undefined when no class has, or a cut is less than a second ago. */
  cut(time: { readonly monoMs: number; readonly wallMs: number }): Serials | undefined {
    this.#judged.clear();
    if (this.#unnotedCount === this.classes.length || time.monoMs - this.#cutMonoMs < CUT_MS) return undefined;
    this.#cutMonoMs = time.monoMs;
    for (const [index, last] of this.#cut.entries()) {
      if (!this.#isNoted[index]) continue;
      this.#cut[index] = nextSerial(last, time.wallMs);
      this.#isNoted[index] = false;
    }
    this.#unnotedCount = this.classes.length;
    return this.serials;
  }

  /** The last serials that were cut, and those of classes from before this start. */
  get serials(): Serials {
    const serials = new Map(this.#kept);
    for (const [index, { key }] of this.classes.entries()) {
      // Those in use come last, because a file has room for the last ones.
      serials.delete(key);
      serials.set(key, this.#cut[index] ?? 0);
    }
    return serials;
  }

  /** Tells the last serials that were cut. */
  tell(): void {
    for (const [index, serial] of this.#cut.entries()) Atomics.store(this.#told, index, serial);
  }
}

function newest(one: number | undefined, other: number | undefined): number | undefined {
  if (one === undefined || other === undefined) return one ?? other;
  return isNewer(one, other) ? one : other;
}

// The file with the serials of the zone, so that they do not go back at a restart: one line of JSON with a checksum.

/** Most serials in a file: those of all views, and of some that there were. */
const MAX_SERIALS = 256;
/** The largest file. A key has four ids of at most 128 characters. */
export const MAX_ZONE_FILE_BYTES = 1 << 20;
const FORMAT = 1;

/** The content of the file. Of more serials than it has room for, the last ones are kept. */
export function writeZoneFile(serials: Serials): Uint8Array {
  const body = JSON.stringify([...serials].slice(-MAX_SERIALS));
  return new TextEncoder().encode(`${JSON.stringify({ format: FORMAT, sum: sha256Hex(body) })}\n${body}\n`);
}

/** The serials of a file. Undefined for anything else, also where one byte differs. */
export function readZoneFile(bytes: Uint8Array): Serials | undefined {
  const [head, body, end] = new TextDecoder().decode(bytes).split("\n");
  if (head === undefined || body === undefined || end !== "") return undefined;
  if (head !== JSON.stringify({ format: FORMAT, sum: sha256Hex(body) })) return undefined;
  const pairs: unknown = JSON.parse(body);
  if (!Array.isArray(pairs)) return undefined;
  const serials = new Map<string, number>();
  for (const pair of pairs) {
    const items: readonly unknown[] = Array.isArray(pair) ? pair : [];
    const [key, serial] = items;
    if (typeof key !== "string" || typeof serial !== "number" || serial !== serial >>> 0) return undefined;
    serials.set(key, serial);
  }
  return serials;
}
