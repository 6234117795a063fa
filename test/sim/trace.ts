/** What happened, as a number that two runs of one seed must share, and in words when somebody asks for them. */
import { appendFileSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { World } from "./world.ts";

/** Where traces of failures go. */
export const TRACE_DIR = join(import.meta.dirname, "..", "..", ".cache", "sim");
/** Lines shown with a failure. */
const SHOWN_LINES = 60;
/** Lines held in memory before they go to the file. */
const BUFFERED_LINES = 5000;

export class Trace {
  readonly #world: World;
  /** Undefined: only the number is kept, which costs next to nothing. */
  readonly #file: string | undefined;
  #hash = 0x811c9dc5;
  #lines: string[] = [];
  #last: string[] = [];

  constructor(world: World, file?: string) {
    this.#world = world;
    this.#file = file;
    if (file === undefined) return;
    mkdirSync(TRACE_DIR, { recursive: true });
    writeFileSync(file, "");
  }

  get isOn(): boolean {
    return this.#file !== undefined;
  }

  get hash(): string {
    return (this.#hash >>> 0).toString(16).padStart(8, "0");
  }

  /** Adds an event to the hash. HOT: once an event. */
  mix(kind: number, who: number, what: number): void {
    let hash = this.#hash;
    hash = Math.imul(hash ^ ((this.#world.nowMs * 64) | 0), 0x01000193);
    hash = Math.imul(hash ^ (kind + who * 31), 0x01000193);
    this.#hash = Math.imul(hash ^ (what | 0), 0x01000193) ^ (hash >>> 15);
  }

  /** Writes a line for people. The line is made only when there is a file. */
  say(make: () => string): void {
    if (this.#file === undefined) return;
    this.#lines.push(`${(this.#world.nowMs / 1000).toFixed(3).padStart(9)} ${make()}`);
    if (this.#lines.length >= BUFFERED_LINES) this.flush();
  }

  flush(): void {
    if (this.#file === undefined || this.#lines.length === 0) return;
    appendFileSync(this.#file, `${this.#lines.join("\n")}\n`);
    this.#last = [...this.#last, ...this.#lines].slice(-SHOWN_LINES);
    this.#lines = [];
  }

  /** The newest lines, and the name of the file that has all of them. */
  tail(): string {
    this.flush();
    return this.#file === undefined ? "" : `${this.#last.join("\n")}\n(all of it: ${this.#file})`;
  }
}

/** Small whole numbers of texts, so that they can be mixed. */
export function numberOf(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash;
}
