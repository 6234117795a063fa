/** Row constructors for a table of settings: one row says type, unit, default, bounds, and how text becomes a value. */
import { z } from "zod";
import { durationText, parseDurationMs } from "../lib/duration.ts";
import { readJson } from "../lib/json-lines.ts";

export interface SettingFieldOptions<T> {
  readonly default: T;
  /** What it does, one sentence. */
  readonly doc: string;
  /** Takes effect on reload, without a restart. */
  readonly reloadable?: boolean;
  /** Never printed. */
  readonly secret?: boolean;
  /** How `serve` calls it, as commander writes flags: `--grpc-port <port>`. */
  readonly flag?: string;
}

export interface SettingField<T> extends SettingFieldOptions<T> {
  /** What a person writes: `port`, `duration`, … */
  readonly type: string;
  /** Suffix the code's name carries and the file's key does not. */
  readonly suffix: string;
  readonly min?: number;
  readonly max?: number;
  readonly choices?: readonly string[];
  /** A valid text in words: "is not …". */
  readonly what?: string;
  /** Of a table: its own settings, by name in files. */
  readonly fields?: Readonly<Record<string, { readonly setting: SettingField<unknown>; readonly isRequired: boolean }>>;
  /** Checks a value as a file holds it. */
  readonly schema: z.ZodType<T>;
  /**
   * Text from the environment or a flag, as a file would hold it. Text that is no such value comes back unchanged, for `schema` to refuse;
   * of JSON with a name twice, the `RepeatedKey`.
   */
  fromText(raw: string): unknown;
  /** The value as a person would write it. */
  toText(value: T): string;
}

type Parsed<T> = { readonly value: T } | { readonly problem: string };

function schemaOf<T>(parse: (raw: unknown) => Parsed<T>): z.ZodType<T> {
  return z.unknown().transform((raw, context) => {
    const parsed = parse(raw);
    if ("value" in parsed) return parsed.value;
    context.addIssue(parsed.problem);
    return z.NEVER;
  });
}

function shown(raw: unknown): string {
  // JSON has no word for these, and would say null.
  if (typeof raw === "number" && !Number.isFinite(raw))
    return Number.isNaN(raw) ? "nan" : `a number that is too ${raw > 0 ? "large" : "small"}`;
  return JSON.stringify(raw) ?? String(raw);
}

function within(
  value: number,
  bounds: { readonly min: number; readonly max: number; readonly toText: (value: number) => string },
): Parsed<number> {
  const { min, max, toText } = bounds;
  if (value < min) return { problem: `${toText(value)} is less than ${toText(min)}, the smallest allowed` };
  if (value > max) return { problem: `${toText(value)} is more than ${toText(max)}, the largest allowed` };
  return { value };
}

type NumberOptions = SettingFieldOptions<number> & { readonly min: number; readonly max: number };

/** A whole number. */
export function int(options: NumberOptions): SettingField<number> {
  return numeric("number", "", options);
}

/** A part of a whole, 0 to 1. */
export function ratio(options: SettingFieldOptions<number>): SettingField<number> {
  return {
    ...options,
    type: "ratio",
    suffix: "",
    min: 0,
    max: 1,
    schema: schemaOf((raw) =>
      typeof raw === "number" && raw >= 0 && raw <= 1 ? { value: raw } : { problem: `${shown(raw)} is not a number from 0 to 1` },
    ),
    fromText: (raw) => (/^\d(?:\.\d{1,6})?$/.test(raw) ? Number(raw) : raw),
    toText: String,
  };
}

/** A TCP or UDP port; 0 means any free one. */
export function port(options: SettingFieldOptions<number>): SettingField<number> {
  return numeric("port", "", { ...options, min: 0, max: 65_535 });
}

function numeric(type: string, suffix: string, options: NumberOptions): SettingField<number> {
  const { min, max } = options;
  return {
    ...options,
    type,
    suffix,
    schema: schemaOf((raw) => {
      if (typeof raw !== "number" || !Number.isSafeInteger(raw)) return { problem: `${shown(raw)} is not a whole number` };
      return within(raw, { min, max, toText: String });
    }),
    fromText: (raw) => (/^-?\d{1,15}$/.test(raw) ? Number(raw) : raw),
    toText: String,
  };
}

/** A duration; written `30s`, held in milliseconds under a name that ends in `Ms`. */
export function ms(options: NumberOptions): SettingField<number> {
  const { min, max } = options;
  return {
    ...options,
    type: "duration",
    suffix: "Ms",
    schema: schemaOf((raw) => {
      const value = typeof raw === "string" ? parseDurationMs(raw) : undefined;
      if (value === undefined) return { problem: `${shown(raw)} is not a duration such as "500ms", "30s" or "1h"` };
      return within(value, { min, max, toText: durationText });
    }),
    fromText: (raw) => raw,
    toText: durationText,
  };
}

const SIZE_UNITS = { B: 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 } as const;

