/** Constructors for the rows of settings tables. A row has a type, a unit, a default and bounds, and parses the setting's value. */
import { NODE_BOUNDS } from "../lib/bounds.ts";
import { durationText, parseDurationMs } from "../lib/duration.ts";
import { readJson } from "../lib/formats/json-lines.ts";

export interface SettingFieldOptions<T> {
  /** A setting without a default is absent unless it is set. */
  readonly default?: T;
  /** Its effect, its unit and its default, and when to change it, in one to three sentences. */
  readonly doc: string;
  /** Why a resolver refuses the setting, which would have no effect on a resolver. `rules.ts` refuses whole groups. */
  readonly notForResolver?: string;
  /** A secret is never printed. */
  readonly secret?: boolean;
  /** Whether the value naturally differs between the nodes of a cluster: an id, an address, a port, a file, or a part of one node. */
  readonly perNode?: true;
  /** Whether SIGHUP reads the file that the setting names again. A new value of the setting itself requires a restart. */
  readonly reloadable?: true;
  /** The flag for `serve`, in commander's syntax: `--grpc-port <port>`. */
  readonly flag?: string;
}

type WithDefault<T> = SettingFieldOptions<T> & { readonly default: T };

/** A problem with a value, and its position in the value, for example `[2, "roles"]`. */
export interface FieldFault {
  readonly at: readonly (string | number)[];
  readonly message: string;
}

/** Either the value or a list of all problems with it. */
export type ParsedValue<T> = { readonly value: T } | { readonly faults: readonly FieldFault[] };

export interface SettingField<T> extends SettingFieldOptions<T> {
  readonly default: T;
  /** The type in the form that users see: `port`, `duration`, … */
  readonly type: string;
  /** The unit suffix of the name in code, which the key in files does not have: `Ms` in `minTtlMs`, whose key is `min_ttl`. */
  readonly suffix?: string;
  readonly min?: number;
  readonly max?: number;
  readonly choices?: readonly string[];
  /** A description of valid text, used in "is not …". */
  readonly what?: string;
  /** The settings inside a table, by their names in files. */
  readonly fields?: Readonly<Record<string, { readonly setting: SettingField<unknown>; readonly isRequired: boolean }>>;
  /** Parses a value as read from a file. */
  parse(raw: unknown): ParsedValue<T>;
  /**
   * Converts text from the environment or a flag to the form that is used in a file. Invalid text is returned unchanged, so that `parse` refuses it.
   * JSON with a repeated key becomes a `DuplicateKey`.
   */
  fromText(raw: string): unknown;
  /** The value in the form in which a person would write it. */
  toText(value: T): string;
  /** For a table or a list of tables: the value in the form that is used in a file, with masked secrets. */
  shown?(value: T): unknown;
}

/** A fault that concerns the value as a whole. */
export function refused(message: string): { readonly faults: readonly FieldFault[] } {
  return { faults: [{ at: [], message }] };
}

function shown(raw: unknown): string {
  // JSON.stringify would turn NaN and infinity into "null".
  if (typeof raw === "number" && !Number.isFinite(raw))
    return Number.isNaN(raw) ? "nan" : `a number that is too ${raw > 0 ? "large" : "small"}`;
  return JSON.stringify(raw) ?? String(raw);
}

/** A row. `D` is the type of the default, or `undefined` if there is none. */
function row<T, D extends T | undefined>(
  options: SettingFieldOptions<D>,
  kind: Omit<SettingField<T>, keyof SettingFieldOptions<T>>,
): SettingField<T | D> {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- without a default, D is undefined
  const unset = options.default as D;
  return { ...options, ...kind, default: unset, toText: (value) => (value === undefined ? "" : kind.toText(value)) };
}

type NumberOptions<D> = SettingFieldOptions<D> & { readonly min: number; readonly max: number };

/** Checks a number against the bounds of its row. A fault shows the value and the bound in the unit that users write. */
function within(value: number, { min, max }: NumberOptions<unknown>, toText: (value: number) => string): ParsedValue<number> {
  if (value < min) return refused(`${toText(value)} is less than the minimum of ${toText(min)}`);
  if (value > max) return refused(`${toText(value)} is more than the maximum of ${toText(max)}`);
  return { value };
}

/** A whole number. */
export function int<D extends number | undefined = undefined>(options: NumberOptions<D>): SettingField<number | D> {
  return row<number, D>(options, {
    type: "number",
    parse: (raw) =>
      typeof raw === "number" && Number.isSafeInteger(raw) ? within(raw, options, String) : refused(`${shown(raw)} is not a whole number`),
    fromText: (raw) => (/^-?\d{1,15}$/.test(raw) ? Number(raw) : raw),
    toText: String,
  });
}

/** A ratio from 0 to 1. */
export function ratio<D extends number | undefined = undefined>(options: SettingFieldOptions<D>): SettingField<number | D> {
  return row<number, D>(options, {
    type: "ratio",
    min: 0,
    max: 1,
    parse: (raw) =>
      typeof raw === "number" && raw >= 0 && raw <= 1 ? { value: raw } : refused(`${shown(raw)} is not a number from 0 to 1`),
    fromText: (raw) => (/^\d(?:\.\d{1,6})?$/.test(raw) ? Number(raw) : raw),
    toText: String,
  });
}

