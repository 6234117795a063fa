/** Versions of FUNCTION entries, and npm-style version ranges such as `^1.2.0`. */
// Only this class is imported, because the whole library has 47 files, and every start of a node or a query would load all of them.
import Range from "semver/classes/range.js";
import { invalid } from "./errors.ts";

/**
 * Maximum number of remembered results. Results are remembered because a catalog contains few versions, and parsing a version costs more than the
 * rest of a filter.
 */
const MAX_KNOWN = 256;
const MAX_RANGE_LENGTH = 128;

export class VersionRange {
  /** The text from the request. */
  readonly text: string;
  readonly #range: Range;
  readonly #known = new Map<string, boolean>();

  /** Parses a range. Throws `invalid_argument` for text that is not a range. */
  constructor(text: string) {
    this.text = text;
    this.#range = parseRange(text);
  }

  /** Whether the version is in the range. Text that is not a version is not in any range. */
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

/** A text that explains why a version is not in a range. */
export function lacksVersion(version: string, range: string): string {
  return `version ${version === "" ? "(none)" : version} is not in ${range}`;
}

function parseRange(text: string): Range {
  if (Array.from(text).length > MAX_RANGE_LENGTH) throw invalid("version_range", `is longer than ${MAX_RANGE_LENGTH} characters`);
  try {
    return new Range(text);
  } catch (error) {
    // semver throws a TypeError for an invalid range.
    if (error instanceof TypeError) throw invalid("version_range", `"${text}" is not a range such as ^1.2.0 or >=1.2.0 <2`);
    throw error;
  }
}
