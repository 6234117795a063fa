/** Commands in Markdown: blocks marked `sh run`, and the text block after one, which is what it must print. */

export interface Block {
  /** Line of the opening fence. */
  readonly line: number;
  readonly script: string;
  /**
   * Words after `sh run`: a tool it needs, `until-ctrl-c` for what never ends by itself, `meanwhile:NAME` for a program that runs in another terminal
   * while the next commands run, or `stop:NAME` for a command after such a program was stopped with SIGTERM.
   */
  readonly words: readonly string[];
  readonly output: string | undefined;
}

interface Fence {
  readonly line: number;
  readonly info: string;
  readonly body: string;
  readonly endLine: number;
}

function fences(markdown: string): readonly Fence[] {
  const found: Fence[] = [];
  let open: { line: number; info: string; body: string[] } | undefined;
  for (const [i, text] of markdown.split("\n").entries()) {
    if (!text.startsWith("```")) open?.body.push(text);
    else if (open === undefined) open = { line: i + 1, info: text.slice(3), body: [] };
    else {
      found.push({ line: open.line, info: open.info, body: open.body.join("\n"), endLine: i + 1 });
      open = undefined;
    }
  }
  return found;
}

/** The commands of a page, in order, each with the output printed below it. */
export function blocksOf(markdown: string): readonly Block[] {
  const all = fences(markdown);
  return all.flatMap((fence, i) => {
    const [shell, run, ...words] = fence.info.split(" ");
    if (shell !== "sh" || run !== "run") return [];
    const next = all[i + 1];
    const isOutput = next?.info === "text" && next.line === fence.endLine + 2;
    return [{ line: fence.line, script: fence.body, words, output: isOutput ? next.body : undefined }];
  });
}

/** Scripts of a page's `sh` blocks that are not run. */
export function unrunOf(markdown: string): readonly string[] {
  return fences(markdown).flatMap(({ info, body }) => (info === "sh" ? [body] : []));
}

/**
 * Whether what was printed is what the page says: line by line, trailing blanks and runs of blanks apart. `…` stands for
 * anything in a line; a line that is only `…` for any lines.
 */
export function isAsSaid(said: string, printed: string): boolean {
  const lines = said.split("\n").map((line) => (line.trim() === "…" ? "(?:.*\\n)*?" : `${pattern(line)}\\n`));
  return new RegExp(`^${lines.join("")}$`, "u").test(
    `${printed
      .replaceAll(/[ \t]+/g, " ")
      .replaceAll(/ \n/g, "\n")
      .trimEnd()}\n`,
  );
}

/** As `isAsSaid`, of a page's output and what was printed until now. */
export function isBegunAsSaid(said: string, printed: string): boolean {
  return isAsSaid(`${said}\n…`, printed);
}

function pattern(line: string): string {
  const parts = line
    .trimEnd()
    .replaceAll(/[ \t]+/g, " ")
    .split("…");
  // A blank beside `…` may be missing: columns are as wide as their values.
  return parts.map((part) => RegExp.escape(part).replaceAll(/^(\\x20| )|(\\x20| )$/g, " ?")).join(".*");
}
