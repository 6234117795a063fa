/** Log levels, and the level of each component (`--log-scopes dns=debug,server.grpc=trace`). */
import { invalid } from "./errors.ts";

export const LOG_LEVELS = ["trace", "debug", "info", "warn", "error", "silent"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** Level by component. A component covers the components below it: `server` covers `server.grpc`. */
export type LogScopes = ReadonlyMap<string, LogLevel>;

const MAX_SCOPES = 64;
const COMPONENT = /^[a-z][a-z0-9-]*(\.[a-z][a-z0-9-]*)*$/;

/** Parses a log level. Throws `invalid_argument` with the name `field` for an unknown level. */
export function parseLogLevel(text: string, field = "log-level"): LogLevel {
  const level = LOG_LEVELS.find((known) => known === text);
  if (level === undefined) throw invalid(field, `"${text.slice(0, 40)}" is not a log level; allowed: ${LOG_LEVELS.join(", ")}`);
  return level;
}

/**
 * Parses at most 64 comma-separated `component=level` pairs. The level of a component defaults to debug. Throws `invalid_argument` with the invalid
 * pair.
 */
export function parseLogScopes(text: string): LogScopes {
  const scopes = new Map<string, LogLevel>();
  for (const pair of text.split(",").map((part) => part.trim())) {
    if (pair === "") continue;
    const at = pair.indexOf("=");
    const component = at === -1 ? pair : pair.slice(0, at);
    if (!COMPONENT.test(component)) {
      throw invalid("log-scopes", `"${pair.slice(0, 80)}" is not of the form component=level, as in dns=debug,server.grpc=trace`);
    }
    scopes.set(component, at === -1 ? "debug" : parseLogLevel(pair.slice(at + 1), "log-scopes"));
    if (scopes.size > MAX_SCOPES) throw invalid("log-scopes", `has more than ${MAX_SCOPES} scopes`);
  }
  return scopes;
}

/** The level of the longest scope that covers the component, or `fallback` if no scope covers it. */
export function levelOf(component: string, scopes: LogScopes, fallback: LogLevel): LogLevel {
  for (let name = component; name !== ""; name = name.slice(0, Math.max(name.lastIndexOf("."), 0))) {
    const level = scopes.get(name);
    if (level !== undefined) return level;
  }
  return fallback;
}
