/** Loads settings from a file, the environment and flags. The caller passes the contents of all three. */
import { parse as parseToml, TomlError } from "smol-toml";
import { assert } from "../lib/errors.ts";
import { DuplicateKey, readJson } from "../lib/formats/json-lines.ts";
import { didYouMean } from "../lib/nearest.ts";
import { brokenRules } from "./rules.ts";
import { SETTING_ROWS, type SettingRow, type Settings, settingsOf, valueOfRow } from "./settings.ts";

export interface SettingProblem {
  /** Key of the setting. Empty if the problem concerns the source as a whole. */
  readonly path: string;
  /** The error with the invalid value, and how to correct it. */
  readonly message: string;
  /** `file node.toml`, `environment WAYMARK_…`, `flag --…`. */
  readonly source: string;
}

export interface SettingSource {
  /** Contents of the settings file. */
  readonly file?: { readonly name: string; readonly text: string; readonly format: "toml" | "json" };
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Values of `serve`'s flags by setting path (`listen.grpc_port`). The value is true for a flag without a value. */
  readonly flags: ReadonlyMap<string, string | true>;
}

export interface EffectiveSettings {
  readonly settings: Settings;
  /** The source of each value, by path: `default`, `file node.toml`, `environment WAYMARK_…`, `flag --…`. */
  readonly origins: ReadonlyMap<string, string>;
}

export type LoadResult =
  | { readonly ok: true; readonly effective: EffectiveSettings }
  | { readonly ok: false; readonly problems: readonly SettingProblem[] };

/** Maximum number of problems in a result. The search for the nearest known key costs up to 1 ms per unknown key. */
const MAX_PROBLEMS = 100;

