/**
 * Which unit tests test the inside of a room: they import a file of it that no other room imports, so that they hold the
 * room to how it works today instead of to what others get of it. `node scripts/insides.ts` prints them with their lines and
 * their share of all lines of unit tests, and fails above the share that is allowed; so does `test/tidy.test.ts`.
 */
import { readFileSync } from "node:fs";
import { dirname, join, posix } from "node:path";
import { filesBelow, withoutComments } from "./imports.ts";
import { roomOf } from "./rooms.ts";
import { ROOT } from "./run.ts";
import { unitTests } from "./test-kinds.ts";

/** Of the lines of unit tests, in percent. */
const MAX_PERCENT = 25;

/**
 * Pure machines that only a shell of their own room drives. Other rooms import the shell; a test without sockets drives the machine as the shell
 * does, and the simulator drives the node's.
 */
const MACHINES: readonly string[] = [
  "src/client/live/live-entries.ts",
  "src/client/live/lookup-cache.ts",
  "src/client/registration.ts",
  "src/client/servers/server-list.ts",
  "src/client/shards/owned-shards.ts",
  "src/client/shards/shard-routes.ts",
  "src/dns/server/responder.ts",
  "src/node/core.ts",
  "src/node/core-io.ts",
];

/** What the package exports: its users import it, and no other room does. */
const PUBLISHED: readonly string[] = ["src/client/index.ts", "src/client/grpc/names.io.ts"];

// Only `import`: a file that hands on what another exports is no reader of it. Workers are imported by their name.
const IMPORT = /(?:^\s*import\s[^;"']*?\bfrom\s*|^\s*import\s+|\bimport\s*\(\s*|\bnew URL\(\s*)["'](\.[^"'\n]+\.ts)["']/gm;

export interface InsideTest {
  readonly file: string;
  readonly lines: number;
  /** What it imports that no other room does. */
  readonly insides: readonly string[];
}

export interface Insides {
  readonly tests: readonly InsideTest[];
  readonly insideLines: number;
  readonly allLines: number;
}

function targetsOf(root: string, file: string): readonly string[] {
  const text = withoutComments(readFileSync(join(root, file), "utf8"));
  return [...text.matchAll(IMPORT)].map(([, specifier = ""]) => posix.join(dirname(file), specifier));
}

export function insidesOf(root: string): Insides {
  const imported = filesBelow(root, "src", [".ts"]).flatMap((file) =>
    targetsOf(root, file).filter((target) => roomOf(target) !== roomOf(file)),
  );
  const entrances = new Set([...imported, ...MACHINES, ...PUBLISHED]);
  const tests = unitTests(root).map((file) => {
    const own = targetsOf(root, file).filter((target) => target.startsWith("src/"));
    const lines = readFileSync(join(root, file), "utf8").split("\n").length - 1;
    return { file, lines, insides: own.filter((target) => !entrances.has(target)).toSorted() };
  });
  const inside = tests.filter(({ insides }) => insides.length > 0);
  const sum = (of: readonly InsideTest[]) => of.reduce((total, { lines }) => total + lines, 0);
  return { tests: inside.toSorted((a, b) => b.lines - a.lines), insideLines: sum(inside), allLines: sum(tests) };
}

/** The tests of insides and their share, where that is larger than it may be. */
export function insideFaults(root: string): readonly string[] {
  const { tests, insideLines, allLines } = insidesOf(root);
  if (100 * insideLines <= MAX_PERCENT * allLines) return [];
  return [...tests.map(({ file, lines, insides }) => `${String(lines).padStart(5)}  ${file}: ${insides.join(", ")}`), shareOf(root)];
}

function shareOf(root: string): string {
  const { insideLines, allLines } = insidesOf(root);
  const percent = ((100 * insideLines) / allLines).toFixed(1);
  return `${insideLines} of ${allLines} lines of unit tests test an inside: ${percent} %, at most ${MAX_PERCENT} % may`;
}

if (import.meta.main) {
  for (const { file, lines, insides } of insidesOf(ROOT).tests) console.log(`${String(lines).padStart(5)}  ${file}: ${insides.join(", ")}`);
  console.log(shareOf(ROOT));
  process.exitCode = insideFaults(ROOT).length > 0 ? 1 : 0;
}
