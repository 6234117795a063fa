/** Settings that are tables of settings: one (`record`) or several (`rows`). In files they are tables, in the environment JSON. */
import { z } from "zod";
import { readJson } from "../lib/json-lines.ts";
import { findNearest } from "../lib/nearest.ts";
import type { SettingField, SettingFieldOptions } from "./field.ts";

type Fields = Readonly<Record<string, SettingField<unknown>>>;
type ValueOf<K> = K extends { readonly schema: z.ZodType<infer T> } ? T : never;
/** What a table becomes: each field under its name in code; absent ones have their default. */
export type TableOf<F extends Fields> = { readonly [N in keyof F]: ValueOf<F[N]> };

interface TableOptions<F extends Fields> {
  /** By name in code. */
  readonly fields: F;
  /** Those without which a table means nothing. */
  readonly required: readonly (keyof F & string)[];
  /** What is wrong with fields together, or undefined; never with a value of a secret. */
  readonly check?: (table: TableOf<F>) => string | undefined;
}

/** One problem and where in the setting it is: `[2].roles`. */
interface Fault {
  readonly at: readonly (string | number)[];
  readonly message: string;
}

const MAX_ROWS = 1000;
/** Longest value shown of what is no table at all. */
const MAX_SHOWN = 64;

/** The key in files of a name in code. */
export function fileKey(name: string, suffix: string): string {
  return name.slice(0, name.length - suffix.length).replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

function readTable<F extends Fields>(
  raw: unknown,
  options: TableOptions<F>,
  at: readonly (string | number)[],
  faults: Fault[],
): TableOf<F> {
  const values: Record<string, unknown> = {};
  const isTable = typeof raw === "object" && raw !== null && !Array.isArray(raw);
  if (!isTable) faults.push({ at, message: `is not a table of ${Object.keys(options.fields).join(", ")}` });
  const given = new Map<string, unknown>(isTable ? Object.entries(raw) : []);
  const before = faults.length;
  for (const [name, setting] of Object.entries(options.fields)) {
    const key = fileKey(name, setting.suffix);
    const value = given.get(key);
    given.delete(key);
    if (value === undefined) {
      if (isTable && options.required.includes(name)) faults.push({ at: [...at, key], message: "is required" });
      values[name] = setting.default;
      continue;
    }
    const checked = setting.schema.safeParse(value);
    if (checked.success) values[name] = checked.data;
    else {
      // What a secret should have been is said, but never what it is.
      const said =
        setting.secret === true ? [`is not ${setting.what ?? setting.type}`] : checked.error.issues.map((issue) => issue.message);
      faults.push(...said.map((message) => ({ at: [...at, key], message })));
    }
  }
  const keys = Object.entries(options.fields).map(([name, setting]) => fileKey(name, setting.suffix));
  for (const unknown of given.keys()) {
    const nearest = findNearest(unknown, keys);
    faults.push({ at: [...at, unknown], message: `unknown key${nearest === undefined ? "" : `; did you mean ${nearest}?`}` });
  }
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the parser's cast: each field passed its schema or is its default
  const table = values as TableOf<F>;
  const crossed = faults.length === before ? options.check?.(table) : undefined;
  if (crossed !== undefined) faults.push({ at, message: crossed });
  return table;
}

function schemaOf<T>(read: (raw: unknown, faults: Fault[]) => T): z.ZodType<T> {
  return z.unknown().transform((raw, context) => {
    const faults: Fault[] = [];
    const value = read(raw, faults);
    for (const { at, message } of faults) context.addIssue({ code: "custom", message, path: [...at] });
    return faults.length === 0 ? value : z.NEVER;
  });
}

function fieldsOf<F extends Fields>({ fields, required }: TableOptions<F>): NonNullable<SettingField<unknown>["fields"]> {
  const named = Object.entries(fields).map(
    ([name, setting]) => [fileKey(name, setting.suffix), { setting, isRequired: required.includes(name) }] as const,
  );
  return Object.fromEntries(named);
}

/** The table as a file would hold it, without absent fields; secrets masked. */
function shownTable<F extends Fields>(table: TableOf<F>, { fields }: TableOptions<F>): Record<string, unknown> {
  const shown: Record<string, unknown> = {};
  for (const [name, setting] of Object.entries(fields)) {
    const value: unknown = table[name];
    if (value === undefined || (Array.isArray(value) && value.length === 0)) continue;
    shown[fileKey(name, setting.suffix)] = setting.secret === true ? "[secret]" : typeof value === "number" ? setting.toText(value) : value;
  }
  return shown;
}

/** Text from the environment: JSON. What is none comes back for the schema to refuse, cut and without its content. */
function fromJson(raw: string): unknown {
  try {
    return readJson(raw);
  } catch {
    return `${raw.length} characters that are no JSON`.slice(0, MAX_SHOWN);
  }
}

/** A table that may be absent. */
export function record<F extends Fields>(
  options: Omit<SettingFieldOptions<undefined>, "default"> & TableOptions<F>,
): SettingField<TableOf<F> | undefined> {
  return {
    doc: options.doc,
    default: undefined,
    type: "table",
    suffix: "",
    fields: fieldsOf(options),
    schema: schemaOf<TableOf<F> | undefined>((raw, faults) => readTable(raw, options, [], faults)),
    fromText: fromJson,
    toText: (value) => (value === undefined ? "" : JSON.stringify(shownTable(value, options))),
  };
}

/** Several tables, none unless given; at most 1000. */
export function rows<F extends Fields>(
  options: Omit<SettingFieldOptions<undefined>, "default"> & TableOptions<F>,
): SettingField<readonly TableOf<F>[]> {
  return {
    doc: options.doc,
    default: [],
    type: "list of tables",
    suffix: "",
    fields: fieldsOf(options),
    schema: schemaOf<readonly TableOf<F>[]>((raw, faults) => {
      if (!Array.isArray(raw)) faults.push({ at: [], message: "is not a list of tables" });
      else if (raw.length > MAX_ROWS) faults.push({ at: [], message: `${raw.length} tables are more than ${MAX_ROWS}, the most allowed` });
      else return raw.map((each: unknown, i) => readTable(each, options, [i], faults));
      return [];
    }),
    fromText: (raw) => (raw === "" ? [] : fromJson(raw)),
    toText: (value) => (value.length === 0 ? "" : JSON.stringify(value.map((each) => shownTable(each, options)))),
  };
}
