/** The flags of a command line, by name. Flags that the verb does not have are absent. */
import { parseDurationMs } from "../lib/duration.ts";
import { enumValue, type ProtoEnum } from "../lib/enum-words.ts";
import { parseTime } from "../lib/formats/rfc3339.ts";
import { UsageError } from "./exit.ts";

const A_TIME = "2026-01-31T12:00:00Z";

export class Flags {
  readonly #values: Readonly<Record<string, unknown>>;

  constructor(values: Readonly<Record<string, unknown>>) {
    this.#values = values;
  }

  text(name: string): string | undefined {
    const value = this.#values[name];
    return typeof value === "string" ? value : undefined;
  }

  list(name: string): readonly string[] {
    const value = this.#values[name];
    return Array.isArray(value) ? value.filter((item) => typeof item === "string") : [];
  }

  /** Returns the enum value of a flag, or zero if the flag is absent. commander has already checked the word against the flag's choices. */
  enum<E extends ProtoEnum>(name: string, values: E): E[keyof E] {
    return enumValue(values, this.text(name));
  }

  enums<E extends ProtoEnum>(name: string, values: E): E[keyof E][] {
    return this.list(name).map((word) => enumValue(values, word));
  }

  isOn(name: string): boolean {
    return this.#values[name] === true;
  }

  /** Returns a whole number from 1 to `max`. Zero is rejected, because in a request it means that the value is absent. */
  count(name: string, max: number): number | undefined {
    const countOf = (text: string) => (/^\d{1,16}$/.test(text) && Number(text) >= 1 && Number(text) <= max ? Number(text) : undefined);
    return this.#parsed(name, countOf, `a whole number from 1 to ${max}`);
  }

  /** A duration such as `30s`, in milliseconds. */
  durationMs(name: string): number | undefined {
    return this.#parsed(name, parseDurationMs, "a duration such as 500ms, 30s or 1h");
  }

  /** A time such as `2026-01-31T12:00:00Z`, in milliseconds since 1970. */
  instantMs(name: string): number | undefined {
    return this.#parsed(name, parseTime, `a time such as ${A_TIME}`);
  }

  /** A time, or a duration before now such as `1h`. */
  pastMs(name: string, nowWallMs: number): number | undefined {
    const wallMsOf = (text: string) => {
      const agoMs = parseDurationMs(text);
      return agoMs === undefined ? parseTime(text) : nowWallMs - agoMs;
    };
    return this.#parsed(name, wallMsOf, `a time such as ${A_TIME}, or a duration before now such as 1h`);
  }

  /** A time, or a duration after now such as `1h`. */
  futureMs(name: string, nowWallMs: number): number | undefined {
    const wallMsOf = (text: string) => {
      const inMs = parseDurationMs(text);
      return inMs === undefined ? parseTime(text) : nowWallMs + inMs;
    };
    return this.#parsed(name, wallMsOf, `a time such as ${A_TIME}, or a duration from now such as 2h`);
  }

  /** Returns the value of a flag, or undefined if the flag is absent. Throws a UsageError with the expected form if the text cannot be parsed. */
  #parsed(name: string, parse: (text: string) => number | undefined, expected: string): number | undefined {
    const text = this.text(name);
    if (text === undefined) return undefined;
    const value = parse(text);
    if (value === undefined) throw new UsageError(`invalid ${dashed(name)} ${text}: expected ${expected}`);
    return value;
  }

  /** Returns `key=value` flags as pairs. Throws a UsageError for a repeated key. */
  pairs(name: string): Readonly<Record<string, string>> {
    const pairs = new Map<string, string>();
    for (const item of this.list(name)) {
      const at = item.indexOf("=");
      if (at < 1) throw new UsageError(`invalid ${dashed(name)} ${item}: expected key=value`);
      const key = item.slice(0, at);
      if (pairs.has(key)) throw new UsageError(`invalid ${dashed(name)} ${item}: ${key} is set twice`);
      pairs.set(key, item.slice(at + 1));
    }
    return Object.fromEntries(pairs);
  }
}

/** Returns `--namespace` and `--prefix` as the fields of a request. Both are empty for the whole catalog. */
export function namespaceScope(flags: Flags): { readonly namespace: string; readonly namespacePrefix: string } {
  const [namespace, namespacePrefix] = [flags.text("namespace"), flags.text("prefix")];
  if (namespace !== undefined && namespacePrefix !== undefined) throw new UsageError("--namespace and --prefix cannot be combined");
  return { namespace: namespace ?? "", namespacePrefix: namespacePrefix ?? "" };
}

/** Returns the flag as it is typed, for example `--dry-run` for `dryRun`. */
function dashed(name: string): string {
  return `--${name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}
