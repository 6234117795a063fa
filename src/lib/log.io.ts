/**
 * Writes log lines to stderr, as JSON by pino or as readable lines for a terminal. Lines are bounded. This file does not mask anything, so callers
 * must not log secrets.
 */
import { destination, type Logger, pino, stdSerializers, stdTimeFunctions } from "pino";
import { type LogLevel, type LogScopes, levelOf } from "./log-scopes.ts";
import { hasControlCharacters, visibleJson } from "./text/visible-text.ts";

/**
 * Facts about one event. Names end in their unit, and long values are truncated when they are written. No field may contain a token, a key, or a
 * password.
 */
export type LogFields = Readonly<Record<string, unknown>>;

/** The log of a component. The message is a constant lower-case phrase. All variable values are fields. */
export interface Log {
  trace(fields: LogFields, message: string): void;
  debug(fields: LogFields, message: string): void;
  info(fields: LogFields, message: string): void;
  warn(fields: LogFields, message: string): void;
  error(fields: LogFields, message: string): void;
  /** Whether lines with this level are written. Check it before computing expensive fields. */
  isEnabled(level: Exclude<LogLevel, "silent">): boolean;
  /** The log of a part of the component: the part `grpc` of `server` becomes `server.grpc`. */
  child(part: string): Log;
}

/** The log of the whole process. */
export interface RootLog extends Log {
  /** Number of lines that were dropped because stderr was not read. */
  droppedCount(): number;
  /** Closes the log when the process ends: waits up to 1 s until buffered lines are written, and drops later lines. */
  end(): Promise<void>;
}

export interface LogOptions {
  readonly level: LogLevel;
  readonly scopes: LogScopes;
  /** `text` is meant for people. Defaults to text on a terminal, and otherwise to JSON. */
  readonly format?: "json" | "text";
  /** Fields that are added to every line. */
  readonly fields?: LogFields;
  /** Writes lines in place of stderr. Each line ends with a line feed. */
  readonly write?: (line: string) => void;
}

const MAX_LINE_BYTES = 16 * 1024;
const MAX_TEXT_CHARS = 2048;
const MAX_MESSAGE_CHARS = 512;
const MAX_BUFFER_BYTES = 1024 * 1024;
const STDERR_FD = 2;
/** Time limit for writing buffered lines when the process ends. A reader that has exited or is blocked must not keep the process alive. */
const END_MS = 1000;

/** Opens the process's log. When more than 1 MiB of lines is buffered, further lines are dropped and counted, and nothing waits for them. */
export function openLog(options: LogOptions): RootLog {
  const sink = options.write === undefined ? openStderr() : { write: options.write, end: () => Promise.resolve(), droppedCount: () => 0 };
  const isText = (options.format ?? (process.stderr.isTTY ? "text" : "json")) === "text";
  const hasColor = isText && options.write === undefined && process.stderr.isTTY && process.stderr.hasColors();
  const root = pino(
    {
      level: options.level,
      base: options.fields ?? {},
      timestamp: stdTimeFunctions.isoTime,
      depthLimit: 6,
      edgeLimit: 64,
      formatters: { level: (label) => ({ level: label }), log: bounded },
      serializers: { err: stdSerializers.err, error: stdSerializers.err },
    },
    { write: (line: string) => sink.write(isText ? textLine(line, hasColor) : visibleJson(cut(line))) },
  );
  return { ...componentLog(root, root, "", options), droppedCount: sink.droppedCount, end: sink.end };
}

function componentLog(root: Logger, logger: Logger, component: string, { scopes, level }: LogOptions): Log {
  return {
    trace: (fields, message) => logger.trace(fields, message),
    debug: (fields, message) => logger.debug(fields, message),
    info: (fields, message) => logger.info(fields, message),
    warn: (fields, message) => logger.warn(fields, message),
    error: (fields, message) => logger.error(fields, message),
    isEnabled: (lineLevel) => logger.isLevelEnabled(lineLevel),
    child: (part) => {
      const name = component === "" ? part : `${component}.${part}`;
      const child = root.child({ component: name }, { level: levelOf(name, scopes, level) });
      return componentLog(root, child, name, { scopes, level });
    },
  };
}

