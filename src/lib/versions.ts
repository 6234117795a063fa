/** Versions that FUNCTION entries have, and npm-style ranges of them such as `^1.2.0`. */
import { Range } from "semver";
import { invalid } from "./errors.ts";

/** Verdicts kept: the versions of a catalog are few, and parsing one costs more than all else that a filter looks at. */
const MAX_KNOWN = 256;
const MAX_RANGE_LENGTH = 128;

export class VersionRange {
  /** As it was asked for. */
  readonly text: string;
  readonly #range: Range;
  readonly #known = new Map<string, boolean>();

  /** Throws `invalid_argument` for what is no range. */
  constructor(text: string) {
    this.text = text;
    this.#range = parseRange(text);
  }

  /** A version that is none is in no range. */
  has(version: string): boolean {
    let isIn = this.#known.get(version);
    if (isIn === undefined) {
      isIn = this.#range.test(version);
      if (this.#known.size >= MAX_KNOWN) this.#known.clear();
      this.#known.set(version, isIn);
    }
    return isIn;
  }
}

/** Why a range does not have this version, in words. */
export function lacksVersion(version: string, range: string): string {
  return `version ${version === "" ? "(none)" : version} is not in ${range}`;
}

function parseRange(text: string): Range {
  if (Array.from(text).length > MAX_RANGE_LENGTH) throw invalid("version_range", `is longer than ${MAX_RANGE_LENGTH} characters`);
  try {
    return new Range(text);
  } catch (error) {
    // semver refuses a range with a TypeError.
    if (error instanceof TypeError) throw invalid("version_range", `"${text}" is not a range such as ^1.2.0 or >=1.2.0 <2`);
    throw error;
  }
}
