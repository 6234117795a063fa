/**
 * Prints the import graph by room. Fails on a cycle between files, on an arrow between rooms or between folders of a room that `rooms.ts`
 * does not allow, and on a file that lies loose in src/ or in a room of folders. Lists long files and full folders to look at, which is no fault.
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

/** Files of one folder, without its sub-folders, above which it is listed. */
const MAX_FILES = 20;
/** These are lists that are looked up by name: small tools, and one file a command. */
const LONG_FOLDERS: Readonly<Record<string, number>> = { "src/lib": 32, "src/cli/verbs": 32 };
const MAX_LINES = 600;
/** A file with fewer lines may belong to the file that it changes with. */
const MIN_LINES = 40;

function looseFiles(sources: readonly string[]): readonly string[] {
  const loose = sources.filter((file) => dirname(file) === "src" && file !== "src/main.ts");
  return loose.map((file) => `${file} lies in no room: only src/main.ts does`);
}

/** Folders with many files, files with many lines, and the number of small files. */
function sizes(sources: readonly string[]): readonly string[] {
  const crowded = [...Map.groupBy(sources, (file) => dirname(file))].flatMap(([folder, { length }]) => {
    const most = LONG_FOLDERS[folder] ?? MAX_FILES;
    return length > most ? [`look: ${folder} has ${length} files, more than ${most}`] : [];
  });
  const lengths = sources.map((file) => ({ file, lines: readFileSync(join(ROOT, file), "utf8").split("\n").length - 1 }));
  const long = lengths.filter(({ lines }) => lines > MAX_LINES);
  return [
    ...crowded,
    ...long.map(({ file, lines }) => `look: ${file} has ${lines} lines, more than ${MAX_LINES}`),
    `${lengths.filter(({ lines }) => lines < MIN_LINES).length} files have fewer than ${MIN_LINES} lines`,
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
  ...looseFiles(files),
];
for (const line of [...sizes(files), ...faults]) console.log(line);
console.log(faults.length === 0 ? "no cycle, no upward arrow, no loose file" : `${faults.length} fault(s)`);
process.exitCode = faults.length === 0 ? 0 : 1;
