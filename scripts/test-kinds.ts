/**
 * Which unit tests use more than the processor: files, threads, sockets, processes or real time. Those are named `*.io.test.ts`,
 * and run in `npm test`, not in `npm run quick`. `node scripts/test-kinds.ts` lists them with the reason; with `--rename` it
 * names them so, and mends what names them.
 */
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, posix } from "node:path";
import { filesBelow, withoutComments } from "./imports.ts";
import { ROOT } from "./run.ts";

/** Folders of tests that are no unit tests; `vitest.config.ts` has the same list. */
const KINDS = ["sim", "e2e", "interop", "docs", "chaos", "long", "nightly", "soak"];
/** Tests of the repository itself, which have steps of their own. */
const OF_REPOSITORY = /(?:^|\/)(?:tidy|checks|failed-names)\.test\.ts$/;

const SHELL_MODULE =
  /^(?:node:(?:child_process|cluster|dgram|dns|fs|http|http2|https|inspector|net|readline|sqlite|timers|tls|worker_threads)(?:\/.*)?|@grpc\/grpc-js|@connectrpc\/connect-node)$/;
/** Names of those modules that only compute, or only read what is checked in. */
const HARMLESS = /^(?:isIPv?[46]?|BlockList|SocketAddress|readFileSync|readdirSync|existsSync)$/;
const REAL_TIME =
  /\b(?:(?:setTimeout|setInterval|performance\.now|Date\.now|AbortSignal\.timeout|expect\.poll|vi\.waitFor|vi\.waitUntil)\(|new Date\(\))/g;
// What is imported for its type alone is not loaded.
const STATEMENT = /^\s*(?:import|export)\s+(?!type\b)(?:([^;"']*?)\s*from\s*)?["']([^"'\n]+)["']/gm;
const DYNAMIC = /(?:\bimport\s*\(\s*|\bnew URL\(\s*)["'](\.[^"'\n]+\.ts)["']/g;

export function unitTests(root: string): readonly string[] {
  return filesBelow(root, "test", [".test.ts"]).filter(
    (file) => !KINDS.some((kind) => file.startsWith(`test/${kind}/`)) && !OF_REPOSITORY.test(file),
  );
}

interface Loaded {
  readonly specifier: string;
  readonly names: readonly string[];
}

/** What a file loads when it runs, with the names it takes from each. */
function loadsOf(text: string): readonly Loaded[] {
  const statements = [...text.matchAll(STATEMENT)].flatMap(([, clause = "", specifier = ""]) => {
    const names = clause
      .replaceAll(/[{}]/g, " ")
      .split(",")
      .map((name) => name.trim())
      .filter((name) => name !== "");
    const values = names.filter((name) => !name.startsWith("type "));
    return names.length > 0 && values.length === 0 ? [] : [{ specifier, names: values }];
  });
  return [...statements, ...[...text.matchAll(DYNAMIC)].map(([, specifier = ""]) => ({ specifier, names: [] }))];
}

/** Why a test is more than computing, one reason a line; none for a unit test. What helps it below `test/` counts as its own. */
export function shellUses(root: string, file: string): readonly string[] {
  const uses: string[] = [];
  const seen = new Set<string>();
  const look = (path: string): void => {
    if (seen.has(path) || !existsSync(join(root, path))) return;
    seen.add(path);
    const via = path === file ? "" : ` (${path})`;
    const text = withoutComments(readFileSync(join(root, path), "utf8"));
    if (path === file || path === "test/fakes/until.ts")
      for (const [word] of text.matchAll(REAL_TIME)) uses.push(`${word.replace(/\($/, "")}${via}`);
    for (const { specifier, names } of loadsOf(text)) {
      const target = posix.join(dirname(path), specifier);
      if (!specifier.startsWith(".")) {
        const isHarmless = names.length > 0 && names.every((name) => HARMLESS.test(name));
        if (SHELL_MODULE.test(specifier) && !isHarmless) uses.push(`${specifier}${via}`);
      } else if (target.startsWith("src/")) {
        if (target.endsWith(".io.ts")) uses.push(`${target}${via}`);
      } else if (target.endsWith(".ts")) look(target);
    }
  };
  look(file);
  return [...new Set(uses)];
}

/** Files whose name and contents disagree, one line each. */
export function kindFaults(root: string): readonly string[] {
  return unitTests(root).flatMap((file) => {
    const uses = shellUses(root, file);
    const isIo = file.endsWith(".io.test.ts");
    if (!isIo && uses.length > 0) return [`${file} uses ${uses.join(", ")}: name it ${ioName(file)}`];
    return isIo && uses.length === 0 ? [`${file} uses no file, thread, socket, process or clock: it is a unit test`] : [];
  });
}

function ioName(file: string): string {
  return file.replace(/(?:\.io)?\.test\.ts$/, ".io.test.ts");
}

if (import.meta.main) {
  const shells = unitTests(ROOT).filter((file) => shellUses(ROOT, file).length > 0);
  for (const file of shells) console.log(`${file}: ${shellUses(ROOT, file).join(", ")}`);
  if (process.argv.includes("--rename")) rename(shells.filter((file) => ioName(file) !== file));
}

/** Renames tests, and what names them: documentation, comments, and files beside them. */
function rename(files: readonly string[]): void {
  const git = (...args: readonly string[]) => execFileSync("git", args, { cwd: ROOT, encoding: "utf8" });
  for (const file of files) git("mv", file, ioName(file));
  const texts = git("ls-files", "*.md", "*.ts", "*.proto", "*.json", "*.sh").split("\n").slice(0, -1);
  for (const path of texts) {
    const text = readFileSync(join(ROOT, path), "utf8");
    const renamed = files.reduce((said, file) => said.replaceAll(file, ioName(file)), text);
    if (renamed !== text) writeFileSync(join(ROOT, path), renamed);
  }
}
