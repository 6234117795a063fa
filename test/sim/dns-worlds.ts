/** Worlds in which a catalog changes while it is asked over DNS (`test/fakes/dns-world.ts`), each from a seed. */
import { AssertionError } from "node:assert/strict";
import { DnsWorld } from "../fakes/dns-world.ts";

const STEPS = 150;

export interface DnsOutcome {
  readonly violation: { readonly invariant: string; readonly message: string } | undefined;
  /** How often each thing happened. */
  readonly counts: ReadonlyMap<string, number>;
}

/** Plays a world. The first answer that is not what the rules say ends it. */
export function runSeed(seed: number): DnsOutcome {
  const world = new DnsWorld(`${seed}`);
  for (let step = 1; step <= STEPS; step++) {
    try {
      world.step();
    } catch (error) {
      if (!(error instanceof AssertionError)) throw error;
      return {
        violation: { invariant: "an answer of DNS is what the rules say", message: `step ${step}: ${error.message}` },
        counts: world.counts,
      };
    }
  }
  return { violation: undefined, counts: world.counts };
}
