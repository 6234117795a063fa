/** Writes a command's output: one document on stdout in the format selected by `-o`, and notes and errors on stderr. */
import { styleText } from "node:util";
import { assert } from "../lib/errors.ts";
import { visibleJson, visibleText } from "../lib/text/visible-text.ts";
import type { Terminal } from "./environment.ts";

export const FORMATS = ["table", "wide", "json", "yaml"] as const;
export type OutputFormat = (typeof FORMATS)[number];

export interface TableColumn<T> {
  readonly title: string;
  /** Whether the column is shown only with `-o wide`. */
  readonly isWide?: boolean;
  readonly text: (row: T) => string;
}

export interface OutputTable<T> {
  readonly columns: readonly TableColumn<T>[];
  readonly rows: readonly T[];
  /** The note for a table without rows. Defaults to "nothing found". If empty, no note is printed. */
  readonly whenEmpty?: string;
}

export interface OutputOptions {
  readonly format: OutputFormat;
  readonly stdout: Terminal;
  readonly stderr: Terminal;
  /** Whether to use colour if the terminal supports it. */
  readonly wantsColor: boolean;
  readonly isQuiet: boolean;
  /** Used for `-o yaml`, and loaded only when needed. */
  readonly toYaml?: (json: unknown) => string;
  /** Called when the command prints its first output or its watch has started. */
  readonly onBegun?: () => void;
}

/** Escapes control characters in text from the catalog. */
function plain(text: string): string {
  return visibleText(text, (char) => `\\x${(char.codePointAt(0) ?? 0).toString(16).padStart(2, "0")}`);
}

const STYLES: Readonly<Record<string, Parameters<typeof styleText>[0]>> = {
  healthy: "green",
  alive: "green",
  degraded: "yellow",
  suspect: "yellow",
  maintenance: "cyan",
  critical: "red",
  orphaned: "magenta",
  create: "green",
  update: "yellow",
  move: "yellow",
  remove: "red",
  unchanged: "gray",
  allowed: "green",
  denied: "red",
  show: "green",
  hide: "red",
  withdraw: "yellow",
  added: "green",
  changed: "yellow",
  removed: "red",
};

const LEAST_STREAM_WIDTH = 12;

const NO_TABLE: OutputTable<never> = { columns: [], rows: [] };

export class CommandOutput {
  readonly format: OutputFormat;
  readonly #options: OutputOptions;
  /** Widths of the columns of a stream so far, so that later lines align with earlier ones. */
  #streamWidths: readonly number[] | undefined;

  constructor(options: OutputOptions) {
    this.format = options.format;
    this.#options = options;
  }

  /** Whether the output is machine-readable: JSON or YAML. */
  get isMachine(): boolean {
    return this.format === "json" || this.format === "yaml";
  }

  /** Prints the command's document. Must be called only once. */
  document<T>(json: unknown, table: OutputTable<T>): void {
    if (this.format === "json") this.#print(`${visibleJson(JSON.stringify(json, undefined, 2))}\n`);
    else if (this.format === "yaml") this.#print(this.#yaml(json));
    else if (table.rows.length > 0) this.#print(this.#tableText(table));
    else if (table.whenEmpty !== "") this.note(table.whenEmpty ?? "nothing found");
  }

  /** Prints a document that has no table form and is therefore always JSON or YAML. */
  json(json: unknown): void {
    if (this.isMachine) this.document(json, NO_TABLE);
  }

  /** Prints one document of a stream. If there is no table, prints only JSON or YAML. */
  line<T>(json: unknown, table?: OutputTable<T>): void {
    if (this.format === "json") this.#print(`${visibleJson(JSON.stringify(json))}\n`);
    else if (this.format === "yaml") this.#print(`---\n${this.#yaml(json)}`);
    else if (table !== undefined && table.rows.length > 0) {
      const hasTitles = this.#streamWidths === undefined;
      this.#streamWidths ??= table.columns.map(() => LEAST_STREAM_WIDTH);
      this.#print(this.#tableText(table, hasTitles));
    }
  }

  /** Prints text unchanged, for example a completion script. */
  raw(text: string): void {
    this.#print(text);
  }

  /** Prints notes on stderr, one line each, or nothing with --quiet. A single write keeps the lines together. */
  note(...lines: readonly string[]): void {
    if (!this.#options.isQuiet) this.#options.stderr.write(lines.map((line) => `${plain(line)}\n`).join(""));
  }

  /** Prints an error on stderr, even with --quiet. */
  error(text: string): void {
    const { stderr } = this.#options;
    const head = this.#hasColorOn(stderr) ? styleText("red", "error:", { validateStream: false }) : "error:";
    stderr.write(`${head} ${plain(text)}\n`);
  }

  /** Marks the start of the output, which cancels the progress note. */
  begun(): void {
    this.#options.onBegun?.();
  }

  #yaml(json: unknown): string {
    const { toYaml } = this.#options;
    assert(toYaml !== undefined, "the YAML writer is not loaded");
    return toYaml(json);
  }

  #print(text: string): void {
    this.begun();
    this.#options.stdout.write(text);
  }

  #hasColorOn(terminal: Terminal): boolean {
    return this.#options.wantsColor && terminal.isTty;
  }

  #tableText<T>({ columns, rows }: OutputTable<T>, hasTitles = true): string {
    const shown = columns.filter((column) => column.isWide !== true || this.format === "wide");
    const cells = rows.map((row) => shown.map((column) => plain(column.text(row))));
    const titles = shown.map((column) => column.title);
    const before = this.#streamWidths ?? [];
    const widths = titles.map((title, at) => Math.max(title.length, before[at] ?? 0, ...cells.map((row) => row[at]?.length ?? 0)));
    if (this.#streamWidths !== undefined) this.#streamWidths = widths;
    const hasColor = this.#hasColorOn(this.#options.stdout);
    const styled = (cell: string): string => {
      const style = hasColor ? STYLES[cell.trim()] : undefined;
      return style === undefined ? cell : styleText(style, cell, { validateStream: false });
    };
    const line = (row: readonly string[]): string =>
      row.map((cell, at) => styled(at === row.length - 1 ? cell : cell.padEnd((widths[at] ?? 0) + 2))).join("");
    const head = hasColor ? styleText("bold", line(titles).trimEnd(), { validateStream: false }) : line(titles).trimEnd();
    return `${[...(hasTitles ? [head] : []), ...cells.map((row) => line(row).trimEnd())].join("\n")}\n`;
  }
}

/** Formats a JSON object as a table with one row per field and per map item. */
export function factTable(json: Readonly<Record<string, unknown>>): OutputTable<readonly [string, string]> {
  const rows = Object.entries(json).flatMap(([name, value]): (readonly [string, string])[] => {
    const fact = snakeCase(name);
    if (Array.isArray(value)) return [[fact, value.map(String).join(", ")]];
    if (typeof value === "object" && value !== null)
      return Object.entries(value).map(([key, item]) => [`${fact}.${key}`, String(item)] as const);
    return [[fact, String(value)]];
  });
  return {
    columns: [
      { title: "FIELD", text: ([name]) => name },
      { title: "VALUE", text: ([, value]) => value },
    ],
    rows,
  };
}

/** `next_page_token` for `nextPageToken`. */
export function snakeCase(name: string): string {
  return name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
