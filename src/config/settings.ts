/**
 * Settings: the SETTINGS table is the one schema, read from file, environment and flags in rising order. Pure: text,
 * environment and flags come in as values. To add a setting, add a row and read it (`settings.<group>.<name>`).
 */
import { parse as parseToml, TomlError } from "smol-toml";
import { z } from "zod";
import { NODE_HOST, REACHABLE_HOST } from "../lib/bounds/node.ts";
import { RepeatedKey, readJson } from "../lib/json-lines.ts";
import { findNearest } from "../lib/nearest.ts";
import { AUDIT_SETTINGS } from "./audit.ts";
import { CATALOG_SETTINGS } from "./catalog.ts";
import { DNS_SETTINGS } from "./dns.ts";
import { FABRIC_SETTINGS } from "./fabric.ts";
import { bool, choice, int, list, ms, optionalText, port, type SettingField, text } from "./field.ts";
import { fileKey } from "./field-table.ts";
import { LIMIT_SETTINGS, QUOTA_SETTINGS } from "./limits.ts";
import { NODE_SETTINGS } from "./node.ts";
import { POLICY_SETTINGS } from "./policy.ts";
import { brokenRules } from "./rules.ts";
import { TENANT_SETTINGS } from "./tenants.ts";

const HOUR_MS = 3_600_000;
const HOST = { pattern: /^[A-Za-z0-9._:%-]{1,253}$/, what: "an IP address or host name" } as const;
const PATH = { pattern: /^[^\0]{1,4096}$/, what: "a file path" } as const;
/** Who may read what has no namespace and so no policy. */
const ENDPOINT_ACCESS = ["on", "authenticated", "off"] as const;

/**
 * One row a setting. A name in code carries its unit (`minTtlMs`), its key in files does not (`dns.min_ttl`, written
 * `1s`); all else of the key is the name in snake_case.
 */
