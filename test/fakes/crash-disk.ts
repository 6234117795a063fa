/**
 * What a crash can leave in a directory: a disk that is filled by the system calls of a real process, as strace noted them, and that
 * knows what was synced. After each call it tells what a killed process leaves, and what a loss of power may.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";

export type Files = ReadonlyMap<string, Uint8Array>;

interface Inode {
  live: Uint8Array;
  synced: Uint8Array;
}

type Names = Map<string, Inode>;

export interface CrashState {
  /** For people: after which call, and what was lost. */
  readonly after: string;
  readonly files: Files;
}

const CALLS = "openat,write,pwrite64,ftruncate,unlink,rename,fsync,fdatasync";

/** Runs `argv` and gives the calls that changed something in `directory`, in order, one a line. */
function traced(argv: readonly string[], directory: string): readonly string[] {
  const notes = mkdtempSync(join(tmpdir(), "waymark-strace-"));
  try {
    const path = join(notes, "calls");
    const strace = ["-f", "--seccomp-bpf", "-qq", "-xx", "-y", "-s", "4194304", "-e", `trace=${CALLS}`, "-o", path];
    const { status, stderr } = spawnSync("strace", [...strace, ...argv], { encoding: "utf8", timeout: 60_000 });
    if (status !== 0) throw new Error(`the traced process failed: ${stderr}`);
    const hexOfDirectory = Array.from(Buffer.from(directory), (byte) => `\\x${byte.toString(16)}`).join("");
    return joined(readFileSync(path, "latin1").split("\n")).filter((line) => line.includes(hexOfDirectory) || line.includes(directory));
  } finally {
    rmSync(notes, { recursive: true });
  }
}

/** A call that another thread's came between is written in two lines; it counts where it ended. */
function joined(lines: readonly string[]): readonly string[] {
  const begun = new Map<string, string>();
  return lines.flatMap((line) => {
    const [, pid = "", call = ""] = /^(\d+)\s+(.*)$/s.exec(line) ?? [];
    if (call.endsWith("<unfinished ...>")) {
      begun.set(pid, call.slice(0, -"<unfinished ...>".length).trimEnd());
      return [];
    }
    const rest = /^<\.\.\. \w+ resumed>(.*)$/s.exec(call)?.[1];
    return [rest === undefined ? call : `${begun.get(pid) ?? ""}${rest}`];
  });
}

function bytesOf(hex: string): Uint8Array {
  return Buffer.from(hex.replaceAll("\\x", ""), "hex");
}

function nameOf(text: string): string {
  return basename(text.startsWith("\\x") ? Buffer.from(bytesOf(text)).toString() : text);
}

/** A text of strace: quoted or in brackets after a descriptor. */
const TEXT = String.raw`(?:"([^"]*)"|\d+<([^>]*)>|AT_FDCWD(?:<[^>]*>)?)`;
const CALL = new RegExp(String.raw`^(\w+)\(${TEXT}(?:, (?:"([^"]*)"|([^,)]+)))?(?:, ([^,)]+))?(?:, ([^,)]+))?\)\s+= (-?\d+)`, "s");

class CrashDisk {
  readonly #directory: string;
  readonly #live: Names = new Map();
  #synced: Names = new Map();
  /** Changes of names since the directory was synced; any of them may be on disk without the others. */
  #pending: ((names: Names) => void)[] = [];

  constructor(directory: string) {
    this.#directory = basename(directory);
    for (const name of readdirSync(directory)) {
      const bytes = Uint8Array.from(readFileSync(join(directory, name)));
      this.#live.set(name, { live: bytes, synced: bytes });
    }
    this.#synced = new Map(this.#live);
  }

