/** Rules for the options that a program passes. They are checked before any other work, because an untyped program can pass any value. */
import { MAX_TIMER_MS } from "../lib/duration.ts";

export interface OptionRule {
  readonly isRight: (value: unknown) => boolean;
  /** The expected values as text. */
  readonly what: string;
  readonly Wrong: typeof RangeError | typeof TypeError;
}

/** One rule for each option of `T`. The code does not compile if an option has no rule. */
export type OptionRules<T> = { readonly [K in keyof Required<T>]: OptionRule };

/** A number of milliseconds. */
export function lengthRule(leastMs: number, mostMs: number): OptionRule {
  const isRight = (value: unknown): boolean => typeof value === "number" && value >= leastMs && value <= mostMs;
  return { isRight, what: `a number of milliseconds from ${leastMs} to ${mostMs}`, Wrong: RangeError };
}

/** A duration for which a timer can wait. Fractions of a millisecond are allowed. */
export const TIMEOUT: OptionRule = {
  isRight: (value) => typeof value === "number" && value > 0 && value <= MAX_TIMER_MS,
  what: `a number of milliseconds from 1 to ${MAX_TIMER_MS}`,
  Wrong: RangeError,
};
export const FLAG: OptionRule = { isRight: (value) => typeof value === "boolean", what: "true or false", Wrong: TypeError };
export const TEXT: OptionRule = { isRight: (value) => typeof value === "string", what: "a string", Wrong: TypeError };
export const FUNCTION: OptionRule = { isRight: (value) => typeof value === "function", what: "a function", Wrong: TypeError };
/** A signal may come from another realm or a library, so it is recognized by its members. */
export const SIGNAL: OptionRule = {
  isRight: (value) => typeof value === "object" && value !== null && "aborted" in value && "addEventListener" in value,
  what: "an AbortSignal",
  Wrong: TypeError,
};
/** Used for an option that is checked elsewhere. */
export const ANYTHING: OptionRule = { isRight: () => true, what: "anything", Wrong: TypeError };

/** A value of a protobuf enum. */
export function enumRule(values: Readonly<Record<string, string | number>>, name: string): OptionRule {
  const isRight = (value: unknown): boolean => typeof value === "number" && values[value] !== undefined;
  return { isRight, what: `a value of ${name}`, Wrong: RangeError };
}

/**
 * Throws a TypeError or RangeError that names the invalid or unknown option. `call` is the function that was called. An option that is set to
 * undefined is treated as absent.
 */
export function checkOptions<T>(call: string, options: T, rules: OptionRules<T>): void {
  if (typeof options !== "object" || options === null)
    throw new TypeError(`${call}: invalid options ${kindOf(options)}: expected an object`);
  const byName: Readonly<Record<string, OptionRule>> = rules;
  for (const [name, value] of Object.entries(options)) {
    const rule = Object.hasOwn(byName, name) ? byName[name] : undefined;
    if (rule === undefined) throw new TypeError(`${call}: unknown option ${name}; the options are ${Object.keys(rules).join(", ")}`);
    if (value !== undefined && !rule.isRight(value))
      throw new rule.Wrong(`${call}: invalid ${name} ${kindOf(value)}: expected ${rule.what}`);
  }
}

/** Formats a value for error messages, shortened to 256 characters. */
export function kindOf(value: unknown): string {
  if (value === undefined || value === null || typeof value === "number") return String(value);
  return typeof value === "string" ? JSON.stringify(value.slice(0, 256)) : `of type ${Array.isArray(value) ? "array" : typeof value}`;
}
