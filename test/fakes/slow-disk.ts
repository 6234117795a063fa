/** A process whose disk is slow: `strace` delays each of its fsyncs and stops it nowhere else, and leaves its process id to it (`-D`). */
import { spawnSync } from "node:child_process";

export const hasStrace = spawnSync("strace", ["-V"]).status === 0;

const SYNCS = "fsync,fdatasync";

/** What is put before a command so that each fsync of it takes so much longer. */
export function slowDisk(delayMs: number): readonly string[] {
  const fault = `inject=${SYNCS}:delay_enter=${delayMs * 1000}`;
  return ["strace", "-D", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", `trace=${SYNCS}`, "-e", fault];
}
