/**
 * Finds turns of phrase that make a text hard to read: the patterns at the end of our rules for texts, counted over docs, help, messages, proto
 * comments and source comments. `node scripts/wording.ts [PATH...]` lists the hits below the paths. The count is a smoke alarm: a hit is a
 * place to look, and a text without hits can still be odd.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { filesBelow, TOKEN } from "./imports.ts";
import { ROOT } from "./run.ts";

/** One pattern for each rule, by the rule's number. */
const PATTERNS: readonly RegExp[] = [
  /(?:^|[ *(])what (?:a|an|the|is|are|was|were|has|have|it|they|[a-z]+s) /gim,
  /\b(?:tell|tells|told|telling|hears?|heard|says? of|said|word of)\b/gi,
  /\b(?:nobody|somebody|everybody|whoever|whom? does)\b/gi,
  /\b(?:that|those|the one|the ones) of\b/gi,
  /\b(?:at (?:a|another|each|every|the) (?:node|resolver|server|peer)|beside|the own)\b/gi,
  /\b(?:taken|takes|stands?|stood still|lets? go|is away|are away|leads? to|owed?|owes)\b/gi,
  /\b(?:anew|goes on|go on|seldom|now and then|at once|may not|is to be|are to be)\b/gi,
  /\b(?:once a |so many )\b/gi,
];

export type TextKind = "page" | "string" | "proto comment" | "comment";

/** A paragraph, a comment or a string, with its white space folded. */
export interface Text {
  readonly file: string;
  readonly line: number;
  readonly kind: TextKind;
  readonly text: string;
  /** The line of code after a comment. */
  readonly next?: string;
}

const lineAt = (text: string, index: number) => text.slice(0, index).split("\n").length;

/** Paragraphs, table rows and items of a Markdown page, without code. */
function textsOfPage(file: string, page: string): readonly Text[] {
  const prose = page
    .replaceAll(/^( *)```[\s\S]*?^\1```/gm, (code) => code.replaceAll(/[^\n]/g, ""))
    .replaceAll(/<!--[\s\S]*?-->/g, (note) => note.replaceAll(/[^\n]/g, ""))
    .replaceAll(/\]\([^)\n]*\)/g, "]");
  return [...prose.matchAll(/(?<=^|\n)((?:[^\n]*\S[^\n]*\n?)+?)(?=\n|$|[ \t]*(?:[-*|#]|\d+\.) )/g)].flatMap((match) => {
    const text = (match[1] ?? "").replaceAll(/\s+/g, " ").trim();
    return text === "" ? [] : [{ file, line: lineAt(prose, match.index), kind: "page" as const, text }];
  });
}

/** Comments, and strings of three words or more, of a file of TypeScript or of a proto. */
function textsOfCode(file: string, code: string): readonly Text[] {
  return [...code.matchAll(TOKEN)].flatMap((match): readonly Text[] => {
    const { block, lines, string } = match.groups ?? {};
    const comment = block?.replaceAll(/^\/\*\*?|\*\/$|^[ \t]*\*(?!\/) ?/gm, " ") ?? lines?.replaceAll(/^[ \t]*\/\/ ?/gm, " ");
    const text = (comment ?? string?.slice(1, -1) ?? "")
      .replaceAll(/\$\{[^}]*\}/g, "…")
      .replaceAll(/\s+/g, " ")
      .trim();
    const isText = comment === undefined ? /\p{L}{2,} (?:\S+ )*\p{L}{2,} (?:\S+ )*\p{L}{2,}/u.test(text) : text !== "";
    if (!isText) return [];
    const line = lineAt(code, match.index);
    if (comment === undefined) {
      // `assert` adds these words.
      const isAssertion = /\bassert\([^;"'`]*$/.test(code.slice(Math.max(0, match.index - 300), match.index));
      return [{ file, line, kind: "string", text: isAssertion ? `assertion failed: ${text}` : text }];
    }
    const [, next = ""] = /^\s*([^\n]*)/.exec(code.slice(match.index + match[0].length)) ?? [];
    return [{ file, line, kind: file.endsWith(".proto") ? "proto comment" : "comment", text, next }];
  });
}

/** All texts that we publish below some folders or files of a checkout. */
export function textsBelow(root: string, paths: readonly string[]): readonly Text[] {
  return paths.flatMap((path) => {
    const files = /\.\w+$/.test(path) ? [path] : filesBelow(root, path, [".md", ".ts", ".proto"]);
    return files.flatMap((file) => {
      const text = readFileSync(join(root, file), "utf8");
      return file.endsWith(".md") ? textsOfPage(file, text) : textsOfCode(file, text);
    });
  });
}

/** `file:line: rule N "the words"` for each hit in a text. */
export function hitsOf({ file, line, text }: Text): readonly string[] {
  const prose = text.replaceAll(/`[^`]*`/g, "`code`");
  return PATTERNS.flatMap((pattern, i) => [...prose.matchAll(pattern)].map(([hit]) => `${file}:${line}: rule ${i + 1} "${hit.trim()}"`));
}

/**
 * The hits that each folder still has. A budget may only fall: lower it with the hits. `docs/design`, `src/summary` and the folders of regions
 * have most of them, because issue 63 rewrites these.
 */
export const BUDGETS: Readonly<Record<string, number>> = {
  "docs/glossary.md": 2,
  "docs/performance.md": 1,
  "docs/decisions": 34,
  "docs/design": 766,
  "docs/examples": 1,
  "docs/guides": 115,
  "docs/reference": 88,
  "proto/waymark/catalog": 2,
  "proto/waymark/fabric": 69,
  "proto/waymark/policy": 3,
  "src/cli": 11,
  "src/client": 1,
  "src/consumer": 1,
  "src/discovery": 6,
  "src/dns": 1,
  "src/fabric": 523,
  "src/lib": 2,
  "src/node": 10,
  "src/resolver": 33,
  "src/services": 8,
  "src/summary": 440,
};

/** Pages at the root and folders of pages, protos and rooms: everything that has a budget. A folder without a row has none. */
function budgetedPaths(root: string): readonly string[] {
  const folders = (parent: string) =>
    readdirSync(join(root, parent), { withFileTypes: true }).flatMap((each) => (each.isDirectory() ? [`${parent}/${each.name}`] : []));
  const pages = readdirSync(join(root, "docs")).flatMap((name) => (name.endsWith(".md") ? [`docs/${name}`] : []));
  const first = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"].filter((name) => existsSync(join(root, name)));
  return [...first, ...pages, ...folders("docs"), ...folders("proto/waymark"), ...folders("src")];
}

/** Folders whose hits differ from their budget, with the hits above it. */
export function wordingFaults(root: string, budgets: Readonly<Record<string, number>>): readonly string[] {
  return budgetedPaths(root).flatMap((path) => {
    const hits = textsBelow(root, [path]).flatMap(hitsOf);
    const budget = budgets[path] ?? 0;
    if (hits.length === budget) return [];
    const shown = hits.length > budget ? `: ${hits.slice(0, 20).join(", ")}` : ": lower the budget in scripts/wording.ts";
    return [`${path}: hits ${hits.length}, budget ${budget}${shown}`];
  });
}

if (import.meta.main) {
  const paths = process.argv.slice(2);
  const hits = textsBelow(ROOT, paths.length > 0 ? paths : budgetedPaths(ROOT)).flatMap(hitsOf);
  process.stdout.write(`${[...hits, `${hits.length} hits`].join("\n")}\n`);
}