const SETTINGS = {
  node: NODE_SETTINGS,
  listen: {
    host: text({ ...HOST, default: "127.0.0.1", flag: "--host <host>", doc: "Address the listeners bind to." }),
    advertiseHost: optionalText({
      pattern: REACHABLE_HOST,
      what: "a host name, an IPv4 address or an IPv6 address that others can connect to",
      flag: "--advertise-host <host>",
      doc: "Host others are told to connect to; when absent the bound address, or of a node bound to all of them the first that is not loopback.",
    }),
    grpcPort: port({ default: 17_420, flag: "--grpc-port <port>", doc: "Port of the gRPC listener; 0 means any free port." }),
    httpPort: port({ default: 17_480, flag: "--http-port <port>", doc: "Port of the HTTP edge; 0 means any free port." }),
    allowedHosts: list({
      pattern: NODE_HOST,
      what: "a host name, an IPv4 address or an IPv6 address",
      itemKey: (host) => host.toLowerCase().replace(/\.$/, ""),
      default: [],
      doc: "Names that requests to a plain HTTP edge may give as `Host`, beside loopback names and addresses of this node: a web page could make any other mean this node (DNS rebinding). With TLS every name is taken, and with tenants.anonymous = none too, unless there is a tenants.trusted_header.",
    }),
    corsOrigins: list({
      pattern: /^https?:\/\/[A-Za-z0-9.[\]:-]{1,253}$/,
      what: "an origin as browsers write it: https://ui.example",
      itemKey: (origin) => (URL.canParse(origin) ? new URL(origin).origin : origin),
      default: [],
      doc: "Origins whose web pages may read from the HTTP edge and write to it; writes from pages of other origins are refused.",
    }),
    insecure: bool({
      default: false,
      flag: "--insecure",
      doc: "Listen on other addresses than loopback although neither TLS nor a credential is configured: whoever reaches the node may do what tenants.anonymous says.",
    }),
  },
  // The names are those of server/grpc/listener.io.ts `GrpcLimits`: this group is handed over as it is.
  server: {
    maxConnections: int({ default: 20_000, min: 1, max: 1_000_000, doc: "Open connections a listener takes." }),
    maxStreamsPerConnection: int({
      default: 1_000,
      min: 1,
      max: 1_000_000,
      doc: "Open streams on one gRPC connection; beyond 128, only as many as last (watches, KeepAlive).",
    }),
    maxStreams: int({ default: 50_000, min: 1, max: 10_000_000, doc: "Open streams over all gRPC connections." }),
    keepaliveTimeMs: ms({
      default: 30_000,
      min: 1000,
      max: HOUR_MS,
      doc: "Silence after which a gRPC connection is asked whether it lives.",
    }),
    keepaliveTimeoutMs: ms({ default: 10_000, min: 100, max: HOUR_MS, doc: "Time it has to answer." }),
    maxConnectionAgeMs: ms({
      default: 0,
      min: 0,
      max: 24 * HOUR_MS,
      doc: "Age, give or take 10 %, at which a gRPC connection is told to go away; 0 means never.",
    }),
    maxConnectionAgeGraceMs: ms({ default: 60_000, min: 0, max: HOUR_MS, doc: "Time its open calls then have." }),
    reflection: choice({
      choices: ENDPOINT_ACCESS,
      default: "on",
      doc: "Who may read the protos by gRPC reflection; off means it is not served.",
    }),
  },
  tls: {
    certFile: optionalText({ ...PATH, doc: "PEM file with the certificate chain of the gRPC and HTTP listeners; plain text when absent." }),
    keyFile: optionalText({ ...PATH, doc: "PEM file with the private key of tls.cert_file." }),
    caFile: optionalText({ ...PATH, doc: "PEM file with the authorities that client certificates must come from." }),
    requireClientCert: bool({ default: false, doc: "Refuse clients without a certificate from tls.ca_file." }),
  },
  tenants: TENANT_SETTINGS,
  persistence: {
    dataDir: text({ ...PATH, default: "./waymark-data", flag: "--data-dir <dir>", doc: "Directory for the journal and the node id." }),
    newGeneration: bool({
      default: false,
      flag: "--new-generation",
      doc: "Start as a new origin with what the data directory holds: after restoring a backup, or when the directory was refused because its log is missing.",
    }),
    ephemeral: bool({ default: false, flag: "--ephemeral", doc: "Keep nothing on disk; every start is a new generation." }),
  },
  catalog: CATALOG_SETTINGS,
  limits: LIMIT_SETTINGS,
  quotas: QUOTA_SETTINGS,
  dns: DNS_SETTINGS,
  fabric: FABRIC_SETTINGS,
  policy: POLICY_SETTINGS,
  audit: AUDIT_SETTINGS,
  observability: {
    logLevel: choice({
      choices: ["trace", "debug", "info", "warn", "error", "silent"],
      default: "info",
      flag: "--log-level <level>",
      doc: "Least severity that is logged.",
    }),
    logScopes: list({
      pattern: /^[a-z][a-z0-9.-]{0,63}(?:=(?:trace|debug|info|warn|error|silent))?$/,
      what: "component or component=level",
      itemKey: (scope) => scope.replace(/=.*/, ""),
      default: [],
      flag: "--log-scopes <scopes>",
      doc: "Components with a level of their own, as in dns=debug,server.grpc=trace; without a level it is debug.",
    }),
    logFormat: choice({ choices: ["json", "text"], default: "json", doc: "One JSON object a line, or text for people." }),
    metricsAccess: choice({
      choices: ENDPOINT_ACCESS,
      default: "on",
      doc: "Who may read /metrics, /metrics/persistence and /sd/prometheus; off means they are not served.",
    }),
  },
} as const satisfies Record<string, Record<string, SettingField<unknown>>>;

type ValueOf<K> = K extends { readonly schema: z.ZodType<infer T> } ? T : never;
type SettingFields = typeof SETTINGS;

/** Effective settings, by group and name in code: `settings.listen.grpcPort`. */
export type Settings = { readonly [G in keyof SettingFields]: { readonly [N in keyof SettingFields[G]]: ValueOf<SettingFields[G][N]> } };

export interface SettingRow {
  readonly group: string;
  /** Name in code, `minTtlMs`. */
  readonly name: string;
  /** Key in files, `dns.min_ttl`. */
  readonly path: string;
  /** `WAYMARK_DNS__MIN_TTL`. */
  readonly env: string;
  readonly setting: SettingField<unknown>;
}

function rowsOf(): readonly SettingRow[] {
  const rows: SettingRow[] = [];
  const groups: Readonly<Record<string, Readonly<Record<string, SettingField<unknown>>>>> = SETTINGS;
  for (const [group, settingRows] of Object.entries(groups)) {
    for (const [name, setting] of Object.entries(settingRows)) {
      const key = fileKey(name, setting.suffix);
      rows.push({
        group,
        name,
        path: `${group}.${key}`,
        env: `WAYMARK_${group}__${key}`.toUpperCase(),
        setting,
      });
    }
  }
  return rows;
}

