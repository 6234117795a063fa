/**
 * Plants faults of one line, each in a copy of its own, and runs the tests that are about it: `npm run faults -- --seed 8 --count 40`,
 * or all of some lines, `--at src/catalog/watch/feed.ts:231-260`. What no test finds is said, and the exit code is 1.
 */
import { spawn } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { Rng } from "../src/lib/rng.ts";
import { type Fault, faultsIn, plant } from "./fault-places.ts";
import { filesBelow, importsOf } from "./imports.ts";
import { mustRun, ROOT } from "./run.ts";

const FAULTY_ROOMS = ["catalog", "discovery", "store", "fabric", "node"];

/** What tests of real processes and files find, by room: a shell's faults show nowhere else. */
const SHELL_TESTS: Readonly<Record<string, readonly string[]>> = {
  store: [
    "test/e2e/durability.test.ts",
    "test/e2e/journal-faults.test.ts",
    "test/e2e/disk-faults.test.ts",
    "test/e2e/crash-points.test.ts",
  ],
  fabric: [
    "test/e2e/fabric-transport.test.ts",
    "test/e2e/core-driver.test.ts",
    "test/e2e/fabric-nodes.test.ts",
    "test/e2e/fabric-hostile.test.ts",
  ],
  discovery: ["test/e2e/durability.test.ts", "test/e2e/limits.test.ts"],
};

const OTHER_KINDS = /^test\/(?:sim|e2e|interop|docs|chaos|long|nightly|soak)\//;

const COMPILER = "compiler";
/** All of vitest's projects that hold unit tests; `vitest.config.ts` says which is which. */
const UNIT = ["unit", "io", "rules", "checks"];

/** A process that takes more of a processor's seconds than this goes round in a loop, which is found; so is a stage that comes to no end. */
const PROCESS_SECONDS = 60;
const STAGE_MS = 600_000;
const MAX_REASON_LENGTH = 400;

interface Stage {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
}

if (process.argv.includes("--help")) {
  console.log("npm run faults -- [--seed N] [--count N] [--part FROM-TO] [--at FILE[:LINE[-LINE]]]... [--seeds N] [--list]");
  console.log("Draws --count faults (40) by --seed (1); --part tries some of them. With --at, all faults of those lines instead.");
  console.log("The simulator tries --seeds (60) schedules against each. --list names the faults and tries none.");
  console.log("The exit code is 1 when a fault lives: no test found it.");
  process.exit(0);
}

const { values } = parseArgs({
  options: {
    seed: { type: "string", default: "1" },
    count: { type: "string", default: "40" },
    /** Of those drawn, which: `11-20`. */
    part: { type: "string" },
    at: { type: "string", multiple: true },
    seeds: { type: "string", default: "60" },
    list: { type: "boolean", default: false },
  },
});

const sources = FAULTY_ROOMS.flatMap((room) => filesBelow(ROOT, `src/${room}`, [".ts"]));
const copy = mkdtempSync(join(tmpdir(), "waymark-faults-"));
process.on("exit", () => rmSync(copy, { recursive: true, force: true }));

const readers = readersOf([...filesBelow(ROOT, "src", [".ts"]), ...filesBelow(ROOT, "test", [".ts"])]);

await makeCopy();
let living = 0;
let count = 0;
for (const candidates of draws()) {
  // The first that the compiler takes; mostly one is.
  for (const { n, fault } of candidates) {
    const place = `${n}. ${fault.file}:${fault.line} ${fault.kind}: \`${fault.before}\` → \`${fault.after}\``;
    const startMs = performance.now();
    const finder = values.list ? "not tried" : await finderOf(fault);
    if (finder === COMPILER && values.at === undefined) continue;
    count += 1;
    if (finder === undefined) living += 1;
    console.log(
      `${finder === undefined ? "LIVES" : "found"} ${place} ${finder ?? ""} (${((performance.now() - startMs) / 1000).toFixed(1)} s)`,
    );
    break;
  }
}
console.log(`${living} of ${count} live`);
process.exitCode = living > 0 ? 1 : 0;

