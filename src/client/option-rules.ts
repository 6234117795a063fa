/** Rules for the options that a program passes, and their check before anything is done: a program without types may pass anything. */
import { MAX_TIMER_MS } from "../lib/duration.ts";

export interface OptionRule {
  readonly isRight: (value: unknown) => boolean;
  /** What is right, in words. */
  readonly what: string;
  readonly Wrong: typeof RangeError | typeof TypeError;
}

/** The rules of all options of `T`: a new option without a rule does not build. */
export type OptionRules<T> = { readonly [K in keyof Required<T>]: OptionRule };

/** A number of milliseconds. */
export function lengthRule(leastMs: number, mostMs: number): OptionRule {
  const isRight = (value: unknown): boolean => typeof value === "number" && value >= leastMs && value <= mostMs;
  return { isRight, what: `a number of milliseconds from ${leastMs} to ${mostMs}`, Wrong: RangeError };
}

/** A time that a timer can wait. A part of a millisecond is a time too. */
export const TIMEOUT: OptionRule = {
  isRight: (value) => typeof value === "number" && value > 0 && value <= MAX_TIMER_MS,
  what: `a number of milliseconds from 1 to ${MAX_TIMER_MS}`,
  Wrong: RangeError,
};
export const FLAG: OptionRule = { isRight: (value) => typeof value === "boolean", what: "true or false", Wrong: TypeError };
export const TEXT: OptionRule = { isRight: (value) => typeof value === "string", what: "a text", Wrong: TypeError };
export const FUNCTION: OptionRule = { isRight: (value) => typeof value === "function", what: "a function", Wrong: TypeError };
/** A signal may come from another realm or from a library, so it is known by what it can do. */
export const SIGNAL: OptionRule = {
  isRight: (value) => typeof value === "object" && value !== null && "aborted" in value && "addEventListener" in value,
  what: "an AbortSignal",
  Wrong: TypeError,
};
/** For an option that its reader checks by itself. */
export const ANYTHING: OptionRule = { isRight: () => true, what: "anything", Wrong: TypeError };

/** A value of an enum of the contract. */
export function enumRule(values: Readonly<Record<string, string | number>>, name: string): OptionRule {
  const isRight = (value: unknown): boolean => typeof value === "number" && values[value] !== undefined;
  return { isRight, what: `a value of ${name}`, Wrong: RangeError };
}

/** Throws a TypeError or RangeError that names the option which is wrong or unknown. `call` is what was called. An option that is undefined is absent. */
export function checkOptions<T>(call: string, options: T, rules: OptionRules<T>): void {
  if (typeof options !== "object" || options === null) throw new TypeError(`${call}: the options are ${kindOf(options)}, not an object`);
  const byName: Readonly<Record<string, OptionRule>> = rules;
  for (const [name, value] of Object.entries(options)) {
    const rule = Object.hasOwn(byName, name) ? byName[name] : undefined;
    if (rule === undefined) throw new TypeError(`${call}: ${name} is not an option; the options are ${Object.keys(rules).join(", ")}`);
    if (value !== undefined && !rule.isRight(value)) throw new rule.Wrong(`${call}: ${name} is ${kindOf(value)}, not ${rule.what}`);
  }
}

/** A value as a message shows it: never a long one. */
export function kindOf(value: unknown): string {
  if (value === undefined || value === null || typeof value === "number") return String(value);
  return typeof value === "string"
    ? JSON.stringify(value.slice(0, 256))
    : `a value of type ${Array.isArray(value) ? "array" : typeof value}`;
}