function sizeText(value: number): string {
  const exact = value === 0 ? undefined : Object.entries(SIZE_UNITS).findLast(([, unit]) => value % unit === 0);
  return exact === undefined ? `${value}B` : `${value / exact[1]}${exact[0]}`;
}

function parseSize(written: string): number | undefined {
  const match = /^(\d{1,12})(B|KiB|MiB|GiB)$/.exec(written);
  const unit = match && Object.entries(SIZE_UNITS).find(([name]) => name === match[2]);
  return match && unit ? Number(match[1]) * unit[1] : undefined;
}

/** A size; written `4MiB` or as a plain number of bytes. */
export function bytes(options: NumberOptions): SettingField<number> {
  const { min, max } = options;
  return {
    ...options,
    type: "size",
    suffix: "",
    schema: schemaOf((raw) => {
      const value = typeof raw === "string" ? parseSize(raw) : raw;
      if (typeof value !== "number" || !Number.isSafeInteger(value))
        return { problem: `${shown(raw)} is not a size such as "16KiB" or "4MiB"` };
      return within(value, { min, max, toText: sizeText });
    }),
    fromText: (raw) => (/^\d{1,15}$/.test(raw) ? Number(raw) : raw),
    toText: sizeText,
  };
}

/** True or false. */
export function bool(options: SettingFieldOptions<boolean>): SettingField<boolean> {
  return {
    ...options,
    type: "true or false",
    suffix: "",
    schema: schemaOf((raw) => (typeof raw === "boolean" ? { value: raw } : { problem: `${shown(raw)} is neither true nor false` })),
    fromText: (raw) => (raw === "true" ? true : raw === "false" ? false : raw),
    toText: String,
  };
}

/** True or false, or neither: nobody said. */
export function optionalBool(options: Omit<SettingFieldOptions<undefined>, "default">): SettingField<boolean | undefined> {
  const inner = bool({ ...options, default: false });
  return {
    ...options,
    default: undefined,
    type: inner.type,
    suffix: "",
    schema: inner.schema,
    fromText: (raw) => inner.fromText(raw),
    toText: textOf,
  };
}

function textOf(value: boolean | undefined): string {
  return value === undefined ? "" : String(value);
}

interface TextRule {
  /** What a valid text matches. */
  readonly pattern?: RegExp;
  /** The pattern in words: "is not …". */
  readonly what?: string;
}

function checkText(raw: unknown, rule: TextRule): Parsed<string> {
  if (typeof raw !== "string") return { problem: `${shown(raw)} is not text` };
  if (rule.pattern && !rule.pattern.test(raw))
    return { problem: `${shown(raw)} is not ${rule.what ?? `text matching ${rule.pattern.source}`}` };
  return { value: raw };
}

/** Text. */
export function text(options: SettingFieldOptions<string> & TextRule): SettingField<string> {
  return {
    ...options,
    type: "text",
    suffix: "",
    schema: schemaOf((raw) => checkText(raw, options)),
    fromText: (raw) => raw,
    toText: (value) => value,
  };
}

/** Text that may be absent. */
export function optionalText(options: Omit<SettingFieldOptions<undefined>, "default"> & TextRule): SettingField<string | undefined> {
  return {
    ...options,
    default: undefined,
    type: "text",
    suffix: "",
    schema: schemaOf<string | undefined>((raw) => checkText(raw, options)),
    fromText: (raw) => raw,
    toText: (value) => value ?? "",
  };
}

/** A port that may be absent. */
export function optionalPort(options: Omit<SettingFieldOptions<undefined>, "default">): SettingField<number | undefined> {
  const inner = port({ ...options, default: 0 });
  return {
    ...options,
    default: undefined,
    type: "port",
    suffix: "",
    min: 0,
    max: 65_535,
    schema: inner.schema,
    fromText: (raw) => inner.fromText(raw),
    toText: (value) => (value === undefined ? "" : String(value)),
  };
}

/** A whole number that may be absent. */
export function optionalInt(options: Omit<NumberOptions, "default">): SettingField<number | undefined> {
  const inner = int({ ...options, default: options.min });
  return { ...inner, default: undefined, toText: (value) => (value === undefined ? "" : String(value)) };
}

/** One of a few words. */
export function choice<const C extends string>(
  options: SettingFieldOptions<NoInfer<C>> & { readonly choices: readonly C[] },
): SettingField<C> {
  const { choices } = options;
  return {
    ...options,
    type: choices.join(" | "),
    suffix: "",
    schema: schemaOf((raw) => {
      const value = choices.find((word) => word === raw);
      return value === undefined ? { problem: `${shown(raw)} is none of ${choices.join(", ")}` } : { value };
    }),
    fromText: (raw) => raw,
    toText: (value) => value,
  };
}

