/** Prints the import graph by room, and fails on a cycle between files or an arrow that `rooms.ts` does not allow. */
import { filesBelow, type Import, importsOf } from "./imports.ts";
import { ROOMS, roomOf } from "./rooms.ts";
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

/** Cycles between files, each once, as the path that closes it. What is loaded when needed closes none: that is why it is lazy. */
function cycles(imports: readonly Import[]): readonly string[] {
  const targets = new Map<string, string[]>();
  for (const { from, file, isLazy } of imports) {
    if (!isLazy && file?.startsWith("src/") === true) targets.set(from, [...(targets.get(from) ?? []), file]);
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
const faults = [...upwardArrows(imports), ...cycles(imports).map((path) => `cycle: ${path}`)];
for (const fault of faults) console.log(fault);
console.log(faults.length === 0 ? "no cycle, no upward arrow" : `${faults.length} fault(s)`);
process.exitCode = faults.length === 0 ? 0 : 1;
