/**
 * Prints the import graph by room. Fails on a cycle between files, on an arrow between rooms or between folders of a room that `rooms.ts`
 * does not allow, on a file that lies loose in src/ or in a room of folders, and on a folder or a file that is too large to find one's way in.
 */
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { filesBelow, type Import, importsOf } from "./imports.ts";
import { FOLDERS, folderOf, ROOMS, roomOf } from "./rooms.ts";
import { ROOT } from "./run.ts";

/** Arrows between rooms that are not in the table, one line each. */
function upwardArrows(imports: readonly Import[]): readonly string[] {
  return imports.flatMap(({ from, file }) => {
    if (file === undefined || !file.startsWith("src/")) return [];
    const [source, target] = [roomOf(from), roomOf(file)];
    return source === target || ROOMS[source]?.includes(target) === true
      ? []
      : [`${from} imports ${file}: ${source} may not import ${target}`];
  });
}

/** Arrows between folders of one room that are not in its table, one line each. */
function folderArrows(imports: readonly Import[]): readonly string[] {
  return imports.flatMap(({ from, file }) => {
    const folders = FOLDERS[roomOf(from)];
    if (folders === undefined || file === undefined || !file.startsWith("src/") || roomOf(file) !== roomOf(from)) return [];
    const [source, target] = [folderOf(from), folderOf(file)];
    if (source === undefined || target === undefined || source === target || folders[source]?.includes(target) !== false) return [];
    return [`${from} imports ${file}: the folder ${source} may not import ${target}`];
  });
}

/** Files of a room with a table of folders that are in none of them, and tables that do not say an order. */
function folderFaults(sources: readonly string[]): readonly string[] {
  return Object.entries(FOLDERS).flatMap(([room, folders]) => {
    const names = Object.keys(folders);
    const lost = sources.filter((file) => roomOf(file) === room && !names.includes(folderOf(file) ?? ""));
    const circular = names.flatMap((name, i) =>
      (folders[name] ?? []).filter((target) => !names.slice(0, i).includes(target)).map((target) => ({ name, target })),
    );
    return [
      ...lost.map((file) => `${file} lies in no folder that scripts/rooms.ts names`),
      ...circular.map(({ name, target }) => `scripts/rooms.ts: src/${room}/${name} may import ${target}, which does not stand before it`),
    ];
  });
}

/** Files of one folder, itself without its sub-folders: more, and nobody finds anything by looking. */
const MAX_FILES = 20;
/** These are lists that are looked up by name: small tools, and one file a command. */
const LONG_FOLDERS: Readonly<Record<string, number>> = { "src/lib": 32, "src/cli/verbs": 32 };
const MAX_LINES = 600;

/** Files that lie in no room, folders with too many files, and files with too many lines. */
function sizeFaults(sources: readonly string[]): readonly string[] {
  const byFolder = Map.groupBy(sources, (file) => dirname(file));
  const loose = (byFolder.get("src") ?? []).filter((file) => file !== "src/main.ts");
  const crowded = [...byFolder].filter(([folder, { length }]) => length > (LONG_FOLDERS[folder] ?? MAX_FILES));
  const long = sources.map((file) => ({ file, lines: readFileSync(join(ROOT, file), "utf8").split("\n").length - 1 }));
  return [
    ...loose.map((file) => `${file} lies in no room: only src/main.ts does`),
    ...crowded.map(([folder, { length }]) => `${folder} has ${length} files, at most ${LONG_FOLDERS[folder] ?? MAX_FILES}`),
    ...long.filter(({ lines }) => lines > MAX_LINES).map(({ file, lines }) => `${file} has ${lines} lines, at most ${MAX_LINES}`),
  ];
}

/** Cycles between files, each once, as the path that closes it; what is loaded only when it is needed closes one as well. */
function cycles(imports: readonly Import[]): readonly string[] {
  const targets = new Map<string, string[]>();
  for (const { from, file } of imports) {
    if (file?.startsWith("src/") === true) targets.set(from, [...(targets.get(from) ?? []), file]);
  }
  const found: string[] = [];
  const done = new Set<string>();
  const visit = (file: string, path: readonly string[]): void => {
    const at = path.indexOf(file);
    if (at >= 0) found.push([...path.slice(at), file].join(" → "));
    if (at >= 0 || done.has(file)) return;
    for (const next of targets.get(file) ?? []) visit(next, [...path, file]);
    done.add(file);
  };
  for (const file of targets.keys()) visit(file, []);
  return found;
}

const files = filesBelow(ROOT, "src", [".ts"]);
const imports = files.flatMap((file) => importsOf(ROOT, file));
for (const room of Object.keys(ROOMS)) {
  const own = files.filter((file) => roomOf(file) === room);
  if (own.length === 0) continue;
  const targets = imports
    .filter(({ from, file }) => roomOf(from) === room && file?.startsWith("src/") === true)
    .map(({ file }) => roomOf(file ?? ""));
  const arrows = Object.keys(ROOMS).flatMap((target) => {
    const count = targets.filter((each) => each === target).length;
    return target === room || count === 0 ? [] : [`${target} ${count}`];
  });
  console.log(`${room.padEnd(10)} ${String(own.length).padStart(3)} files → ${arrows.join(", ") || "nothing"}`);
}
const faults = [
  ...upwardArrows(imports),
  ...folderArrows(imports),
  ...folderFaults(files),
  ...cycles(imports).map((path) => `cycle: ${path}`),
  ...sizeFaults(files),
];
for (const fault of faults) console.log(fault);
console.log(faults.length === 0 ? "no cycle, no upward arrow, no file or folder too large" : `${faults.length} fault(s)`);
process.exitCode = faults.length === 0 ? 0 : 1;
