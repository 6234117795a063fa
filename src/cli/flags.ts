/** The flags of one call, read by name; a flag that is not in the verb's table reads as absent. */
import { parseDurationMs } from "../lib/duration.ts";
import { UsageError } from "./exit.ts";

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

  isOn(name: string): boolean {
    return this.#values[name] === true;
  }

  /** A whole number from 1 to `max`: on the wire 0 means that nothing was said, so a 0 that somebody wrote would do something else. */
  count(name: string, max: number): number | undefined {
    const text = this.text(name);
    if (text === undefined) return undefined;
    if (!/^\d{1,16}$/.test(text) || Number(text) < 1 || Number(text) > max)
      throw new UsageError(`${dashed(name)} ${text}: not a whole number from 1 to ${max}`);
    return Number(text);
  }

  /** A duration such as `30s`, in milliseconds. */
  durationMs(name: string): number | undefined {
    const text = this.text(name);
    if (text === undefined) return undefined;
    const value = parseDurationMs(text);
    if (value === undefined) throw new UsageError(`${dashed(name)} ${text}: not a duration such as 500ms, 30s or 1h`);
    return value;
  }

  /** `key=value` flags as pairs; a key given twice is refused. */
  pairs(name: string): Readonly<Record<string, string>> {
    const pairs = new Map<string, string>();
    for (const item of this.list(name)) {
      const at = item.indexOf("=");
      if (at < 1) throw new UsageError(`${dashed(name)} ${item}: not key=value`);
      const key = item.slice(0, at);
      if (pairs.has(key)) throw new UsageError(`${dashed(name)} ${item}: ${key} is given twice`);
      pairs.set(key, item.slice(at + 1));
    }
    return Object.fromEntries(pairs);
  }
}

/** The flag as it is typed: `dryRun` is `--dry-run`. */
function dashed(name: string): string {
  return `--${name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}
