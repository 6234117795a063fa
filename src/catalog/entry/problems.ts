/** Collects what is wrong with one entry, and small checks that report into it. */
import { type FieldViolation, MAX_VIOLATIONS, WaymarkError } from "../../lib/errors.ts";
import { type Bounds, CHARS, type Chars, consistsOf, nameRule, quoted } from "./names.ts";

export class Problems {
  readonly bounds: Bounds;
  readonly #violations: FieldViolation[] = [];
  #count = 0;

  constructor(bounds: Bounds) {
    this.bounds = bounds;
  }

  add(field: string, description: string): void {
    this.#count++;
    if (this.#violations.length < MAX_VIOLATIONS) this.#violations.push({ field, description });
  }

  isEmpty(): boolean {
    return this.#count === 0;
  }

  /** Throws `invalid_argument` with all that was added, if anything was, and is empty again afterwards. `prefix` goes before every path. */
  throwIfAny(prefix = ""): void {
    if (this.#count === 0) return;
    const violations = this.#violations.splice(0).map(({ field, description }) => ({ field: prefix + field, description }));
    const more = this.#count > 1 ? ` (and ${this.#count - 1} more)` : "";
    this.#count = 0;
    throw new WaymarkError("invalid_argument", `${violations[0]?.field}: ${violations[0]?.description}${more}`, { violations });
  }

  /** 1 to the bound of `[A-Za-z0-9._:/@+-]`. */
  name(text: string, path: string, field: string): void {
    if (text.length === 0 || !consistsOf(text, CHARS.NAME, this.bounds.maxNameLength)) {
      this.add(path + field, nameRule(text, this.bounds.maxNameLength));
    }
  }

  /** As `name`, but may be empty. */
  optionalName(text: string, path: string, field: string): void {
    if (!consistsOf(text, CHARS.NAME, this.bounds.maxNameLength)) this.add(path + field, nameRule(text, this.bounds.maxNameLength));
  }

  /** At most `maxLength` characters (code points) of anything that is well-formed. */
  text(text: string, maxLength: number, path: string, field: string): void {
    if (text.length > maxLength && codePointsOf(text) > maxLength) {
      this.add(path + field, `has ${codePointsOf(text)} characters, at most ${maxLength}`);
    } else if (!text.isWellFormed()) this.add(path + field, "is not well-formed Unicode");
  }

  count(items: number, max: number, path: string, field: string): void {
    if (items > max) this.add(path + field, `has ${items} items, at most ${max}`);
  }

  /** At most the bound of items, each a name. */
  names(items: readonly string[], path: string, field: string): void {
    this.list(items, { chars: CHARS.NAME, maxLength: this.bounds.maxNameLength, what: "[A-Za-z0-9._:/@+-]" }, path + field);
  }

  /** As `names`, and no two the same. */
  uniqueNames(items: readonly string[], path: string, field: string): void {
    if (items.length === 0) return;
    this.names(items, path, field);
    this.unique(items, path, field);
  }

  list(items: readonly string[], rule: { chars: Chars; maxLength: number; what: string }, field: string): void {
    this.count(items.length, this.bounds.maxListItems, field, "");
    for (let i = 0; i < items.length; i++) {
      const text = items[i] ?? "";
      if (text.length === 0 || !consistsOf(text, rule.chars, rule.maxLength)) {
        this.add(`${field}[${i}]`, `${quoted(text)} must be 1 to ${rule.maxLength} of ${rule.what}`);
      }
    }
  }

  unique(items: readonly string[], path: string, field: string): void {
    const length = items.length;
    if (length < 2) return;
    // HOT: a handful of tags; a Set costs more than the comparisons it saves until there are about ten.
    if (length <= 8) {
      for (let i = 1; i < length; i++) {
        for (let j = 0; j < i; j++)
          if (items[i] === items[j]) this.add(`${path}${field}[${i}]`, `${quoted(items[i] ?? "")} is there twice`);
      }
      return;
    }
    const seen = new Set<string>();
    for (let i = 0; i < length; i++) {
      const item = items[i] ?? "";
      if (seen.has(item)) this.add(`${path}${field}[${i}]`, `${quoted(item)} is there twice`);
      seen.add(item);
    }
  }

  /** min ≤ value ≤ max; NaN is refused. */
  range(value: number, range: { min: number; max: number }, path: string, field: string): void {
    if (!(value >= range.min && value <= range.max)) this.add(path + field, `${value} must be ${range.min} to ${range.max}`);
  }
}

function codePointsOf(text: string): number {
  let count = 0;
  for (const _ of text) count++;
  return count;
}
