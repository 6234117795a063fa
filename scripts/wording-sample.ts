/**
 * Draws a sample of our texts for readers who do not know the project: 40 sentences of user docs, 40 help texts, errors and log messages, 40 proto
 * comments and 40 source comments, with half as many of an older checkout between them, unmarked.
 * `node scripts/wording-sample.ts draw --seed N --old CHECKOUT --into FOLDER` writes `sample.md` for the readers and `key.json`;
 * `node scripts/wording-sample.ts count FOLDER` compares the readers' marks (`marks-*.txt`, lines such as `17 odd`) with the key.
 */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { Rng } from "../src/lib/rng.ts";
import { ROOT } from "./run.ts";
import { textsBelow } from "./wording.ts";

/** Kinds of the sample: the places of each, and the kind of text in them. */
const KINDS = {
  "user docs": [
    ["README.md", "docs/quickstart.md", "docs/performance.md", "docs/guides", "docs/runbooks", "docs/reference/mesh.md"],
    "page",
  ],
  "help, error or log message": [["src"], "string"],
  "proto comment": [["proto/waymark"], "proto comment"],
  "source comment": [["src"], "comment"],
} as const;
/** Rooms that issue 63 rewrites. */
const LEFT_OUT = /^docs\/guides\/regions\.md|^proto\/waymark\/fabric|^src\/(?:fabric\/(?:borders|summaries)|summary|resolver\/summaries)\//;
const COUNT = 40;

interface Drawn {
  readonly kind: string;
  readonly isOld: boolean;
  readonly file: string;
  readonly line: number;
  readonly text: string;
  readonly next: string;
}

/** Sentences of five words or more. Only the longest cell of a table row is used. A full stop in code does not end a sentence. */
function sentencesOf(text: string): readonly string[] {
  const cells = text.startsWith("|")
    ? text
        .split(" | ")
        .toSorted((a, b) => b.length - a.length)
        .slice(0, 1)
    : [text];
  return cells
    .flatMap((cell) => cell.replace(/^(?:[-*|#]+|\d+\.) /, "").split(/(?<=[.!?]) (?=[A-Z`*])(?=(?:[^`]*`[^`]*`)*[^`]*$)/))
    .filter((sentence) => sentence.split(" ").filter((word) => /\p{L}{2,}/u.test(word)).length >= 5);
}

function drawFrom(root: string, isOld: boolean, count: number, rng: Rng): readonly Drawn[] {
  return Object.entries(KINDS).flatMap(([kind, [places, of]]) => {
    const all = textsBelow(root, places)
      .filter((each) => each.kind === of && !LEFT_OUT.test(each.file))
      .flatMap(({ file, line, text, next = "" }) =>
        sentencesOf(text).map((sentence) => ({ kind, isOld, file, line, text: sentence, next })),
      );
    const drawn = new Map<string, Drawn>();
    while (drawn.size < count) {
      const each = all[rng.int(all.length)];
      if (each !== undefined) drawn.set(each.text, each);
    }
    return [...drawn.values()];
  });
}

function draw(seed: number, old: string, into: string): void {
  const rng = new Rng(seed);
  const both = [...drawFrom(ROOT, false, COUNT, rng), ...drawFrom(old, true, COUNT / 2, rng)];
  const sample = both.map((each) => ({ each, order: rng.int(2 ** 31) })).toSorted((a, b) => a.order - b.order);
  const lines = sample.map(({ each: { kind, text, next } }, i) => {
    const code = kind === "source comment" || kind === "proto comment" ? `\n   (above the line: ${next.slice(0, 120)})` : "";
    return `${i + 1}. [${kind}] ${text}${code}`;
  });
  writeFileSync(join(into, "sample.md"), `${lines.join("\n\n")}\n`);
  writeFileSync(
    join(into, "key.json"),
    `${JSON.stringify(
      sample.map(({ each }) => each),
      undefined,
      1,
    )}\n`,
  );
}

/** Per cent of each mark, by kind and by age of the text, over all readers. */
function printShares(folder: string): void {
  const key = JSON.parse(readFileSync(join(folder, "key.json"), "utf8")) as readonly Drawn[];
  const marks = new Map<string, Record<string, number>>();
  for (const file of readdirSync(folder).filter((name) => /^marks-.*\.txt$/.test(name))) {
    for (const [, number, mark = ""] of readFileSync(join(folder, file), "utf8").matchAll(/^(\d+)[.:]? +(natural|odd|hard)/gm)) {
      const drawn = key[Number(number) - 1];
      if (drawn === undefined) continue;
      const name = `${drawn.isOld ? "old" : "new"} ${drawn.kind}`;
      for (const each of [name, drawn.isOld ? "old, all" : "new, all"]) {
        const row = marks.get(each) ?? { natural: 0, odd: 0, hard: 0 };
        row[mark] = (row[mark] ?? 0) + 1;
        marks.set(each, row);
      }
    }
  }
  for (const [name, row] of [...marks].toSorted(([a], [b]) => a.localeCompare(b))) {
    const total = Object.values(row).reduce((sum, each) => sum + each, 0);
    const shares = Object.entries(row).map(([mark, of]) => `${mark} ${Math.round((of * 100) / total)} %`);
    process.stdout.write(`${name}: ${shares.join(", ")} of ${total}\n`);
  }
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { seed: { type: "string" }, old: { type: "string" }, into: { type: "string" } },
});
const [verb, folder] = positionals;
if (verb === "count" && folder !== undefined) printShares(folder);
else if (verb === "draw" && values.old !== undefined && values.into !== undefined) draw(Number(values.seed ?? 1), values.old, values.into);
else throw new Error("use: draw --seed N --old CHECKOUT --into FOLDER, or count FOLDER");
