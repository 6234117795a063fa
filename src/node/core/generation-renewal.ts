/**
 * A new generation while the process runs. It is needed when other nodes know more of the old one than this node's journal does, or when another
 * start went under its id for a while (semantics.md, Restart).
 */
import { startNewGeneration } from "../../catalog/replica/new-generation.ts";
import type { Replica } from "../../catalog/replica/replica.ts";
import { NEVER, type Time } from "../../lib/machine.ts";

/** A generation that could not be written is tried again after this. */
const RETRY_MS = 1000;

/** Why the generation in use is lost. */
export interface LostGeneration {
  /** The node that knows more of it. Empty when a disputed start was accepted after all. */
  readonly peerNodeId: string;
  /** The number of this node's last change that the other node knows. */
  readonly seq: number;
  /** Other nodes know this generation already, so the new one must be above it. */
  readonly above?: number;
}

type GenerationState =
  | { readonly kind: "kept" }
  | { readonly kind: "writing"; readonly why: LostGeneration }
  | { readonly kind: "refused"; readonly why: LostGeneration; readonly againMonoMs: number };

/** Renews one generation at a time: first the journal takes the new one, then all own records go on under it. */
export class GenerationRenewal {
  readonly #replica: Replica;
  readonly #make: (time: Time) => number;
  #state: GenerationState = { kind: "kept" };

  /** `make` draws a generation. Generations grow with time, and no two are the same. */
  constructor(replica: Replica, make: (time: Time) => number) {
    this.#replica = replica;
    this.#make = make;
  }

  /** Returns the generation that the journal is to take now. Undefined while a renewal is under way. */
  lost(why: LostGeneration, time: Time): number | undefined {
    if (this.#state.kind !== "kept") return undefined;
    return this.#begin(why, time);
  }

  /** The journal has taken it. */
  written(generation: number): void {
    this.#state = { kind: "kept" };
    startNewGeneration(this.#replica, generation);
  }

  /** The journal did not take it. */
  refused(time: Time): void {
    if (this.#state.kind === "writing") this.#state = { kind: "refused", why: this.#state.why, againMonoMs: time.monoMs + RETRY_MS };
  }

  /** Returns the generation to try again, when that is due. */
  tick(time: Time): number | undefined {
    if (this.#state.kind !== "refused" || time.monoMs < this.#state.againMonoMs) return undefined;
    return this.#begin(this.#state.why, time);
  }

  nextDeadlineMs(): number {
    return this.#state.kind === "refused" ? this.#state.againMonoMs : NEVER;
  }

  #begin(why: LostGeneration, time: Time): number {
    this.#state = { kind: "writing", why };
    return Math.max(this.#make(time), this.#replica.self.generation + 1, (why.above ?? 0) + 1);
  }
}
