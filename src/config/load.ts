/** Reads settings from a file, the environment and flags. Pure: text, environment and flags come in as values. */
import { parse as parseToml, TomlError } from "smol-toml";
import { RepeatedKey, readJson } from "../lib/json-lines.ts";
import { didYouMean } from "../lib/nearest.ts";
import { brokenRules } from "./rules.ts";
import { SETTING_ROWS, type SettingRow, type Settings, settingsOf } from "./settings.ts";

export interface Problem {
  /** Key of the setting; empty when the problem is about the source as a whole. */
  readonly path: string;
  /** What was wrong, with what value, and what would be right. */
  readonly message: string;
  /** `file node.toml`, `environment WAYMARK_…`, `flag --…`. */
  readonly source: string;
}

export interface SettingSource {
  /** Contents of the settings file. */
  readonly file?: { readonly name: string; readonly text: string; readonly format: "toml" | "json" };
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Values of `serve`'s flags by setting path (`listen.grpc_port`); true for a flag without a value. */
  readonly flags: ReadonlyMap<string, string | true>;
}

export interface Effective {
  readonly settings: Settings;
  /** Where each value came from, by path: `default`, `file node.toml`, `environment WAYMARK_…`, `flag --…`. */
  readonly origins: ReadonlyMap<string, string>;
}

export type Loaded = { readonly ok: true; readonly effective: Effective } | { readonly ok: false; readonly problems: readonly Problem[] };

/** Reads all sources. Returns the effective settings with the origin of each, or every problem of every source. */
export function loadConfig({ file, env, flags }: SettingSource): Loaded {
  // In rising order: a later source overrides an earlier one.
  const layers = [...(file ? [fileLayer(file)] : []), envLayer(env), flagLayer(flags)];
  const problems = layers.flatMap((layer) => layer.problems);
  if (problems.length > 0) return { ok: false, problems };
  const origins = new Map<string, string>();
  const settings = settingsOf(({ path, setting }) => {
    const found = layers.findLast(({ values }) => values.has(path))?.values.get(path);
    origins.set(path, found?.origin ?? "default");
    return found === undefined ? setting.default : found.value;
  });
  const broken = brokenRules(settings).map(([path, message]) => ({ path, message, source: origins.get(path) ?? "default" }));
  return broken.length > 0 ? { ok: false, problems: broken } : { ok: true, effective: { settings, origins } };
}

/** What one source says. */
class Layer {
  /** Values by path, each with its own origin. */
  readonly values = new Map<string, { readonly value: unknown; readonly origin: string }>();
  readonly problems: Problem[] = [];

  refuse(source: string, path: string, message: string): void {
    this.problems.push({ path, message, source });
  }

  refuseRepeated(source: string, { path, key }: RepeatedKey, above: readonly string[] = []): void {
    this.refuse(source, pathText([...above, ...path]), `the name ${key} is there twice`);
  }

  /** Takes a value as a file holds it. */
  take(source: string, { path, setting }: SettingRow, raw: unknown): void {
    if (raw instanceof RepeatedKey) {
      this.refuseRepeated(source, raw, [path]);
      return;
    }
    const parsed = setting.parse(raw);
    if ("value" in parsed) this.values.set(path, { value: parsed.value, origin: source });
    else for (const { at, message } of parsed.faults) this.refuse(source, pathText([path, ...at]), message);
  }
}

/** `tenants.credentials[2].roles`. */
function pathText(path: readonly (string | number)[]): string {
  return path.map((step, i) => (typeof step === "number" ? `[${step}]` : `${i === 0 ? "" : "."}${step}`)).join("");
}

const GROUPS: ReadonlySet<string> = new Set(SETTING_ROWS.map(({ group }) => group));
const PATHS: readonly string[] = SETTING_ROWS.map(({ path }) => path);
const NOT_A_TABLE = "must be a table of settings";