/** One of some words, or none: nobody said. */
export function optionalChoice<const T extends string>(
  options: Omit<SettingFieldOptions<undefined>, "default"> & { readonly choices: readonly T[] },
): SettingField<T | undefined> {
  const [first] = options.choices;
  if (first === undefined) throw new Error("a choice has choices");
  const inner = choice<T>({ ...options, default: first });
  const schema: z.ZodType<T | undefined> = inner.schema;
  return {
    ...options,
    default: undefined,
    type: inner.type,
    suffix: "",
    schema,
    fromText: (raw) => inner.fromText(raw),
    toText: (value) => value ?? "",
  };
}

const MAX_ITEMS = 1000;

/** Several texts, none of them twice; written `a,b` in the environment and in flags. At most `maxItems`, 1000 unless said. */
export interface ListRule extends TextRule {
  readonly maxItems?: number;
  /** What of an item no other may have; all of it unless said. */
  readonly itemKey?: (item: string) => string;
}

export function list(options: SettingFieldOptions<readonly string[]> & ListRule): SettingField<readonly string[]> {
  const { maxItems = MAX_ITEMS, itemKey = (item) => item } = options;
  return {
    ...options,
    type: "list of text",
    suffix: "",
    schema: schemaOf<readonly string[]>((raw) => {
      if (!Array.isArray(raw)) return { problem: `${shown(raw)} is not a list` };
      if (raw.length > maxItems) return { problem: `${raw.length} items are more than ${maxItems}, the most allowed` };
      const value: string[] = [];
      const keys = new Set<string>();
      for (const item of raw) {
        const parsed = checkText(item, options);
        if ("problem" in parsed) return parsed;
        const key = itemKey(parsed.value);
        if (keys.has(key)) return { problem: `${shown(parsed.value)} is there twice` };
        keys.add(key);
        value.push(parsed.value);
      }
      return { value };
    }),
    fromText: (raw) => (raw === "" ? [] : raw.split(",").map((item) => item.trim())),
    toText: (value) => value.join(","),
  };
}

/** A JSON value of this text, what it has twice, or the text itself when it is none. */
function fromJson(raw: string): unknown {
  try {
    return readJson(raw);
  } catch {
    return raw;
  }
}

export interface PairsRule {
  readonly maxItems: number;
  /** What a name must match. */
  readonly name: RegExp;
  /** A valid name in words: "is not …". */
  readonly nameWhat: string;
  /** In characters. */
  readonly maxValueLength: number;
}

/** The pairs of `a=b,c=d`; undefined where the text is none. */
function writtenPairs(raw: string): readonly (readonly [name: string, value: string])[] | undefined {
  const parts = raw.split(",").map((part) => part.trim());
  if (parts.some((part) => !/^[^=]+=/.test(part))) return undefined;
  return parts.map((part) => [part.slice(0, part.indexOf("=")), part.slice(part.indexOf("=") + 1)]);
}

/** A name that `a=b,a=d` has twice. */
function repeatedName(raw: string): string | undefined {
  const names = writtenPairs(raw)?.map(([name]) => name) ?? [];
  return names.find((name, at) => names.indexOf(name) < at);
}

/** Names with texts; in the environment and in flags JSON, as every table, or `a=b,c=d`. */
export function pairs(
  options: SettingFieldOptions<Readonly<Record<string, string>>> & PairsRule,
): SettingField<Readonly<Record<string, string>>> {
  const { maxItems, name: namePattern, nameWhat, maxValueLength } = options;
  return {
    ...options,
    type: "table of text",
    suffix: "",
    schema: schemaOf<Readonly<Record<string, string>>>((raw) => {
      const repeated = typeof raw === "string" ? repeatedName(raw) : undefined;
      if (repeated !== undefined) return { problem: `the name ${repeated} is there twice` };
      if (typeof raw !== "object" || raw === null || Array.isArray(raw))
        return { problem: `${shown(raw)} is not a table of name = "text"` };
      const entries = Object.entries(raw);
      if (entries.length > maxItems) return { problem: `${entries.length} pairs are more than ${maxItems}, the most allowed` };
      const value: [string, string][] = [];
      for (const [name, item] of entries) {
        if (!namePattern.test(name)) return { problem: `name ${shown(name)} is not ${nameWhat}` };
        if (typeof item !== "string") return { problem: `${name} = ${shown(item)} is not text` };
        if (item.length > maxValueLength)
          return { problem: `the value of ${name} has ${item.length} characters, more than ${maxValueLength}, the most allowed` };
        value.push([name, item]);
      }
      return { value: Object.fromEntries(value) };
    }),
    fromText: (raw) => {
      if (raw === "") return {};
      const table = fromJson(raw);
      if (typeof table === "object") return table;
      const written = writtenPairs(raw);
      return written === undefined || repeatedName(raw) !== undefined ? raw : Object.fromEntries(written);
    },
    toText: (value) => {
      const entries = Object.entries(value);
      // What a comma or a space would cut is only told whole by JSON.
      const isPlain = entries.every(([name, item]) => /^[^\s=,{[]+$/.test(name) && !/[,\s]/.test(item));
      return isPlain ? entries.map(([name, item]) => `${name}=${item}`).join(",") : JSON.stringify(value);
    },
  };
}
