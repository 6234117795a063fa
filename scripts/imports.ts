/** Reads which file imports which, for the checks over the source itself. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, posix } from "node:path";

export interface Import {
  /** Importing file, from the project's folder, with forward slashes. */
  readonly from: string;
  /** What the import says. */
  readonly specifier: string;
  /** The file meant, from the project's folder; undefined for a package. */
  readonly file: string | undefined;
  /** Loaded when it is needed (`import()`, a worker), not when the importing file is. */
  readonly isLazy: boolean;
}

// An import or re-export statement, a dynamic import, or a file named relative to this one (a worker's).
const IMPORT = /(?:\bfrom\s*|\bimport\s*\(\s*|^\s*import\s+|\bnew URL\(\s*)["']([^"'\n]+)["']/gm;

/** Files below `folder` (from `root`) with one of the `endings`, sorted; empty when there is no such folder. */
export function filesBelow(root: string, folder: string, endings: readonly string[]): readonly string[] {
  if (!existsSync(join(root, folder))) return [];
  return readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && endings.some((ending) => entry.name.endsWith(ending)))
    .map((entry) => posix.join(entry.parentPath.replaceAll("\\", "/").slice(root.length + 1), entry.name))
    .filter((file) => !file.includes("node_modules/"))
    .toSorted();
}

/** What one file imports, in order. Comments are not code: an example in a docstring is not an import. */
export function importsOf(root: string, file: string): readonly Import[] {
  const text = withoutComments(readFileSync(join(root, file), "utf8"));
  return [...text.matchAll(IMPORT)].flatMap(([whole, specifier = ""]) => {
    const isFile = specifier.startsWith(".");
    if (whole.startsWith("new URL") && !specifier.endsWith(".ts")) return [];
    const isLazy = /^(?:import\s*\(|new URL)/.test(whole);
    return [{ from: file, specifier, file: isFile ? posix.join(dirname(file), specifier) : undefined, isLazy }];
  });
}

/** A comment, a string or a regular expression. The first one wins, so a quote in a comment does not open a string. */
export const TOKEN =
  /(?<block>\/\*[\s\S]*?\*\/)|(?<lines>\/\/[^\n]*(?:\n[ \t]*\/\/[^\n]*)*)|(?<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`(?:[^`\\]|\\[\s\S])*`)|(?<=[=(,:[!&|?{};>]\s*|\breturn )\/(?![/*])(?:[^/\\\n[]|\\.|\[(?:[^\]\\\n]|\\.)*\])+\/[a-z]*/g;

/** The source with its comments blanked, line for line. */
export function withoutComments(text: string): string {
  return text.replaceAll(TOKEN, (token, block?: string, lines?: string) =>
    block === undefined && lines === undefined ? token : token.replaceAll(/[^\n]/g, " "),
  );
}