  /** Applies a call; undefined when it changed nothing. */
  apply(line: string): string | undefined {
    const [, call = "", quoted, opened, second = "", plain = "", third = "", , result = "-1"] = CALL.exec(line) ?? [];
    if (Number(result) < 0) return undefined;
    const name = nameOf(quoted ?? opened ?? "");
    switch (call) {
      case "openat":
        return this.#open(nameOf(second), third);
      case "write":
        return this.#write(name, bytesOf(second), undefined);
      case "pwrite64":
        return this.#write(name, bytesOf(second), Number(/, (\d+)\)\s+= /.exec(line)?.[1]));
      case "ftruncate":
        return this.#change(name, (live) => resized(live, Number(plain)));
      case "fsync":
      case "fdatasync":
        return this.#sync(name);
      case "unlink":
        return this.#name((names) => names.delete(name), `unlink ${name}`);
      case "rename":
        return this.#move(name, nameOf(second));
    }
    return undefined;
  }

  /** What a crash right now can leave. */
  states(after: string): readonly CrashState[] {
    const lost = this.#pending.map((change, i) => {
      const names = new Map(this.#synced);
      change(names);
      return { after: `${after}, power lost with change of name ${i} on disk alone`, files: filesOf(names, "synced") };
    });
    return [
      { after: `${after}, killed`, files: filesOf(this.#live, "live") },
      { after: `${after}, power lost`, files: filesOf(this.#synced, "synced") },
      ...lost,
    ];
  }

  #open(name: string, flags: string): string | undefined {
    const isThere = this.#live.has(name);
    if (name === this.#directory || (isThere ? !flags.includes("O_TRUNC") : !flags.includes("O_CREAT"))) return undefined;
    if (isThere) return this.#change(name, () => new Uint8Array());
    const inode: Inode = { live: new Uint8Array(), synced: new Uint8Array() };
    return this.#name((names) => names.set(name, inode), `create ${name}`);
  }

  #write(name: string, bytes: Uint8Array, at: number | undefined): string | undefined {
    return this.#change(name, (live) => {
      const from = at ?? live.length;
      const next = resized(live, Math.max(live.length, from + bytes.length));
      next.set(bytes, from);
      return next;
    });
  }

  #change(name: string, change: (live: Uint8Array) => Uint8Array): string | undefined {
    const inode = this.#live.get(name);
    if (inode === undefined) return undefined;
    inode.live = change(inode.live);
    return `write ${name}`;
  }

  #sync(name: string): string {
    if (name === this.#directory) {
      this.#synced = new Map(this.#live);
      this.#pending = [];
    } else {
      const inode = this.#live.get(name);
      if (inode !== undefined) inode.synced = inode.live;
    }
    return `sync ${name}`;
  }

  #move(from: string, to: string): string | undefined {
    const inode = this.#live.get(from);
    if (inode === undefined) return undefined;
    const change = (names: Names) => {
      names.delete(from);
      names.set(to, inode);
    };
    return this.#name(change, `rename ${from} to ${to}`);
  }

  #name(change: (names: Names) => void, said: string): string {
    change(this.#live);
    this.#pending.push(change);
    return said;
  }
}

function resized(bytes: Uint8Array, sizeBytes: number): Uint8Array {
  const next = new Uint8Array(sizeBytes);
  next.set(bytes.subarray(0, sizeBytes));
  return next;
}

function filesOf(names: Names, which: "live" | "synced"): Files {
  return new Map([...names].map(([name, inode]) => [name, inode[which]]));
}

/** Of calls that write on in one file only each such one is tried: a log of a megabyte is six hundred of them. */
const EVERY_WRITE = 100;

/** The states that a crash of `argv`, a process that works on `directory`, can leave there. */
export function crashStates(argv: readonly string[], directory: string): readonly CrashState[] {
  const disk = new CrashDisk(directory);
  const states = [...disk.states("the start")];
  const calls = traced(argv, directory);
  let before = "";
  for (const [i, line] of calls.entries()) {
    const said = disk.apply(line);
    if (said === undefined) continue;
    if (said !== before || i % EVERY_WRITE === 0) states.push(...disk.states(`call ${i}, ${said}`));
    before = said;
  }
  return states;
}
