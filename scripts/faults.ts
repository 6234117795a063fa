/**
 * Plants faults of one line, each in a copy of its own, and runs the tests that are about it: `npm run faults -- --seed 8 --count 40`,
 * all of some lines, `--at src/catalog/watch/feed.ts:231-260`, or those of an earlier run, `--from FILE`. It says what no test finds,
 * and then its exit code is 1.
 */
import { spawn } from "node:child_process";
import { appendFileSync, cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { Rng } from "../src/lib/rng.ts";
import { gateLeaves, tagsFilter } from "./changed.ts";
import { type Fault, faultsIn, plant } from "./fault-places.ts";
import { filesBelow, importsOf } from "./imports.ts";
import { mustRun, ROOT } from "./run.ts";

/** Tests of real processes that show faults of a room's shells, by room. */
const PROCESS_TESTS: Readonly<Record<string, readonly string[]>> = {
  catalog: ["query-entries", "watch-versions"],
  cli: ["cli", "policy-cli", "mesh-verbs"],
  client: ["client", "roaming"],
  config: ["bad-input", "failed-starts"],
  discovery: ["durability", "limits", "checks"],
  dns: ["dns-dig", "dns-transfer", "dns-views", "dns-sockets", "dns-tls"],
  fabric: ["fabric-transport", "core-driver", "fabric-nodes", "fabric-hostile"],
  grpc: ["grpc-raw", "grpc-listener", "hostile-http2"],
  main: ["failed-starts", "launcher"],
  node: ["node-process", "read-workers", "cluster", "draining", "sighup", "resolver-mode", "resolver-dns"],
  policy: ["policy-scenarios", "policy-cli"],
  resolver: ["resolver-mode", "resolver-reads", "resolver-outage"],
  signing: ["regions"],
  server: ["edge", "edge-hostile", "refused-bodies", "grpc-listener"],
  services: ["edge-ways", "extreme-calls", "maintenance", "resolver-reads"],
  store: ["durability", "journal-faults", "disk-faults", "crash-points"],
  summary: ["regions", "region-scenarios"],
};

const OTHER_KINDS = /^test\/(?:sim|e2e|interop|docs|chaos|long|nightly|soak)\//;

const COMPILER = "compiler";
/** All of vitest's projects that hold unit tests; `vitest.config.ts` says which is which. */
const UNIT = ["unit", "io", "rules", "checks"];

/**
 * A process that takes more seconds of a processor than this is in an endless loop, and the fault counts as found. A worker needs 100 for its half of all unit
 * tests.
 */
const PROCESS_SECONDS = 300;
/** A stage that takes longer hangs, and the fault counts as found. */
const STAGE_MS = 600_000;
const MAX_REASON_LENGTH = 400;

interface Stage {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
}

if (process.argv.includes("--help")) {
  console.log(
    "npm run faults -- [--seed N] [--count N] [--part FROM-TO] [--at FILE[:LINE[-LINE]]]... [--from FILE] [--keep FILE] [--tier gate|nightly] [--seeds N] [--list]",
  );
  console.log("Draws --count faults (40) by --seed (1); --part tries some of them. With --at, all faults of those lines instead.");
  console.log("--keep appends each fault and its finder to FILE, a line of JSON each. --from tries those of such a file that were found.");
  console.log("--tier says which tests try to find them: those of the gate, or all of the night (nightly).");
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
    from: { type: "string" },
    keep: { type: "string" },
    tier: { type: "string", default: "nightly" },
    seeds: { type: "string", default: "60" },
    list: { type: "boolean", default: false },
  },
});

if (!["gate", "nightly"].includes(values.tier)) {
  console.error(`--tier is ${values.tier}, and must be gate or nightly`);
  process.exit(2);
}
if (values.from !== undefined && !existsSync(values.from)) {
  console.error(`--from is ${values.from}, and there is no such file; a run with --keep writes one`);
  process.exit(2);
}
const isGate = values.tier === "gate";
const sources = filesBelow(ROOT, "src", [".ts"]);
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
    if (values.keep !== undefined) appendFileSync(values.keep, `${JSON.stringify({ n, ...keptOf(fault), finder })}\n`);
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

/** A fault of a file that is kept: the source may have moved meanwhile, so its line is known by its text. */
interface Kept extends Pick<Fault, "file" | "kind" | "before" | "after"> {
  readonly n: number;
  readonly text: string;
  /** Characters from the line's first one that is no space. */
  readonly column: number;
  readonly finder?: string;
}

function keptOf({ file, kind, before, after, start }: Fault): Omit<Kept, "n" | "finder"> {
  const text = read(file);
  const [first, last] = [text.lastIndexOf("\n", start - 1) + 1, text.indexOf("\n", start)];
  const line = text.slice(first, last === -1 ? undefined : last);
  return { file, kind, before, after, text: line.trim(), column: start - first - (line.length - line.trimStart().length) };
}

/** Where a kept fault is now. Undefined if its line is gone. */
function foundAgain(kept: Kept): Fault | undefined {
  if (!existsSync(join(ROOT, kept.file))) return undefined;
  return faultsIn(kept.file, read(kept.file)).find((fault) => {
    const { kind, before, after, text, column } = keptOf(fault);
    return kind === kept.kind && before === kept.before && after === kept.after && text === kept.text && column === kept.column;
  });
}

/** Those drawn, with what takes their places where the compiler refuses them; or those of the lines or of the file that are named. */
function* draws(): Generator<Iterable<{ readonly n: number; readonly fault: Fault }>> {
  if (values.from !== undefined) {
    const all = readFileSync(values.from, "utf8")
      .split("\n")
      .filter((line) => line !== "");
    for (const kept of all.map((line) => JSON.parse(line) as Kept).filter(({ finder }) => finder !== undefined)) {
      const fault = foundAgain(kept);
      if (fault === undefined) console.log(`gone  ${kept.n}. ${kept.file}: \`${kept.text}\``);
      else yield [{ n: kept.n, fault }];
    }
    return;
  }
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
  const processes = (PROCESS_TESTS[file.split("/")[1]?.replace(".ts", "") ?? ""] ?? []).map((name) => `test/e2e/${name}.test.ts`);
  const filter = isGate ? tagsFilter(gateLeaves([file])) : [];
  const stages = [
    { name: "its own tests", ...vitest(UNIT, near, filter) },
    { name: COMPILER, command: "tsc", args: ["-p", "."] },
    { name: "simulation", command: "node", args: ["test/sim/seeds-child.ts", values.seeds] },
    { name: "tests of its room", ...vitest(UNIT, far, filter) },
    { name: "tests of other rooms", ...vitest(UNIT, rest, filter) },
    { name: "real processes", ...vitest(["e2e", "e2e timed"], processes, filter) },
  ];
  return stages.filter(({ args }) => args.length > 0);
}

function vitest(projects: readonly string[], files: readonly string[], filter: readonly string[]): Pick<Stage, "command" | "args"> {
  if (files.length === 0) return { command: "vitest", args: [] };
  return {
    command: "vitest",
    args: ["run", ...projects.flatMap((name) => ["--project", name]), ...filter, "--bail", "1", "--reporter", "dot", ...files],
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
  const env = { ...process.env, NO_COLOR: "1", TEST_EFFORT: isGate ? "gate" : "night", PATH: `${bin}:${process.env["PATH"] ?? ""}` };
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