function openStderr(): { write: (line: string) => void; end: () => Promise<void>; droppedCount: () => number } {
  // Writing is not synchronous, because a blocked reader of stderr would block every stream of this node. With a `minLength` of 0, the destination
  // would not report when everything has been written.
  const stderr = destination({ fd: STDERR_FD, sync: false, minLength: 1, maxLength: MAX_BUFFER_BYTES });
  let dropped = 0;
  let isEnded = false;
  stderr.on("drop", () => dropped++);
  // The process must continue when stderr is closed. Lines that are logged after that are lost.
  stderr.on("error", () => dropped++);
  return {
    write: (line) => {
      if (isEnded) dropped++;
      else stderr.write(line);
    },
    // `flushSync` is not used, because it never returns if the reader has exited or does not read.
    end: () =>
      new Promise((resolve) => {
        const end = () => {
          clearTimeout(timer);
          isEnded = true;
          stderr.destroy();
          resolve();
        };
        const timer = setTimeout(end, END_MS);
        stderr.flush(end);
      }),
    droppedCount: () => dropped,
  };
}

function bounded(fields: Record<string, unknown>): Record<string, unknown> {
  const result: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(fields)) {
    result[name] = typeof value === "string" && value.length > MAX_TEXT_CHARS ? `${value.slice(0, MAX_TEXT_CHARS)}…` : value;
  }
  return result;
}

/** Returns the line, which is shortened if it exceeds the limit. A shortened line still has its level, time, component, and message. */
function cut(line: string): string {
  if (line.length <= MAX_LINE_BYTES && Buffer.byteLength(line) <= MAX_LINE_BYTES) return line;
  const { level, time, component, msg } = parsed(line);
  const message = typeof msg === "string" ? msg.slice(0, MAX_MESSAGE_CHARS) : "";
  return `${JSON.stringify({ level, time, component, msg: message, truncatedBytes: Buffer.byteLength(line) })}\n`;
}

function parsed(line: string): Record<string, unknown> {
  const value: unknown = JSON.parse(line);
  return typeof value === "object" && value !== null ? { ...value } : {};
}

const COLORS: Readonly<Record<string, number>> = { trace: 90, debug: 36, info: 32, warn: 33, error: 31, fatal: 31 };

/**
 * Formats one of this log's JSON lines for a person: time, level, component, and message, followed by the fields. Control characters remain escaped.
 */
export function textLine(json: string, hasColor: boolean): string {
  const { level, time, component, msg, err, ...fields } = parsed(cut(json));
  const word = String(level).toUpperCase().padEnd(5);
  const colored = hasColor ? `\u001b[${COLORS[String(level)] ?? 0}m${word}\u001b[0m` : word;
  const clock = String(time).slice(11, 23);
  const where = component === undefined ? "" : ` ${fact(component)}:`;
  const facts = Object.entries(fields).map(([name, value]) => ` ${name}=${fact(value)}`);
  return `${clock} ${colored}${where} ${printable(typeof msg === "string" ? msg : "")}${facts.join("")}${err === undefined ? "" : errorText(err)}\n`;
}

function fact(value: unknown): string {
  return typeof value === "string" && /^[\w.:/@+-]+$/.test(value) ? value : visibleJson(JSON.stringify(value));
}

function errorText(err: unknown): string {
  const stack = typeof err === "object" && err !== null && "stack" in err ? err.stack : err;
  return `\n    ${String(stack).split("\n").map(printable).join("\n    ")}`;
}

function printable(text: string): string {
  return hasControlCharacters(text) ? visibleJson(JSON.stringify(text).slice(1, -1)) : text;
}
