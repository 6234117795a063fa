/**
 * Renews the generation while the process runs. Renewal is necessary if other nodes know a later state of the old generation than this node's journal
 * does, or if another process used the node's id for a while (semantics.md, Restart).
 */
import { startNewGeneration } from "../../catalog/replica/new-generation.ts";
import type { Replica } from "../../catalog/replica/replica.ts";
import { NEVER, type Time } from "../../lib/machine.ts";

/** Delay before the write of a generation is retried, in ms. */
const RETRY_MS = 1000;

/** Why the current generation is lost. */
export interface LostGeneration {
  /** The node that knows a later state of the generation. Empty if a disputed process instance was accepted in the end. */
  readonly peerNodeId: string;
  /** This node's highest sequence number that the other node knows. */
  readonly seq: number;
  /** A generation that other nodes already know. The new generation must be higher. */
  readonly above?: number;
}

type GenerationState =
  | { readonly kind: "kept" }
  | { readonly kind: "writing"; readonly why: LostGeneration }
  | { readonly kind: "refused"; readonly why: LostGeneration; readonly againMonoMs: number };

/** Renews one generation at a time: first the journal writes the new one, then all own records continue under it. */
export class GenerationRenewal {
  readonly #replica: Replica;
  readonly #make: (time: Time) => number;
  #state: GenerationState = { kind: "kept" };

  /** `make` returns a new generation. Generations grow with time and are unique. */
  constructor(replica: Replica, make: (time: Time) => number) {
    this.#replica = replica;
    this.#make = make;
  }

  /** Returns the generation that the journal must write now. Undefined while a renewal is in progress. */
  lost(why: LostGeneration, time: Time): number | undefined {
    if (this.#state.kind !== "kept") return undefined;
    return this.#begin(why, time);
  }

  /** Must be called when the journal has written the generation. */
  written(generation: number): void {
    this.#state = { kind: "kept" };
    startNewGeneration(this.#replica, generation);
  }

  /** Must be called when the journal could not write the generation. */
  refused(time: Time): void {
    if (this.#state.kind === "writing") this.#state = { kind: "refused", why: this.#state.why, againMonoMs: time.monoMs + RETRY_MS };
  }

  /** Returns the generation to write again, if a retry is due. */
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
