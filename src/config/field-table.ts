/**
 * Settings that are tables of settings: either a single table (`record`) or several tables (`rows`). In files they are written as tables, and in the
 * environment as JSON.
 */
import { didYouMean } from "../lib/nearest.ts";
import { type FieldFault, fromJson, MAX_ITEMS, type ParsedValue, refused, type SettingField } from "./field.ts";

type FieldTable = Readonly<Record<string, SettingField<unknown>>>;
/** The type of a setting's value. */
export type ValueOf<K> = K extends SettingField<infer T> ? T : never;
/** A table in code, with each field under its name in code. An absent field has its default value. */
type TableOf<F extends FieldTable> = { readonly [N in keyof F]: ValueOf<F[N]> };

interface TableOptions<F extends FieldTable> {
  readonly doc: string;
  /** Fields by name in code. */
  readonly fields: F;
  /** Required fields. */
  readonly required: readonly (keyof F & string)[];
  /** Maximum number of tables in a list. Defaults to `MAX_ITEMS`. */
  readonly maxItems?: number;
  /** Returns the error if the fields contradict each other. The error must not contain a secret. */
  readonly check?: (table: TableOf<F>) => string | undefined;
}

/** The key in files that corresponds to a name in code: `min_ttl` for `minTtlMs` with the suffix `Ms`. Most settings have no suffix. */
export function fileKey(name: string, suffix = ""): string {
  return name.slice(0, name.length - suffix.length).replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

function readTable<F extends FieldTable>(raw: unknown, { fields, required, check }: TableOptions<F>): ParsedValue<TableOf<F>> {
  if (typeof raw !== "object" || raw === null || Array.isArray(raw))
    return refused(`is not a table with the fields ${Object.keys(fields).join(", ")}`);
  const values: Record<string, unknown> = {};
  const given = new Map<string, unknown>(Object.entries(raw));
  const faults: FieldFault[] = [];
  const keys: string[] = [];
  for (const [name, setting] of Object.entries(fields)) {
    const key = fileKey(name, setting.suffix);
    const value = given.get(key);
    keys.push(key);
    given.delete(key);
    if (value === undefined) {
      if (required.includes(name)) faults.push({ at: [key], message: "is required" });
      values[name] = setting.default;
      continue;
    }
    const parsed = setting.parse(value);
    if ("value" in parsed) values[name] = parsed.value;
    // An error about a secret describes the valid form, but never contains the value.
    else if (setting.secret === true) faults.push({ at: [key], message: `is not ${setting.what ?? setting.type}` });
    else faults.push(...within(key, parsed.faults));
  }
  for (const unknown of given.keys()) faults.push({ at: [unknown], message: `unknown key${rightKey(unknown, keys, fields)}` });
  if (faults.length > 0) return { faults };
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the parser's cast: each field was parsed by its row, or is its default
  const table = values as TableOf<F>;
  const problem = check?.(table);
  return problem === undefined ? { value: table } : refused(problem);
}

/** The end of the error for an unknown key, which suggests another key. */
function rightKey(unknown: string, keys: readonly string[], fields: FieldTable): string {
  // The key is valid only in an inner table, but was written next to that table.
  const table = Object.entries(fields).find(([, { type, fields: inside = {} }]) => type === "table" && Object.hasOwn(inside, unknown));
  return table === undefined ? didYouMean(unknown, keys) : `; did you mean ${fileKey(table[0])}.${unknown}?`;
}

/** The faults of a part, each with the path of the part in front. */
function within(part: string | number, faults: readonly FieldFault[]): readonly FieldFault[] {
  return faults.map(({ at, message }) => ({ at: [part, ...at], message }));
}

function fieldsOf<F extends FieldTable>({ fields, required }: TableOptions<F>): NonNullable<SettingField<unknown>["fields"]> {
  const named = Object.entries(fields).map(
    ([name, setting]) => [fileKey(name, setting.suffix), { setting, isRequired: required.includes(name) }] as const,
  );
  return Object.fromEntries(named);
}

/** The table as written in a file, without absent fields and with masked secrets. */
function shownTable<F extends FieldTable>(table: TableOf<F>, { fields }: TableOptions<F>): Record<string, unknown> {
  const shown: Record<string, unknown> = {};
  for (const [name, setting] of Object.entries(fields)) {
    const value: unknown = table[name];
    if (value === undefined || (Array.isArray(value) && value.length === 0)) continue;
    shown[fileKey(name, setting.suffix)] = setting.secret === true ? "[secret]" : shownValue(value, setting);
  }
  return shown;
}

function shownValue(value: unknown, setting: SettingField<unknown>): unknown {
  if (setting.shown !== undefined) return setting.shown(value);
  return typeof value === "number" ? setting.toText(value) : value;
}

/** Parses JSON from the environment. Text that is not JSON can contain a secret, so only its length is passed to `parse`, which refuses it. */
function tableOf(raw: string): unknown {
  return fromJson(raw, `${raw.length} characters that are not JSON`);
}

/** An optional table. */
export function record<F extends FieldTable>(options: TableOptions<F>): SettingField<TableOf<F> | undefined> {
  const kind = requiredTable(options);
  return { ...kind, default: undefined, toText: (value) => (value === undefined ? "" : kind.toText(value)) };
}

/** A required table inside another table. */
export function requiredTable<F extends FieldTable>(options: TableOptions<F>): SettingField<TableOf<F>> {
  const unset = Object.entries(options.fields).map(([name, setting]) => [name, setting.default]);
  const shown = (value: TableOf<F>) => shownTable(value, options);
  return {
    doc: options.doc,
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- each field has the default of its row
    default: Object.fromEntries(unset) as TableOf<F>,
    type: "table",
    fields: fieldsOf(options),
    parse: (raw) => readTable(raw, options),
    fromText: tableOf,
    toText: (value) => JSON.stringify(shown(value)),
    shown,
  };
}

/** Several tables. The default is an empty list. */
export function rows<F extends FieldTable>(options: TableOptions<F>): SettingField<readonly TableOf<F>[]> {
  const { maxItems = MAX_ITEMS } = options;
  const shown = (value: readonly TableOf<F>[]) => value.map((each) => shownTable(each, options));
  return {
    doc: options.doc,
    default: [],
    type: "list of tables",
    fields: fieldsOf(options),
    parse: (raw) => {
      if (!Array.isArray(raw)) return refused("is not a list of tables");
      if (raw.length > maxItems) return refused(`${raw.length} tables exceed the maximum of ${maxItems}`);
      const tables: TableOf<F>[] = [];
      const faults: FieldFault[] = [];
      for (const [i, each] of raw.entries()) {
        const parsed = readTable(each, options);
        if ("value" in parsed) tables.push(parsed.value);
        else faults.push(...within(i, parsed.faults));
      }
      return faults.length === 0 ? { value: tables } : { faults };
    },
    fromText: (raw) => (raw === "" ? [] : tableOf(raw)),
    toText: (value) => (value.length === 0 ? "" : JSON.stringify(shown(value))),
    shown,
  };
}