/** Loads all sources. Returns the effective settings with the source of each, or the problems from all sources. */
export function loadConfig(source: SettingSource): LoadResult {
  const found = new Map<string, { readonly value: unknown; readonly origin: string }>();
  const problems: SettingProblem[] = [];
  for (const each of valuesOf(source)) {
    if (problems.length >= MAX_PROBLEMS) break;
    if ("message" in each) problems.push(each);
    else if (each.raw instanceof DuplicateKey) problems.push(repeated(each.source, each.raw, each.row.path));
    else {
      const { row, raw, source: origin } = each;
      const parsed = row.setting.parse(raw);
      if ("value" in parsed) found.set(row.path, { value: parsed.value, origin });
      else for (const { at, message } of parsed.faults) problems.push({ path: pathText([row.path, ...at]), message, source: origin });
    }
  }
  if (problems.length > 0) return { ok: false, problems: bounded(problems) };
  const settings = settingsOf(({ path, setting }) => (found.has(path) ? found.get(path)?.value : setting.default));
  const originOf = (path: string): string => found.get(path)?.origin ?? "default";
  const broken = brokenRules(settings).map(([path, message]) => ({ path, message, source: originOf(path.replace(/\[.*$/, "")) }));
  const origins = new Map(PATHS.map((path) => [path, originOf(path)]));
  return broken.length > 0 ? { ok: false, problems: bounded(broken) } : { ok: true, effective: { settings, origins } };
}

function bounded(problems: readonly SettingProblem[]): readonly SettingProblem[] {
  if (problems.length < MAX_PROBLEMS) return problems;
  const message = `only the first ${MAX_PROBLEMS - 1} problems are listed`;
  return [...problems.slice(0, MAX_PROBLEMS - 1), { path: "", message, source: problems[0]?.source ?? "" }];
}

/** The values from all sources. A later value overrides an earlier one. */
function* valuesOf({ file, env, flags }: SettingSource): Generator<SourceValue> {
  if (file !== undefined) yield* fileSays(file);
  yield* envSays(env);
  yield* flagsSay(flags);
}

/** A setting's value from one source, in the form that is used in a file, or a problem. */
type SourceValue = SettingProblem | { readonly row: SettingRow; readonly raw: unknown; readonly source: string };

function repeated(source: string, { path, key }: DuplicateKey, ...above: readonly string[]): SettingProblem {
  return { path: pathText([...above, ...path]), message: `the name ${key} appears twice`, source };
}

/** `tenants.credentials[2].roles`. */
function pathText(path: readonly (string | number)[]): string {
  return path.map((step, i) => (typeof step === "number" ? `[${step}]` : `${i === 0 ? "" : "."}${step}`)).join("");
}

const GROUPS: ReadonlySet<string> = new Set(SETTING_ROWS.map(({ group }) => group));
const PATHS: readonly string[] = SETTING_ROWS.map(({ path }) => path);
const NOT_A_TABLE = "must be a table of settings";

function* fileSays(file: NonNullable<SettingSource["file"]>): Generator<SourceValue> {
  const source = `file ${file.name}`;
  let raw: unknown;
  try {
    raw = parseFile(file);
  } catch (error) {
    yield { path: "", message: parserMessage(error), source };
    return;
  }
  if (raw instanceof DuplicateKey) yield repeated(source, raw);
  else if (!isTable(raw)) yield { path: "", message: NOT_A_TABLE, source };
  else {
    for (const [group, table] of Object.entries(raw)) {
      if (!GROUPS.has(group)) yield { path: group, message: `unknown key${didYouMean(group, [...GROUPS])}`, source };
      else if (!isTable(table)) yield { path: group, message: NOT_A_TABLE, source };
      else
        for (const [key, value] of Object.entries(table)) {
          const path = `${group}.${key}`;
          const row = SETTING_ROWS.find((candidate) => candidate.path === path);
          yield row ? { row, raw: value, source } : { path, message: `unknown key${didYouMean(path, PATHS)}`, source };
        }
    }
  }
}

function isTable(raw: unknown): raw is Readonly<Record<string, unknown>> {
  return typeof raw === "object" && raw !== null && !Array.isArray(raw);
}

function parseFile({ format, text }: NonNullable<SettingSource["file"]>): unknown {
  // Some editors put a byte order mark at the start of a file. The TOML parser skips it, but JSON.parse does not.
  return format === "json" ? readJson(text.replace(/^\uFEFF/, "")) : parseToml(text);
}

/** The first line of a parser's error message. The other lines show the position in the text. */
function parserMessage(error: unknown): string {
  if (error instanceof TomlError)
    return `line ${error.line}, column ${error.column}: ${(error.message.split("\n")[0] ?? "").replace("Invalid TOML document: ", "")}`;
  return error instanceof Error ? error.message : String(error);
}

/** Environment variables for the client commands, which are not settings. */
const CLIENT_ENV = new Set(["SERVER", "TLS", "TOKEN", "CA", "CERT", "KEY", "TENANT"].map((word) => `WAYMARK_${word}`));

// In a namespace that has a Service called "waymark", Kubernetes sets these variables in every container.
const INJECTED = /^WAYMARK_(SERVICE|PORT)(_[A-Z0-9_]*)?$/;

const ENV_NAMES: readonly string[] = SETTING_ROWS.map(({ env }) => env);

function* envSays(env: SettingSource["env"]): Generator<SourceValue> {
  for (const [name, raw] of Object.entries(env)) {
    if (raw === undefined || !name.startsWith("WAYMARK_") || CLIENT_ENV.has(name)) continue;
    if (!name.includes("__") && INJECTED.test(name)) continue;
    const source = `environment ${name}`;
    const row = SETTING_ROWS.find((candidate) => candidate.env === name);
    yield row ? { row, raw: row.setting.fromText(raw), source } : { path: "", message: `unknown key${nearestVariable(name)}`, source };
  }
}

function nearestVariable(name: string): string {
  const word = name.slice("WAYMARK_".length);
  // The name lacks only the group.
  const same = ENV_NAMES.find((known) => known.endsWith(`__${word}`));
  const words = ENV_NAMES.map((known) => known.slice("WAYMARK_".length));
  return same === undefined ? didYouMean(word, words, "WAYMARK_") : `; did you mean ${same}?`;
}

function* flagsSay(flags: SettingSource["flags"]): Generator<SourceValue> {
  for (const [path, raw] of flags) {
    const row = SETTING_ROWS.find((candidate) => candidate.path === path);
    assert(row !== undefined, `${path} is not a setting`);
    yield { row, raw: raw === true ? true : row.setting.fromText(raw), source: `flag ${row.setting.flag?.split(" ")[0] ?? path}` };
  }
}

export interface ShownSetting extends SettingRow {
  /** The value as a person would write it, or `[secret]` for a secret that is set. */
  readonly value: string;
  readonly origin: string;
}

/** Every setting with its value and source, formatted for people. Secrets are masked. */
export function listSettings(effective: EffectiveSettings): readonly ShownSetting[] {
  return SETTING_ROWS.map((row) => {
    const { path, setting } = row;
    const value = valueOfRow(effective.settings, row);
    const isMasked = setting.secret === true && value !== undefined && value !== "";
    return { ...row, value: isMasked ? "[secret]" : setting.toText(value), origin: effective.origins.get(path) ?? "default" };
  });
}

/** The same list, formatted for programs as an object by path. */
export function settingsDocument(effective: EffectiveSettings): Record<string, { readonly value: string; readonly origin: string }> {
  return Object.fromEntries(listSettings(effective).map(({ path, value, origin }) => [path, { value, origin }]));
}

/** A problem as a single line: `listen.grpc_port: 70000 is more than the maximum of 65535 (flag --grpc-port)`. */
export function problemText({ path, message, source }: SettingProblem): string {
  return `${path === "" ? "" : `${path}: `}${message} (${source})`;
}