function fileLayer(file: NonNullable<SettingSource["file"]>): Layer {
  const layer = new Layer();
  const source = `file ${file.name}`;
  let raw: unknown;
  try {
    raw = parseFile(file);
  } catch (error) {
    layer.refuse(source, "", parserMessage(error));
    return layer;
  }
  if (raw instanceof RepeatedKey) layer.refuseRepeated(source, raw);
  else if (!isTable(raw)) layer.refuse(source, "", NOT_A_TABLE);
  else {
    for (const [group, table] of Object.entries(raw)) {
      if (!GROUPS.has(group)) layer.refuse(source, group, `unknown key${didYouMean(group, [...GROUPS])}`);
      else if (!isTable(table)) layer.refuse(source, group, NOT_A_TABLE);
      else
        for (const [key, value] of Object.entries(table)) {
          const row = SETTING_ROWS.find(({ path }) => path === `${group}.${key}`);
          if (row === undefined) layer.refuse(source, `${group}.${key}`, `unknown key${didYouMean(`${group}.${key}`, PATHS)}`);
          else layer.take(source, row, value);
        }
    }
  }
  return layer;
}

function isTable(raw: unknown): raw is Readonly<Record<string, unknown>> {
  return typeof raw === "object" && raw !== null && !Array.isArray(raw);
}

function parseFile({ format, text }: NonNullable<SettingSource["file"]>): unknown {
  // Some editors put a byte order mark at the start of a file. The TOML parser skips it, JSON.parse does not.
  return format === "json" ? readJson(text.replace(/^\uFEFF/, "")) : parseToml(text);
}

/** The first line of a parser's message. The rest is a drawing of the place. */
function parserMessage(error: unknown): string {
  if (error instanceof TomlError)
    return `line ${error.line}, column ${error.column}: ${(error.message.split("\n")[0] ?? "").replace("Invalid TOML document: ", "")}`;
  return error instanceof Error ? error.message : String(error);
}

/** Environment variables of the command line's own, which are not settings. */
const CLIENT_ENV = new Set(["SERVER", "TLS", "TOKEN", "CA", "CERT", "KEY", "TENANT"].map((word) => `WAYMARK_${word}`));

// Kubernetes puts these into every container of a namespace with a Service called "waymark".
const INJECTED = /^WAYMARK_(SERVICE|PORT)(_[A-Z0-9_]*)?$/;

const ENV_NAMES: readonly string[] = SETTING_ROWS.map(({ env }) => env);

function envLayer(env: SettingSource["env"]): Layer {
  const layer = new Layer();
  for (const [name, raw] of Object.entries(env)) {
    if (raw === undefined || !name.startsWith("WAYMARK_") || CLIENT_ENV.has(name)) continue;
    if (!name.includes("__") && INJECTED.test(name)) continue;
    const source = `environment ${name}`;
    const row = SETTING_ROWS.find((candidate) => candidate.env === name);
    if (row !== undefined) layer.take(source, row, row.setting.fromText(raw));
    else layer.refuse(source, "", `unknown key${nearestVariable(name)}`);
  }
  return layer;
}

function nearestVariable(name: string): string {
  const word = name.slice("WAYMARK_".length);
  // A name that only lacks its group is right otherwise.
  const same = ENV_NAMES.find((known) => known.endsWith(`__${word}`));
  const words = ENV_NAMES.map((known) => known.slice("WAYMARK_".length));
  return same === undefined ? didYouMean(word, words, "WAYMARK_") : `; did you mean ${same}?`;
}

function flagLayer(flags: SettingSource["flags"]): Layer {
  const layer = new Layer();
  for (const [path, raw] of flags) {
    const row = SETTING_ROWS.find((candidate) => candidate.path === path);
    const source = `flag ${row?.setting.flag?.split(" ")[0] ?? path}`;
    if (row === undefined) layer.refuse(source, path, "unknown key");
    else layer.take(source, row, raw === true ? true : row.setting.fromText(raw));
  }
  return layer;
}

export interface ShownSetting {
  readonly path: string;
  /** As a person would write it; `[secret]` for a secret that is set. */
  readonly value: string;
  readonly origin: string;
}

/** Every setting with value and origin, for people. Secrets are masked. */
export function listSettings(effective: Effective): readonly ShownSetting[] {
  const groups: Readonly<Record<string, Readonly<Record<string, unknown>>>> = effective.settings;
  return SETTING_ROWS.map(({ group, name, path, setting }) => {
    const value = groups[group]?.[name];
    const isMasked = setting.secret === true && value !== undefined && value !== "";
    return { path, value: isMasked ? "[secret]" : setting.toText(value), origin: effective.origins.get(path) ?? "default" };
  });
}

/** A problem as one line: `listen.grpc_port: 70000 is more than 65535, the largest allowed (flag --grpc-port)`. */
export function problemText({ path, message, source }: Problem): string {
  return `${path === "" ? "" : `${path}: `}${message} (${source})`;
}
