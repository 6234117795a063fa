/**
 * Every crash point of open, checkpoint and stop: a killed process and a loss of power leave a directory that opens, with all in it.
 * @module-tag path
 */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { AuditFile } from "../../src/store/audit/file.io.ts";
import { ControlFile } from "../../src/store/control/file.io.ts";
import { STORE_BOUNDS } from "../../src/store/control/store.ts";
import { createJournalFile, JournalReader } from "../../src/store/journal/file.io.ts";
import { JournalIndex, JournalWriter } from "../../src/store/journal/writer.io.ts";
import { type CrashState, crashStates, type Files } from "../fakes/crash-disk.ts";
import { some } from "../fakes/effort.ts";
import { temporaryDirectory } from "../store/journal-fixture.ts";

const CHILD = join(import.meta.dirname, "../store/crash-child.ts");
/** Changes in one run of the child. */
const LIFE_CHANGES = 6;
const hasStrace = spawnSync("strace", ["-V"]).status === 0;

const META = { nodeId: "n1", generation: 7, boots: 0, lastSeq: 0, floor: 0 };

/** How many changes a directory has, once it was opened and stopped. As the threads of the store do it, without a thread for each. */
const COUNT = {
  journal: (directory: string): number => {
    createJournalFile(directory, META);
    const reader = new JournalReader(directory, { takesAsItIs: false });
    const index = new JournalIndex(1);
    let rows = 0;
    while (
      reader.next((...row) => {
        rows++;
        index.addRow(...row);
      }) !== undefined
    );
    reader.close();
    const writer = new JournalWriter(directory, index);
    writer.begin({ ...reader.meta, boots: reader.meta.boots + 1 });
    writer.nameStart("00000000000b0010");
    writer.close();
    return rows;
  },
  /** Each transaction changes two keys. Half of a transaction must never be found. */
  control: (directory: string): number => {
    const file = new ControlFile({ directory, bounds: STORE_BOUNDS, takesAsItIs: false });
    const [first, last] = [file.get("counter")?.version ?? 0, file.get("twin")?.version ?? 0];
    file.close();
    return first === Math.max(0, last - 1) ? last / 2 : -1;
  },
  /** A chain with a break has no record that could be trusted. */
  audit: (directory: string): number => {
    const file = new AuditFile({ directory, retentionMs: 1e15, maxBytes: 1e9, file: undefined });
    const { problem, head } = file.verify({ last: undefined, head: undefined });
    file.close();
    return problem === undefined ? head.number : -1;
  },
} as const;

type Kind = keyof typeof COUNT;

/** Of the database; the locks go with their process. */
function isKept(name: string): boolean {
  return !/\.(?:lock|pid)/.test(name) && !name.startsWith("acked-");
}

function digestOf(files: Files): string {
  const hash = createHash("sha256");
  for (const [name, bytes] of [...files].toSorted(([a], [b]) => (a < b ? -1 : 1))) hash.update(`${name} ${bytes.length} `).update(bytes);
  return hash.digest("hex");
}

/** What was promised before; the states come in the order of the calls. */
function ackedIn(state: CrashState): number {
  return Math.max(0, ...[...state.files.keys()].map((name) => Number(/^acked-(\d+)$/.exec(name)?.[1] ?? 0)));
}

/** Opens each state and compares with what was acknowledged by then; gives what was wrong, and how many states differed. */
function tryAll(kind: Kind, states: readonly CrashState[], had: number) {
  const wrong: string[] = [];
  const found = new Map<string, number | string>();
  let acked = had;
  for (const state of states) {
    // A mark of the test is not synced: what was once acknowledged stays so in the states that a loss of power leaves.
    acked = Math.max(acked, ackedIn(state));
    const files = new Map([...state.files].filter(([name]) => isKept(name)));
    const digest = digestOf(files);
    const count = found.get(digest) ?? openedWith(kind, files);
    found.set(digest, count);
    if (typeof count === "string" || count < acked || count > acked + 1)
      wrong.push(`${state.after}: ${count} are there, ${acked} were acknowledged`);
  }
  return { wrong, tried: found.size };
}

/** How many changes there are, or why the directory was refused. */
function openedWith(kind: Kind, files: Files): number | string {
  using directory = temporaryDirectory();
  for (const [name, bytes] of files) writeFileSync(join(directory.path, name), bytes);
  try {
    return COUNT[kind](directory.path);
  } catch (error) {
    return String(error);
  }
}

/** How a directory was before the process that crashes. */
const BEFORE = {
  new: () => {},
  "crashed with an empty log and no seal": (directory: string, kind: Kind) => {
    spawnSync(process.execPath, [CHILD, kind, directory]);
    for (const name of readdirSync(directory)) if (!isKept(name)) rmSync(join(directory, name));
    rmSync(join(directory, `${kind}.sum`));
    writeFileSync(join(directory, `${kind}.db-wal`), "");
  },
} as const;

test.runIf(hasStrace).each(
  some([
    { kind: "journal", before: "new" },
    { kind: "journal", before: "crashed with an empty log and no seal" },
    { kind: "control", before: "new" },
    { kind: "control", before: "crashed with an empty log and no seal" },
    { kind: "audit", before: "new" },
  ] as const),
)("Durability: whatever a crash leaves of a $kind directory that was $before opens, and has what was acknowledged", ({ kind, before }) => {
  using directory = temporaryDirectory();
  const path = join(directory.path, "data");
  mkdirSync(path);
  BEFORE[before](path, kind);
  const had = before === "new" ? 0 : LIFE_CHANGES;
  const states = crashStates([process.execPath, CHILD, kind, path], path);
  const acked = Math.max(...states.map(ackedIn));
  expect(acked).toBe(had + LIFE_CHANGES);
  const { wrong, tried } = tryAll(kind, states, had);
  expect(wrong).toEqual([]);
  expect(tried).toBeGreaterThan(20);
});
