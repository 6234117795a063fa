/**
 * Runs golden scenarios: blocks of commands, a line `----`, and the answer, with an empty line between blocks. Lines that
 * start with `#` before a block are comments. A file is one world; its blocks run in order.
 * `npm run golden` writes the answers anew: read the diff, and commit it only when you can say why it changed.
 */
import { readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { expect, test } from "vitest";

/** Carries out one command line and gives its answer, of any number of lines; empty for a command that says nothing. */
export type Scenario = (command: string) => string;

const RULE = "----";

/** One test a file of `folder`; `open` makes a fresh world for each. */
export function runGoldens(folder: string, open: () => Scenario): void {
  const files = readdirSync(folder).filter((file) => file.endsWith(".txt"));
  if (files.length === 0) throw new Error(`no golden in ${folder}`);
  test.each(files.map((file) => ({ name: basename(file, ".txt"), path: join(folder, file) })))("golden: $name", async ({ path }) => {
    await expect(replay(readFileSync(path, "utf8"), open())).toMatchFileSnapshot(path);
  });
}

/** The file as it should read: its commands with the answers they give now. */
function replay(text: string, scenario: Scenario): string {
  const blocks = text.trimEnd().split(/\n{2,}/);
  return `${blocks.map((block) => replayBlock(block, scenario)).join("\n\n")}\n`;
}

function replayBlock(block: string, scenario: Scenario): string {
  const lines = block.split("\n");
  const ruleAt = lines.indexOf(RULE);
  const head = ruleAt < 0 ? lines : lines.slice(0, ruleAt);
  const answers = head
    .filter((line) => !line.startsWith("#"))
    .map(scenario)
    .filter((answer) => answer !== "");
  return answers.length === 0 ? head.join("\n") : [...head, RULE, ...answers].join("\n");
}
