/** Verifies a stored chain of audit records, and finds the first record that was altered, removed or moved, or at which the chain was cut off. */
import { equalBytes } from "../../lib/crypto.ts";
import { CHAIN_START, type ChainPoint, chainHash, parseCanonical } from "./record.ts";

/** A record as stored. `place` is the record's number in the store. */
export interface ChainedRecord {
  readonly place: number;
  readonly canonical: Uint8Array;
  readonly hash: Uint8Array;
}

export interface ChainProblem {
  readonly kind: "altered" | "missing" | "reordered" | "truncated_head" | "truncated_tail";
  /** Number of the first record that differs from its original form. */
  readonly number: number;
  /** Describes the expected and the actual state, for people to read. */
  readonly message: string;
}

/** Checks a chain, record by record, starting from an anchor. */
export class ChainCheck {
  #last: ChainPoint;
  readonly #anchor: ChainPoint;
  #problem: ChainProblem | undefined;

  /** `last` is the record at which an earlier check stopped and from which this check continues. */
  constructor(anchor: ChainPoint = CHAIN_START, last: ChainPoint = anchor) {
    this.#anchor = anchor;
    this.#last = last;
  }

  /** The last verified record, or the anchor. */
  get last(): ChainPoint {
    return this.#last;
  }

  /**
   * Checks the next record; records must be passed in order of place. Returns the first problem found so far. After a problem, no more records are
   * checked.
   */
  add(record: ChainedRecord): ChainProblem | undefined {
    this.#problem ??= this.#check(record);
    if (this.#problem === undefined) this.#last = { number: record.place, hash: record.hash };
    return this.#problem;
  }

  /** Checks the end of the chain. `head` is the last record that the log claims to have, if known. */
  end(head: ChainPoint | undefined): ChainProblem | undefined {
    if (this.#problem !== undefined || head === undefined) return this.#problem;
    const { number, hash } = this.#last;
    if (number < head.number) {
      const which = number + 1 === head.number ? `record ${head.number} is` : `records ${number + 1} to ${head.number} are`;
      return { kind: "truncated_tail", number: number + 1, message: `${which} missing at the end` };
    }
    if (number > head.number)
      return {
        kind: "altered",
        number,
        message: `record ${number} follows record ${head.number}, but according to the log, record ${head.number} is the last record`,
      };
    if (!equalBytes(hash, head.hash))
      return { kind: "altered", number, message: `the hash of record ${number} does not match the log's hash of its last record` };
    return undefined;
  }

  #check({ place, canonical, hash }: ChainedRecord): ChainProblem | undefined {
    const expected = this.#last.number + 1;
    if (place !== expected) return this.#gap(place, expected);
    const parsed = parseCanonical(canonical);
    if (parsed === undefined) return { kind: "altered", number: place, message: `record ${place} cannot be read` };
    if (parsed.number !== place) {
      const message = `record ${parsed.number} is stored under the number ${place}`;
      return { kind: "reordered", number: place, message };
    }
    if (!equalBytes(chainHash(this.#last.hash, canonical), hash)) {
      const message = `the hash of record ${place} does not match its content and the previous record`;
      return { kind: "altered", number: place, message };
    }
    return undefined;
  }

  #gap(place: number, expected: number): ChainProblem {
    if (place < expected) return { kind: "reordered", number: place, message: `record ${place} follows record ${expected - 1}` };
    const which = place === expected + 1 ? `record ${expected} is` : `records ${expected} to ${place - 1} are`;
    const isFirst = this.#last.number === this.#anchor.number;
    return { kind: isFirst ? "truncated_head" : "missing", number: expected, message: `${which} missing` };
  }
}
