/** The disk of a simulated resolver: the copies of what it holds that its processes wrote, one after the other, and what of them a start finds. */
import { rethrowInvariant } from "../../../src/lib/errors.ts";
import type { Time } from "../../../src/lib/machine.ts";
import type { Rng } from "../../../src/lib/rng.ts";
import type { ResolverMachine } from "../../../src/resolver/machine.ts";

/** A copy that is whole, and what the world knew of the process when the last block was made. */
export interface WrittenCopy<Known> {
  readonly bytes: Uint8Array;
  readonly known: Known;
}

/** What a start finds. Without `known` it is of no use. */
export interface FoundCopy<Known> {
  readonly bytes: Uint8Array;
  readonly known: Known | undefined;
}

/**
 * What becomes of the copies between two processes. `clean`: the first process stops, and writes a last copy. `newest`: it is killed. `older`: a backup of the disk
 * is restored. `cut` and `changed`: the file is damaged. `other`: it is that of another resolver.
 */
export const COPY_USES = ["clean", "newest", "older", "cut", "changed", "other", "none"] as const;
export type CopyUse = (typeof COPY_USES)[number];

export class ResolverDisk<Known> {
  #copies: WrittenCopy<Known>[] = [];

  write(copy: WrittenCopy<Known>): void {
    this.#copies.push(copy);
  }

  get newest(): WrittenCopy<Known> | undefined {
    return this.#copies.at(-1);
  }

  /** What a start finds. `other`: the newest copy of another resolver. */
  find(use: CopyUse, rng: Rng, other: WrittenCopy<Known> | undefined): FoundCopy<Known> | undefined {
    const { newest } = this;
    if (use === "none" || newest === undefined) this.#copies = [];
    if (use === "none") return undefined;
    if (use === "other") return other && { bytes: other.bytes, known: undefined };
    if (use === "older") this.#copies = this.#copies.slice(0, 1);
    if (use !== "cut" && use !== "changed") return this.newest;
    if (newest === undefined) return undefined;
    const at = rng.int(newest.bytes.length);
    const bytes =
      use === "cut" ? newest.bytes.subarray(0, at) : newest.bytes.map((byte, i) => (i === at ? byte ^ (1 + rng.int(255)) : byte));
    return { bytes, known: undefined };
  }
}

export interface CopyWriterParts<Known> {
  readonly disk: ResolverDisk<Known>;
  readonly machine: Pick<ResolverMachine, "copy" | "copyMark">;
  readonly rng: Rng;
  /** Time between two looks, about. */
  readonly everyMs: number;
  readonly now: () => Time;
  /** What the world knows of the process now. */
  readonly known: () => Known;
  /** Runs it then, if the process still does. */
  readonly later: (ms: number, run: () => void) => void;
}

/** The most time between two blocks. */
const BLOCK_APART_MS = 30;

/** Writes a copy when something changed, as the product does, while the process goes on between two blocks. */
export class CopyWriter<Known> {
  readonly #parts: CopyWriterParts<Known>;
  #mark: string | undefined;

  constructor(parts: CopyWriterParts<Known>) {
    this.#parts = parts;
  }

  begin(): void {
    const { everyMs, rng, later } = this.#parts;
    later(everyMs * (0.5 + rng.next()), () => this.#look());
  }

  /** The process stops: a last copy. */
  stop(): void {
    if (this.#parts.machine.copyMark === undefined) return;
    const making = this.#make();
    while (making.next() === "more");
    making.write();
  }

  #look(): void {
    const mark = this.#parts.machine.copyMark;
    if (mark === undefined || mark === this.#mark) return this.begin();
    this.#step(mark, this.#make());
  }

  #step(mark: string, making: Making): void {
    const { later, rng } = this.#parts;
    later(1 + rng.int(BLOCK_APART_MS), () => {
      const next = making.next();
      if (next === "more") return this.#step(mark, making);
      if (next === "whole") {
        making.write();
        this.#mark = mark;
      }
      this.begin();
    });
  }

  #make(): Making {
    const { disk, machine, known, now } = this.#parts;
    const blocks: Uint8Array[] = [];
    let seen: Known | undefined;
    // The time is asked for when nothing may change any more.
    const making = machine.copy(() => {
      seen = known();
      return now();
    });
    return {
      next: () => {
        try {
          const step = making.next();
          if (step.done !== true) blocks.push(step.value);
          return step.done === true ? "whole" : "more";
        } catch (error) {
          // Too much changes: another one is made later.
          rethrowInvariant(error);
          return "failed";
        }
      },
      write: () => {
        if (seen !== undefined) disk.write({ bytes: Uint8Array.from(Buffer.concat(blocks)), known: seen });
      },
    };
  }
}

interface Making {
  next(): "more" | "whole" | "failed";
  write(): void;
}