/** The project as it is in the working folder, without what is built or fetched. */
async function makeCopy(): Promise<void> {
  const files = await mustRun("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
  for (const file of files.split("\0").filter((name) => name !== "")) {
    mkdirSync(dirname(join(copy, file)), { recursive: true });
    cpSync(join(ROOT, file), join(copy, file));
  }
  symlinkSync(join(ROOT, "node_modules"), join(copy, "node_modules"));
}

/** Those drawn, with what takes their places where the compiler refuses them; or those of the lines that are named. */
function* draws(): Generator<Iterable<{ readonly n: number; readonly fault: Fault }>> {
  if (values.at !== undefined) {
    for (const [i, fault] of values.at.flatMap(faultsAt).entries()) yield [{ n: i + 1, fault }];
    return;
  }
  const lines = Map.groupBy(
    sources.flatMap((file) => faultsIn(file, read(file))),
    ({ file, line }) => `${file}:${line}`,
  );
  const [first = 1, last = Number(values.count)] = (values.part ?? "")
    .split("-")
    .filter((part) => part !== "")
    .map(Number);
  for (let n = first; n <= last; n++) yield candidatesOf(n, [...lines.values()]);
}

/** A line first, so that a long one is no likelier than a short one. */
function* candidatesOf(n: number, lines: readonly (readonly Fault[])[]): Generator<{ readonly n: number; readonly fault: Fault }> {
  const rng = new Rng(`faults/${values.seed}/${n}`);
  for (;;) {
    const faults = lines[rng.int(lines.length)] ?? [];
    const fault = faults[rng.int(Math.max(1, faults.length))];
    if (fault !== undefined) yield { n, fault };
  }
}

function faultsAt(where: string): readonly Fault[] {
  const [file = "", range = ""] = where.split(":");
  const [from = 1, to = range === "" ? Number.POSITIVE_INFINITY : from] = range
    .split("-")
    .filter((part) => part !== "")
    .map(Number);
  return faultsIn(file, read(file)).filter(({ line }) => line >= from && line <= to);
}

/** What finds it; undefined when nothing does. The nearest tests first. */
async function finderOf(fault: Fault): Promise<string | undefined> {
  return withFault(fault, async () => {
    for (const { name, command, args } of stagesOf(fault.file)) {
      const { code, reason } = await runIn(command, args);
      if (code !== 0) return `${code === undefined ? `${name} (hangs)` : name}${reason}`;
    }
    return undefined;
  });
}

async function withFault<T>(fault: Fault, run: () => Promise<T>): Promise<T> {
  const text = read(fault.file);
  writeFileSync(join(copy, fault.file), plant(text, fault));
  try {
    return await run();
  } finally {
    writeFileSync(join(copy, fault.file), text);
  }
}

function stagesOf(file: string): readonly Stage[] {
  const own = file.replace(/^src/, "test").replace(/(?:\.io)?\.ts$/, "");
  const unit = unitTestsOf(file);
  const near = unit.filter((test) => test.replace(/(?:\.io)?\.test\.ts$/, "") === own || readers.get(file)?.has(test) === true);
  // All of the room's folder: what runs in a thread of its own is imported by nobody.
  const room = filesBelow(ROOT, dirname(own), [".test.ts"]);
  const far = room.filter((test) => !near.includes(test));
  const rest = unit.filter((test) => !near.includes(test) && !room.includes(test));
  const shell = file.endsWith(".io.ts") || file.startsWith("src/store/") ? (SHELL_TESTS[file.split("/")[1] ?? ""] ?? []) : [];
  const stages = [
    { name: "its own tests", ...vitest(UNIT, near) },
    { name: COMPILER, command: "tsc", args: ["-p", "."] },
    { name: "simulation", command: "node", args: ["test/sim/seeds-child.ts", values.seeds] },
    { name: "tests of its room", ...vitest(UNIT, far) },
    { name: "tests of other rooms", ...vitest(UNIT, rest) },
    { name: "real processes", ...vitest(["e2e", "e2e timed"], shell) },
  ];
  return stages.filter(({ args }) => args.length > 0);
}

function vitest(projects: readonly string[], files: readonly string[]): Pick<Stage, "command" | "args"> {
  if (files.length === 0) return { command: "vitest", args: [] };
  return {
    command: "vitest",
    args: ["run", ...projects.flatMap((name) => ["--project", name]), "--bail", "1", "--reporter", "dot", ...files],
  };
}

function unitTestsOf(file: string): readonly string[] {
  const seen = new Set([file]);
  for (const each of seen) for (const reader of readers.get(each) ?? []) seen.add(reader);
  return [...seen].filter((each) => each.endsWith(".test.ts") && !OTHER_KINDS.test(each)).toSorted();
}

function readersOf(files: readonly string[]): ReadonlyMap<string, Set<string>> {
  const all = new Map<string, Set<string>>();
  for (const { from, file } of files.flatMap((each) => importsOf(ROOT, each)))
    if (file !== undefined) all.set(file, (all.get(file) ?? new Set()).add(from));
  return all;
}

function read(file: string): string {
  return readFileSync(join(ROOT, file), "utf8");
}

interface Outcome {
  /** Undefined when it did not come to its end. */
  readonly code: number | undefined;
  /** Of the first test that failed, its name and what it said: one that was late on a busy machine found nothing. */
  readonly reason: string;
}

/** All that it started ends with it. */
function runIn(command: string, args: readonly string[]): Promise<Outcome> {
  const bin = join(ROOT, "node_modules", ".bin");
  const env = { ...process.env, NO_COLOR: "1", PATH: `${bin}:${process.env["PATH"] ?? ""}` };
  return new Promise((resolve) => {
    const child = spawn("sh", ["-c", `ulimit -t ${PROCESS_SECONDS}; exec "$0" "$@"`, command, ...args], {
      cwd: copy,
      env,
      stdio: ["ignore", "pipe", "pipe"],
      detached: true,
    });
    let reason = "";
    for (const stream of [child.stdout, child.stderr])
      createInterface(stream).on("line", (line) => {
        if (reason.length < MAX_REASON_LENGTH && /^ FAIL |Error: /.test(line))
          reason += ` | ${line.trim()}`.slice(0, MAX_REASON_LENGTH / 2);
      });
    const timer = setTimeout(() => {
      if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
      resolve({ code: undefined, reason });
    }, STAGE_MS);
    child.on("error", () => resolve({ code: 1, reason }));
    child.on("close", (code) => {
      clearTimeout(timer);
      resolve({ code: code ?? 1, reason });
    });
  });
}