/** Every setting, in the table's order. */
export const SETTING_ROWS: readonly SettingRow[] = rowsOf();

export interface Problem {
  /** Key of the setting, empty when it concerns the source as a whole. */
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

/** The schema of a settings file; every key may be absent. */
const FILE_SCHEMA = z.strictObject(
  Object.fromEntries(
    Object.keys(SETTINGS).map((group) => [
      group,
      z
        .strictObject(
          Object.fromEntries(SETTING_ROWS.filter((row) => row.group === group).map((row) => [keyOf(row), row.setting.schema.optional()])),
        )
        .optional(),
    ]),
  ),
);

function keyOf(row: SettingRow): string {
  return row.path.slice(row.group.length + 1);
}

function didYouMean(word: string, candidates: readonly string[]): string {
  const nearest = findNearest(word, candidates);
  return nearest === undefined ? "" : `; did you mean ${nearest}?`;
}

/** Values found in one source, by path, each with its own origin. */
interface Layer {
  readonly values: ReadonlyMap<string, { readonly value: unknown; readonly origin: string }>;
  readonly problems: readonly Problem[];
}

function parseFile(file: NonNullable<SettingSource["file"]>): unknown {
  // Some editors begin a file with a mark of its encoding; TOML's parser passes over it.
  if (file.format === "json") return readJson(file.text.replace(/^\uFEFF/, ""));
  return parseToml(file.text);
}

/** One line of what a parser said: the rest is a drawing of the place. */
function parserMessage(error: unknown): string {
  if (error instanceof TomlError)
    return `line ${error.line}, column ${error.column}: ${(error.message.split("\n")[0] ?? "").replace("Invalid TOML document: ", "")}`;
  return error instanceof Error ? error.message : String(error);
}

function fileLayer(file: NonNullable<SettingSource["file"]>): Layer {
  const source = `file ${file.name}`;
  let raw: unknown;
  try {
    raw = parseFile(file);
  } catch (error) {
    return { values: new Map(), problems: [{ path: "", message: parserMessage(error), source }] };
  }
  if (raw instanceof RepeatedKey) return { values: new Map(), problems: [repeatedProblem(raw, [], source)] };
  const checked = FILE_SCHEMA.safeParse(raw);
  const problems = checked.success ? [] : checked.error.issues.flatMap((issue) => fileProblems(issue, source));
  const values = new Map<string, { value: unknown; origin: string }>();
  for (const [group, settingRows] of Object.entries(checked.data ?? {})) {
    for (const [key, value] of Object.entries(settingRows ?? {})) values.set(`${group}.${key}`, { value, origin: source });
  }
  return { values, problems };
}

function fileProblems(issue: z.core.$ZodIssue, source: string): Problem[] {
  const path = pathText(issue.path);
  if (issue.code !== "unrecognized_keys") {
    const message = issue.code === "invalid_type" ? "must be a table of settings" : issue.message;
    return [{ path, message, source }];
  }
  return issue.keys.map((key) => {
    const full = path === "" ? key : `${path}.${key}`;
    const candidates = path === "" ? Object.keys(SETTINGS) : SETTING_ROWS.map((row) => row.path);
    return { path: full, message: `unknown key${didYouMean(full, candidates)}`, source };
  });
}

function repeatedProblem({ path, key }: RepeatedKey, above: readonly string[], source: string): Problem {
  return { path: pathText([...above, ...path]), message: `the name ${key} is there twice`, source };
}

/** `tenants.credentials[2].roles`. */
function pathText(path: readonly PropertyKey[]): string {
  return path.map((step, i) => (typeof step === "number" ? `[${step}]` : `${i === 0 ? "" : "."}${String(step)}`)).join("");
}

/** Environment variables of the command line's own, which are not settings. */
const CLIENT_ENV = new Set(["SERVER", "TLS", "TOKEN", "CA", "CERT", "KEY", "TENANT"].map((word) => `WAYMARK_${word}`));

const ENV_WORDS = SETTING_ROWS.map((row) => row.env.slice("WAYMARK_".length));

// Kubernetes puts these into every container of a namespace with a Service called "waymark".
const INJECTED = /^WAYMARK_(SERVICE|PORT)(_[A-Z0-9_]*)?$/;

function envLayer(env: SettingSource["env"]): Layer {
  const values = new Map<string, { value: unknown; origin: string }>();
  const problems: Problem[] = [];
  for (const [name, raw] of Object.entries(env)) {
    if (raw === undefined || !name.startsWith("WAYMARK_") || CLIENT_ENV.has(name)) continue;
    if (!name.includes("__") && INJECTED.test(name)) continue;
    const source = `environment ${name}`;
    const row = SETTING_ROWS.find((candidate) => candidate.env === name);
    if (row === undefined) {
      const word = name.slice("WAYMARK_".length);
      // Whoever leaves out the group has the rest right.
      const nearest = ENV_WORDS.find((known) => known.endsWith(`__${word}`)) ?? findNearest(word, ENV_WORDS);
      const hint = nearest === undefined ? "" : `; did you mean WAYMARK_${nearest}?`;
      problems.push({ path: "", message: `unknown key${hint}`, source });
      continue;
    }
    check(row, { raw: row.setting.fromText(raw), source }, values, problems);
  }
  return { values, problems };
}

function flagLayer(flags: SettingSource["flags"]): Layer {
  const values = new Map<string, { value: unknown; origin: string }>();
  const problems: Problem[] = [];
  for (const [path, raw] of flags) {
    const row = SETTING_ROWS.find((candidate) => candidate.path === path);
    const source = `flag ${row?.setting.flag?.split(" ")[0] ?? path}`;
    if (row === undefined) problems.push({ path, message: "unknown key", source });
    else check(row, { raw: raw === true ? true : row.setting.fromText(raw), source }, values, problems);
  }
  return { values, problems };
}

function check(
  row: SettingRow,
  given: { readonly raw: unknown; readonly source: string },
  values: Map<string, { value: unknown; origin: string }>,
  problems: Problem[],
): void {
  if (given.raw instanceof RepeatedKey) {
    problems.push(repeatedProblem(given.raw, [row.path], given.source));
    return;
  }
  const checked = row.setting.schema.safeParse(given.raw);
  if (checked.success) values.set(row.path, { value: checked.data, origin: given.source });
  else {
    for (const issue of checked.error.issues) {
      problems.push({ path: pathText([row.path, ...issue.path]), message: issue.message, source: given.source });
    }
  }
}

/** Reads all sources: the effective settings with the origin of each, or every problem found in any source. */
export function loadConfig(source: SettingSource): Loaded {
  const layers = [...(source.file ? [fileLayer(source.file)] : []), envLayer(source.env), flagLayer(source.flags)];
  const problems = layers.flatMap((layer) => layer.problems);
  if (problems.length > 0) return { ok: false, problems };
  const groups: Record<string, Record<string, unknown>> = {};
  const origins = new Map<string, string>();
  for (const row of SETTING_ROWS) {
    const found = layers.findLast((layer) => layer.values.has(row.path))?.values.get(row.path);
    const group = groups[row.group] ?? {};
    group[row.name] = found === undefined ? row.setting.default : found.value;
    groups[row.group] = group;
    origins.set(row.path, found?.origin ?? "default");
  }
  // Each value passed its own row's schema or is its default: this is the one place where the table becomes the type.
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the parser's cast, as said above
  const settings = groups as unknown as Settings;
  const crossed = brokenRules(settings).map(([path, message]) => ({ path, message, source: origins.get(path) ?? "default" }));
  return crossed.length > 0 ? { ok: false, problems: crossed } : { ok: true, effective: { settings, origins } };
}

export interface ShownSetting {
  readonly path: string;
  /** As a person would write it; `[secret]` for secrets that are set. */
  readonly value: string;
  readonly origin: string;
}

/** Every setting with value and origin, for people; secrets masked. */
export function listSettings(effective: Effective): readonly ShownSetting[] {
  return SETTING_ROWS.map(({ group, name, path, setting }) => {
    const groups: Readonly<Record<string, Readonly<Record<string, unknown>>>> = effective.settings;
    const value = groups[group]?.[name];
    const isMasked = setting.secret === true && value !== undefined && value !== "";
    return { path, value: isMasked ? "[secret]" : setting.toText(value), origin: effective.origins.get(path) ?? "default" };
  });
}

/** A problem as one line: `listen.grpc_port: 70000 is more than 65535, the largest allowed (flag --grpc-port)`. */
export function problemText(problem: Problem): string {
  return `${problem.path === "" ? "" : `${problem.path}: `}${problem.message} (${problem.source})`;
}