/** A TCP or UDP port of this node. 0 means any free port. */
export function port<D extends number | undefined = undefined>(options: SettingFieldOptions<D>): SettingField<number | D> {
  return { ...int({ ...options, min: 0, max: 65_535, perNode: true }), type: "port" };
}

/** A duration. Users write `30s`. In code, the value is a number of milliseconds with a name that ends in `Ms`. */
export function ms<D extends number | undefined = undefined>(options: NumberOptions<D>): SettingField<number | D> {
  return row<number, D>(options, {
    type: "duration",
    suffix: "Ms",
    parse: (raw) => {
      const value = typeof raw === "string" ? parseDurationMs(raw) : undefined;
      if (value === undefined) return refused(`${shown(raw)} is not a duration such as "500ms", "30s" or "1h"`);
      return within(value, options, durationText);
    },
    fromText: (raw) => raw,
    toText: durationText,
  });
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

/** A size. Users write `4MiB`, or a plain number of bytes. */
export function bytes<D extends number | undefined = undefined>(options: NumberOptions<D>): SettingField<number | D> {
  return row<number, D>(options, {
    type: "size",
    parse: (raw) => {
      const value = typeof raw === "string" ? parseSize(raw) : raw;
      if (typeof value !== "number" || !Number.isSafeInteger(value))
        return refused(`${shown(raw)} is not a size such as "16KiB" or "4MiB"`);
      return within(value, options, sizeText);
    },
    fromText: (raw) => (/^\d{1,15}$/.test(raw) ? Number(raw) : raw),
    toText: sizeText,
  });
}

/** True or false. */
export function bool<D extends boolean | undefined = undefined>(options: SettingFieldOptions<D>): SettingField<boolean | D> {
  return row<boolean, D>(options, {
    type: "true or false",
    parse: (raw) => (typeof raw === "boolean" ? { value: raw } : refused(`${shown(raw)} is neither true nor false`)),
    fromText: (raw) => (raw === "true" ? true : raw === "false" ? false : raw),
    toText: String,
  });
}

interface TextRule {
  /** Valid text matches this pattern. */
  readonly pattern?: RegExp;
  /** A description of the pattern, used in "is not …". */
  readonly what?: string;
}

function parseText(raw: unknown, { pattern, what }: TextRule): ParsedValue<string> {
  if (typeof raw !== "string") return refused(`${shown(raw)} is not text`);
  if (pattern?.test(raw) === false) return refused(`${shown(raw)} is not ${what ?? `text matching ${pattern.source}`}`);
  return { value: raw };
}

const WORD = "A-Za-z0-9._:/@+-";
const WORD_WHAT = "A-Z a-z 0-9 . _ : / @ + -";
/** The id of a node, cluster, region, zone or tenant, or a role. */
export const ID = {
  pattern: new RegExp(`^[${WORD}]{1,${NODE_BOUNDS.maxIdLength}}$`),
  what: `1 to ${NODE_BOUNDS.maxIdLength} of ${WORD_WHAT}`,
} as const;
/** A resource of a node, as in the node's entry. */
export const NAME = { pattern: new RegExp(`^[${WORD}]{1,128}$`), what: `1 to 128 of ${WORD_WHAT}` } as const;
/** A public key of a cluster. */
export const PUBLIC_KEY = {
  pattern: /^[A-Za-z0-9+/]{43}=$/,
  what: "32 bytes in base64, as `openssl pkey -in FILE -pubout -outform DER | tail -c 32 | base64` prints them",
} as const;
/** Source of the pattern for one label of a namespace. */
export const LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?";
export const PATH = { pattern: /^[^\0]{1,4096}$/, what: "a file path", perNode: true } as const;
/** A file that SIGHUP reads again. */
export const RELOADED_FILE = { ...PATH, reloadable: true } as const;
/** `host:port`, with brackets around an IPv6 address. */
export const ADDRESS =
  /^(?:\[[0-9a-fA-F:.]{2,45}(?:%[A-Za-z0-9]{1,16})?\]|[A-Za-z0-9._-]{1,253}):(?:[1-9]\d{0,3}|[1-5]\d{4}|6[0-4]\d{3}|65[0-4]\d{2}|655[0-2]\d|6553[0-5])$/;
/** An address to bind to. */
export const HOST = { pattern: /^[A-Za-z0-9._:%-]{1,253}$/, what: "an IP address or host name", perNode: true } as const;

/** For text values, which have the same form in files, in the environment and in flags. */
const AS_WRITTEN = { fromText: (raw: string) => raw, toText: (value: string) => value } as const;

/** Text. */
export function text<D extends string | undefined = undefined>(options: SettingFieldOptions<D> & TextRule): SettingField<string | D> {
  return row<string, D>(options, { type: "text", parse: (raw) => parseText(raw, options), ...AS_WRITTEN });
}

/** One of a few words. */
export function choice<const C extends string, const D extends C | undefined = undefined>(
  options: SettingFieldOptions<D> & { readonly choices: readonly C[] },
): SettingField<C | D> {
  const { choices } = options;
  return row<C, D>(options, {
    type: choices.join(" | "),
    parse: (raw) => {
      const value = choices.find((word) => word === raw);
      return value === undefined ? refused(`${shown(raw)} is not one of ${choices.join(", ")}`) : { value };
    },
    ...AS_WRITTEN,
  });
}

/** Maximum number of items in a list, or of tables in a list, unless a row sets a lower one. */
export const MAX_ITEMS = 1000;

interface ListRule extends TextRule {
  readonly maxItems?: number;
  /** The part of an item that must be unique. Defaults to the whole item. */
  readonly itemKey?: (item: string) => string;
}

/** A list of distinct texts, written as `a,b` in the environment and in flags. */
export function list(options: WithDefault<readonly string[]> & ListRule): SettingField<readonly string[]> {
  const { maxItems = MAX_ITEMS, itemKey = (item) => item } = options;
  return {
    ...options,
    type: "list of text",
    parse: (raw) => {
      if (!Array.isArray(raw)) return refused(`${shown(raw)} is not a list`);
      if (raw.length > maxItems) return refused(`${raw.length} items exceed the maximum of ${maxItems}`);
      const value: string[] = [];
      const keys = new Set<string>();
      for (const item of raw) {
        const parsed = parseText(item, options);
        if ("faults" in parsed) return parsed;
        const key = itemKey(parsed.value);
        if (keys.has(key)) return refused(`${shown(parsed.value)} appears twice`);
        keys.add(key);
        value.push(parsed.value);
      }
      return { value };
    },
    fromText: (raw) => (raw === "" ? [] : raw.split(",").map((item) => item.trim())),
    toText: (value) => value.join(","),
  };
}

/** The value of a JSON text, or a `DuplicateKey`. If the text is not JSON, the value is `otherwise`. */
export function fromJson(raw: string, otherwise: string): unknown {
  try {
    return readJson(raw);
  } catch {
    return otherwise;
  }
}

interface PairsRule {
  readonly maxItems: number;
  readonly name: RegExp;
  /** A description of valid names, used in "is not …". */
  readonly nameWhat: string;
  /** In characters. */
  readonly maxValueLength: number;
}

/** The pairs in `a=b,c=d`, or undefined if the text has another form. */
function writtenPairs(raw: string): readonly (readonly [name: string, value: string])[] | undefined {
  const parts = raw.split(",").map((part) => part.trim());
  if (parts.some((part) => !/^[^=]+=/.test(part))) return undefined;
  return parts.map((part) => [part.slice(0, part.indexOf("=")), part.slice(part.indexOf("=") + 1)]);
}

/** The first name that is repeated in a text such as `a=b,a=d`. */
function repeatedName(raw: string): string | undefined {
  const names = writtenPairs(raw)?.map(([name]) => name) ?? [];
  return names.find((name, at) => names.indexOf(name) < at);
}

/** A table of texts. In the environment and in flags, it is written either as JSON, like every table, or as `a=b,c=d`. */
export function pairs(options: WithDefault<Readonly<Record<string, string>>> & PairsRule): SettingField<Readonly<Record<string, string>>> {
  return {
    ...options,
    type: "table of text",
    parse: (raw) => parsePairs(raw, options),
    fromText: (raw) => {
      if (raw === "") return {};
      const table = fromJson(raw, raw);
      if (typeof table === "object") return table;
      const written = writtenPairs(raw);
      return written === undefined || repeatedName(raw) !== undefined ? raw : Object.fromEntries(written);
    },
    toText: (value) => {
      const entries = Object.entries(value);
      // Commas and spaces separate pairs, so a value that contains either of them must be written as JSON.
      const isPlain = entries.every(([name, item]) => /^[^\s=,{[]+$/.test(name) && !/[,\s]/.test(item));
      return isPlain ? entries.map(([name, item]) => `${name}=${item}`).join(",") : JSON.stringify(value);
    },
  };
}

function parsePairs(
  raw: unknown,
  { maxItems, name: namePattern, nameWhat, maxValueLength }: PairsRule,
): ParsedValue<Readonly<Record<string, string>>> {
  const repeated = typeof raw === "string" ? repeatedName(raw) : undefined;
  if (repeated !== undefined) return refused(`the name ${repeated} appears twice`);
  if (typeof raw !== "object" || raw === null || Array.isArray(raw))
    return refused(`${shown(raw)} is not a table with pairs of the form name = "text"`);
  const entries = Object.entries(raw);
  if (entries.length > maxItems) return refused(`${entries.length} pairs exceed the maximum of ${maxItems}`);
  const value: [string, string][] = [];
  for (const [name, item] of entries) {
    if (!namePattern.test(name)) return refused(`name ${shown(name)} is not ${nameWhat}`);
    if (typeof item !== "string") return refused(`${name} = ${shown(item)} is not text`);
    if (item.length > maxValueLength)
      return refused(`the value of ${name} has ${item.length} characters, more than the maximum of ${maxValueLength}`);
    value.push([name, item]);
  }
  return { value: Object.fromEntries(value) };
}
